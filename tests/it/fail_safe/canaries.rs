//! Canaries that are given up early: the one attempt that does not count.

use crate::support::{ANSWER, Act, TestRouter, World, always, fail, in_turn, ms, secs, within};
use fallway::FailureKind::{ServerError, Timeout};
use fallway::budget::{Hedge, RetryBudget};
use fallway::decision::{AttemptRecord, Hedged, Next, Reason, Refusal};
use fallway::policy::{FailSafe, PolicyExt, policy_fn, predicted_ttft};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::{Facts, FailureKind, Profile, RoutingPolicy};

#[test]
fn a_canary_is_given_up_for_another_attempt_only_where_that_would_be_paid_for() {
    // b is far slower than a; now and then a request looks whether it still is.
    let play = |reserve| {
        let world = World::new();
        let policy = predicted_ttft().fail_safe(FailSafe::default());
        let builder = world.router(policy).retry_budget(RetryBudget::new(0.0, reserve).unwrap());
        let members = [("a", 20), ("b", 400)].map(|(id, millis)| (Profile::new(id), always(Act::Answer(ms(millis)))));
        let (router, [_, b]) = world.fleet(builder, members);
        let (mut refused, mut retried) = (0, 0);
        for _ in 0..1_000 {
            match world.call(&router, within(secs(5))) {
                Ok(answer) => {
                    let early = answer.attempts().iter().filter(|it| it.is_canary_timeout()).count();
                    assert_eq!(early, answer.attempts().len() - 1);
                    retried += early;
                }
                Err(_) => refused += 1,
            }
            world.run_for(ms(500));
        }
        (refused, retried, b.calls())
    };
    let (refused, retried, calls) = play(1);
    assert!(refused == 0 && retried > 0 && calls > 1, "{refused} refused, {retried} retried, {calls} at b");
    let (refused, retried, calls) = play(0);
    assert!(refused == 0 && retried == 0 && calls > 1, "{refused} refused, {retried} retried, {calls} at b");
}

/// A router that knows the first backends, `k0`, `k1` and so on, which took so long when they were called, and nothing of the
/// others. Each has a model of its own, so that nobody's is known by its peers'.
fn fleet(
    policy: impl RoutingPolicy + 'static,
    known: &[(u64, Act)],
    unknown: impl IntoIterator<Item = (Profile, Act)>,
) -> (World, TestRouter) {
    let world = World::new();
    let mut builder = world.router(policy).ejection(Ejection::off());
    let names: Vec<_> = (0..known.len()).map(|at| format!("k{at}")).collect();
    for (name, (took, act)) in names.iter().zip(known) {
        let backend = world.backend(name, in_turn([Act::Answer(ms(*took)), act.clone()]));
        builder = builder.backend(Profile::new(&**name).model(&**name), backend);
    }
    for (profile, act) in unknown {
        let name = profile.id().to_owned();
        builder = builder.backend(profile.model(&*name), world.backend(&name, always(act)));
    }
    let router = builder.build().unwrap();
    for name in names {
        world.call(&router, Facts::model(&*name).prompt_tokens(20).into()).unwrap();
    }
    (world, router)
}

/// Calls of these that never answer.
fn silent<const N: usize>(names: [&str; N]) -> [(Profile, Act); N] {
    names.map(|name| (Profile::new(name), Act::Hang))
}

/// Looks after whoever it sends a request to, those first that nobody knows.
fn curious() -> impl RoutingPolicy {
    policy_fn("curious", |_, slate| {
        slate.each(|candidate| {
            let known = u64::from(candidate.latency().samples > 0);
            candidate.rank(known * 100 + candidate.id().slot() as u64);
            candidate.demote(Reason::Canary);
        });
    })
}

/// Who was asked, how that failed, and whether it did not count.
fn ledger(attempts: &[AttemptRecord]) -> Vec<(&str, Option<FailureKind>, bool)> {
    attempts.iter().map(|it| (it.name(), it.failure(), it.is_canary_timeout())).collect()
}

#[test]
fn a_canary_that_is_given_up_early_does_not_count() {
    let broken = fail(ServerError);
    for (last, failure) in [(ANSWER, None), (broken.clone(), Some(ServerError))] {
        let policy = predicted_ttft().fail_safe(FailSafe::default());
        let (world, router) = fleet(policy, &[(20, broken.clone()), (40, broken.clone()), (80, last)], silent(["u"]));
        let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
        let decision = match &answered {
            Ok(answer) => answer.decision(),
            Err(error) => error.decision(),
        };
        let other = |name| (name, Some(ServerError), false);
        let expected = [("u", Some(Timeout), true), other("k0"), other("k1"), ("k2", failure, false)];
        assert_eq!(ledger(decision.attempts()), expected);
        assert_eq!((decision.attempts()[0].elapsed(), decision.attempts()[3].number()), (ms(60), 4));
        assert_eq!((answered.is_ok(), took), (failure.is_none(), ms(if failure.is_none() { 80 } else { 60 })));
        if failure.is_some() {
            // As many as were made.
            assert_eq!(decision.next(), Next::Refuse { why: Refusal::AttemptsExhausted { attempts: 4 } });
        }
        assert!(router.replay(decision).same_choice(decision));
        let text = decision.to_string();
        assert!(text.contains("+  60.0 ms: a canary given up early, failed with timeout, "), "{text}");
        assert_eq!(text.matches("given up early").count(), 1, "{text}");
        let json = serde_json::to_value(decision).unwrap();
        assert_eq!((0..4).map(|at| &json["attempts"][at]["canary_timeout"] == true).filter(|it| *it).count(), 1);
    }
}

#[test]
fn a_request_gives_up_one_canary_early() {
    // Whose canary was given up goes to one that is known.
    let policy = predicted_ttft().fail_safe(FailSafe::default());
    let (world, router) = fleet(policy, &[(20, ANSWER)], silent(["u0", "u1"]));
    let (answer, took) = world.timed(|| world.call(&router, within(secs(5))).unwrap());
    let [canary, other] = answer.attempts() else { panic!("{:?}", answer.attempts()) };
    assert!(canary.name().starts_with('u') && canary.is_canary_timeout() && other.name() == "k0" && took == ms(80));
    // A policy that looks further makes the request wait, for a second one is an attempt as any other.
    let broken = (20, fail(ServerError));
    let (world, router) =
        fleet(curious().fail_safe(FailSafe::default()), &[broken.clone(), broken], silent(["u0", "u1"]));
    let error = world.call(&router, within(secs(5))).unwrap_err();
    let known = |name| (name, Some(ServerError), false);
    let expected = [("u0", Some(Timeout), true), ("u1", Some(Timeout), false), known("k0"), known("k1")];
    assert_eq!(ledger(error.attempts()), expected);
    assert!(error.attempts()[1].elapsed() > secs(1), "{error}");
    assert_eq!(error.decision().next(), Next::Refuse { why: Refusal::AttemptsExhausted { attempts: 4 } });
}

#[test]
fn what_fails_for_another_reason_counts() {
    // It says itself that its time was over; it has less time than a canary; the request has none to spare.
    let own = |limit| Profile::new("u").attempt_limit(limit);
    for (unknown, act, took) in [
        (Profile::new("u"), Act::Fail(Timeout, ms(10)), ms(10)),
        (own(ms(30)), Act::Hang, ms(30)),
        (own(ms(61)), fail(ServerError), ms(0)),
    ] {
        let broken = (20, fail(ServerError));
        let policy = predicted_ttft().fail_safe(FailSafe::default());
        let known = [broken.clone(), broken.clone(), broken];
        let (world, router) = fleet(policy, &known, [(unknown, act)]);
        let error = world.call(&router, within(secs(5))).unwrap_err();
        assert_eq!((error.attempts().len(), error.attempts()[0].elapsed()), (3, took), "{error}");
        assert!(error.attempts()[0].name() == "u" && error.attempts().iter().all(|it| !it.is_canary_timeout()));
    }
}

#[test]
fn the_retry_budget_pays_for_the_attempt_after_a_canary() {
    let world = World::new();
    let builder = world.router(curious().fail_safe(FailSafe::default())).ejection(Ejection::off());
    let budget = RetryBudget::new(0.0, 1).unwrap();
    let members = [("a", in_turn([ANSWER, Act::Hang])), ("b", always(ANSWER))];
    let members = members.map(|(name, script)| (Profile::new(name).model(name), script));
    let (router, _) = world.fleet(builder.retry_budget(budget), members);
    world.call(&router, Facts::model("b").prompt_tokens(20).into()).unwrap();
    world.call(&router, Facts::model("a").prompt_tokens(20).into()).unwrap();
    for _ in 0..10 {
        let answer = world.call(&router, within(secs(1))).unwrap();
        assert_eq!(ledger(answer.attempts()), [("a", Some(Timeout), true), ("b", None, false)]);
    }
    // Nobody pays for another: it is the only one, and has its time.
    let error = world.call(&router, within(secs(1))).unwrap_err();
    assert_eq!(ledger(error.attempts()), [("a", Some(Timeout), false)]);
    assert!(error.attempts()[0].elapsed() > ms(100) && error.kind() == RouteErrorKind::RetryBudgetEmpty, "{error}");
}

#[test]
fn the_attempt_after_a_canary_may_be_hedged() {
    let hedge = Hedge::of(0.5).unwrap().after(ms(100));
    let hedged = policy_fn("hedged", move |cx, slate| {
        slate.hedge(hedge);
        curious().plan(cx, slate);
    });
    let policy = hedged.fail_safe(FailSafe::default().attempts(2));
    let (world, router) = fleet(policy, &[(20, ANSWER)], silent(["u"]));
    let answer = world.call(&router, within(secs(5))).unwrap();
    assert_eq!(ledger(answer.attempts()), [("u", Some(Timeout), true), ("k0", None, false)]);
    assert!(matches!(answer.decision().hedged(), Hedged::Due { .. }), "{}", answer.decision());
}
