//! Panic mode: for opinions, for own experience, never for refusals with authority.

use crate::support::{ANSWER, Act, Opinion, Script, World, always, fail, in_turn, ms, secs, within};
use fallway::FailureKind::{QuotaExhausted, RateLimited, ServerError, Unauthorized};
use fallway::Profile;
use fallway::decision::{Next, Reason};
use fallway::policy::{FailSafe, PolicyExt, ordered, round_robin};
use fallway::recover::Ejection;
use std::time::Duration;

const FOUR: [&str; 4] = ["a", "b", "c", "d"];

/// Four backends of which the signal finds so many unhealthy; the names that would be tried, in order.
fn ranked(unhealthy: usize, threshold: f64) -> (Vec<String>, bool) {
    let (world, opinion) = (World::new(), Opinion::default());
    let builder =
        world.router(ordered().fail_safe(FailSafe::default().panic_threshold(threshold))).signal(opinion.clone());
    let (router, _) = world.fleet(builder, FOUR.map(|id| (Profile::new(id), always(ANSWER))));
    for slot in 0..4 {
        opinion.fresh(slot, if slot < unhealthy { 0 } else { 1000 }, world.now());
    }
    let decision = router.explain(&within(secs(1)));
    (decision.ranked().iter().map(|candidate| candidate.name().to_owned()).collect(), decision.panicked())
}

#[test]
fn opinions_are_believed_until_fewer_than_half_look_healthy() {
    assert_eq!(ranked(0, 0.5), (vec!["a".into(), "b".into(), "c".into(), "d".into()], false));
    assert_eq!(ranked(1, 0.5), (vec!["b".into(), "c".into(), "d".into()], false));
    assert_eq!(ranked(2, 0.5), (vec!["c".into(), "d".into()], false));
    // Then they are set aside altogether: the order is as if nobody had said anything.
    assert_eq!(ranked(3, 0.5), (vec!["a".into(), "b".into(), "c".into(), "d".into()], true));
    assert_eq!(ranked(4, 0.5), (vec!["a".into(), "b".into(), "c".into(), "d".into()], true));
}

#[test]
fn a_threshold_of_zero_turns_panic_mode_off() {
    assert_eq!(ranked(3, 0.0), (vec!["d".into()], false));
    assert_eq!(ranked(3, 1.0).0.len(), 4);
}

#[test]
fn a_slot_of_the_healthy_is_worth_more_than_a_doubt() {
    let (world, opinion) = (World::new(), Opinion::default());
    let builder = world.router(ordered().fail_safe(FailSafe::default())).signal(opinion.clone());
    let members =
        [(Profile::new("a").concurrency(1), always(Act::Answer(secs(1)))), (Profile::new("b"), always(ANSWER))];
    let (router, [_, b]) = world.fleet(builder, members);
    opinion.fresh(0, 1000, world.now());
    opinion.fresh(1, 0, world.now());
    let calls = [(); 2].map(|()| {
        let router = router.clone();
        world.spawn(async move { router.call("ask", within(secs(5))).await.is_ok() })
    });
    world.settle();
    assert!(matches!(router.explain(&within(secs(5))).next(), Next::Wait { .. }));
    world.run();
    assert!(calls.into_iter().all(crate::support::Task::take));
    assert_eq!(b.calls(), 0);
}

#[test]
fn own_experience_stands_behind_the_healthy() {
    let world = World::new();
    let bad = || in_turn([fail(ServerError), fail(ServerError), ANSWER]);
    let members = [
        (Profile::new("a"), bad()),
        (Profile::new("b"), bad()),
        (Profile::new("c"), bad()),
        (Profile::new("d"), in_turn([ANSWER, ANSWER, ANSWER, ANSWER, ANSWER, ANSWER, fail(ServerError)])),
    ];
    let builder =
        world.router(ordered().fail_safe(FailSafe::default().attempts(4))).ejection(Ejection::default().consecutive(2));
    let (router, backends) = world.fleet(builder, members);
    for _ in 0..6 {
        assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("d"));
    }
    assert_eq!(backends.each_ref().map(|backend| backend.calls()), [2, 2, 2, 6]);
    let decision = router.explain(&within(secs(5)));
    assert!(decision.panicked());
    let notes: Vec<_> = decision.ranked().iter().map(|it| (it.name().to_owned(), it.note())).collect();
    assert_eq!(notes[0], ("d".to_owned(), None));
    assert!(notes[1..].iter().all(|(_, note)| *note == Some(Reason::Readmitted)), "{notes:?}");
    // The healthy one fails: what was readmitted is the way out.
    let routed = world.call(&router, within(secs(5))).unwrap();
    assert_eq!((routed.backend(), routed.attempts().len()), (Some("a"), 2));
}

#[test]
fn refusals_with_authority_are_never_overridden() {
    let hint = |kind| -> Script { always(Act::Hint(kind, Duration::ZERO, secs(100))) };
    let world = World::new();
    let members = [
        (Profile::new("limited"), hint(RateLimited)),
        (Profile::new("broke").credential("x"), hint(QuotaExhausted)),
        (Profile::new("refused").credential("y"), hint(Unauthorized)),
        (Profile::new("drained").drained(true), always(ANSWER)),
        (Profile::new("abroad").region("us"), always(ANSWER)),
        (Profile::new("fails").region("eu"), always(fail(ServerError))),
    ]
    .map(
        |(profile, script)| {
            if profile.region_name().is_none() { (profile.region("eu"), script) } else { (profile, script) }
        },
    );
    let builder = world
        .router(ordered().fail_safe(FailSafe::default().panic_threshold(1.0)))
        .ejection(Ejection::default().consecutive(1));
    let (router, backends) = world.fleet(builder, members);
    let options = || fallway::CallOptions::within(secs(5)).facts(crate::support::plain().residency(["eu"]));
    for _ in 0..20 {
        assert!(world.call(&router, options()).is_err());
        world.run_for(ms(100));
    }
    let calls = backends.map(|backend| backend.calls());
    assert_eq!(calls[..5], [1, 1, 1, 0, 0]);
    let decision = router.explain(&options());
    let out = ["limited", "broke", "refused", "drained", "abroad"];
    for candidate in decision.candidates().filter(|candidate| out.contains(&candidate.name())) {
        assert!(candidate.rejected().is_some(), "{} is back", candidate.name());
    }
}

#[test]
fn a_stale_signal_is_not_believed_and_not_punished_while_all_are_stale() {
    let (world, opinion) = (World::new(), Opinion::default());
    let builder = world.router(round_robin().fail_safe(FailSafe::default())).signal(opinion);
    let (router, backends) = world.fleet(builder, FOUR.map(|id| (Profile::new(id), always(ANSWER))));
    for _ in 0..40 {
        world.call(&router, within(secs(1))).unwrap();
    }
    assert_eq!(backends.map(|backend| backend.calls()), [10; 4]);
}

#[test]
fn a_busy_tier_is_not_in_panic() {
    let world = World::new();
    let long = || in_turn([ANSWER, Act::Answer(secs(2))]);
    let members = [
        (Profile::new("a").concurrency(1), always(fail(ServerError))),
        (Profile::new("b").concurrency(1), long()),
        (Profile::new("c").concurrency(1), always(Act::Answer(secs(2)))),
        (Profile::new("d").concurrency(1), always(Act::Answer(secs(2)))),
    ];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).ejection(Ejection::default().consecutive(1));
    let (router, [a, ..]) = world.fleet(builder, members);
    assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("b"));
    let busy = [(); 3].map(|()| world.ask(&router, within(secs(5))));
    world.settle();
    let decision = router.explain(&within(secs(5)));
    assert_eq!(decision.rejections(), [("at capacity", 3), ("ejected", 1)]);
    assert!(!decision.panicked() && matches!(decision.next(), Next::Wait { .. }), "{decision}");
    let waits = world.ask(&router, within(secs(5)));
    world.run();
    assert!(busy.into_iter().all(|call| call.take().ok()));
    let waits = waits.take();
    assert_eq!((waits.backend.as_deref(), waits.took, a.calls()), (Some("b"), secs(4), 1));
}

#[test]
fn who_is_ejected_is_not_tried_while_others_are_only_busy() {
    // The same, with calls that began long ago: not everything rests, so there is nothing to find out by a trial.
    let world = World::new();
    let members = [
        (Profile::new("a").concurrency(1), always(fail(ServerError))),
        (Profile::new("b").concurrency(1), in_turn([ANSWER, Act::Answer(secs(2)), ANSWER])),
    ];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).ejection(Ejection::default().consecutive(1));
    let (router, [a, _]) = world.fleet(builder, members);
    assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("b"));
    let busy = world.ask(&router, within(secs(5)));
    world.run_for(secs(1));
    let waits = world.ask(&router, within(secs(5)));
    world.run();
    let waits = waits.take();
    assert!(busy.take().ok());
    assert_eq!((waits.backend.as_deref(), waits.took, waits.attempts), (Some("b"), ms(1020), 1));
    assert_eq!(a.calls(), 1);
}
