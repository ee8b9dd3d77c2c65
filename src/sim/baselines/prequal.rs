//! Prequal: probes of requests in flight and latency.

use super::bare;
use crate::policy::{PlanContext, RoutingPolicy, Slate};
use crate::rng::Rng;
use crate::sim::{Desk, Reports, Stack};
use crate::time::Instant;
use parking_lot::Mutex;
use std::time::Duration;

/// Each request sends three probes to distinct random backends; their answers (requests in flight, latency at that number)
/// wait in a pool of sixteen, for a second at most. Of those that are not *hot* (in flight below the 84th percentile
/// of the pool) the one of lowest latency is taken, else the one with the fewest in flight; one probe, the worst and
/// the oldest by turns, leaves the pool per request, and each is used a few times (Wydrowski et al., *Load is not
/// what you should balance: Introducing Prequal*, NSDI 2024: 3 probes, pool 16, age 1 s, Q_RIF 2^-0.25, δ = 1).
pub fn prequal(desk: &Desk) -> Stack {
    bare(Prequal { reports: desk.reports().clone(), servers: desk.servers(), pool: Mutex::new(Pool::new(desk.seed())) })
}

#[derive(Debug)]
struct Prequal {
    reports: Reports,
    servers: usize,
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    probes: Vec<Probe>,
    rng: Rng,
    oldest_next: bool,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    server: usize,
    in_flight: usize,
    latency: f64,
    at: Instant,
    uses: u32,
}

const PROBES_PER_REQUEST: usize = 3;
const POOL: usize = 16;
const MAX_AGE: Duration = Duration::from_secs(1);
/// 2^-0.25.
const HOT_QUANTILE: f64 = 0.840_896_4;

impl Prequal {
    /// How often a probe is used: the formula of the paper, for δ = 1.
    fn reuse(&self) -> u32 {
        let (pool, servers, probes) = (POOL as f64, self.servers as f64, PROBES_PER_REQUEST as f64);
        let removed = 1.0;
        let budget = 2.0 / ((1.0 - pool / servers) * probes - removed);
        // Negative where the pool has room for every server: then a probe is used once.
        if budget.is_finite() { budget.max(1.0).ceil() as u32 } else { 1 }
    }

    /// Asks distinct servers of those in the fleet, as the paper does.
    fn probe(&self, pool: &mut Pool, mut servers: Vec<usize>, now: Instant) {
        for _ in 0..PROBES_PER_REQUEST.min(servers.len()) {
            let server = servers.swap_remove(pool.rng.below(servers.len()));
            let load = self.reports.truth(server);
            // A server that is down does not answer.
            if !load.up {
                continue;
            }
            let latency = self.reports.latency_at(server, load.in_flight);
            pool.probes.push(Probe { server, in_flight: load.in_flight, latency, at: now, uses: 0 });
        }
        while pool.probes.len() > POOL {
            pool.probes.remove(0);
        }
    }
}

impl Pool {
    fn new(seed: u64) -> Self {
        Self { probes: Vec::new(), rng: Rng::new(seed ^ 0x5052_4551), oldest_next: false }
    }

    fn hot(&self) -> usize {
        let mut in_flight: Vec<_> = self.probes.iter().map(|probe| probe.in_flight).collect();
        in_flight.sort_unstable();
        let at = ((in_flight.len() as f64 * HOT_QUANTILE).ceil() as usize).clamp(1, in_flight.len()) - 1;
        in_flight[at]
    }

    fn order(&self, hot: usize) -> impl Fn(&Probe) -> (bool, u64) {
        // Cold before hot; the cold by latency, the hot by requests in flight.
        move |probe| {
            let is_hot = probe.in_flight > hot;
            (is_hot, if is_hot { probe.in_flight as u64 } else { (probe.latency * 1e9) as u64 })
        }
    }

    fn choose(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        if self.probes.is_empty() {
            return None;
        }
        let order = self.order(self.hot());
        let candidates = self.probes.iter().enumerate().filter(|(_, probe)| usable(probe.server));
        candidates.min_by_key(|(_, probe)| order(probe)).map(|(at, _)| at)
    }

    fn remove_one(&mut self) {
        self.oldest_next = !self.oldest_next;
        if self.probes.is_empty() {
            return;
        }
        let at = if self.oldest_next {
            0
        } else {
            let order = self.order(self.hot());
            self.probes.iter().enumerate().max_by_key(|(_, probe)| order(probe)).map_or(0, |(at, _)| at)
        };
        self.probes.remove(at);
    }
}

impl RoutingPolicy for Prequal {
    fn name(&self) -> &'static str {
        "prequal"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let mut usable = vec![false; self.servers];
        slate.each(|candidate| {
            if let Some(usable) = usable.get_mut(candidate.id().slot()) {
                *usable = true;
            }
        });
        let mut pool = self.pool.lock();
        pool.probes.retain(|probe| cx.now() - probe.at <= MAX_AGE);
        let reuse = self.reuse();
        let mut chosen = None;
        if pool.probes.len() >= 2
            && let Some(at) = pool.choose(|server| usable[server])
        {
            let probe = &mut pool.probes[at];
            chosen = Some(probe.server);
            // The request that is sent now is in flight there from now on.
            probe.in_flight += 1;
            probe.uses += 1;
            if probe.uses >= reuse {
                pool.probes.remove(at);
            }
            pool.remove_one();
        }
        let fleet = (0..self.servers).filter(|server| usable[*server]).collect();
        self.probe(&mut pool, fleet, cx.now());
        drop(pool);
        let mut rng = cx.rng(0x5052_4551);
        slate.rank(|candidate| match chosen {
            Some(server) => u64::from(candidate.id().slot() != server),
            // No probes: at random.
            None => rng.next_u64() >> 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenarios::{Scenario, Settings};
    use std::sync::Arc;

    #[test]
    fn probes_go_to_distinct_servers_of_the_fleet() {
        let stage = &Scenario::S1.stages(&Settings { requests: Some(0), ..Settings::default() })[0];
        let probed = Arc::new(Mutex::new(Vec::new()));
        let seen = probed.clone();
        stage
            .world()
            .run(move |desk| {
                let prequal =
                    Prequal { reports: desk.reports().clone(), servers: 4, pool: Mutex::new(Pool::new(desk.seed())) };
                let mut pool = prequal.pool.lock();
                for fleet in [vec![1, 3], vec![0, 1, 2, 3]] {
                    pool.probes.clear();
                    prequal.probe(&mut pool, fleet, Instant::default());
                    let mut servers: Vec<_> = pool.probes.iter().map(|probe| probe.server).collect();
                    servers.sort_unstable();
                    servers.dedup();
                    seen.lock().push(servers);
                }
                crate::sim::baselines::random(desk)
            })
            .unwrap();
        let probed = probed.lock();
        assert_eq!((&*probed[0], probed[1].len()), (&[1, 3][..], 3));
    }
}
