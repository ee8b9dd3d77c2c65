//! Regions that are full.

use crate::support::{Act, Scripted, Task, TestRouter, World, always, plain, secs, within};
use fallway::decision::{Next, Refusal};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, Regions, least_loaded};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Profile};

/// Two regions of two backends that take five calls each, and answer after ten seconds.
fn world() -> (World, TestRouter, [Scripted; 4]) {
    let world = World::new();
    let members = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")]
        .map(|(id, region)| (Profile::new(id).region(region).concurrency(5), always(Act::Answer(secs(10)))));
    let policy = least_loaded().region_failover(Regions::new("a").then("b")).fail_safe(FailSafe::default());
    let (router, backends) = world.fleet(world.router(policy), members);
    (world, router, backends)
}

fn of(priority: Priority) -> CallOptions {
    CallOptions::within(secs(60)).facts(plain().priority(priority))
}

/// A call whose answer is let go as soon as it is there; whether there was one.
fn fly(world: &World, router: &TestRouter, options: CallOptions) -> Task<bool> {
    let router = router.clone();
    world.spawn(async move { router.call("ask", options).await.is_ok() })
}

/// Calls in flight in each region.
fn load(router: &TestRouter) -> [u32; 2] {
    let load = |ids: [&str; 2]| ids.iter().map(|id| router.in_flight(id).unwrap()).sum();
    [load(["a1", "a2"]), load(["b1", "b2"])]
}

#[test]
fn water_fills_the_regions_in_order_up_to_their_headroom() {
    let (world, router, _) = world();
    let mut seen = Vec::new();
    for _ in 0..20 {
        world.spawn_call(&router, of(Priority::Standard));
        world.settle();
        seen.push(load(&router));
    }
    // 85 % of 10 in a, 60 % of 10 in b, and then both to 85 %; what is left waits.
    assert_eq!(seen[8], [9, 0]);
    assert_eq!(seen[14], [9, 6]);
    assert_eq!(seen[17], [9, 9]);
    assert_eq!(seen[19], [9, 9]);
    for _ in 0..4 {
        world.spawn_call(&router, of(Priority::Critical));
        world.settle();
    }
    // The reserve is for the critical, to the last slot.
    assert_eq!(load(&router), [10, 10]);
    world.run();
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn a_full_fleet_refuses_what_can_be_shed_and_lets_the_others_wait() {
    let (world, router, backends) = world();
    let flying: Vec<_> = (0..18).map(|_| fly(&world, &router, of(Priority::Standard))).collect();
    world.settle();
    for priority in [Priority::Sheddable, Priority::Batch] {
        let decision = router.explain(&of(priority));
        assert_eq!(decision.next(), Next::Refuse { why: Refusal::NothingUsable });
        let error = world.spawn_call(&router, of(priority));
        world.settle();
        let error = error.take().unwrap_err();
        assert_eq!(error.kind(), RouteErrorKind::NothingUsable);
        assert!(error.to_string().contains("4 in a full region"), "{error}");
    }
    let waits = fly(&world, &router, of(Priority::Standard));
    world.settle();
    assert!(!waits.is_done() && matches!(router.explain(&of(Priority::Standard)).next(), Next::Wait { .. }));
    assert_eq!(router.explain(&of(Priority::Critical)).chosen().unwrap().profile().region_name(), Some("a"));
    world.run();
    assert!(waits.take() && flying.into_iter().all(Task::take));
    assert_eq!(backends.iter().map(Scripted::calls).sum::<u64>(), 19);
}

#[test]
fn a_full_region_passes_on_and_says_so() {
    let (world, router, _) = world();
    let flying: Vec<_> = (0..9).map(|_| world.spawn_call(&router, of(Priority::Standard))).collect();
    world.settle();
    let text = router.explain(&of(Priority::Standard)).to_string();
    for line in [
        "region a: 100 % healthy, gets 0 % of the traffic where 100 % fall to it, 9 of 10 in flight",
        "region b: 100 % healthy, gets 100 % of the traffic where 0 % fall to it, 0 of 10 in flight",
        "a1, 5 in flight (100 prompt tokens waiting), rejected: in a full region (9 of 10 in flight)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    world.run();
    drop(flying);
}

#[test]
fn where_the_first_region_has_room_and_nobody_who_may_be_used_the_others_fill_up_as_always() {
    let world = World::new();
    let members = ["a", "b", "c"].map(|region| {
        let profile = Profile::new(region).region(region).concurrency(10);
        // Two of its calls take all of its tokens.
        let profile = if region == "a" { profile.max_prefill_tokens(40) } else { profile };
        (profile, always(Act::Answer(secs(10))))
    });
    let regions = Regions::new("a").then("b").then("c");
    let policy = least_loaded().region_failover(regions).fail_safe(FailSafe::default());
    let (router, _) = world.fleet(world.router(policy), members);
    let load = || ["a", "b", "c"].map(|id| router.in_flight(id).unwrap());
    let mut seen = vec![load()];
    for _ in 0..24 {
        fly(&world, &router, of(Priority::Standard));
        world.settle();
        seen.push(load());
    }
    // 60 % of 10 in each, then 85 %, and then they wait.
    assert_eq!([seen[2], seen[8], seen[14]], [[2, 0, 0], [2, 6, 0], [2, 6, 6]]);
    assert_eq!([seen[20], seen[24]], [[2, 9, 9]; 2]);
    let decision = router.explain(&of(Priority::Standard)).to_string();
    assert!(decision.contains("b, 9 in flight (180 prompt tokens waiting), rejected: in a full region"), "{decision}");
    assert_eq!(router.explain(&of(Priority::Critical)).chosen().unwrap().name(), "b");
    world.run();
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn a_region_without_limits_is_never_full() {
    let world = World::new();
    let members = [("a1", "a", None), ("b1", "b", Some(5))].map(|(id, region, limit)| {
        let profile = Profile::new(id).region(region);
        (limit.into_iter().fold(profile, Profile::concurrency), always(Act::Answer(secs(10))))
    });
    let policy = least_loaded().region_failover(Regions::new("a").then("b"));
    let (router, [a, b]) = world.fleet(world.router(policy), members);
    let flying: Vec<_> = (0..200).map(|_| world.spawn_call(&router, within(secs(60)))).collect();
    world.settle();
    assert_eq!((a.calls(), b.calls()), (200, 0));
    world.run();
    drop(flying);
}
