//! Numbers.
//!
//! Elsewhere: NaN through a range check, in `bad_input`.

use crate::support::{ANSWER, World, always, fail, leaf, ms, secs, within};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::Profile;
use fallway::budget::Backoff;
use fallway::policy::{FailSafe, PolicyExt, least_loaded, ordered};
use fallway::rng::Rng;
use fallway::time::Instant;
use std::time::Duration;

#[test]
fn a_draw_may_be_zero_and_is_never_one() {
    let mut rng = Rng::new(1);
    let draws: Vec<_> = (0..100_000).map(|_| rng.unit()).collect();
    assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
    assert!((0..100_000).all(|_| rng.below(3) < 3));
    assert_eq!((rng.below(0), rng.below(1)), (0, 0));
    // Nothing divides by a draw, or takes its logarithm: the extremes of back-off are finite.
    let none = Backoff::new(Duration::ZERO, Duration::ZERO);
    let huge = Backoff::new(Duration::MAX, Duration::MAX);
    assert!((0..1000).all(|n| none.wait(n, &mut rng) == Duration::ZERO && huge.wait(n, &mut rng) < Duration::MAX));
}

#[test]
fn sixty_idle_days_overflow_nothing() {
    for name in crate::support::LEAVES {
        let world = World::new();
        let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
        let (router, backends) = world.fleet(world.router(leaf(name).fail_safe(FailSafe::default())), members);
        for days in [0, 60, 365, 36_500] {
            world.timer().advance(secs(days * 86_400));
            for _ in 0..10 {
                let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
                assert_eq!((answered.is_ok(), took), (true, ms(20)), "{name} after {days} days");
            }
        }
        assert_eq!(backends.iter().map(|backend| backend.calls()).sum::<u64>(), 40, "{name}");
    }
}

#[test]
fn a_clock_that_jumps_wrongs_no_request() {
    let start = World::new().now();
    for jump in [Instant::from_nanos(1), start - secs(900), start + secs(365 * 86_400), Instant::from_nanos(u64::MAX)] {
        let world = World::new();
        let members = [(Profile::new("a"), always(fail(ServerError))), (Profile::new("b"), always(ANSWER))];
        let (router, [_, b]) =
            world.fleet(world.router(leaf("predicted_ttft").fail_safe(FailSafe::default())), members);
        for _ in 0..20 {
            world.call(&router, within(secs(5))).unwrap();
        }
        let flying = world.spawn_call(&router, within(secs(5)));
        world.settle();
        world.timer().set(jump);
        if jump != Instant::from_nanos(u64::MAX) {
            for _ in 0..20 {
                world.call(&router, within(secs(5))).unwrap();
            }
            assert!(b.calls() >= 40, "{jump:?}");
        } else {
            // At the end of time every deadline is now.
            assert!(world.call(&router, within(secs(5))).is_err());
        }
        world.run();
        drop(flying.take());
        assert_eq!(router.total_in_flight(), 0, "{jump:?}");
    }
}

#[test]
fn a_rest_works_far_in_the_future() {
    // A host's clock that counts from 1970 gets there in 2050: moments no longer fit into 61 bits.
    let world = World::new();
    world.timer().set(Instant::from_nanos(80 * 365 * 86_400 * 1_000_000_000));
    let members = [(Profile::new("a"), always(fail(Overloaded))), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    for _ in 0..20 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert_eq!(a.calls(), 1);
}

#[test]
fn queues_of_zero_and_one_are_not_as_far_apart_as_zero_and_a_thousand() {
    let world = World::new();
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(crate::support::Act::Answer(secs(1)))));
    let (router, _) = world.fleet(world.router(least_loaded()), members);
    let costs = || -> Vec<_> {
        let mut costs: Vec<_> = router.explain(&within(secs(1))).candidates().map(|it| it.cost().unwrap()).collect();
        costs.sort_unstable();
        costs
    };
    let mut calls = vec![world.spawn_call(&router, within(secs(5)))];
    world.settle();
    assert_eq!(costs(), [0, 0, 1_000]);
    router.update(|fleet| fleet.drain("b")).unwrap();
    router.update(|fleet| fleet.drain("c")).unwrap();
    calls.extend((0..999).map(|_| world.spawn_call(&router, within(secs(5)))));
    world.settle();
    router
        .update(|fleet| {
            fleet.restore("b");
            fleet.restore("c");
        })
        .unwrap();
    // The unit is absolute: a thousandth of a call, whatever the others have.
    let most = *costs().last().unwrap();
    assert!((999_000..=1_000_000).contains(&most), "{most}");
    world.run();
}

#[test]
fn weights_at_the_edge_of_the_numbers_neither_panic_nor_win() {
    for (light, heavy) in [(1e-300, 1.0), (f64::MIN_POSITIVE, 1.0), (1.0, 1e300), (1e-12, 1e12)] {
        for name in ["weighted", "least_loaded"] {
            let world = World::new();
            let members = [("light", light), ("heavy", heavy)]
                .map(|(id, weight)| (Profile::new(id).weight(weight), always(ANSWER)));
            let (router, [light_one, _]) = world.fleet(world.router(leaf(name)), members);
            for _ in 0..1000 {
                let routed = world.call(&router, within(secs(5))).unwrap();
                assert!(!routed.decision().policy_panicked(), "{name} {light:e} {heavy:e}");
            }
            let most = if name == "weighted" { 1 } else { 600 };
            assert!(light_one.calls() <= most, "{name} {light:e} {heavy:e}: {}", light_one.calls());
        }
    }
}

#[test]
fn weights_whose_sum_overflows_still_share() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id).weight(f64::MAX), always(ANSWER)));
    let (router, backends) = world.fleet(world.router(leaf("weighted")), members);
    for _ in 0..1000 {
        world.call(&router, within(secs(5))).unwrap();
    }
    for backend in backends {
        assert!((450..=550).contains(&backend.calls()), "{} of 1000", backend.calls());
    }
}
