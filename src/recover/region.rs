//! What is remembered of a region: written when something changes, read by every decision.

use crate::decision::{RegionPhase, RegionRules, RegionState};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a region is for a model. A decision reads it without a lock and says what it would become; whoever carries the
/// decision out moves it on. Words that are read while they change may belong to two moments: such a decision works
/// with a hold or a ramp that is a moment old, and records what it read.
#[derive(Debug)]
pub(crate) struct RegionGate {
    /// The moment of the phase in nanoseconds, whose lowest bits are the phase.
    phase: AtomicU64,
    /// Thousandths, and flaps above them.
    least: AtomicU64,
    back_since: AtomicU64,
    writing: Mutex<()>,
}

const PHASE_MASK: u64 = 3;
const UP: u64 = 0;
const DOWN: u64 = 1;
const HELD: u64 = 2;
const RAMPING: u64 = 3;
const FLAPS_SHIFT: u32 = 16;

impl Default for RegionGate {
    fn default() -> Self {
        Self {
            phase: AtomicU64::new(UP),
            least: AtomicU64::new(RegionState::UP.least.into()),
            back_since: AtomicU64::new(0),
            writing: Mutex::default(),
        }
    }
}

impl RegionGate {
    /// What is remembered.
    pub(crate) fn read(&self) -> RegionState {
        let word = self.phase.load(Ordering::Acquire);
        if word == UP && self.back_since.load(Ordering::Relaxed) == 0 {
            return RegionState::UP;
        }
        let moment = Instant::from_nanos(word & !PHASE_MASK);
        let phase = match word & PHASE_MASK {
            DOWN => RegionPhase::Down { since: moment },
            HELD => RegionPhase::Held { until: moment },
            RAMPING => RegionPhase::Ramping { since: moment },
            _ => RegionPhase::Up,
        };
        let least = self.least.load(Ordering::Relaxed);
        RegionState {
            phase,
            least: least as u16,
            flaps: (least >> FLAPS_SHIFT) as u8,
            back_since: Instant::from_nanos(self.back_since.load(Ordering::Relaxed)),
        }
    }

    /// A decision found the region like this. Returns the phases before and after, where they differ.
    pub(crate) fn observe(
        &self,
        health: u16,
        offer: u16,
        rules: &RegionRules,
        now: Instant,
    ) -> Option<(RegionPhase, RegionPhase)> {
        let _writing = self.writing.lock();
        let before = self.read();
        let after = before.next(health, offer, rules, now);
        self.write(after);
        (after.phase.label() != before.phase.label()).then_some((before.phase, after.phase))
    }

    /// It was taken out by hand, and is back: cold, but not ill.
    pub(crate) fn restore(&self, now: Instant) {
        let _writing = self.writing.lock();
        self.write(RegionState { phase: RegionPhase::Ramping { since: now }, least: 0, ..self.read() });
    }

    /// Under the lock.
    fn write(&self, after: RegionState) {
        self.least.store(u64::from(after.least) | u64::from(after.flaps) << FLAPS_SHIFT, Ordering::Relaxed);
        self.back_since.store(after.back_since.as_nanos(), Ordering::Relaxed);
        let word = match after.phase {
            RegionPhase::Up => UP,
            RegionPhase::Down { since } => since.as_nanos() & !PHASE_MASK | DOWN,
            RegionPhase::Held { until } => until.as_nanos() & !PHASE_MASK | HELD,
            RegionPhase::Ramping { since } => since.as_nanos() & !PHASE_MASK | RAMPING,
        };
        self.phase.store(word, Ordering::Release);
    }
}
