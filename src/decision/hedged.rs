//! Whether an attempt is hedged, and why not.

use super::Reason;
use crate::backend::BackendId;
use crate::facts::Profile;
use crate::time::Instant;
use std::sync::Arc;

/// Whether another attempt runs beside the one that was decided ([`Hedge`](crate::budget::Hedge)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "code", rename_all = "snake_case"))]
pub enum Hedged {
    /// No policy wants one; or this decides a hedge itself, and there is one for a request.
    #[default]
    NotAsked,
    /// There is none.
    Withheld {
        /// Why.
        why: Unhedged,
    },
    /// There will be one from this moment on, unless an answer has begun by then.
    Due {
        /// When.
        at: Instant,
    },
    /// There is one since this moment, by a decision of its own.
    Sent {
        /// When.
        at: Instant,
    },
}

/// Why a policy that hedges does not hedge an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "code", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Unhedged {
    /// The request may not be executed twice, as far as its host said.
    NotReplaySafe,
    /// It has more tokens than those that are hedged.
    TooManyTokens {
        /// Tokens of prompt and expected answer.
        tokens: u64,
        /// How many there may be.
        most: u64,
    },
    /// Too little is known of the backend that is called.
    WarmingUp {
        /// First items that were seen of it.
        samples: u32,
    },
    /// It was hedged before, and one request is hedged once.
    HedgedBefore,
    /// It may not make another attempt.
    AttemptsExhausted,
    /// The fleet has too much to do, or refuses too much of what it is sent.
    Overload,
    /// As many requests of the router were hedged as may be.
    ShareUsedUp,
    /// The shared retry budget is spent, or the tenant's part of it.
    RetryBudgetEmpty,
    /// No other backend may take it now, none in another failure domain, or none has room.
    NobodyElse,
}

impl Unhedged {
    /// A few words.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotReplaySafe => "the request may not be executed twice",
            Self::TooManyTokens { .. } => "too many tokens",
            Self::WarmingUp { .. } => "too little is known of the backend",
            Self::HedgedBefore => "the request was hedged before",
            Self::AttemptsExhausted => "it may not make another attempt",
            Self::Overload => "the fleet has too much to do",
            Self::ShareUsedUp => "the share of hedged requests is used up",
            Self::RetryBudgetEmpty => "the shared retry budget is empty",
            Self::NobodyElse => "nobody else is usable, or none in another failure domain",
        }
    }
}

/// The attempt beside which a hedge is planned.
#[derive(Clone, Debug)]
pub struct Beside {
    pub(crate) attempt: u32,
    pub(crate) backend: BackendId,
    pub(crate) profile: Arc<Profile>,
}

impl Beside {
    /// Its number.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The backend that it asked.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }

    /// The profile of that.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Why a backend is no place for a hedge: it is the same, or stands and falls with it. Regions are domains of retries;
    /// for a hedge only what the host calls one is.
    pub(crate) fn bars(&self, backend: BackendId, profile: &Profile) -> Option<Reason> {
        let attempt = self.attempt;
        if backend == self.backend {
            return Some(Reason::AskedAlready { attempt });
        }
        let domain = profile.failure_domain.as_deref();
        let same = domain.is_some() && domain == self.profile.failure_domain.as_deref();
        same.then_some(Reason::DomainAsked { attempt })
    }
}
