//! [`Plan`]: what one round plays.

use super::super::audit::Rules;
use super::super::{Arrivals, Desk, Fault, Lengths, Server, Stack, World, secs};
use super::money::Money;
use super::regions::Preference;
use crate::budget::{Hedge, RetryBudget};
use crate::fleet::Member;
use crate::limit::{Bulkheads, Share};
use crate::policy::{
    Budgets, Capacity, FailSafe, PolicyExt, Regions, RoutingPolicy, cheapest, least_loaded, ordered, policy_fn,
    power_of_two, predicted_ttft, round_robin, sticky, weighted,
};
use crate::recover::Ejection;
use std::time::Duration;

/// What one round plays: a storm, then a calm. Drawn from a seed, and made smaller where it shows a violation.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) servers: Vec<Server>,
    pub(super) faults: Vec<Fault>,
    pub(super) routers: usize,
    pub(super) round_trip: Duration,
    pub(super) lengths: Vec<(u32, u32)>,
    /// Of the gaps between requests.
    pub(super) variation: f64,
    /// The load of the storm, and what the calm has of what the stack can carry.
    pub(super) load: f64,
    pub(super) calm_share: f64,
    pub(super) storm: Duration,
    pub(super) deadline: Duration,
    pub(super) attempt_limit: Option<Duration>,
    pub(super) impatient: Option<(f64, Duration)>,
    /// Callers ask for the rest of what broke.
    pub(super) resuming: bool,
    pub(super) replay_safe: f64,
    /// How many of the requests are bound, and to which regions.
    pub(super) residency: Option<(f64, Vec<&'static str>)>,
    /// How many of the requests are critical, where slots are kept for them.
    pub(super) reserve: Option<f64>,
    pub(super) sessions: u64,
    pub(super) tenants: Option<Tenants>,
    /// What requests may cost.
    pub(super) money: Option<Money>,
    /// Which regions are preferred.
    pub(super) preference: Option<Preference>,
    pub(super) probes: Option<Duration>,
    pub(super) stack: StackPlan,
    /// Also played with futures.
    pub(super) futures: bool,
}

/// How many tenants there are, and what each has of a router's calls in flight. The last is not named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenants {
    pub(super) count: usize,
    pub(super) least: u32,
    pub(super) lent: u32,
    pub(super) most: u32,
}

impl Tenants {
    /// All calls of a router: few enough to be used up.
    pub(super) const fn total(self) -> u32 {
        (self.count as u32 - 1) * self.least + self.most
    }

    fn bulkheads(self) -> Bulkheads {
        let share = Share::at_least(self.least).lends(self.lent).up_to(self.most);
        let whole = Bulkheads::of(self.total(), Share::at_most(self.most));
        (1..self.count).fold(whole, |all, number| all.share(tenant(number), share))
    }
}

/// The name of a tenant.
fn tenant(number: usize) -> String {
    format!("t{number}")
}

/// The router's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackPlan {
    pub(super) leaf: Leaf,
    pub(super) safe: Option<Safe>,
    /// Extra attempts per request, and per second; without, the default.
    pub(super) budget: Option<(f64, u32)>,
    pub(super) ejection: Ejection,
    pub(super) queue: usize,
    /// The share of requests that are hedged, and after what time; without, after what is usual.
    pub(super) hedge: Option<(f64, Option<Duration>)>,
    /// Budgets of time: of the whole answer, or of its first token.
    pub(super) budgeted: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Safe {
    pub(super) attempts: u32,
    pub(super) panic_threshold: f64,
    pub(super) attempt_limit: Option<Duration>,
    /// Whether the second model stands behind the first.
    pub(super) fallback: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaf {
    Ordered,
    RoundRobin,
    Weighted,
    LeastLoaded,
    PowerOfTwo,
    PredictedTtft,
    Cheapest,
    Sticky,
}

/// How long the calm lasts: the longest rests, probes and slow starts end within it.
pub(super) const CALM: Duration = Duration::from_secs(200);
/// A first token within this time counts as success: what is well again answers, however slow its servers are.
pub(super) const SLO: Duration = Duration::from_secs(20);
/// The model behind the first.
pub(super) const SECOND: &str = "second";

impl Leaf {
    pub(super) const ALL: [Self; 8] = [
        Self::Ordered,
        Self::RoundRobin,
        Self::Weighted,
        Self::LeastLoaded,
        Self::PowerOfTwo,
        Self::PredictedTtft,
        Self::Cheapest,
        Self::Sticky,
    ];

    fn policy(self) -> Box<dyn RoutingPolicy> {
        match self {
            Self::Ordered => ordered().boxed(),
            Self::RoundRobin => round_robin().boxed(),
            Self::Weighted => weighted().boxed(),
            Self::LeastLoaded => least_loaded().boxed(),
            Self::PowerOfTwo => power_of_two().boxed(),
            Self::PredictedTtft => predicted_ttft().boxed(),
            Self::Cheapest => cheapest().boxed(),
            Self::Sticky => sticky().boxed(),
        }
    }

    /// Whether it sends every request to the same server while that has room.
    const fn prefers_one(self) -> bool {
        matches!(self, Self::Ordered | Self::Cheapest)
    }

    /// After how many seconds, and how many requests then, every one of so many servers should have been sent one,
    /// whatever chance does.
    pub(super) const fn looks_everywhere_in(self, servers: f64) -> (f64, f64) {
        match self {
            // All at one place while that has room.
            Self::Ordered | Self::Cheapest | Self::Sticky => (0.0, f64::INFINITY),
            // Only canaries look after who is slower or farther away, one request in 128 where nothing can be won; and not
            // before it was left alone for longer than usual.
            Self::PredictedTtft => (Member::LONGEST_PAUSE.as_secs_f64(), 128.0 * 30.0),
            Self::RoundRobin | Self::Weighted | Self::LeastLoaded | Self::PowerOfTwo => (0.0, 30.0 * servers),
        }
    }
}

impl StackPlan {
    /// The policies inside `fail_safe`.
    fn inner(&self, reserve: bool, regions: Option<Regions>) -> Box<dyn RoutingPolicy> {
        let leaf = self.leaf.policy();
        let leaf = if reserve { leaf.capacity_aware(Capacity::default()).boxed() } else { leaf };
        let hedge = self.hedge.map(|(share, after)| {
            let hedge = Hedge::of(share).unwrap_or_default();
            after.map_or(hedge, |after| hedge.after(after))
        });
        let leaf = match (self.budgeted, hedge) {
            (Some(whole), hedge) => {
                let budgets = if whole { Budgets::default().whole_answers() } else { Budgets::default() };
                leaf.budgeted(hedge.map_or(budgets.clone(), |hedge| budgets.hedge(hedge))).boxed()
            }
            (None, Some(hedge)) => {
                let hedged = policy_fn("hedged", move |cx, slate| {
                    slate.hedge(hedge);
                    leaf.plan(cx, slate);
                });
                hedged.boxed()
            }
            (None, None) => leaf,
        };
        match regions {
            Some(regions) => leaf.region_failover(regions).boxed(),
            None => leaf,
        }
    }

    fn policy(&self, reserve: bool, regions: Option<Regions>) -> Box<dyn RoutingPolicy> {
        let inner = self.inner(reserve, regions);
        match self.safe {
            None => inner,
            Some(safe) => {
                let mut config = FailSafe::default().attempts(safe.attempts).panic_threshold(safe.panic_threshold);
                if let Some(limit) = safe.attempt_limit {
                    config = config.attempt_limit(limit);
                }
                if safe.fallback {
                    config = config.fallback([SECOND]);
                }
                inner.fail_safe(config).boxed()
            }
        }
    }
}

impl Plan {
    /// The seed of its round.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// What routes at this desk.
    pub(super) fn stack(&self, desk: &Desk) -> Stack {
        let regions = self.preference.as_ref().and_then(|preference| preference.regions(desk));
        let StackPlan { ejection, queue, budget, .. } = self.stack;
        let mut stack = Stack::new(self.stack.policy(self.reserve.is_some(), regions)).ejection(ejection).queue(queue);
        if let Some(tenants) = self.tenants {
            stack = stack.tenant_bulkheads(tenants.bulkheads());
        }
        if let Some(limit) = self.money.and_then(Money::limit) {
            stack = stack.spend_limit(limit);
        }
        match budget.map(|(ratio, reserve)| RetryBudget::new(ratio, reserve)) {
            Some(Ok(budget)) => stack.retry_budget(budget),
            _ => stack,
        }
    }

    /// Whether bound requests may be served there.
    pub(super) fn may_serve_bound(&self, server: &Server) -> bool {
        self.residency.as_ref().is_none_or(|(_, regions)| regions.contains(&server.region.as_str()))
    }

    /// The servers that serve what requests ask for.
    pub(super) fn first_tier(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.servers.iter().enumerate().filter(|(_, server)| server.model == Server::MODEL)
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths::of(self.lengths.iter().copied()).unwrap_or_else(|| Lengths::fixed(256, 16))
    }

    /// What the longest request takes on the slowest server when its batch is full, in seconds.
    pub(super) fn longest(&self) -> f64 {
        let most = self.lengths.iter().fold((0, 0), |most, pair| (most.0.max(pair.0), most.1.max(pair.1)));
        let work = |server: &Server| {
            let step = server.step + server.step_per_request * server.batch;
            let work = f64::from(most.0) / server.prefill_rate + f64::from(most.1) * step.as_secs_f64();
            work / server.speed + server.base.as_secs_f64()
        };
        self.servers.iter().map(work).fold(1.0, f64::max)
    }

    /// Requests a second in the calm: a share of what the stack can carry, as it spreads them.
    pub(super) fn calm_rate(&self) -> f64 {
        let lengths = self.lengths();
        let rates = self.first_tier().map(|(_, server)| self.sustained(server, &lengths));
        let spread = if self.stack.leaf.prefers_one() { 1.0 } else { self.fewest() as f64 };
        rates.fold(f64::INFINITY, f64::min) * spread * self.calm_share
    }

    /// Requests a second that a server carries for good, whoever sends them.
    fn sustained(&self, server: &Server, lengths: &Lengths) -> f64 {
        let (prompt, output) = lengths.mean();
        let mut rate = lengths.capacity(server);
        if let Some(slots) = self.slots(server) {
            let step = server.step.as_secs_f64() + server.step_per_request.as_secs_f64() * f64::from(server.batch);
            let work = (prompt / server.prefill_rate + output * step) / server.speed;
            let service = work + server.base.as_secs_f64() + self.round_trip.as_secs_f64();
            // Half of what its slots would carry if none was ever idle.
            rate = rate.min(f64::from(slots) * self.routers as f64 / service / 2.0);
        }
        let per_second = |minute: Option<u64>| minute.map_or(f64::INFINITY, |amount| amount as f64 / 60.0);
        rate.min(per_second(server.requests_per_minute) / 2.0)
            .min(per_second(server.tokens_per_minute) / (prompt + output) / 2.0)
    }

    pub(super) fn world(&self) -> World {
        let mut world = World::new().servers(self.servers.clone()).faults(self.faults.clone());
        world = world.routers(self.routers).lengths(self.lengths()).arrivals(Arrivals::Gamma { cv: self.variation });
        let regions: Vec<_> =
            REGIONS.into_iter().filter(|name| self.servers.iter().any(|it| it.region == *name)).collect();
        for (number, one) in regions.iter().enumerate() {
            for other in &regions[number + 1..] {
                world = world.round_trip(*one, *other, self.round_trip);
            }
        }
        world = world.routers_in(regions);
        let calm = (self.calm_rate() / world.capacity()).max(1e-3);
        world = world.load_steps([(Duration::ZERO, self.load), (self.storm, calm)]).lasting(self.storm + CALM);
        world = world.slo(SLO).deadline(self.deadline).sessions(self.sessions).replay_safe_share(self.replay_safe);
        if let Some(limit) = self.attempt_limit {
            world = world.attempt_limit(limit);
        }
        if let Some((share, regions)) = &self.residency {
            world = world.residency(*share, regions.iter().copied());
        }
        if let Some(share) = self.reserve {
            world = world.critical_share(share);
        }
        if let Some((share, after)) = self.impatient {
            world = world.impatient(share, after);
        }
        if let Some(Tenants { count, .. }) = self.tenants {
            world = world.tenants((1..=count).map(|number| (tenant(number), 1.0)));
        }
        if let Some(money) = self.money {
            world = world.longest_answer(self.longest_answer());
            world = money.cap.into_iter().fold(world, World::cost_cap);
        }
        if let Some(every) = self.probes {
            world = world.probes(every);
        }
        if self.resuming {
            world = world.resuming();
        }
        world.seed(self.seed)
    }

    pub(super) fn rules(&self, world: &World) -> Rules {
        let budget = self.stack.budget.unwrap_or((RetryBudget::RATIO, RetryBudget::RESERVE));
        let Ejection { max_outliers, min_available, .. } = self.stack.ejection;
        let pool = |server: &Server| {
            let kin = |other: &Server| (&other.model, &other.region) == (&server.model, &server.region);
            let pool: Vec<_> = (0..world.servers.len()).filter(|number| kin(&world.servers[*number])).collect();
            let most = (pool.len() as f64 * max_outliers) as usize;
            let most = most.min(pool.len().saturating_sub(min_available as usize));
            (pool, most)
        };
        Rules {
            pools: world.servers.iter().map(pool).collect(),
            routers: self.routers,
            limits: world.servers.iter().map(|server| server.limit).collect(),
            tokens: world.servers.iter().map(|server| server.token_bounds).collect(),
            tenants: world.tenants.iter().map(|(name, _)| name.clone()).collect(),
            share: self.tenants.map(|tenants| tenants.most),
            attempts: self.stack.safe.map_or(1, |safe| safe.attempts),
            budget: Some(budget),
            hedge: self.stack.hedge.map(|(share, _)| share),
            rests: !self.stack.ejection.off,
            signals: self.probes.is_some(),
            bounded: self.money.is_some(),
            cap: self.money.and_then(|money| money.cap),
            allowance: self.money.and_then(|money| money.allowance),
            ceiling: if self.reserve.is_some() { (Capacity::CEILINGS[0] * 1e3) as u32 } else { 1000 },
            region: self.preference.as_ref().map(Preference::ceiling),
            outside: world.servers.iter().map(|server| !self.may_serve_bound(server)).collect(),
        }
    }
}

/// Where servers stand.
pub(super) const REGIONS: [&str; 3] = ["eu", "us", "ap"];

/// So many seconds.
pub(super) fn seconds(seconds: f64) -> Duration {
    // In whole milliseconds: what is drawn can be read, and written again.
    secs((seconds * 1e3).round() / 1e3)
}
