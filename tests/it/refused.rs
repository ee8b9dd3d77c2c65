//! Every request that gets no answer is told once, with the true reason, and its error tells the time.

use crate::support::{
    ANSWER, Act, Answered, Cue, Log, Script, Task, TestRouter, Told, World, always, fail, ms, plain, secs, within,
};
use fallway::FailureKind::{ContextTooLong, InvalidRequest, Overloaded, RateLimited, ServerError, Unreachable};
use fallway::budget::RetryBudget;
use fallway::decision::{Next, Refusal};
use fallway::policy::{FailSafe, PolicyExt, ordered, policy_fn, power_of_two};
use fallway::rng::Rng;
use fallway::router::Step;
use fallway::time::Timer;
use fallway::{CallOptions, Facts, Profile, RoutingPolicy};

/// Two backends of model `m` that take one call at a time, a queue of one place, no budget for retries beyond these.
fn watched(world: &World, policy: impl RoutingPolicy + 'static, act: &Act, retries: u32) -> (TestRouter, Log) {
    let log = Log::default();
    let builder =
        world.router(policy).observer(log.clone()).queue(1).retry_budget(RetryBudget::new(0.0, retries).unwrap());
    let members = ["a", "b"].map(|id| (Profile::new(id).model("m").concurrency(1), always(act.clone())));
    (world.fleet(builder, members).0, log)
}

fn refusals(log: &Log) -> Vec<Refusal> {
    let refusal = |(_, told)| match told {
        Told::Refused { why } => Some(why),
        _ => None,
    };
    log.told().into_iter().filter_map(refusal).collect()
}

/// What the error says.
fn why(answered: &Answered) -> Option<Refusal> {
    match answered.as_ref().err()?.decision().next() {
        Next::Refuse { why } => Some(why),
        next => panic!("{next:?}"),
    }
}

#[test]
fn every_refusal_is_told_once_and_last() {
    let safe = || ordered().fail_safe(FailSafe::default()).boxed();
    let model = |model: &str| CallOptions::within(secs(5)).facts(Facts::model(model).replay_safe());
    let hint = Act::Hint(RateLimited, ms(1), secs(30));
    for (act, retries, options, expected) in [
        (ANSWER, 10, within(secs(5)).facts(plain().residency(["mars"])), Refusal::NothingUsable),
        (hint, 10, within(secs(5)), Refusal::NothingUsable),
        (ANSWER, 10, model("n"), Refusal::UnknownModel),
        (fail(Unreachable), 10, within(secs(5)), Refusal::NothingUsable),
        (fail(ServerError), 10, within(secs(5)), Refusal::AttemptsExhausted { attempts: 3 }),
        (fail(ServerError), 0, within(secs(5)), Refusal::RetryBudgetEmpty),
        (fail(InvalidRequest), 10, within(secs(5)), Refusal::NotRetryable { kind: InvalidRequest }),
        (fail(ServerError), 10, Facts::any().into(), Refusal::NotRetryable { kind: ServerError }),
        (ANSWER, 10, within(ms(0)), Refusal::ZeroDeadline),
        (Act::Hang, 10, within(secs(1)), Refusal::DeadlineExceeded),
    ] {
        let world = World::new();
        let (router, log) = watched(&world, safe(), &act, retries);
        for n in 1..=2 {
            let answered = world.call(&router, options.clone());
            assert_eq!((why(&answered), refusals(&log)), (Some(expected), vec![expected; n]), "{act:?}");
            assert!(matches!(log.told().last(), Some((at, Told::Refused { .. })) if *at == world.now()), "{act:?}");
            // Nobody stays out for the next.
            world.run_for(secs(400));
        }
    }
}

#[test]
fn who_waits_in_vain_or_finds_no_place_is_told_once() {
    let world = World::new();
    let (router, log) = watched(&world, ordered().fail_safe(FailSafe::default()), &Act::Hang, 10);
    let holds = [(); 2].map(|()| world.spawn_call(&router, within(secs(60))));
    world.settle();
    let waits = world.spawn_call(&router, within(secs(1)));
    world.settle();
    assert_eq!(refusals(&log), []);
    let too_many = world.spawn_call(&router, within(secs(1)));
    world.run_for(secs(1));
    assert_eq!(why(&too_many.take()), Some(Refusal::QueueFull));
    assert_eq!(why(&waits.take()), Some(Refusal::DeadlineExceeded));
    assert_eq!(refusals(&log), [Refusal::QueueFull, Refusal::DeadlineExceeded]);
    drop((router, holds));
}

#[test]
fn a_last_resort_that_fails_is_a_refusal_and_one_that_answers_is_none() {
    for (act, expected) in [(fail(Overloaded), vec![Refusal::NothingUsable]), (ANSWER, vec![])] {
        let (world, log) = (World::new(), Log::default());
        let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
        let builder = builder.last_resort(world.backend("static", always(act)));
        let (router, _) = world.fleet(builder, [(Profile::new("a").drained(true), always(ANSWER))]);
        assert_eq!(world.call(&router, within(secs(5))).is_ok(), expected.is_empty());
        assert_eq!(refusals(&log), expected);
    }
}

#[test]
fn a_trip_that_is_asked_again_is_not_told_again() {
    let world = World::new();
    let (router, log) = watched(&world, ordered().fail_safe(FailSafe::default()), &ANSWER, 10);
    let mut trip = router.trip(Facts::any().into(), world.now());
    assert!(matches!(trip.next(world.now()), Ok(Step::Call(_))));
    trip.fail(1, InvalidRequest.into(), false, world.now());
    for _ in 0..3 {
        assert!(trip.next(world.now()).is_err());
    }
    assert_eq!(refusals(&log), [Refusal::NotRetryable { kind: InvalidRequest }]);
}

/// Backends that do anything, with so many slots each and so many attempts for each request.
fn anything(world: &World, seed: u64, (slots, attempts): (u32, u32), log: &Log) -> TestRouter {
    let script = move |cue: &Cue<'_>| {
        let mut rng = Rng::new(seed ^ cue.attempt.request_id() ^ (cue.attempt.backend().slot() as u64));
        let after = ms(rng.below(60) as u64);
        match rng.below(16) {
            0 => Act::Hang,
            1 => Act::Panic(after),
            2 => Act::Hint(RateLimited, after, secs(1)),
            3 => Act::Fail([ServerError, Overloaded, InvalidRequest, ContextTooLong][rng.below(4)], after),
            _ => Act::Answer(after),
        }
    };
    let policy = power_of_two()
        .fail_safe(FailSafe::default().tiers("chat", ["m", "n"]).attempt_limit(ms(100)).attempts(attempts));
    let members = [("a", "m"), ("b", "m"), ("c", "m"), ("d", "n")]
        .map(|(id, model)| (Profile::new(id).model(model).concurrency(slots), Box::new(script) as Script));
    world.fleet(world.router(policy).queue(4).observer(log.clone()), members).0
}

/// A thousand requests of all sorts in 20 s: whoever is not answered is told of, with the reason that its error has.
fn all_are_told(seed: u64, limits: (u32, u32)) {
    let (world, log) = (World::new(), Log::default());
    let router = anything(&world, seed, limits, &log);
    let mut rng = Rng::new(seed);
    let start = world.now();
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let at = start + ms(rng.below(20_000) as u64);
            let total = ms([0, 1, 100, 500, 3000][rng.below(5)]);
            let facts = Facts::model(["m", "n", "chat", "chat", "chat", "nobody"][rng.below(6)]);
            let facts = if rng.below(2) == 0 { facts.replay_safe() } else { facts };
            let (router, timer) = (router.clone(), world.timer().clone());
            world.spawn(async move {
                timer.sleep_until(at).await;
                why(&router.call("ask", CallOptions::within(total).facts(facts)).await)
            })
        })
        .collect();
    world.run();
    let sorted = |refusals: Vec<Refusal>| {
        let mut names: Vec<_> = refusals.into_iter().map(|why| format!("{why:?}")).collect();
        names.sort_unstable();
        names
    };
    let mut told = sorted(refusals(&log));
    assert_eq!(sorted(calls.into_iter().filter_map(Task::take).collect()), told, "seed {seed}");
    let answered = log.count(|told| matches!(told, Told::Succeeded { .. }));
    assert_eq!((answered + told.len(), router.total_in_flight()), (1000, 0), "seed {seed}");
    told.dedup();
    assert!(answered > 100 && told.len() >= 6, "seed {seed}: {answered} answered, {told:?}");
}

#[test]
fn answered_and_refused_are_all() {
    (0..5).for_each(|seed| all_are_told(seed, (1, 1)));
}

#[test]
fn an_error_after_the_deadline_says_that_no_time_is_left() {
    let later = || policy_fn("later", |cx, slate| slate.conclude(Next::Wait { until: cx.now() + secs(2) })).boxed();
    for (policy, busy) in [(ordered().fail_safe(FailSafe::default()).boxed(), true), (later(), false)] {
        let world = World::new();
        let (router, _) = watched(&world, policy, &Act::Hang, 10);
        if busy {
            let holds = [(); 2].map(|()| world.ask(&router, within(secs(60))));
            world.settle();
            drop(holds);
        }
        let waits = world.spawn_call(&router, within(ms(50)));
        world.run_for(ms(50));
        let text = waits.take().unwrap_err().to_string();
        assert!(text.contains("the deadline passed") && text.contains("(0.0 µs left, after 0 attempts"), "{text}");
    }
    // As where the time went to an attempt.
    let world = World::new();
    let (router, _) = watched(&world, ordered().fail_safe(FailSafe::default().attempts(1)), &Act::Hang, 10);
    let text = world.call(&router, within(ms(50))).unwrap_err().to_string();
    assert!(text.contains("(0.0 µs left, after 1 attempt,"), "{text}");
}

#[test]
fn an_error_before_the_deadline_says_how_much_is_left() {
    let world = World::new();
    let (router, _) = watched(&world, ordered().fail_safe(FailSafe::default()), &Act::Fail(InvalidRequest, ms(200)), 1);
    let text = world.call(&router, within(secs(1))).unwrap_err().to_string();
    assert!(text.contains("(800.0 ms left, after 1 attempt,"), "{text}");
}

#[test]
fn answered_and_refused_are_all_where_many_wait_for_the_same() {
    for limits in [(1, 3), (2, 3), (u32::MAX, 3)] {
        (0..5).for_each(|seed| all_are_told(seed, limits));
    }
}

#[test]
fn a_refusal_is_told_where_no_policy_speaks_of_retries() {
    // Alone, and before a last resort that fails as well.
    for last_resort in [false, true] {
        let (world, log) = (World::new(), Log::default());
        let mut builder = world.router(ordered()).observer(log.clone());
        if last_resort {
            builder = builder.last_resort(world.backend("static", always(fail(Overloaded))));
        }
        let (router, _) = world.fleet(builder, [(Profile::new("a"), always(fail(ServerError)))]);
        let answered = world.call(&router, within(secs(5)));
        let expected = Refusal::AttemptsExhausted { attempts: 1 };
        assert_eq!(why(&answered), Some(expected));
        assert_eq!(refusals(&log), [expected], "last resort: {last_resort}");
    }
}

#[test]
fn what_to_tell_the_caller_is_counted_from_the_refusal() {
    // `b` returns ten seconds after the call; the error comes after three.
    let world = World::new();
    let members = [
        (Profile::new("a").model("a").concurrency(1), always(Act::Answer(secs(60)))),
        (Profile::new("b").model("b"), always(Act::Hint(RateLimited, ms(0), secs(10)))),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let model = |model: &str, total| CallOptions::within(total).facts(Facts::model(model).replay_safe());
    let long = world.spawn_call(&router, model("a", secs(60)));
    world.settle();
    let throttled = world.spawn_call(&router, model("b", secs(1)));
    world.settle();
    assert!(throttled.take().is_err());
    let waits = world.spawn_call(&router, within(secs(3)));
    world.run_for(secs(3));
    let error = waits.take().unwrap_err();
    assert_eq!(error.retry_after(), Some(secs(7)));
    drop(long);
}
