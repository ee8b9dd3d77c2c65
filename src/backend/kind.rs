//! The failure taxonomy: one table, the same for every backend.

use std::fmt;

/// How a call to a backend failed. Each kind answers five questions, see [`FailureKind::conduct`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FailureKind {
    /// The request never left: connect, DNS or TLS failed, or the connection was refused.
    Unreachable,
    /// No first item in the time that the attempt had.
    Timeout,
    /// The backend says that it has too much to do (503, 529).
    Overloaded,
    /// The caller's rate is over its quota (429).
    RateLimited,
    /// The account is out of credit or quota (402, billing errors).
    QuotaExhausted,
    /// The credential was refused (401, 403).
    Unauthorized,
    /// The model does not exist there, or is not loaded (404).
    ModelUnavailable,
    /// The prompt does not fit the model's context window.
    ContextTooLong,
    /// The provider's content policy refused the request.
    ContentRejected,
    /// The request itself is wrong (other 4xx).
    InvalidRequest,
    /// The backend failed (5xx).
    ServerError,
    /// A stream ended without its terminator.
    Truncated,
    /// The gap between two items of a stream exceeded its limit.
    Stalled,
    /// The answer was malformed, or a 200 stream carried an error event of no known kind.
    Protocol,
    /// The backend's own code panicked; or its caller did, while it held the call or the answer ([`Routed`](crate::Routed)).
    Panicked,
}

/// Whose fault a failure is. Only [`Fault::Backend`] and [`Fault::Transport`] count against a backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Fault {
    Transport,
    Backend,
    Quota,
    Credential,
    Model,
    Caller,
    Host,
}

/// Where a retry makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retry {
    /// On any other backend, at once.
    Elsewhere,
    /// Only on a backend with another credential.
    OtherCredential,
    /// Only on a tier whose model has a larger context window.
    LargerWindow,
    /// Only on the tier that is configured for rejected content.
    ConfiguredTier,
    /// Nowhere: every backend would answer the same.
    Never,
}

/// Whether sending the request again can make its effect happen twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Replay {
    /// The request certainly had no effect.
    Safe,
    /// It may have been executed; only a request marked replay-safe is sent again.
    Uncertain,
}

/// What rests for a while after the failure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cools {
    /// Nothing: it says nothing about the backend.
    Nothing,
    /// The backend, at once and briefly: new load goes elsewhere; not part of a failure streak.
    Load,
    /// The backend, once a streak of such failures is long enough.
    Streak,
    /// The backend and model under this credential, until the hint.
    Quota,
    /// Every backend that uses this credential.
    Credential,
    /// The model on this backend.
    Model,
}

/// Whether the failed attempt may have cost money.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Billed {
    No,
    Maybe,
    Yes,
}

/// The five answers for one [`FailureKind`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conduct {
    /// Whose fault it is.
    pub fault: Fault,
    /// Where a retry makes sense.
    pub retry: Retry,
    /// Whether a replay is safe.
    pub replay: Replay,
    /// What cools down.
    pub cools: Cools,
    /// Whether it may have been billed.
    pub billed: Billed,
}

impl FailureKind {
    /// Every kind, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Overloaded,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::Unauthorized,
        Self::ModelUnavailable,
        Self::ContextTooLong,
        Self::ContentRejected,
        Self::InvalidRequest,
        Self::ServerError,
        Self::Truncated,
        Self::Stalled,
        Self::Protocol,
        Self::Panicked,
    ];

    /// The row of this kind in the taxonomy (`docs/failures.md` shows the same table; a test compares them).
    pub const fn conduct(self) -> Conduct {
        use {Billed as B, Cools as C, Fault as F, Replay as P, Retry as R};
        let (fault, retry, replay, cools, billed) = match self {
            Self::Unreachable => (F::Transport, R::Elsewhere, P::Safe, C::Load, B::No),
            Self::Timeout => (F::Backend, R::Elsewhere, P::Uncertain, C::Streak, B::Maybe),
            Self::Overloaded => (F::Backend, R::Elsewhere, P::Safe, C::Load, B::No),
            Self::RateLimited => (F::Quota, R::Elsewhere, P::Safe, C::Quota, B::No),
            Self::QuotaExhausted => (F::Quota, R::OtherCredential, P::Safe, C::Credential, B::No),
            Self::Unauthorized => (F::Credential, R::OtherCredential, P::Safe, C::Credential, B::No),
            Self::ModelUnavailable => (F::Model, R::Elsewhere, P::Safe, C::Model, B::No),
            Self::ContextTooLong => (F::Caller, R::LargerWindow, P::Safe, C::Nothing, B::No),
            Self::ContentRejected => (F::Caller, R::ConfiguredTier, P::Safe, C::Nothing, B::Maybe),
            Self::InvalidRequest => (F::Caller, R::Never, P::Safe, C::Nothing, B::No),
            Self::ServerError => (F::Backend, R::Elsewhere, P::Uncertain, C::Streak, B::Maybe),
            Self::Truncated => (F::Backend, R::Elsewhere, P::Uncertain, C::Streak, B::Yes),
            Self::Stalled => (F::Backend, R::Elsewhere, P::Uncertain, C::Streak, B::Yes),
            Self::Protocol => (F::Backend, R::Elsewhere, P::Uncertain, C::Streak, B::Maybe),
            Self::Panicked => (F::Host, R::Elsewhere, P::Uncertain, C::Streak, B::Maybe),
        };
        Conduct { fault, retry, replay, cools, billed }
    }

    /// The kind's name as it appears in decisions, JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Unauthorized => "unauthorized",
            Self::ModelUnavailable => "model_unavailable",
            Self::ContextTooLong => "context_too_long",
            Self::ContentRejected => "content_rejected",
            Self::InvalidRequest => "invalid_request",
            Self::ServerError => "server_error",
            Self::Truncated => "truncated",
            Self::Stalled => "stalled",
            Self::Protocol => "protocol",
            Self::Panicked => "panicked",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
