//! What decisions read of a report.

use crate::time::Dated;

/// The latest that a backend said of its load.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// Requests in its queue.
    pub(crate) waiting: Dated,
    /// How full its cache is, or how busy its compute if that is more; in thousandths.
    pub(crate) full: Dated,
}
