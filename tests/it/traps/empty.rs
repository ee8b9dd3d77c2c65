//! Empty and all-down.
//!
//! Elsewhere: an empty set that waits for ever, in `constitution::an_empty_set_answers_at_once`.

use crate::support::{ANSWER, Load, World, always, fail, ms, ok_share, plain, secs, within};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::budget::RetryBudget;
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Facts, Profile};

#[test]
fn the_reason_is_the_true_one() {
    for (reserve, residency, expected) in [
        // Nobody is left, and the budget is full.
        (10, "eu", RouteErrorKind::NothingUsable),
        // Others are left, and the budget is empty.
        (0, "any", RouteErrorKind::RetryBudgetEmpty),
        // Others are left, and the budget is full: then it is the attempts.
        (10, "any", RouteErrorKind::AttemptsExhausted),
    ] {
        let world = World::new();
        let regions = ["eu", "us", "us", "us"];
        let mut builder = world
            .router(ordered().fail_safe(FailSafe::default()))
            .retry_budget(RetryBudget::new(0.0, reserve).unwrap());
        for (n, region) in regions.into_iter().enumerate() {
            let id = format!("{region}{n}");
            builder = builder.backend(Profile::new(&id).region(region), world.backend(&id, always(fail(Overloaded))));
        }
        let router = builder.build().unwrap();
        let facts = if residency == "any" { plain() } else { plain().residency([residency]) };
        // No time for a back-off.
        let error = world.call(&router, CallOptions::within(ms(1)).facts(facts)).unwrap_err();
        let attempts = if expected == RouteErrorKind::AttemptsExhausted { 3 } else { 1 };
        assert_eq!((error.kind(), error.attempts().len()), (expected, attempts), "{error}");
    }
}

#[test]
fn little_traffic_ejects_too() {
    let world = World::new();
    let members = [(Profile::new("a"), always(fail(ServerError))), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    for n in 1..=25 {
        world.call(&router, within(secs(5))).unwrap();
        if n == 5 {
            let decision = router.explain(&within(secs(5)));
            let reason = decision.candidates().next().and_then(|a| a.rejected());
            assert!(matches!(reason, Some(Reason::Ejected { failures: 5, .. })), "{reason:?}");
        }
        // One request in five seconds.
        world.run_for(secs(5));
    }
    // Five failures, and a probe after each rest of 10, 20, 40 and 60 s.
    assert!((5..=10).contains(&a.calls()), "{} of 25 requests tried it", a.calls());
}

#[test]
fn fallback_needs_no_ejection() {
    let world = World::new();
    let members =
        [(Profile::new("a").model("m"), always(fail(ServerError))), (Profile::new("b").model("spare"), always(ANSWER))];
    let builder = world
        .router(ordered().fail_safe(FailSafe::default().fallback(["spare"])))
        .ejection(Ejection::default().consecutive(u32::MAX).failure_rate(None))
        .retry_budget(RetryBudget::new(1.0, 0).unwrap());
    let (router, [a, b]) = world.fleet(builder, members);
    let load = Load { per_second: 50, lasts: secs(4), seed: 1 };
    let options = CallOptions::within(secs(5)).facts(Facts::model("m").replay_safe());
    let answers = load.run(&world, &router, &options);
    assert_eq!((ok_share(&answers), a.calls(), b.calls()), (1.0, 200, 200));
}
