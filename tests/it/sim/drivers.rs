//! Equal seeds, equal runs; and both drivers decide alike.

use super::{check, count, default_stack, small};
use crate::support::drawn;
use fallway::budget::{Hedge, RetryBudget};
use fallway::policy::{
    Budgets, FailSafe, PolicyExt, RoutingPolicy, least_loaded, ordered, power_of_two, predicted_ttft, round_robin,
    sticky,
};
use fallway::recover::Ejection;
use fallway::sim::baselines::Contestant;
use fallway::sim::scenarios::{Scenario, Settings};
use fallway::sim::{Arrivals, Desk, Ended, Fault, Run, Server, Stack, Trace, World, at, secs};
use proptest::prelude::*;
use std::time::Duration;

/// Stacks that use different parts of a router.
fn stack(number: usize, _: &Desk) -> Stack {
    let fail_safe = FailSafe::default;
    match number {
        0 => default_stack().into(),
        1 => power_of_two().fail_safe(fail_safe().attempt_limit(secs(3))).into(),
        2 => Stack::new(least_loaded().fail_safe(fail_safe().attempts(5)))
            .ejection(Ejection::fast())
            .retry_budget(RetryBudget::new(3.0, 100).unwrap()),
        3 => Stack::new(sticky().fail_safe(fail_safe())).bare(),
        4 => ordered().into(),
        // Early and often.
        5 => hedged(Hedge::of(0.5).unwrap().after(secs(0.3))).into(),
        6 => Stack::new(hedged(Hedge::of(0.2).unwrap())).retry_budget(RetryBudget::new(1.0, 100).unwrap()),
        _ => round_robin().fail_safe(fail_safe()).into(),
    }
}

fn hedged(hedge: Hedge) -> impl RoutingPolicy {
    predicted_ttft().budgeted(Budgets::default().hedge(hedge)).fail_safe(FailSafe::default())
}

const STACKS: usize = 8;

/// Runs the world on both drivers.
fn both(world: &World, number: usize) -> Run {
    alike(world, |desk| stack(number, desk))
}

fn alike(world: &World, stack: impl Fn(&Desk) -> Stack) -> Run {
    let pure = world.run(&stack).unwrap();
    let real = world.run_with_futures(&stack).unwrap();
    check(&pure);
    check(&real);
    assert_eq!(pure.records().len(), real.records().len());
    if let Some((one, other)) = pure.records().iter().zip(real.records()).find(|(one, other)| one != other) {
        panic!("the first request that differs:\n{one:?}\n{other:?}");
    }
    assert_eq!(pure.decisions_hash(), real.decisions_hash());
    let figures = |run: &Run| {
        (run.wasted_token_share(), run.cost(), run.rate_limited_per_1k(), run.harmed(), run.peak(), run.to_string())
    };
    assert_eq!(figures(&pure), figures(&real));
    pure
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let world = small().fault(at(secs(30)).lasting(secs(20)).region("eu").errors(0.5, secs(0.1))).routers(3);
    for number in 0..STACKS {
        let (first, again) = (both(&world, number), both(&world, number));
        assert_eq!((first.records(), first.decisions_hash()), (again.records(), again.decisions_hash()));
        assert_ne!(first.decisions_hash(), both(&world.clone().seed(12), number).decisions_hash());
    }
}

#[test]
fn every_policy_meets_the_same_requests() {
    let world = small().routers(4).tenants([("x", 3.0), ("y", 1.0)]).critical_share(0.3).sessions(20);
    let (one, other) = (both(&world, 0), both(&world, 4));
    assert_ne!(one.decisions_hash(), other.decisions_hash());
    let met = |run: &Run| -> Vec<_> {
        let what = |record: &fallway::sim::Record| (record.at, record.router, record.tenant, record.critical);
        run.records().iter().map(what).collect()
    };
    assert_eq!(met(&one), met(&other));
}

/// Equal in debug and release builds: what a hash of a scenario stands for does not change unnoticed.
#[test]
fn a_seed_names_the_same_requests_for_ever() {
    let world = small().arrivals(Arrivals::Gamma { cv: 1.5 }).routers(9).requests(200);
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for record in both(&world, 4).records() {
        for byte in format!("{} {};", record.at, record.router).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    assert_eq!(hash, 14_720_818_241_685_612_059);
}

/// As above; and what a baseline decides changes with neither builds nor this crate's own policies.
#[test]
fn a_baseline_decides_the_same_for_ever() {
    let settings = Settings { seed: 1, routers: 8, requests: Some(3_000), ..Settings::default() };
    let hash = |scenario: Scenario| {
        let stage = &scenario.stages(&settings)[0];
        let run = stage.run(Contestant::by_name("p2c").unwrap()).unwrap();
        check(&run);
        run.decisions_hash()
    };
    let hashes = [hash(Scenario::S1), hash(Scenario::S2), hash(Scenario::S16)];
    assert_eq!(hashes, [17_702_601_275_102_857_834, 722_503_260_169_786_206, 17_461_927_631_649_817_637]);
}

#[test]
fn both_drivers_decide_alike_whatever_goes_wrong() {
    let fault = || at(secs(30)).lasting(secs(40));
    let faults = [
        fault().server("a").down(),
        fault().server("a").hangs(),
        fault().flapping(secs(3), secs(4)).server("b").hangs(),
        fault().server("b").slow(20.0),
        fault().region("eu").errors(0.9, secs(0.005)),
        fault().everywhere().latency(secs(1.5)),
        fault().server("c").cuts_streams(20),
        fault().everywhere().throttled(secs(3)),
        fault().everywhere().down(),
        at(secs(30)).clock_jumps(secs(20)),
        at(secs(30)).clock_jumps_back(secs(7)),
        fault().server("a").silent_probes(),
        fault().server("a").lying_probes(),
        fault().everywhere().lying_probes(),
        fault().flapping(secs(1), secs(2)).region("eu").down(),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        for routers in [1, 8] {
            let world = small().load(0.6).requests(600).routers(routers).fault(fault.clone()).impatient(0.05, secs(4));
            let world = world.probes(secs(1));
            both(&world, number % STACKS);
            both(&world, (number + 3) % STACKS);
        }
    }
}

#[test]
fn both_drivers_decide_alike_where_requests_wait_for_room() {
    let servers = ["a", "b"].map(|id| Server::new(id).known_limit(3));
    let world = World::new().servers(servers).load(0.9).lasting(secs(100)).seed(5).impatient(0.2, secs(2));
    for number in 0..STACKS {
        let run = both(&world.clone().routers(2), number);
        assert!(run.attempts_per_request() > 0.2);
    }
}

/// Every answer breaks, and whoever backs off before the rest loses what was planned to those who wait.
#[test]
fn both_drivers_decide_alike_where_the_rest_of_an_answer_waits_for_room() {
    let servers = ["a", "b"].map(|id| Server::new(id).known_limit(2));
    let world = World::new().servers(servers).load(0.2).lasting(secs(60)).deadline(secs(20)).seed(5);
    let world = world.resuming().fault(at(secs(0)).lasting(secs(100)).cuts_streams(4));
    let stack = |_: &Desk| {
        let policy = ordered().fail_safe(FailSafe::default().attempts(4));
        Stack::new(policy).ejection(Ejection::off()).retry_budget(RetryBudget::new(3.0, 100).unwrap())
    };
    let run = alike(&world, stack);
    assert!(run.records().iter().filter(|record| record.breaks > 2).count() > 100);
}

/// Callers who leave in the very moment in which the deadline passes, an attempt ends, a fault begins.
#[test]
fn both_drivers_decide_alike_where_everything_happens_at_once() {
    let world = small().round_trip("eu", "eu", secs(0)).round_trip("eu", "us", secs(0)).requests(500);
    for (leaves, deadline, limit) in [(2, 2, 2), (1, 2, 1), (2, 4, 2), (4, 2, 2)] {
        let world = world.clone().deadline(secs(deadline)).attempt_limit(secs(limit)).impatient(0.5, secs(leaves));
        let rows: String = (0..300).map(|n| format!("{},1500,200\n", n / 6)).collect();
        let world = world.trace(Trace::parse(&rows).unwrap());
        let down = world.clone().fault(at(secs(10)).lasting(secs(10)).flapping(secs(1), secs(1)).region("eu").hangs());
        for number in 0..STACKS {
            both(&world, number);
            both(&down, number);
        }
    }
}

#[test]
fn both_drivers_play_scenarios_alike() {
    for scenario in Scenario::ALL {
        for routers in [1, 8] {
            let settings = Settings { seed: 3, routers, requests: Some(500), ..Settings::default() };
            for stage in scenario.stages(&settings) {
                both(stage.world(), 0);
            }
        }
    }
}

#[test]
fn a_herd_at_once_is_served_in_one_order() {
    // In one millisecond, more than the batches hold.
    let rows: String = (0..2_000).map(|_| "0,200,20\n").collect();
    let world = World::new().pool("s", 4).trace(Trace::parse(&(rows + "0.001,200,20\n")).unwrap()).load(0.5);
    for number in [0, 3] {
        let run = both(&world.clone().requests(2_000), number);
        assert_eq!(run.records().len(), 2_000);
        assert!(run.peak() > 64 && count(&run, |ended| ended == Ended::Completed) > 0);
    }
}

/// Speed, latency, limit, join, quota and batch of a server.
type Parts = (f64, f64, Option<u32>, f64, Option<u64>, u32);

fn any_server() -> impl Strategy<Value = Parts> {
    let limit = prop::option::weighted(0.3, 1u32..6);
    let joins = prop_oneof![3 => Just(0.0), 1 => 1.0f64..30.0];
    (0.2f64..2.0, 0.0f64..0.5, limit, joins, prop::option::weighted(0.2, 20u64..400), 1u32..70)
}

fn server(number: usize, (speed, base, limit, joins, quota, batch): Parts) -> Server {
    let server = Server::new(format!("s{number}")).speed(speed).base_latency(secs(base)).quota(quota, None);
    let server = if quota.is_some_and(|quota| quota % 2 == 0) { server.quota_headers() } else { server };
    // Somebody must be there from the start.
    let server = if number == 0 { server } else { server.joins_after(secs(joins)) };
    let server = server.decode(secs(0.02), secs(0.0004), batch).prefix_cache(50);
    match limit {
        Some(limit) => server.known_limit(limit),
        None => server,
    }
}

/// A time, a duration, what goes wrong, where, and whether it flaps.
type Trouble = (f64, f64, usize, usize, bool);

/// A world, and the time within which each of its requests ends.
fn any_world() -> impl Strategy<Value = (World, Duration)> {
    let servers = prop::collection::vec(any_server(), 1..5);
    let troubles = prop::collection::vec((0.0f64..40.0, 0.1f64..40.0, 0usize..12, 0usize..5, any::<bool>()), 0..5);
    (servers, troubles, 1usize..4, 0.1f64..1.5, any::<u64>(), 0.0f64..0.3, 0.5f64..20.0, 0.0f64..0.2).prop_map(
        |(servers, troubles, routers, load, seed, impatient, deadline, way)| {
            let count = servers.len();
            let mut world = World::new()
                .servers(servers.into_iter().enumerate().map(|(number, parts)| server(number, parts)))
                .routers(routers)
                .round_trip(Server::REGION, Server::REGION, secs(if way < 0.1 { 0.0 } else { way }))
                .load(load)
                .lasting(secs(50))
                .requests(300)
                .sessions(10)
                .deadline(secs(deadline))
                .impatient(impatient, secs(deadline / 2.0))
                .probes(secs(0.7))
                .seed(seed);
            // A clock that was put back lets requests live longer.
            let backward = troubles.iter().any(|(_, _, what, ..)| *what == BACKWARD);
            let most = if backward { Duration::MAX } else { secs(deadline) };
            for trouble in troubles {
                world = world.fault(fault(trouble, count));
            }
            (world, most)
        },
    )
}

const BACKWARD: usize = 10;

fn fault((start, lasting, what, server, flaps): Trouble, servers: usize) -> Fault {
    let fault = at(secs(start)).lasting(secs(lasting)).server(format!("s{}", server % servers));
    let fault = if flaps { fault.flapping(secs(0.9), secs(1.3)) } else { fault };
    match what {
        0 => fault.down(),
        1 => fault.hangs(),
        2 => fault.slow(15.0),
        3 => fault.speed(1.7),
        4 => fault.errors(0.5, secs(0.2)),
        5 => fault.latency(secs(0.8)),
        6 => fault.cuts_streams(5),
        7 => fault.throttled(secs(1)),
        8 => fault.silent_probes(),
        9 => fault.lying_probes(),
        BACKWARD => fault.clock_jumps_back(secs(2)),
        _ => fault.clock_jumps(secs(3)),
    }
}

proptest! {
    #![proptest_config(drawn(40))]

    #[test]
    fn both_drivers_decide_alike_in_any_world((world, most) in any_world(), number in 0..STACKS) {
        let run = both(&world, number);
        for record in run.records() {
            prop_assert!(record.total <= most.as_secs_f64() + 1e-6, "{record:?} took more than {most:?}");
            prop_assert!(record.attempts <= 5, "{record:?}");
        }
    }
}
