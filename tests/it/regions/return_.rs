//! A region goes at once, and comes back slowly.

use super::{close, fleet, shares};
use crate::support::{ANSWER, Log, Opinion, Script, Told, World, always, fail, ms, plain, secs, within};
use fallway::decision::RegionPhase;
use fallway::policy::{FailSafe, PolicyExt, Regions, predicted_ttft, round_robin};
use fallway::time::Timer;
use fallway::{CallOptions, FailureKind, Profile};
use std::time::Duration;

/// Sends a request every 100 ms for so many seconds.
fn traffic(world: &World, router: &crate::support::TestRouter, seconds: u64) {
    for _ in 0..seconds * 10 {
        world.call(router, within(secs(5))).unwrap();
        world.run_for(ms(80));
    }
}

fn phase(router: &crate::support::TestRouter) -> RegionPhase {
    router.explain(&CallOptions::new(plain())).regions().next().unwrap().phase()
}

#[test]
fn a_lost_region_is_held_and_ramped() {
    let (world, log) = (World::new(), Log::default());
    let opinion = Opinion::default();
    let policy = round_robin().region_failover(Regions::new("a").then("b")).fail_safe(FailSafe::default());
    let members = ["a1", "a2", "b1", "b2"].map(|id| (Profile::new(id).region(&id[..1]), always(ANSWER)));
    for slot in 0..4 {
        opinion.fresh(slot, 1000, world.now());
    }
    let builder = world.router(policy).signal(opinion.clone()).observer(log.clone());
    let (router, [a1, a2, ..]) = world.fleet(builder, members);
    let calls = || a1.calls() + a2.calls();
    world.run_for(secs(1));
    traffic(&world, &router, 2);
    assert_eq!(calls(), 20);
    // Gone: the next request is elsewhere.
    for slot in [0, 1] {
        opinion.fresh(slot, 0, world.now());
    }
    traffic(&world, &router, 10);
    assert_eq!(calls(), 20);
    assert!(matches!(phase(&router), RegionPhase::Down { .. }));
    // Well again: held for 30 s, in which it gets one request in a hundred.
    for slot in [0, 1] {
        opinion.fresh(slot, 1000, world.now());
    }
    traffic(&world, &router, 1);
    let RegionPhase::Held { until } = phase(&router) else { panic!("{:?}", phase(&router)) };
    assert!(until - world.now() > secs(28) && until - world.now() <= secs(30));
    let held = shares(&world, &router, plain());
    assert!(close(&held, &[("a", 10), ("b", 990)]), "{held:?}");
    traffic(&world, &router, 30);
    assert!(matches!(phase(&router), RegionPhase::Ramping { .. }));
    let ramping = shares(&world, &router, plain());
    assert!(close(&ramping, &[("a", 100), ("b", 900)]), "{ramping:?}");
    traffic(&world, &router, 29);
    let ramping = shares(&world, &router, plain());
    assert!((450..520).contains(&ramping["a"]), "{ramping:?}");
    traffic(&world, &router, 32);
    assert_eq!((phase(&router), &shares(&world, &router, plain())["a"]), (RegionPhase::Up, &1000));
    let told: Vec<_> = log
        .told()
        .into_iter()
        .filter_map(|(_, told)| match told {
            Told::Region { region, from, to } => Some((region, from, to)),
            _ => None,
        })
        .collect();
    let step = |from, to| ("a".to_owned(), from, to);
    assert_eq!(told, [step("up", "down"), step("down", "held"), step("held", "ramping"), step("ramping", "up")]);
}

#[test]
fn a_region_that_refused_every_call_is_probed_held_and_ramped() {
    let world = World::new();
    let profiles = ["a1", "a2", "b1", "b2"].map(|id| Profile::new(id).region(&id[..1]).concurrency(8));
    let outage = secs(1_002)..secs(1_010);
    let members = profiles.map(|profile| {
        let (timer, outage, a) = (world.timer().clone(), outage.clone(), profile.region_name() == Some("a"));
        let script: Script = Box::new(move |_| {
            let now = Duration::from_nanos(timer.now().as_nanos());
            if a && outage.contains(&now) { fail(FailureKind::Unreachable) } else { ANSWER }
        });
        (profile, script)
    });
    let policy = predicted_ttft().region_failover(Regions::new("a").then("b")).fail_safe(FailSafe::default());
    let (router, [a1, a2, ..]) = world.fleet(world.router(policy), members);
    let calls = || a1.calls() + a2.calls();
    let mut attempts = 0;
    let mut seconds = Vec::new();
    for _ in 0..130 {
        let before = calls();
        for _ in 0..10 {
            attempts += world.call(&router, within(secs(5))).unwrap().attempts().len();
            world.run_for(ms(80));
        }
        seconds.push(calls() - before);
    }
    assert_eq!(seconds[0], 10);
    assert!(seconds[3..10].iter().all(|second| *second <= 4), "only probes: {seconds:?}");
    assert!(seconds[15..40].iter().sum::<u64>() <= 12, "held: {seconds:?}");
    assert!(seconds[120..].iter().all(|second| *second >= 9), "back: {seconds:?}");
    assert!(attempts <= 1_330, "{attempts}");
}

#[test]
fn a_relapse_begins_the_hold_anew_and_a_flap_doubles_it() {
    let world = World::new();
    let opinion = Opinion::default();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), ["a", "b"]);
    world.run_for(secs(1));
    let set = |score| opinion.fresh(0, score, world.now());
    let held = || match phase(&router) {
        RegionPhase::Held { until } => (until - world.now()).as_secs_f64().round() as u64,
        other => panic!("{other:?}"),
    };
    traffic(&world, &router, 1);
    set(0);
    traffic(&world, &router, 1);
    set(1000);
    traffic(&world, &router, 20);
    assert_eq!(held(), 10);
    // A relapse while it is held: the same hold, from the start.
    set(0);
    traffic(&world, &router, 1);
    set(1000);
    traffic(&world, &router, 1);
    assert_eq!(held(), 29);
    // It comes back, and fails again: twice as long each time.
    for expected in [60, 120, 240, 480, 600, 600] {
        while !matches!(phase(&router), RegionPhase::Ramping { .. } | RegionPhase::Up) {
            world.run_for(secs(10));
            traffic(&world, &router, 1);
        }
        set(0);
        traffic(&world, &router, 1);
        set(1000);
        traffic(&world, &router, 1);
        assert_eq!(held(), expected - 1);
    }
    // Each ten minutes without a failure forgive one flap.
    while phase(&router) != RegionPhase::Up {
        world.run_for(secs(10));
        traffic(&world, &router, 1);
    }
    world.run_for(secs(4 * 600 + 30));
    set(0);
    traffic(&world, &router, 1);
    set(1000);
    traffic(&world, &router, 1);
    assert_eq!(held(), 119);
}

#[test]
fn a_flapping_region_gets_little_and_loses_nothing() {
    let world = World::new();
    let opinion = Opinion::default();
    let (router, [a, _]) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), ["a", "b"]);
    traffic(&world, &router, 1);
    let before = a.calls();
    for second in 0..600 {
        opinion.fresh(0, if second / 10 % 2 == 0 { 0 } else { 1000 }, world.now());
        traffic(&world, &router, 1);
    }
    let during = a.calls() - before;
    // Half of the time it looks well, and gets one in a hundred.
    assert!((5..80).contains(&during), "{during} of 6000");
}

#[test]
fn a_dry_run_moves_no_region_on() {
    let world = World::new();
    let opinion = Opinion::default();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), ["a", "b"]);
    opinion.fresh(0, 0, world.now());
    shares(&world, &router, plain());
    opinion.fresh(0, 1000, world.now());
    assert_eq!(phase(&router), RegionPhase::Up);
}

#[test]
fn a_fleet_that_changes_keeps_what_is_remembered_of_its_regions() {
    let world = World::new();
    let opinion = Opinion::default();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), ["a", "b"]);
    opinion.fresh(0, 0, world.now());
    traffic(&world, &router, 1);
    let down = phase(&router);
    assert!(matches!(down, RegionPhase::Down { .. }));
    let fresh = world.backend("a-9", always(ANSWER));
    router.update(|fleet| fleet.add(Profile::new("a-9").region("a"), fresh)).unwrap();
    let remembered = router.explain(&CallOptions::new(plain()));
    assert_eq!(remembered.regions().next().unwrap().health(), 500);
    assert_eq!(remembered.regions().next().unwrap().phase(), down);
}

#[test]
fn without_hold_and_ramp_it_is_back_at_once() {
    let world = World::new();
    let opinion = Opinion::default();
    let regions = Regions::new("a").then("b").hold(secs(0), secs(0)).ramp(secs(0));
    let (router, _) = fleet(&world, regions, Some(&opinion), ["a", "b"]);
    opinion.fresh(0, 0, world.now());
    traffic(&world, &router, 1);
    opinion.fresh(0, 1000, world.now());
    traffic(&world, &router, 1);
    assert_eq!(phase(&router), RegionPhase::Up);
}
