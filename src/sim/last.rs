//! How a job ends, as its router hears of it.

use super::job::{Headers, Notice};
use crate::backend::{BackendError, FailureKind};
use std::time::Duration;

/// The last word of a server on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Last {
    Done,
    Refused,
    Broken,
    /// By its position in [`FailureKind::ALL`], which has an order.
    Failed(usize),
    Stalled,
    Throttled(Duration),
}

impl Last {
    /// What the driver is told, of a job that sent so many tokens.
    pub(super) fn notice(self, tag: u64, sent: u32, headers: Headers) -> Notice {
        let error = match self {
            Self::Done => return Notice::Done(tag),
            Self::Refused => BackendError::new(FailureKind::Unreachable),
            Self::Broken => BackendError::new(FailureKind::Truncated),
            Self::Failed(number) => BackendError::new(FailureKind::ALL[number]),
            Self::Stalled => BackendError::new(FailureKind::Stalled),
            Self::Throttled(hint) => BackendError::new(FailureKind::RateLimited).retry_after(hint),
        };
        Notice::Failed(tag, error, sent, headers)
    }
}
