//! One call to one backend.

use super::Usage;
use super::quota::QuotaReport;
use crate::time::Instant;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Names a backend in one router for as long as anything refers to it.
///
/// The slot is dense, so a table indexed by it stays small; it is given to another backend only after the first was
/// removed and its last lease returned, and then with another epoch. Compare the whole id: an entry of another epoch
/// speaks of a backend that is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BackendId {
    slot: u32,
    epoch: u32,
}

impl BackendId {
    /// The id of `slot` in its `epoch`-th use.
    pub const fn new(slot: u32, epoch: u32) -> Self {
        Self { slot, epoch }
    }

    /// The dense index.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// How often the slot was given to another backend before.
    pub const fn epoch(self) -> u32 {
        self.epoch
    }
}

impl fmt::Debug for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.epoch)
    }
}

/// What a backend is told of the attempt it serves.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(crate) backend: BackendId,
    pub(crate) number: u32,
    pub(crate) request: u64,
    pub(crate) started: Instant,
    pub(crate) limit: Instant,
    pub(crate) deadline: Instant,
    pub(crate) hedge_at: Option<Instant>,
    pub(crate) hedge: bool,
    /// `None` for the last resort, which has no quotas.
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
}

/// Where a backend's quotas are kept.
pub(crate) trait Ledger: fmt::Debug + Send + Sync {
    /// See [`Attempt::used`].
    fn used(&self, usage: Usage);
    /// See [`Attempt::quota`].
    fn quota(&self, report: &QuotaReport);
}

impl Attempt {
    /// The backend that is called.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }

    /// 1 for the first attempt of the request.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// A number that all attempts of one request share: the seed of its first decision.
    pub const fn request_id(&self) -> u64 {
        self.request
    }

    /// How long the router waits for this call to return (a stream: for its first item).
    pub fn time_limit(&self) -> Duration {
        self.limit - self.started
    }

    /// When it is time for a [hedge](crate::budget::Hedge), if its answer has not begun by then.
    pub const fn hedge_at(&self) -> Option<Instant> {
        self.hedge_at
    }

    /// Whether it runs beside another attempt that is slow to begin, and may be dropped for it at any moment.
    pub const fn is_hedge(&self) -> bool {
        self.hedge
    }

    /// When the whole request ends, whatever happens.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left of the whole request at the start of this attempt: the value to pass on to the next service, in a
    /// header of some [`TimeoutFormat`](crate::budget::TimeoutFormat).
    pub fn time_left(&self) -> Duration {
        self.deadline - self.started
    }

    /// Reports the tokens that the answer used, so that the ledger knows what it [cost](crate::decision::Cost), and the mirror of
    /// the backend's [quota](crate::Profile::tokens_per_minute) is corrected from what was expected to what was used. The last
    /// report before the attempt ends counts; a stream takes a clone of the attempt along, and reports before its last item.
    ///
    /// ```
    /// use fallway::backend::{Attempt, BackendError, Usage, backend_fn};
    /// let model = backend_fn(|_: &str, attempt: &Attempt| {
    ///     let attempt = attempt.clone();
    ///     async move {
    ///         // … the answer says: "usage": {"prompt_tokens": 900, "completion_tokens": 45}
    ///         attempt.used(Usage::new(900, 45));
    ///         Ok::<_, BackendError>("answer")
    ///     }
    /// });
    /// # let _: &dyn fallway::Backend<str, Response = &'static str> = &model;
    /// ```
    pub fn used(&self, usage: Usage) {
        if let Some(ledger) = &self.ledger {
            ledger.used(usage);
        }
    }

    /// Reports what the headers of an answer say of the quota that is left, whatever its status: the mirror of the
    /// backend's quotas follows. See [`QuotaReport::from_headers`](crate::signal::QuotaReport::from_headers).
    pub fn quota(&self, report: &QuotaReport) {
        if let Some(ledger) = &self.ledger {
            ledger.quota(report);
        }
    }
}
