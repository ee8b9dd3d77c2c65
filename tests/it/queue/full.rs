//! The bounds of the queue: length, wait, and the time that a request has.

use super::fleet;
use crate::support::{ANSWER, Act, Log, Task, TestRouter, Told, World, always, in_turn, ms, secs, within};
use fallway::FailureKind::{RateLimited, ServerError};
use fallway::decision::{Next, Refusal};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Facts, Profile};
use std::time::Duration;

fn level(priority: Priority) -> CallOptions {
    CallOptions::within(secs(10)).facts(Facts::any().priority(priority).replay_safe())
}

/// One slot that is taken for good, so many places, a longest wait.
fn blocked(world: &World, places: usize, longest: Duration) -> (TestRouter, Log) {
    let log = Log::default();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let builder = builder.queue(places).longest_wait(longest);
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Hang))]);
    drop(world.ask(&router, within(secs(60))));
    world.settle();
    (router, log)
}

fn refusals(log: &Log) -> Vec<Refusal> {
    let refused = |(_, told)| match told {
        Told::Refused { why } => Some(why),
        _ => None,
    };
    log.told().into_iter().filter_map(refused).collect()
}

#[test]
fn a_critical_request_pushes_out_the_newest_batch_at_once() {
    let world = World::new();
    let (router, log) = blocked(&world, 3, secs(60));
    let batch = [(); 3].map(|()| {
        world.run_for(ms(1));
        world.ask(&router, level(Priority::Batch))
    });
    world.settle();
    let critical = world.ask(&router, level(Priority::Critical));
    world.settle();
    // Without a moment's delay, and told.
    assert_eq!(batch.each_ref().map(Task::is_done), [false, false, true]);
    assert_eq!((refusals(&log), router.waiting()), (vec![Refusal::Shed], 3));
    let [.., newest] = batch;
    assert_eq!(newest.take().refused, Some(RouteErrorKind::Shed));
    // Batch does not push out batch.
    drop(world.ask(&router, level(Priority::Batch)));
    world.settle();
    assert_eq!(refusals(&log)[1..], [Refusal::QueueFull]);
    assert!(!critical.is_done());
}

#[test]
fn a_crowd_of_one_tenant_leaves_places_for_others() {
    let world = World::new();
    let (router, log) = blocked(&world, 10, secs(60));
    let of = |tenant: &str| CallOptions::within(secs(10)).facts(Facts::any().tenant(tenant).replay_safe());
    let crowd: Vec<_> = (0..15).map(|_| world.ask(&router, of("crowd"))).collect();
    world.settle();
    let others: Vec<_> = (0..6).map(|_| world.ask(&router, of("other"))).collect();
    world.settle();
    let waits = |calls: &[Task<_>]| calls.iter().filter(|call| !call.is_done()).count();
    assert_eq!((waits(&crowd), waits(&others)), (5, 5));
    let shed = refusals(&log).iter().filter(|why| **why == Refusal::Shed).count();
    assert_eq!((shed, refusals(&log).len()), (5, 11));
}

#[test]
fn nobody_waits_longer_than_the_longest_wait() {
    let world = World::new();
    let (router, log) = blocked(&world, 10, ms(700));
    let start = world.now();
    let waits = world.spawn_call(&router, within(secs(10)));
    let hurried = world.ask(&router, within(ms(300)));
    world.run_for(ms(699));
    assert!(!waits.is_done() && hurried.is_done());
    world.run_for(ms(1));
    let error = waits.take().unwrap_err();
    assert_eq!((error.kind(), world.now() - start), (RouteErrorKind::WaitedTooLong, ms(700)));
    assert!(error.to_string().contains("it waited for 700.0 ms, the longest wait"), "{error}");
    let waited = u64::try_from(ms(700).as_nanos()).unwrap();
    assert_eq!(refusals(&log), [Refusal::DeadlineExceeded, Refusal::WaitedTooLong { waited }]);
    assert_eq!(router.waiting(), 0);
}

#[test]
fn who_would_start_too_late_is_told_at_entry() {
    // A slot of 20 ms; a hundred that have one second, so that half of them can not be served.
    let world = World::new();
    let (router, _) = fleet(&world, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let crowd: Vec<_> = (0..100).map(|_| world.ask(&router, within(secs(1)))).collect();
    let start = world.now();
    // Nothing is known of the pace yet: nobody is refused.
    world.run_for(ms(90));
    let early = world.ask(&router, within(ms(910)));
    world.settle();
    assert!(!early.is_done());
    world.run_for(ms(115));
    // One who has as much time as the crowd, but for 5 ms.
    let late = world.spawn_call(&router, within(ms(800)));
    world.settle();
    let error = late.take().unwrap_err();
    let Next::Refuse { why: Refusal::TooLate { ahead, start: predicted } } = error.decision().next() else {
        panic!("{error}")
    };
    assert_eq!((ahead, predicted - start, error.kind()), (90, ms(1_020), RouteErrorKind::TooLate));
    assert!(
        error.to_string().contains("it would start in 815.0 ms, behind 90 of its tenant, and has 800.0 ms"),
        "{error}"
    );
    // Who is in more of a hurry than the crowd is served first, and who has more time when the crowd has gone.
    let hurried = world.ask(&router, within(ms(100)));
    let patient = world.ask(&router, within(secs(2)));
    world.run();
    assert!(hurried.take().ok());
    let patient = patient.take();
    assert!(patient.ok() && patient.ended() - start <= ms(1_045), "{:?}", patient.ended() - start);
    drop((crowd, early));
}

#[test]
fn who_has_another_chance_is_not_refused_for_being_late() {
    // A line of a hundred at `a`, of 20 ms each. `b` said at its first call that it is back in a second.
    for (other, hint) in [(true, secs(1)), (true, secs(10)), (false, secs(1))] {
        let world = World::new();
        let config = FailSafe::default().tiers("chat", ["b", "a"]);
        let script = in_turn([Act::Hint(RateLimited, ms(1), hint), ANSWER]);
        let members =
            [(Profile::new("a").model("a").concurrency(1), always(ANSWER)), (Profile::new("b").model("b"), script)];
        let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
        let model = |name: &str, time| CallOptions::within(time).facts(Facts::model(name).replay_safe());
        drop(world.ask(&router, model("b", ms(100))));
        world.run_for(ms(100));
        let crowd: Vec<_> = (0..100).map(|_| world.ask(&router, model("a", secs(2)))).collect();
        world.run_for(ms(205));
        let late = world.ask(&router, model(if other { "chat" } else { "a" }, ms(1_800)));
        world.settle();
        let refused = late.is_done();
        assert_eq!(refused, !other || hint > secs(2), "{other} {hint:?}");
        if refused {
            assert_eq!(late.take().refused, Some(RouteErrorKind::TooLate));
        } else {
            world.run();
            assert!(late.take().ok());
        }
        drop(crowd);
    }
}

#[test]
fn who_waits_for_a_probe_is_not_refused_for_being_late() {
    // A line of 110 at `a`, of 20 ms each, and `b` may be back as soon as its probe is.
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["b", "a"]);
    let script = in_turn([Act::Hint(RateLimited, ms(1), secs(1)), Act::Answer(ms(500)), ANSWER]);
    let members =
        [(Profile::new("a").model("a").concurrency(1), always(ANSWER)), (Profile::new("b").model("b"), script)];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let model = |name: &str, time| CallOptions::within(time).facts(Facts::model(name).replay_safe());
    drop(world.ask(&router, model("b", ms(100))));
    world.run_for(secs(2));
    let probe = world.ask(&router, model("b", secs(5)));
    world.settle();
    let crowd: Vec<_> = (0..110).map(|_| world.ask(&router, model("chat", secs(2)))).collect();
    world.run_for(ms(205));
    let late = world.ask(&router, model("chat", ms(1_800)));
    world.run();
    assert!(probe.take().ok() && late.take().ok() && crowd.into_iter().all(|call| call.take().ok()));
}

#[test]
fn a_retry_is_not_refused_for_being_late() {
    // It fails on `b`, and the line at `a` is longer than its time: it waits all the same, somebody may leave.
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["b", "a"]);
    let members = [
        (Profile::new("a").model("a").concurrency(1), always(ANSWER)),
        (Profile::new("b").model("b"), always(Act::Fail(ServerError, ms(1)))),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let model = |name: &str, time| CallOptions::within(time).facts(Facts::model(name).replay_safe());
    let crowd: Vec<_> = (0..100).map(|_| world.ask(&router, model("a", secs(2)))).collect();
    world.run_for(ms(205));
    let [late, retry] = ["a", "chat"].map(|name| world.ask(&router, model(name, ms(1_800))));
    world.run_for(ms(50));
    assert_eq!((late.take().refused, retry.is_done()), (Some(RouteErrorKind::TooLate), false));
    drop((crowd, retry));
}

#[test]
fn in_an_overload_the_infeasible_do_not_wait_for_their_end() {
    // Twice of what one slot of 20 ms can serve, for 20 s; every request has one second.
    let (world, log) = (World::new(), Log::default());
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let mut calls = Vec::new();
    for _ in 0..2_000 {
        calls.push(world.ask(&router, within(secs(1))));
        world.run_for(ms(10));
    }
    world.run();
    let answers: Vec<_> = calls.into_iter().map(Task::take).collect();
    let count = |kind| answers.iter().filter(|answer| answer.refused == kind).count();
    let (ok, late, expired) =
        (count(None), count(Some(RouteErrorKind::TooLate)), count(Some(RouteErrorKind::DeadlineExceeded)));
    // The slot is never idle, hardly any answer is cut by its deadline, and the others know at once.
    assert!(ok >= 990 && late >= 900 && expired <= 60, "{ok} answered, {late} refused at entry, {expired} expired");
    let slow = answers.iter().filter(|answer| answer.refused == Some(RouteErrorKind::TooLate));
    assert_eq!(slow.map(|answer| answer.took).max(), Some(Duration::ZERO));
}

#[test]
fn nobody_is_refused_at_entry_while_there_is_time_for_all() {
    // Bursts of forty every second at a slot of 20 ms: 0.8 of it is used, and the last of each waits for 0.8 s.
    let world = World::new();
    let (router, _) = fleet(&world, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.extend((0..40).map(|_| world.ask(&router, within(ms(850)))));
        world.run_for(secs(1));
    }
    world.run();
    assert!(calls.into_iter().map(Task::take).all(|answer| answer.ok()));
}
