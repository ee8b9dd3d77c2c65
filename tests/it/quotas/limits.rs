//! What is taken, who is skipped, who waits, who is refused.

use super::{PLAIN, a, ask, builder, left, scripted};
use crate::support::{Task, World, ms, plain, secs, tokens, within};
use fallway::decision::{Next, Reason};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, cheapest, ordered};
use fallway::router::{BuildError, RouteErrorKind};
use fallway::time::Timer;
use fallway::{CallOptions, Profile};
use std::sync::atomic::Ordering;

#[test]
fn who_is_over_its_quota_is_skipped_while_another_has_room() {
    let world = World::new();
    let [(first, a_calls), (second, b_calls)] = [(), ()].map(|()| scripted(world.timer(), |_| PLAIN));
    let builder = builder(&world, ordered().fail_safe(FailSafe::default()));
    let router = builder.backend(a().requests_per_minute(3), first).backend(Profile::new("b"), second).build().unwrap();
    for _ in 0..8 {
        ask(&world, &router, within(secs(5))).unwrap();
    }
    assert_eq!((a_calls.load(Ordering::SeqCst), b_calls.load(Ordering::SeqCst)), (3, 5));
    // The first of three refills after 20 s, of which eight calls took 160 ms.
    let decision = router.explain(&within(secs(5)));
    let until = Some(Reason::OverQuota { until: world.now() + secs(20) - ms(160) });
    assert_eq!(decision.candidates().next().unwrap().rejected(), until);
    assert!(decision.to_string().contains("over quota, returns in 19.8"), "{decision}");
    world.run_for(secs(20));
    ask(&world, &router, within(secs(5))).unwrap();
    assert_eq!(a_calls.load(Ordering::SeqCst), 4);
    // What was read is on the record.
    assert!(router.replay(&decision).same_choice(&decision));
}

#[test]
fn where_all_are_over_their_quotas_requests_wait_for_the_earliest_return() {
    let world = World::new();
    let [(first, _), (second, _)] = [(), ()].map(|()| scripted(world.timer(), |_| PLAIN));
    let builder = builder(&world, ordered().fail_safe(FailSafe::default()));
    let (late, early) = (a().requests_per_minute(60).request_burst(1), Profile::new("b").requests_per_minute(120));
    let router = builder.backend(late, first).backend(early.request_burst(1), second).build().unwrap();
    let start = world.now();
    let calls: Vec<Task<_>> = (0..8)
        .map(|_| {
            let (router, timer) = (router.clone(), world.timer().clone());
            world.spawn(async move {
                let answer = router.call("ask", within(secs(10))).await.unwrap();
                (answer.backend().unwrap().to_owned(), timer.now())
            })
        })
        .collect();
    world.run();
    let mut ends: Vec<_> = calls.into_iter().map(Task::take).map(|(name, end)| (end - start, name)).collect();
    ends.sort();
    let at = |half: u32, name: &str| (ms(500) * half + ms(20), name.to_owned());
    let expected =
        [(0, "a"), (0, "b"), (1, "b"), (2, "a"), (2, "b"), (3, "b"), (4, "a"), (4, "b")].map(|(n, name)| at(n, name));
    assert_eq!(ends, expected);
}

#[test]
fn what_a_call_gives_back_wakes_who_waits_for_it() {
    let world = World::new();
    // Expects 9,000 tokens and uses 100: the others could start when it ends, instead of half a minute later.
    let (backend, _) = scripted(world.timer(), |_| super::used(90, 10));
    let router = builder(&world, ordered().fail_safe(FailSafe::default()));
    let router = router.backend(a().tokens_per_minute(10_000), backend).build().unwrap();
    let start = world.now();
    let call = |priority| {
        let (router, timer) = (router.clone(), world.timer().clone());
        let options = CallOptions::within(secs(50)).facts(tokens(1_000, 8_000).priority(priority));
        world.spawn(async move { router.call("ask", options).await.map(|_| timer.now() - start).unwrap() })
    };
    let calls = [Priority::Standard, Priority::Batch, Priority::Critical, Priority::Standard].map(call);
    world.run();
    assert_eq!(calls.map(Task::take), [ms(20), ms(80), ms(40), ms(60)]);
    assert_eq!(router.waiting(), 0);
}

#[test]
fn a_return_after_the_deadline_is_not_waited_for() {
    let world = World::new();
    let (backend, calls) = scripted(world.timer(), |_| PLAIN);
    let router = builder(&world, ordered().fail_safe(FailSafe::default()));
    let router = router.backend(a().requests_per_minute(1), backend).build().unwrap();
    ask(&world, &router, within(secs(5))).unwrap();
    let (refused, took) = world.timed(|| ask(&world, &router, within(secs(50))).unwrap_err());
    assert_eq!((refused.kind(), took), (RouteErrorKind::NothingUsable, ms(0)));
    assert_eq!(refused.decision().earliest_return(), Some(world.now() + secs(60) - ms(20)));
    let (answered, took) = world.timed(|| ask(&world, &router, within(secs(61))));
    assert_eq!((answered.is_ok(), took, calls.load(Ordering::SeqCst)), (true, secs(60), 2));
}

#[test]
fn what_no_bucket_ever_holds_is_refused_at_once() {
    let world = World::new();
    let (backend, calls) = scripted(world.timer(), |_| PLAIN);
    let router = builder(&world, cheapest().fail_safe(FailSafe::default()));
    let router = router.backend(a().tokens_per_minute(1_000), backend).build().unwrap();
    let too_large = CallOptions::within(secs(500)).facts(tokens(900, 101));
    let (refused, took) = world.timed(|| ask(&world, &router, too_large).unwrap_err());
    assert_eq!((refused.kind(), took), (RouteErrorKind::NothingUsable, ms(0)));
    let reason = refused.decision().candidates().next().unwrap().rejected();
    assert_eq!(reason, Some(Reason::QuotaTooSmall { tokens: 1_001, limit: 1_000 }));
    let words = ": 1 of too small a quota; it needs 1001 tokens at once, and 1000 are the most that there ever are (";
    assert!(refused.to_string().contains(words), "{refused}");
    // A whole bucket is no more than it holds, and a guess excludes nobody: it takes the whole bucket.
    for facts in [tokens(900, 100), plain().prompt_tokens(900)] {
        ask(&world, &router, CallOptions::within(secs(70)).facts(facts)).unwrap();
        assert_eq!(left(&router).1, Some(0));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_limit_that_changes_rescales_what_is_left() {
    let world = World::new();
    let (backend, _) = scripted(world.timer(), |_| super::used(30, 20));
    let router = builder(&world, ordered());
    let profile = |requests, tokens| a().requests_per_minute(requests).tokens_per_minute(tokens);
    let router = router.backend(profile(100, 100), backend).build().unwrap();
    let options = CallOptions::within(secs(5)).facts(tokens(30, 20));
    let start = world.now();
    ask(&world, &router, options).unwrap();
    for (limits, expected) in
        [((200, 1_000), (198, 500)), ((10, 10), (9, 5)), ((10, 10), (9, 5)), ((100, 100), (99, 50))]
    {
        router.update(|fleet| fleet.reprofile(profile(limits.0, limits.1))).unwrap();
        assert_eq!(left(&router), (Some(expected.0), Some(expected.1)), "{limits:?}");
    }
    assert_eq!(world.now() - start, ms(20));
    router.update(|fleet| fleet.reprofile(a())).unwrap();
    assert_eq!(left(&router), (None, None));
}

#[test]
fn a_candidate_that_is_let_back_in_panic_mode_keeps_its_quota() {
    let world = World::new();
    let (backend, calls) = scripted(world.timer(), |call| super::Play {
        fails: (call < 5).then_some((fallway::FailureKind::ServerError, None)),
        ..PLAIN
    });
    let router = builder(&world, ordered().fail_safe(FailSafe::default().attempts(1)));
    let router = router.backend(a().requests_per_minute(6), backend).build().unwrap();
    for _ in 0..5 {
        ask(&world, &router, within(secs(5))).unwrap_err();
    }
    // Ejected, readmitted for it is the only one; then its quota is used up.
    ask(&world, &router, within(secs(5))).unwrap();
    let decision = router.explain(&within(secs(5)));
    assert!(matches!(decision.candidates().next().unwrap().rejected(), Some(Reason::OverQuota { .. })), "{decision}");
    assert!(matches!(decision.next(), Next::Refuse { .. }) && router.replay(&decision).same_choice(&decision));
    assert_eq!(calls.load(Ordering::SeqCst), 6);
}

#[test]
fn limits_of_zero_are_named() {
    let world = World::new();
    for (profile, limit) in [
        (a().requests_per_minute(0), "the quota of requests per minute"),
        (a().request_burst(0), "the burst of requests"),
        (a().tokens_per_minute(0), "the quota of tokens per minute"),
        (a().token_burst(0), "the burst of tokens"),
    ] {
        let (backend, _) = scripted(world.timer(), |_| PLAIN);
        let error = builder(&world, ordered()).backend(profile, backend).build().unwrap_err();
        assert_eq!(error, BuildError::ZeroLimit { id: "a".into(), limit });
        assert_eq!(error.to_string(), format!("backend \"a\": {limit} is zero"));
    }
}
