//! What the baselines for regions decide, pinned.

use super::check;
use fallway::sim::baselines::Contestant;
use fallway::sim::{Lengths, Run, Server, World, at, secs};

/// Levels of so many servers each, the nearest first; short requests, so that there is room everywhere.
fn levels(counts: &[usize]) -> World {
    let mut world = World::new().lengths(Lengths::fixed(100, 5)).lasting(secs(200)).probes(secs(1)).routers_in(["p0"]);
    for (number, count) in counts.iter().enumerate() {
        let region = format!("p{number}");
        world = world.round_trip("p0", region.as_str(), secs(0.01 * number as f64 + 0.001)).pool(&region, *count);
    }
    world.load(0.05)
}

/// Takes servers down after a minute.
fn without(mut world: World, servers: &[&str]) -> World {
    for server in servers {
        world = world.fault(at(secs(60)).server(*server).down());
    }
    world
}

fn play(world: &World, name: &str) -> Run {
    let contestant = Contestant::by_name(name).unwrap();
    let run = world.run(|desk| contestant.stack(desk)).unwrap();
    check(&run);
    run
}

/// The levels' shares once the probes know.
#[track_caller]
fn shares(run: &Run, expected: &[f64]) {
    let shares = run.region_shares_between(65.0, 200.0);
    let near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.025);
    assert!(near && shares.len() == expected.len(), "{shares:?}, not {expected:?}");
}

#[test]
fn envoy_fills_levels_by_their_health() {
    let play = |world: World| play(&world, "envoy_priority");
    shares(&play(levels(&[2, 2])), &[1.0, 0.0]);
    shares(&play(without(levels(&[2, 2]), &["p0-1", "p1-1"])), &[0.7, 0.3]);
    shares(&play(without(levels(&[4, 2]), &["p0-1", "p0-2", "p0-3"])), &[0.35, 0.65]);
    let most = ["p0-1", "p0-2", "p0-3", "p1-1", "p1-2", "p1-3", "p2-1", "p2-2", "p2-3"];
    shares(&play(without(levels(&[4, 4, 4]), &most)), &[0.35, 0.35, 0.3]);
    shares(&play(without(levels(&[5, 5, 5]), &["p0-1", "p0-2", "p0-3", "p0-4", "p0-5"])), &[0.0, 1.0, 0.0]);
}

#[test]
fn envoy_panics_onto_all_hosts() {
    let run = play(&without(levels(&[4, 4]), &["p0-1", "p0-2", "p0-3", "p1-1", "p1-2", "p1-3"]), "envoy_priority");
    shares(&run, &[0.5, 0.5]);
    let servers = run.shares_between(65.0, 200.0);
    assert!(servers.iter().all(|share| (share - 0.125).abs() < 0.03), "{servers:?}");
    let goodput = run.goodput_between(65.0, 200.0);
    // Less than a quarter: hosts that are down look idle, and of two the less busy is taken.
    assert!((0.15..0.25).contains(&goodput), "{goodput}");
}

#[test]
fn envoy_ejects_one_host_for_half_a_minute_and_then_for_longer() {
    let bad = levels(&[10]).fault(at(secs(60)).server("p0-3").errors(1.0, secs(0.001)));
    let run = play(&bad, "envoy_priority");
    let failures: Vec<_> = run.records().iter().filter(|record| !run.is_good(record)).map(|it| it.at).collect();
    // Five in a row, thirty seconds of rest, five, sixty.
    assert_eq!(failures.len(), 15, "{failures:?}");
    let pause = |number: usize| failures[number * 5] - failures[number * 5 - 1];
    assert!((30.0..33.0).contains(&pause(1)) && (60.0..63.0).contains(&pause(2)), "{failures:?}");
    // A tenth of them may be out: a second bad one stays.
    let two = play(&bad.fault(at(secs(60)).server("p0-4").errors(1.0, secs(0.001))), "envoy_priority");
    assert!(two.failures() > 100);
}

#[test]
fn envoy_takes_the_less_busy_of_two() {
    let busy = World::new().pool("s", 3).server(Server::new("slow").region("s").speed(0.2)).load(0.5);
    let share = |name| play(&busy, name).shares_between(0.0, 300.0)[3];
    assert!(share("envoy_priority") < 0.6 * share("random"), "{}", share("envoy_priority"));
}

#[test]
fn grpc_takes_the_first_priority_that_is_ready_and_returns_at_once() {
    let lost = levels(&[2, 2, 2]).fault(at(secs(60)).lasting(secs(60)).region("p0").down());
    let run = play(&lost, "grpc_priority");
    let shares = |from, to| run.region_shares_between(from, to);
    assert_eq!(shares(0.0, 60.0), [1.0, 0.0, 0.0]);
    // A broken connection is seen at once; the way back waits for a pause between connections, and for a probe.
    assert!(shares(60.0, 62.0)[1] > 0.97 && shares(62.0, 120.0) == [0.0, 1.0, 0.0], "{:?}", shares(60.0, 62.0));
    let back = run.between(120.0, 200.0).find(|record| record.server.is_some_and(|server| server < 2)).unwrap();
    assert!(back.at < 120.0 + 1.2 * 26.0, "{back:?}");
    // One of the two is enough, for everything.
    assert_eq!(shares(back.at, 200.0), [1.0, 0.0, 0.0]);
    let half = play(&without(levels(&[2, 2]), &["p0-1"]), "grpc_priority");
    assert_eq!(half.shares_between(65.0, 200.0), [0.0, 1.0, 0.0, 0.0]);
    assert!(half.failures() <= 3);
}

#[test]
fn grpc_takes_turns_and_fails_where_nobody_is_ready() {
    let run = play(&levels(&[4]), "grpc_priority");
    let shares = run.shares_between(0.0, 200.0);
    assert!(shares.iter().all(|share| (share - 0.25).abs() < 1e-3), "{shares:?}");
    let gone = play(&without(levels(&[1, 1]), &["p0-1", "p1-1"]), "grpc_priority");
    assert!(gone.goodput_between(61.0, 200.0) == 0.0);
    assert!(gone.between(61.0, 200.0).all(|record| record.attempts == 0));
}

#[test]
fn the_nearest_region_is_the_only_one_while_it_is_there() {
    let run = play(&without(levels(&[2, 2]), &["p0-1", "p0-2"]), "nearest_region");
    assert_eq!(run.region_shares_between(0.0, 60.0), [1.0, 0.0]);
    assert_eq!(run.region_shares_between(65.0, 200.0), [0.0, 1.0]);
    // Without it, the nearest that is left.
    let run = play(&without(levels(&[1, 2, 2]), &["p0-1"]), "nearest_region");
    assert_eq!(run.region_shares_between(65.0, 200.0), [0.0, 1.0, 0.0]);
}
