//! One generation of everything static, and the live state of each backend behind it.
//!
//! A [`Fleet`] never changes. An update builds the next one, which shares the [`Member`]s that stay, and publishes
//! it by a single swap; a decision works in the generation that it loaded.

mod aside;
mod pool;

pub(crate) use aside::Aside;
#[cfg(feature = "registry")]
pub(crate) use aside::Placed;
pub(crate) use pool::{Area, Pool};

use crate::backend::BackendId;
use crate::bug;
use crate::decision::record::{Place, Region, RegionIndex, Roster};
use crate::facts::{Capabilities, Facts, Profile};
use crate::limit::{Gauge, Quotas};
use crate::prefix::PrefixIndex;
use crate::recover::{Alarm, Ejection, Recovery, RegionGate, Throttle, Ties};
use crate::rng::hash_str;
use crate::signal::{LatencyModel, LoadReports, Reported};
use crate::time::{Dated, Instant};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The live state of one backend, shared by every generation that has it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Member {
    pub(crate) id: BackendId,
    pub(crate) gauge: Gauge,
    pub(crate) quotas: Quotas,
    pub(crate) recovery: Arc<Recovery>,
    pub(crate) latency: LatencyModel,
    /// Its queue and how full it is, where it reports that.
    reported: OnceLock<Arc<Reported>>,
    /// What this router sent since it last said how many tokens wait there, in the unit of that.
    sent: Dated,
    pub(crate) prefixes: PrefixIndex,
    /// Kept where the policy asks for it.
    pub(crate) throttle: Throttle,
    /// When the lease of the canary that is out expires.
    canary_until: AtomicU64,
    /// How long it is left alone without calls before a canary looks after it, in nanoseconds.
    patience: AtomicU64,
    /// The usual time between two calls that were no canaries, in nanoseconds.
    gap: AtomicU64,
}

/// What others have waiting at the backends of a router, as far as the backends report it.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    reports: Option<Arc<LoadReports>>,
    /// The usual prompt of this router's requests, in tokens: what it takes the prompts of others for.
    usual: AtomicU64,
}

/// How much of the usual prompt the latest is, as a power of two.
const USUAL_SHIFT: u32 = 6;

impl Crowd {
    pub(crate) const fn new(reports: Option<Arc<LoadReports>>) -> Self {
        Self { reports, usual: AtomicU64::new(0) }
    }

    /// The backends are these from now on.
    pub(crate) fn follow(&self, fleet: &Fleet) {
        let Some(reports) = &self.reports else { return };
        for Berth { member, .. } in &fleet.berths {
            if let Some(reported) = reports.reported(member.id) {
                // Stays with the backend.
                let _ = member.reported.set(reported);
            }
        }
    }

    /// So many prompt tokens are sent to `member`.
    pub(crate) fn note(&self, member: &Member, tokens: u64, now: Instant) {
        if let Some((_, at)) = member.reported_tokens(now) {
            member.sent.add_since(at, tokens.div_ceil(Reported::UNIT));
        }
        if self.reports.is_some() {
            let usual = self.usual.load(Ordering::Relaxed);
            let tokens = tokens.min(u64::from(u32::MAX));
            let next = if usual == 0 { tokens } else { usual - (usual >> USUAL_SHIFT) + (tokens >> USUAL_SHIFT) };
            self.usual.store(next, Ordering::Relaxed);
        }
    }

    /// Prompt tokens of others that wait for `member`: its queue, less what this router has there. A stale report says
    /// nothing.
    #[inline]
    pub(crate) fn waiting(&self, member: &Member, now: Instant) -> u64 {
        if let Some((there, at)) = member.reported_tokens(now) {
            // What is on its way is on the own books only: they are the least that waits.
            return ((there + member.sent.since(at)) * Reported::UNIT).saturating_sub(member.gauge.waiting_tokens());
        }
        let Some(reported) = member.reported.get() else { return 0 };
        let (waiting, _) = reported.waiting.read(now, LoadReports::STALE_AFTER);
        waiting.saturating_sub(member.gauge.waiting_calls().into()).saturating_mul(self.usual.load(Ordering::Relaxed))
    }
}

/// How long a backend that gets no calls is left alone before a request looks after it, at first and at most: the
/// time doubles while nothing has become better.
const CANARY_INTERVAL: (u64, u64) = (10_000_000_000, 40_000_000_000);
/// How many usual pauses make a long one.
const PAUSES: u64 = 4;
/// How much of the usual pause the latest is, as a power of two.
const GAP_SHIFT: u32 = 3;

/// What a decision compares for every candidate, beside each other in memory.
#[derive(Debug)]
pub(crate) struct Berth {
    pub(crate) member: Arc<Member>,
    pub(crate) ties: Arc<Ties>,
    /// What the profile says; `u32::MAX` for no limit.
    limit: u32,
    /// What is learned of the limit counts as well.
    adaptive: bool,
    /// `None` where the profile does not say.
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) context_window: u64,
    /// Tokens of prompts that it keeps; `u64::MAX` where the profile does not say.
    pub(crate) prefix_cache: u64,
    pub(crate) region: RegionIndex,
    pub(crate) drained: bool,
    /// The policy serves no request in its region.
    pub(crate) barred: bool,
    /// The profile restricts tenants; look there.
    pub(crate) picky: bool,
}

impl Berth {
    /// The most calls that may be in flight now; `u32::MAX` for no limit.
    #[inline]
    pub(crate) fn limit(&self) -> u32 {
        if self.adaptive { self.limit.min(self.member.gauge.learned().read()) } else { self.limit }
    }

    /// The part of that which was learned.
    pub(crate) fn learned(&self) -> Option<u32> {
        self.adaptive.then(|| self.member.gauge.learned().read()).filter(|limit| *limit != u32::MAX)
    }
}

/// One immutable generation.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) roster: Arc<Roster>,
    pub(crate) berths: Vec<Berth>,
    /// Positions in `pools` by model name, with and without version.
    by_model: FxHashMap<Box<str>, u32>,
    pools: Vec<Pool>,
    everything: Pool,
    /// Some profile has a quota, or bounds tokens.
    pub(crate) metered: bool,
    pub(crate) aside: Aside,
}

impl Member {
    /// Whoever was called before, and is left alone for so long, is looked after.
    #[cfg(feature = "sim")]
    pub(crate) const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_nanos(PAUSES * CANARY_INTERVAL.1);

    pub(crate) fn new(id: BackendId, alarm: &Arc<Alarm>, ejection: &Ejection) -> Self {
        Self::with(id, Recovery::new(id.slot(), alarm, ejection))
    }

    pub(crate) fn joining(id: BackendId, alarm: &Arc<Alarm>, ejection: &Ejection, now: Instant) -> Self {
        Self::with(id, Recovery::joining(id.slot(), alarm, ejection, now))
    }

    fn with(id: BackendId, recovery: Recovery) -> Self {
        Self {
            id,
            gauge: Gauge::default(),
            quotas: Quotas::default(),
            recovery: Arc::new(recovery),
            latency: LatencyModel::default(),
            reported: OnceLock::new(),
            sent: Dated::default(),
            prefixes: PrefixIndex::default(),
            throttle: Throttle::default(),
            canary_until: AtomicU64::new(0),
            patience: AtomicU64::new(CANARY_INTERVAL.0),
            gap: AtomicU64::new(0),
        }
    }

    /// How many prompt tokens wait there as it says, and when it said so; `None` where it does not, or did long ago.
    #[inline]
    fn reported_tokens(&self, now: Instant) -> Option<(u64, Instant)> {
        self.reported.get()?.tokens.fresh(now, LoadReports::STALE_AFTER)
    }

    /// How full it says that it is, in thousandths, and when it said so. A stale report says nothing.
    #[inline]
    pub(crate) fn reported_full(&self, now: Instant) -> (u32, Instant) {
        let Some(reported) = self.reported.get() else { return (0, Instant::default()) };
        let (full, at) = reported.full.read(now, LoadReports::STALE_AFTER);
        (full as u32, at)
    }

    /// Its load now.
    pub(crate) fn load(&self, now: Instant) -> crate::decision::Load {
        let load = self.gauge.read();
        let unused = now.nanos_since(load.last_called);
        // Where a router sends little, a pause is no sign that a backend is avoided.
        let pause = self.gap.load(Ordering::Relaxed).saturating_mul(PAUSES);
        let stale = unused > self.patience.load(Ordering::Relaxed).max(pause);
        crate::decision::Load { canary_out: self.canary_out(now), stale, ..load }
    }

    /// It is called because it was chosen, after `gap` nanoseconds without a call.
    pub(crate) fn note_gap(&self, gap: u64) {
        let usual = self.gap.load(Ordering::Relaxed);
        let gap = gap.min(CANARY_INTERVAL.1);
        let usual = if usual == 0 { gap } else { usual - (usual >> GAP_SHIFT) + (gap >> GAP_SHIFT) };
        self.gap.store(usual, Ordering::Relaxed);
    }

    /// A canary has come back, or has not.
    pub(crate) fn canary_said(&self, better: bool) {
        let patience = self.patience.load(Ordering::Relaxed);
        let next = if better { CANARY_INTERVAL.0 } else { (patience * 2).min(CANARY_INTERVAL.1) };
        self.patience.store(next, Ordering::Relaxed);
    }

    /// Whether a canary is on its way.
    fn canary_out(&self, now: Instant) -> bool {
        self.canary_until.load(Ordering::Acquire) > now.as_nanos()
    }

    /// Takes the canary's lease; `false` when another has it.
    pub(crate) fn claim_canary(&self, now: Instant) -> bool {
        let until = (now + Ejection::PROBE_LEASE).as_nanos();
        let claim = |held: u64| (held <= now.as_nanos()).then_some(until);
        let claimed = self.canary_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).is_ok();
        if claimed {
            self.latency.settle();
        }
        claimed
    }

    pub(crate) fn return_canary(&self) {
        self.canary_until.store(0, Ordering::Release);
    }
}

impl Fleet {
    pub(crate) fn new(
        generation: u64,
        signals: Vec<&'static str>,
        members: impl IntoIterator<Item = (Arc<Profile>, Arc<Member>, Arc<Ties>)>,
        aside: Aside,
        allowed: impl Fn(Option<&str>) -> bool,
        mut gate: impl FnMut(Option<&str>, &str) -> Arc<RegionGate>,
    ) -> Self {
        let mut regions = vec![Region { name: "".into(), hash: hash_str(""), allowed: allowed(None) }];
        let mut seats = Vec::new();
        let mut berths = Vec::new();
        let mut places = Vec::new();
        let mut metered = false;
        for (profile, member, ties) in members {
            let name = profile.region.as_deref().unwrap_or_default();
            let region = match regions.iter().position(|region| *region.name == *name) {
                Some(index) => index,
                None => {
                    regions.push(Region { name: name.into(), hash: hash_str(name), allowed: allowed(Some(name)) });
                    regions.len() - 1
                }
            };
            let region = RegionIndex::try_from(region).unwrap_or(RegionIndex::MAX);
            places.push(Place { region, limit: profile.concurrency.unwrap_or(u32::MAX), capacity: 0 });
            let limit = profile.concurrency.unwrap_or(u32::MAX).saturating_add(u32::from(bug::LIMIT_PLUS_ONE));
            let adaptive = profile.adaptive.is_some();
            member.gauge.set_limit(limit, adaptive);
            member.gauge.set_bounds(&profile);
            member.quotas.tell(&profile);
            metered |= profile.has_quota() || profile.bounds_tokens();
            seats.push((member.id, profile.clone()));
            berths.push(Berth {
                member,
                ties,
                limit,
                adaptive,
                capabilities: profile.capabilities,
                context_window: profile.context_window.unwrap_or(u64::MAX),
                prefix_cache: profile.prefix_cache.unwrap_or(u64::MAX),
                region,
                barred: !regions[usize::from(region)].allowed,
                drained: profile.drained || aside.stops(profile.id(), name),
                picky: !profile.tenants.is_empty(),
            });
        }
        let mut by_model: FxHashMap<Box<str>, u32> = FxHashMap::default();
        let mut models: Vec<Box<str>> = Vec::new();
        let mut pools: Vec<Pool> = Vec::new();
        let mut everything = Pool::new();
        for (seat, (_, profile)) in (0u32..).zip(&seats) {
            let place = (berths[seat as usize].region, hash_str(profile.id()), seat);
            everything.add(place, &berths[seat as usize]);
            for name in [profile.model_name(), profile.full_model()].into_iter().flatten() {
                let index = *by_model.entry(name.into()).or_insert_with(|| {
                    models.push(name.into());
                    pools.push(Pool::new());
                    models.len() as u32 - 1
                });
                // A model without a version has one name only.
                if pools[index as usize].seats.last() != Some(&seat) {
                    pools[index as usize].add(place, &berths[seat as usize]);
                }
            }
        }
        let names = models.iter().map(|name| Some(&**name)).chain([None]);
        for (pool, model) in pools.iter_mut().chain([&mut everything]).zip(names) {
            pool.sort();
            // What all of a model say they can take; else their weights.
            let limited = pool.seats.iter().all(|seat| seats[*seat as usize].1.concurrency.is_some());
            for seat in &pool.seats {
                let (seat, profile) = (*seat as usize, &seats[*seat as usize].1);
                let weight = (profile.weight * 1000.0).clamp(0.0, f64::from(u32::MAX)) as u64;
                if places[seat].capacity == 0 {
                    places[seat].capacity =
                        if limited { profile.concurrency.unwrap_or(0).into() } else { weight }.max(1);
                }
                let region = places[seat].region;
                match pool.areas.iter_mut().find(|area| area.region == region) {
                    Some(area) => area.seats += 1,
                    None => {
                        let gate = gate(model, &regions[usize::from(region)].name);
                        pool.areas.push(Area { region, seats: 1, gate });
                    }
                }
            }
        }
        Self {
            roster: Arc::new(Roster { generation, seats, models, signals, places, regions }),
            berths,
            by_model,
            pools,
            everything,
            metered,
            aside,
        }
    }

    /// The position of a model, by its name with or without version.
    pub(crate) fn model(&self, name: &str) -> Option<u32> {
        // A few names are compared faster than one is hashed.
        if self.roster.models.len() <= 4 {
            return self.roster.models.iter().position(|model| **model == *name).map(|at| at as u32);
        }
        self.by_model.get(name).copied()
    }

    /// The backends of a model; of all models for `None`.
    pub(crate) fn pool(&self, model: Option<u32>) -> &Pool {
        model.map_or(&self.everything, |model| &self.pools[model as usize])
    }

    pub(crate) fn profile(&self, seat: u32) -> &Arc<Profile> {
        &self.roster.seats[seat as usize].1
    }

    /// The gates of a region, of all models.
    pub(crate) fn gates(&self, region: &str) -> impl Iterator<Item = &Arc<RegionGate>> {
        let index = self.roster.regions.iter().position(|known| *known.name == *region);
        let index = index.and_then(|index| RegionIndex::try_from(index).ok());
        self.pools.iter().chain([&self.everything]).filter_map(move |pool| pool.gate(index?))
    }

    /// Whether a backend stands in a region or a zone of this name.
    pub(crate) fn has_place(&self, name: &str) -> bool {
        let zone = |(_, profile): &(BackendId, Arc<Profile>)| profile.zone_name() == Some(name);
        self.has_region(name) || self.roster.seats.iter().any(zone)
    }

    pub(crate) fn has_region(&self, name: &str) -> bool {
        self.roster.regions[1..].iter().any(|region| *region.name == *name)
    }

    /// Whether the policy serves no request in some region of the pool.
    pub(crate) fn bars(&self, pool: &Pool) -> bool {
        pool.areas.iter().any(|area| !self.roster.regions[usize::from(area.region)].allowed)
    }

    /// Whether the request may be served in this region.
    pub(crate) fn may_serve(&self, facts: &Facts, region: RegionIndex) -> bool {
        let Region { name, allowed, .. } = &self.roster.regions[usize::from(region)];
        *allowed && (!facts.has_residency() || (region > 0 && facts.allows_region(name)))
    }
}
