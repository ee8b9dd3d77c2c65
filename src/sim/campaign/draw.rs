//! Draws a plan from a seed.

use super::super::audit::Allowance;
use super::super::{Fault, Schedule, Server, at};
use super::money::Money;
use super::plan::{Leaf, Plan, REGIONS, SECOND, Safe, StackPlan, Tenants, seconds};
use super::regions::Preference;
use crate::backend::FailureKind;
use crate::facts::Price;
use crate::recover::Ejection;
use crate::rng::{Rng, hash_str, mix};
use std::time::Duration;

/// A source of choices.
struct Dice(Rng);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// From `low` to `high`, both included.
    fn whole(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below((high - low + 1) as usize) as u64
    }

    /// Between `low` and `high`, each order of magnitude alike.
    fn scale(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len())]
    }

    /// How likely something is in this round: often not at all.
    fn swarm(&mut self, share: f64) -> f64 {
        if self.chance(share) { self.unit() } else { 0.0 }
    }
}

impl Plan {
    /// The plan of this seed.
    pub fn drawn(seed: u64) -> Self {
        let mut dice = Dice(Rng::new(seed));
        let servers = draw_servers(&mut dice);
        let lengths: Vec<_> =
            (0..dice.whole(1, 6)).map(|_| (dice.scale(50.0, 1_500.0) as u32, dice.scale(1.0, 150.0) as u32)).collect();
        let storm = seconds(dice.scale(20.0, 100.0));
        let patience = dice.swarm(0.6);
        let mut plan = Self {
            seed,
            routers: dice.whole(1, 8) as usize,
            round_trip: seconds(dice.pick(&[0.0, 0.02, 0.15])),
            variation: dice.pick(&[0.5, 1.0, 1.0, 2.0]),
            load: 0.1 + 1.4 * dice.unit(),
            calm_share: 0.15 + 0.25 * dice.unit(),
            deadline: Duration::ZERO,
            attempt_limit: None,
            resuming: false,
            impatient: (patience > 0.0).then(|| (patience, seconds(dice.scale(0.02, 8.0)))),
            residency: None,
            reserve: None,
            replay_safe: if dice.chance(0.4) { dice.unit() } else { 1.0 },
            sessions: if dice.chance(0.5) { dice.whole(1, 200) } else { 0 },
            tenants: None,
            money: None,
            preference: None,
            probes: dice.chance(0.4).then(|| seconds(dice.scale(0.2, 5.0))),
            stack: draw_stack(&mut dice),
            futures: dice.chance(0.125),
            faults: Vec::new(),
            servers,
            lengths,
            storm,
        };
        if plan.stack.safe.is_none() {
            // Without anybody who waits, a full server refuses: no promise of success to check.
            plan.servers.iter_mut().for_each(|server| server.limit = server.limit.map(|limit| limit + 32));
        }
        if let Some(safe) = &mut plan.stack.safe {
            safe.fallback &= plan.servers.iter().any(|server| server.model == SECOND);
        }
        let longest = plan.longest();
        plan.deadline = seconds((longest * dice.scale(3.0, 30.0)).min(60.0));
        let mut limit = |share| dice.chance(share).then(|| seconds(longest * dice.scale(1.0, 12.0)));
        plan.attempt_limit = limit(0.2);
        if let Some(safe) = &mut plan.stack.safe {
            safe.attempt_limit = limit(0.4);
        }
        plan.faults = draw_faults(&mut dice, &plan);
        // Of random numbers of their own: the rest of a plan is what it would be without.
        let own = |purpose: &str| Dice(Rng::new(mix(seed, hash_str(purpose))));
        plan.preference = draw_preference(&mut own("regions"), &plan);
        let mut quotas = own("quotas");
        let (known, told) = (quotas.chance(0.5), quotas.chance(0.5));
        for server in plan.servers.iter_mut().filter(|server| server.requests_per_minute.is_some()) {
            (server.quota_is_known, server.quota_is_told) = (known, told);
        }
        draw_short_quotas(&mut own("short quotas"), &mut plan);
        plan.residency = draw_residency(&mut own("residency"), &plan);
        plan.tenants = draw_tenants(&mut own("tenants"), &plan);
        plan.money = draw_money(&mut own("money"), &mut plan);
        let mut capacity = own("capacity");
        plan.reserve = capacity.chance(0.3).then(|| capacity.unit());
        plan.resuming = own("resuming").chance(0.5);
        draw_token_bounds(&mut own("tokens"), &mut plan);
        plan.stack.hedge = draw_hedge(&mut own("hedging"), longest, plan.deadline / 2);
        let mut budgets = own("budgets");
        plan.stack.budgeted = budgets.chance(0.4).then(|| budgets.chance(0.4));
        if !plan.stack.ejection.off {
            plan.stack.ejection = draw_detectors(&mut own("detectors"), plan.stack.ejection);
        }
        plan
    }
}

fn draw_servers(dice: &mut Dice) -> Vec<Server> {
    let count = dice.whole(1, 12);
    let regions = dice.whole(1, 3) as usize;
    let (limited, quota, late, second, uneven) =
        (dice.swarm(0.6), dice.swarm(0.25), dice.swarm(0.3), dice.swarm(0.3), dice.chance(0.7));
    let (prefill, batch) = (dice.scale(1_000.0, 6_000.0), dice.scale(2.0, 33.0) as u32);
    let step = seconds(dice.pick(&[0.005, 0.01, 0.02]));
    let tightest = dice.pick(&[1, 1, 4, 16]);
    let servers = (0..count).map(|number| {
        let region = REGIONS[dice.0.below(regions)];
        let mut server = Server::new(format!("s{number}")).region(region).prefill_rate(prefill);
        server = server.decode(step, step / 40, batch).price(dice.scale(0.1, 10.0));
        if uneven {
            server = server.speed((dice.scale(0.5, 2.0) * 100.0).round() / 100.0);
        }
        if dice.chance(limited) {
            server = server.known_limit(dice.whole(tightest, tightest * 4) as u32);
        }
        if dice.chance(quota) {
            server = server.quota(Some(dice.whole(90, 600)), None);
        }
        if dice.chance(0.2) {
            server = server.base_latency(seconds(dice.scale(0.005, 0.3)));
        }
        if number > 0 && dice.chance(second * 0.5) {
            server = server.model(SECOND);
        } else if number > 0 && dice.chance(late) {
            server = server.joins_after(seconds(dice.scale(1.0, 20.0)));
        }
        server
    });
    servers.collect()
}

/// An order of what is there from the start, where there is more than one; not always of all of it.
fn draw_preference(dice: &mut Dice, plan: &Plan) -> Option<Preference> {
    let mut order: Vec<_> = plan.regions_from_the_start().collect();
    // Without anybody who waits, a full region refuses.
    if order.len() < 2 || plan.stack.safe.is_none() || dice.chance(0.4) {
        return None;
    }
    for place in 1..order.len() {
        order.swap(place, dice.0.below(place + 1));
    }
    order.truncate(dice.whole(1, 2 * order.len() as u64) as usize);
    let full = |dice: &mut Dice| dice.pick(&[0.5, 0.6, 0.85, 1.0]);
    let hold = dice.pick(&[0.0, 1.0, 10.0]);
    Some(Preference {
        order,
        homes: dice.chance(0.4),
        alike: dice.chance(0.3),
        switch: dice.chance(0.3),
        headroom: (full(dice), full(dice)),
        hold: (seconds(hold), seconds(hold * dice.pick(&[1.0, 2.0]))),
        ramp: seconds(dice.pick(&[0.0, 4.0, 20.0])),
        exercise: dice.pick(&[0.0, 0.0, 0.02]),
    })
}

/// Binds some requests to some regions, where there is more than one. Never to more of the fleet's work than its part
/// of the servers: the calm must be calm there too.
fn draw_residency(dice: &mut Dice, plan: &Plan) -> Option<(f64, Vec<&'static str>)> {
    let there = |region: &&str| plan.first_tier().any(|(_, server)| server.region == **region);
    let mut regions: Vec<_> = REGIONS.into_iter().filter(there).collect();
    if regions.len() < 2 || dice.chance(0.5) {
        return None;
    }
    let leaves = dice.0.below(regions.len());
    regions.remove(leaves);
    let inside = plan.first_tier().filter(|(_, server)| regions.contains(&server.region.as_str())).count();
    let part = inside as f64 / plan.first_tier().count() as f64;
    Some((dice.unit() * part / 2.0, regions))
}

/// Shares that bind in the storm, and are several times what the calm needs.
fn draw_tenants(dice: &mut Dice, plan: &Plan) -> Option<Tenants> {
    // Without anybody who waits, a share that is used up refuses.
    if plan.stack.safe.is_none() || dice.chance(0.4) {
        return None;
    }
    let calm = plan.calm_rate() * plan.longest() / plan.routers as f64;
    let most = (4.0 * calm).ceil().max(2.0) as u32 + dice.whole(0, 8) as u32;
    let least = dice.whole(0, most.into()) as u32;
    let tenants = Tenants { count: dice.whole(2, 6) as usize, least, lent: dice.whole(0, least.into()) as u32, most };
    let there = plan.servers.iter().filter(|server| server.joins.is_zero());
    let room: Option<u32> = there.map(|server| server.limit).sum();
    Some(tenants).filter(|tenants| room.is_none_or(|room| tenants.total() <= room))
}

/// Prices that differ for prompt and answer, and for long prompts. Caps that leave room for one attempt at least, and an
/// allowance that binds in the storm, and mostly not in the calm.
fn draw_money(dice: &mut Dice, plan: &mut Plan) -> Option<Money> {
    if dice.chance(0.5) {
        return None;
    }
    for server in &mut plan.servers {
        let (input, times, above) = (server.price, dice.scale(1.0, 5.0), dice.whole(20, 2_000));
        let price = Price::per_million(input, input * times).and_then(|price| match dice.chance(0.5) {
            true => price.clone().above(above, Price::per_million(input * 2.0, input * times * 1.5)?),
            false => Ok(price),
        });
        server.tariff = price.ok();
    }
    let dearest = plan.dearest() as f64;
    let cap = dice.chance(0.6).then(|| (dearest * dice.scale(1.0, 4.0)) as u64);
    let calls = plan.ample_calls() * dice.scale(0.1, 2.0);
    let per_second = 8.0 * dearest * plan.calm_rate() / plan.routers as f64;
    let allowance = Allowance { most: dearest * calls.max(1.0), per_second };
    Some(Money { cap, allowance: dice.chance(0.7).then_some(allowance) })
}

/// Quotas that run out, at servers that take few calls: who waits lacks one thing in this region and another in that.
fn draw_short_quotas(dice: &mut Dice, plan: &mut Plan) {
    if plan.preference.is_none() || dice.chance(0.5) {
        return;
    }
    // Each router is told its part, in which the longest request must fit.
    let longest = plan.lengths.iter().map(|(prompt, output)| u64::from(prompt + output)).max().unwrap_or(1);
    let least = 2 * longest * plan.routers as u64;
    for server in &mut plan.servers {
        if dice.chance(0.6) {
            server.limit = Some(dice.whole(1, 4) as u32);
        }
        let requests = dice.chance(0.4).then(|| dice.whole(20, 120));
        let tokens = dice.chance(0.4).then(|| least * dice.whole(1, 10));
        (server.requests_per_minute, server.tokens_per_minute) = (requests, tokens);
        (server.quota_is_known, server.quota_is_told) = (dice.chance(0.8), dice.chance(0.3));
    }
}

/// Bounds of tokens that leave room for one request at least.
fn draw_token_bounds(dice: &mut Dice, plan: &mut Plan) {
    // Without anybody who waits, a bound that is used up refuses.
    if plan.stack.safe.is_none() || dice.chance(0.5) {
        return;
    }
    let (share, prefill, total) = (dice.unit(), dice.scale(1.0, 8.0), dice.scale(0.5, 8.0));
    let mut servers = std::mem::take(&mut plan.servers);
    for server in &mut servers {
        if dice.chance(share) {
            let bounds = (dice.chance(0.6).then_some(prefill), dice.chance(0.6).then_some(total));
            plan.bound(server, bounds.0, bounds.1);
        }
    }
    plan.servers = servers;
}

/// Often more than anybody should, and so soon that many are sent.
fn draw_hedge(dice: &mut Dice, longest: f64, latest: Duration) -> Option<(f64, Option<Duration>)> {
    if dice.chance(0.5) {
        return None;
    }
    let share = (dice.scale(0.02, 0.5) * 1e3).round() / 1e3;
    Some((share, dice.chance(0.7).then(|| seconds(longest * dice.scale(0.02, 2.0)).min(latest))))
}

fn draw_detectors(dice: &mut Dice, ejection: Ejection) -> Ejection {
    let [rate, factor, deviations] = [dice.scale(0.2, 1.0), dice.scale(1.2, 6.0), dice.scale(0.5, 3.0)];
    let mut maybe = |share, value| dice.chance(share).then_some(value);
    let (rate, factor, deviations) = (maybe(0.8, rate), maybe(0.4, factor), maybe(0.7, deviations));
    let ejection = ejection.failure_rate(rate).slower_than_peers(factor).fails_more_than_peers(deviations);
    let (share, available) = (dice.pick(&[0.0, 0.3, 0.5, 0.5, 1.0]), dice.pick(&[0, 1, 1, 2]));
    ejection.max_outliers(share).min_available(available).aggression(dice.pick(&[0.5, 1.0, 1.0, 2.0]))
}

fn draw_stack(dice: &mut Dice) -> StackPlan {
    let safe = dice.chance(0.8).then(|| Safe {
        attempts: dice.whole(1, 5) as u32,
        panic_threshold: dice.pick(&[0.0, 0.5, 0.5, 1.0]),
        attempt_limit: None,
        fallback: dice.chance(0.7),
    });
    let budget = dice.chance(0.6).then(|| (dice.pick(&[0.0, 0.05, 0.2, 1.0]), dice.pick(&[0, 1, 3, 10])));
    let ejection = match dice.whole(0, 9) {
        0 => Ejection::off(),
        1 => Ejection::fast(),
        2..=5 => Ejection::default(),
        _ => {
            let rest = |dice: &mut Dice, most: f64| {
                let base = dice.scale(0.05, most / 2.0);
                (seconds(base), seconds(base * dice.scale(1.0, most / base)))
            };
            let (eject, overloaded, unreachable) = (rest(dice, 50.0), rest(dice, 20.0), rest(dice, 20.0));
            Ejection::default()
                .consecutive(dice.whole(1, 8) as u32)
                .eject_for(eject.0, eject.1)
                .rest_overloaded(overloaded.0, overloaded.1)
                .rest_unreachable(unreachable.0, unreachable.1)
                .slow_start(seconds(dice.pick(&[0.0, 0.5, 10.0, 60.0])))
        }
    };
    let leaf = dice.pick(&Leaf::ALL);
    StackPlan { leaf, safe, budget, ejection, queue: dice.whole(16, 1024) as usize, hedge: None, budgeted: None }
}

/// Which kinds of fault there are, by their number; from the second number on they move the clock.
const KINDS: usize = 12;
const CLOCK: usize = 10;

fn draw_faults(dice: &mut Dice, plan: &Plan) -> Vec<Fault> {
    let weights: Vec<f64> = (0..KINDS).map(|_| dice.swarm(0.5)).collect();
    let total: f64 = weights.iter().sum();
    if total == 0.0 {
        return Vec::new();
    }
    let wide = dice.unit();
    let storm = plan.storm.as_secs_f64();
    let draw = |dice: &mut Dice| {
        let mut point = dice.unit() * total;
        let kind = weights.iter().position(|weight| {
            point -= weight;
            point < 0.0
        });
        let start = dice.unit() * storm * 0.9;
        let lasting = dice.scale(0.2, storm).min(storm - start).max(0.001);
        let mut schedule = at(seconds(start)).lasting(seconds(lasting).max(MOMENT));
        // A clock that jumps back and forth for ever is none.
        if kind.is_some_and(|kind| kind < CLOCK) && dice.chance(0.25) {
            // Resonance with rests and time-outs, from milliseconds to minutes.
            let mut spell = || seconds(dice.scale((lasting / 200.0).max(0.002), lasting.max(0.004))).max(MOMENT);
            schedule = schedule.flapping(spell(), spell());
        }
        schedule = if dice.chance(wide) {
            let region = plan.servers[dice.0.below(plan.servers.len())].region.clone();
            if dice.chance(0.5) { schedule.everywhere() } else { schedule.region(region) }
        } else {
            schedule.server(plan.servers[dice.0.below(plan.servers.len())].id.clone())
        };
        draw_effect(dice, kind.unwrap_or(0), schedule)
    };
    let mut faults: Vec<_> = (0..dice.whole(2, 28)).map(|_| draw(dice)).collect();
    // What was to come back at a time comes later by what the clock was set back: the calm must be longer.
    let mut back = Duration::ZERO;
    faults.retain(|fault| {
        back += fault.jumps_back_by();
        fault.jumps_back_by().is_zero() || back <= MOST_BACK
    });
    faults
}

/// How far the clock is set back in one round, at most.
const MOST_BACK: Duration = Duration::from_secs(30);

const MOMENT: Duration = Duration::from_millis(1);

fn draw_effect(dice: &mut Dice, kind: usize, schedule: Schedule) -> Fault {
    let share = dice.scale(0.02, 1.0);
    match kind {
        0 => schedule.down(),
        1 => schedule.hangs(),
        2 => schedule.slow(dice.scale(1.5, 1_000.0)),
        3 => schedule.errors(share, seconds(dice.scale(0.001, 2.0))),
        4 => schedule.fails(dice.pick(&FAILURES), share, seconds(dice.scale(0.001, 2.0))),
        5 => schedule.latency(seconds(dice.scale(0.01, 10.0))),
        6 => schedule.cuts_streams(dice.whole(1, 40) as u32),
        7 => schedule.throttled(seconds(dice.scale(0.1, 40.0))),
        8 => schedule.silent_probes(),
        9 => schedule.lying_probes(),
        // To the next moment, or the next year; and back, which no clock should.
        10 => schedule.clock_jumps(seconds(dice.scale(0.001, 3e7))),
        _ => schedule.clock_jumps_back(seconds(dice.scale(0.001, 20.0))),
    }
}

/// Every failure but the one after which a backend rests for longer than the calm lasts.
const FAILURES: [FailureKind; 13] = [
    FailureKind::Unreachable,
    FailureKind::Timeout,
    FailureKind::Overloaded,
    FailureKind::RateLimited,
    FailureKind::Unauthorized,
    FailureKind::ModelUnavailable,
    FailureKind::ContextTooLong,
    FailureKind::ContentRejected,
    FailureKind::InvalidRequest,
    FailureKind::ServerError,
    FailureKind::Truncated,
    FailureKind::Stalled,
    FailureKind::Protocol,
];
