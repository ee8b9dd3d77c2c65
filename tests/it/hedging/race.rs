//! Two attempts side by side: the first that answers wins.

use super::{AFTER, Scene, half, hedged, options, third};
use crate::support::{Act, Log, Told, World, always, in_turn, ms, secs, within};
use fallway::FailureKind::{InvalidRequest, Overloaded, ServerError, Timeout};
use fallway::Profile;
use fallway::decision::{Hedged, Reason, Unhedged};
use fallway::event::{Event, Observer, Outcome};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, policy_fn, round_robin};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn whoever_begins_first_answers_and_the_other_is_gone() {
    let scene = Scene::new(Act::Hang, Act::Answer(ms(30)), Act::Hang);
    let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, options()).unwrap());
    assert_eq!((answer.backend(), took), (Some("b"), AFTER + ms(30)));
    let [loser, winner] = answer.attempts() else { panic!("{:?}", answer.attempts()) };
    assert_eq!((loser.name(), loser.number(), loser.is_hedge(), loser.is_outrun()), ("a", 1, false, true));
    assert_eq!((loser.elapsed(), loser.failure()), (AFTER + ms(30), None));
    assert_eq!((winner.name(), winner.number(), winner.is_hedge(), winner.is_outrun()), ("b", 2, true, false));
    assert_eq!(winner.elapsed(), ms(30));
    let text = answer.decision().to_string();
    assert!(text.contains("attempt 2, a hedge beside attempt 1 at a, paid by the retry budget"), "{text}");
    assert!(text.contains("+ 130.0 ms: outrun, "), "{text}");
    assert!(text.contains("+  30.0 ms: a hedge, answered, "), "{text}");
    assert!(text.contains("a, rejected: asked already (attempt 1)"), "{text}");
    assert!(scene.router.replay(answer.decision()).same_choice(answer.decision()));
    let json = serde_json::to_value(answer.decision()).unwrap();
    assert_eq!((&json["beside"], &json["attempts"][0]["outrun"]), (&1.into(), &true.into()));
    drop(answer);
    assert_eq!(scene.calls(), [1, 1, 0]);
    // What ran for longer than it should is no failure; nobody is blamed.
    assert_eq!(scene.log.count(|told| matches!(told, Told::Outrun { backend } if backend == "a")), 1);
    assert_eq!(scene.log.count(|told| matches!(told, Told::Failed { .. } | Told::Left { .. })), 0);
    let hedges = |told: &Told| matches!(told, Told::Started { backend, attempt: 2, hedge: true } if backend == "b");
    assert_eq!(scene.log.count(hedges), 1);
}

#[test]
fn a_hedge_that_is_slower_costs_nothing_but_itself() {
    let scene = Scene::new(Act::Answer(ms(150)), Act::Answer(ms(80)), Act::Hang);
    let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, options()).unwrap());
    assert_eq!((answer.backend(), took), (Some("a"), ms(150)));
    let [loser, winner] = answer.attempts() else { panic!("{:?}", answer.attempts()) };
    assert!((loser.name(), loser.is_hedge(), loser.is_outrun()) == ("b", true, true) && loser.elapsed() == ms(50));
    assert_eq!((winner.name(), winner.number(), winner.is_hedge()), ("a", 1, false));
    let text = answer.decision().to_string();
    assert!(text.contains("-> a (") && text.contains("\n  hedged after 100.0 ms"), "{text}");
    assert!(matches!(answer.decision().hedged(), Hedged::Sent { .. }) && answer.decision().beside().is_none());
    drop(answer);
    assert_eq!(scene.calls(), [1, 1, 0]);
}

#[test]
fn what_begins_in_time_is_not_hedged() {
    let scene = Scene::new(Act::Answer(ms(99)), Act::Hang, Act::Hang);
    let answer = scene.world.call(&scene.router, options()).unwrap();
    assert!(matches!(answer.decision().hedged(), Hedged::Due { .. }));
    assert!(answer.decision().to_string().contains("hedged if nothing begins within 100.0 ms"));
    drop(answer);
    assert_eq!(scene.calls(), [1, 0, 0]);
}

#[test]
fn where_one_fails_the_other_goes_on_alone() {
    // The first, at 120 ms; the hedge, at 110 ms; both before the other answers.
    for (first, second, winner, at) in [
        (Act::Fail(ServerError, ms(120)), Act::Answer(ms(90)), "b", AFTER + ms(90)),
        (Act::Answer(ms(170)), Act::Fail(ServerError, ms(10)), "a", ms(170)),
        (Act::Panic(ms(120)), Act::Answer(ms(90)), "b", AFTER + ms(90)),
        (Act::Answer(ms(170)), Act::Panic(ms(10)), "a", ms(170)),
        (Act::Answer(ms(170)), Act::PanicInCall, "a", ms(170)),
        (Act::Answer(ms(170)), Act::PanicInDrop, "a", ms(170)),
        (Act::PanicInDrop, Act::Answer(ms(90)), "b", AFTER + ms(90)),
    ] {
        let what = format!("{first:?} and {second:?}");
        let scene = Scene::new(first, second, Act::Hang);
        let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, options()).unwrap());
        assert_eq!((answer.backend(), took), (Some(winner), at), "{what}");
        assert_eq!(answer.attempts().len(), 2, "{what}");
        drop(answer);
        assert_eq!(scene.calls(), [1, 1, 0], "{what}");
    }
}

#[test]
fn where_both_fail_the_request_goes_on_with_what_is_left() {
    for (first, second) in [(120, 60), (180, 40)] {
        let scene =
            Scene::new(Act::Fail(ServerError, ms(first)), Act::Fail(Overloaded, ms(second)), Act::Answer(ms(5)));
        let answer = scene.world.call(&scene.router, options()).unwrap();
        let attempts: Vec<_> = answer.attempts().iter().map(|it| (it.name(), it.number(), it.is_hedge())).collect();
        let (mut a, mut b) = (("a", 1, false), ("b", 2, true));
        if first > 100 + second {
            std::mem::swap(&mut a, &mut b);
        }
        assert_eq!(attempts, [a, b, ("c", 3, false)]);
        drop(answer);
        assert_eq!(scene.calls(), [1, 1, 1]);
    }
    // Both count: the third was the last.
    let fails = |after| Act::Fail(ServerError, ms(after));
    let scene = Scene::new(fails(120), fails(60), fails(5));
    let error = scene.world.call(&scene.router, options()).unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::AttemptsExhausted, 3));
    let scene = Scene::new(fails(190), Act::Fail(InvalidRequest, ms(95)), Act::Answer(ms(5)));
    let error = scene.world.call(&scene.router, options()).unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::NotRetryable, 2));
    assert_eq!(scene.calls(), [1, 1, 0]);
}

#[test]
fn who_is_outrun_all_the_time_is_compared_with_its_peers() {
    let (world, log, inner) = (World::new(), Log::default(), round_robin());
    let policy = policy_fn("hedged", move |cx, slate| {
        slate.hedge(half());
        inner.plan(cx, slate);
    });
    let ejection = Ejection::default().slower_than_peers(Ejection::LATENCY_FACTOR);
    let builder = world.router(policy.fail_safe(FailSafe::default())).ejection(ejection).observer(log.clone());
    let member = |id: &str| Profile::new(id).model("m").region("eu");
    // It never fails, and nobody sees how long it would take.
    let hangs = in_turn(std::iter::repeat_n(Act::Answer(ms(20)), 20).chain([Act::Hang]));
    let well = ["b", "c", "d", "e"].map(|id| (member(id), always(Act::Answer(ms(20)))));
    let [b, c, d, e] = well;
    let (router, _) = world.fleet(builder, [(member("a"), hangs), b, c, d, e]);
    (0..300).for_each(|_| drop(world.call(&router, options()).unwrap()));
    let left =
        |told: &Told| matches!(told, Told::Left { backend, why: Reason::SlowerThanPeers { .. } } if backend == "a");
    assert_eq!(log.count(left), log.count(|told| matches!(told, Told::Left { .. })));
    assert!(log.count(left) > 0);
}

/// Counts the failures that count, and those that do not.
#[derive(Clone, Debug, Default)]
struct Blames(Arc<[AtomicU32; 2]>);

impl Observer for Blames {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Ended { outcome: Outcome::Failure(_), excused, .. } = event {
            self.0[usize::from(*excused)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn two_that_a_hurried_caller_gave_up_are_not_to_blame() {
    let (world, blames) = (World::new(), Blames::default());
    let slow = || Act::Answer(ms(500));
    let members = [(Profile::new("a"), third(slow())), (Profile::new("b"), always(slow()))];
    let (router, _) = world.fleet(world.router(hedged(half())).observer(blames.clone()), members);
    (0..2).for_each(|_| drop(world.call(&router, options()).unwrap()));
    // Nothing is usual where everything took no time.
    router.update(|fleet| fleet.remove("a")).unwrap();
    router.update(|fleet| fleet.add(Profile::new("c"), world.backend("c", always(slow())))).unwrap();
    let error = world.call(&router, within(ms(150))).unwrap_err();
    assert_eq!(error.attempts().len(), 2);
    let [blamed, excused] = &*blames.0;
    assert_eq!((blamed.load(Ordering::Relaxed), excused.load(Ordering::Relaxed)), (0, 2));
}

#[test]
fn one_deadline_ends_both() {
    let scene = Scene::new(Act::Hang, Act::Hang, Act::Hang);
    let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, within(secs(2))));
    let error = answer.unwrap_err();
    assert!(took <= secs(2) && took > secs(1), "{took:?}");
    assert!(error.attempts().iter().all(|attempt| attempt.failure() == Some(Timeout)), "{error:?}");
    let seen = [&scene.backends[0].seen()[2], &scene.backends[1].seen()[0]];
    assert_eq!(seen[0].deadline, seen[1].deadline);
    assert_eq!((seen[0].request_id, seen[0].number, seen[1].number), (seen[1].request_id, 1, 2));
    assert!(seen[1].at + seen[1].time_limit <= seen[1].deadline);
    assert_eq!(scene.calls()[..2], [1, 1]);
}

#[test]
fn a_request_is_hedged_once() {
    // The retry is slow as well.
    let scene = Scene::new(Act::Fail(ServerError, ms(120)), Act::Fail(ServerError, ms(60)), Act::Answer(ms(400)));
    let answer = scene.world.call(&scene.router, options()).unwrap();
    assert_eq!(answer.backend(), Some("c"));
    assert_eq!(answer.decision().hedged(), Hedged::Withheld { why: Unhedged::HedgedBefore });
}

#[test]
fn what_it_took_at_least_is_remembered_of_who_was_outrun() {
    let scene = Scene::new(Act::Hang, Act::Answer(ms(900)), Act::Hang);
    let known = || {
        let decision = scene.router.explain(&options());
        decision.candidates().map(|candidate| candidate.latency().unwrap()).collect::<Vec<_>>()
    };
    let before = known();
    drop(scene.world.call(&scene.router, options()).unwrap());
    let after = known();
    assert_eq!((before[0].samples, after[0].samples, after[1].samples), (2, 3, 1));
    assert!(before[0].peak < 1_000_000 && after[0].peak == 1_000_000_000, "{after:?}");
    // It was faster before, and may be again: what is usual of it is what it answered.
    assert!(after[0].usual < 1_000_000, "{after:?}");
}
