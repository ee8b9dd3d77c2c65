//! One generation of everything static, and the live state of each backend behind it.
//!
//! A [`Fleet`] never changes. An update builds the next one, which shares the [`Member`]s that stay, and publishes
//! it by a single swap; a decision works in the generation that it loaded.

use crate::backend::BackendId;
use crate::bug;
use crate::decision::record::{Place, Region, RegionIndex, Roster};
use crate::facts::{Capabilities, Facts, Profile};
use crate::limit::Gauge;
use crate::recover::{Alarm, Ejection, Recovery, RegionGate, Ties};
use crate::rng::hash_str;
use crate::signal::{LatencyModel, LoadReports, Reading};
use crate::time::Instant;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The live state of one backend, shared by every generation that has it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Member {
    pub(crate) id: BackendId,
    pub(crate) gauge: Gauge,
    pub(crate) recovery: Arc<Recovery>,
    pub(crate) latency: LatencyModel,
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

    /// A request is sent.
    pub(crate) fn note(&self, tokens: u64) {
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
        match &self.reports {
            Some(reports) => self.reported(reports, member, now),
            None => 0,
        }
    }

    fn reported(&self, reports: &LoadReports, member: &Member, now: Instant) -> u64 {
        let Reading::Fresh { value, .. } = reports.load(member.id, now) else { return 0 };
        let others = value.waiting.unwrap_or(0).saturating_sub(member.gauge.waiting_calls().into());
        others.saturating_mul(self.usual.load(Ordering::Relaxed))
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
    /// `u32::MAX` for no limit.
    pub(crate) limit: u32,
    /// `None` where the profile does not say.
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) context_window: u64,
    pub(crate) region: RegionIndex,
    pub(crate) drained: bool,
    /// The profile restricts tenants; look there.
    pub(crate) picky: bool,
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
    /// Regions whose backends are drained, whatever their profiles say.
    pub(crate) evacuated: BTreeSet<String>,
}

/// The backends of one model (or one version of it).
#[derive(Debug)]
pub(crate) struct Pool {
    /// Seats in the order of the fleet.
    pub(crate) seats: Vec<u32>,
    /// The smallest context window.
    pub(crate) least_window: u64,
    /// Some backend is drained or chooses its tenants.
    pub(crate) selective: bool,
    /// Seats around a ring by the hash of their names. The order is unrelated to how a host lists its backends,
    /// and stays when others come and go.
    ring: Ring,
    /// The same by region, for requests that are bound to some.
    regions: Vec<(RegionIndex, Ring)>,
    /// How each region is for this model.
    gates: Vec<(RegionIndex, Arc<RegionGate>)>,
    turns: Turns,
}

/// Alone on its cache line: threads that decide under a policy that takes turns write it all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Turns(AtomicU64);

type Ring = Vec<(u64, u32)>;

/// How many regions have a ring of their own. The others share the last; membership is checked per backend anyway.
const RINGS: usize = 16;

/// Where a window on a large pool begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// At the first backend of the fleet.
    First,
    /// At this point of the ring.
    At(u64),
}

impl Member {
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
            recovery: Arc::new(recovery),
            latency: LatencyModel::default(),
            canary_until: AtomicU64::new(0),
            patience: AtomicU64::new(CANARY_INTERVAL.0),
            gap: AtomicU64::new(0),
        }
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
        self.canary_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).is_ok()
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
        evacuated: BTreeSet<String>,
        mut gate: impl FnMut(Option<&str>, &str) -> Arc<RegionGate>,
    ) -> Self {
        let mut regions = vec![Region { name: "".into(), hash: hash_str("") }];
        let mut seats = Vec::new();
        let mut berths = Vec::new();
        let mut places = Vec::new();
        for (profile, member, ties) in members {
            let name = profile.region.as_deref().unwrap_or_default();
            let region = match regions.iter().position(|region| *region.name == *name) {
                Some(index) => index,
                None => {
                    regions.push(Region { name: name.into(), hash: hash_str(name) });
                    regions.len() - 1
                }
            };
            let region = RegionIndex::try_from(region).unwrap_or(RegionIndex::MAX);
            places.push(Place { region, limit: profile.concurrency.unwrap_or(u32::MAX), capacity: 0 });
            let limit = profile.concurrency.unwrap_or(u32::MAX).saturating_add(u32::from(bug::LIMIT_PLUS_ONE));
            member.gauge.set_limit(limit);
            seats.push((member.id, profile.clone()));
            berths.push(Berth {
                member,
                ties,
                limit,
                capabilities: profile.capabilities,
                context_window: profile.context_window.unwrap_or(u64::MAX),
                region,
                drained: profile.drained || evacuated.contains(name),
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
                if pool.gates.iter().all(|(known, _)| *known != region) {
                    pool.gates.push((region, gate(model, &regions[usize::from(region)].name)));
                }
            }
        }
        Self {
            roster: Arc::new(Roster { generation, seats, models, signals, places, regions }),
            berths,
            by_model,
            pools,
            everything,
            evacuated,
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

    pub(crate) fn has_region(&self, name: &str) -> bool {
        self.roster.regions[1..].iter().any(|region| *region.name == *name)
    }

    /// Whether the request may be served in this region.
    pub(crate) fn may_serve(&self, facts: &Facts, region: RegionIndex) -> bool {
        !facts.has_residency() || (region > 0 && facts.allows_region(&self.roster.regions[usize::from(region)].name))
    }
}

impl Pool {
    fn new() -> Self {
        Self {
            seats: Vec::new(),
            least_window: u64::MAX,
            selective: false,
            ring: Vec::new(),
            regions: Vec::new(),
            gates: Vec::new(),
            turns: Turns::default(),
        }
    }

    /// The regions in which it has a backend, and how they are.
    pub(crate) fn gates(&self) -> &[(RegionIndex, Arc<RegionGate>)] {
        &self.gates
    }

    /// The gate of a region.
    pub(crate) fn gate(&self, region: RegionIndex) -> Option<&Arc<RegionGate>> {
        self.gates.iter().find(|(known, _)| *known == region).map(|(_, gate)| gate)
    }

    /// Counts the requests that took their turn here.
    pub(crate) const fn turns(&self) -> &AtomicU64 {
        &self.turns.0
    }

    fn add(&mut self, (region, hash, seat): (RegionIndex, u64, u32), berth: &Berth) {
        self.least_window = self.least_window.min(berth.context_window);
        self.selective |= berth.drained || berth.picky;
        self.seats.push(seat);
        self.ring.push((hash, seat));
        let full = self.regions.len() == RINGS;
        match self.regions.iter_mut().find(|(index, _)| *index == region) {
            Some((_, ring)) => ring.push((hash, seat)),
            None if full => self.regions[RINGS - 1].1.push((hash, seat)),
            None => self.regions.push((region, vec![(hash, seat)])),
        }
    }

    fn sort(&mut self) {
        self.ring.sort_unstable();
        for (_, ring) in &mut self.regions {
            ring.sort_unstable();
        }
    }

    /// One full round through the seats of a large pool. Around the ring, regions that `allowed` excludes are left
    /// out, and those that remain take turns in proportion to their size.
    pub(crate) fn round(&self, start: Start, allowed: Option<impl Fn(RegionIndex) -> bool>) -> Round<'_> {
        let Start::At(point) = start else { return Round::List(self.seats.iter()) };
        let mut cursors = [Cursor { ring: &[], first: 0, taken: 0 }; RINGS];
        let cursor = |ring: &'_ Ring| ring.partition_point(|(hash, _)| *hash < point);
        match allowed {
            None => cursors[0] = Cursor { ring: &self.ring, first: cursor(&self.ring), taken: 0 },
            Some(allowed) => {
                let shared = self.regions.len().saturating_sub(1);
                let rings = self.regions.iter().enumerate();
                let rings =
                    rings.filter(|(at, (region, _))| allowed(*region) || (*at == shared && shared + 1 == RINGS));
                for (slot, (_, (_, ring))) in cursors.iter_mut().zip(rings) {
                    *slot = Cursor { ring, first: cursor(ring), taken: 0 };
                }
            }
        }
        Round::Rings(cursors)
    }
}

/// See [`Pool::round`]. Lives on the stack for one decision over a large pool.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Round<'a> {
    List(std::slice::Iter<'a, u32>),
    Rings([Cursor<'a>; RINGS]),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    ring: &'a [(u64, u32)],
    first: usize,
    taken: usize,
}

impl Iterator for Round<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let cursors = match self {
            Round::List(seats) => return seats.next().copied(),
            Round::Rings(cursors) => cursors,
        };
        // Unused places are at the end and empty.
        let cursor = cursors
            .iter_mut()
            .take_while(|cursor| !cursor.ring.is_empty())
            .filter(|cursor| cursor.taken < cursor.ring.len())
            .min_by(|a, b| (a.taken * b.ring.len()).cmp(&(b.taken * a.ring.len())))?;
        let place = (cursor.first + cursor.taken) % cursor.ring.len();
        cursor.taken += 1;
        Some(cursor.ring[place].1)
    }
}
