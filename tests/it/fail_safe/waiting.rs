//! Waiting for a slot or a return, and the last resort.

use crate::support::{ANSWER, Act, Task, World, always, at, fail, guard, hint, in_turn, ms, plain, secs, within};
use fallway::FailureKind::{Overloaded, RateLimited, ServerError};
use fallway::budget::Backoff;
use fallway::decision::Reason;
use fallway::policy::{Contender, FailSafe, PlanContext, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, FailureKind, Profile};

#[test]
fn a_request_waits_for_a_slot_and_gets_it_in_turn() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, [a]) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Answer(ms(100))))]);
    let calls: Vec<Task<_>> = (0..5)
        .map(|_| {
            let (router, timer) = (router.clone(), world.timer().clone());
            world.spawn(async move {
                let answered = router.call("ask", within(secs(5))).await;
                drop(answered.unwrap());
                fallway::time::Timer::now(&timer)
            })
        })
        .collect();
    let start = world.now();
    world.run();
    let ends: Vec<_> = calls.into_iter().map(|call| call.take() - start).collect();
    assert_eq!(ends, [100, 200, 300, 400, 500].map(ms));
    assert_eq!((a.backstage().peak(), a.calls()), (1, 5));
}

/// A policy of the host may reject with a time that is over: to be asked again at once would never end.
#[test]
fn nobody_waits_for_a_moment_that_is_past() {
    for moment in [0, 5, 10_000].map(at) {
        for why in [
            Reason::RateLimited { until: moment },
            Reason::AskedToWait { until: moment },
            Reason::OverQuota { until: moment },
            Reason::ProbeInFlight { until: moment },
            Reason::Reserved { full: 900, ceiling: 850, until: Some(moment) },
        ] {
            let world = World::new();
            world.run_for(secs(10));
            assert!(world.now() >= moment);
            let policy =
                guard(ordered(), move |_: &PlanContext<'_>, candidate: &mut Contender<'_>| candidate.reject(why));
            let builder = world.router(policy.fail_safe(FailSafe::default()));
            let (router, [a]) = world.fleet(builder, [(Profile::new("a"), always(ANSWER))]);
            let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
            assert_eq!((answered.unwrap_err().kind(), took), (RouteErrorKind::NothingUsable, ms(0)), "{why:?}");
            assert_eq!(a.calls(), 0);
        }
    }
}

#[test]
fn a_wait_for_a_slot_ends_at_the_deadline() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, [a]) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Hang))]);
    let first = world.spawn_call(&router, within(secs(10)));
    world.settle();
    let start = world.now();
    let second = world.spawn_call(&router, within(ms(50)));
    world.run_for(ms(49));
    assert!(!second.is_done());
    world.run_for(ms(1));
    let error = second.take().unwrap_err();
    assert_eq!((error.kind(), world.now() - start), (RouteErrorKind::DeadlineExceeded, ms(50)));
    assert_eq!((error.attempts().len(), a.calls()), (0, 1));
    world.run();
    assert!(first.take().is_err());
}

#[test]
fn a_full_queue_refuses_at_once() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).queue(2);
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Hang))]);
    let calls: Vec<_> = (0..5).map(|_| world.spawn_call(&router, within(secs(1)))).collect();
    world.settle();
    let done: Vec<_> = calls.iter().map(Task::is_done).collect();
    assert_eq!(done, [false, false, false, true, true]);
    world.run();
    let kinds: Vec<_> = calls.into_iter().map(|call| call.take().unwrap_err().kind()).collect();
    assert_eq!(kinds[3..], [RouteErrorKind::QueueFull; 2]);
}

#[test]
fn a_place_that_is_given_up_is_free() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).queue(1);
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Answer(ms(100))))]);
    let first = world.spawn_call(&router, within(secs(1)));
    world.settle();
    let waits = router.clone();
    let leaves = world.spawn(crate::support::dropped_after(1, async move { waits.call("ask", within(secs(1))).await }));
    world.settle();
    assert!(leaves.take().is_none());
    let third = world.spawn_call(&router, within(secs(1)));
    world.run_for(ms(100));
    drop(first.take().unwrap());
    world.run();
    assert!(third.take().is_ok());
}

#[test]
fn a_request_that_backs_off_keeps_no_slot_from_others() {
    let world = World::new();
    let safe = FailSafe::default().backoff(Backoff::new(secs(4), secs(4)));
    // The first call to b lasts until just after the wait for it is over; then the failed one backs off.
    let b = in_turn([Act::Answer(ms(5_100)), ANSWER]);
    let members = [
        (Profile::new("b").region("eu").concurrency(1), b),
        (Profile::new("a").region("us"), in_turn([fail(ServerError), ANSWER])),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(safe)), members);
    let busy = world.spawn_call(&router, within(secs(10)));
    world.settle();
    let backs_off = world.spawn_call(&router, within(secs(10)));
    world.settle();
    let waits = world.spawn_call(&router, CallOptions::within(secs(20)).facts(plain().residency(["eu"])));
    world.run_for(ms(5_100));
    assert!(busy.is_done() && !backs_off.is_done());
    drop(busy.take());
    world.run_for(ms(20));
    assert!(!backs_off.is_done(), "it sleeps until its back-off is over");
    assert_eq!(waits.take().unwrap().backend(), Some("b"));
    world.run();
    assert_eq!(backs_off.take().unwrap().backend(), Some("a"));
}

/// A back-off counts from the failure: with each slot that is freed for it served once more, it would never get one.
#[test]
fn a_request_that_backed_off_and_waits_takes_its_slot_at_once() {
    let world = World::new();
    let script = in_turn([fail(ServerError), Act::Answer(secs(1)), Act::Answer(secs(1)), Act::Answer(ms(500))]);
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, [a]) = world.fleet(builder, [(Profile::new("a").concurrency(1), script)]);
    let start = world.now();
    let fails = world.ask(&router, within(secs(10)));
    world.settle();
    let busy = world.ask(&router, within(secs(10)));
    // By now it waits as well.
    world.run_for(ms(500));
    let behind = world.ask(&router, within(secs(10)));
    world.run();
    let took = [fails, busy, behind].map(|call| call.take().took);
    assert_eq!(took, [secs(2), secs(1), secs(2)]);
    let starts: Vec<_> = a.seen().iter().map(|seen| seen.at - start).collect();
    assert_eq!(starts, [secs(0), secs(0), secs(1), secs(2)]);
}

#[test]
fn a_back_off_that_ends_before_a_hint_waits_for_it() {
    let world = World::new();
    let safe = FailSafe::default().backoff(Backoff::new(secs(4), secs(4)));
    let script = in_turn([fail(ServerError), hint(RateLimited, secs(10)), ANSWER]);
    let (router, [a]) = world.fleet(world.router(ordered().fail_safe(safe)), [(Profile::new("a"), script)]);
    let start = world.now();
    let call = || {
        let router = router.clone();
        // Drops the answer at once, so that who waits for the probe learns of it.
        world.spawn(async move { router.call("ask", within(secs(30))).await.is_ok() })
    };
    let backs_off = call();
    world.run_for(ms(1));
    let throttled = call();
    world.run_for(ms(1));
    assert!(a.calls() == 2 && !backs_off.is_done());
    world.run_for(secs(9));
    assert_eq!(a.calls(), 2, "the back-off is over, the rest is not");
    world.run();
    assert!(backs_off.take() && throttled.take());
    assert!(world.now() - start >= secs(10));
}

#[test]
fn all_cooling_waits_for_the_earliest_return() {
    let world = World::new();
    let members = [
        (Profile::new("late"), in_turn([hint(RateLimited, secs(3)), ANSWER])),
        (Profile::new("early"), in_turn([hint(RateLimited, secs(2)), ANSWER])),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(10))));
    assert_eq!((answered.unwrap().backend(), took), (Some("early"), secs(2) + ms(20)));
}

#[test]
fn a_newcomer_ends_the_wait() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(hint(RateLimited, secs(30))))]);
    let call = world.spawn_call(&router, within(secs(60)));
    world.run_for(secs(1));
    assert!(!call.is_done());
    router.update(|fleet| fleet.add(Profile::new("b"), world.backend("b", always(ANSWER)))).unwrap();
    world.run_for(ms(20));
    assert_eq!(call.take().unwrap().backend(), Some("b"));
}

#[test]
fn the_last_resort_answers_when_waiting_does_not_help_and_is_marked() {
    let world = World::new();
    let static_answer = world.backend("static", always(Act::Answer(ms(1))));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).last_resort(static_answer.clone());
    let (router, [a]) = world.fleet(builder, [(Profile::new("a"), always(hint(RateLimited, secs(2))))]);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(1))));
    let routed = answered.unwrap();
    assert!(routed.is_degraded());
    assert_eq!((routed.backend(), routed.response().backend(), took), (None, "static", ms(1)));
    assert_eq!((a.calls(), static_answer.calls(), router.total_in_flight()), (1, 1, 0));
}

#[test]
fn a_wait_that_fits_is_better_than_the_last_resort() {
    let world = World::new();
    let builder =
        world.router(ordered().fail_safe(FailSafe::default())).last_resort(world.backend("static", always(ANSWER)));
    let script = in_turn([hint(RateLimited, secs(2)), ANSWER]);
    let (router, _) = world.fleet(builder, [(Profile::new("a"), script)]);
    let routed = world.call(&router, within(secs(5))).unwrap();
    assert_eq!((routed.is_degraded(), routed.backend()), (false, Some("a")));
}

#[test]
fn the_last_resort_comes_after_the_attempts_and_within_the_deadline() {
    let world = World::new();
    let builder =
        world.router(ordered().fail_safe(FailSafe::default())).last_resort(world.backend("static", always(ANSWER)));
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(fail(Overloaded))));
    let (router, _) = world.fleet(builder, members);
    let routed = world.call(&router, within(secs(5))).unwrap();
    assert_eq!((routed.is_degraded(), routed.attempts().len()), (true, 3));

    let world = World::new();
    let builder =
        world.router(ordered().fail_safe(FailSafe::default())).last_resort(world.backend("hangs", always(Act::Hang)));
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(fail(Overloaded)))]);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
    // The caller learns what the backends said, not that the last resort failed as well.
    assert_eq!(answered.unwrap_err().backend_error().map(|error| error.kind()), Some(Overloaded));
    assert_eq!(took, secs(5));
}

#[test]
fn a_last_resort_that_panics_is_contained() {
    for act in [Act::PanicInCall, Act::Panic(ms(1))] {
        let world = World::new();
        let builder =
            world.router(ordered().fail_safe(FailSafe::default())).last_resort(world.backend("panics", always(act)));
        let (router, _) = world.fleet(builder, [(Profile::new("a").drained(true), always(ANSWER))]);
        let error = world.call(&router, within(secs(5))).unwrap_err();
        assert_eq!(error.backend_error().map(|error| error.kind()), Some(FailureKind::Panicked));
        assert_eq!(error.decision().rejections(), [("drained", 1)]);
    }
}

#[test]
fn a_request_that_may_not_be_repeated_gets_no_last_resort_in_disguise() {
    // The hook is the host's own answer, no repetition: it is still asked after a failure that is retried nowhere.
    let world = World::new();
    let builder =
        world.router(ordered().fail_safe(FailSafe::default())).last_resort(world.backend("static", always(ANSWER)));
    let (router, [a]) = world.fleet(builder, [(Profile::new("a"), always(fail(ServerError)))]);
    let options = fallway::CallOptions::within(secs(5)).facts(fallway::Facts::any());
    let error = world.call(&router, options).unwrap_err();
    assert_eq!((error.kind(), a.calls()), (RouteErrorKind::NotRetryable, 1));
}

#[test]
fn who_waits_for_a_promise_looks_when_a_rest_is_over() {
    let world = World::new();
    let members = [
        (Profile::new("a"), in_turn([hint(RateLimited, secs(8)), ANSWER])),
        (Profile::new("b"), in_turn([fail(Overloaded), ANSWER])),
    ];
    let rests = Ejection::default().rest_overloaded(secs(3), secs(3));
    let builder = world.router(ordered().fail_safe(FailSafe::default().attempts(2))).ejection(rests);
    let (router, _) = world.fleet(builder, members);
    assert!(world.call(&router, within(secs(1))).is_err());
    let (answered, took) = world.timed(|| world.call(&router, within(secs(10))));
    assert_eq!(answered.unwrap().backend(), Some("b"));
    assert!((secs(1)..secs(4)).contains(&took), "{took:?}");
}
