//! Comparisons that others can repeat: worlds, and what counts in each.
//!
//! Every scenario takes any seed, any load around its own, any trace. Its figures are about requests that came after
//! the warm-up, or in the time that matters for it; each [`Measured`] says which.

use super::baselines::Contestant;
use super::{Arrivals, Run, Server, Trace, World, WorldError, at, secs, stream};
use crate::rng::Rng;
use std::time::Duration;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A pool of unequal servers under bursts.
    S1,
    /// One of ten turns gray: slow, or failing fast, with green probes.
    S2,
    /// A fleet at 85 % slows down for half a minute, while callers time out and retry.
    S4,
    /// Four remote providers; the best turns slow for five minutes.
    S8,
    /// Servers whose speed is never the same, under a load that climbs beyond what they can do.
    S16,
    /// A server joins a busy fleet.
    S18,
}

/// How a scenario is played.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many routers share the fleet; 0 counts as 1.
    pub routers: usize,
    /// Instead of the scenario's own load.
    pub load: Option<f64>,
    /// At most so many requests that count: those of the warm-up come before them.
    pub requests: Option<u64>,
    /// Lengths of requests instead of those of the Azure conversation trace. The arrivals stay those of the scenario.
    pub trace: Option<Trace>,
}

/// One way in which a scenario plays out.
#[derive(Clone, Debug)]
pub struct Stage {
    scenario: Scenario,
    variant: &'static str,
    load: f64,
    world: World,
    /// When faults were on, in seconds.
    windows: Vec<(f64, f64)>,
    /// What counts, in seconds.
    counted: (f64, f64),
}

/// The figures of one run. Where no request counts, they are no numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// How many requests came after the warm-up.
    pub requests: usize,
    /// The share of requests served well, of those that count; in S16 of what the fleet could do, at its worst step.
    pub goodput: f64,
    /// Seconds to the first token: median.
    pub ttft_p50: f64,
    /// Nine in ten.
    pub ttft_p90: f64,
    /// Ninety-nine in a hundred.
    pub ttft_p99: f64,
    /// Seconds to the last token: ninety-nine in a hundred.
    pub e2e_p99: f64,
    /// Attempts per request.
    pub attempts: f64,
    /// The share of tokens that were worked for nothing.
    pub wasted: f64,
    /// Answers 429 in a thousand requests.
    pub rate_limited: f64,
    /// Dollars.
    pub cost: f64,
    /// Seconds from the fault's start until the policy had answered to it: in windows of five seconds, goodput stays
    /// above 0.95 (S8: the mean time to first token within a quarter of what it is in the end of the fault). Nothing is
    /// told of a run that ended before the fault did.
    pub time_to_detect: Option<f64>,
    /// Seconds from the fault's end until the run is as before (S2, S4: goodput 0.99 in windows of five seconds, for
    /// good; S8: mean time to first token within 10 % of that before, in windows of ten). Nothing is told of a run that
    /// ended less than a minute after the fault.
    pub time_to_recover: Option<f64>,
    /// Jain's index over tenants.
    pub jain: f64,
    /// The largest share of one server; in S18 the newcomer's, in windows of twenty seconds, divided by its fair share.
    pub share_max: f64,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::S1, Self::S2, Self::S4, Self::S8, Self::S16, Self::S18];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S4 => "S4",
            Self::S8 => "S8",
            Self::S16 => "S16",
            Self::S18 => "S18",
        }
    }

    /// What it is about.
    pub const fn title(self) -> &'static str {
        match self {
            Self::S1 => "pool: 16 unequal servers, bursts",
            Self::S2 => "gray failure: one of ten, 20 times slower or 95 % errors, green probes",
            Self::S4 => "storm: eight servers at 85 %, a third of their speed for 30 s",
            Self::S8 => "providers: the best of four turns slow for 300 s",
            Self::S16 => "ramp: noisy speeds, load 0.75 to 1.74",
            Self::S18 => "cold start: a server joins a busy fleet",
        }
    }

    /// Who has this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name().eq_ignore_ascii_case(name))
    }

    /// The load that it is played at, with this many routers.
    pub const fn load(self, routers: usize) -> f64 {
        match self {
            Self::S1 => {
                if routers > 1 {
                    0.9
                } else {
                    0.7
                }
            }
            Self::S2 => 0.6,
            Self::S4 => 0.85,
            Self::S8 => 0.3,
            Self::S16 => 0.75,
            Self::S18 => 0.7,
        }
    }

    /// The worlds of it.
    pub fn stages(self, settings: &Settings) -> Vec<Stage> {
        let load = settings.load.unwrap_or(self.load(settings.routers));
        let stage = |variant, world: World, windows: Vec<(f64, f64)>, counted| {
            let mut world = world.routers(settings.routers.max(1)).seed(settings.seed);
            if let Some(trace) = &settings.trace {
                world = world.lengths(trace.lengths());
            }
            if let Some(requests) = settings.requests {
                world = world.requests(requests);
            }
            Stage { scenario: self, variant, load, world, windows, counted }
        };
        match self {
            Self::S1 => {
                let speeds = [1.0; 12].into_iter().chain([0.5; 2]).chain([0.2; 2]);
                let servers = (1..).zip(speeds).map(|(number, speed)| Server::new(format!("s{number}")).speed(speed));
                let world = World::new().servers(servers).load(load).arrivals(Arrivals::Gamma { cv: 1.5 });
                let world = world.lasting(secs(600)).warm_up(secs(60)).deadline(secs(600));
                vec![stage("", world, Vec::new(), (60.0, 600.0))]
            }
            Self::S2 => {
                let world = || {
                    let world = World::new().pool("s", 10).load(load).lasting(secs(400)).warm_up(secs(60));
                    world.probes(secs(5)).deadline(secs(120))
                };
                let gray = || at(secs(100)).lasting(secs(200)).server("s-4");
                let windows = || vec![(100.0, 300.0)];
                vec![
                    stage("slow", world().fault(gray().slow(20.0)), windows(), (100.0, 300.0)),
                    stage("errors", world().fault(gray().errors(0.95, secs(0.005))), windows(), (100.0, 300.0)),
                ]
            }
            Self::S4 => {
                let world = World::new().pool("s", 8).load(load).lasting(secs(240)).warm_up(secs(30)).slo(secs(5));
                let world = world.attempt_limit(secs(5)).deadline(secs(120));
                let world = world.fault(at(secs(60)).lasting(secs(30)).everywhere().speed(0.3));
                vec![stage("", world, vec![(60.0, 90.0)], (150.0, 240.0))]
            }
            Self::S8 => {
                let provider = |(name, base): (&str, f64)| {
                    // What a provider adds outweighs what a prompt costs; it has room for everybody.
                    let server = Server::new(name).region(name).base_latency(secs(base));
                    server.prefill_rate(200_000.0).decode(Duration::from_millis(10), Duration::ZERO, 4_096)
                };
                let servers = [("a", 0.3), ("b", 0.6), ("c", 0.9), ("d", 1.5)].map(provider);
                // A few requests a second for each unit of load: these servers have no capacity to speak of.
                let world = World::new().servers(servers).lasting(secs(900)).warm_up(secs(100)).slo(secs(2));
                let rate = 60.0 * load;
                let capacity = world.capacity();
                let world = world.load(rate / capacity).deadline(secs(120));
                let world = world.fault(at(secs(300)).lasting(secs(300)).server("a").latency(secs(2.7)));
                vec![stage("", world, vec![(300.0, 600.0)], (100.0, 900.0))]
            }
            Self::S16 => {
                let count = 10;
                let world = World::new().pool("s", count).lasting(secs(S16_STEP * 9.0)).slo(secs(5));
                let world = world.attempt_limit(secs(5)).deadline(secs(600));
                let steps =
                    (0..9).map(|step| (secs(S16_STEP * f64::from(step)), load * S16_MEAN * S16_FACTOR.powi(step)));
                let mut rng = Rng::new(stream(settings.seed, "speeds"));
                let mut noise = Vec::new();
                for number in 1..=count {
                    let mut time = 0.0;
                    while time < S16_STEP * 9.0 {
                        let lasts = 5.0 + 55.0 * rng.unit();
                        let speed = 0.3 + 0.7 * rng.unit();
                        noise.push(at(secs(time)).lasting(secs(lasts)).server(format!("s-{number}")).speed(speed));
                        time += lasts;
                    }
                }
                vec![stage("", world.load_steps(steps).faults(noise), Vec::new(), (0.0, S16_STEP * 9.0))]
            }
            Self::S18 => {
                let newcomer = Server::new("new").joins_after(secs(120));
                let world = World::new().pool("s", 10).server(newcomer).load(load).lasting(secs(300));
                let world = world.warm_up(secs(60)).deadline(secs(120));
                vec![stage("", world, vec![(120.0, 180.0)], (60.0, 300.0))]
            }
        }
    }
}

/// The length of a step of S16, in seconds, the mean speed of its servers, and what a step adds.
const S16_STEP: f64 = 60.0;
const S16_MEAN: f64 = 0.65;
const S16_FACTOR: f64 = 10.0 / 9.0;

impl Stage {
    /// The scenario that it belongs to.
    pub const fn scenario(&self) -> Scenario {
        self.scenario
    }

    /// Which way it plays out; empty where there is one only.
    pub const fn variant(&self) -> &'static str {
        self.variant
    }

    /// The load that it is played at.
    pub const fn load(&self) -> f64 {
        self.load
    }

    /// When something was wrong, in seconds.
    pub fn windows(&self) -> &[(f64, f64)] {
        &self.windows
    }

    /// A first token within this time is good, in seconds.
    pub const fn slo(&self) -> f64 {
        self.world.slo.as_secs_f64()
    }

    /// The world.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Plays it.
    ///
    /// # Errors
    ///
    /// [`WorldError`], where the settings make no sense.
    pub fn run(&self, contestant: Contestant) -> Result<Run, WorldError> {
        self.world.run(|desk| contestant.stack(desk))
    }

    /// What is measured in this scenario.
    pub fn measure(&self, run: &Run) -> Measured {
        let (from, to) = self.counted;
        let recovered = self.windows.first().map(|window| window.1);
        let last_came = run.records().last().map_or(0.0, |record| record.at);
        let (time_to_detect, time_to_recover) = match self.scenario {
            Scenario::S8 => self.reaction(run),
            Scenario::S2 | Scenario::S4 => {
                let (start, end) = self.windows[0];
                let last = self.world.lasting.as_secs_f64();
                let recover = recovered.and_then(|end| run.time_to_recover(end, last, 0.99, 5.0));
                (run.time_to_recover(start, end, 0.95, 5.0), recover)
            }
            _ => (None, None),
        };
        let requests = run.requests();
        let known = |value: f64| if requests > 0 { value } else { f64::NAN };
        Measured {
            requests,
            goodput: match self.scenario {
                Scenario::S16 => known(self.worst_step(run)),
                _ if run.between(from, to).next().is_none() => f64::NAN,
                _ => run.goodput_between(from, to),
            },
            ttft_p50: known(run.ttft(0.5)),
            ttft_p90: known(run.ttft(0.9)),
            ttft_p99: known(run.ttft(0.99)),
            e2e_p99: known(run.end_to_end(0.99)),
            attempts: known(run.attempts_per_request()),
            wasted: run.wasted_token_share(),
            rate_limited: run.rate_limited_per_1k(),
            cost: run.cost(),
            time_to_detect: time_to_detect.filter(|_| recovered.is_some_and(|end| last_came >= end)),
            time_to_recover: time_to_recover.filter(|_| recovered.is_some_and(|end| last_came >= end + 60.0)),
            jain: run.jain(),
            share_max: match self.scenario {
                Scenario::S18 => self.newcomer(run),
                _ => run.share_max(),
            },
        }
    }

    /// S8: when the mean time to first token is what it can be.
    fn reaction(&self, run: &Run) -> (Option<f64>, Option<f64>) {
        let (start, end) = self.windows[0];
        let before = run.mean_ttft_between(start - 100.0, start).unwrap_or(f64::INFINITY);
        let during = run.mean_ttft_between(end - 100.0, end).unwrap_or(f64::INFINITY);
        let settled = |from: f64, until: f64, most: f64| {
            let mut since = None;
            let mut time = from;
            while time + 10.0 <= until {
                if run.mean_ttft_between(time, time + 10.0).is_none_or(|mean| mean <= most) {
                    since = since.or(Some(time - from));
                } else {
                    since = None;
                }
                time += 10.0;
            }
            since
        };
        let last = self.world.lasting.as_secs_f64();
        (settled(start, end, during * 1.25), settled(end, last, before * 1.1))
    }

    /// S16: requests served well at the worst step at or beyond capacity, as a share of what the servers could do then.
    fn worst_step(&self, run: &Run) -> f64 {
        let beyond = self.steps(run).into_iter().filter(|(offered, _)| *offered >= 1.0);
        beyond.map(|(_, good)| good).min_by(f64::total_cmp).unwrap_or_else(|| run.goodput())
    }

    /// S16: of each step, the requests that came and those served well, as shares of what the servers could do then.
    pub fn steps(&self, run: &Run) -> Vec<(f64, f64)> {
        let step = |step: i32| {
            let (from, to) = (S16_STEP * f64::from(step), S16_STEP * f64::from(step + 1));
            let possible = self.possible(from, to);
            let good = run.between(from, to).filter(|record| run.is_good(record)).count();
            (run.between(from, to).count() as f64 / possible, good as f64 / possible)
        };
        (0..9).map(step).collect()
    }

    /// How many requests the servers could serve between two moments, at the speeds that they had.
    fn possible(&self, from: f64, to: f64) -> f64 {
        let full = self.world.lengths.capacity(&Server::new("any"));
        let spells = self.world.faults.iter().filter_map(|fault| {
            let (start, end) = fault.window(self.world.lasting);
            let overlap = end.as_secs_f64().min(to) - start.as_secs_f64().max(from);
            (overlap > 0.0).then(|| overlap * fault.speed_share())
        });
        spells.sum::<f64>() * full
    }

    /// S18: the newcomer's largest share of twenty seconds while it warms up, divided by a fair share.
    fn newcomer(&self, run: &Run) -> f64 {
        let (start, end) = self.windows[0];
        let fair = 1.0 / self.world.servers.len() as f64;
        let mut most: f64 = 0.0;
        let mut time = start;
        while time + 20.0 <= end {
            most = most.max(run.shares_between(time, time + 20.0).last().copied().unwrap_or(0.0) / fair);
            time += 5.0;
        }
        most
    }
}
