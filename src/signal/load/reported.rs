//! What decisions read of a report.

use crate::time::Dated;

/// The latest that a backend said of its load.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// Requests in its queue.
    pub(crate) waiting: Dated,
    /// Prompt tokens that it has still to work through, in units of [`UNIT`](Self::UNIT).
    pub(crate) tokens: Dated,
    /// How full its cache is, or how busy its compute if that is more; in thousandths.
    pub(crate) full: Dated,
}

impl Reported {
    /// Tokens. As many as a [`Dated`] can hold of it are four million, minutes of work for any server.
    pub(crate) const UNIT: u64 = 64;
}
