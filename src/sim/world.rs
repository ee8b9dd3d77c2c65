//! [`World`]: what is simulated.

use super::rollout::Rollout;
use super::workload::{Arrivals, Lengths};
use super::{Fault, Server, Trace};
use std::collections::BTreeMap;
use std::time::Duration;

/// A fleet, its routers, the requests that come, and what goes wrong. [`run`](Self::run) plays it.
///
/// ```
/// use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
/// use fallway::sim::{World, at, secs};
///
/// let run = World::new()
///     .pool("eu", 6)
///     .pool("us", 6)
///     .routers(4)
///     .load(0.4)
///     .lasting(secs(120.0))
///     .fault(at(secs(60.0)).lasting(secs(30.0)).region("eu").down())
///     .run(|_| predicted_ttft().fail_safe(FailSafe::default()))?;
/// assert!(run.goodput() > 0.97, "{run}");
/// assert_eq!(run.leaked(), 0);
/// # Ok::<(), fallway::sim::WorldError>(())
/// ```
#[derive(Clone, Debug)]
pub struct World {
    pub(super) servers: Vec<Server>,
    pub(super) faults: Vec<Fault>,
    pub(super) routers: usize,
    pub(super) homes: Vec<String>,
    pub(super) round_trips: BTreeMap<(String, String), Duration>,
    pub(super) load: Vec<(Duration, f64)>,
    pub(super) arrivals: Arrivals,
    pub(super) lengths: Lengths,
    pub(super) lasting: Duration,
    pub(super) requests: Option<u64>,
    pub(super) warm_up: Duration,
    pub(super) slo: Duration,
    pub(super) deadline: Duration,
    pub(super) hurry: Option<Hurry>,
    pub(super) attempt_limit: Option<Duration>,
    pub(super) tenants: Vec<(String, f64)>,
    pub(super) guest: Option<Guest>,
    pub(super) critical: f64,
    pub(super) residency: Option<(f64, Vec<String>)>,
    pub(super) longest_answer: Option<u64>,
    pub(super) cost_cap: Option<u64>,
    pub(super) replay_safe: f64,
    pub(super) sessions: u64,
    pub(super) probes: Option<Duration>,
    pub(super) impatient: Option<(f64, Duration)>,
    pub(super) resuming: bool,
    pub(super) reports_every: Duration,
    pub(super) load_signals: bool,
    pub(super) rollout: Option<Rollout>,
    pub(super) seed: u64,
}

/// A tenant whose requests come by themselves.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) load: f64,
    pub(super) cv: f64,
}

/// Callers with deadlines of their own.
#[derive(Clone, Debug)]
pub(super) struct Hurry {
    /// The share that asks for what no server can do.
    pub(super) hopeless: f64,
    pub(super) times: Vec<Duration>,
}

impl World {
    /// How long a run lasts that is not told.
    pub const LASTING: Duration = Duration::from_secs(300);
    /// A first token within this time is good.
    pub const SLO: Duration = Duration::from_secs(2);
    /// The time that callers give a request, in all.
    pub const DEADLINE: Duration = Duration::from_secs(60);
    /// How old a load report is at most: as llm-d's scheduler has it (`--refresh-metrics-interval`).
    pub const REPORTS_EVERY: Duration = Duration::from_millis(50);
    /// A load report older than this is stale.
    pub const REPORTS_STALE: Duration = Duration::from_secs(2);

    /// One router, half of the fleet's capacity in requests like those of the Azure conversation trace, five minutes,
    /// no server yet.
    pub fn new() -> Self {
        Self {
            servers: Vec::new(),
            faults: Vec::new(),
            routers: 1,
            homes: Vec::new(),
            round_trips: BTreeMap::new(),
            load: vec![(Duration::ZERO, 0.5)],
            arrivals: Arrivals::Poisson,
            lengths: Lengths::default(),
            lasting: Self::LASTING,
            requests: None,
            warm_up: Duration::ZERO,
            slo: Self::SLO,
            deadline: Self::DEADLINE,
            hurry: None,
            attempt_limit: None,
            tenants: Vec::new(),
            guest: None,
            critical: 0.0,
            residency: None,
            longest_answer: None,
            cost_cap: None,
            replay_safe: 1.0,
            sessions: 0,
            probes: None,
            impatient: None,
            resuming: false,
            reports_every: Self::REPORTS_EVERY,
            load_signals: false,
            rollout: None,
            seed: 1,
        }
    }

    /// Adds a server. Positions in the world are those of joining: who joins later stands behind.
    #[must_use]
    pub fn server(self, server: Server) -> Self {
        self.servers([server])
    }

    /// Adds servers. Those that join later stand behind the others, in the order in which they join.
    #[must_use]
    pub fn servers(mut self, servers: impl IntoIterator<Item = Server>) -> Self {
        self.servers.extend(servers);
        // As routers number their backends, which reports and records rely on.
        self.servers.sort_by_key(|server| server.joins);
        self
    }

    /// Adds `count` equal servers in a region of this name: `eu-1`, `eu-2`, …
    #[must_use]
    pub fn pool(self, region: &str, count: usize) -> Self {
        self.servers((1..=count).map(|number| Server::new(format!("{region}-{number}")).region(region)))
    }

    /// How many routers share the fleet, without knowing of each other.
    #[must_use]
    pub const fn routers(mut self, count: usize) -> Self {
        self.routers = count;
        self
    }

    /// Where the routers stand, in turn; their round trips to other regions are longer.
    #[must_use]
    pub fn routers_in<S: Into<String>>(mut self, regions: impl IntoIterator<Item = S>) -> Self {
        self.homes = regions.into_iter().map(Into::into).collect();
        self
    }

    /// The round trip between two regions, or within one; without it, none.
    #[must_use]
    pub fn round_trip(mut self, one: impl Into<String>, other: impl Into<String>, time: Duration) -> Self {
        let (one, other) = (one.into(), other.into());
        self.round_trips.insert((one.clone(), other.clone()), time);
        self.round_trips.insert((other, one), time);
        self
    }

    /// The rate of requests, as a share of what the servers can serve ([`Lengths::capacity`]); default 0.5.
    #[must_use]
    pub fn load(mut self, share: f64) -> Self {
        self.load = vec![(Duration::ZERO, share)];
        self
    }

    /// Loads one after the other, each from its moment on.
    #[must_use]
    pub fn load_steps(mut self, steps: impl IntoIterator<Item = (Duration, f64)>) -> Self {
        self.load = steps.into_iter().collect();
        self
    }

    /// When requests come; default independently of each other.
    #[must_use]
    pub fn arrivals(mut self, arrivals: Arrivals) -> Self {
        self.arrivals = arrivals;
        self
    }

    /// How long they are.
    #[must_use]
    pub fn lengths(mut self, lengths: Lengths) -> Self {
        self.lengths = lengths;
        self
    }

    /// Requests of a trace: when they came, stretched to the load, and how long they were.
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        self.lengths = trace.lengths();
        self.arrivals = Arrivals::Trace(trace);
        self
    }

    /// Something goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Many things go wrong.
    #[must_use]
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
        self
    }

    /// For how long requests come; default five minutes. The run ends when the last is answered.
    #[must_use]
    pub const fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    /// At most so many requests that count: those of the [warm-up](Self::warm_up) come before them.
    #[must_use]
    pub const fn requests(mut self, count: u64) -> Self {
        self.requests = Some(count);
        self
    }

    /// Requests that come before are not counted.
    #[must_use]
    pub const fn warm_up(mut self, time: Duration) -> Self {
        self.warm_up = time;
        self
    }

    /// A first token within this time is good; default 2 s.
    #[must_use]
    pub const fn slo(mut self, first_token: Duration) -> Self {
        self.slo = first_token;
        self
    }

    /// The time that callers give a request, the whole answer included; default 60 s.
    #[must_use]
    pub const fn deadline(mut self, total: Duration) -> Self {
        self.deadline = total;
        self
    }

    /// Callers bring deadlines of their own, one of these times each, and say how long they expect the answer to be, give or
    /// take a fifth. Most have twice the time, at least, that the fastest server would take if it had nothing else to do. This
    /// share has less than that time, as far as there are requests that take so long: they have no chance, wherever they go.
    #[must_use]
    pub fn hurry(mut self, hopeless: f64, times: impl IntoIterator<Item = Duration>) -> Self {
        self.hurry = Some(Hurry { hopeless, times: times.into_iter().collect() });
        self
    }

    /// How long a call may take to its first token, as every profile says; by default nothing.
    #[must_use]
    pub const fn attempt_limit(mut self, limit: Duration) -> Self {
        self.attempt_limit = Some(limit);
        self
    }

    /// Tenants, each with its share of the requests.
    #[must_use]
    pub fn tenants<S: Into<String>>(mut self, tenants: impl IntoIterator<Item = (S, f64)>) -> Self {
        self.tenants = tenants.into_iter().map(|(name, share)| (name.into(), share)).collect();
        self
    }

    /// One more tenant, beside the [others](Self::tenants), whose requests come by themselves: at a rate of so much of what the
    /// servers can serve, with gaps of this coefficient of variation. The others' requests are those that would come without
    /// it.
    #[must_use]
    pub fn guest(mut self, name: impl Into<String>, load: f64, cv: f64) -> Self {
        self.guest = Some(Guest { name: name.into(), load, cv });
        self
    }

    /// The share of requests that are critical; the others are standard.
    #[must_use]
    pub const fn critical_share(mut self, share: f64) -> Self {
        self.critical = share;
        self
    }

    /// This share of the requests may be served in these regions only.
    #[must_use]
    pub fn residency<S: Into<String>>(mut self, share: f64, regions: impl IntoIterator<Item = S>) -> Self {
        self.residency = Some((share, regions.into_iter().map(Into::into).collect()));
        self
    }

    /// Requests say that their answers have so many tokens at most ([`Facts::max_output_tokens`](crate::Facts::max_output_tokens)).
    #[must_use]
    pub const fn longest_answer(mut self, tokens: u64) -> Self {
        self.longest_answer = Some(tokens);
        self
    }

    /// What each request may cost, in pico-dollars ([`Facts::max_cost`](crate::Facts::max_cost)).
    #[must_use]
    pub const fn cost_cap(mut self, pico_usd: u64) -> Self {
        self.cost_cap = Some(pico_usd);
        self
    }

    /// The share of requests that may be executed twice; default all.
    #[must_use]
    pub const fn replay_safe_share(mut self, share: f64) -> Self {
        self.replay_safe = share;
        self
    }

    /// Requests belong to so many conversations; prompts of one begin alike, which a
    /// [prefix cache](Server::prefix_cache) knows.
    #[must_use]
    pub const fn sessions(mut self, count: u64) -> Self {
        self.sessions = count;
        self
    }

    /// Every router has a health signal that probes each server this often.
    #[must_use]
    pub const fn probes(mut self, every: Duration) -> Self {
        self.probes = Some(every);
        self
    }

    /// This share of the callers leaves after this time, answer or not.
    #[must_use]
    pub const fn impatient(mut self, share: f64, after: Duration) -> Self {
        self.impatient = Some((share, after));
        self
    }

    /// Callers ask for the rest of an answer that broke after its first token: each brings a
    /// [`Resume`](crate::router::Resume).
    #[must_use]
    pub const fn resuming(mut self) -> Self {
        self.resuming = true;
        self
    }

    /// How often servers report their load to who asks for reports; default every 50 ms.
    #[must_use]
    pub const fn reports_every(mut self, time: Duration) -> Self {
        self.reports_every = time;
        self
    }

    /// Every router has a health signal that hears the servers' load reports: a server that reports is well, one that
    /// can not is not. Reports older than [`REPORTS_STALE`](Self::REPORTS_STALE) say nothing.
    #[must_use]
    pub const fn load_signals(mut self) -> Self {
        self.load_signals = true;
        self
    }

    /// Everything random follows from it; default 1.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Requests a second that the servers can serve which are there from the start.
    pub fn capacity(&self) -> f64 {
        let there = self.servers.iter().filter(|server| server.joins.is_zero());
        there.map(|server| self.lengths.capacity(server)).sum()
    }

    /// Seconds until the fastest of the servers has answered this when nobody else is there.
    pub(super) fn least_time(&self, prompt: u32, output: u32) -> f64 {
        self.servers.iter().map(|server| server.alone(prompt, output)).fold(f64::INFINITY, f64::min)
    }

    /// One way from a router to a server, in nanoseconds.
    pub(super) fn way(&self, home: &str, server: &Server) -> u64 {
        let round = self.round_trips.get(&(home.to_owned(), server.region.clone()));
        round.map_or(0, |time| u64::try_from(time.as_nanos() / 2).unwrap_or(u64::MAX))
    }

    /// When every request must have ended, in nanoseconds; what is left then will never end.
    pub(super) fn horizon(&self) -> u64 {
        let back: Duration = self.faults.iter().map(Fault::jumps_back_by).sum();
        let last = self.lasting.saturating_add(self.deadline).saturating_add(back).saturating_add(Self::DEADLINE);
        u64::try_from(last.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Every region where a server is, in the order of the servers.
    pub(super) fn regions(&self) -> Vec<&str> {
        let mut regions: Vec<&str> = Vec::new();
        for server in &self.servers {
            if !regions.contains(&&*server.region) {
                regions.push(&server.region);
            }
        }
        regions
    }

    /// Every region where a server is from the start, the nearest to a router first.
    pub(super) fn nearest(&self, home: &str) -> Vec<String> {
        let distance = |region: &str| {
            let trip = self.round_trips.get(&(home.to_owned(), region.to_owned()));
            (region != home, trip.copied().unwrap_or_default())
        };
        let mut regions = self.regions();
        let there = |region: &str| self.servers.iter().any(|it| it.region == region && it.joins.is_zero());
        regions.retain(|region| there(region));
        regions.sort_by_key(|region| distance(region));
        regions.into_iter().map(str::to_owned).collect()
    }

    /// Who sends requests, the guest last.
    pub(super) fn tenant_names(&self) -> Vec<String> {
        let names = self.tenants.iter().map(|(name, _)| name);
        names.chain(self.guest.iter().map(|guest| &guest.name)).cloned().collect()
    }

    /// Where a router stands.
    pub(super) fn home(&self, router: usize) -> &str {
        match self.homes.len() {
            0 => &self.servers[0].region,
            homes => &self.homes[router % homes],
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
