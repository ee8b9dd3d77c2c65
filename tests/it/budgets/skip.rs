//! Who is skipped, where a faster model serves, and what is refused.

use super::*;
use fallway::decision::{Next, Refusal};
use fallway::router::RouteErrorKind;

/// `slow` takes 3 s and `fast` half a second, and both are known.
fn known(world: &World, budgets: Budgets) -> (TestRouter, [crate::support::Scripted; 2]) {
    let members = [(member("slow"), always(Act::Answer(secs(3)))), (member("fast"), always(Act::Answer(ms(500))))];
    let (router, backends) = world.fleet(stack(world, budgets, FailSafe::default()), members);
    teach(world, &router, ["m@slow", "m@fast"]);
    (router, backends)
}

#[test]
fn what_can_not_answer_in_time_is_skipped_with_its_numbers() {
    let world = World::new();
    let (router, _) = known(&world, Budgets::default());
    let decision = router.explain(&ask("m", secs(2)));
    assert_eq!(chosen(&decision), Some("fast"));
    let (late, half, left) = missed(&decision, "slow").unwrap();
    assert!(half.abs_diff(nanos(3_000)) < nanos(200) && (half..nanos(6_000)).contains(&late), "{late} {half}");
    assert_eq!(left, nanos(2_000));
    assert!(decision.to_string().contains("too late for the deadline (95 % within"), "{decision}");
    // With more time it is the first, and nothing is said.
    let decision = router.explain(&ask("m", secs(20)));
    assert_eq!((chosen(&decision), missed(&decision, "slow")), (Some("slow"), None));
}

#[test]
fn what_is_hardly_known_is_not_infeasible() {
    let world = World::new();
    let (router, _) = world
        .fleet(stack(&world, Budgets::default(), FailSafe::default()), [(member("a"), always(Act::Answer(secs(3))))]);
    let known = (1..=ENOUGH).find(|_| {
        world.call(&router, ask("m", secs(60))).unwrap();
        missed(&router.explain(&ask("m", secs(1))), "a").is_some()
    });
    // The first sample has nothing to be compared with.
    assert_eq!(known, Some(Budgets::ENOUGH as usize + 1));
}

#[test]
fn a_prompt_that_is_longer_takes_longer() {
    let world = World::new();
    // A millisecond a token.
    let (router, _) = world.fleet(
        stack(&world, Budgets::default(), FailSafe::default()),
        [(member("a"), Box::new(|cue: &Cue<'_>| Act::Answer(ms(cue.request.len() as u64)) as Act) as Script)],
    );
    for length in (0..60).map(|n| 50 + n * 10) {
        let (router, options) =
            (router.clone(), CallOptions::within(secs(60)).facts(Facts::model("m").prompt_tokens(length)));
        world.block_on(async move { router.call(&*"x".repeat(length as usize), options).await.map(drop) }).unwrap();
    }
    let asks = |tokens| router.explain(&CallOptions::within(secs(1)).facts(Facts::model("m").prompt_tokens(tokens)));
    assert_eq!(chosen(&asks(300)), Some("a"));
    let (_, half, _) = missed(&asks(2_000), "a").unwrap();
    assert!(half.abs_diff(nanos(2_000)) < nanos(300), "{half}");
}

#[test]
fn a_faster_model_serves_where_the_wished_one_is_too_slow() {
    let world = World::new();
    let members = [
        (Profile::new("big").model("big"), always(Act::Answer(secs(3)))),
        (Profile::new("small").model("small"), always(Act::Answer(ms(300)))),
    ];
    let fail_safe = FailSafe::default().tiers("chat", ["big", "small"]);
    let (router, _) = world.fleet(stack(&world, Budgets::default(), fail_safe), members);
    teach(&world, &router, ["big", "small"]);
    let routed = world.call(&router, ask("chat", secs(2))).unwrap();
    let (late, _, left) = missed(routed.decision(), "big").unwrap();
    let small = routed.decision().chosen().unwrap();
    assert_eq!((small.name(), small.note()), ("small", Some(Reason::Brownout { late, left })));
    assert!(routed.decision().to_string().contains("brownout (the model before takes"), "{}", routed.decision());
    // With time for it, the wished one serves.
    assert_eq!(chosen(&router.explain(&ask("chat", secs(10)))), Some("big"));
}

#[test]
fn where_nobody_is_sure_the_one_that_comes_closest_tries() {
    let world = World::new();
    let (router, _) = known(&world, Budgets::default());
    // More than half of its answers take, and less than 95 of 100.
    let decision = router.explain(&ask("m", ms(540)));
    let fast = decision.chosen().unwrap();
    assert!(matches!(fast.note(), Some(Reason::MayBeLate { left, .. }) if left == nanos(540)), "{decision}");
    assert_eq!(fast.name(), "fast");
    let routed = world.call(&router, ask("m", ms(540))).unwrap();
    assert_eq!(routed.backend(), Some("fast"));
}

#[test]
fn of_several_that_may_be_late_the_closest_tries() {
    let world = World::new();
    let members = [(member("a"), always(Act::Answer(ms(520)))), (member("b"), always(Act::Answer(ms(500))))];
    let (router, _) = world.fleet(stack(&world, Budgets::default(), FailSafe::default()), members);
    teach(&world, &router, ["m@a", "m@b"]);
    let none = router.explain(&ask("m", ms(1)));
    let [(late_a, half_a, _), (late_b, half_b, _)] = ["a", "b"].map(|name| missed(&none, name).unwrap());
    let left = half_a.max(half_b);
    assert!(left < late_b && late_b < late_a, "{none}");
    let decision = router.explain(&ask("m", Duration::from_nanos(left)));
    assert_eq!(chosen(&decision), Some("b"), "{decision}");
}

#[test]
fn what_nobody_can_answer_in_time_is_refused_at_once_with_the_true_reason() {
    let world = World::new();
    let (router, backends) = known(&world, Budgets::default());
    let before = backends.each_ref().map(|backend| backend.calls());
    let (error, took) = world.timed(|| world.call(&router, ask("m", ms(200))).unwrap_err());
    assert_eq!((error.kind(), error.attempts().len(), took), (RouteErrorKind::Infeasible, 0, secs(0)));
    let Next::Refuse { why: Refusal::Infeasible { half, left } } = error.decision().next() else { panic!("{error}") };
    assert!(half.abs_diff(nanos(500)) < nanos(50) && left == nanos(200), "{error}");
    assert!(error.to_string().contains("half of the answers take longer than"), "{error}");
    assert_eq!(backends.each_ref().map(|backend| backend.calls()), before);
}

#[test]
fn a_refusal_that_has_other_causes_as_well_says_so() {
    let world = World::new();
    let (router, _) = known(&world, Budgets::default());
    router.update(|fleet| fleet.drain("slow")).unwrap();
    // Drained for good: all that may ever serve is too slow.
    assert_eq!(world.call(&router, ask("m", ms(200))).unwrap_err().kind(), RouteErrorKind::Infeasible);
    router.update(|fleet| fleet.restore("slow")).unwrap();
    let members = [
        (member("a"), always(Act::Answer(secs(3)))),
        (member("b"), always(crate::support::fail(fallway::FailureKind::QuotaExhausted))),
    ];
    let (router, _) = world.fleet(stack(&world, Budgets::default(), FailSafe::default()), members);
    teach(&world, &router, ["m@a"]);
    drop(world.call(&router, ask("m@b", secs(60))));
    assert_eq!(world.call(&router, ask("m", secs(1))).unwrap_err().kind(), RouteErrorKind::NothingUsable);
}

#[test]
fn the_last_resort_answers_what_nobody_can() {
    let world = World::new();
    let builder = stack(&world, Budgets::default(), FailSafe::default())
        .last_resort(world.backend("static", always(Act::Answer(ms(1)))));
    let (router, _) = world.fleet(builder, [(member("a"), always(Act::Answer(secs(3))))]);
    teach(&world, &router, ["m"]);
    let routed = world.call(&router, ask("m", secs(1))).unwrap();
    assert!(routed.is_degraded());
    assert!(matches!(routed.decision().next(), Next::LastResort { why: Refusal::Infeasible { .. } }));
}

#[test]
fn nobody_waits_for_the_slot_of_one_that_would_be_too_slow() {
    let world = World::new();
    let members = [(member("a").concurrency(1), always(Act::Answer(secs(3))))];
    let (router, _) = world.fleet(stack(&world, Budgets::default(), FailSafe::default()), members);
    teach(&world, &router, ["m"]);
    drop(world.ask(&router, ask("m", secs(60))));
    world.settle();
    let refused = world.spawn_call(&router, ask("m", secs(1)));
    let waits = world.spawn_call(&router, ask("m", secs(20)));
    // In half of the cases it would be in time, if it were idle.
    let hopes = world.spawn_call(&router, ask("m", ms(3_240)));
    world.settle();
    assert!(refused.is_done() && !waits.is_done() && !hopes.is_done());
    assert_eq!(refused.take().unwrap_err().kind(), RouteErrorKind::Infeasible);
    world.run();
    waits.take().unwrap();
}

#[test]
fn a_prediction_that_is_wrong_by_now_meets_its_evidence() {
    let world = World::new();
    // Slow while it is learned, and then fast.
    let members = [(member("a"), turns(world.now() + secs(3) * ENOUGH as u32, secs(3), ms(100)))];
    let (router, [a]) = world.fleet(stack(&world, Budgets::default(), FailSafe::default()), members);
    teach(&world, &router, ["m"]);
    let calls = a.calls();
    let mut refused = 0;
    // Two requests a second with a budget that the old prediction does not fit.
    let healed = (0..600).find(|_| {
        world.run_for(ms(500));
        let answered = world.call(&router, ask("m", secs(1))).is_ok();
        refused += u32::from(!answered);
        a.calls() - calls > 30
    });
    assert!(healed.is_some(), "{refused} were refused, {} called", a.calls() - calls);
    // The first that finds out comes ten seconds after the last call, and is believed.
    assert!(refused <= 20, "{refused}");
}

#[test]
fn while_it_stays_wrong_only_a_trickle_goes_through() {
    let world = World::new();
    let (router, [a]) = world
        .fleet(stack(&world, Budgets::default(), FailSafe::default()), [(member("a"), always(Act::Answer(secs(3))))]);
    teach(&world, &router, ["m"]);
    let calls = a.calls();
    for _ in 0..200 {
        world.run_for(ms(500));
        drop(world.call(&router, ask("m", secs(1))));
    }
    let called = a.calls() - calls;
    assert!((2..=12).contains(&called), "{called} of 200");
}

#[test]
fn a_decision_replays_after_all_has_changed() {
    let world = World::new();
    let (router, _) = known(&world, Budgets::default());
    for total in [ms(200), ms(540), secs(2), secs(20)] {
        let decision = router.explain(&ask("m", total));
        for _ in 0..ENOUGH {
            world.call(&router, ask("m@slow", secs(60))).unwrap();
        }
        assert!(router.replay(&decision).same_choice(&decision), "{decision}");
    }
}

#[test]
fn any_leaf_and_a_boxed_policy_will_do() {
    for leaf in crate::support::LEAVES {
        let world = World::new();
        let policy = crate::support::leaf(leaf).budgeted(Budgets::default()).boxed().fail_safe(FailSafe::default());
        let members = [(member("slow"), always(Act::Answer(secs(3)))), (member("fast"), always(Act::Answer(ms(500))))];
        let (router, _) = world.fleet(world.router(policy), members);
        teach(&world, &router, ["m@slow", "m@fast"]);
        assert_eq!(chosen(&router.explain(&ask("m", secs(2)))), Some("fast"), "{leaf}");
    }
}
