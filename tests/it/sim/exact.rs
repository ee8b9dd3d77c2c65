//! What servers and the network take, against arithmetic. The servers' engine has a test against small steps of its own.

use super::{check, run};
use fallway::policy::{ordered, round_robin};
use fallway::sim::{Ended, Lengths, Record, Server, Stack, Trace, World, at, secs};

/// One request of 800 tokens, answered with 11.
fn one(server: Server) -> World {
    World::new().server(server).lengths(Lengths::fixed(800, 11)).requests(1)
}

/// Seconds to the first and the last token.
fn took(world: &World) -> (f64, f64) {
    let run = world.run(|_| ordered()).unwrap();
    check(&run);
    let record = run.records()[0];
    (record.first.unwrap(), record.total)
}

/// Equal but for the nanoseconds in which time is counted.
#[track_caller]
fn same((first, end): (f64, f64), (expected, last): (f64, f64)) {
    assert!((first - expected).abs() < 1e-7 && (end - last).abs() < 1e-7, "{first} {end}");
}

#[test]
fn one_request_takes_what_arithmetic_says() {
    // 0.1 s of prefill, ten steps of 20.4 ms.
    same(took(&one(Server::new("a"))), (0.1, 0.304));
    same(took(&one(Server::new("a").speed(0.5))), (0.2, 0.608));
    same(took(&one(Server::new("a").prefill_rate(1_600.0))), (0.5, 0.704));
    same(took(&one(Server::new("a").decode(secs(0.01), secs(0), 4))), (0.1, 0.2));
    same(took(&one(Server::new("a").base_latency(secs(0.2)))), (0.3, 0.504));
}

#[test]
fn faults_stretch_the_time_by_what_they_say() {
    let world = || one(Server::new("a"));
    let now = || at(secs(0));
    same(took(&world().fault(now().latency(secs(0.5)))), (0.6, 0.804));
    same(took(&world().fault(now().slow(4.0))), (0.4, 1.216));
    same(took(&world().fault(now().slow(4.0)).fault(now().speed(0.5))), (0.8, 2.432));
    // In the middle of the prefill of a request that comes at 0.
    let trace = |text| Trace::parse(text).unwrap();
    let half = World::new().server(Server::new("a")).trace(trace("0,800,11")).requests(1);
    same(took(&half.clone().fault(at(secs(0.05)).slow(2.0))), (0.15, 0.558));
    same(took(&half.clone().fault(at(secs(0.05)).lasting(secs(3)).hangs())), (3.1, 3.304));
}

#[test]
fn a_round_trip_is_there_and_back() {
    let far = one(Server::new("a").region("us")).routers_in(["eu"]);
    same(took(&far.clone()), (0.1, 0.304));
    same(took(&far.clone().round_trip("us", "eu", secs(0.08))), (0.18, 0.384));
    // Also of what comes back as an error.
    let run = far.round_trip("us", "eu", secs(0.08)).fault(at(secs(0)).errors(1.0, secs(0.25)));
    let run = run.run(|_| Stack::new(ordered()).bare()).unwrap();
    assert!((run.records()[0].total - 0.33).abs() < 1e-7 && run.records()[0].first.is_none());
}

#[test]
fn routers_stand_in_turn_where_they_are_told() {
    let world = World::new().servers([Server::new("a").region("eu"), Server::new("b").region("us")]);
    let world =
        world.routers(4).routers_in(["us", "eu"]).round_trip("eu", "us", secs(0.3)).load(0.01).lasting(secs(2_000));
    let seen = std::cell::RefCell::new(Vec::new());
    let run = world.run(|desk| {
        assert_eq!((desk.routers(), desk.servers()), (4, 2));
        seen.borrow_mut().push((desk.index(), desk.region().to_owned(), desk.seed()));
        ordered()
    });
    let run = run.unwrap();
    let seen = seen.into_inner();
    let places: Vec<_> = seen.iter().map(|(index, region, _)| (*index, region.as_str())).collect();
    assert_eq!(places, [(0, "us"), (1, "eu"), (2, "us"), (3, "eu")]);
    assert!((1..4).all(|at| seen[..at].iter().all(|other| other.2 != seen[at].2)), "every router has its own seed");
    // All go to the first server, which is in the EU.
    let fastest = |router: u32| {
        let firsts = run.records().iter().filter(|record| record.router == router).filter_map(|record| record.first);
        firsts.fold(f64::INFINITY, f64::min)
    };
    assert!([0, 2].iter().all(|router| fastest(*router) >= 0.3) && [1, 3].iter().all(|router| fastest(*router) < 0.1));
}

#[test]
fn requests_wait_for_each_other_and_share_the_batch() {
    // Two in the same moment: 1,000 tokens a second to read, steps of 20 ms and 1 ms for each.
    let server = Server::new("a").prefill_rate(1_000.0).decode(secs(0.02), secs(0.001), 8);
    let world = World::new().server(server).trace(Trace::parse("0,500,101\n0,500,101").unwrap()).requests(2);
    let run = run(&world);
    let [one, two] = run.records() else { panic!("two requests") };
    // Alone for 0.5 s at 21 ms a token, the rest beside the other at 22 ms.
    let alone = 0.5 / 0.021;
    same((one.first.unwrap(), one.total), (0.5, 1.0 + (100.0 - alone) * 0.022));
    same((two.first.unwrap(), two.total), (1.0, one.total + alone * 0.021));
}

#[test]
fn what_is_too_much_for_a_batch_waits() {
    let server = Server::new("a").decode(secs(0.1), secs(0), 1);
    let world = World::new().server(server).trace(Trace::parse("0,800,11\n0,800,11").unwrap()).requests(2);
    let run = run(&world);
    let ends: Vec<_> = run.records().iter().map(|record: &Record| (record.first.unwrap(), record.total)).collect();
    // The second is read when the first has left the batch.
    same(ends[0], (0.1, 1.1));
    same(ends[1], (1.2, 2.2));
}

#[test]
fn cost_and_waste_are_what_the_tokens_say() {
    let world = World::new().server(Server::new("a").price(2.0)).lengths(Lengths::fixed(900, 100)).requests(50);
    let whole = run(&world);
    assert!((whole.cost() - 50.0 * 1_000.0 * 2.0 / 1e6).abs() < 1e-9, "{}", whole.cost());
    assert_eq!(whole.wasted_token_share(), 0.0);
    // Cut after 20 tokens: 920 of them for nothing.
    let cut = world.fault(at(secs(0)).cuts_streams(20)).run(|_| Stack::new(round_robin()).bare()).unwrap();
    check(&cut);
    assert_eq!(cut.wasted_token_share(), 1.0);
    assert!((cut.cost() - 50.0 * 920.0 * 2.0 / 1e6).abs() < 1e-9, "{}", cut.cost());
    assert!(cut.records().iter().all(|record| matches!(record.ended, Ended::Broken(_))));
}
