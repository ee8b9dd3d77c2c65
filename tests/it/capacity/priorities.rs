//! Who goes before whom.

use super::{PRIORITIES, fleet, load, of, send, stack};
use crate::support::{ANSWER, LEAVES, Reply, Task, TestRouter, World, always, leaf};
use fallway::Profile;
use fallway::decision::{Next, Reason};
use fallway::facts::Priority;
use fallway::policy::{Capacity, FailSafe, PolicyExt, RoutingPolicy, ordered, policy_fn};
use fallway::rng::Rng;
use fallway::router::{Step, Trip};
use fallway::time::Instant;
use std::task::{Context, Waker};

/// A million decisions: at whatever load, a request finds room wherever one of lower priority does.
#[test]
fn no_priority_is_inverted_in_a_million_decisions() {
    let world = World::new();
    let mut rng = Rng::new(5);
    let mut decided = 0u32;
    for name in LEAVES {
        let router =
            fleet(&world, world.router(stack(leaf(name), Capacity::default())), [("a", 13), ("b", 5), ("c", 2)]);
        let mut decisions = PRIORITIES.map(|priority| router.explain(&of(priority)));
        let mut flying = Vec::new();
        let mut now = world.now();
        let states = 1_000_000 / (LEAVES.len() * PRIORITIES.len());
        for state in 0..states {
            now = Instant::from_nanos(now.as_nanos() + 1_000);
            // Calls come and go, of all priorities.
            let mut trip = router.trip(of(PRIORITIES[rng.below(4)]), now);
            if matches!(trip.next(now), Ok(Step::Call(_))) {
                flying.push(trip);
            }
            if flying.len() > rng.below(21) {
                drop(flying.swap_remove(rng.below(flying.len())));
            }
            let mut found = [(false, 0); 4];
            for (decision, found) in decisions.iter_mut().zip(&mut found) {
                router.decide(decision, now, state as u64);
                let usable = decision.candidates().filter(|it| it.rejected().is_none()).count();
                *found = (matches!(decision.next(), Next::Call { .. }), usable);
                decided += 1;
            }
            assert!(found.is_sorted(), "{name}: {found:?}\n{}", decisions[0]);
        }
    }
    assert_eq!(decided, 1_000_000);
}

#[test]
fn of_those_who_wait_the_highest_gets_the_slot() {
    let world = World::new();
    let router = fleet(&world, world.router(stack(ordered(), Capacity::default())), [("a", 20)]);
    send(&world, &router, Priority::Critical, 20);
    let call = |priority| {
        let (router, options) = (router.clone(), of(priority));
        world.spawn(async move { router.call("ask", options).await.map(drop).is_ok() })
    };
    let standard: Vec<_> = (0..20).map(|_| call(Priority::Standard)).collect();
    let critical: Vec<_> = (0..20).map(|_| call(Priority::Critical)).collect();
    world.run_for(std::time::Duration::from_secs(15));
    // Twenty slots were freed at once: all went to the critical, and of these nobody waits.
    assert_eq!(load(&router, ["a"]), [20]);
    world.run_for(std::time::Duration::from_secs(6));
    assert!(critical.iter().all(Task::is_done) && !standard.iter().any(Task::is_done));
    // Without critical requests the standard ones have their 85 %.
    assert_eq!(load(&router, ["a"]), [17]);
    world.run();
    assert!(standard.into_iter().all(Task::take));
    assert_eq!(router.total_in_flight(), 0);
}

/// A request that starts, or waits and sleeps.
fn begin(router: &TestRouter, priority: Priority, waits: bool, now: Instant) -> Trip<'_, str, Reply> {
    let mut trip = router.trip(of(priority), now);
    assert_eq!(matches!(trip.next(now), Ok(Step::Wait { .. })), waits);
    assert_eq!(trip.poll_called(&mut Context::from_waker(Waker::noop())).is_pending(), waits);
    trip
}

#[test]
fn who_is_not_to_have_what_is_free_is_not_called_for_it() {
    let world = World::new();
    // With a bound of tokens as well, where more than one may start with what is free.
    for bound in [None, Some(1_000_000)] {
        let a = Profile::new("a").concurrency(4);
        let a = bound.into_iter().fold(a, Profile::max_total_tokens);
        let builder = world.router(stack(ordered(), Capacity::default()));
        let (router, _) = world.fleet(builder, [(a, always(ANSWER))]);
        let (now, cx) = (world.now(), || Context::from_waker(Waker::noop()));
        let call = |priority, waits| begin(&router, priority, waits, now);
        let mut calls: Vec<_> = (0..4).map(|_| call(Priority::Critical, false)).collect();
        let mut standard = [1, 2].map(|_| call(Priority::Standard, true));
        // They may fill three of the four, and three are taken: the fourth is for those who matter more.
        calls.pop();
        assert!(standard.iter_mut().all(|trip| trip.poll_called(&mut cx()).is_pending()));
        let critical = call(Priority::Critical, false);
        calls.pop();
        assert!(standard.iter_mut().all(|trip| trip.poll_called(&mut cx()).is_pending()));
        // Two are taken now: the first may start, and the second may not.
        drop(critical);
        let [first, second] = &mut standard;
        assert!(first.poll_called(&mut cx()).is_ready() && second.poll_called(&mut cx()).is_pending());
        assert!(matches!(first.next(now), Ok(Step::Call(_))));
        assert!(second.poll_called(&mut cx()).is_pending());
        drop((calls, standard));
        assert_eq!((router.total_in_flight(), router.waiting()), (0, 0));
    }
}

#[test]
fn who_passed_a_slot_on_gets_it_when_another_is_free_too() {
    let world = World::new();
    // A policy of the host: the queue does not know what it keeps.
    let reserve = policy_fn("reserve", |cx, slate| {
        slate.each(|candidate| {
            if cx.facts().request_priority() < Priority::Critical && candidate.load().in_flight >= 3 {
                candidate.reject(Reason::Reserved { full: 750, ceiling: 750, until: None });
            }
        });
        ordered().plan(cx, slate);
    });
    let router = fleet(&world, world.router(reserve.fail_safe(FailSafe::default())), [("a", 4)]);
    let (now, cx) = (world.now(), || Context::from_waker(Waker::noop()));
    let call = |priority, waits| begin(&router, priority, waits, now);
    let mut calls: Vec<_> = (0..4).map(|_| call(Priority::Critical, false)).collect();
    let mut standard = call(Priority::Standard, true);
    calls.pop();
    let critical = call(Priority::Critical, true);
    // It may fill three, and three are taken: the freed one goes on to the critical request. The next is freed while that
    // has not begun yet, and is nobody's.
    let mut pass_on = || {
        assert!(standard.poll_called(&mut cx()).is_ready());
        assert!(matches!(standard.next(now), Ok(Step::Wait { .. })));
        assert!(standard.poll_called(&mut cx()).is_pending());
    };
    pass_on();
    calls.pop();
    pass_on();
    // The critical request leaves. Two are taken now.
    drop(critical);
    assert!(standard.poll_called(&mut cx()).is_ready());
    assert!(matches!(standard.next(now), Ok(Step::Call(_))));
    drop((calls, standard));
    assert_eq!((router.total_in_flight(), router.waiting()), (0, 0));
}
