//! A wrapper that visits the usable candidates and rejects some: wherever a candidate is let back in, it is asked
//! again.

use crate::support::{
    ANSWER, Act, Load, Opinion, Scripted, TestRouter, World, always, fail, guard, in_turn, ms, plain, secs, within,
};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::decision::{Decision, Reason};
use fallway::policy::{Contender, FailSafe, PlanContext, PolicyExt, ordered};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Profile, RoutingPolicy};

const FOUR: [&str; 4] = ["a", "b", "c", "d"];
const HARD: [Reason; 2] = [Reason::TenantForbidden, Reason::Forbidden { text: "closed" }];
const SOFT: Reason = Reason::Custom { text: "not today" };

/// Draws this line through the backends named.
fn line<'n>(names: &'n [&'n str], why: Reason) -> impl Fn(&PlanContext<'_>, &mut Contender<'_>) + Send + Sync + 'n {
    move |_, candidate| {
        if names.contains(&candidate.profile().id()) {
            candidate.reject(why);
        }
    }
}

/// Four backends that answer, and a signal that finds those in these slots unhealthy.
fn four(world: &World, policy: impl RoutingPolicy + 'static, unhealthy: &[usize]) -> (TestRouter, [Scripted; 4]) {
    let opinion = Opinion::default();
    let builder = world.router(policy.fail_safe(FailSafe::default())).signal(opinion.clone());
    for slot in 0..4 {
        opinion.fresh(slot, if unhealthy.contains(&slot) { 0 } else { 1000 }, world.now());
    }
    world.fleet(builder, FOUR.map(|id| (Profile::new(id), always(fail(Overloaded)))))
}

fn ranked(decision: &Decision) -> Vec<&str> {
    decision.ranked().iter().map(|candidate| candidate.name()).collect()
}

/// What speaks against this one.
fn against(decision: &Decision, name: &str) -> Option<Reason> {
    decision.candidates().find(|candidate| candidate.name() == name).and_then(|candidate| candidate.rejected())
}

#[test]
fn a_trial_goes_to_none_that_a_wrapper_forbids() {
    for why in HARD {
        for closed in [&["a"][..], &["a", "b"]] {
            let world = World::new();
            let policy = guard(ordered(), move |cx: &PlanContext<'_>, candidate: &mut Contender<'_>| {
                if cx.facts().request_tenant() == Some("guest") && closed.contains(&candidate.profile().id()) {
                    candidate.reject(why);
                }
            });
            let members = ["a", "b"].map(|id| (Profile::new(id), always(Act::Fail(Overloaded, ms(1)))));
            let (router, backends) = world.fleet(world.router(policy.fail_safe(FailSafe::default())), members);
            // From here on both rest.
            assert_eq!(world.call(&router, within(ms(100))).unwrap_err().attempts().len(), 2);
            let guest = CallOptions::within(ms(100)).facts(plain().tenant("guest"));
            let answers = Load { per_second: 50, lasts: secs(10), seed: 1 }.run(&world, &router, &guest);
            let [a, b] = backends.map(|backend| backend.calls() - 1);
            assert_eq!((a, (20..=30).contains(&b)), (0, closed.len() == 1), "{closed:?}: {b} trials of b");
            assert!(closed.len() == 1 || answers.iter().all(|it| it.took.is_zero() && it.attempts == 0));
        }
    }
}

#[test]
fn a_retry_on_the_same_backend_asks_the_wrapper_first() {
    let world = World::new();
    let policy = guard(ordered(), |cx: &PlanContext<'_>, candidate: &mut Contender<'_>| {
        if !cx.attempts().is_empty() {
            candidate.reject(Reason::OverPriceCap { spent: 0, cost: 7 });
        }
    });
    let builder = world.router(policy.fail_safe(FailSafe::default()));
    let (router, [a]) = world.fleet(builder, [(Profile::new("a"), in_turn([fail(ServerError), ANSWER]))]);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
    let error = answered.unwrap_err();
    assert_eq!((error.kind(), a.calls(), took), (RouteErrorKind::NothingUsable, 1, ms(0)));
    assert_eq!(error.decision().rejections(), [("over the price cap", 1)]);
}

#[test]
fn panic_mode_readmits_none_that_a_wrapper_forbids() {
    for why in HARD {
        for first in [false, true] {
            let world = World::new();
            let policy = guard(ordered(), line(&["a", "c"], why));
            let policy = if first { policy.first() } else { policy };
            let (router, backends) = four(&world, policy, &[0, 1, 2, 3]);
            let decision = router.explain(&within(secs(1)));
            assert_eq!((ranked(&decision), decision.panicked()), (vec!["b", "d"], true));
            assert_eq!(against(&decision, "a"), Some(why));
            assert!(world.call(&router, within(ms(100))).is_err());
            assert_eq!(backends.map(|backend| backend.calls()), [0, 1, 0, 1]);
        }
    }
}

#[test]
fn a_hard_line_takes_the_place_of_a_soft_one_and_of_no_other() {
    const OTHER: Reason = Reason::PriceUnknown;
    for (reasons, stands) in [
        (&[SOFT, HARD[0]][..], HARD[0]),
        (&[HARD[1], SOFT], HARD[1]),
        (&[SOFT, HARD[1], HARD[0]], HARD[1]),
        (&[OTHER, HARD[1]], OTHER),
    ] {
        let world = World::new();
        let policy = guard(ordered(), move |_: &PlanContext<'_>, candidate: &mut Contender<'_>| {
            if candidate.profile().id() == "a" {
                reasons.iter().for_each(|reason| candidate.reject(*reason));
            } else {
                candidate.reject(SOFT);
            }
        });
        // All are rejected, so what was rejected softly is let back in.
        let decision = four(&world, policy, &[]).0.explain(&within(secs(1)));
        assert_eq!((against(&decision, "a"), ranked(&decision)), (Some(stands), vec!["b", "c", "d"]), "{reasons:?}");
    }
}

#[test]
fn who_is_let_back_in_after_soft_lines_stands_in_the_order_of_the_fleet() {
    for first in [false, true] {
        let world = World::new();
        let policy = guard(ordered(), line(&FOUR, SOFT));
        let policy = if first { policy.first() } else { policy };
        let builder = world.router(policy.fail_safe(FailSafe::default()));
        let (router, backends) = world.fleet(builder, FOUR.map(|id| (Profile::new(id), always(ANSWER))));
        for _ in 0..100 {
            let routed = world.call(&router, within(secs(1))).unwrap();
            assert_eq!((ranked(routed.decision()), routed.decision().panicked()), (FOUR.to_vec(), true));
        }
        assert_eq!(backends.map(|backend| backend.calls()), [100, 0, 0, 0], "first: {first}");
    }
}

#[test]
fn a_hard_line_behind_a_soft_one_holds_for_who_is_let_back_in() {
    // The inner wrapper rejects all, softly, so the outer one never saw what is let back in.
    for why in HARD {
        let world = World::new();
        let policy = guard(guard(ordered(), line(&FOUR, SOFT)), line(&["a"], why));
        let (router, backends) = four(&world, policy, &[]);
        let decision = router.explain(&within(secs(1)));
        assert_eq!(ranked(&decision), ["b", "c", "d"]);
        assert!(world.call(&router, within(ms(100))).is_err());
        assert_eq!(backends[0].calls(), 0);
    }
}

#[test]
fn a_hard_line_holds_for_who_looked_unhealthy_when_it_was_drawn() {
    // Half look healthy, so there is no panic; the wrapper turns these down softly and never saw the others.
    for why in HARD {
        let world = World::new();
        let policy = guard(guard(ordered(), line(&["c"], why)), line(&["a", "b"], SOFT));
        let (router, backends) = four(&world, policy, &[2, 3]);
        let decision = router.explain(&within(secs(1)));
        assert!(!ranked(&decision).contains(&"c") && ranked(&decision)[0] == "a", "{decision}");
        for _ in 0..2 {
            assert!(world.call(&router, within(ms(100))).is_err());
        }
        assert_eq!(backends[2].calls(), 0);
    }
}
