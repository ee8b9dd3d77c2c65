//! The requests of a run, one after the other.

use super::job::Request;
use super::workload::{Arrivals, Gaps};
use super::{World, stream};
use crate::facts::{Facts, Prefix, Priority};
use crate::rng::{Rng, mix};
use std::sync::Arc;
use std::time::Duration;

/// Draws arrivals. Each purpose has random numbers of its own, so every policy meets the same requests.
#[derive(Debug)]
pub(super) struct Source<'w> {
    world: &'w World,
    gaps: Gaps,
    lengths: Rng,
    places: Rng,
    callers: Rng,
    /// Requests a second at load 1.
    capacity: f64,
    /// Seconds since the start.
    clock: f64,
    step: usize,
    number: u64,
    /// Requests after the warm-up.
    counted: u64,
    tenants: Vec<(Arc<str>, f64)>,
    model: Arc<str>,
}

/// One request that comes.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Nanoseconds since the start.
    pub(super) at: u64,
    pub(super) router: usize,
    pub(super) request: Request,
    pub(super) tenant: usize,
    pub(super) replay_safe: bool,
    pub(super) session: Option<u64>,
    /// When the caller leaves, after the arrival.
    pub(super) leaves: Option<Duration>,
}

impl<'w> Source<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        let cv = match world.arrivals {
            Arrivals::Gamma { cv } => cv,
            Arrivals::Poisson | Arrivals::Trace(_) => 1.0,
        };
        let total: f64 = world.tenants.iter().map(|(_, share)| share).sum();
        let mut sum = 0.0;
        let tenants = world.tenants.iter().map(|(name, share)| {
            sum += share / total;
            (Arc::from(name.as_str()), sum)
        });
        Self {
            world,
            gaps: Gaps::new(cv, stream(world.seed, "arrivals")),
            lengths: Rng::new(stream(world.seed, "lengths")),
            places: Rng::new(stream(world.seed, "places")),
            callers: Rng::new(stream(world.seed, "callers")),
            capacity: world.capacity(),
            clock: 0.0,
            step: 0,
            number: 0,
            counted: 0,
            tenants: tenants.collect(),
            model: Arc::from(world.servers[0].model.as_str()),
        }
    }

    /// What a router is told of a request: never how long its answer will be.
    pub(super) fn facts(&self, arrival: &Arrival) -> Facts {
        let mut facts = Facts::model(self.model.clone()).prompt_tokens(arrival.request.prompt.into());
        if arrival.replay_safe {
            facts = facts.replay_safe();
        }
        if arrival.request.critical {
            facts = facts.priority(Priority::Critical);
        }
        if arrival.request.bound
            && let Some((_, regions)) = &self.world.residency
        {
            facts = facts.residency(regions.iter().cloned());
        }
        if let Some((tenant, _)) = self.tenants.get(arrival.tenant) {
            facts = facts.tenant(tenant.clone());
        }
        if let Some(blocks) = &arrival.request.blocks {
            facts = facts.prefix(Prefix::of_hashes(Request::BLOCK, blocks.iter().copied()));
        }
        if let Some(session) = arrival.session {
            facts = facts.session(format!("s{session}"));
        }
        facts
    }

    /// Those of a request of which nothing is known but the model.
    pub(super) fn plain_facts(&self) -> Facts {
        Facts::model(self.model.clone())
    }

    /// The moment so many mean gaps after the clock, each as long as the load of its time makes it.
    fn after(&mut self, gap: f64) -> f64 {
        let steps = &self.world.load;
        let (mut clock, mut left) = (self.clock, gap);
        loop {
            let rate = self.capacity * steps[self.step].1;
            let at = clock + left / rate;
            match steps.get(self.step + 1).map(|(from, _)| from.as_secs_f64()) {
                Some(next) if at >= next => {
                    left = (left - (next - clock) * rate).max(0.0);
                    clock = next;
                    self.step += 1;
                }
                _ => return at,
            }
        }
    }

    /// When the next comes and how long it is.
    fn next_row(&mut self) -> (f64, u32, u32) {
        if let Arrivals::Trace(trace) = &self.world.arrivals {
            let (at, prompt, output) = trace.row(self.number as usize);
            // Stretched to the load that the world asks for.
            let stretch = trace.rate() / (self.capacity * self.world.load[0].1);
            return (at.as_secs_f64() * stretch, prompt, output);
        }
        let gap = self.gaps.draw();
        let (prompt, output) = self.world.lengths.draw(&mut self.lengths);
        (self.after(gap), prompt, output)
    }
}

impl Iterator for Source<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let world = self.world;
        if world.requests.is_some_and(|most| self.counted >= most) {
            return None;
        }
        let (at, prompt, output) = self.next_row();
        self.clock = at;
        if at >= world.lasting.as_secs_f64() {
            return None;
        }
        let number = self.number;
        self.number += 1;
        self.counted += u64::from(at >= world.warm_up.as_secs_f64());
        let router = self.places.below(world.routers);
        let point = self.callers.unit();
        let tenant = self.tenants.iter().position(|(_, upto)| point < *upto).unwrap_or(0);
        let critical = self.callers.unit() < world.critical;
        let session = (world.sessions > 0).then(|| self.callers.next_u64() % world.sessions);
        let leaves = world.impatient.filter(|(share, _)| self.callers.unit() < *share).map(|(_, after)| after);
        // Drawn only where it is asked for: worlds without stay as they were.
        let replay_safe = world.replay_safe >= 1.0 || self.callers.unit() < world.replay_safe;
        let cached = world.servers.iter().any(|server| server.cache_blocks > 0);
        let blocks = match &world.arrivals {
            Arrivals::Trace(trace) if cached => trace.blocks(number as usize),
            _ => session.filter(|_| cached).map(|session| blocks(session, prompt)),
        };
        let bound = world.residency.as_ref().is_some_and(|(share, _)| self.callers.unit() < *share);
        let request = Request { number, prompt, output, from: 0, blocks, critical, bound };
        Some(Arrival { at: (at * 1e9) as u64, router, request, tenant, replay_safe, session, leaves })
    }
}

/// The whole blocks of a prompt; prompts of one conversation begin alike.
fn blocks(session: u64, prompt: u32) -> Arc<[u64]> {
    (0..u64::from(prompt / Request::BLOCK)).map(|block| mix(session, block)).collect()
}
