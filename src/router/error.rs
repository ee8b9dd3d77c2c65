//! [`RouteError`].

use crate::backend::{BackendError, FailureKind};
use crate::decision::{AttemptRecord, Decision, Next, Refusal};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A request that got no answer. Carries the last decision, which counts the reasons, and every attempt.
pub struct RouteError(Box<Inner>);

struct Inner {
    kind: RouteErrorKind,
    decision: Decision,
    source: Option<BackendError>,
}

/// What kind of refusal it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RouteErrorKind {
    /// The deadline was zero, so no attempt was possible.
    ZeroDeadline,
    /// No backend serves the model.
    UnknownModel,
    /// The model's version is in the registry, and not served.
    NotServed,
    /// The registry serves nothing, for nobody has confirmed it for too long.
    RegistryExpired,
    /// No backend may be used now.
    NothingUsable,
    /// All attempts failed.
    AttemptsExhausted,
    /// The shared retry budget is spent.
    RetryBudgetEmpty,
    /// The failure would repeat everywhere, or repeating the request could do harm.
    NotRetryable,
    /// The deadline passed.
    DeadlineExceeded,
    /// It came too soon after others of its key: [`RouteError::retry_after`] says when to come back.
    OverRate,
    /// Only money is missing: [`RouteError::retry_after`] says when there is enough of it.
    OverSpend,
    /// Too many requests wait already.
    QueueFull,
    /// It waited, and its place was needed for another.
    Shed,
    /// Its turn would have come after its deadline, or too late for an answer that is not cut short.
    TooLate,
    /// Nobody is predicted to answer before its deadline.
    Infeasible,
    /// It waited for too long.
    WaitedTooLong,
}

impl RouteError {
    pub(crate) fn new(decision: Decision, why: Refusal, source: Option<BackendError>) -> Self {
        let kind = match why {
            Refusal::NothingUsable => RouteErrorKind::NothingUsable,
            Refusal::UnknownModel => RouteErrorKind::UnknownModel,
            Refusal::NotServed { .. } => RouteErrorKind::NotServed,
            Refusal::RegistryExpired => RouteErrorKind::RegistryExpired,
            Refusal::AttemptsExhausted { .. } => RouteErrorKind::AttemptsExhausted,
            Refusal::RetryBudgetEmpty => RouteErrorKind::RetryBudgetEmpty,
            Refusal::NotRetryable { .. } => RouteErrorKind::NotRetryable,
            Refusal::ZeroDeadline => RouteErrorKind::ZeroDeadline,
            Refusal::DeadlineExceeded => RouteErrorKind::DeadlineExceeded,
            Refusal::OverRate { .. } => RouteErrorKind::OverRate,
            Refusal::OverSpend { .. } => RouteErrorKind::OverSpend,
            Refusal::QueueFull => RouteErrorKind::QueueFull,
            Refusal::Shed => RouteErrorKind::Shed,
            Refusal::TooLate { .. } | Refusal::WouldBeCutShort { .. } => RouteErrorKind::TooLate,
            Refusal::Infeasible { .. } => RouteErrorKind::Infeasible,
            Refusal::WaitedTooLong { .. } => RouteErrorKind::WaitedTooLong,
        };
        Self(Box::new(Inner { kind, decision, source }))
    }

    /// What kind of refusal it was.
    pub fn kind(&self) -> RouteErrorKind {
        self.0.kind
    }

    /// The last decision.
    pub fn decision(&self) -> &Decision {
        &self.0.decision
    }

    /// Every attempt, in order.
    pub fn attempts(&self) -> &[AttemptRecord] {
        self.0.decision.attempts()
    }

    /// How the last attempt failed, if there was one.
    pub fn last_failure(&self) -> Option<FailureKind> {
        self.attempts().last().and_then(AttemptRecord::failure)
    }

    /// The last backend's error, with its source.
    pub fn backend_error(&self) -> Option<&BackendError> {
        self.0.source.as_ref()
    }

    /// After what time the first backend is expected back, or a limit has a token or the money, where that is known: what to tell
    /// one's own caller.
    pub fn retry_after(&self) -> Option<Duration> {
        let decision = &self.0.decision;
        if let Next::Refuse { why: Refusal::OverRate { until, .. } | Refusal::OverSpend { until: Some(until), .. } } =
            decision.next()
        {
            return Some(until - decision.spoken_at());
        }
        decision.earliest_return().map(|at| at - decision.spoken_at())
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0.decision)?;
        match self.last_failure() {
            Some(kind) => write!(f, "; the last attempt failed with {kind}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteError").field("kind", &self.0.kind).field("decision", &self.0.decision).finish()
    }
}

impl Error for RouteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}
