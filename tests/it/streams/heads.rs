//! Backends that declare a stream: what its head alone says, and what its end does.

use crate::support::{
    Act, Log, Reply, Script, Scripted, Step, TestRouter, Told, World, always, fail, in_turn, ms, scripted_panic, secs,
    within,
};
use fallway::FailureKind::{Overloaded, Panicked, Stalled, Timeout, Truncated};
use fallway::Profile;
use fallway::backend::BackendExt;
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::Routed;
use futures::StreamExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

fn stream(steps: impl IntoIterator<Item = Step>) -> Act {
    Act::Stream(ms(10), steps.into_iter().collect())
}

/// A world with one backend that declares to stream.
fn streaming(script: Script) -> (World, TestRouter, Scripted, Log) {
    let (world, log) = (World::new(), Log::default());
    let backend = world.backend("a", script);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let router = builder.backend(Profile::new("a"), backend.clone().streaming()).build().unwrap();
    (world, router, backend, log)
}

/// The same where the backend was overloaded once and may be probed now.
fn half_open() -> (World, TestRouter, Scripted, Log) {
    let parts = streaming(in_turn([fail(Overloaded), stream([Step::Item])]));
    assert!(parts.0.call(&parts.1, within(ms(1))).is_err());
    parts.0.run_for(secs(20));
    assert_eq!(note(&parts.1), Some(Reason::Probe));
    parts
}

/// What stands beside the backend.
fn note(router: &TestRouter) -> Option<Reason> {
    router.explain(&within(secs(5))).candidates().next().unwrap().note()
}

/// How the attempts ended that did not fail before they answered.
fn ends(log: &Log) -> Vec<Told> {
    let end = |told: &Told| match told {
        Told::Succeeded { .. } | Told::Cancelled { .. } => true,
        Told::Failed { kind, .. } => *kind != Overloaded,
        _ => false,
    };
    log.told().into_iter().map(|(_, told)| told).filter(end).collect()
}

/// Reads to the end; the error, if there was one.
fn read(world: &World, mut routed: Routed<Reply>) -> (Routed<Reply>, Option<fallway::FailureKind>) {
    world.block_on(async move {
        let mut error = None;
        while let Some(item) = routed.next().await {
            error = item.err().map(|interrupted| interrupted.kind());
        }
        (routed, error)
    })
}

#[test]
fn a_head_whose_stream_nobody_reads_says_nothing() {
    let (world, router, a, log) = half_open();
    for n in 1..=3 {
        drop(world.call(&router, within(secs(5))).unwrap());
        assert!(matches!(ends(&log)[..], [.., Told::Cancelled { .. }]) && ends(&log).len() == n);
        // No probe succeeded by it, and none is out any more.
        assert_eq!((note(&router), router.total_in_flight()), (Some(Reason::Probe), 0));
    }
    assert_eq!(log.count(|told| matches!(told, Told::Returned { .. } | Told::FirstItem { .. })), 0);
    let routed = world.call(&router, within(secs(5))).unwrap();
    assert_eq!(read(&world, routed).1, None);
    assert_eq!((log.count(|told| matches!(told, Told::Returned { .. })), a.calls()), (1, 5));
}

#[test]
fn the_first_item_is_told_when_it_is_there() {
    for (declared, expected) in [(true, secs(5)), (false, ms(10))] {
        let (world, log) = (World::new(), Log::default());
        let backend = world.backend("a", always(stream([Step::Pause(ms(4990)), Step::Item, Step::Item])));
        let builder = world.router(ordered()).observer(log.clone());
        let builder = match declared {
            true => builder.backend(Profile::new("a"), backend.streaming()),
            false => builder.backend(Profile::new("a"), backend),
        };
        let router = builder.build().unwrap();
        let routed = world.call(&router, within(secs(60))).unwrap();
        read(&world, routed);
        let first = |(_, told)| match told {
            Told::FirstItem { elapsed, .. } => Some(elapsed),
            _ => None,
        };
        let firsts: Vec<Duration> = log.told().into_iter().filter_map(first).collect();
        assert_eq!(firsts, [expected], "declared: {declared}");
    }
}

#[test]
fn wrapped_backends_stream_as_before() {
    let (world, log) = (World::new(), Log::default());
    let backend = || world.backend("a", always(stream([Step::Item]))).streaming();
    let boxed: Box<dyn fallway::Backend<str, Response = Reply>> = Box::new(backend());
    let builder = world
        .router(fallway::policy::round_robin())
        .observer(log.clone())
        .backend(Profile::new("arc"), Arc::new(backend()))
        .backend(Profile::new("box"), boxed)
        .backend(Profile::new("map"), backend().map_response(|reply| reply));
    let router = builder.build().unwrap();
    for _ in 0..3 {
        drop(world.call(&router, within(secs(5))).unwrap());
    }
    assert_eq!(log.count(|told| matches!(told, Told::Cancelled { .. })), 3);
}

#[test]
fn the_decision_tells_how_a_stream_was_interrupted() {
    for (last, kind, after) in [
        (Step::Break(Truncated), Truncated, ms(10)),
        (Step::Panic, Panicked, ms(10)),
        (Step::Hang, Stalled, ms(210)),
        (Step::Pause(ms(150)), Timeout, ms(1000)),
    ] {
        let steps = std::iter::once(Step::Item).chain(std::iter::repeat_n([last, Step::Item], 20).flatten());
        let (world, router, ..) = streaming(always(stream(steps)));
        let routed = world.call(&router, within(secs(1)).idle_limit(ms(200))).unwrap();
        assert_eq!(routed.attempts()[0].failure(), None);
        let (routed, error) = read(&world, routed);
        let [attempt] = routed.decision().attempts() else { panic!("{:?}", routed.attempts()) };
        assert_eq!((error, attempt.failure(), attempt.elapsed()), (Some(kind), Some(kind), after));
        assert!(routed.decision().to_string().contains(&format!("failed with {kind}")), "{}", routed.decision());
    }
}

#[test]
fn who_takes_the_answer_out_is_content_with_it() {
    let takes: [fn(Routed<Reply>); 2] = [|routed| drop(routed.into_inner()), |routed| drop(routed.into_parts())];
    for take in takes {
        let (world, router, _, log) = half_open();
        take(world.call(&router, within(secs(5))).unwrap());
        assert!(matches!(ends(&log)[..], [Told::Succeeded { .. }]), "{:?}", ends(&log));
        assert_eq!(log.count(|told| matches!(told, Told::Returned { .. })), 1);
        assert_eq!((note(&router), router.total_in_flight()), (Some(Reason::RampingUp { share: 100 }), 0));
    }
}

#[test]
fn a_caller_that_panics_over_an_answer_counts_as_a_failure() {
    for (declared, act) in [(false, Act::Answer(ms(10))), (false, stream([Step::Item])), (true, stream([Step::Item]))] {
        let (world, log) = (World::new(), Log::default());
        let backend = world.backend("a", always(act));
        let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
        let builder = match declared {
            true => builder.backend(Profile::new("a"), backend.streaming()),
            false => builder.backend(Profile::new("a"), backend),
        };
        let router = builder.build().unwrap();
        for n in 1..=5 {
            let routed = world.call(&router, within(secs(5))).unwrap();
            let panic = catch_unwind(AssertUnwindSafe(move || {
                let _held = routed;
                scripted_panic()
            }));
            assert!(panic.is_err());
            let ends = ends(&log);
            assert!(matches!(ends[n - 1], Told::Failed { kind: Panicked, .. }) && ends.len() == n, "{ends:?}");
        }
        // Five in a row eject.
        let left = log.count(|told| matches!(told, Told::Left { why: Reason::Ejected { failures: 5, .. }, .. }));
        assert_eq!((left, router.total_in_flight()), (1, 0));
    }
}
