//! Health signals of simulated servers: probes of each, and the load reports that they send.

use super::World;
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

/// Hears the servers' load reports. Who reports that it works is well; how much it has to do is no illness.
#[derive(Debug)]
pub(super) struct Heard(Arc<Mutex<Reality>>);

impl Heard {
    pub(super) const fn new(reality: Arc<Mutex<Reality>>) -> Self {
        Self(reality)
    }
}

impl HealthSignal for Heard {
    fn name(&self) -> &'static str {
        "load_report"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        let reality = self.0.lock();
        let slot = backend.slot();
        let (Some(load), Some(reported)) = (reality.reported.get(slot), reality.reported_at.get(slot)) else {
            return Reading::Missing;
        };
        let value = if load.up { Score::WELL } else { Score::DEAD };
        let age = Duration::from_nanos(reality.cluster.now().saturating_sub(*reported));
        let at = now - age;
        if age > World::REPORTS_STALE { Reading::Stale { value, at } } else { Reading::Fresh { value, at } }
    }

    fn observe(&self, _: &Event<'_>, _: Instant) {}
}
