//! [`Hysteresis`]: two thresholds instead of one.

use crate::backend::BackendId;
use crate::event::Event;
use crate::signal::calm::{Calm, EVER, NEVER};
use crate::signal::rows::Rows;
use crate::signal::{HealthSignal, InvalidSignal, Reading, Score};
use crate::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// See [`HealthSignalExt::hysteresis`](crate::signal::HealthSignalExt::hysteresis).
///
/// A score between the thresholds counts as what the backend was when it was outside of them last, as decisions saw
/// it: the side is kept when a decision is told ([`Event::Decided`]), never when somebody reads. A backend that was
/// never outside has the score that it has. Silence changes nothing.
#[derive(Debug)]
pub struct Hysteresis<S> {
    signal: S,
    down: Score,
    up: Score,
    sides: Rows<Arc<AtomicU8>>,
    calm: Calm,
}

const UNKNOWN: u8 = 0;
const DOWN: u8 = 1;
const UP: u8 = 2;
/// The best score that still counts as ill.
const ILL: Score = Score::from_permille(Score::HEALTHY.permille() - 1);

impl<S: HealthSignal> Hysteresis<S> {
    pub(in crate::signal) fn new(signal: S, down: Score, up: Score) -> Result<Self, InvalidSignal> {
        if down > up {
            return Err(InvalidSignal::CrossedThresholds { down, up });
        }
        Ok(Self { signal, down, up, sides: Rows::default(), calm: Calm::default() })
    }

    /// The side on which a score lies; `None` in between.
    fn side(&self, score: Score) -> Option<u8> {
        if score < self.down {
            Some(DOWN)
        } else if score >= self.up {
            Some(UP)
        } else {
            None
        }
    }

    fn look(&self, backend: BackendId, now: Instant) {
        if let Reading::Fresh { value, .. } = self.signal.read(backend, now)
            && let Some(side) = self.side(value)
        {
            let before = self.sides.with(backend, |kept| kept.swap(side, Ordering::Relaxed));
            if before.is_some_and(|before| before != side) {
                self.take_stock();
            }
        }
    }

    /// There is something to say while a backend is kept down, whatever the signal inside says.
    fn take_stock(&self) {
        let down = |side: &Arc<AtomicU8>| (side.load(Ordering::Relaxed) == DOWN).then_some(NEVER);
        self.calm.take_stock(|| (self.sides.latest(down).unwrap_or(EVER), NEVER));
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: HealthSignal> HealthSignal for Hysteresis<S> {
    fn name(&self) -> &'static str {
        self.signal.name()
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        let judged = |value: Score| {
            let kept = || self.sides.with(backend, |side| side.load(Ordering::Relaxed));
            match self.side(value).or_else(kept) {
                Some(DOWN) => value.min(ILL),
                Some(UP) => value.max(Score::HEALTHY),
                _ => value,
            }
        };
        match self.signal.read(backend, now) {
            Reading::Fresh { value, at } => Reading::Fresh { value: judged(value), at },
            Reading::Stale { value, at } => Reading::Stale { value: judged(value), at },
            Reading::Missing => Reading::Missing,
        }
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        self.signal.observe(event, now);
        match event {
            Event::Fleet { backends, .. } => {
                let fresh = || Arc::new(AtomicU8::new(UNKNOWN));
                self.sides.follow(backends, |_, old| old.cloned().unwrap_or_else(fresh));
                self.take_stock();
            }
            Event::Decided(decision) => {
                decision.candidates().for_each(|candidate| self.look(candidate.id(), now));
            }
            _ => {}
        }
    }

    fn covers(&self, backend: BackendId) -> bool {
        self.signal.covers(backend)
    }

    fn is_calm(&self, now: Instant) -> bool {
        // What is healthy inside may lie below a threshold that is higher.
        self.down <= Score::HEALTHY && self.calm.at(now) && self.signal.is_calm(now)
    }
}
