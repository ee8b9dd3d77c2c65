//! Selection and cold start.
//!
//! Elsewhere: an unseen backend that scores best, in
//! `constitution::evidence::a_newcomer_gets_the_share_of_its_ramp_not_the_herd`;
//! a cancelled attempt as a sample, in `cancel::a_caller_that_leaves_early_does_not_make_a_backend_look_fast`; two
//! facts by two swaps, in `fleet::a_decision_sees_all_of_an_update_or_nothing`.

use crate::support::{
    ANSWER, Act, Load, Scripted, World, always, count_of, in_turn, leaf, ms, ok_share, percentile, secs, within,
};
use fallway::FailureKind::{ServerError, Unreachable};
use fallway::decision::Reason;
use fallway::policy::{Budgets, FailSafe, PolicyExt};
use fallway::recover::Ejection;
use fallway::{CallOptions, Decision, Facts, FailureKind, Profile};
use futures::FutureExt;

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "bad"];

#[test]
fn a_backend_that_fails_fast_does_not_draw_the_traffic() {
    for name in ["least_loaded", "power_of_two", "predicted_ttft", "round_robin", "weighted"] {
        let world = World::new();
        let members = TEN.map(|id| {
            let act = if id == "bad" { Act::Fail(ServerError, ms(5)) } else { Act::Answer(ms(500)) };
            (Profile::new(id), always(act))
        });
        // Bare: no retry hides a failure.
        let (router, backends) = world.fleet(world.router(leaf(name)), members);
        let load = Load { per_second: 100, lasts: secs(30), seed: 1 };
        let answers = load.run(&world, &router, &within(secs(10)));
        let lost = answers.iter().filter(|answer| !answer.ok()).count();
        assert!((1..=15).contains(&lost), "{name}: {lost} of {} lost", answers.len());
        assert!(backends[9].calls() <= 15, "{name}: {} calls", backends[9].calls());
    }
}

#[test]
fn a_backend_that_stops_answering_does_not_decay_to_fast() {
    for name in ["power_of_two", "predicted_ttft"] {
        let world = World::new();
        let start = world.now();
        let members = ["a", "b", "stalls"].map(|id| {
            let script = move |cue: &crate::support::Cue<'_>| {
                let stalled = id == "stalls" && cue.now - start > secs(5);
                Act::Answer(if stalled { secs(200) } else { ms(100) })
            };
            (Profile::new(id), Box::new(script) as crate::support::Script)
        });
        let (router, backends) = world.fleet(world.router(leaf(name)), members);
        let mut quiet = Load { per_second: 30, lasts: secs(8), seed: 1 }.spawn(&world, &router, &within(secs(600)));
        world.run_for(secs(8));
        let before = backends[2].calls();
        // The others get busy, ten times more than it was when it stalled.
        quiet.extend(Load { per_second: 300, lasts: secs(20), seed: 2 }.spawn(&world, &router, &within(secs(600))));
        world.run();
        // No sample comes from it, no time limit ends its calls: the age of the oldest alone keeps requests away.
        let late = backends[2].calls() - before;
        assert!(before < 100 && late <= 2, "{name}: {late} of 6000 went to it");
        let answers: Vec<_> = quiet.into_iter().map(crate::support::Task::take).collect();
        assert!(percentile(&answers, 0.99) <= ms(101), "{name}: {:?}", percentile(&answers, 0.99));
    }
}

#[test]
fn a_failure_is_no_latency_sample() {
    for kind in FailureKind::ALL {
        let world = World::new();
        let members = [(Profile::new("a"), always(Act::Fail(kind, ms(1))))];
        let (router, [a]) = world.fleet(world.router(leaf("predicted_ttft")), members);
        for _ in 0..4 {
            assert!(world.call(&router, within(secs(5))).is_err(), "{kind}");
            world.run_for(secs(400));
        }
        let decision = router.explain(&within(secs(5)));
        let samples = decision.candidates().next().and_then(|a| a.latency()).map(|latency| latency.samples);
        // A backend's own timeout says "at least so long", which is no fast sample.
        let most = u32::from(kind == FailureKind::Timeout) * 4;
        assert!(samples.is_none_or(|samples| samples <= most), "{kind}: {samples:?} samples of {} calls", a.calls());
    }
}

#[test]
fn a_refused_connection_does_not_look_fast() {
    for name in ["least_loaded", "power_of_two", "predicted_ttft"] {
        let world = World::new();
        let members = ["a", "b", "refuses"].map(|id| {
            (
                Profile::new(id),
                always(if id == "refuses" { Act::Fail(Unreachable, ms(0)) } else { Act::Answer(ms(100)) }),
            )
        });
        // It never rests for long, so what keeps requests away is the selection and a probe per rest.
        let ejection = Ejection::default().rest_unreachable(ms(100), ms(100));
        let builder = world.router(leaf(name).fail_safe(FailSafe::default())).ejection(ejection);
        let (router, backends) = world.fleet(builder, members);
        let load = Load { per_second: 50, lasts: secs(20), seed: 1 };
        let answers = load.run(&world, &router, &within(secs(5)));
        let calls = backends[2].calls();
        assert!(calls <= 20 * 1000 / 75 + 2, "{name}: {calls} calls");
        assert_eq!(ok_share(&answers), 1.0, "{name}");
    }
}

#[test]
fn a_burst_sees_itself() {
    for (name, spread) in [("least_loaded", 0), ("round_robin", 0), ("predicted_ttft", 3)] {
        let world = World::new();
        let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(ANSWER)));
        let (router, backends) = world.fleet(world.router(leaf(name)), members);
        for _ in 0..30 {
            world.call(&router, within(secs(5))).unwrap();
        }
        let before = backends.each_ref().map(Scripted::calls);
        let calls: Vec<_> = (0..30).map(|_| world.spawn_call(&router, within(secs(5)))).collect();
        world.run();
        assert_eq!(calls.len(), 30);
        for (backend, before) in backends.iter().zip(before) {
            let burst = backend.calls() - before;
            assert!(burst.abs_diff(10) <= spread, "{name}: {burst} of 30");
        }
    }
}

#[test]
fn a_canary_of_one_percent_gets_one_percent() {
    let world = World::new();
    let members =
        [("stable", 99.0), ("canary", 1.0)].map(|(id, weight)| (Profile::new(id).weight(weight), always(ANSWER)));
    let (router, [_, canary]) = world.fleet(world.router(leaf("weighted").fail_safe(FailSafe::default())), members);
    let mut per_hundred = Vec::new();
    for _ in 0..10 {
        let before = canary.calls();
        for _ in 0..100 {
            world.call(&router, within(secs(5))).unwrap();
        }
        per_hundred.push(canary.calls() - before);
    }
    assert_eq!(canary.calls(), 10, "{per_hundred:?}");
    assert!(per_hundred.iter().all(|calls| *calls <= 2), "{per_hundred:?}");
}

/// How many of 200 requests of so many tokens would be canaries to `b` after a minute without calls. `a` takes 100 ms, and so does
/// `b` at first.
fn canaries_to_b(later: u64, tokens: u64) -> usize {
    let world = World::new();
    let b = (0..20).map(|_| 100).chain([later]).map(|took| Act::Answer(ms(took)));
    let members = [("a", always(Act::Answer(ms(100)))), ("b", in_turn(b))];
    let members = members.map(|(id, script)| (Profile::new(id), script));
    let (router, _) = world.fleet(world.router(leaf("predicted_ttft")), members);
    let of = |tokens| CallOptions::new(Facts::any().prompt_tokens(tokens));
    (0..100).for_each(|_| assert!(world.call(&router, of(1_000)).is_ok()));
    world.run_for(secs(60));
    let canary = |decision: &Decision| decision.candidates().any(|it| it.note() == Some(Reason::Canary));
    count_of(&router, &of(tokens), 200, canary)
}

#[test]
fn a_long_prompt_is_no_canary() {
    // It would lose the most where nothing became better.
    assert!((30..80).contains(&canaries_to_b(1_000, 1_000)), "{}", canaries_to_b(1_000, 1_000));
    assert_eq!(canaries_to_b(1_000, 4_000), 0);
}

#[test]
fn nobody_looks_after_what_was_as_good_as_the_best_when_it_was_called_last() {
    assert_eq!(canaries_to_b(100, 1_000), 0);
}

#[test]
fn what_was_under_way_while_the_machine_slept_is_no_measure() {
    // A call that answers when it wakes up, one that is given up then, and one that its caller forgot and drops then.
    for case in ["answers", "hangs", "is dropped"] {
        let world = World::new();
        let odd = if case == "answers" { Act::Answer(ms(50)) } else { Act::Hang };
        let script = in_turn((0..30).map(|_| Act::Answer(ms(100))).chain([odd, Act::Answer(ms(100))]));
        let policy = leaf("predicted_ttft").budgeted(Budgets::default());
        let (router, _) = world.fleet(world.router(policy), [(Profile::new("a"), script)]);
        (0..30).for_each(|_| drop(world.call(&router, within(secs(5)))));
        let known = || {
            let decision = router.explain(&within(secs(5)));
            let candidate = decision.candidates().next().unwrap();
            (candidate.latency(), candidate.spread().map(|spread| spread.late))
        };
        let before = known();
        let mut call = Box::pin(router.call("ask", within(secs(60))));
        assert!((&mut call).now_or_never().is_none());
        world.timer().advance(secs(200));
        let is_ok = (case != "is dropped").then(|| (&mut call).now_or_never().unwrap().is_ok());
        drop(call);
        let expected = if case == "answers" { Some(true) } else { (case == "hangs").then_some(false) };
        assert_eq!((is_ok, known()), (expected, before), "{case}");
    }
}
