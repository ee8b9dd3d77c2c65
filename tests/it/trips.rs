//! A request driven by hand.

use crate::support::{ANSWER, TestRouter, World, always, at, fail, ms, secs};
use fallway::backend::{BackendId, FailureKind};
use fallway::budget::{Backoff, RetryBudget};
use fallway::decision::Next;
use fallway::policy::{FailSafe, PolicyExt, ordered, policy_fn};
use fallway::recover::Ejection;
use fallway::router::{RouteErrorKind, Step};
use fallway::{CallOptions, Facts, Profile};
use futures::task::noop_waker_ref;
use std::task::Context;

fn called(step: Step) -> BackendId {
    match step {
        Step::Call(attempt) => attempt.backend(),
        other => panic!("{other:?}"),
    }
}

/// A router over this many backends.
fn router<const N: usize>(names: [&str; N]) -> TestRouter {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    world.fleet(builder, names.map(|name| (Profile::new(name), always(ANSWER)))).0
}

#[test]
fn a_trip_that_is_over_stays_over() {
    let router = router(["a"]);
    let mut trip = router.trip(Facts::any().into(), at(0));
    called(trip.next(at(0)).unwrap());
    trip.fail(1, FailureKind::InvalidRequest.into(), false, at(1));
    let error = trip.next(at(1)).unwrap_err();
    assert_eq!(error.kind(), RouteErrorKind::NotRetryable);
    assert_eq!(error.attempts().len(), 1);
    let again = trip.next(at(2)).unwrap_err();
    assert_eq!(again.kind(), RouteErrorKind::NotRetryable);
    assert!(again.to_string().len() > 10, "{again}");
}

#[test]
fn what_was_answered_is_not_tried_again() {
    let router = router(["a", "b"]);
    let mut trip = router.trip(Facts::any().replay_safe().into(), at(0));
    called(trip.next(at(0)).unwrap());
    trip.answered(1, at(20));
    assert_eq!(router.total_in_flight(), 1);
    trip.fail(1, FailureKind::Truncated.into(), false, at(30));
    assert_eq!(router.total_in_flight(), 0);
    assert_eq!(trip.next(at(30)).unwrap_err().kind(), RouteErrorKind::AttemptsExhausted);
    // What makes no sense is harmless.
    trip.answered(1, at(31));
    trip.finish(at(32));
    trip.fail(1, FailureKind::Truncated.into(), false, at(33));
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn a_retry_that_was_made_is_not_given_back_by_a_broken_answer() {
    let world = World::new();
    let budget = RetryBudget::new(0.0, 1).unwrap();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).retry_budget(budget);
    let members = ["a", "b"].map(|name| (Profile::new(name), always(ANSWER)));
    let (router, _) = world.fleet(builder.ejection(Ejection::off()), members);
    let retried = (0..20).take_while(|_| {
        let mut trip = router.trip(Facts::any().replay_safe().into(), at(0));
        called(trip.next(at(0)).unwrap());
        trip.fail(1, FailureKind::Unreachable.into(), false, at(1));
        if trip.next(at(1)).is_err() {
            return false;
        }
        trip.answered(2, at(2));
        trip.fail(2, FailureKind::Truncated.into(), false, at(3));
        assert_eq!(trip.next(at(3)).unwrap_err().kind(), RouteErrorKind::AttemptsExhausted);
        true
    });
    assert_eq!(retried.count(), 10);
}

#[test]
fn a_retry_that_is_not_made_is_given_back_where_its_caller_leaves() {
    let world = World::new();
    // Between the decision and the attempt is a back-off of two seconds.
    let config = FailSafe::default().backoff(Backoff::new(secs(2), secs(2)));
    let builder = world.router(ordered().fail_safe(config)).retry_budget(RetryBudget::new(0.5, 0).unwrap());
    let (router, _) = world.fleet(builder.ejection(Ejection::off()), [(Profile::new("a"), always(ANSWER))]);
    // Two requests pay for one other attempt.
    drop(router.trip(Facts::any().into(), at(0)));
    drop(router.trip(Facts::any().into(), at(0)));
    for _ in 0..10 {
        let mut trip = router.trip(Facts::any().replay_safe().into(), at(0));
        called(trip.next(at(0)).unwrap());
        trip.fail(1, FailureKind::ServerError.into(), false, at(1));
        assert!(matches!(trip.next(at(1)), Ok(Step::Sleep { .. })));
    }
}

/// The router's own loop asks for the rest of a stream with a new trip, and a host's goes on with the one it has.
#[test]
fn the_plans_that_an_attempt_lost_do_not_count_for_the_next() {
    let world = World::new();
    // Between a plan and its call others come.
    let soon = policy_fn("soon", |cx, slate| {
        slate.allow_attempts(2);
        let (mut free, at) = (false, cx.now() + ms(1));
        slate.each(|candidate| free |= candidate.rejected().is_none());
        slate.conclude(if free { Next::Call { at } } else { Next::Wait { until: cx.deadline() } });
    });
    let builder = world.router(soon).ejection(Ejection::off());
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let options = || CallOptions::from(Facts::any().replay_safe());
    let (mut trip, mut now) = (router.trip(options(), at(0)), 0);
    for attempt in 1..=2 {
        for _ in 0..10 {
            assert!(matches!(trip.next(at(now)), Ok(Step::Sleep { .. })));
            let mut rival = router.trip(options(), at(now));
            assert!(matches!(rival.next(at(now)), Ok(Step::Sleep { .. })));
            now += 1;
            called(rival.next(at(now)).unwrap());
            let step = trip.next(at(now));
            assert!(matches!(step, Ok(Step::Wait { .. })), "{attempt}: {step:?}");
            drop(rival);
            assert!(trip.poll_called(&mut Context::from_waker(noop_waker_ref())).is_ready());
        }
        assert!(matches!(trip.next(at(now)), Ok(Step::Sleep { .. })));
        now += 1;
        called(trip.next(at(now)).unwrap());
        trip.answered(attempt, at(now));
        trip.fail(attempt, FailureKind::Truncated.into(), false, at(now));
        trip.resume(at(now));
    }
}

#[test]
fn a_dropped_trip_frees_its_slot() {
    let router = router(["a"]);
    let mut trip = router.trip(CallOptions::default(), at(0));
    called(trip.next(at(0)).unwrap());
    assert_eq!(router.total_in_flight(), 1);
    drop(trip);
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn attempts_end_even_where_the_policy_does_not_end_them() {
    let world = World::new();
    let stubborn = policy_fn("stubborn", |_, slate| slate.allow_attempts(4));
    let members = ["a", "b"].map(|name| (Profile::new(name), always(fail(FailureKind::ServerError))));
    let (router, _) = world.fleet(world.router(stubborn), members);
    let error = world.call(&router, Facts::any().replay_safe().into()).unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::AttemptsExhausted, 4));
}

#[test]
fn a_trip_that_is_only_asked_finds_what_was_freed_for_it() {
    let world = World::new();
    let members = [(Profile::new("a").concurrency(1), always(ANSWER))];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let [mut first, mut second] = [(); 2].map(|()| router.trip(CallOptions::new(Facts::any()), at(1)));
    assert!(matches!(first.next(at(1)), Ok(Step::Call(_))));
    assert!(matches!(second.next(at(2)), Ok(Step::Wait { .. })));
    first.answered(1, at(10));
    first.finish(at(20));
    assert!(matches!(second.next(at(20)), Ok(Step::Call(_))));
}
