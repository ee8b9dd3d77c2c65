//! Pools that are too large to look at whole.

use super::{PRIORITIES, of, stack};
use crate::support::{Act, LEAVES, TestRouter, World, always, leaf, secs};
use fallway::decision::{Next, Reason};
use fallway::facts::Priority;
use fallway::policy::{Capacity, ordered};
use fallway::router::Step;
use fallway::time::Instant;
use fallway::{CallOptions, Decision, Facts, Profile};

/// So many backends of four slots in which `busy` calls are in flight, but for the last, which are idle.
fn fleet(world: &World, name: &str, [size, idle]: [usize; 2], busy: usize) -> TestRouter {
    let mut builder = world.router(stack(leaf(name), Capacity::default()));
    for n in 0..size {
        let (id, region) = (format!("{n}"), if n < size - idle { "busy" } else { "idle" });
        let profile = Profile::new(&id).region(region).concurrency(4);
        builder = builder.backend(profile, world.backend(&id, always(Act::Answer(secs(10)))));
    }
    let router = builder.build().unwrap();
    for _ in 0..busy * (size - idle) {
        let facts = Facts::any().residency(["busy"]);
        let (router, options) = (router.clone(), CallOptions::within(secs(60)).facts(facts));
        world.spawn(async move { router.call("ask", options).await.is_ok() });
        world.settle();
    }
    router
}

fn decide(router: &TestRouter, decision: &mut Decision, now: Instant, seed: u64) -> Next {
    router.decide(decision, now, seed);
    decision.next()
}

#[test]
fn who_has_room_is_found_whoever_else_is_as_full_as_it_may_be() {
    for name in LEAVES {
        let world = World::new();
        let router = fleet(&world, name, [200, 3], 3);
        assert_eq!(router.total_in_flight(), 3 * 197, "{name}");
        for priority in PRIORITIES {
            let mut decision = router.explain(&of(priority));
            for seed in 0..200 {
                let next = decide(&router, &mut decision, world.now(), seed);
                assert!(matches!(next, Next::Call { .. }), "{name}, seed {seed}: {decision}");
            }
        }
    }
}

#[test]
fn where_nobody_has_room_the_first_who_are_full_are_waited_for() {
    let world = World::new();
    let router = fleet(&world, "ordered", [150, 0], 3);
    let mut decision = router.explain(&of(Priority::Standard));
    let next = decide(&router, &mut decision, world.now(), 1);
    assert!(matches!(next, Next::Wait { .. }), "{decision}");
    assert!(decision.candidates().map(|it| it.profile().id().to_owned()).eq((0..64).map(|n| n.to_string())));
    assert!(decision.candidates().all(|it| matches!(it.rejected(), Some(Reason::Reserved { .. }))), "{decision}");
    assert!(decision.to_string().contains("86 of 150 were looked at and passed over"), "{decision}");
    // Whoever comes last could not be waited for.
    for n in 64..150 {
        router.update(|fleet| fleet.drain(&n.to_string())).unwrap();
    }
    let next = decide(&router, &mut decision, world.now(), 1);
    assert!(matches!(next, Next::Wait { .. }), "{decision}");
}

/// One more than is looked at, in a row: each window is looked at once, and the last may be of one.
#[test]
fn a_window_of_one_is_looked_at_too() {
    let world = World::new();
    let mut builder = world.router(stack(ordered(), Capacity::default()));
    for n in 0..129 {
        let id = n.to_string();
        builder = builder.backend(Profile::new(&id).concurrency(4), world.backend(&id, always(Act::Answer(secs(10)))));
    }
    let router = builder.build().unwrap();
    let now = world.now();
    let mut trips = Vec::new();
    for n in 0..129 * 3u32 {
        let mut trip = router.trip(of(Priority::Standard), now);
        assert!(matches!(trip.next(now), Ok(Step::Call(_))), "call {n}");
        assert_eq!(router.in_flight(&(n / 3).to_string()), Some(n % 3 + 1), "call {n}");
        trips.push(trip);
    }
    let mut trip = router.trip(of(Priority::Standard), now);
    assert!(matches!(trip.next(now), Ok(Step::Wait { .. })));
}
