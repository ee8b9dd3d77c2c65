//! How backends leave, are tried while all rest, and come back.

use crate::support::{
    ANSWER, Act, Load, Log, TestRouter, Told, World, always, count_of, fail, in_turn, ms, secs, within,
};
use fallway::FailureKind::{Overloaded, ServerError, Timeout};
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered, round_robin};
use fallway::recover::Ejection;
use fallway::{Decision, Profile};
use std::time::Duration;

/// What stands against, or beside, the first backend.
fn first(router: &TestRouter) -> (Option<Reason>, Option<Reason>) {
    let decision = router.explain(&within(secs(5)));
    let first = decision.candidates().next().unwrap();
    (first.rejected(), first.note())
}

fn pair(world: &World, script: crate::support::Script) -> (TestRouter, [crate::support::Scripted; 2]) {
    let members = [(Profile::new("a"), script), (Profile::new("b"), always(ANSWER))];
    world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members)
}

#[test]
fn five_failures_in_a_row_eject_and_four_do_not() {
    let world = World::new();
    let (router, [a, _]) = pair(&world, always(fail(ServerError)));
    for n in 1..=5 {
        assert_eq!(first(&router).0, None, "after {} failures", n - 1);
        world.call(&router, within(secs(5))).unwrap();
    }
    assert!(matches!(first(&router).0, Some(Reason::Ejected { failures: 5, .. })), "{:?}", first(&router));
    world.call(&router, within(secs(5))).unwrap();
    assert_eq!(a.calls(), 5);
}

#[test]
fn a_success_between_starts_the_streak_anew() {
    let world = World::new();
    let four = std::iter::repeat_n(fail(ServerError), 4);
    let script = in_turn(four.clone().chain([ANSWER]).chain(four).chain([ANSWER]));
    let (router, [a, _]) = pair(&world, script);
    for call in 0..10 {
        if call == 5 {
            // Or it would fail too often, if not in a row.
            world.run_for(secs(31));
        }
        world.call(&router, within(secs(5))).unwrap();
    }
    assert_eq!((first(&router).0, a.calls()), (None, 10));
}

#[test]
fn a_backend_that_hangs_is_ejected_after_five_timeouts() {
    let world = World::new();
    let config = FailSafe::default().attempt_limit(secs(1));
    let members = [(Profile::new("a"), always(Act::Hang)), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(config)), members);
    for _ in 0..20 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert!(a.calls() <= 7, "{} of 20 requests waited a second for a backend that hangs", a.calls());
}

#[test]
fn a_backend_that_says_timeout_itself_is_ejected_like_any_other() {
    // A gateway in front of it answers 504 after a millisecond.
    let world = World::new();
    let (router, [a, _]) = pair(&world, always(Act::Fail(Timeout, ms(1))));
    for _ in 0..20 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert_eq!(a.calls(), 5);
}

#[test]
fn while_all_rest_one_request_in_350_ms_tries() {
    let world = World::new();
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(Act::Fail(Overloaded, ms(1)))));
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let load = Load { per_second: 100, lasts: secs(10), seed: 3 };
    let answers = load.run(&world, &router, &within(ms(100)));
    let mut calls: Vec<_> = backends.iter().flat_map(|backend| backend.seen()).map(|seen| seen.at).collect();
    calls.sort_unstable();
    // The first request finds out about all three; from then on nobody is tried more often than that.
    let gaps: Vec<_> = calls[3..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let trials = calls.len() - 3;
    assert!((20..=30).contains(&trials), "{trials} trials in 10 s");
    assert!(gaps.iter().all(|gap| *gap >= ms(300)), "{:?}", gaps.iter().min());
    assert!(answers.iter().all(|answer| !answer.ok() && answer.attempts <= 3));
}

#[test]
fn a_trial_that_succeeds_brings_its_backend_back() {
    let world = World::new();
    let start = world.now();
    let script = move |cue: &crate::support::Cue<'_>| {
        if cue.now - start < secs(3) { Act::Fail(Overloaded, ms(1)) } else { ANSWER }
    };
    let members = ["a", "b"].map(|id| (Profile::new(id), Box::new(script) as crate::support::Script));
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let load = Load { per_second: 50, lasts: secs(6), seed: 3 };
    let answers = load.run(&world, &router, &within(ms(100)));
    let back = answers.iter().find(|answer| answer.ok()).map(|answer| answer.ended() - start).unwrap();
    assert!(back >= secs(3) && back <= ms(3500), "{back:?}");
    let later: Vec<_> = answers.iter().filter(|answer| answer.at - start > ms(3600)).collect();
    assert!(later.len() > 100 && later.iter().all(|answer| answer.ok()));
}

#[test]
fn a_probe_that_is_dropped_frees_its_permit() {
    let world = World::new();
    let (router, [a, _]) = pair(&world, in_turn([fail(Overloaded), Act::Hang, ANSWER]));
    world.call(&router, within(secs(5))).unwrap();
    world.run_for(secs(20));
    assert_eq!(first(&router), (None, Some(Reason::Probe)));
    let probing = router.clone();
    let (call, caller) = futures::future::abortable(async move { probing.call("ask", within(secs(60))).await });
    world.spawn(call);
    world.settle();
    assert!(matches!(first(&router).0, Some(Reason::OnProbation { .. })), "{:?}", first(&router));
    // Everybody else goes elsewhere meanwhile.
    let other = world.spawn_call(&router, within(secs(5)));
    world.run_for(ms(20));
    assert_eq!(other.take().unwrap().backend(), Some("b"));
    // The caller of the probe goes away.
    caller.abort();
    world.run();
    assert_eq!(a.calls(), 2);
    assert_eq!(first(&router), (None, Some(Reason::Probe)));
    assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("a"));
}

#[test]
fn exactly_one_of_a_thousand_probes() {
    let world = World::new();
    let members = [
        (Profile::new("a"), in_turn([fail(Overloaded), Act::Answer(secs(1))])),
        (Profile::new("b"), always(ANSWER)),
        (Profile::new("c"), always(ANSWER)),
    ];
    let (router, [a, ..]) = world.fleet(world.router(round_robin().fail_safe(FailSafe::default())), members);
    while a.calls() == 0 {
        world.call(&router, within(secs(5))).unwrap();
    }
    world.run_for(secs(20));
    let calls: Vec<_> = (0..1000).map(|_| world.spawn_call(&router, within(secs(5)))).collect();
    world.run_for(ms(500));
    assert_eq!((a.calls(), a.backstage().in_flight()), (2, 1));
    assert_eq!(calls.iter().filter(|call| call.is_done()).count(), 999);
    world.run();
}

#[test]
fn a_failed_probe_doubles_the_rest() {
    let world = World::new();
    let (router, [a, _]) = pair(&world, always(fail(Overloaded)));
    let mut rests = Vec::new();
    for n in 1..=4 {
        world.call(&router, within(secs(5))).unwrap();
        assert_eq!(a.calls(), n);
        let rest = first(&router).0.and_then(|reason| reason.returns_at()).unwrap() - world.now();
        rests.push(rest.as_secs_f64());
        world.run_for(rest);
    }
    // The end of a rest lies on the backend's own grid, a quarter early or three quarters late at most.
    for (rest, nominal) in rests.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!(*rest >= nominal * 0.7 && *rest <= nominal * 1.75, "{rests:?}");
    }
}

/// The share of decisions in which the first backend stands in front.
fn share(router: &TestRouter) -> f64 {
    let is_a = |decision: &Decision| decision.chosen().is_some_and(|chosen| chosen.name() == "a");
    count_of(router, &within(secs(5)), 2_000, is_a) as f64 / 2_000.0
}

#[test]
fn a_returning_backend_takes_its_share_slowly() {
    let (world, log) = (World::new(), Log::default());
    let script = in_turn(std::iter::repeat_n(fail(ServerError), 5).chain([ANSWER]));
    let members = [(Profile::new("a"), script), (Profile::new("b"), always(ANSWER))];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let (router, _) = world.fleet(builder, members);
    for _ in 0..5 {
        world.call(&router, within(secs(5))).unwrap();
    }
    world.run_for(secs(20));
    assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("a"));
    assert_eq!(log.count(|told| matches!(told, Told::Returned { .. })), 1);
    // Out for longer than six seconds: the ramp is the full minute.
    let shares = [0u64, 15, 30, 45].map(|at| {
        world.run_for(if at == 0 { Duration::ZERO } else { secs(15) });
        share(&router)
    });
    for (share, wanted) in shares.iter().zip([0.1, 0.25, 0.5, 0.75]) {
        assert!((share - wanted).abs() < 0.04, "{shares:?}");
    }
    world.run_for(secs(16));
    assert_eq!(share(&router), 1.0);
}

#[test]
fn a_ramp_means_nothing_to_a_lone_candidate() {
    let world = World::new();
    let script = in_turn([fail(Overloaded), ANSWER]);
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, _) = world.fleet(builder, [(Profile::new("a"), script)]);
    let _ = world.call(&router, within(ms(1)));
    world.run_for(secs(20));
    for _ in 0..20 {
        assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("a"));
    }
}

#[test]
fn an_ejection_can_be_configured() {
    let world = World::new();
    let members = [(Profile::new("a"), always(fail(ServerError))), (Profile::new("b"), always(ANSWER))];
    let ejection = Ejection::default().consecutive(2).eject_for(ms(100), ms(100)).slow_start(Duration::ZERO);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).ejection(ejection);
    let (router, [a, _]) = world.fleet(builder, members);
    for _ in 0..10 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert!((2..=4).contains(&a.calls()), "{}", a.calls());
}

#[test]
fn a_probe_that_no_caller_has_time_for_is_not_repeated_by_each() {
    // Everybody has 100 ms and the backend answers in 50; then it is unreachable once, and hangs from there on.
    let world = World::new();
    let normal = (0..20).map(|_| Act::Answer(ms(50)));
    let script = normal.chain([Act::Fail(fallway::FailureKind::Unreachable, ms(1)), Act::Hang]);
    let members = ["a", "b", "c"].map(|id| {
        let act = if id == "a" { in_turn(script.clone().collect::<Vec<_>>()) } else { always(Act::Answer(ms(50))) };
        (Profile::new(id), act)
    });
    let builder = world.router(round_robin().fail_safe(FailSafe::default()));
    let (router, [a, _, _]) = world.fleet(builder, members);
    for _ in 0..600 {
        let _ = world.call(&router, within(ms(100)));
    }
    // 600 requests in half a minute and more; one probe in each rest.
    assert!(a.calls() < 70, "{} of 600 were sent to find out", a.calls());
}
