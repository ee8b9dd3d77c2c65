//! [`BuildError`], and what every fleet must satisfy.

use super::Router;
use crate::facts::{InvalidName, Profile};
use crate::limit::InvalidBulkheads;
use crate::policy::PolicyError;
use crate::recover::InvalidEjection;
use crate::shape::{InvalidMirror, InvalidRateLimit, InvalidSpendLimit};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// What a tenant's weight may be.
pub(super) const WEIGHTS: RangeInclusive<u32> = 1..=Router::<str, ()>::MOST_WEIGHT;

/// What is wrong with a router or a fleet; names the offender.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no backend at all.
    #[error("a router needs at least one backend")]
    NoBackend,
    /// A backend's id is empty or only white space.
    #[error("backend number {position} has an empty id")]
    EmptyId {
        /// Its position, from 1.
        position: usize,
    },
    /// Two backends have the same id.
    #[error("two backends have the id {0:?}")]
    DuplicateId(String),
    /// No backend stands in this region.
    #[error("no backend stands in region {0:?}")]
    UnknownRegion(String),
    /// A region is to be restored that was not evacuated.
    #[error("region {0:?} was not evacuated")]
    NotEvacuated(String),
    /// A weight is zero, negative, infinite or not a number.
    #[error("backend {id:?}: a weight of {weight} is not a positive number")]
    InvalidWeight {
        /// The backend.
        id: String,
        /// The weight.
        weight: f64,
    },
    /// A limit of zero, which would keep the backend unused for ever. To stop a backend, drain it.
    #[error("backend {id:?}: {limit} is zero")]
    ZeroLimit {
        /// The backend.
        id: String,
        /// Which limit.
        limit: &'static str,
    },
    /// More tokens of prompts may wait than may be in flight at all.
    #[error("backend {id:?}: a bound of {prefill} prefill tokens is above that of {total} tokens in flight")]
    PrefillAboveTotal {
        /// The backend.
        id: String,
        /// The bound of prefill tokens.
        prefill: u64,
        /// The bound of all tokens in flight.
        total: u64,
    },
    /// A name that is given but empty.
    #[error("backend {id:?}: {name} is empty")]
    EmptyName {
        /// The backend.
        id: String,
        /// Which name.
        name: &'static str,
    },
    /// A name that can not be one.
    #[error("backend {id:?}: {reason}")]
    InvalidName {
        /// The backend.
        id: String,
        /// What is wrong with it.
        reason: InvalidName,
    },
    /// An update names a backend that is not in the fleet.
    #[error("there is no backend {0:?}")]
    UnknownBackend(String),
    /// A policy's configuration does not fit the fleet.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The ejection makes no sense.
    #[error(transparent)]
    Ejection(#[from] InvalidEjection),
    /// A rate limit makes no sense.
    #[error(transparent)]
    RateLimit(#[from] InvalidRateLimit),
    /// A spend limit makes no sense.
    #[error(transparent)]
    SpendLimit(#[from] InvalidSpendLimit),
    /// A mirror makes no sense.
    #[error(transparent)]
    Mirror(#[from] InvalidMirror),
    /// The default deadline is zero.
    #[error("a default deadline of zero would refuse every request")]
    ZeroDeadline,
    /// The idle limit is zero.
    #[error("an idle limit of zero would break every stream")]
    ZeroIdleLimit,
    /// The largest item is of no size.
    #[error("a largest item of zero bytes would break every stream")]
    ZeroLargestItem,
    /// The longest wait is zero.
    #[error("a longest wait of zero would refuse whoever waits; for no queue at all, give it no places")]
    ZeroLongestWait,
    /// A tenant's weight is zero, so it would never be served, or so large that nobody else would.
    #[error("tenant {tenant:?}: a weight of {weight} is not between 1 and {}", WEIGHTS.end())]
    InvalidTenantWeight {
        /// The tenant.
        tenant: String,
        /// The weight.
        weight: u32,
    },
    /// The shares of tenants make no sense.
    #[error("tenants: {0}")]
    TenantBulkheads(InvalidBulkheads),
    /// The shares of routes make no sense.
    #[error("routes: {0}")]
    RouteBulkheads(InvalidBulkheads),
    /// A change of the fleet began another.
    #[error("a change of the fleet must not begin another")]
    NestedUpdate,
}

/// What every fleet must satisfy.
pub(super) fn check_profiles<'p>(profiles: impl Iterator<Item = &'p Profile>) -> Result<(), BuildError> {
    let mut ids = BTreeSet::new();
    for (position, profile) in (1..).zip(profiles) {
        let id = || profile.id.clone();
        if profile.id.trim().is_empty() {
            return Err(BuildError::EmptyId { position });
        }
        if !ids.insert(&profile.id) {
            return Err(BuildError::DuplicateId(id()));
        }
        if !(profile.weight.is_finite() && profile.weight > 0.0) {
            return Err(BuildError::InvalidWeight { id: id(), weight: profile.weight });
        }
        let zero = [
            ("the concurrency limit", profile.concurrency == Some(0)),
            ("the bound of prefill tokens", profile.max_prefill_tokens == Some(0)),
            ("the bound of tokens in flight", profile.max_total_tokens == Some(0)),
            ("the quota of requests per minute", profile.requests_per_minute == Some(0)),
            ("the burst of requests", profile.request_burst == Some(0)),
            ("the quota of tokens per minute", profile.tokens_per_minute == Some(0)),
            ("the burst of tokens", profile.token_burst == Some(0)),
            ("the context window", profile.context_window == Some(0)),
            ("the attempt limit", profile.attempt_limit.is_some_and(|limit| limit.is_zero())),
        ];
        if let Some((limit, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(BuildError::ZeroLimit { id: id(), limit });
        }
        if let (Some(prefill), Some(total)) = (profile.max_prefill_tokens, profile.max_total_tokens)
            && prefill > total
        {
            return Err(BuildError::PrefillAboveTotal { id: id(), prefill, total });
        }
        let version = profile.full_model().filter(|model| model.contains('@')).and(profile.model_version());
        let names = [
            ("the model", profile.model_name()),
            ("the model's version", version),
            ("the region", profile.region.as_deref()),
            ("the credential", profile.credential.as_deref()),
        ];
        if let Some((name, _)) = names.into_iter().find(|(_, name)| name.is_some_and(|name| name.trim().is_empty())) {
            return Err(BuildError::EmptyName { id: id(), name });
        }
        profile.check().map_err(|reason| BuildError::InvalidName { id: id(), reason })?;
    }
    if ids.is_empty() { Err(BuildError::NoBackend) } else { Ok(()) }
}
