//! The sheet of paper that a decision is made on: inputs, candidates, verdicts.
//!
//! One record is both the working set of the policies and the explanation that is kept. It holds every value that
//! a policy read, so running the policies over it again must give the same choice.

use super::latency::{Latency, Pace, Spread};
use super::names::Names;
use super::region::{RegionRow, RegionRules};
use super::{AttemptRecord, Beside, Hedged, Next, Reason, TokenLoad};
use crate::backend::BackendId;
use crate::budget::Hedge;
use crate::facts::{Facts, Profile};
use crate::rng::mix;
use crate::shape::{Drawn, Split};
use crate::time::Instant;
use std::cmp::Ordering;
use std::hint::select_unpredictable;
use std::sync::Arc;

/// Names and profiles of one fleet generation, as decisions refer to them.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) generation: u64,
    pub(crate) seats: Vec<(BackendId, Arc<Profile>)>,
    pub(crate) models: Vec<Box<str>>,
    pub(crate) signals: Vec<&'static str>,
    /// By seat.
    pub(crate) places: Vec<Place>,
    /// By index; the first is that of backends without a region.
    pub(crate) regions: Vec<Region>,
}

/// A region by its position in the roster; 0 is "none given".
pub(crate) type RegionIndex = u16;

/// Where a backend stands, and what it can take compared with its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) region: RegionIndex,
    /// `u32::MAX` for no limit.
    pub(crate) limit: u32,
    pub(crate) capacity: u64,
}

/// A region's name, with its hash: names that differ are told apart by one comparison.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: Box<str>,
    pub(crate) hash: u64,
    /// The policy serves requests there.
    pub(crate) allowed: bool,
}

/// How loaded a backend was when it was looked at, as this router sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Load {
    /// Calls in flight.
    pub in_flight: u32,
    /// The most that may be, as far as that was [learned](crate::facts::Adaptive); `None` where nothing was.
    pub learned_limit: Option<u32>,
    /// Prompt tokens of calls that wait for their first item.
    pub waiting_tokens: u64,
    /// Prompt tokens of others that wait there as well: what the backend's own
    /// [report](crate::router::Builder::load_reports) of its queue makes probable.
    pub others_tokens: u64,
    /// Whether a canary is on its way to it.
    pub canary_out: bool,
    /// Whether it was not called for so long that what is known of it may be wrong.
    pub stale: bool,
    // The origin of time stands for "never": plain words make the leaves' comparisons free of branches.
    pub(crate) oldest_wait: Instant,
    pub(crate) last_called: Instant,
    /// When its quotas have enough for this request; the origin of time for now.
    pub(crate) over_quota_until: Instant,
}

impl Load {
    /// Prompt tokens that stand before a newcomer.
    pub(crate) const fn queued_tokens(&self) -> u64 {
        self.waiting_tokens.saturating_add(self.others_tokens)
    }

    /// When the oldest call that still waits for its first item was sent.
    pub fn oldest_wait(&self) -> Option<Instant> {
        (self.oldest_wait != Instant::default()).then_some(self.oldest_wait)
    }

    /// When it was called last.
    pub fn last_called(&self) -> Option<Instant> {
        (self.last_called != Instant::default()).then_some(self.last_called)
    }

    /// For how long the oldest call waits for its first item, in nanoseconds; 0 when none does.
    pub(crate) fn age(&self, now: Instant) -> u64 {
        if self.oldest_wait == Instant::default() { 0 } else { now.nanos_since(self.oldest_wait) }
    }
}

/// One candidate of a decision: two cache lines, for a decision visits each several times.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Entry {
    pub(crate) cost: u64,
    pub(crate) seat: u32,
    pub(crate) tier: u8,
    /// How far behind it stands: 0 for a probe, 1 for most, more for each demotion.
    pub(crate) level: u8,
    /// How many groups of candidates come before its own. Only the first group is ranked and called; the next takes its
    /// place when nobody in it may be used.
    pub(crate) aside: u8,
    /// Which of its readings were taken.
    pub(crate) known: u8,
    pub(crate) rejected: Option<Reason>,
    pub(crate) note: Option<Reason>,
}

/// What was read of a candidate, valid as far as its entry's `known` says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) load: Load,
    pub(crate) latency: Latency,
    pub(crate) spread: Spread,
    /// Its last answers came much sooner than was predicted.
    pub(crate) contradicted: bool,
    pub(crate) pace: Pace,
    /// What it probably has in its cache.
    pub(crate) prefix: Belief,
    /// How full it said that it was, in thousandths, and when.
    pub(crate) reported_full: (u32, Instant),
    /// What it had in flight, where that is bounded in tokens.
    pub(crate) tokens: TokenLoad,
    /// The share of requests to it that is not sent, in thousandths.
    pub(crate) throttled: u32,
}

/// What a backend is believed to have, in tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Belief {
    /// Of a prompt: its beginning.
    pub(crate) cached: u64,
    /// Of all that it is sent: the latest.
    pub(crate) keeps: u64,
    /// Of the rest of the prompt: what others sent there, as a policy supposes.
    pub(crate) supposed: u64,
}

impl Readings {
    /// What the candidate of `entry` probably has of the prompt: as it was read, or else as `read` says now, from here on for all
    /// who ask. `None` where the prompt's prefix is not known.
    #[inline]
    pub(crate) fn prefix(&mut self, entry: &mut Entry, read: impl FnOnce() -> Option<Belief>) -> Option<&mut Belief> {
        if entry.known & KNOWS_CACHED == 0 {
            self.prefix = read()?;
            entry.known |= KNOWS_CACHED;
        }
        Some(&mut self.prefix)
    }
}

/// What the first look said of a candidate that is not in order. A replay starts from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) index: usize,
    pub(crate) level: u8,
    pub(crate) rejected: Option<Reason>,
    pub(crate) note: Option<Reason>,
    /// Signals that should know it are silent, and no other calls it well.
    pub(crate) unproven: bool,
}

/// The level of a candidate that the router itself puts first.
pub(crate) const LEVEL_PROBE: u8 = 0;
/// The level of an ordinary candidate.
pub(crate) const LEVEL_NORMAL: u8 = 1;
/// The cost of a candidate that no policy ranked: usable, after all that were.
pub(crate) const UNRANKED: u64 = u64::MAX;

pub(crate) const KNOWS_LOAD: u8 = 1;
pub(crate) const KNOWS_LATENCY: u8 = 2;
pub(crate) const KNOWS_CACHED: u8 = 4;
pub(crate) const KNOWS_FULL: u8 = 8;
pub(crate) const KNOWS_THROTTLED: u8 = 16;
pub(crate) const KNOWS_SPREAD: u8 = 32;
pub(crate) const KNOWS_TOKENS: u8 = 64;
pub(crate) const KNOWS_PACE: u8 = 128;

impl Entry {
    pub(crate) const fn new(seat: u32, tier: u8) -> Self {
        Self { cost: UNRANKED, seat, tier, level: LEVEL_NORMAL, aside: 0, known: 0, rejected: None, note: None }
    }

    pub(crate) const fn admitted(&self) -> bool {
        self.rejected.is_none()
    }

    /// Whether it may be called now: it is admitted, and its group is the first.
    pub(crate) const fn ready(&self) -> bool {
        self.rejected.is_none() && self.aside == 0
    }

    /// Group, then level, then tier, then cost.
    const fn key(&self) -> u128 {
        ((self.aside as u128) << 80) | ((self.level as u128) << 72) | ((self.tier as u128) << 64) | self.cost as u128
    }
}

/// The candidates of one model.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    /// By its position in the roster; `None` for all models.
    pub(crate) model: Option<u32>,
    /// By its position in the registry, where it is a version of that.
    pub(crate) version: Option<u32>,
    pub(crate) first: usize,
    pub(crate) len: usize,
    /// Backends of the tier that this decision looked at and put aside again, in fleets too large to list.
    pub(crate) passed: usize,
    /// Backends of the tier in the fleet.
    pub(crate) total: usize,
    pub(crate) panic: bool,
    /// Every candidate is admitted and at the normal level: most decisions, and the cheap ones.
    pub(crate) regular: bool,
    /// The turn that policies were told.
    pub(crate) tick: Option<u64>,
}

/// Whether an extra attempt is paid for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Extra {
    /// None was asked for: this decides the first attempt, which is free, or after the last.
    #[default]
    NotAsked,
    /// The shared retry budget paid for another attempt.
    Granted,
    /// The shared retry budget is empty.
    Denied,
}

/// What a policy that forecasts wants to be kept for the attempts that could follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserve {
    /// For each at least, in nanoseconds.
    pub(crate) least: u64,
    /// As long as whole answers take, and not only first tokens.
    pub(crate) whole: bool,
}

/// The record of one decision.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    // Inputs.
    pub(crate) roster: Arc<Roster>,
    /// `None` only in a spare record.
    pub(crate) facts: Option<Arc<Facts>>,
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    /// When the request came.
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
    pub(crate) extra: Extra,
    pub(crate) last_resort: bool,
    pub(crate) dry_run: bool,
    /// Where this decides a hedge.
    pub(crate) beside: Option<Beside>,
    pub(crate) attempts: Vec<AttemptRecord>,
    /// How many of the attempts were over when the sheet was written.
    pub(crate) planned_after: usize,
    /// What attempts in flight may cost, in pico-dollars, when the sheet was written.
    pub(crate) at_stake: u64,
    /// What names mean to the request, from its first decision to its last.
    pub(crate) names: Option<Names>,
    // The sheet.
    pub(crate) sheet: Sheet,
    /// What the driver makes of the wish to hedge.
    pub(crate) hedged: Hedged,
    /// What the driver did instead, in the end.
    pub(crate) verdict: Option<Next>,
    /// When it did so; later than `now` where it waited before.
    pub(crate) verdict_at: Instant,
}

impl Record {
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        self.facts.as_ref().expect("a record in use has the facts of its request")
    }

    /// Tokens of its answer that broken attempts delivered, which go along with a request for the rest.
    pub(crate) fn carried(&self) -> u64 {
        self.attempts.iter().fold(0, |sum, attempt| sum.saturating_add(attempt.broken_off()))
    }
}

/// What the policies write on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) entries: Vec<Entry>,
    /// By the index of the entry; kept from one decision to the next, so what no entry knows is left-over.
    pub(crate) readings: Vec<Readings>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) tiers: Vec<Tier>,
    /// What a policy that judges regions found, and did.
    pub(crate) regions: Vec<RegionRow>,
    pub(crate) region_rules: Option<RegionRules>,
    /// Which arms of which splits were drawn: the first so many. What follows is left-over, kept because the counts of
    /// references to splits are shared by all threads, and the next request mostly draws from the same.
    draws: Vec<Drawn>,
    drawn: usize,
    pub(crate) next: Option<Next>,
    /// The index of the best candidate when the policies were done.
    pub(crate) best: Option<usize>,
    /// `None` while no policy speaks of retries.
    pub(crate) attempts_allowed: Option<u32>,
    /// When the attempt is given up, and whether only because of the deadline.
    pub(crate) attempt_limit: Option<(Instant, bool)>,
    /// Under which rules the next attempt is hedged.
    pub(crate) hedge: Option<Hedge>,
    /// When a canary is given up, if another attempt would be paid for.
    pub(crate) canary_limit: Option<Instant>,
    /// `None` while no policy forecasts.
    pub(crate) reserve: Option<Reserve>,
    /// What of each limit a policy keeps for others than this request, in thousandths.
    pub(crate) kept: u32,
    /// A policy holds requests back by what backends accept of them, so that is counted.
    pub(crate) throttles: bool,
    /// A policy panicked; the order is the built-in one.
    pub(crate) policy_panicked: bool,
}

impl Sheet {
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.findings.clear();
        self.tiers.clear();
        self.regions.clear();
        self.region_rules = None;
        self.drawn = 0;
        self.next = None;
        self.best = None;
        self.attempts_allowed = None;
        self.attempt_limit = None;
        self.hedge = None;
        self.canary_limit = None;
        self.reserve = None;
        self.throttles = false;
        self.kept = 0;
        self.policy_panicked = false;
    }

    /// Notes which arm of `split` was drawn.
    pub(crate) fn note_draw(&mut self, split: &Arc<Split>, drawn: (u32, usize), at: Instant) {
        if self.draws().iter().any(|noted| noted.is_of(split)) {
            return;
        }
        match self.draws.get_mut(self.drawn) {
            Some(old) if old.is_of(split) => old.renew(drawn, at),
            Some(old) => *old = Drawn::new(split.clone(), drawn, at),
            None => self.draws.push(Drawn::new(split.clone(), drawn, at)),
        }
        self.drawn += 1;
    }

    /// Which arms of which splits were drawn.
    pub(crate) fn draws(&self) -> &[Drawn] {
        &self.draws[..self.drawn]
    }

    /// Appends a candidate. [`cover`](Self::cover) makes room for its readings.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Makes room for the readings of all entries.
    pub(crate) fn cover(&mut self) {
        if self.readings.len() < self.entries.len() {
            self.readings.resize_with(self.entries.len(), Readings::default);
        }
    }

    /// Appends a candidate of which the first look found something.
    pub(crate) fn push_finding(&mut self, mut entry: Entry, finding: Finding) {
        Finding::apply(&finding, &mut entry);
        self.findings.push(Finding { index: self.entries.len(), ..finding });
        self.push(entry);
    }

    /// Who comes next after the candidate at this index, should that fail.
    pub(crate) fn next_best(&self, seed: u64, after: usize) -> Option<usize> {
        let (last, mut next) = (&self.entries[after], None);
        for (index, entry) in self.entries.iter().enumerate() {
            let is_nearer = || next.is_none_or(|nearest| before(seed, entry, &self.entries[nearest]));
            if entry.admitted() && before(seed, last, entry) && is_nearer() {
                next = Some(index);
            }
        }
        next
    }

    /// The best candidate that may be called: lowest level, then lowest cost, then the seed's choice among equals.
    pub(crate) fn best(&self, seed: u64) -> Option<usize> {
        // Written out: every decision runs it. Which of two is better nobody can foretell, so no branch depends on it.
        let (mut best, mut least) = (None, u128::MAX);
        for (index, entry) in self.entries.iter().enumerate() {
            if !entry.ready() {
                continue;
            }
            let key = entry.key();
            let ahead = match best {
                Some(other) if key == least => tie(seed, entry) < tie(seed, &self.entries[other]),
                _ => key < least,
            };
            best = select_unpredictable(ahead, Some(index), best);
            least = select_unpredictable(ahead, key, least);
        }
        best
    }
}

impl Finding {
    pub(crate) const fn rejected(reason: Reason) -> Self {
        Self { index: 0, level: LEVEL_NORMAL, rejected: Some(reason), note: None, unproven: false }
    }

    pub(crate) const fn apply(&self, entry: &mut Entry) {
        entry.level = self.level;
        entry.rejected = self.rejected;
        entry.note = self.note;
    }
}

/// Whether `a` is tried before `b`.
#[inline]
fn before(seed: u64, a: &Entry, b: &Entry) -> bool {
    order(seed, a, b).is_lt()
}

/// The order in which admitted candidates are tried.
#[inline]
pub(crate) fn order(seed: u64, a: &Entry, b: &Entry) -> Ordering {
    a.key().cmp(&b.key()).then_with(|| tie(seed, a).cmp(&tie(seed, b)))
}

/// The seed's order among equals.
fn tie(seed: u64, entry: &Entry) -> u64 {
    mix(seed, u64::from(entry.seat))
}
