//! Regions that people take out and bring back.

use super::{fleet, shares};
use crate::support::{ANSWER, World, always, ms, plain, secs, within};
use fallway::policy::Regions;
use fallway::router::BuildError;
use fallway::{CallOptions, Profile};

#[test]
fn an_evacuated_region_empties_and_gets_nothing() {
    let world = World::new();
    let (router, [a, _]) = fleet(&world, Regions::new("a").then("b"), None, ["a", "b"]);
    let flying = world.spawn_call(&router, within(secs(5)));
    world.settle();
    assert_eq!(router.in_flight("a-1"), Some(1));
    router.update(|fleet| fleet.evacuate("a")).unwrap();
    // Who joins an evacuated region waits with it.
    let fresh = world.backend("a-9", always(ANSWER));
    router.update(|fleet| fleet.add(Profile::new("a-9").region("a"), fresh)).unwrap();
    assert_eq!(shares(&world, &router, plain()).keys().collect::<Vec<_>>(), ["b"]);
    world.run();
    assert_eq!((flying.take().unwrap().backend(), a.calls()), (Some("a-1"), 1));
    let text = router.explain(&CallOptions::new(plain())).to_string();
    assert!(text.contains("region a: no backend that may serve") && text.contains("a-9, rejected: drained"), "{text}");
}

#[test]
fn a_restored_region_ramps_up() {
    let world = World::new();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), None, ["a", "b"]);
    world.run_for(secs(10));
    router.update(|fleet| fleet.evacuate("a")).unwrap();
    world.run_for(secs(10));
    router.update(|fleet| fleet.restore_region("a")).unwrap();
    let at = |after| {
        world.run_for(after);
        world.call(&router, within(secs(5))).unwrap();
        shares(&world, &router, plain()).get("a").copied().unwrap_or(0)
    };
    assert!((90..=110).contains(&at(ms(1))));
    assert!((480..=520).contains(&at(secs(30))));
    assert_eq!(at(secs(31)), 1000);
}

#[test]
fn a_region_that_is_not_there_is_named() {
    let world = World::new();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), None, ["a", "b"]);
    let unknown = router.update(|fleet| fleet.evacuate("mars")).unwrap_err();
    assert!(matches!(&unknown, BuildError::UnknownRegion(region) if region == "mars"), "{unknown}");
    let fresh = router.update(|fleet| fleet.restore_region("a")).unwrap_err();
    assert!(matches!(&fresh, BuildError::NotEvacuated(region) if region == "a"), "{fresh}");
    assert_eq!(router.generation(), 1);
}

#[test]
fn a_drained_backend_of_a_restored_region_stays_drained() {
    let world = World::new();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), None, ["a", "a", "b"]);
    router.update(|fleet| fleet.drain("a-1")).unwrap();
    router.update(|fleet| fleet.evacuate("a")).unwrap();
    router.update(|fleet| fleet.restore_region("a")).unwrap();
    let decision = router.explain(&CallOptions::new(plain()));
    let out: Vec<_> = decision.candidates().filter(|it| it.rejected().is_some()).map(|it| it.name()).collect();
    assert_eq!(out, ["a-1"]);
}
