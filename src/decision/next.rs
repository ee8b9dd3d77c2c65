//! What is done instead of choosing, and why a request is refused.

use crate::backend::FailureKind;
use crate::time::Instant;

/// Why a request got no backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "code", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Refusal {
    /// Candidates there are, but none that may be used; the decision counts the reasons.
    NothingUsable,
    /// No backend serves the requested model, and no policy knows it as an alias.
    UnknownModel,
    /// The request names a version that the [registry](crate::router::Builder::registry) knows and does not serve.
    NotServed {
        /// The state of the version: `draft`, `validated`, `retired` or `quarantined`.
        state: &'static str,
    },
    /// The registry knows the name, and does not serve what no source has confirmed for so long.
    RegistryExpired,
    /// Every attempt that the request may make was made.
    AttemptsExhausted {
        /// How many calls that were; one more than it may make where one was a
        /// [canary that was given up early](super::AttemptRecord::is_canary_timeout).
        attempts: u32,
    },
    /// The shared retry budget is spent, or the tenant's part of it: too many requests are being retried already.
    RetryBudgetEmpty,
    /// The failure would repeat everywhere, or a repetition could do harm.
    NotRetryable {
        /// The failure.
        kind: FailureKind,
    },
    /// The deadline was zero, so there was no time for anything.
    ZeroDeadline,
    /// The deadline passed.
    DeadlineExceeded,
    /// A [rate limit](crate::shape::RateLimit) had no token left for its key. It was refused at entry, and nothing was planned.
    OverRate {
        /// The name of the limit.
        limit: &'static str,
        /// When there will be a token.
        until: Instant,
    },
    /// Money is all that is missing: whoever else may serve it, the request costs more there than is left of a
    /// [spend limit](crate::shape::SpendLimit).
    OverSpend {
        /// The name of the limit.
        limit: &'static str,
        /// When there is enough for the first of them, if what is in flight by then costs what it can; `None` where the
        /// limit never allows so much at once.
        until: Option<Instant>,
    },
    /// Too many requests wait for capacity already, and none of them is to give way to this one.
    QueueFull,
    /// It waited, and its place was needed for a request that goes before it: of all that waited it was the newest of the
    /// lowest priority, of the tenant that had most waiting.
    Shed,
    /// At the pace at which those before it were served lately, it would have started after its deadline, or with less time
    /// left than any of the backends takes to its first item or calls of its tenant were cut short with.
    TooLate {
        /// How many of its tenant were before it.
        ahead: u32,
        /// When it would have started.
        start: Instant,
    },
    /// It waited, and has no more time left than calls of its tenant and priority need that had waited: their deadlines cut short
    /// those that had less.
    WouldBeCutShort {
        /// What it has left, in nanoseconds.
        left: u64,
        /// What they need, in nanoseconds; no more than half of its time.
        needed: u64,
    },
    /// Nobody that may be used is predicted to answer within what is left, not even in half of the cases
    /// ([`budgeted`](crate::policy::PolicyExt::budgeted)).
    Infeasible {
        /// What half of the answers stay below where that is least, in nanoseconds.
        half: u64,
        /// What was left, in nanoseconds.
        left: u64,
    },
    /// It waited for as long as the router lets anybody wait.
    WaitedTooLong {
        /// How long, in nanoseconds.
        waited: u64,
    },
}

/// What the driver does with a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "do", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Next {
    /// Call the best candidate, and no earlier than this: later than the decision's time only for a back-off.
    Call {
        /// When.
        at: Instant,
    },
    /// Decide again when a slot or a backend returns, at this time at the latest.
    Wait {
        /// When.
        until: Instant,
    },
    /// Ask the last resort.
    LastResort {
        /// Why nothing better is left.
        why: Refusal,
    },
    /// Answer with an error.
    Refuse {
        /// Why.
        why: Refusal,
    },
}
