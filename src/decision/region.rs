//! What a decision knew of regions, and did with them.

use super::record::{RegionIndex, Roster, Tier};
use crate::time::Instant;
use std::time::Duration;

/// Where a region stands on its way out and back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "phase", rename_all = "snake_case"))]
pub enum RegionPhase {
    /// In use.
    Up,
    /// Too little of it is healthy.
    Down {
        /// Since when.
        since: Instant,
    },
    /// Healthy again, and watched before it gets its traffic back.
    Held {
        /// When the hold ends, if it stays healthy.
        until: Instant,
    },
    /// It gets its traffic back, slowly.
    Ramping {
        /// Since when.
        since: Instant,
    },
}

impl RegionPhase {
    /// One word for it.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down { .. } => "down",
            Self::Held { .. } => "held",
            Self::Ramping { .. } => "ramping",
        }
    }
}

/// What is remembered of a region from one decision to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RegionState {
    pub(crate) phase: RegionPhase,
    /// The least that it offered since it failed, in thousandths: what it gets while it is down or held.
    pub(crate) least: u16,
    /// How often it failed again soon after it was back.
    pub(crate) flaps: u8,
    /// When it was last back in full; the origin of time when it never failed.
    pub(crate) back_since: Instant,
}

/// When a region fails and how it returns. Thresholds are in thousandths of its capacity.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct RegionRules {
    pub(crate) down: u16,
    pub(crate) up: u16,
    pub(crate) hold: (Duration, Duration),
    pub(crate) ramp: Duration,
}

/// One region in one tier of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionRow {
    pub(crate) tier: u8,
    pub(crate) region: RegionIndex,
    /// Its place in the order of preference, 0 first; `None` where nothing may be served.
    pub(crate) rank: Option<u8>,
    /// How many backends stand there, and how many of them are candidates.
    pub(crate) seats: u32,
    pub(crate) seen: u32,
    /// What was remembered of it, and what that becomes.
    pub(crate) before: RegionState,
    pub(crate) state: RegionState,
    /// Of all its backends that may serve the request.
    pub(crate) capacity: u64,
    /// Of its backends that others than this request may use: their health was not looked at.
    pub(crate) unseen: u64,
    /// Of what is healthy, in thousandths of the capacity's unit.
    pub(crate) healthy: u64,
    /// Of what is healthy and not refused by quotas and the like.
    pub(crate) open: u64,
    /// Calls in flight to what is open, where that was looked at, and how many there may be, in thousandths; `u64::MAX` for
    /// no limit.
    pub(crate) in_flight: Option<u64>,
    pub(crate) room: u64,
    /// When one of its backends was called last.
    pub(crate) called: Instant,
    /// The share of the traffic that it could take by its health, what it may take, what falls to it, and what it gets
    /// after the full passed theirs on: in thousandths.
    pub(crate) offer: u16,
    pub(crate) allowed: u16,
    pub(crate) wish: u16,
    pub(crate) granted: u16,
    /// The request failed there before.
    pub(crate) failed_here: bool,
}

impl RegionRow {
    pub(crate) const fn new(tier: u8, region: RegionIndex, rank: Option<u8>, state: RegionState, seats: u32) -> Self {
        Self {
            tier,
            region,
            rank,
            seats,
            seen: 0,
            before: state,
            state,
            capacity: 0,
            unseen: 0,
            healthy: 0,
            open: 0,
            in_flight: None,
            room: 0,
            called: Instant::from_nanos(0),
            offer: 0,
            allowed: 0,
            wish: 0,
            granted: 0,
            failed_here: false,
        }
    }

    /// By rank, then as in the fleet; what may not be used comes last.
    pub(crate) fn order(&self) -> (u8, RegionIndex) {
        (self.rank.unwrap_or(u8::MAX), self.region)
    }

    /// Whether it is up, and every backend that may serve the request can be used in full.
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self.before.phase, RegionPhase::Up) && self.open == self.capacity * 1000
    }

    /// Its health, in thousandths.
    pub(crate) const fn health(&self) -> u16 {
        share(self.healthy, self.capacity)
    }

    /// The health that its way out and back is judged by, in thousandths. A request that may use a few of its backends
    /// does not take the region out for all: what it did not look at counts as well, and proves nothing once it is down.
    /// Where the candidates are a sample of the region, chance is in its favour.
    pub(crate) fn verdict(&self) -> u16 {
        match self.before.phase {
            RegionPhase::Down { .. } => self.health(),
            _ => {
                let health = share(self.healthy + self.unseen * 1000, self.capacity + self.unseen);
                (health + self.chance(health)).min(1000)
            }
        }
    }

    /// How far the health of a sample lies from that of the region at most: a router draws many samples, and one that is
    /// far off must not take the region out. Standard errors of a share, for draws that are not put back.
    fn chance(&self, health: u16) -> u16 {
        let (seats, seen, health) = (u64::from(self.seats), u64::from(self.seen), u64::from(health));
        if seen >= seats || seen == 0 {
            return 0;
        }
        let variance = health * (1000 - health) / seen * (seats - seen) / (seats - 1);
        (STANDARD_ERRORS * variance.isqrt()) as u16
    }

    /// What the region has in all, if the candidates are like the others; in thousandths of the capacity's unit.
    pub(crate) fn weight(&self) -> u128 {
        u128::from(self.capacity) * u128::from(self.seats) * 1000 / u128::from(self.seen.max(1))
    }

    /// Whether it is filled to `ceiling` thousandths, to the nearest call, and one at least.
    pub(crate) const fn is_full(&self, ceiling: u16) -> bool {
        // Window::SIZE times u32::MAX calls, in millionths, fit.
        match self.in_flight {
            Some(in_flight) if self.room > 0 && self.room < u64::MAX => {
                in_flight > 0 && in_flight * 1_000_000 + 500_000 > self.room * ceiling as u64
            }
            _ => false,
        }
    }
}

/// `thousandths` of `whole`; 0 of nothing.
const fn share(thousandths: u64, whole: u64) -> u16 {
    if whole == 0 {
        return 0;
    }
    let share = thousandths / whole;
    if share > 1000 { 1000 } else { share as u16 }
}

/// One region of one model in a [`Decision`](super::Decision).
#[derive(Clone, Copy, Debug)]
pub struct RegionView<'a> {
    pub(crate) row: &'a RegionRow,
    pub(crate) roster: &'a Roster,
    pub(crate) tier: &'a Tier,
    pub(crate) rules: Option<RegionRules>,
}

impl<'a> RegionView<'a> {
    /// Its name; `None` for backends without a region.
    pub fn name(&self) -> Option<&'a str> {
        Some(&*self.roster.regions[usize::from(self.row.region)].name).filter(|name| !name.is_empty())
    }

    /// The model whose backends were judged; `None` for any model.
    pub fn model(&self) -> Option<&'a str> {
        self.tier.model.map(|model| &*self.roster.models[model as usize])
    }

    /// Its place in the order of preference, 0 first; `None` where nothing may be served.
    pub const fn rank(&self) -> Option<u8> {
        self.row.rank
    }

    /// The healthy share of its capacity, in thousandths.
    pub const fn health(&self) -> u16 {
        self.row.health()
    }

    /// The share of the traffic that falls to it by health and preference, in thousandths.
    pub const fn wish(&self) -> u16 {
        self.row.wish
    }

    /// The share that it gets after regions without room passed theirs on, in thousandths.
    pub const fn granted(&self) -> u16 {
        self.row.granted
    }

    /// Calls in flight to its open backends, from this router; `None` where the decision did not depend on it.
    pub const fn in_flight(&self) -> Option<u64> {
        self.row.in_flight
    }

    /// How many calls its open backends may take; `None` where one has no limit, or the decision did not depend on it.
    pub fn room(&self) -> Option<u64> {
        self.row.in_flight?;
        (self.row.room != u64::MAX).then_some(self.row.room / 1000)
    }

    /// Where it stands.
    pub const fn phase(&self) -> RegionPhase {
        self.row.state.phase
    }

    /// How often it failed soon after it was back; each doubles the hold.
    pub const fn flaps(&self) -> u8 {
        self.row.state.flaps
    }

    /// The share of its offer that it may use now, in thousandths: less than 1000 while it is down, held or ramping.
    pub fn ramp(&self, now: Instant) -> u16 {
        self.rules.map_or(1000, |rules| self.row.state.cap(&rules, now))
    }

    /// When one of its backends was called last, where that was looked at: the age of what this router knows of it at
    /// first hand.
    pub fn last_called(&self) -> Option<Instant> {
        (self.row.called != Instant::default()).then_some(self.row.called)
    }

    /// Whether the request failed there before, so that it goes elsewhere first.
    pub const fn failed_here(&self) -> bool {
        self.row.failed_here
    }
}

/// Exceeded by one sample in some ten thousands.
const STANDARD_ERRORS: u64 = 4;
/// The share at which a region's return begins, in thousandths.
pub(crate) const FIRST_SHARE: u64 = 100;
/// A region that stays up for so long is forgiven one flap.
pub(crate) const CLEAN: Duration = Duration::from_secs(600);
/// More flaps than this change nothing.
const MAX_FLAPS: u8 = 20;

impl RegionState {
    /// In use, and never failed.
    pub(crate) const UP: Self =
        Self { phase: RegionPhase::Up, least: 1000, flaps: 0, back_since: Instant::from_nanos(0) };

    /// What it becomes when `health` of it is healthy and it offers to take `offer`; both in thousandths.
    pub(crate) fn next(self, health: u16, offer: u16, rules: &RegionRules, now: Instant) -> Self {
        let fails = health < rules.down;
        let least = self.least.min(offer);
        // ## Up, Ramping => Down
        let failed = |flaps| Self { phase: RegionPhase::Down { since: now }, least: offer, flaps, ..self };
        match self.phase {
            RegionPhase::Up if fails => {
                let clean = (now - self.back_since).as_secs() / CLEAN.as_secs();
                let never = self.back_since == Instant::default();
                let again = u8::from(clean == 0 && !never);
                let forgiven = u8::try_from(clean).unwrap_or(u8::MAX);
                failed(self.flaps.saturating_sub(forgiven).saturating_add(again).min(MAX_FLAPS))
            }
            RegionPhase::Ramping { .. } if fails => failed(self.flaps.saturating_add(1).min(MAX_FLAPS)),
            RegionPhase::Up => self,
            // ## Ramping => Up
            RegionPhase::Ramping { since } if now - since >= rules.ramp => {
                Self { phase: RegionPhase::Up, least: 1000, back_since: now, ..self }
            }
            RegionPhase::Ramping { .. } => self,
            // ## Down => Held
            RegionPhase::Down { .. } if health >= rules.up && health > 0 => {
                let hold = rules.hold.0.saturating_mul(1 << self.flaps).min(rules.hold.1);
                Self { phase: RegionPhase::Held { until: now + hold }, least, ..self }
            }
            // ## Held => Down: a relapse begins anew, at the same length.
            RegionPhase::Held { .. } if fails => Self { phase: RegionPhase::Down { since: now }, least, ..self },
            // ## Held => Ramping
            RegionPhase::Held { until } if now >= until => {
                Self { phase: RegionPhase::Ramping { since: now }, least, ..self }
            }
            RegionPhase::Down { .. } | RegionPhase::Held { .. } => Self { least, ..self },
        }
    }

    /// The most that it may get of its offer now, in thousandths.
    pub(crate) fn cap(&self, rules: &RegionRules, now: Instant) -> u16 {
        match self.phase {
            RegionPhase::Up => 1000,
            RegionPhase::Down { .. } | RegionPhase::Held { .. } => self.least,
            RegionPhase::Ramping { since } => {
                let (passed, ramp) = (now.nanos_since(since), crate::time::nanos(rules.ramp).max(1));
                let grown = ((u128::from(passed) * 1000 / u128::from(ramp)) as u64).clamp(FIRST_SHARE, 1000);
                let least = u64::from(self.least);
                (least + (1000 - least.min(1000)) * grown / 1000) as u16
            }
        }
    }
}
