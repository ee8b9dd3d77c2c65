//! A health signal that probes simulated servers.

use super::machine::Probes;
use super::reality::Reality;
use crate::backend::BackendId;
use crate::event::Event;
use crate::signal::{HealthSignal, Reading, Score};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Says what a probe of each server saw last. A server that is slow or fails requests passes its probes.
#[derive(Debug)]
pub(super) struct Probe {
    reality: Arc<Mutex<Reality>>,
    every: Duration,
    seen: Mutex<Vec<Option<(Instant, Score)>>>,
}

/// How many missed probes make a reading stale.
const PATIENCE: u32 = 3;

impl Probe {
    pub(super) const fn new(reality: Arc<Mutex<Reality>>, every: Duration) -> Self {
        Self { reality, every, seen: Mutex::new(Vec::new()) }
    }
}

impl HealthSignal for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        let slot = backend.slot();
        let mut seen = self.seen.lock();
        if seen.len() <= slot {
            seen.resize(slot + 1, None);
        }
        let due = seen[slot].is_none_or(|(at, _)| now - at >= self.every);
        if due {
            let (healthy, probes) = self.reality.lock().cluster.probe(slot);
            let said = match probes {
                Probes::Silent => None,
                Probes::Honest => Some(healthy),
                Probes::Lying => Some(!healthy),
            };
            if let Some(healthy) = said {
                seen[slot] = Some((now, if healthy { Score::WELL } else { Score::DEAD }));
            }
        }
        match seen[slot] {
            None => Reading::Missing,
            Some((at, value)) if now - at > self.every * PATIENCE => Reading::Stale { value, at },
            Some((at, value)) => Reading::Fresh { value, at },
        }
    }

    fn observe(&self, _: &Event<'_>, _: Instant) {}
}
