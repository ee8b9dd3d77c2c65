//! The requests of a run, one after the other.

use super::job::Request;
use super::workload::{Arrivals, Gaps};
use super::world::Hurry;
use super::{World, stream};
use crate::facts::{Facts, Prefix, Priority};
use crate::rng::{Rng, mix};
use std::sync::Arc;
use std::time::Duration;

/// Draws arrivals. Each purpose has random numbers of its own, so every policy meets the same requests.
#[derive(Debug)]
pub(super) struct Source<'w> {
    world: &'w World,
    draws: Draws,
    /// Requests a second at load 1.
    capacity: f64,
    /// Seconds since the start.
    clock: f64,
    step: usize,
    /// How many of its own were drawn.
    rows: u64,
    /// When the next comes and how long it is.
    next: Row,
    guest: Option<Visit>,
    number: u64,
    /// Requests after the warm-up.
    counted: u64,
    tenants: Vec<(Arc<str>, f64)>,
    model: Arc<str>,
}

/// Random numbers, each purpose with its own.
#[derive(Debug)]
struct Draws {
    gaps: Gaps,
    lengths: Rng,
    places: Rng,
    callers: Rng,
    hurry: Rng,
}

/// When a request comes, in seconds, and how long it is.
type Row = (f64, u32, u32);

/// The requests of a guest: of random numbers of its own, so that the others' are what they would be without it.
#[derive(Debug)]
struct Visit {
    draws: Draws,
    /// Requests a second.
    rate: f64,
    next: Row,
}

impl Draws {
    fn new(cv: f64, seed: u64) -> Self {
        let rng = |purpose| Rng::new(stream(seed, purpose));
        let gaps = Gaps::new(cv, stream(seed, "arrivals"));
        Self { gaps, lengths: rng("lengths"), places: rng("places"), callers: rng("callers"), hurry: rng("hurry") }
    }
}

impl Draws {
    /// The time that a caller gives to what takes so many seconds at least, whether that is hopeless, and the tokens that it
    /// expects.
    fn hurry(&mut self, hurry: &Hurry, least: f64, output: u32) -> (Duration, bool, Option<u64>) {
        let hopeless = self.hurry.unit() < hurry.hopeless;
        let point = self.hurry.unit();
        let expects = f64::from(output) * (1.0 + EXPECTED * (2.0 * self.hurry.unit() - 1.0));
        let pick = |fits: &dyn Fn(f64) -> bool| {
            let fitting: Vec<_> = hurry.times.iter().filter(|time| fits(time.as_secs_f64())).collect();
            fitting.get((point * fitting.len() as f64) as usize).map(|time| **time)
        };
        let short = pick(&|time| time < least).filter(|_| hopeless);
        let longest = || hurry.times.iter().max().copied().unwrap_or_default();
        let time = short.or_else(|| pick(&|time| time >= CHANCE * least)).unwrap_or_else(longest);
        (time, short.is_some(), Some((expects.round() as u64).max(1)))
    }
}

/// A request that has a chance has so many times what it takes at least.
const CHANCE: f64 = 2.0;
/// How far callers are off at most when they say how long an answer will be.
const EXPECTED: f64 = 0.2;

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
    /// The time that it gives.
    pub(super) deadline: Duration,
    /// No server can answer it in that time.
    pub(super) hopeless: bool,
    /// How many tokens its caller expects, where it says so.
    pub(super) expects: Option<u64>,
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
        // Never drawn, for no share is left; its requests come by themselves.
        let guest = world.guest.iter().map(|guest| (Arc::from(guest.name.as_str()), 0.0));
        let tenants = tenants.chain(guest).collect();
        let capacity = world.capacity();
        let visit = |guest: &super::world::Guest| {
            let draws = Draws::new(guest.cv, stream(world.seed, "guest"));
            let mut visit = Visit { draws, rate: capacity * guest.load, next: (0.0, 0, 0) };
            visit.draw(world);
            visit
        };
        let mut source = Self {
            world,
            draws: Draws::new(cv, world.seed),
            capacity,
            clock: 0.0,
            step: 0,
            rows: 0,
            next: (0.0, 0, 0),
            guest: world.guest.as_ref().map(visit),
            number: 0,
            counted: 0,
            tenants,
            model: Arc::from(world.asked_model()),
        };
        source.next = source.next_row();
        source
    }

    /// What a router is told of a request: never how long its answer will be, but what its caller expects; and unless it
    /// `tells`, not whose it is nor how much it matters.
    pub(super) fn facts(&self, arrival: &Arrival, tells: bool) -> Facts {
        let mut facts = Facts::model(self.model.clone()).prompt_tokens(arrival.request.prompt.into());
        if arrival.replay_safe {
            facts = facts.replay_safe();
        }
        if let Some(tokens) = arrival.expects {
            facts = facts.output_tokens(tokens);
        }
        if arrival.request.critical && tells {
            facts = facts.priority(Priority::Critical);
        }
        if arrival.request.bound
            && let Some((_, regions)) = &self.world.residency
        {
            facts = facts.residency(regions.iter().cloned());
        }
        if let Some((tenant, _)) = self.tenants.get(arrival.tenant).filter(|_| tells) {
            facts = facts.tenant(tenant.clone());
        }
        if let Some(blocks) = &arrival.request.blocks {
            facts = facts.prefix(Prefix::of_hashes(Request::BLOCK, blocks.iter().copied()));
        }
        if let Some(tokens) = self.world.longest_answer {
            facts = facts.max_output_tokens(tokens);
        }
        if let Some(cap) = self.world.cost_cap {
            facts = facts.max_cost(cap);
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

    /// When the next of its own comes and how long it is.
    fn next_row(&mut self) -> Row {
        let row = self.rows as usize;
        self.rows += 1;
        if let Arrivals::Trace(trace) = &self.world.arrivals {
            let (at, prompt, output) = trace.row(row);
            // Stretched to the load that the world asks for.
            let stretch = trace.rate() / (self.capacity * self.world.load[0].1);
            return (at.as_secs_f64() * stretch, prompt, output);
        }
        let gap = self.draws.gaps.draw();
        let (prompt, output) = self.world.lengths.draw(&mut self.draws.lengths);
        let at = self.after(gap);
        self.clock = at;
        (at, prompt, output)
    }
}

impl Visit {
    fn draw(&mut self, world: &World) {
        let at = self.next.0 + self.draws.gaps.draw() / self.rate;
        let (prompt, output) = world.lengths.draw(&mut self.draws.lengths);
        self.next = (at, prompt, output);
    }
}

impl Iterator for Source<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let world = self.world;
        if world.requests.is_some_and(|most| self.counted >= most) {
            return None;
        }
        let visits = self.guest.as_ref().is_some_and(|guest| guest.next.0 < self.next.0);
        let row = self.rows - 1;
        let (at, prompt, output) = match &mut self.guest {
            Some(guest) if visits => {
                let next = guest.next;
                guest.draw(world);
                next
            }
            _ => {
                let next = self.next;
                self.next = self.next_row();
                next
            }
        };
        if at >= world.lasting.as_secs_f64() {
            return None;
        }
        let number = self.number;
        self.number += 1;
        self.counted += u64::from(at >= world.warm_up.as_secs_f64());
        let draws = match &mut self.guest {
            Some(guest) if visits => &mut guest.draws,
            _ => &mut self.draws,
        };
        let router = draws.places.below(world.routers);
        let point = draws.callers.unit();
        let drawn = self.tenants.iter().position(|(_, upto)| point < *upto).unwrap_or(0);
        let tenant = if visits { self.tenants.len() - 1 } else { drawn };
        let critical = draws.callers.unit() < world.critical;
        let session = (world.sessions > 0).then(|| draws.callers.next_u64() % world.sessions);
        let leaves = world.impatient.filter(|(share, _)| draws.callers.unit() < *share).map(|(_, after)| after);
        // Drawn only where it is asked for: worlds without stay as they were.
        let replay_safe = world.replay_safe >= 1.0 || draws.callers.unit() < world.replay_safe;
        let cached = world.servers.iter().any(|server| server.cache_blocks > 0);
        let blocks = match &world.arrivals {
            Arrivals::Trace(trace) if cached && !visits => trace.blocks(row as usize),
            _ => session.filter(|_| cached).map(|session| blocks(session, prompt)),
        };
        let bound = world.residency.as_ref().is_some_and(|(share, _)| draws.callers.unit() < *share);
        let (deadline, hopeless, expects) = match &world.hurry {
            Some(hurry) => draws.hurry(hurry, world.least_time(prompt, output), output),
            None => (world.deadline, false, None),
        };
        let request = Request { number, prompt, output, from: 0, blocks, critical, bound };
        Some(Arrival {
            at: (at * 1e9) as u64,
            router,
            request,
            tenant,
            replay_safe,
            session,
            leaves,
            deadline,
            hopeless,
            expects,
        })
    }
}

/// The whole blocks of a prompt; prompts of one conversation begin alike.
fn blocks(session: u64, prompt: u32) -> Arc<[u64]> {
    (0..u64::from(prompt / Request::BLOCK)).map(|block| mix(session, block)).collect()
}
