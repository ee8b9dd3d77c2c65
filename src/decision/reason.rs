//! Why a candidate stands where it stands.

use crate::backend::FailureKind;
use crate::facts::Capabilities;
use crate::time::Instant;

/// Why a candidate was rejected, or what was noted of one that was not. Every reason carries what was measured;
/// what it was compared with stands in the candidate's profile.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "code", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reason {
    /// Taken out by hand.
    Drained,
    /// Its region is not in the request's residency set.
    OutsideResidency,
    /// It does not serve this tenant.
    TenantForbidden,
    /// It is not among the backends that serve this tenant
    /// ([`shuffle_shards`](crate::policy::PolicyExt::shuffle_shards)).
    OutsideShard {
        /// How many do.
        size: u32,
    },
    /// Its model lacks what the request needs.
    MissingCapabilities {
        /// What is missing.
        missing: Capabilities,
    },
    /// Prompt and answer do not fit its context window.
    ContextTooLong {
        /// Tokens that the window would have to hold.
        tokens: u64,
    },
    /// An attempt there could cost more than is left of what the [whole request may](crate::Facts::max_cost).
    OverPriceCap {
        /// What the attempts of the request so far may have cost, in pico-dollars.
        spent: u64,
        /// What it can cost, in pico-dollars.
        cost: u64,
    },
    /// What the request may cost is limited, by a cap of its own or a spend limit, and this backend's price is not known.
    PriceUnknown,
    /// The backend answered 429; its quota returns then.
    RateLimited {
        /// When.
        until: Instant,
    },
    /// The backend was overloaded and said when to come back.
    AskedToWait {
        /// When.
        until: Instant,
    },
    /// Its credential is out of credit or quota.
    QuotaExhausted {
        /// When it is tried again.
        until: Instant,
    },
    /// Its credential was refused.
    Unauthorized {
        /// When it is tried again.
        until: Instant,
    },
    /// The backend does not have the model.
    ModelUnavailable {
        /// When it is tried again.
        until: Instant,
    },
    /// As many calls are in flight as it may take.
    AtCapacity {
        /// How many.
        in_flight: u32,
        /// How many there may be: by its profile, or as was learned.
        limit: u32,
    },
    /// The prompts that wait there for their first item leave too little room for this one.
    PrefillFull {
        /// Tokens of its prompt that are to be worked through.
        asked: u64,
        /// Tokens that are free for it; none where one waits that comes first, and needs more than there is.
        free: u64,
    },
    /// The calls in flight leave too little room for its prompt and the expected answer.
    TokensFull {
        /// Tokens of both.
        asked: u64,
        /// Tokens that are free for it; none where one waits that comes first, and needs more than there is.
        free: u64,
    },
    /// The request has more tokens than may ever be in flight there.
    TokenBoundTooSmall {
        /// Its tokens: of the prompt, or with the answer where that was said.
        tokens: u64,
        /// How many there may be.
        limit: u64,
    },
    /// What is left of its quota, as this router mirrors it, is too little for the request until then.
    OverQuota {
        /// When.
        until: Instant,
    },
    /// What is left of its quota is kept for a request that waits, matters as much or more, and has enough of it only then. This
    /// one may still come before it in the queue.
    QuotaKept {
        /// When.
        until: Instant,
    },
    /// The request has more tokens than its quota, as the host said it, ever holds at once.
    QuotaTooSmall {
        /// Tokens of the request.
        tokens: u64,
        /// What it holds.
        limit: u64,
    },
    /// The request's tenant has as many calls in flight as its share allows; the backend has nothing to do with it.
    TenantFull {
        /// How many.
        in_flight: u32,
        /// How many it may have now: its maximum, or less where what is not its own is used by others.
        most: u32,
    },
    /// The route of the request, the model or alias that it asks for, has as many calls in flight as its share allows.
    RouteFull {
        /// How many.
        in_flight: u32,
        /// How many it may have now.
        most: u32,
    },
    /// All calls are kept for other tenants, or other routes, and none is lent: the request never has one. The backend has nothing to
    /// do with it.
    NoShare,
    /// Its region has no room for requests of this priority, and neither has another.
    RegionFull {
        /// Calls in flight there.
        in_flight: u32,
        /// How many there may be.
        room: u32,
    },
    /// What is left of it is kept for requests of higher priority.
    Reserved {
        /// How full it is, of 1000: by calls in flight, by tokens with those of the request, or by its own report.
        full: u32,
        /// How full it may be for requests of this priority, of 1000.
        ceiling: u32,
        /// When the report that says so is stale; `None` where calls in flight fill it.
        until: Option<Instant>,
    },
    /// It refuses so many requests that this one was not even sent: a draw by the decision's seed.
    Throttled {
        /// The share of requests that is held back, of 1000.
        share: u32,
    },
    /// Its quota may be back; a request that finds out is on the way.
    ProbeInFlight {
        /// When the probe's permit expires.
        until: Instant,
    },
    /// Ejected after a streak of failures.
    Ejected {
        /// When it is probed.
        until: Instant,
        /// How many failures in a row.
        failures: u32,
    },
    /// Ejected because it failed too often in the last half minute.
    FailsOften {
        /// When it is probed.
        until: Instant,
        /// Attempts that failed.
        failures: u64,
        /// Attempts that failed or were answered.
        samples: u64,
    },
    /// Ejected because its first tokens come much later than those of its peers.
    SlowerThanPeers {
        /// When it is probed.
        until: Instant,
        /// Its usual time to first token, in nanoseconds.
        usual: u64,
        /// The median of its peers, in nanoseconds.
        median: u64,
    },
    /// Ejected because it succeeds much less often than its peers.
    FailsMoreThanPeers {
        /// When it is probed.
        until: Instant,
        /// Its success rate, of 1000.
        rate: u32,
        /// The mean of its pool, of 1000.
        mean: u32,
    },
    /// Its failure domain failed as a whole and is out as a whole.
    DomainOut {
        /// When one request probes all of it.
        until: Instant,
        /// Members that had failed.
        failing: u32,
        /// Members of the domain.
        members: u32,
    },
    /// Resting after it said that it is overloaded, or could not be reached.
    CoolingDown {
        /// When it is probed.
        until: Instant,
        /// How many times in a row.
        failures: u32,
    },
    /// It failed before, and the one request that finds out whether it is well again is on the way.
    OnProbation {
        /// When that request's permit expires.
        until: Instant,
    },
    /// A health signal reports it unhealthy.
    Unhealthy {
        /// The signal, by its position in the router.
        signal: u32,
        /// Its score, of 1000.
        score: u32,
        /// When that was measured.
        at: Instant,
    },
    /// This request already failed there.
    FailedHere {
        /// In which attempt.
        attempt: u32,
        /// How.
        kind: FailureKind,
    },
    /// Its quota should be back, but a peer's that should be was not: it is not asked by the same request.
    QuotaInDoubt,
    /// The attempt before had its time and was given up, and this backend is predicted to take a good part of that time,
    /// and longer than at its best: the fleet has too much to do, and another attempt would add to it.
    TooSlow {
        /// Its predicted time to first token, in nanoseconds.
        predicted: u64,
    },
    /// In what is left of the request's time it is not predicted to answer
    /// ([`budgeted`](crate::policy::PolicyExt::budgeted)); or it was out, and what is left is less than it ever took at best, too
    /// little to be the request that finds out how it is.
    MissesDeadline {
        /// What 95 of 100 answers stay below, in nanoseconds: its first token, or all of it where that is wanted. The best that it
        /// ever did, where it was out.
        late: u64,
        /// What half of them stay below, in nanoseconds; the best as well, where it was out.
        half: u64,
        /// What is left, in nanoseconds.
        left: u64,
    },
    /// The failure before would repeat there: its context window is no larger.
    WouldRepeat {
        /// The failure.
        kind: FailureKind,
    },
    /// This decides a hedge, and the request waits for this backend's answer already.
    AskedAlready {
        /// By which attempt.
        attempt: u32,
    },
    /// This decides a hedge, and the backend stands in the failure domain of the one that was asked.
    DomainAsked {
        /// By which attempt.
        attempt: u32,
    },
    /// It is to be probed, and this decides a hedge, which finds nothing out.
    NotForHedges,
    /// Another request took its last slot or its probe between the decision and the call.
    LostRace,
    /// Note: it is on probation, and this request is its probe.
    Probe,
    /// Note: its quota should be back, and this request finds out.
    QuotaProbe,
    /// Note: another region comes first for this request; the regions of the decision say why.
    OtherRegion,
    /// Note: it stands in the domain where the request failed before.
    SameDomain {
        /// In which attempt.
        attempt: u32,
    },
    /// Note: nothing else is left and nobody was tried for a moment; this request finds out whether that still holds.
    Trial,
    /// Note: not tried for long, or its last answers were not what was predicted; this request refreshes what is known of it.
    Canary,
    /// Note: back for a short while; takes a growing share of requests, not this one first.
    RampingUp {
        /// Its share now, of 1000.
        share: u32,
    },
    /// Note: a health signal that should have a fresh reading of it has none, and no other calls it well: it stands
    /// behind where such a signal calls a peer well.
    Unproven {
        /// The signal, by its position in the router.
        signal: u32,
        /// When it had one last; `None` if it never did.
        at: Option<Instant>,
    },
    /// Note: a health signal that should have a fresh reading of it has none, but another calls it well.
    PartlyUnproven {
        /// The silent signal, by its position in the router.
        signal: u32,
        /// When it had one last; `None` if it never did.
        at: Option<Instant>,
    },
    /// Note: readmitted in panic mode, because too few of its tier look healthy.
    Readmitted,
    /// Note: nothing else is left; it is tried again after a back-off.
    RetriedHere {
        /// When.
        at: Instant,
    },
    /// Note: fuller than its headroom allows; it stands behind those that are not.
    Busy {
        /// How full it is, of 1000: by calls in flight, by tokens with those of the request, or by its own report.
        full: u32,
        /// How full it may be before, of 1000.
        headroom: u32,
    },
    /// Note: a model that comes before its own is predicted to be too slow for what is left.
    Brownout {
        /// What 95 of 100 answers of that model stay below at its fastest backend, in nanoseconds.
        late: u64,
        /// What was left, in nanoseconds.
        left: u64,
    },
    /// Note: nobody is sure to answer within what is left; it comes closest, and does so in half of the cases.
    MayBeLate {
        /// What 95 of 100 of its answers stay below, in nanoseconds.
        late: u64,
        /// What was left, in nanoseconds.
        left: u64,
    },
    /// Note: more load than its bound of affinity allows; the session spills.
    OverBound {
        /// Calls in flight.
        in_flight: u32,
    },
    /// An attempt there can cost more than is left of the money that the request's tenant, or whoever the
    /// [spend limit](crate::shape::SpendLimit) is of, may spend.
    OverSpendLimit {
        /// The name of the limit.
        limit: &'static str,
        /// What it can cost, in pico-dollars.
        cost: u64,
        /// When so much is there again, if what is in flight by now costs what it can.
        until: Instant,
    },
    /// An attempt there can cost more than its [spend limit](crate::shape::SpendLimit) ever allows at once.
    SpendLimitTooSmall {
        /// The name of the limit.
        limit: &'static str,
        /// What it can cost, in pico-dollars.
        cost: u64,
        /// What may be spent at once, in pico-dollars.
        most: u64,
    },
    /// A hard line of a custom policy.
    Forbidden {
        /// Its words.
        text: &'static str,
    },
    /// A reason of a custom policy; soft, so panic mode may override it.
    Custom {
        /// Its words.
        text: &'static str,
    },
}

impl Reason {
    /// When the candidate is expected back, where the reason knows. What a probe on its way will show, nobody knows.
    pub const fn returns_at(&self) -> Option<Instant> {
        match self {
            Self::RateLimited { until }
            | Self::OverQuota { until }
            | Self::OverSpendLimit { until, .. }
            | Self::AskedToWait { until }
            | Self::QuotaExhausted { until }
            | Self::Unauthorized { until }
            | Self::ModelUnavailable { until }
            | Self::Ejected { until, .. }
            | Self::FailsOften { until, .. }
            | Self::SlowerThanPeers { until, .. }
            | Self::FailsMoreThanPeers { until, .. }
            | Self::DomainOut { until, .. }
            | Self::CoolingDown { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether it was taken out for how it did, by this router's own judgement.
    pub(crate) const fn is_ejection(&self) -> bool {
        matches!(
            self,
            Self::Ejected { .. }
                | Self::FailsOften { .. }
                | Self::SlowerThanPeers { .. }
                | Self::FailsMoreThanPeers { .. }
        )
    }

    /// Whether it says what a request is sent for, so that nothing may take its place.
    pub(crate) const fn is_errand(&self) -> bool {
        matches!(self, Self::Probe | Self::QuotaProbe | Self::Trial | Self::RetriedHere { .. } | Self::MayBeLate { .. })
    }

    /// Whether nothing speaks against the backend but that it has no room.
    pub(crate) const fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::AtCapacity { .. }
                | Self::PrefillFull { .. }
                | Self::TokensFull { .. }
                | Self::QuotaKept { .. }
                | Self::TenantFull { .. }
                | Self::RouteFull { .. }
                | Self::RegionFull { .. }
                | Self::Reserved { .. }
        )
    }
}
