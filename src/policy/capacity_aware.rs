//! `capacity_aware`: who may use how much of a backend.
//!
//! A wrapper, around what ranks the backends. A backend is as full as its calls in flight are of its limit, given or
//! [learned](crate::facts::Adaptive), as their tokens with those of the request would be of
//! [its bounds](crate::Profile::max_total_tokens), or as its own [load report](crate::router::Builder::load_reports) says of
//! its cache and compute, whichever is most. From that follow two lines:
//!
//! 1. *Headroom*: a backend that is fuller than 85 % stands behind all that are not, whatever the policy inside ranks by. One
//!    that is far away does so from 60 % on: it has its own callers. So even a policy that looks at no load fills the first
//!    backend up to its headroom, and then the next.
//! 2. *Ceilings*: from a fullness on that depends on their priority, requests do not go there at all. The last slots are
//!    for the critical; what can be shed stops first.
//!
//! With [`throttle`](Capacity::throttle), requests are also held back from who refuses most of them.
//!
//! Where all are above its ceiling, a standard request waits for a slot, and one that can be shed is refused. A request
//! never waits for one backend while another has room for it.

use super::{Check, Contender, PlanContext, RoutingPolicy, Slate, Window};
use crate::bug;
use crate::decision::Reason;
use crate::decision::record::LEVEL_PROBE;
use crate::facts::Priority;
use crate::limit::slots;
use crate::rng::mix;
use crate::signal::LoadReports;

/// How the capacity of backends is shared between priorities. Wrap a policy with
/// [`PolicyExt::capacity_aware`](crate::policy::PolicyExt::capacity_aware).
///
/// ```
/// use fallway::policy::{Capacity, FailSafe, PolicyExt, ordered};
/// let policy = ordered().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
/// ```
#[derive(Clone, Debug)]
pub struct Capacity {
    headroom: (f64, f64),
    ceilings: [f64; 3],
    local: Option<String>,
    throttle: bool,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { headroom: Self::HEADROOM, ceilings: Self::CEILINGS, local: None, throttle: false }
    }
}

impl Capacity {
    /// How full a backend may be before it stands behind others: one that is local, and one that is not.
    pub const HEADROOM: (f64, f64) = (0.85, 0.60);
    /// How full a backend may be for standard requests, for those that can be shed, and for batch work; critical ones may
    /// use all of it.
    pub const CEILINGS: [f64; 3] = [0.85, 0.70, 0.50];

    /// How full a backend may be before it stands behind others, as shares of its limit: one that is local, and one that is
    /// not. From a thousandth to 1, to the nearest thousandth; all else is an error of the builder.
    #[must_use]
    pub const fn headroom(mut self, local: f64, remote: f64) -> Self {
        self.headroom = (local, remote);
        self
    }

    /// How full a backend may be for standard requests, for those that can be shed, and for batch work, as shares of its
    /// limit; 1 for no reserve. One slot is for everybody. From a thousandth to 1, to the nearest thousandth, none above that of a
    /// higher priority; all else is an error of the builder.
    #[must_use]
    pub const fn ceilings(mut self, standard: f64, sheddable: f64, batch: f64) -> Self {
        self.ceilings = [standard, sheddable, batch];
        self
    }

    /// The region or the zone of the caller: backends elsewhere are remote. By default all are local, which is right inside
    /// [`region_failover`](crate::policy::PolicyExt::region_failover): there the regions have headroom of their own.
    #[must_use]
    pub fn local(mut self, place: impl Into<String>) -> Self {
        self.local = Some(place.into());
        self
    }

    /// Holds requests back from a backend that refuses most of them (429, 503, 529): about twice as many are sent as it
    /// accepted in the last two minutes, and one in ten at least. The others go elsewhere, or are refused at once. Off by
    /// default: backends that refuse [rest](crate::recover::Ejection) anyway; for those that are not to rest, since they
    /// refuse some requests and serve others.
    #[must_use]
    pub const fn throttle(mut self) -> Self {
        self.throttle = true;
        self
    }

    /// Wraps `inner`.
    pub fn around<P: RoutingPolicy>(self, inner: P) -> CapacityAware<P> {
        let [standard, sheddable, batch] = self.ceilings.map(permille);
        // By priority, the lowest first.
        let ceilings = [batch, sheddable, standard, 1000];
        CapacityAware {
            headroom: (permille(self.headroom.0), permille(self.headroom.1)),
            ceilings,
            config: self,
            inner,
        }
    }
}

/// A policy wrapped in [`Capacity`]; made by [`PolicyExt::capacity_aware`](super::PolicyExt::capacity_aware).
#[derive(Clone, Debug)]
pub struct CapacityAware<P> {
    config: Capacity,
    headroom: (u32, u32),
    ceilings: [u32; 4],
    inner: P,
}

#[deny(clippy::missing_trait_methods)]
impl<P: RoutingPolicy> RoutingPolicy for CapacityAware<P> {
    fn name(&self) -> &'static str {
        "capacity_aware"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let ceiling = self.own_ceiling(cx.facts().request_priority());
        // Others may come between this decision and the call.
        slate.sheet.kept = 1000 - ceiling;
        slate.each(|candidate| self.look(candidate, ceiling));
        if !slate.is_regular() {
            slate.each_rejected(|candidate| keep(candidate, ceiling));
        }
        self.inner.plan(cx, slate);
        if self.config.throttle {
            throttle(cx, slate);
        }
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.inner)
    }

    fn window(&self) -> Window {
        self.inner.window().beyond_a_pair()
    }

    fn ceiling(&self, priority: Priority) -> u32 {
        self.own_ceiling(priority).min(self.inner.ceiling(priority))
    }

    fn allows_region(&self, region: Option<&str>) -> bool {
        self.inner.allows_region(region)
    }

    fn check(&self, check: &mut Check<'_>) {
        let Capacity { headroom, ceilings, local, .. } = &self.config;
        for share in [headroom.0, headroom.1].iter().chain(ceilings) {
            if !(*share > 0.0 && *share <= 1.0) {
                check.error(self.name(), format!("a share of {share} is not above 0 and at most 1"));
            } else if permille(*share) == 0 {
                // Of none nobody ever starts: to be asked again would help nobody, and at once.
                check.error(
                    self.name(),
                    format!("a share of {share} is less than a thousandth, in which shares are counted"),
                );
            }
        }
        if !ceilings.is_sorted_by(|higher, lower| higher >= lower) {
            check.error(self.name(), format!("of the ceilings {ceilings:?} a lower priority has the higher one"));
        }
        if let Some(place) = local
            && !check.has_place(place)
        {
            check.error(self.name(), format!("no backend stands in {place:?}, neither a region nor a zone"));
        }
        check.has_no_fail_safe(self.name(), &self.inner);
        self.inner.check(check);
    }
}

impl<P: RoutingPolicy> CapacityAware<P> {
    fn own_ceiling(&self, priority: Priority) -> u32 {
        if bug::RESERVE_GIVEN_AWAY { 1000 } else { self.ceilings[priority as usize] }
    }

    #[inline]
    fn look(&self, candidate: &mut Contender<'_>, ceiling: u32) {
        let (reported, at) = candidate.reported_full();
        let headroom = match &self.config.local {
            Some(place) if !is_in(candidate, place) => self.headroom.1,
            _ => self.headroom.0,
        };
        let least = headroom.min(ceiling);
        if !candidate.fills(least) && reported < least {
            return;
        }
        let in_flight = candidate.load().in_flight;
        let full = candidate.limit().map_or(0, |limit| share(in_flight, limit));
        let full = full.max(reported).max(candidate.token_fill().min(1000));
        if candidate.fills(ceiling) {
            candidate.reject(Reason::Reserved { full, ceiling, until: None });
        } else if candidate.level() == LEVEL_PROBE {
            // It is called to find out how it is, not because it is free.
        } else if reported >= ceiling {
            candidate.reject(Reason::Reserved {
                full,
                ceiling,
                until: Some((at + LoadReports::STALE_AFTER).plus_nanos(1)),
            });
        } else {
            candidate.demote(Reason::Busy { full, headroom });
        }
    }
}

/// Holds the request back from the best candidate by chance, then from the next: only what would have been sent there
/// counts against a backend.
fn throttle(cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
    slate.sheet.throttles = true;
    while let Some(best) = slate.sheet.best(cx.seed) {
        let mut candidate = slate.contender(best);
        let share = candidate.throttled();
        let draw = mix(cx.seed, candidate.id().slot() as u64 ^ THROTTLE_STREAM) % 1000;
        if candidate.level() == LEVEL_PROBE || draw >= u64::from(share) {
            break;
        }
        candidate.reject(Reason::Throttled { share });
    }
}

/// Separates the draws of the throttle from other draws of the decision.
const THROTTLE_STREAM: u64 = 0x5448_524f;

/// Those that are full to the last slot, or token: what is freed may not be for this request.
fn keep(candidate: &mut Contender<'_>, ceiling: u32) {
    let full = match candidate.rejected() {
        Some(Reason::AtCapacity { in_flight, limit }) if slots(limit, ceiling) < limit => share(in_flight, limit),
        Some(Reason::PrefillFull { .. } | Reason::TokensFull { .. }) if ceiling < 1000 => 1000,
        _ => return,
    };
    candidate.reject_instead(Reason::Reserved { full, ceiling, until: None });
}

fn share(in_flight: u32, limit: u32) -> u32 {
    u32::try_from(u64::from(in_flight) * 1000 / u64::from(limit.max(1))).unwrap_or(u32::MAX)
}

fn is_in(candidate: &Contender<'_>, place: &str) -> bool {
    let profile = candidate.profile();
    profile.region_name() == Some(place) || profile.zone_name() == Some(place)
}

fn permille(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}
