//! [`AttemptRecord`]: one attempt of a request, as the ledger has it.

use super::{Cost, Tokens};
use crate::backend::{BackendId, FailureKind};
use crate::facts::Profile;
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

/// An attempt of a request: whom it asked, when, what it used, what it cost, and how it ended.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    pub(crate) backend: BackendId,
    pub(crate) profile: Arc<Profile>,
    pub(crate) number: u32,
    pub(crate) hedge: bool,
    pub(crate) canary_timeout: bool,
    pub(crate) started: Instant,
    pub(crate) first: Option<Instant>,
    pub(crate) ended: Instant,
    pub(crate) ending: Ending,
    pub(crate) tokens: Tokens,
    pub(crate) cost: Cost,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "code", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Ending {
    /// It has not: its answer began, and goes on.
    Answering,
    /// With a whole answer.
    Answered,
    /// With a failure; [`FailureKind::Timeout`] also where its time was over.
    Failed {
        /// Which.
        kind: FailureKind,
    },
    /// It was given up, because another attempt of the request was faster.
    Outrun,
    /// It was dropped: its caller went away.
    Abandoned,
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

    /// When its first content was there, or its whole answer; `None` where there was neither.
    pub const fn first_item(&self) -> Option<Instant> {
        self.first
    }

    /// When it ended. While it [answers](Ending::Answering), when its answer began.
    pub const fn ended(&self) -> Instant {
        self.ended
    }

    /// How long it took.
    pub fn elapsed(&self) -> Duration {
        self.ended - self.started
    }

    /// How it ended.
    pub const fn ending(&self) -> Ending {
        self.ending
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
        matches!(self.ending, Ending::Outrun)
    }

    /// Whether it was a [canary](super::Reason::Canary) that [`fail_safe`](crate::policy::FailSafe) gave up early: it
    /// [failed](Self::failure) with [`FailureKind::Timeout`], because there was no first item after three times what the best
    /// backend is predicted to take, and 50 ms at least, and nothing else limited it to less. Such an attempt does not count
    /// among [those that a request may make](crate::policy::FailSafe::attempts), and a request has one at most.
    pub const fn is_canary_timeout(&self) -> bool {
        self.canary_timeout
    }

    /// How it failed; `None` when it answered, or was [outrun](Self::is_outrun).
    pub const fn failure(&self) -> Option<FailureKind> {
        if let Ending::Failed { kind } = self.ending { Some(kind) } else { None }
    }

    /// What it used.
    pub const fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// What it cost.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Tokens of an answer that broke: who goes on with it sends them along.
    pub(crate) const fn broken_off(&self) -> u64 {
        match (self.ending, self.first) {
            (Ending::Failed { .. }, Some(_)) => self.tokens.output,
            _ => 0,
        }
    }
}

/// How many of these count among those that their request may make: all but a canary that was given up early.
pub(crate) fn counted(attempts: &[AttemptRecord]) -> u32 {
    attempts.iter().filter(|attempt| !attempt.canary_timeout).count() as u32
}
