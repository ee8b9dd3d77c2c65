//! Without `fail_safe` around it: who may be late is tried all the same, where nobody else is left.

use super::*;
use crate::support::{Scripted, guard, in_turn};
use fallway::budget::Hedge;
use fallway::decision::{Next, Refusal};
use fallway::policy::{Contender, PlanContext, RoutingPolicy, policy_fn};
use fallway::router::RouteErrorKind;

/// `slow` takes 3 s and `fast` half a second, and both are known.
fn known(world: &World, policy: impl RoutingPolicy + 'static) -> (TestRouter, [Scripted; 2]) {
    let members = [(member("slow"), always(Act::Answer(secs(3)))), (member("fast"), always(Act::Answer(ms(500))))];
    let (router, backends) = world.fleet(world.router(policy).default_deadline(secs(60)), members);
    teach(world, &router, ["m@slow", "m@fast"]);
    (router, backends)
}

fn budgeted() -> impl RoutingPolicy {
    ordered().budgeted(Budgets::default())
}

const NO_GAMBLING: Reason = Reason::Forbidden { text: "no gambling" };

fn no_gambling(_: &PlanContext<'_>, candidate: &mut Contender<'_>) {
    if matches!(candidate.note(), Some(Reason::MayBeLate { .. })) {
        candidate.reject(NO_GAMBLING);
    }
}

#[test]
fn where_nobody_is_sure_the_one_that_comes_closest_tries() {
    let world = World::new();
    let (router, _) = known(&world, budgeted());
    assert_eq!(chosen(&router.explain(&ask("m", secs(2)))), Some("fast"));
    // More than half of its answers take, and less than 95 of 100.
    let decision = router.explain(&ask("m", ms(540)));
    assert!(missed(&decision, "slow").is_some(), "{decision}");
    let fast = decision.chosen().unwrap();
    assert!(matches!(fast.note(), Some(Reason::MayBeLate { left, .. }) if left == nanos(540)), "{decision}");
    let routed = world.call(&router, ask("m", ms(540))).unwrap();
    assert_eq!(routed.backend(), Some("fast"));
    // It replays after all has changed.
    (0..ENOUGH).for_each(|_| drop(world.call(&router, ask("m@slow", secs(60)))));
    assert!(router.replay(&decision).same_choice(&decision), "{decision}");
}

#[test]
fn what_half_of_the_answers_miss_is_refused_at_once() {
    let world = World::new();
    let (router, backends) = known(&world, budgeted());
    let before = backends.each_ref().map(|backend| backend.calls());
    let (error, took) = world.timed(|| world.call(&router, ask("m", ms(200))).unwrap_err());
    assert_eq!((error.kind(), took), (RouteErrorKind::NothingUsable, secs(0)));
    assert_eq!(backends.each_ref().map(|backend| backend.calls()), before);
}

#[test]
fn a_few_slow_answers_are_no_reason_to_refuse() {
    let world = World::new();
    // Two of thirty took six seconds.
    let slow = (0..30).map(|at| Act::Answer(if at % 15 == 7 { secs(6) } else { ms(100) }));
    let script = in_turn(slow.chain([Act::Answer(ms(100))]));
    let (router, _) = world.fleet(world.router(budgeted()).default_deadline(secs(60)), [(member("a"), script)]);
    (0..30).for_each(|_| drop(world.call(&router, ask("m", secs(60))).unwrap()));
    let first = router.explain(&ask("m", secs(1)));
    assert!(matches!(first.chosen().unwrap().note(), Some(Reason::MayBeLate { .. })), "{first}");
    for _ in 0..20 {
        world.call(&router, ask("m", secs(1))).unwrap();
    }
}

#[test]
fn whoever_draws_a_line_is_asked_again() {
    let inside = guard(ordered(), no_gambling).first().budgeted(Budgets::default());
    for policy in [inside.boxed(), guard(budgeted(), no_gambling).first().boxed()] {
        let world = World::new();
        let (router, _) = known(&world, policy);
        let decision = router.explain(&ask("m", ms(540)));
        assert_eq!(decision.next(), Next::Refuse { why: Refusal::NothingUsable }, "{decision}");
        assert_eq!(candidate(&decision, "fast").rejected(), Some(NO_GAMBLING));
    }
}

#[test]
fn a_line_holds_in_each_tier_that_a_policy_opens() {
    let world = World::new();
    let inner = guard(ordered(), no_gambling).first().budgeted(Budgets::default());
    let policy = policy_fn("tiers", move |cx, slate| {
        inner.plan(cx, slate);
        if !slate.is_usable() && slate.open("small") {
            inner.plan(cx, slate);
        }
    });
    let members = [("big", ms(500)), ("small", secs(3))]
        .map(|(model, time)| (Profile::new(model).model(model), always(Act::Answer(time))));
    let (router, _) = world.fleet(world.router(policy).default_deadline(secs(60)), members);
    teach(&world, &router, ["big", "small"]);
    let decision = router.explain(&ask("big", ms(540)));
    assert_eq!(candidate(&decision, "big").rejected(), Some(NO_GAMBLING), "{decision}");
    assert!(missed(&decision, "small").is_some(), "{decision}");
}

#[test]
fn a_hedge_goes_to_nobody_who_may_be_late() {
    let world = World::new();
    let hedge = Hedge::of(0.5).unwrap().after(ms(100));
    let inner = ordered().budgeted(Budgets::default().hedge(hedge));
    let policy = policy_fn("twice", move |cx, slate| {
        slate.allow_attempts(2);
        inner.plan(cx, slate);
    });
    let members = ["a", "b"].map(|id| (member(id), always(Act::Answer(ms(500)))));
    let (router, [a, b]) = world.fleet(world.router(policy).default_deadline(secs(60)), members);
    // Hedges need another of the model that is asked for.
    teach(&world, &router, ["m@a", "m@b"]);
    let none = router.explain(&ask("m", ms(1)));
    let [(late, ..), (late_b, half_b, _)] = ["a", "b"].map(|name| missed(&none, name).unwrap());
    let before = [a.calls(), b.calls()];
    // In time for the first to be sure, and for the second to be so in half of the cases.
    let total = Duration::from_nanos(late) + ms(50);
    assert!(Duration::from_nanos(half_b) < total - ms(100) && total - ms(100) < Duration::from_nanos(late_b));
    world.call(&router, ask("m", total)).unwrap();
    assert_eq!([a.calls(), b.calls()], [before[0] + 1, before[1]]);
    // With more time for it, it is asked.
    world.call(&router, ask("m", secs(10))).unwrap();
    assert_eq!([a.calls(), b.calls()], [before[0] + 2, before[1] + 1]);
}
