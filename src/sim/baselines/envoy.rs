//! Envoy: priority levels, outlier detection, least request.

use super::{Learner, Pupil, bare};
use crate::backend::Fault;
use crate::decision::{Class, Reason};
use crate::event::{Event, Outcome};
use crate::policy::{Contender, PlanContext, RoutingPolicy, Slate};
use crate::sim::{Desk, EnvoyExact, Priority, PriorityLoad, Stack};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Each region is a priority level, the nearest first. [`EnvoyExact`] says how much of the traffic each gets by the
/// number of its healthy hosts (overprovisioning 1.4, panic below 50 %), a draw says which for this request, and of two
/// random hosts of it the one with fewer requests is taken (`LEAST_REQUEST`, choice count 2). A host is healthy while
/// its health checks are, which are the probes that every policy hears, and outlier detection lets it: after five 5xx
/// or connect failures in a row a host is out for 30 s, times how often it was, 300 s at most, while at most 10 % of all
/// are out, but one always may be (`consecutive_5xx`, `base_ejection_time`, `max_ejection_time`,
/// `max_ejection_percent`). No retries, as by default. (Envoy's documentation: *Priority levels*, *Panic threshold*,
/// *Supported load balancers*, *Outlier detection*; `load_balancer_impl.cc`.)
pub fn envoy_priority(desk: &Desk) -> Stack {
    let outliers = Arc::new(Outliers { hosts: Mutex::new(vec![Host::default(); desk.servers()]) });
    bare(EnvoyPriority { levels: desk.regions().to_vec(), outliers: outliers.clone() }).observer(Pupil(outliers))
}

#[derive(Debug)]
struct EnvoyPriority {
    levels: Vec<String>,
    outliers: Arc<Outliers>,
}

/// Outlier detection.
#[derive(Debug)]
struct Outliers {
    hosts: Mutex<Vec<Host>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    /// Failures in a row.
    failed: u32,
    ejected_until: Instant,
    /// How often it was ejected.
    ejections: u32,
}

const CONSECUTIVE: u32 = 5;
const BASE: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(300);
const MOST_PERCENT: usize = 10;

impl Outliers {
    fn is_ejected(&self, host: usize, now: Instant) -> bool {
        self.hosts.lock()[host].ejected_until > now
    }
}

impl Learner for Outliers {
    fn learn(&self, event: &Event<'_>, now: Instant) {
        let Event::Ended { backend, outcome, .. } = event else { return };
        let mut hosts = self.hosts.lock();
        let count = hosts.len();
        let out = hosts.iter().filter(|host| host.ejected_until > now).count();
        let host = &mut hosts[backend.slot()];
        match outcome {
            Outcome::Cancelled | Outcome::Outrun => {}
            Outcome::Failure(error) if matches!(error.kind().conduct().fault, Fault::Backend | Fault::Transport) => {
                host.failed += 1;
                let may = out == 0 || (out + 1) * 100 <= count * MOST_PERCENT;
                if host.failed >= CONSECUTIVE && host.ejected_until <= now && may {
                    host.ejections += 1;
                    host.ejected_until = now + (BASE * host.ejections).min(MOST);
                    host.failed = 0;
                }
            }
            Outcome::Success | Outcome::Failure(_) => host.failed = 0,
        }
    }
}

impl EnvoyPriority {
    fn level(&self, candidate: &Contender<'_>) -> usize {
        let region = candidate.profile().region_name();
        self.levels.iter().position(|level| Some(level.as_str()) == region).unwrap_or(self.levels.len() - 1)
    }

    /// The hosts of each level. What a request may not use at all is no host for it.
    fn count(&self, now: Instant, slate: &mut Slate<'_>) -> Vec<Priority> {
        let mut levels = vec![Priority::default(); self.levels.len()];
        slate.each(|candidate| {
            let level = &mut levels[self.level(candidate)];
            level.hosts += 1;
            level.healthy += u32::from(!self.outliers.is_ejected(candidate.id().slot(), now));
        });
        slate.each_rejected(|candidate| {
            let host = candidate.rejected().is_some_and(|reason| reason.class() != Class::Hard);
            levels[self.level(candidate)].hosts += u32::from(host);
        });
        levels
    }
}

/// The level for a draw from 1 to 100. None of these levels has degraded hosts.
fn pick(loads: &[PriorityLoad], draw: u32) -> usize {
    let mut upto = 0;
    let level = loads.iter().position(|load| {
        upto += load.healthy;
        draw <= upto
    });
    level.unwrap_or_default()
}

impl RoutingPolicy for EnvoyPriority {
    fn name(&self) -> &'static str {
        "envoy_priority"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let loads = EnvoyExact::default().loads(&self.count(cx.now(), slate));
        let mut rng = cx.rng(0x454e_564f);
        let chosen = pick(&loads, rng.below(100) as u32 + 1);
        let panic = loads[chosen].panic;
        if panic {
            slate.each_rejected(|candidate| {
                if self.level(candidate) == chosen {
                    candidate.readmit(Reason::Custom { text: "panic" });
                }
            });
        }
        let serves = |candidate: &Contender<'_>| {
            let fit = panic || !self.outliers.is_ejected(candidate.id().slot(), cx.now());
            fit && self.level(candidate) == chosen
        };
        let mut hosts = 0;
        slate.each(|candidate| hosts += usize::from(serves(candidate)));
        // With replacement, as Envoy draws.
        let pair = [rng.below(hosts.max(1)), rng.below(hosts.max(1))];
        let mut at = 0;
        slate.each(|candidate| {
            if !serves(candidate) {
                return candidate.reject(Reason::Custom { text: "another priority, or unhealthy" });
            }
            at += 1;
            let drawn = pair.contains(&(at - 1));
            let requests = u64::from(candidate.load().in_flight);
            candidate.rank(if drawn { requests } else { u64::MAX - 1 });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_finds_its_level() {
        let loads = [35, 0, 65].map(|healthy| PriorityLoad { healthy, ..PriorityLoad::default() });
        assert_eq!([1, 35, 36, 100].map(|draw| pick(&loads, draw)), [0, 0, 2, 2]);
    }
}
