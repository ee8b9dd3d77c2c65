//! Comparisons that others can repeat: worlds, and what counts in each.
//!
//! Every scenario takes any seed, any load around its own, any trace. Its figures are about requests that came after
//! the warm-up, or in the time that matters for it; each [`Measured`] says which.

mod blind;
mod deadlines;
mod measured;
mod pools;
mod prefixes;
mod providers;
mod quotas;
mod regions;
mod rollouts;
mod stragglers;
mod streams;
mod tenants;

pub use measured::Measured;

use super::baselines::Contestant;
use super::{Run, Trace, World, WorldError};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A pool of unequal servers under bursts.
    S1,
    /// One of ten turns gray: slow, or failing fast, with green probes.
    S2,
    /// The callers' region goes down, one of three.
    S3,
    /// A fleet at 85 % slows down for half a minute, while callers time out and retry.
    S4,
    /// Three providers with quotas of tokens per minute, and with prices, under the bursts of a code completion service.
    S5,
    /// One execution in fifty takes eight times as long.
    S6,
    /// Conversations that grow, on servers which keep what they computed of them.
    S7,
    /// Four remote providers; the best turns slow for five minutes.
    S8,
    /// More than a year of incidents at two providers.
    S9,
    /// Ten tenants, one of which comes in bursts.
    S10,
    /// An alias gives a share of its requests to a bad version.
    S11,
    /// The same as S5 at twice the rate; three in ten requests are critical.
    S12,
    /// Callers with a second, five seconds or a minute; one in five asks for what no server can do in that time.
    S13,
    /// Two of eight servers cut their streams.
    S14,
    /// One of eight servers goes down and comes back every ten seconds.
    S15,
    /// Servers whose speed is never the same, under a load that climbs beyond what they can do.
    S16,
    /// Everything that routers hear of servers is gone for an hour.
    S17,
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
    /// The same without one tenant.
    alone: Option<World>,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
        Self::S12,
        Self::S13,
        Self::S14,
        Self::S15,
        Self::S16,
        Self::S17,
        Self::S18,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S7 => "S7",
            Self::S8 => "S8",
            Self::S9 => "S9",
            Self::S10 => "S10",
            Self::S11 => "S11",
            Self::S12 => "S12",
            Self::S13 => "S13",
            Self::S14 => "S14",
            Self::S15 => "S15",
            Self::S16 => "S16",
            Self::S17 => "S17",
            Self::S18 => "S18",
        }
    }

    /// What it is about.
    pub const fn title(self) -> &'static str {
        match self {
            Self::S1 => "pool: 16 unequal servers, bursts",
            Self::S2 => "gray failure: one of ten, 20 times slower or 95 % errors, green probes",
            Self::S3 => "region: the nearest of three is down for 200 s",
            Self::S4 => "storm: eight servers at 85 %, a third of their speed for 30 s",
            Self::S5 => "quotas: a code completion trace over three providers with quotas and prices",
            Self::S6 => "stragglers: ten servers of eight slots, 2 % of the executions take eight times as long",
            Self::S7 => "prefixes: a conversation trace at 2.2 times its rate, eight servers with prefix caches",
            Self::S8 => "providers: the best of four turns slow for 300 s",
            Self::S9 => "year: 10,000 h of incidents at two providers in two regions",
            Self::S10 => "tenants: 30 % of the requests are one tenant's, in bursts",
            Self::S11 => "rollout: a tenth of the requests for a version that fails 15 %, or begins to answer late",
            Self::S12 => "quotas at twice the rate, 30 % critical",
            Self::S13 => "deadlines: callers give 1, 5 or 60 s, and one in five asks for the impossible",
            Self::S14 => "cuts: two of eight servers cut their streams after 2 and after 60 tokens, for 200 s",
            Self::S15 => "flapping: one of eight servers, 10 s up and 10 s down",
            Self::S16 => "ramp: noisy speeds, load 0.75 to 1.74",
            Self::S17 => "blind: no probes and no load reports for an hour, a server down in it",
            Self::S18 => "cold start: a server joins a busy fleet",
        }
    }

    /// Who has this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name().eq_ignore_ascii_case(name))
    }

    /// The load that it is played at, with this many routers; the first, where it is played at more than one.
    pub const fn load(self, routers: usize) -> f64 {
        match self {
            Self::S1 => {
                if routers > 1 {
                    0.9
                } else {
                    0.7
                }
            }
            Self::S2 | Self::S14 | Self::S15 => 0.6,
            Self::S3 => regions::LOADS[0].1,
            Self::S4 => 0.85,
            Self::S6 => 0.7,
            Self::S7 => prefixes::SPEED,
            Self::S8 => 0.3,
            Self::S5 | Self::S9 => 1.0,
            Self::S10 => 0.6,
            Self::S11 => 0.5,
            Self::S12 => 2.0,
            Self::S13 => 1.1,
            Self::S16 => 0.75,
            Self::S17 => 0.4,
            Self::S18 => 0.7,
        }
    }

    /// The worlds of it.
    pub fn stages(self, settings: &Settings) -> Vec<Stage> {
        let load = settings.load.unwrap_or(self.load(settings.routers));
        match self {
            Self::S1 => vec![pools::unequal(settings, load)],
            Self::S2 => pools::gray(settings, load),
            Self::S3 => regions::lost(settings),
            Self::S4 => vec![pools::storm(settings, load)],
            Self::S5 => quotas::bursts(settings, load),
            Self::S6 => vec![stragglers::slow_ones(settings, load)],
            Self::S7 => vec![prefixes::conversations(settings, load)],
            Self::S8 => vec![providers::slow(settings, load)],
            Self::S9 => vec![providers::year(settings, load)],
            Self::S10 => vec![tenants::loud(settings, load)],
            Self::S11 => rollouts::bad_version(settings, load),
            Self::S12 => quotas::mix(settings, load),
            Self::S13 => vec![deadlines::hurried(settings, load)],
            Self::S14 => streams::cut(settings, load),
            Self::S15 => vec![pools::flapping(settings, load)],
            Self::S16 => vec![pools::ramp(settings, load)],
            Self::S17 => blind::blind(settings, load),
            Self::S18 => vec![pools::joining(settings, load)],
        }
    }
}

impl Settings {
    /// A stage of this world, under these settings.
    fn stage(&self, scenario: Scenario, load: f64, world: World, counted: (f64, f64)) -> Stage {
        let world = self.apply(world);
        Stage { scenario, variant: "", load, world, windows: Vec::new(), counted, alone: None }
    }

    fn apply(&self, world: World) -> World {
        let mut world = world.routers(self.routers.max(1)).seed(self.seed);
        if let Some(trace) = &self.trace {
            world = world.lengths(trace.lengths());
        }
        if let Some(requests) = self.requests {
            world = world.requests(requests);
        }
        world
    }
}

impl Stage {
    /// With this name among those of its scenario.
    const fn called(mut self, variant: &'static str) -> Self {
        self.variant = variant;
        self
    }

    /// With a fault between two moments, in seconds.
    fn disturbed(mut self, from: f64, to: f64) -> Self {
        self.windows.push((from, to));
        self
    }

    /// Beside what it is in this world.
    fn beside(mut self, alone: World) -> Self {
        self.alone = Some(alone);
        self
    }

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

    /// Seconds for which requests come.
    pub const fn lasting(&self) -> f64 {
        self.world.lasting.as_secs_f64()
    }

    /// Plays it.
    ///
    /// # Errors
    ///
    /// [`WorldError`], where the settings make no sense.
    pub fn run(&self, contestant: Contestant) -> Result<Run, WorldError> {
        let mut run = self.world.run(|desk| contestant.stack(desk))?;
        if let Some(alone) = &self.alone {
            let (from, to) = self.counted;
            run.alone = Some(alone.run(|desk| contestant.stack(desk))?.goodput_between(from, to));
        }
        Ok(run)
    }
}
