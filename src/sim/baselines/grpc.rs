//! gRPC: the priority policy of xDS, round robin within.

use super::bare;
use crate::decision::{Next, Reason, Refusal};
use crate::policy::{PlanContext, RoutingPolicy, Slate};
use crate::rng::Rng;
use crate::sim::{Desk, Reports, Stack};
use crate::time::Instant;
use parking_lot::Mutex;
use std::time::Duration;

/// Each region is a priority, the nearest first; all requests go to the first that has a server which is `READY`, in
/// turn, and back as soon as one before it has (gRFC A56, `priority_experimental` with `round_robin` children). A server
/// is `READY` while its connection stands; a connection that broke is tried again after 1 s, 1.6 times longer each time,
/// 120 s at most, jittered by 20 % (`connection-backoff.md`). The policy's failover timer of 10 s is for connections that
/// neither stand nor fail; those of this simulator are refused at once, so it never runs out. No retries and no outlier
/// detection, as by default.
pub fn grpc_priority(desk: &Desk) -> Stack {
    let channels = vec![Channel { broken: None }; desk.servers()];
    bare(GrpcPriority {
        priorities: desk.regions().to_vec(),
        reports: desk.reports().clone(),
        channels: Mutex::new((channels, Rng::new(desk.seed() ^ 0x6752_5043))),
    })
}

#[derive(Debug)]
struct GrpcPriority {
    priorities: Vec<String>,
    reports: Reports,
    channels: Mutex<(Vec<Channel>, Rng)>,
}

/// The connection to one server.
#[derive(Clone, Copy, Debug)]
struct Channel {
    /// When it is tried again, and the pause before that, in seconds.
    broken: Option<(Instant, f64)>,
}

const INITIAL: f64 = 1.0;
const MULTIPLIER: f64 = 1.6;
const MOST: f64 = 120.0;
const JITTER: f64 = 0.2;

impl Channel {
    /// Whether it stands; looks after it where its time has come.
    fn is_ready(&mut self, reachable: bool, now: Instant, rng: &mut Rng) -> bool {
        let pause = match self.broken {
            None if reachable => return true,
            None => INITIAL,
            Some((again, _)) if again > now => return false,
            Some(_) if reachable => {
                self.broken = None;
                return true;
            }
            Some((_, pause)) => (pause * MULTIPLIER).min(MOST),
        };
        let jittered = pause * (1.0 + JITTER * (2.0 * rng.unit() - 1.0));
        self.broken = Some((now + Duration::from_secs_f64(jittered), pause));
        false
    }
}

impl RoutingPolicy for GrpcPriority {
    fn name(&self) -> &'static str {
        "grpc_priority"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (channels, rng) = &mut *self.channels.lock();
        let mut ready = vec![0u64; self.priorities.len()];
        slate.each(|candidate| {
            let slot = candidate.id().slot();
            let reachable = self.reports.truth(slot).reachable;
            if !channels[slot].is_ready(reachable, cx.now(), rng) {
                return candidate.reject(Reason::Custom { text: "not ready" });
            }
            let region = candidate.profile().region_name();
            if let Some(at) = self.priorities.iter().position(|name| Some(name.as_str()) == region) {
                ready[at] += 1;
            }
        });
        let Some(chosen) = ready.iter().position(|count| *count > 0) else {
            return slate.conclude(Next::Refuse { why: Refusal::NothingUsable });
        };
        let (turn, mut at) = (slate.tick() % ready[chosen], 0);
        slate.each(|candidate| {
            if candidate.profile().region_name() != Some(self.priorities[chosen].as_str()) {
                return candidate.reject(Reason::Custom { text: "another priority" });
            }
            candidate.rank(u64::from(at != turn));
            at += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_connections_grow_and_a_connection_ends_them() {
        let (mut channel, mut rng) = (Channel { broken: None }, Rng::new(1));
        let mut now = Instant::from_nanos(0);
        assert!(channel.is_ready(true, now, &mut rng));
        for pause in [1.0, 1.6, 2.56, 4.096] {
            assert!(!channel.is_ready(false, now, &mut rng));
            let (again, _) = channel.broken.unwrap();
            let waits = (again - now).as_secs_f64();
            assert!((0.8..=1.2).contains(&(waits / pause)), "{waits} for {pause}");
            // Not before its time, whatever the server does.
            assert!(!channel.is_ready(true, now, &mut rng));
            now = again;
        }
        assert!(channel.is_ready(true, now, &mut rng));
        assert!(!channel.is_ready(false, now, &mut rng));
        assert!((channel.broken.unwrap().0 - now).as_secs_f64() <= 1.2);
    }
}
