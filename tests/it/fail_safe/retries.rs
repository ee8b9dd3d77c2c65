//! Attempts: how many, where, after what wait, and with how much time.

use crate::support::{ANSWER, Act, LEAVES, Load, World, always, fail, hint, in_turn, leaf, ms, plain, secs, within};
use fallway::FailureKind::{ContextTooLong, Overloaded, RateLimited, ServerError, Timeout, Unreachable};
use fallway::budget::{Backoff, RetryBudget};
use fallway::decision::{Next, Reason, Refusal};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Facts, Profile};
use std::time::Duration;

#[test]
fn three_attempts_on_three_backends_and_then_the_error_at_once() {
    for name in LEAVES {
        let world = World::new();
        let members = ["a", "b", "c", "d", "e"].map(|id| (Profile::new(id), always(fail(Overloaded))));
        let (router, _) = world.fleet(world.router(leaf(name).fail_safe(FailSafe::default())), members);
        let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
        let error = answered.unwrap_err();
        assert_eq!(error.kind(), RouteErrorKind::AttemptsExhausted, "{name}");
        assert_eq!(error.decision().next(), Next::Refuse { why: Refusal::AttemptsExhausted { attempts: 3 } });
        let mut tried: Vec<_> = error.attempts().iter().map(|attempt| attempt.backend()).collect();
        tried.sort_unstable();
        tried.dedup();
        assert_eq!((tried.len(), took), (3, Duration::ZERO), "{name}");
    }
}

#[test]
fn whatever_leaf_the_one_backend_that_works_is_found() {
    for name in LEAVES {
        for works in 0..3 {
            let world = World::new();
            let members = [0, 1, 2]
                .map(|n| (Profile::new(n.to_string()), always(if n == works { ANSWER } else { fail(Unreachable) })));
            let (router, _) = world.fleet(world.router(leaf(name).fail_safe(FailSafe::default())), members);
            let answered = world.call(&router, within(secs(5)));
            assert!(answered.is_ok(), "{name}, {works} works: {answered:?}");
        }
    }
}

#[test]
fn the_same_backend_again_only_after_a_back_off() {
    for seed in 0..50 {
        let world = World::new();
        let script = in_turn([fail(ServerError), fail(ServerError), ANSWER]);
        let builder = world.router(ordered().fail_safe(FailSafe::default())).seed(seed);
        let (router, [a]) = world.fleet(builder, [(Profile::new("a"), script)]);
        let routed = world.call(&router, within(secs(5))).unwrap();
        assert_eq!(routed.attempts().len(), 3);
        let starts: Vec<_> = a.seen().iter().map(|seen| seen.at).collect();
        let (first, second) = (starts[1] - starts[0], starts[2] - starts[1]);
        assert!(first <= ms(50) && second <= ms(100), "{first:?} {second:?}");
        let chosen = routed.decision().chosen().unwrap();
        assert!(matches!(chosen.note(), Some(Reason::RetriedHere { .. })), "{:?}", chosen.note());
    }
}

#[test]
fn back_off_is_jittered_over_its_whole_range() {
    let mut waits: Vec<_> = (0..200)
        .map(|seed| {
            let world = World::new();
            let builder = world.router(ordered().fail_safe(FailSafe::default())).seed(seed);
            let (router, [a]) = world.fleet(builder, [(Profile::new("a"), in_turn([fail(ServerError), ANSWER]))]);
            world.call(&router, within(secs(5))).unwrap();
            let seen = a.seen();
            seen[1].at - seen[0].at
        })
        .collect();
    waits.sort_unstable();
    let (low, middle, high) = (waits[0], waits[100], waits[199]);
    assert!(low < ms(5) && middle > ms(18) && middle < ms(32) && high > ms(45), "{low:?} {middle:?} {high:?}");
}

#[test]
fn a_back_off_that_does_not_fit_the_deadline_is_not_begun() {
    let world = World::new();
    let config = FailSafe::default().backoff(Backoff::new(secs(1000), secs(1000)));
    let builder = world.router(ordered().fail_safe(config));
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(fail(ServerError)))]);
    let (answered, took) = world.timed(|| world.call(&router, within(ms(10))));
    assert_eq!((answered.unwrap_err().kind(), took), (RouteErrorKind::NothingUsable, Duration::ZERO));
}

#[test]
fn a_retry_after_that_fits_is_waited_for_exactly() {
    for kind in [RateLimited, Overloaded] {
        let world = World::new();
        let script = in_turn([hint(kind, secs(2)), ANSWER]);
        let (router, [a]) =
            world.fleet(world.router(ordered().fail_safe(FailSafe::default())), [(Profile::new("a"), script)]);
        let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
        assert_eq!(answered.unwrap().attempts().len(), 2, "{kind}");
        assert_eq!((took, a.calls()), (secs(2) + ms(20), 2), "{kind}");
    }
}

#[test]
fn a_retry_after_that_does_not_fit_is_passed_on_at_once() {
    for kind in [RateLimited, Overloaded] {
        let world = World::new();
        let script = always(hint(kind, secs(2)));
        let (router, [a]) =
            world.fleet(world.router(ordered().fail_safe(FailSafe::default())), [(Profile::new("a"), script)]);
        let (answered, took) = world.timed(|| world.call(&router, within(ms(1999))));
        let error = answered.unwrap_err();
        assert_eq!((took, a.calls()), (Duration::ZERO, 1), "{kind}");
        assert_eq!((error.kind(), error.retry_after()), (RouteErrorKind::NothingUsable, Some(secs(2))), "{kind}");
        // The next caller is told without a call.
        let error = world.call(&router, within(ms(1999))).unwrap_err();
        assert_eq!((error.attempts().len(), a.calls()), (0, 1), "{kind}");
    }
}

#[test]
fn an_attempt_limit_ends_the_attempt_not_the_request() {
    let world = World::new();
    let config = FailSafe::default().attempt_limit(secs(1));
    let members = [(Profile::new("a"), always(Act::Hang)), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
    let routed = answered.unwrap();
    assert_eq!((routed.attempts()[0].failure(), took), (Some(Timeout), secs(1) + ms(20)));
    assert_eq!((a.seen()[0].time_limit, a.backstage().in_flight()), (secs(1), 0));
}

#[test]
fn a_profiles_attempt_limit_holds_too() {
    let world = World::new();
    let members = [(Profile::new("a").attempt_limit(ms(300)), always(Act::Hang)), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
    assert!(answered.is_ok());
    assert_eq!(took, ms(320));
}

#[test]
fn an_attempt_leaves_time_for_those_that_could_follow() {
    let world = World::new();
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(Act::Hang)));
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(8))));
    assert_eq!((answered.unwrap_err().attempts().len(), took), (3, secs(8)));
    let limits = backends.map(|backend| backend.seen()[0].time_limit);
    assert!(limits[0] <= ms(6500) && limits[0] >= secs(4), "{limits:?}");
    assert!(limits.iter().all(|limit| *limit >= ms(200)), "{limits:?}");
    assert_eq!(limits.iter().sum::<Duration>(), secs(8));
}

#[test]
fn there_is_always_a_deadline_of_sixty_seconds_at_most() {
    for safe in [true, false] {
        let world = World::new();
        let policy = if safe { ordered().fail_safe(FailSafe::default()).boxed() } else { ordered().boxed() };
        let members = ["a", "b"].map(|id| (Profile::new(id), always(Act::Hang)));
        let (router, _) = world.fleet(world.router(policy), members);
        let (answered, took) = world.timed(|| world.call(&router, CallOptions::new(plain())));
        assert!(answered.is_err());
        assert_eq!(took, secs(60));
    }
}

#[test]
fn a_total_outage_is_amplified_by_the_budget_and_no_more() {
    for (percent, most) in [(0, 1.0), (10, 1.1), (20, 1.2), (75, 1.75)] {
        let world = World::new();
        let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(Act::Fail(ServerError, ms(1)))));
        let builder = world
            .router(ordered().fail_safe(FailSafe::default()))
            // Nobody leaves: what is measured is the budget alone.
            .ejection(Ejection::default().consecutive(u32::MAX).failure_rate(None))
            .retry_budget(RetryBudget::new(f64::from(percent) / 100.0, 0).unwrap());
        let (router, backends) = world.fleet(builder, members);
        let load = Load { per_second: 500, lasts: secs(5), seed: 1 };
        let answers = load.run(&world, &router, &within(secs(5)));
        let calls: u64 = backends.iter().map(|backend| backend.calls()).sum();
        let amplification = calls as f64 / answers.len() as f64;
        assert!(amplification <= most && amplification > most - 0.01, "{percent} %: {amplification}");
        let denied = answers.iter().filter(|it| it.refused == Some(RouteErrorKind::RetryBudgetEmpty)).count();
        assert!(denied > 0, "{percent} %");
        // An empty budget answers now.
        assert!(answers.iter().all(|answer| answer.took <= ms(3)), "{percent} %");
    }
}

#[test]
fn a_retry_waits_for_who_is_busy_before_it_goes_back() {
    // `b` is busy for so long; the request has five seconds and gives half of them to waiting.
    for (busy, expected, took) in [(ms(100), "b", ms(120)), (ms(2400), "b", ms(2420)), (secs(9), "a", ms(2520))] {
        let world = World::new();
        let members = [
            (Profile::new("a"), in_turn([fail(ServerError), ANSWER])),
            (Profile::new("b").model("b").concurrency(1), in_turn([Act::Answer(busy), ANSWER])),
        ];
        let (router, [a, b]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
        let first = world.ask(&router, CallOptions::within(secs(10)).facts(fallway::Facts::model("b")));
        world.settle();
        let second = world.ask(&router, within(secs(5)));
        world.run();
        assert!(first.take().ok());
        let second = second.take();
        assert_eq!((second.backend.as_deref(), second.attempts), (Some(expected), 2));
        // To the back-off of 50 ms at most.
        let back_off = if expected == "a" { ms(50) } else { ms(0) };
        assert!(second.took >= took && second.took <= took + back_off, "{:?}", second.took);
        assert_eq!(a.calls() + b.calls(), 3);
    }
}

#[test]
fn what_timed_out_is_repeated_where_it_takes_no_longer_than_at_its_best() {
    // 1 s of 2 s, or 100 ms with a queue of half a second on top.
    for (usual, now, retried) in [(1_000, 1_000, true), (100, 600, false), (100, 300, true)] {
        let world = World::new();
        let policy = ordered().fail_safe(FailSafe::default().attempt_limit(secs(2)));
        let a = in_turn((0..60).map(|call| if call % 2 == 0 { fail(ServerError) } else { ANSWER }).chain([Act::Hang]));
        let b = in_turn((0..30).map(|call| Act::Answer(ms(if call < 10 { usual } else { now }))));
        let (router, _) = world.fleet(world.router(policy), [(Profile::new("a"), a), (Profile::new("b"), b)]);
        let ask = || world.call(&router, CallOptions::new(Facts::any().replay_safe()));
        (0..60).for_each(|_| assert!(ask().is_ok()));
        assert_eq!(ask().is_ok(), retried, "{usual} ms, and then {now} ms");
    }
}

#[test]
fn a_failed_domain_hides_no_failure_that_would_repeat() {
    let world = World::new();
    let backend = |id, region, act| (Profile::new(id).region(region).context_window(8_000), always(act));
    let members =
        [backend("a", "eu", fail(ServerError)), backend("b", "us", fail(ContextTooLong)), backend("c", "eu", ANSWER)];
    let (router, [.., c]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let error = world.call(&router, within(secs(5))).unwrap_err();
    assert_eq!((error.attempts().len(), c.calls()), (2, 0));
}
