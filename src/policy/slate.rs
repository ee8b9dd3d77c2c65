//! [`Slate`]: the candidates of one decision, as policies see and mark them.

use super::ground::{Ground, Source};
use super::{Contender, PlanContext, RoutingPolicy, Window};
use crate::budget::Hedge;
use crate::decision::names::{Lead, Terms, lead};
use crate::decision::record::{Entry, LEVEL_NORMAL, Place, Region, RegionIndex, Sheet, Tier};
use crate::decision::{Next, Reason, RegionRow};
use crate::facts::Profile;
use crate::rng::mix;
use crate::time::Instant;
use crate::unwind::contain;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// The working set of one decision.
///
/// Policies rank, charge, demote, reject and readmit; nothing is ever removed, so in the end the slate is the
/// explanation. Candidates are read lazily, and every value that is read is recorded.
///
/// The candidates are those of the *current tier*: the backends of the model that the request asks for, until a
/// policy [opens](Self::open) another model.
#[derive(Debug)]
pub struct Slate<'a> {
    pub(super) sheet: &'a mut Sheet,
    pub(super) ground: Ground<'a>,
    pub(super) window: Window,
    /// How full a backend may be for the request, in thousandths.
    pub(super) ceiling: u32,
    /// The tier that `candidates` speaks of.
    pub(super) current: Option<usize>,
}

impl<'a> Slate<'a> {
    /// Moves on to the backends of `model` (`name`, `name@version`, or what the
    /// [registry](crate::router::Builder::registry) knows by this name) and makes them the current tier. `false` when no
    /// backend serves it. Candidates of tiers opened before stay as they are.
    pub fn open(&mut self, model: &str) -> bool {
        let position = self.position(model);
        position.is_some() && self.enter(position)
    }

    /// Where the model stands in the roster that serves this name.
    fn position(&self, name: &str) -> Option<u32> {
        let PlanContext { facts, seed, names, .. } = *self.ground.cx;
        let model = match lead(names, name, facts, seed) {
            Lead::Unknown => name,
            Lead::Refused(_) => return None,
            Lead::To(route) => route.version,
        };
        match self.ground.source {
            Source::Live { live, .. } => live.fleet.model(model),
            Source::Recorded(_) => {
                self.ground.roster.models.iter().position(|name| **name == *model).map(|at| at as u32)
            }
        }
    }

    /// Opens `model` unless it is on the slate already.
    pub(super) fn visit(&mut self, model: &str) -> bool {
        let tiers = self.sheet.tiers.len();
        self.open(model) && self.sheet.tiers.len() > tiers
    }

    /// Whether a tier of this model is on the slate.
    pub(super) fn is_open(&self, model: &str) -> bool {
        let position = self.position(model);
        position.is_some() && self.sheet.tiers.iter().any(|tier| tier.model == position)
    }

    /// Whether a backend serves this model; what it may be, [`open`](Self::open) says.
    pub fn has_model(&self, model: &str) -> bool {
        self.position(model).is_some()
    }

    /// Gives every usable candidate of the current tier a cost; the lowest is best. Costs are integers, so there
    /// is no NaN; the unit is the policy's own. Among equals the decision's seed chooses.
    pub fn rank(&mut self, mut cost: impl FnMut(&mut Contender<'_>) -> u64) {
        self.each(|candidate| {
            let cost = cost(candidate);
            candidate.rank(cost);
        });
    }

    /// Visits the usable candidates of the current tier. Where a policy outside this one set groups aside (as
    /// [`region_failover`](super::PolicyExt::region_failover) does with all regions but one), these are the first group's.
    pub fn each(&mut self, visit: impl FnMut(&mut Contender<'_>)) {
        self.visit_where(Entry::ready, visit);
    }

    /// Visits the rejected candidates of the current tier.
    pub fn each_rejected(&mut self, visit: impl FnMut(&mut Contender<'_>)) {
        self.visit_where(|entry| !entry.admitted(), visit);
    }

    #[inline]
    fn visit_where(&mut self, which: impl Fn(&Entry) -> bool, mut visit: impl FnMut(&mut Contender<'_>)) {
        let range = self.range();
        let Some(tier) = self.current else { return };
        let Sheet { entries, readings, tiers, .. } = &mut *self.sheet;
        let Tier { regular, version, .. } = &mut tiers[tier];
        let version = *version;
        for (entry, readings) in entries[range.clone()].iter_mut().zip(&mut readings[range]) {
            if which(entry) {
                visit(&mut Contender { entry, readings, regular, ground: &self.ground, version });
            }
        }
    }

    /// Whether any candidate of the current tier is usable.
    pub fn is_usable(&mut self) -> bool {
        let range = self.range();
        self.sheet.entries[range].iter().any(Entry::admitted)
    }

    /// A number for policies that take turns. It grows by one with each request for the current tier's model; a
    /// retry does not count as another request.
    pub fn tick(&mut self) -> u64 {
        self.range();
        let Some(at) = self.current else { return 0 };
        let tier = &self.sheet.tiers[at];
        if let Some(tick) = tier.tick {
            return tick;
        }
        let tick = match self.ground.source {
            Source::Live { live, peek: true } => live.fleet.pool(tier.model).turns().load(Ordering::Relaxed),
            Source::Live { live, peek: false } => live.fleet.pool(tier.model).turns().fetch_add(1, Ordering::Relaxed),
            Source::Recorded(sheet) => {
                sheet.tiers.iter().find(|recorded| recorded.model == tier.model).and_then(|tier| tier.tick).unwrap_or(0)
            }
        };
        self.sheet.tiers[at].tick = Some(tick);
        tick
    }

    /// For leaves that take the best of all: a candidate that warms up looks idle, so every request that may would go
    /// there, from every router. It may be the best for one in as many requests as there are candidates.
    pub(super) fn hold_back_newcomers(&mut self, seed: u64) {
        if self.is_regular() {
            return;
        }
        let mut usable = 0u64;
        self.each(|_| usable += 1);
        self.each(|candidate| {
            let warms_up =
                matches!(candidate.note(), Some(Reason::RampingUp { .. })) && candidate.level() == LEVEL_NORMAL;
            let turn = || mix(seed, candidate.id().slot() as u64 ^ NEWCOMER_STREAM).is_multiple_of(usable);
            if warms_up && !turn() {
                candidate.put_behind();
            }
        });
    }

    /// Whether somebody may be used who was not set aside.
    pub(super) fn has_ready(&mut self) -> bool {
        let range = self.range();
        self.sheet.entries[range].iter().any(Entry::ready)
    }

    /// Makes the nearest of the groups that were set aside the first, where nobody in the first may be used. Returns
    /// whether there was one.
    pub(super) fn advance(&mut self) -> bool {
        if self.has_ready() {
            return false;
        }
        let range = self.range();
        let entries = &mut self.sheet.entries[range];
        let nearest = entries.iter().filter(|entry| entry.admitted()).map(|entry| entry.aside).min();
        let Some(nearest) = nearest else { return false };
        for entry in entries.iter_mut().filter(|entry| entry.aside == nearest) {
            entry.aside = 0;
        }
        true
    }

    /// Says what the driver does, instead of calling the best candidate.
    pub fn conclude(&mut self, next: Next) {
        self.sheet.next = Some(next);
    }

    /// Allows this many attempts for the request, the first included; without it there is one. What counts is
    /// [`PlanContext::attempts_counted`](super::PlanContext::attempts_counted).
    pub fn allow_attempts(&mut self, attempts: u32) {
        self.sheet.attempts_allowed = Some(attempts);
    }

    /// Limits the next attempt: it is given up at `at`, and that counts against its backend.
    pub fn limit_attempt(&mut self, at: Instant) {
        self.sheet.attempt_limit = Some((at, false));
    }

    /// Limits the next attempt because the caller has no more time for it. Whether giving it up counts against its
    /// backend depends on how long it had.
    pub fn cut_attempt(&mut self, at: Instant) {
        self.sheet.attempt_limit = Some((at, true));
    }

    /// Hedges the next attempt under these rules: another is sent beside it when its answer has not begun in time. Not where
    /// this decides a hedge itself: there is one for a request.
    ///
    /// ```
    /// use fallway::budget::Hedge;
    /// use fallway::facts::Priority;
    /// use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, policy_fn, predicted_ttft};
    ///
    /// // Whoever is critical does not wait for the slowest of a hundred.
    /// let hedge = Hedge::of(0.01)?;
    /// let policy = policy_fn("hedged", move |cx, slate| {
    ///     if cx.facts().request_priority() == Priority::Critical {
    ///         slate.hedge(hedge);
    ///     }
    ///     predicted_ttft().plan(cx, slate);
    /// });
    /// let policy = policy.fail_safe(FailSafe::default());
    /// # drop(policy);
    /// # Ok::<(), fallway::budget::InvalidHedge>(())
    /// ```
    pub const fn hedge(&mut self, hedge: Hedge) {
        self.sheet.hedge = Some(hedge);
    }

    /// Whether the current tier is one that a backend of this profile serves.
    pub(super) fn is_of(&self, profile: &Profile) -> bool {
        let tier = self.current.and_then(|tier| self.sheet.tiers[tier].model);
        tier.is_none_or(|model| {
            let name = Some(&*self.ground.roster.models[model as usize]);
            name == profile.full_model() || name == profile.model_name()
        })
    }

    /// Runs another policy on this slate and contains its panic: then the candidates of the current tier that were
    /// not rejected until then stand in the order of the fleet, behind whom they were set aside for, and the result is `false`.
    pub fn plan_with(&mut self, policy: &(impl RoutingPolicy + ?Sized), cx: &PlanContext<'_>) -> bool {
        let whole = contain(|| policy.plan(cx, self)).is_some();
        if !whole {
            self.sheet.policy_panicked = true;
            for index in self.range() {
                let Entry { seat, tier, known, aside, rejected, .. } = self.sheet.entries[index];
                let mut entry = Entry { known, aside, cost: u64::from(seat), ..Entry::new(seat, tier) };
                if let Some(finding) = self.sheet.findings.iter().find(|finding| finding.index == index) {
                    finding.apply(&mut entry);
                }
                self.sheet.entries[index] = Entry { rejected, ..entry };
            }
        }
        whole
    }

    /// The candidates of the current tier, by index; opens the requested model where nothing is open yet.
    #[inline]
    pub(super) fn range(&mut self) -> Range<usize> {
        if self.current.is_none() {
            self.open_requested();
        }
        match self.current {
            Some(tier) => {
                let tier = &self.sheet.tiers[tier];
                tier.first..tier.first + tier.len
            }
            None => 0..0,
        }
    }

    #[inline(never)]
    fn open_requested(&mut self) {
        match self.ground.cx.facts.requested_model() {
            Some(model) => self.open(model),
            None => self.enter(None),
        };
    }

    pub(super) fn contender(&mut self, index: usize) -> Contender<'_> {
        let tier = usize::from(self.sheet.entries[index].tier);
        Contender {
            entry: &mut self.sheet.entries[index],
            readings: &mut self.sheet.readings[index],
            version: self.sheet.tiers[tier].version,
            regular: &mut self.sheet.tiers[tier].regular,
            ground: &self.ground,
        }
    }

    /// The lowest level of a usable candidate, and how many have it: those among which a leaf may spread load.
    pub(super) fn front(&mut self) -> (u8, usize) {
        let range = self.range();
        if self.is_regular() {
            return (LEVEL_NORMAL, range.len());
        }
        let levels = self.sheet.entries[range].iter().filter(|entry| entry.ready()).map(|entry| entry.level);
        levels.fold((u8::MAX, 0), |(level, count), next| match next.cmp(&level) {
            std::cmp::Ordering::Less => (next, 1),
            std::cmp::Ordering::Equal => (level, count + 1),
            std::cmp::Ordering::Greater => (level, count),
        })
    }

    /// The index of the `nth` usable candidate at `level`.
    pub(super) fn nth_at(&mut self, level: u8, nth: usize) -> Option<usize> {
        let mut range = self.range();
        if self.is_regular() {
            return range.nth(nth);
        }
        let at_level = |index: &usize| {
            let entry = &self.sheet.entries[*index];
            entry.ready() && entry.level == level
        };
        range.filter(at_level).nth(nth)
    }

    /// Whether every candidate of the current tier is usable and none stands before or behind the others.
    pub(super) fn is_regular(&self) -> bool {
        self.current.is_some_and(|tier| self.sheet.tiers[tier].regular)
    }

    /// A row for each region of the current tier, with what is remembered of it; they begin at the index that is
    /// returned, by rank and then in the order of the fleet. Rows of an earlier look at the tier are gone.
    pub(super) fn open_regions(&mut self, rank: impl Fn(&Region) -> Option<u8>) -> usize {
        let Some(current) = self.current else { return self.sheet.regions.len() };
        let (tier, model) = (current as u8, self.sheet.tiers[current].model);
        let Sheet { regions, .. } = &mut *self.sheet;
        if regions.iter().any(|row| row.tier == tier) {
            regions.retain(|row| row.tier != tier);
        }
        let first = regions.len();
        let mut add = |region: RegionIndex, state, seats| {
            let rank = rank(&self.ground.roster.regions[usize::from(region)]);
            regions.push(RegionRow::new(tier, region, rank, state, seats));
        };
        match self.ground.source {
            Source::Live { live, .. } => {
                for area in live.fleet.pool(model).areas() {
                    add(area.region, area.gate.read(), area.seats);
                }
            }
            Source::Recorded(sheet) => {
                let same = |row: &&RegionRow| sheet.tiers[usize::from(row.tier)].model == model;
                sheet.regions.iter().filter(same).for_each(|row| add(row.region, row.before, row.seats));
            }
        }
        let rows = &mut regions[first..];
        if !rows.is_sorted_by_key(RegionRow::order) {
            rows.sort_unstable_by_key(RegionRow::order);
        }
        first
    }

    /// Visits every candidate of the current tier, those that were rejected or set aside too, with the row of its region
    /// and where that row stands.
    #[inline]
    pub(super) fn each_with_region(
        &mut self,
        first: usize,
        mut visit: impl FnMut(usize, &mut RegionRow, Place, &mut Contender<'_>),
    ) {
        let range = self.range();
        let Some(tier) = self.current else { return };
        let Sheet { entries, readings, tiers, regions, .. } = &mut *self.sheet;
        let Tier { regular, version, .. } = &mut tiers[tier];
        let rows = &mut regions[first..];
        let (ground, version) = (&self.ground, *version);
        for (entry, readings) in entries[range.clone()].iter_mut().zip(&mut readings[range]) {
            let place = ground.roster.places[entry.seat as usize];
            let Some(at) = rows.iter().position(|row| row.region == place.region) else { continue };
            let mut candidate = Contender { entry, readings, regular, ground, version };
            visit(at, &mut rows[at], place, &mut candidate);
        }
    }

    pub(super) fn tier_mut(&mut self) -> Option<&mut Tier> {
        self.current.map(|tier| &mut self.sheet.tiers[tier])
    }

    fn enter(&mut self, model: Option<u32>) -> bool {
        if let Some(tier) = self.sheet.tiers.iter().position(|tier| tier.model == model) {
            self.current = Some(tier);
            return true;
        }
        let first = self.sheet.entries.len();
        let tier = u8::try_from(self.sheet.tiers.len()).unwrap_or(u8::MAX);
        let version = self.version(model);
        let (passed, total) = match self.ground.source {
            Source::Live { live, .. } => self.look(live, live.fleet.pool(model), tier),
            Source::Recorded(sheet) => {
                let Some(recorded) = sheet.tiers.iter().find(|tier| tier.model == model) else { return false };
                for index in recorded.first..recorded.first + recorded.len {
                    let Entry { seat, known, .. } = sheet.entries[index];
                    let entry = Entry { known, ..Entry::new(seat, tier) };
                    match sheet.findings.iter().find(|finding| finding.index == index) {
                        Some(finding) => self.sheet.push_finding(entry, *finding),
                        None => self.sheet.push(entry),
                    }
                    self.sheet.cover();
                    let copy = self.sheet.entries.len() - 1;
                    self.sheet.readings[copy] = sheet.readings[index];
                }
                (recorded.passed, recorded.total)
            }
        };
        self.sheet.cover();
        let len = self.sheet.entries.len() - first;
        let irregular = self.sheet.findings.last().is_some_and(|finding| finding.index >= first);
        let regular = !irregular;
        self.sheet.tiers.push(Tier { model, version, first, len, passed, total, panic: false, regular, tick: None });
        self.current = Some(self.sheet.tiers.len() - 1);
        true
    }

    /// Which version of the registry a model is; what is known of that holds for those who do not say.
    fn version(&mut self, model: Option<u32>) -> Option<u32> {
        let found = self.ground.cx.names.zip(model).and_then(|(names, model)| {
            let version = names.version(&self.ground.roster.models[model as usize])?;
            Some((version, names.terms(version)))
        });
        self.ground.terms = found.map_or(Terms::UNKNOWN, |(_, terms)| terms);
        found.map(|(version, _)| version)
    }
}

/// Separates the draws for newcomers from other draws of the decision.
const NEWCOMER_STREAM: u64 = 0x4e45_5743;
