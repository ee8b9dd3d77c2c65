//! Peak EWMA as Finagle publishes it.

use super::simple::pair;
use super::{Learner, Pupil, bare};
use crate::event::Event;
use crate::policy::{PlanContext, RoutingPolicy, Slate};
use crate::sim::{Desk, Stack};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::Arc;

/// The better of two random backends by `EWMA of latency · (calls in flight + 1)`. A latency above the average
/// replaces it at once; below, it decays with τ = 10 s, also while nothing is heard (Finagle's
/// `loadbalancer/PeakEwma.scala`, `decayTime` 10 s, and `Penalty` for a backend that never answered). The latency is
/// the time to first token, which is kinder to it than the time of a whole answer.
pub fn peak_ewma(_: &Desk) -> Stack {
    let policy = Arc::new(PeakEwma::default());
    bare(policy.clone()).observer(Pupil(policy))
}

#[derive(Debug, Default)]
struct PeakEwma {
    costs: Mutex<Vec<Cost>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    ewma: f64,
    at: Instant,
}

/// τ, in nanoseconds.
const TAU: f64 = 10e9;
/// Finagle's penalty for one of which nothing is known and that has calls in flight.
const PENALTY: f64 = (i64::MAX >> 16) as f64;

impl Cost {
    fn observe(&mut self, nanos: f64, now: Instant) {
        let elapsed = (now.as_nanos() - self.at.as_nanos().min(now.as_nanos())) as f64;
        self.at = now;
        if nanos > self.ewma {
            self.ewma = nanos;
        } else {
            let weight = (-elapsed / TAU).exp();
            self.ewma = self.ewma * weight + nanos * (1.0 - weight);
        }
    }
}

impl PeakEwma {
    fn with<T>(&self, slot: usize, then: impl FnOnce(&mut Cost) -> T) -> T {
        let mut costs = self.costs.lock();
        if costs.len() <= slot {
            costs.resize(slot + 1, Cost::default());
        }
        then(&mut costs[slot])
    }
}

impl Learner for PeakEwma {
    fn learn(&self, event: &Event<'_>, now: Instant) {
        if let Event::FirstItem { backend, elapsed, .. } = event {
            self.with(backend.slot(), |cost| cost.observe(elapsed.as_nanos() as f64, now));
        }
    }
}

impl RoutingPolicy for PeakEwma {
    fn name(&self) -> &'static str {
        "peak_ewma"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let pair = pair(cx, slate);
        let mut at = 0;
        slate.rank(|candidate| {
            at += 1;
            if !pair.contains(&(at - 1)) {
                return u64::MAX - 1;
            }
            let pending = f64::from(candidate.load().in_flight);
            let cost = self.with(candidate.id().slot(), |cost| {
                // Reading it lets it decay.
                cost.observe(0.0, cx.now());
                cost.ewma
            });
            if cost == 0.0 && pending > 0.0 { (PENALTY + pending) as u64 } else { (cost * (pending + 1.0)) as u64 }
        });
    }
}
