//! The detectors: in a row, by rate, by comparison.

use super::{Scene, answers, named};
use crate::support::{ANSWER, Act, Cue, Script, always, fail, in_turn, ms, secs};
use fallway::FailureKind::{Overloaded, RateLimited, ServerError};
use fallway::Profile;
use fallway::decision::Reason;
use fallway::event::Cause;
use fallway::recover::Ejection;
use std::iter::repeat_n;
use std::time::Duration;

/// Answers so many calls, then fails.
fn fails_after(calls: u64) -> Script {
    Box::new(move |cue: &Cue<'_>| if cue.call < calls { Act::Answer(ms(1)) } else { fail(ServerError) })
}

#[test]
fn after_100_000_successes_five_failures_in_a_row_open_it() {
    let scene = Scene::new(Ejection::default(), [(named("a"), fails_after(100_000))]);
    scene.ask(100_000);
    assert_eq!(scene.turns.all(), []);
    let options = crate::support::within(secs(1)).facts(fallway::Facts::any());
    for n in 1..=5 {
        assert_eq!(scene.turns.all(), [], "after {} failures", n - 1);
        assert!(scene.world.call(&scene.router, options.clone()).is_err());
    }
    let turns = scene.turns.all();
    assert_eq!((turns.len(), turns[0].cause, turns[0].trips), (1, Cause::Streak { failures: 5 }, 1));
}

#[test]
fn four_of_five_failed_ejects_though_never_five_in_a_row() {
    let acts = repeat_n(fail(ServerError), 3).chain([ANSWER]).chain([fail(ServerError)]);
    let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
    scene.ask(9);
    assert_eq!(scene.turns.causes("a"), [Cause::FailureRate { failures: 4, samples: 5 }]);
    assert!(matches!(scene.out()[..], [(_, Reason::FailsOften { failures: 4, samples: 5, .. })]));
}

#[test]
fn failures_of_half_a_minute_ago_are_no_rate() {
    // Three failures and a success, again and again, with half a minute in between: never five samples in a window.
    let round = repeat_n(fail(ServerError), 3).chain([ANSWER]);
    let acts = std::iter::repeat_n(round, 10).flatten();
    let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
    for _ in 0..10 {
        scene.ask(8);
        scene.world.run_for(secs(31));
    }
    assert_eq!(scene.turns.all(), []);
}

#[test]
fn a_backend_with_one_call_in_an_hour_is_ejected_by_its_streak() {
    let scene = Scene::new(Ejection::default(), [(named("a"), always(fail(ServerError))), (named("b"), answers(1))]);
    for _ in 0..5 {
        assert_eq!(scene.turns.all(), []);
        scene.ask(2);
        scene.world.run_for(secs(3_600));
    }
    assert_eq!(scene.turns.causes("a"), [Cause::Streak { failures: 5 }]);
}

#[test]
fn refusals_for_want_of_quota_are_no_failures_and_end_no_streak() {
    // Four failures, a 429, and the fifth: the run goes on, and the 429 is not part of it.
    let limited = Act::Hint(RateLimited, Duration::ZERO, secs(1));
    let acts = repeat_n(fail(ServerError), 4).chain([limited.clone(), fail(ServerError)]);
    let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
    while scene.backends[0].calls() < 6 {
        scene.ask(1);
        scene.world.run_for(secs(2));
    }
    let refused = Cause::Refused { kind: RateLimited, hint: true };
    assert_eq!(scene.turns.causes("a")[0], refused);
    assert_eq!(scene.turns.causes("a").last(), Some(&Cause::Streak { failures: 5 }));
    // And a thousand of them alone eject nobody.
    let scene = Scene::new(Ejection::default(), [(named("a"), always(limited)), (named("b"), answers(1))]);
    while scene.backends[0].calls() < 1_000 {
        scene.ask(1);
        scene.world.run_for(secs(1));
    }
    assert!(scene.turns.causes("a").iter().all(|cause| *cause == refused));
}

#[test]
fn a_probe_that_meets_429_has_failed() {
    let limited = Act::Hint(RateLimited, Duration::ZERO, secs(1));
    let acts = [fail(Overloaded), limited, ANSWER];
    let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
    scene.ask(2);
    assert_eq!(scene.turns.causes("a"), [Cause::Refused { kind: Overloaded, hint: false }]);
    scene.world.run_for(secs(2));
    scene.ask(2);
    assert_eq!(scene.turns.causes("a")[1..], [Cause::ProbeFailed { kind: RateLimited }]);
    assert_eq!(scene.turns.all().last().unwrap().trips, 2);
    // The quota is back after a second; the backend rests for longer.
    scene.world.run_for(ms(1_100));
    scene.ask(4);
    assert_eq!(scene.backends[0].calls(), 2);
    scene.world.run_for(secs(4));
    scene.ask(2);
    assert!(matches!(scene.turns.causes("a")[2..], [Cause::ProbeSucceeded { .. }]), "{:?}", scene.turns.all());
}

/// A pool of one model in one region, each with its time to first token in milliseconds.
fn pool(ejection: Ejection, times: &[u64]) -> Scene {
    let members =
        times.iter().enumerate().map(|(n, time)| (named(n.to_string()).model("m").region("eu"), answers(*time)));
    Scene::new(ejection, members.collect::<Vec<_>>())
}

#[test]
fn a_latency_of_more_than_three_medians_ejects() {
    let ejection = Ejection::default().slower_than_peers(Ejection::LATENCY_FACTOR);
    let scene = pool(ejection, &[61, 20, 20, 20, 20]);
    scene.ask(100);
    let expected = Cause::SlowerThanPeers { usual: ms(61), median: ms(20), factor: 3.0, peers: 4 };
    assert_eq!((scene.names_out(), scene.turns.causes("0")), (vec!["0".to_owned()], vec![expected]));
    let expected = (61_000_000, 20_000_000);
    let Reason::SlowerThanPeers { usual, median, .. } = scene.out()[0].1 else { panic!("{:?}", scene.out()) };
    assert_eq!((usual, median), expected);
    // Three times the median is not more than that; and by default nobody is compared.
    for (ejection, times) in [(ejection, [60, 20, 20, 20, 20]), (Ejection::default(), [900, 20, 20, 20, 20])] {
        let scene = pool(ejection, &times);
        scene.ask(200);
        assert_eq!(scene.turns.all(), []);
    }
}

#[test]
fn a_latency_is_compared_with_three_peers_at_least_and_those_of_its_pool_only() {
    let ejection = Ejection::default().slower_than_peers(2.0);
    let scene = pool(ejection, &[500, 20, 20]);
    scene.ask(100);
    assert_eq!(scene.turns.all(), []);
    // Three peers, and one of them elsewhere, or with another model.
    let others: [fn(Profile) -> Profile; 2] = [|it| it.region("us"), |it| it.model("other")];
    for other in others {
        let members = [500u64, 20, 20, 20].into_iter().enumerate().map(|(n, time)| {
            let profile = named(n.to_string()).model("m").region("eu");
            (if n == 3 { other(profile) } else { profile }, answers(time))
        });
        let scene = Scene::new(ejection, members.collect::<Vec<_>>());
        scene.ask(100);
        assert_eq!(scene.turns.all(), []);
    }
}

#[test]
fn comparisons_take_out_half_of_a_pool_and_leave_some_in() {
    let ejection = Ejection::default().slower_than_peers(1.5);
    // Two of five are too slow by far, and then a third by comparison with what is left.
    let times = [900, 800, 60, 20, 20, 20];
    for (ejection, most) in [
        (ejection, 3),
        (ejection.max_outliers(0.2), 1),
        (ejection.max_outliers(0.0), 0),
        (ejection.max_outliers(1.0).min_available(5), 1),
    ] {
        let scene = pool(ejection, &times);
        let mut worst = 0;
        for _ in 0..100 {
            scene.ask(1);
            worst = worst
                .max(scene.out().iter().filter(|(_, reason)| matches!(reason, Reason::SlowerThanPeers { .. })).count());
        }
        assert_eq!(worst, most);
    }
}

#[test]
fn facts_need_no_cap() {
    // Both of a pair fail: by their own runs both go, whatever share of the pool that is.
    let members = ["a", "b"].map(|id| (named(id).model("m"), always(fail(ServerError))));
    let ejection = Ejection::default().max_outliers(0.0).min_available(2);
    let scene = Scene::new(ejection, members);
    for _ in 0..6 {
        let _ = scene.world.call(&scene.router, crate::support::within(ms(10)));
    }
    let out: Vec<_> = scene.turns.all().into_iter().map(|turn| (turn.who, turn.cause)).take(2).collect();
    assert_eq!(out, ["a", "b"].map(|id| (id.to_owned(), Cause::Streak { failures: 5 })));
}

/// Backends of which the first fails a third of its calls, and the others one in a hundred.
fn unsteady(size: u64, ejection: Ejection) -> Scene {
    let script = |shift: u64, every: u64| -> Script {
        Box::new(move |cue: &Cue<'_>| match (cue.call + shift).is_multiple_of(every) {
            true => fail(ServerError),
            false => Act::Answer(ms(5)),
        })
    };
    let members = (0..size).map(|n| (named(n.to_string()).model("m"), script(n * 7 + 1, if n == 0 { 3 } else { 100 })));
    Scene::new(ejection, members.collect::<Vec<_>>())
}

#[test]
fn a_success_rate_far_below_the_mean_of_ten_ejects() {
    // Envoy's outlier by success rate: below the mean less 1.9 standard deviations.
    let scene = unsteady(10, Ejection::default());
    scene.ask(1_000);
    let causes = scene.turns.causes("0");
    let Cause::FailsMoreThanPeers { rate, mean, deviation, pool: 10 } = causes[0] else { panic!("{causes:?}") };
    assert!((rate - 0.66).abs() < 0.05 && rate < mean - 1.9 * deviation && mean - rate >= 0.1, "{causes:?}");
    assert!(scene.turns.all().iter().all(|turn| turn.who == "0"), "{:?}", scene.turns.all());
    for (size, ejection) in [(9, Ejection::default()), (10, Ejection::default().fails_more_than_peers(None))] {
        let scene = unsteady(size, ejection);
        scene.ask(1_000);
        assert_eq!(scene.turns.all(), [], "a pool of {size}");
    }
}

#[test]
fn a_slow_start_ends_and_that_is_told() {
    let acts = repeat_n(fail(ServerError), 5).chain([ANSWER]);
    let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
    scene.ask(12);
    scene.world.run_for(secs(20));
    scene.ask(2);
    scene.world.run_for(secs(60));
    scene.ask(2);
    let turns = scene.turns.all();
    let [out, back, whole] = &turns[..] else { panic!("{turns:?}") };
    assert_eq!((out.cause, out.trips, out.until.is_some()), (Cause::Streak { failures: 5 }, 1, true));
    assert_eq!((back.cause, back.until), (Cause::ProbeSucceeded { ramp: secs(60) }, None));
    assert_eq!((whole.cause, whole.trips, whole.until), (Cause::RampEnded, 0, None));
}

#[test]
fn aggression_shapes_the_slow_start() {
    for (aggression, expected) in [(1.0, 500), (2.0, 707), (0.5, 250)] {
        let acts = repeat_n(fail(ServerError), 5).chain([ANSWER]);
        let ejection = Ejection::default().aggression(aggression);
        let scene = Scene::new(ejection, [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
        scene.ask(12);
        scene.world.run_for(secs(20));
        scene.ask(2);
        let back = scene.turns.all().last().unwrap().at;
        scene.world.run_for(secs(30) - (scene.world.now() - back));
        let decision = scene.router.explain(&crate::support::within(secs(5)));
        let note = decision.candidates().next().unwrap().note();
        let Some(Reason::RampingUp { share }) = note else { panic!("{note:?}") };
        assert!(share.abs_diff(expected) <= 2, "{share} of 1000 with aggression {aggression}");
    }
}
