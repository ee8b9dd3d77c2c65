//! The sheet of paper that a decision is made on: inputs, candidates, verdicts.
//!
//! One record is both the working set of the policies and the explanation that is kept. It holds every value that
//! a policy read, so running the policies over it again must give the same choice.

use super::{Next, Reason};
use crate::backend::{BackendId, FailureKind};
use crate::facts::{Facts, Profile};
use crate::rng::mix;
use crate::time::Instant;
use std::cmp::Ordering;
use std::sync::Arc;

/// Names and profiles of one fleet generation, as decisions refer to them.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) generation: u64,
    pub(crate) seats: Vec<(BackendId, Arc<Profile>)>,
    pub(crate) models: Vec<Box<str>>,
    pub(crate) signals: Vec<&'static str>,
}

/// How loaded a backend was when it was looked at, as this router sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Load {
    /// Calls in flight.
    pub in_flight: u32,
    /// Prompt tokens of calls that wait for their first item.
    pub waiting_tokens: u64,
    /// When the oldest call that still waits for its first item was sent.
    pub oldest_wait: Option<Instant>,
    /// When it was called last.
    pub last_called: Option<Instant>,
    /// Whether a canary is on its way to it.
    pub canary_out: bool,
}

/// What was learned of a backend's time to first token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Latency {
    /// The part that does not depend on the prompt, in nanoseconds.
    pub base: u64,
    /// The part that grows with each waiting prompt token, in 1/1024 nanoseconds.
    pub per_token: u64,
    /// Peak EWMA of the time to first token, in nanoseconds.
    pub peak: u64,
    /// Samples behind it; 0 means that nothing is known.
    pub samples: u32,
}

impl Latency {
    /// The predicted time to first token behind `tokens` prompt tokens, in nanoseconds.
    pub const fn predict(&self, tokens: u64) -> u64 {
        self.base.saturating_add(self.per_token.saturating_mul(tokens) >> 10)
    }
}

/// One candidate of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) id: BackendId,
    pub(crate) seat: u32,
    pub(crate) tier: u8,
    /// How far behind it stands: 0 for a probe, 1 for most, more for each demotion.
    pub(crate) level: u8,
    pub(crate) first_level: u8,
    pub(crate) known: u8,
    pub(crate) cost: u64,
    pub(crate) rejected: Option<Reason>,
    pub(crate) note: Option<Reason>,
    /// What the survey said before any policy: where a replay starts from.
    pub(crate) first_rejected: Option<Reason>,
    pub(crate) first_note: Option<Reason>,
    pub(crate) load: Load,
    pub(crate) latency: Latency,
}

/// The level of a candidate that the router itself puts first.
pub(crate) const LEVEL_PROBE: u8 = 0;
/// The level of an ordinary candidate.
pub(crate) const LEVEL_NORMAL: u8 = 1;
/// The cost of a candidate that no policy ranked: usable, after all that were.
pub(crate) const UNRANKED: u64 = u64::MAX;

pub(crate) const KNOWS_LOAD: u8 = 1;
pub(crate) const KNOWS_LATENCY: u8 = 2;

impl Entry {
    pub(crate) const fn new(id: BackendId, seat: u32, tier: u8) -> Self {
        Self {
            id,
            seat,
            tier,
            level: LEVEL_NORMAL,
            first_level: LEVEL_NORMAL,
            known: 0,
            cost: UNRANKED,
            rejected: None,
            note: None,
            first_rejected: None,
            first_note: None,
            load: Load { in_flight: 0, waiting_tokens: 0, oldest_wait: None, last_called: None, canary_out: false },
            latency: Latency { base: 0, per_token: 0, peak: 0, samples: 0 },
        }
    }

    /// Forgets what policies said.
    pub(crate) const fn reset(&mut self) {
        self.level = self.first_level;
        self.cost = UNRANKED;
        self.rejected = self.first_rejected;
        self.note = self.first_note;
    }

    pub(crate) const fn admitted(&self) -> bool {
        self.rejected.is_none()
    }
}

/// The candidates of one model.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    /// By its position in the roster; `None` for all models.
    pub(crate) model: Option<u32>,
    pub(crate) first: usize,
    pub(crate) len: usize,
    /// Backends of the tier that this decision looked at and put aside again, in fleets too large to list.
    pub(crate) passed: usize,
    /// Backends of the tier in the fleet.
    pub(crate) total: usize,
    pub(crate) panic: bool,
}

/// A finished attempt of a request.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    pub(crate) backend: BackendId,
    pub(crate) profile: Arc<Profile>,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    pub(crate) failure: Option<FailureKind>,
}

impl AttemptRecord {
    /// The backend that was called.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.profile.id()
    }

    /// When it was called.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// How long it took.
    pub fn elapsed(&self) -> std::time::Duration {
        self.ended - self.started
    }

    /// How it failed; `None` when it answered.
    pub const fn failure(&self) -> Option<FailureKind> {
        self.failure
    }
}

/// Whether an extra attempt is paid for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Extra {
    /// This decides the first attempt, which is free.
    #[default]
    First,
    /// The shared retry budget paid for another attempt.
    Granted,
    /// The shared retry budget is empty.
    Denied,
}

/// The record of one decision.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    // Inputs.
    pub(crate) roster: Arc<Roster>,
    pub(crate) facts: Facts,
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    pub(crate) deadline: Instant,
    pub(crate) extra: Extra,
    pub(crate) last_resort: bool,
    pub(crate) dry_run: bool,
    pub(crate) attempts: Vec<AttemptRecord>,
    // The sheet.
    pub(crate) sheet: Sheet,
}

/// What the policies write on.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub(crate) entries: Vec<Entry>,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) tick: Option<u64>,
    pub(crate) next: Option<Next>,
    pub(crate) attempts_allowed: u32,
    pub(crate) attempt_limit: Option<Instant>,
    /// A policy panicked; the order is the built-in one.
    pub(crate) policy_panicked: bool,
}

impl Default for Sheet {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            tiers: Vec::new(),
            tick: None,
            next: None,
            attempts_allowed: 1,
            attempt_limit: None,
            policy_panicked: false,
        }
    }
}

impl Sheet {
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.tiers.clear();
        self.tick = None;
        self.next = None;
        self.attempts_allowed = 1;
        self.attempt_limit = None;
        self.policy_panicked = false;
    }

    /// The best admitted candidate: lowest level, then lowest cost, then the seed's choice among equals.
    pub(crate) fn best(&self, seed: u64) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.admitted() && best.is_none_or(|best| order(seed, entry, &self.entries[best]).is_lt()) {
                best = Some(index);
            }
        }
        best
    }
}

/// The order in which admitted candidates are tried.
pub(crate) fn order(seed: u64, a: &Entry, b: &Entry) -> Ordering {
    (a.level, a.tier, a.cost)
        .cmp(&(b.level, b.tier, b.cost))
        .then_with(|| mix(seed, a.id.slot() as u64).cmp(&mix(seed, b.id.slot() as u64)))
}
