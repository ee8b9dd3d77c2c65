//! [`AttemptRecord`]: how an attempt of a request ended.

use crate::backend::{BackendId, FailureKind};
use crate::facts::Profile;
use crate::time::Instant;
use std::sync::Arc;

/// A finished attempt of a request.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    pub(crate) backend: BackendId,
    pub(crate) profile: Arc<Profile>,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    pub(crate) failure: Option<FailureKind>,
    pub(crate) number: u32,
    pub(crate) hedge: bool,
    pub(crate) outrun: bool,
}

impl AttemptRecord {
    /// The backend that was called.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.profile.id()
    }

    /// When it was called.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// How long it took.
    pub fn elapsed(&self) -> std::time::Duration {
        self.ended - self.started
    }

    /// How it failed; `None` when it answered, or was [outrun](Self::is_outrun).
    pub const fn failure(&self) -> Option<FailureKind> {
        self.failure
    }

    /// 1 for the first attempt of the request.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Whether it was sent beside another that was slow to begin.
    pub const fn is_hedge(&self) -> bool {
        self.hedge
    }

    /// Whether it was given up because another attempt of the request was faster.
    pub const fn is_outrun(&self) -> bool {
        self.outrun
    }
}
