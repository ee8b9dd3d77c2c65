//! `region_failover`: which region serves, when the first can not serve all.
//!
//! A wrapper, around what ranks the backends inside a region. For each decision it
//!
//! 1. leaves out the backends outside the residency set, as everything in the router does;
//! 2. adds up, per region, what of its capacity is healthy and how full it is;
//! 3. lets the traffic fall to the regions in their order, each taking what its health allows ([`Spill`]), and less where
//!    it has just come back (a hold, then a ramp);
//! 4. passes on what falls to a region without room, so that no survivor is overrun;
//! 5. chooses one region for the request, by the decision's seed or by its session, and puts the others behind it: a retry
//!    finds them there.
//!
//! Where no region has room, critical requests use the reserve, standard ones wait for a slot, and others are refused.
//!
//! Fail over fast, back slowly: what a region may get falls with its health, at once. It rises again after a hold of
//! continuous health, which doubles each time the region fails soon after it came back, and then over a ramp.
//! The proportional spill with its factor is [Envoy's](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority);
//! room, hold and ramp are this crate's own.

mod config;
mod flow;

pub use config::{Regions, Spill};

use super::{Check, Contender, PlanContext, RoutingPolicy, Slate, Window};
use crate::backend::{FailureKind, Fault};
use crate::bug;
use crate::decision::record::Region;
use crate::decision::{Class, Reason, RegionPhase, RegionRow, RegionRules};
use crate::facts::Priority;
use crate::rng::{hash_str, mix};
use config::{Name, permille};
use flow::Ceilings;

/// A policy wrapped in [`Regions`]; made by [`PolicyExt::region_failover`](super::PolicyExt::region_failover).
#[derive(Clone, Debug)]
pub struct RegionFailover<P> {
    config: Regions,
    rules: RegionRules,
    factor: Option<u64>,
    inner: P,
}

impl Regions {
    /// Wraps `inner`.
    pub fn around<P: RoutingPolicy>(self, inner: P) -> RegionFailover<P> {
        RegionFailover { rules: self.rules(), factor: flow::factor(self.spill), config: self, inner }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<P: RoutingPolicy> RoutingPolicy for RegionFailover<P> {
    fn name(&self) -> &'static str {
        "region_failover"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.range();
        let regular = slate.is_regular();
        let first = self.survey(cx, slate, regular);
        let ceilings = Ceilings::new(self.config.headroom, cx.facts().request_priority() == Priority::Critical);
        let first_takes_all = self.first_takes_all(cx, &mut slate.sheet.regions[first..], &ceilings);
        if !first_takes_all {
            look_beyond(slate, first, regular);
            let choice = self.divide(cx, &mut slate.sheet.regions[first..], &ceilings);
            mark(cx, slate, first, choice, &ceilings);
        }
        slate.plan_with(&self.inner, cx);
        // The inner policies may have ruled out all of the region.
        if first_takes_all && !slate.has_ready() && !bug::NEXT_REGION_OVERRUN {
            look_beyond(slate, first, regular);
            mark(cx, slate, first, Choice::Row(0), &ceilings);
        }
        while slate.advance() {
            slate.plan_with(&self.inner, cx);
        }
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.inner)
    }

    fn window(&self) -> Window {
        match self.inner.window() {
            window @ (Window::InOrder | Window::ByTenant) => window,
            _ => Window::ByRegion,
        }
    }

    fn ceiling(&self, priority: Priority) -> u32 {
        self.inner.ceiling(priority)
    }

    fn allows_region(&self, region: Option<&str>) -> bool {
        let name = region.unwrap_or_default();
        let residency = self.config.residency.as_ref();
        residency.is_none_or(|allowed| allowed.iter().any(|it| *it.name == *name)) && self.inner.allows_region(region)
    }

    fn check(&self, check: &mut Check<'_>) {
        self.config.check(check);
        check.has_no_fail_safe(self.name(), &self.inner);
        self.inner.check(check);
    }
}

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    /// To this row first.
    Row(usize),
    /// Nobody has room for it.
    NoRoom,
    /// Nothing speaks for one region before another.
    Anywhere,
}

const REGION_STREAM: u64 = 0x5245_4749;

impl<P: RoutingPolicy> RegionFailover<P> {
    /// Adds up the current tier by region. The rows begin at the index that is returned, in
    /// order of rank.
    fn survey(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>, regular: bool) -> usize {
        slate.sheet.region_rules = Some(self.rules);
        let first = slate.open_regions(|region| self.rank(region));
        slate.each_with_region(first, |at, row, place, candidate| {
            // As it will be most of the time: the first region serves, and the others stand behind in their order.
            candidate.set_aside(u8::try_from(at).unwrap_or(u8::MAX));
            row.seen += 1;
            if let Some(standing) = Standing::of(candidate, regular) {
                row.capacity += place.capacity;
                row.healthy += place.capacity * u64::from(standing.health);
                row.open += place.capacity * u64::from(standing.open);
            } else if candidate.rejected() != Some(Reason::Drained) {
                row.unseen += place.capacity;
            }
            if at == 0 {
                look_at_load(row, candidate, regular);
            }
        });
        if !cx.attempts().is_empty() {
            note_failures(cx, slate, first);
        }
        first
    }

    /// The place of a region in the order; `None` outside the residency set.
    fn rank(&self, region: &Region) -> Option<u8> {
        let is = |name: &Name| name.hash == region.hash && *name.name == *region.name;
        if !region.allowed {
            return None;
        }
        let tier = self.config.tiers.iter().position(|tier| tier.iter().any(is));
        Some(u8::try_from(tier.unwrap_or(self.config.tiers.len())).unwrap_or(u8::MAX - 1))
    }

    /// Sees what each region offers; whether the first takes all of the traffic, as it does most of the time.
    fn first_takes_all(&self, cx: &PlanContext<'_>, rows: &mut [RegionRow], ceilings: &Ceilings) -> bool {
        flow::offer(rows, self.factor, &self.rules, cx.now());
        let [first, others @ ..] = rows else { return false };
        let all = first.allowed >= 1000 && !first.failed_here && ceilings.has_room(first);
        // Nobody has a claim beside it.
        let alone = |row: &RegionRow| row.rank != first.rank && row.allowed > 0 && !is_held(row);
        if !(all && others.iter().all(alone) && self.config.exercise == 0.0) {
            return false;
        }
        (first.wish, first.granted) = (1000, 1000);
        true
    }

    /// Divides the traffic among the regions, and says where this request goes.
    fn divide(&self, cx: &PlanContext<'_>, rows: &mut [RegionRow], ceilings: &Ceilings) -> Choice {
        // What failed this request may fail it again: others first, where there are any.
        if rows.iter().any(|row| row.allowed > 0 && !row.failed_here) {
            for row in rows.iter_mut().filter(|row| row.failed_here) {
                row.allowed = 0;
            }
        }
        flow::fall(rows);
        flow::exercise(rows, permille(self.config.exercise));
        let key = cx.facts().request_session().map_or(cx.seed, hash_str);
        let mut draw = (mix(key, REGION_STREAM) % 1000) as u16;
        let mut choice = Choice::Anywhere;
        for at in 0..rows.len() {
            let wish = rows[at].wish;
            if wish == 0 {
                continue;
            }
            let goes = flow::overflow(rows, at, ceilings);
            if let Some(to) = goes {
                rows[to].granted += wish;
            }
            if choice == Choice::Anywhere && draw < wish {
                choice = goes.map_or(Choice::NoRoom, Choice::Row);
            }
            draw = draw.saturating_sub(wish);
        }
        choice
    }
}

const fn is_held(row: &RegionRow) -> bool {
    matches!(row.state.phase, RegionPhase::Held { .. })
}

/// Notes in which regions the request failed, by a fault of the backend or on the way to it.
fn note_failures(cx: &PlanContext<'_>, slate: &mut Slate<'_>, first: usize) {
    let blamed = |kind: FailureKind| matches!(kind.conduct().fault, Fault::Backend | Fault::Transport);
    for attempt in cx.attempts().iter().filter(|attempt| attempt.failure().is_some_and(blamed)) {
        let name = attempt.profile.region.as_deref().unwrap_or_default();
        let same = |row: &&mut RegionRow| *slate.ground.roster.regions[usize::from(row.region)].name == *name;
        if let Some(row) = slate.sheet.regions[first..].iter_mut().find(same) {
            row.failed_here = true;
        }
    }
}

/// What of a backend's capacity is healthy, and what may be used, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Standing {
    health: u16,
    open: u16,
}

impl Standing {
    const WELL: Self = Self { health: 1000, open: 1000 };
    /// Nothing is wrong with it, but it takes no request.
    const CLOSED: Self = Self { health: 1000, open: 0 };
    const ILL: Self = Self { health: 0, open: 0 };

    /// `None` for one that may not serve the request in any state of health.
    #[inline]
    fn of(candidate: &Contender<'_>, regular: bool) -> Option<Self> {
        if regular { Some(Self::WELL) } else { Self::found(candidate) }
    }

    fn found(candidate: &Contender<'_>) -> Option<Self> {
        let note = |note: Option<Reason>| match note {
            Some(Reason::RampingUp { share }) => Self { health: 1000, open: share.min(1000) as u16 },
            Some(Reason::QuotaProbe) => Self::CLOSED,
            Some(Reason::Probe | Reason::Readmitted | Reason::Trial | Reason::RetriedHere { .. }) => Self::ILL,
            _ => Self::WELL,
        };
        match candidate.rejected() {
            None => Some(note(candidate.note())),
            Some(reason) if reason.is_busy() || reason == Reason::LostRace => Some(Self::WELL),
            Some(Reason::FailedHere { .. } | Reason::Custom { .. }) => Some(Self::CLOSED),
            Some(reason) => match reason.class() {
                Class::Hard => None,
                Class::Refused => Some(Self::CLOSED),
                Class::Soft | Class::Note => Some(Self::ILL),
            },
        }
    }
}

/// Adds up what is in flight in the regions after the first.
fn look_beyond(slate: &mut Slate<'_>, first: usize, regular: bool) {
    slate.each_with_region(first, |at, row, _, candidate| {
        if at > 0 && row.rank.is_some() {
            look_at_load(row, candidate, regular);
        }
    });
}

/// Adds what is in flight at a backend to its region.
fn look_at_load(row: &mut RegionRow, candidate: &mut Contender<'_>, regular: bool) {
    let Some(Standing { open, .. }) = Standing::of(candidate, regular) else { return };
    row.room = row.room.saturating_add(match candidate.limit() {
        None if open > 0 => u64::MAX,
        limit => u64::from(limit.unwrap_or(0)) * u64::from(open),
    });
    let load = candidate.load();
    row.called = row.called.max(load.last_called);
    row.in_flight = Some(row.in_flight.unwrap_or(0) + u64::from(load.in_flight) * u64::from(open > 0));
}

/// Sets the other regions aside, and closes those that have no room.
fn mark(cx: &PlanContext<'_>, slate: &mut Slate<'_>, first: usize, choice: Choice, ceilings: &Ceilings) {
    let rows = slate.sheet.regions.len() - first;
    let critical = cx.facts().request_priority() == Priority::Critical;
    slate.each_with_region(first, |at, row, _, candidate| {
        if choice == Choice::Row(at) || choice == Choice::Anywhere {
            return candidate.set_aside(0);
        }
        if row.rank.is_none() {
            return;
        }
        if ceilings.closed(row) {
            let full =
                Reason::RegionFull { in_flight: narrow(row.in_flight.unwrap_or(0)), room: narrow(row.room / 1000) };
            match candidate.rejected() {
                None => candidate.reject(full),
                // What is freed is not for this request.
                Some(Reason::AtCapacity { .. } | Reason::PrefillFull { .. } | Reason::TokensFull { .. })
                    if !critical =>
                {
                    candidate.reject_instead(full);
                }
                Some(_) => {}
            }
        } else {
            // In their order; those without room for more after the others, and last those that get nothing.
            let turn = usize::from(!ceilings.has_room(row)) + 2 * usize::from(row.allowed == 0);
            let behind = at + 1 + turn * rows;
            candidate.set_aside(u8::try_from(behind).unwrap_or(u8::MAX));
        }
    });
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
