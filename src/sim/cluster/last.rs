//! [`Last`]: the last word on a job.

use super::super::job::{Job, Notice};
use super::Cluster;
use crate::backend::{BackendError, FailureKind};
use std::time::Duration;

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

/// What its driver is told.
pub(super) fn notice(tag: u64, last: Last, sent: u32) -> Notice {
    let error = match last {
        Last::Done => return Notice::Done(tag),
        Last::Refused => BackendError::new(FailureKind::Unreachable),
        Last::Broken => BackendError::new(FailureKind::Truncated),
        Last::Failed(number) => BackendError::new(FailureKind::ALL[number]),
        Last::Stalled => BackendError::new(FailureKind::Stalled),
        Last::Throttled(hint) => BackendError::new(FailureKind::RateLimited).retry_after(hint),
    };
    Notice::Failed(tag, error, sent)
}

impl Cluster {
    /// The server's last word on a job: it bills the prompt of what it accepted, and what it answered, whoever hears of it.
    pub(super) fn bill(&self, job: &Job) {
        let price = self.machines[job.server].server.charges();
        if let (Some(audit), Some(price)) = (&self.audit, price) {
            audit.billed(job.call, price.of(job.used.0.into(), job.used.1.into()));
        }
    }
}
