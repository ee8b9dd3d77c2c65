//! What counts as evidence, and what does not: unknown readings, cancelled attempts, other people's faults, time.

use super::play::Play;
use super::run::Run;
use crate::support::{
    Act, LEAVES, Log, Opinion, Told, World, always, drawn, dropped_after, leaf, ms, plain, secs, within,
};
use fallway::backend::{BackendError, Cools};
use fallway::decision::{Class, Reason};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::signal::{Reading, Score};
use fallway::time::Instant;
use fallway::{CallOptions, FailureKind, Profile};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::time::Duration;

/// A reading by a draw of four.
fn reading(draw: u8, at: Instant) -> Reading<Score> {
    match draw {
        0 => Reading::Missing,
        1 => Reading::Stale { value: Score::WELL, at: at - secs(60) },
        2 => Reading::Fresh { value: Score::DEAD, at },
        _ => Reading::Fresh { value: Score::WELL, at },
    }
}

/// Asks a fleet whose signal says this: whether somebody was chosen of whom the signal knows nothing, while it knows
/// good of another. In panic mode the signal is not believed, and may be.
fn unknown_wins(name: &str, safe: bool, warm: bool, draws: &[u8]) -> bool {
    let (world, opinion) = (World::new(), Opinion::default());
    let policy = if safe { leaf(name).fail_safe(FailSafe::default()).boxed() } else { leaf(name) };
    let mut builder = world.router(policy).signal(opinion.clone());
    for n in 0..draws.len() {
        let id = n.to_string();
        builder = builder.backend(Profile::new(&id), world.backend(&id, always(Act::Answer(ms(20)))));
    }
    let router = builder.build().unwrap();
    for _ in 0..(if warm { 50 } else { 0 }) {
        world.call(&router, within(secs(1))).unwrap();
    }
    let readings: Vec<_> = draws.iter().map(|draw| reading(*draw, world.now())).collect();
    for (slot, reading) in readings.iter().enumerate() {
        opinion.set(slot, *reading);
    }
    let decision = router.explain(&within(secs(1)));
    let chosen = decision.chosen().map(|chosen| readings[chosen.id().slot()]);
    let good = |reading: &Reading<Score>| matches!(reading, Reading::Fresh { value: Score::WELL, .. });
    let known_good = decision.candidates().any(|candidate| good(&readings[candidate.id().slot()]));
    known_good && !decision.panicked() && !matches!(chosen, Some(Reading::Fresh { .. }))
}

proptest! {
    #![proptest_config(drawn(200))]

    /// 6. While anybody has a fresh good reading, nobody without one is chosen.
    #[test]
    fn unknown_is_not_best(name in select(&LEAVES[..]), safe: bool, draws in vec(0..4u8, 2..6)) {
        prop_assert!(!unknown_wins(name, safe, true, &draws));
    }

    /// 6. The same before anything was learned.
    #[test]
    fn unknown_is_not_best_for_the_first_request(name in select(&LEAVES[..]), safe: bool, draws in vec(0..4u8, 2..6)) {
        prop_assert!(!unknown_wins(name, safe, false, &draws));
    }

    /// 8. The caller's fault cools nothing: no transition, and nobody is out afterwards.
    #[test]
    fn the_callers_fault_cools_nobody(mut play in Play::of(callers_fault())) {
        play.moody = false;
        if let Some(safety) = &mut play.safety {
            // A limit that the host configured is a judgement: exceeding it is the backend's fault.
            safety.attempt_limit = None;
        }
        for ask in &mut play.asks {
            // A caller without time is no fault either, but may leave a backend with an honest timeout.
            ask.deadline = None;
        }
        let run = Run::of(&play);
        prop_assert_eq!(run.log.count(|told| matches!(told, Told::Left { .. })), 0);
        let decision = run.router.explain(&CallOptions::new(plain()));
        for candidate in decision.candidates() {
            prop_assert!(candidate.rejected().is_none_or(|reason| reason.class() == Class::Hard), "{decision}");
        }
    }

    /// 10. A rest that is over restores nothing. One of a thousand finds out, and only its success lets the backend
    /// back, with a small share.
    #[test]
    fn recovery_is_by_evidence(kind in cooling(), later in 0..100_000u64, hint in proptest::option::of(1..20u64)) {
        let (world, log) = (World::new(), Log::default());
        // A timeout says something only after a time that a backend may fairly be given.
        let after = if kind == FailureKind::Timeout { ms(1500) } else { ms(1) };
        let a = world.backend("a", Box::new(move |cue| {
            let error = BackendError::new(kind);
            match hint {
                _ if cue.call >= 5 => Act::Answer(ms(20)),
                Some(hint) => Act::Hint(error.kind(), after, secs(hint)),
                None => Act::Fail(error.kind(), after),
            }
        }));
        let b = world.backend("b", always(Act::Answer(ms(20))));
        let router = world
            .router(ordered().fail_safe(FailSafe::default()))
            .ejection(Ejection::default().consecutive(5))
            .backend(Profile::new("a"), a.clone())
            .backend(Profile::new("b"), b.clone())
            .observer(log.clone())
            .build()
            .unwrap();
        // Fails until it is out for good.
        let mut rest = Duration::ZERO;
        while a.calls() < 5 {
            world.call(&router, within(secs(60))).unwrap();
            let decision = router.explain(&within(secs(60)));
            let out = decision.candidates().next().and_then(|a| a.rejected()?.returns_at());
            rest = out.map_or(rest, |until| until - world.now());
            world.run_for(rest);
        }
        world.run_for(ms(later));
        let decision = router.explain(&within(secs(60)));
        let note = decision.candidates().next().and_then(|a| a.note());
        prop_assert!(matches!(note, Some(Reason::Probe | Reason::QuotaProbe)), "{decision}");
        let calls: Vec<_> = (0..1000).map(|_| world.spawn_call(&router, within(secs(60)))).collect();
        world.settle();
        prop_assert_eq!(a.calls(), 6);
        world.run();
        prop_assert_eq!(calls.into_iter().filter(|call| call.is_done()).count(), 1000);
        prop_assert_eq!(log.count(|told| matches!(told, Told::Returned { backend } if backend == "a")), 1);
    }
}

fn callers_fault() -> impl Strategy<Value = Act> + Clone {
    let kinds = [FailureKind::InvalidRequest, FailureKind::ContextTooLong, FailureKind::ContentRejected];
    (select(kinds.to_vec()), 0..50u64).prop_map(|(kind, after)| Act::Fail(kind, ms(after)))
}

/// The kinds that take a backend out.
fn cooling() -> impl Strategy<Value = FailureKind> {
    let cools = |kind: &FailureKind| kind.conduct().cools != Cools::Nothing;
    select(FailureKind::ALL.into_iter().filter(cools).collect::<Vec<_>>())
}

/// 6. A backend of unknown latency does not draw the herd: a canary and the share of its ramp, no more.
#[test]
fn a_newcomer_gets_the_share_of_its_ramp_not_the_herd() {
    for name in ["predicted_ttft", "power_of_two"] {
        let world = World::new();
        let known = world.backend("known", always(Act::Answer(ms(20))));
        let newcomer = world.backend("newcomer", always(Act::Answer(ms(500))));
        let router = world.router(leaf(name)).backend(Profile::new("known"), known.clone()).build().unwrap();
        for _ in 0..20 {
            world.call(&router, within(secs(1))).unwrap();
        }
        router.update(|fleet| fleet.add(Profile::new("newcomer"), newcomer.clone())).unwrap();
        let calls: Vec<_> = (0..100).map(|_| world.spawn_call(&router, within(secs(10)))).collect();
        world.run();
        assert_eq!(calls.len(), 100);
        assert!((1..=15).contains(&newcomer.calls()), "{name}: {} of 100", newcomer.calls());
    }
}

/// 7. Callers that go away leave no trace: no success, no failure, nobody out, whatever the number.
#[test]
fn a_cancelled_attempt_is_neither_success_nor_failure() {
    for name in LEAVES {
        let (world, log) = (World::new(), Log::default());
        let hangs = world.backend("hangs", always(Act::Hang));
        let router = world
            .router(leaf(name).fail_safe(FailSafe::default()))
            .backend(Profile::new("hangs"), hangs.clone())
            .observer(log.clone())
            .build()
            .unwrap();
        for n in 0..50 {
            let (router, timer) = (router.clone(), world.timer().clone());
            let gone = world.spawn(dropped_after(1 + n % 3, async move { router.call("ask", within(secs(60))).await }));
            world.settle();
            timer.advance(ms(10));
            world.run_for(secs(120));
            drop(gone);
        }
        assert_eq!(log.count(|told| matches!(told, Told::Succeeded { .. })), 0, "{name}");
        let decision = router.explain(&within(secs(1)));
        assert_eq!(router.total_in_flight(), 0);
        assert!(hangs.calls() >= 17, "{name}: {} calls", hangs.calls());
        assert!(decision.candidates().next().is_some(), "{decision}");
    }
}

/// 8. A credential's fault rests that credential, on all its backends, and no other.
#[test]
fn a_refused_credential_rests_that_credential_only() {
    for (kind, label) in
        [(FailureKind::Unauthorized, "credential refused"), (FailureKind::QuotaExhausted, "out of quota")]
    {
        let world = World::new();
        let mut builder = world.router(ordered().fail_safe(FailSafe::default()));
        for (id, credential) in [("a", "x"), ("b", "x"), ("c", "y")] {
            let act = if credential == "x" { Act::Fail(kind, ms(1)) } else { Act::Answer(ms(20)) };
            builder = builder.backend(Profile::new(id).credential(credential), world.backend(id, always(act)));
        }
        let router = builder.build().unwrap();
        let answered = world.call(&router, within(secs(5))).unwrap();
        assert_eq!(answered.backend(), Some("c"));
        assert_eq!(answered.attempts().len(), 2, "the second backend of the credential was asked too");
        let decision = router.explain(&within(secs(5)));
        assert_eq!(decision.rejections(), [(label, 2)]);
    }
}

/// 8. What the router itself rejects is never held against a backend.
#[test]
fn local_rejections_are_no_failures() {
    let (world, log) = (World::new(), Log::default());
    let a = world.backend("a", always(Act::Answer(secs(1))));
    let router = world
        .router(ordered().fail_safe(FailSafe::default()))
        .queue(0)
        .backend(Profile::new("a").concurrency(1), a.clone())
        .observer(log.clone())
        .build()
        .unwrap();
    let calls: Vec<_> = (0..100).map(|_| world.spawn_call(&router, within(secs(5)))).collect();
    world.run();
    let refused = calls.into_iter().filter(|call| call.is_done()).map(crate::support::Task::take);
    assert_eq!(refused.filter(Result::is_err).count(), 99);
    assert_eq!((a.calls(), log.count(|told| matches!(told, Told::Failed { .. } | Told::Left { .. }))), (1, 0));
    assert_eq!(router.explain(&within(secs(5))).rejections(), []);
}
