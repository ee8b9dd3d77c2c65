//! Streamed answers: before the commit, after it, where another goes on, and what health learns of them.

mod before;
mod clocks;
mod random;
mod resume;

use crate::support::{
    Act, Log, Reply, Step, Token, Told, VirtualTimer, World, always, in_turn, ms, scripted_panic, secs, within,
};
use fallway::FailureKind::{self, Overloaded, Panicked, Protocol, ServerError, Stalled, Truncated};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Delivered, Interrupted, Streamed, TooLarge};
use fallway::time::Timer;
use fallway::{CallOptions, Profile};
use futures::StreamExt;
use futures::stream::FusedStream;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const ITEM: Step = Step::Item;

fn stream(steps: impl IntoIterator<Item = Step>) -> Act {
    Act::Stream(ms(10), steps.into_iter().collect())
}

/// What a reader got: the content, the error with what it says was delivered, and the time from the commit to the end.
#[derive(Debug, PartialEq)]
struct Read {
    items: Vec<u32>,
    error: Option<(FailureKind, Delivered)>,
    took: Duration,
}

const fn delivered(items: u64, content: u64) -> Delivered {
    Delivered { items, content }
}

/// Reads a stream to its end. The reader takes `pause` after each item.
async fn read(stream: &mut Streamed<str, Reply>, timer: &VirtualTimer, pause: Duration) -> Read {
    let (start, mut items, mut all, mut error) = (timer.now(), Vec::new(), 0, None);
    while let Some(item) = stream.next().await {
        assert_eq!(error, None, "something follows the error");
        match item {
            Ok(Token::Number(number)) => items.push(number),
            Ok(_) => {}
            Err(interrupted) => error = Some((interrupted.kind(), interrupted.delivered())),
        }
        all += u64::from(error.is_none());
        assert_eq!(stream.delivered().items, all);
        timer.sleep(pause).await;
    }
    // Nothing follows the end, and it says so.
    assert!(stream.is_terminated() && stream.next().await.is_none());
    Read { items, error, took: timer.now() - start }
}

/// One request to one backend with this act, read to its end; and what the observer was told at last.
fn reads(act: Act, options: CallOptions, pause: Duration) -> (Read, Told) {
    let (world, log) = (World::new(), Log::default());
    let (router, [a]) = world.fleet(world.router(ordered()).observer(log.clone()), [(Profile::new("a"), always(act))]);
    let (caller, timer) = (router.clone(), world.timer().clone());
    let read = world.block_on(async move {
        let mut stream = caller.stream("ask", options).await.unwrap();
        read(&mut stream, &timer, pause).await
    });
    assert_eq!((router.total_in_flight(), a.backstage().in_flight()), (0, 0));
    assert_eq!(world.timer().next_wake(), None);
    let mut ends = ends(&log);
    assert_eq!(ends.len(), 1, "{ends:?}");
    (read, ends.remove(0))
}

/// How the attempts ended.
fn ends(log: &Log) -> Vec<Told> {
    let ends = |told: &Told| matches!(told, Told::Succeeded { .. } | Told::Failed { .. } | Told::Cancelled { .. });
    log.told().into_iter().map(|(_, told)| told).filter(ends).collect()
}

fn kind_of(told: &Told) -> Option<FailureKind> {
    match told {
        Told::Failed { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[test]
fn a_whole_stream_is_a_success() {
    let (read, end) = reads(stream([ITEM, Step::Pause(ms(5)), ITEM, ITEM]), within(secs(5)), ms(0));
    assert_eq!(read, Read { items: vec![1, 2, 3], error: None, took: ms(5) });
    assert!(matches!(end, Told::Succeeded { .. }), "{end:?}");
}

#[test]
fn a_break_is_typed_and_says_what_was_delivered() {
    for kind in [Truncated, Protocol, ServerError, Overloaded] {
        for content in [1, 2, 7] {
            // A role before the content counts as an item.
            let steps = std::iter::repeat_n(ITEM, content).chain([Step::Break(kind), ITEM]);
            let (read, end) = reads(stream([Step::Role].into_iter().chain(steps)), within(secs(5)), ms(0));
            let delivered = delivered(content as u64 + 1, content as u64);
            assert_eq!((read.items.len(), read.error), (content, Some((kind, delivered))));
            assert_eq!(kind_of(&end), Some(kind));
        }
    }
}

#[test]
fn an_end_without_the_last_item_is_a_cut() {
    let (read, end) = reads(stream([ITEM, ITEM, Step::Close]), within(secs(5)), ms(0));
    assert_eq!((read.items, read.error), (vec![1, 2], Some((Truncated, delivered(2, 2)))));
    assert_eq!(kind_of(&end), Some(Truncated));
}

#[test]
fn what_is_complete_is_over_at_once() {
    // The backend's stream would go on for ever; nobody waits for it after the last item.
    let (world, log) = (World::new(), Log::default());
    let members = [(Profile::new("a"), always(stream([ITEM])))];
    let (router, [a]) = world.fleet(world.router(ordered()).observer(log.clone()), members);
    let mut stream = world.stream(&router, within(secs(5))).unwrap();
    let last = world.block_on(async move {
        assert_eq!(stream.next().await.unwrap().unwrap(), Token::Number(1));
        assert_eq!(stream.next().await.unwrap().unwrap(), Token::Done);
        stream
    });
    // Held by its caller, it holds nothing any more.
    assert_eq!((router.total_in_flight(), a.backstage().in_flight()), (0, 0));
    assert!(matches!(ends(&log)[..], [Told::Succeeded { .. }]));
    drop(last);
    assert_eq!(ends(&log).len(), 1);
}

#[test]
fn a_panic_in_a_stream_is_contained() {
    let (read, end) = reads(stream([ITEM, Step::Panic, ITEM]), within(secs(5)), ms(0));
    assert_eq!((read.items, read.error), (vec![1], Some((Panicked, delivered(1, 1)))));
    assert_eq!(kind_of(&end), Some(Panicked));
}

#[test]
fn an_item_that_is_too_large_is_a_named_error() {
    for (bytes, fits) in [(100, true), (101, false)] {
        let world = World::new();
        let builder = world.router(ordered()).largest_item(100);
        let (router, _) = world.fleet(builder, [(Profile::new("a"), always(stream([ITEM, Step::Large(bytes)])))]);
        let mut stream = world.stream(&router, within(secs(5))).unwrap();
        let second = world.block_on(async move {
            stream.next().await.unwrap().unwrap();
            stream.next().await.unwrap()
        });
        if fits {
            assert_eq!(second.unwrap(), Token::Large(100));
        } else {
            let error = second.unwrap_err();
            let too_large = error.backend_error().source().and_then(|source| source.downcast_ref::<TooLarge>());
            assert_eq!((error.kind(), too_large), (Protocol, Some(&TooLarge { bytes: 101, limit: 100 })));
            assert_eq!(too_large.unwrap().to_string(), "101 bytes in a stream, 100 are taken at once");
        }
    }
}

#[test]
fn an_interruption_shows_its_cause() {
    let world = World::new();
    let (router, _) =
        world.fleet(world.router(ordered()), [(Profile::new("a"), always(stream([ITEM, Step::Break(Truncated)])))]);
    let mut stream = world.stream(&router, within(secs(5))).unwrap();
    let error: Interrupted = world.block_on(async move {
        loop {
            if let Some(Err(error)) = stream.next().await {
                return error;
            }
        }
    });
    assert_eq!(error.to_string(), "the stream broke after 1 items with a content of 1: truncated");
    assert_eq!(
        (error.source().map(ToString::to_string), error.backend_error().kind(), error.not_resumed().is_none()),
        (Some("truncated".into()), Truncated, true)
    );
}

#[test]
fn truncations_stalls_and_panics_reach_health() {
    let cases = [(Step::Break(Truncated), Truncated), (Step::Close, Truncated), (Step::Hang, Stalled)];
    for (last, kind) in cases.into_iter().chain([(Step::Panic, Panicked)]) {
        let (world, log) = (World::new(), Log::default());
        let members = [(Profile::new("a"), always(stream([ITEM, last]))), (Profile::new("b"), always(stream([ITEM])))];
        let builder = world.router(ordered().fail_safe(FailSafe::default())).idle_limit(ms(200)).observer(log.clone());
        let (router, [a, b]) = world.fleet(builder, members);
        for _ in 0..10 {
            let (router, timer) = (router.clone(), world.timer().clone());
            world.block_on(async move {
                let mut stream = router.stream("ask", within(secs(60))).await.unwrap();
                read(&mut stream, &timer, ms(0)).await
            });
        }
        assert_eq!((a.calls(), b.calls()), (5, 5), "{kind}");
        assert_eq!(log.count(|told| matches!(told, Told::Failed { kind: seen, .. } if *seen == kind)), 5);
    }
}

#[test]
fn a_stream_that_is_dropped_midway_frees_its_slot_and_says_nothing() {
    for reads in 0..4 {
        let (world, log) = (World::new(), Log::default());
        let members = [(Profile::new("a").concurrency(1), always(stream(vec![ITEM; 9])))];
        let (router, [a]) = world.fleet(world.router(ordered()).observer(log.clone()), members);
        for _ in 0..20 {
            let router = router.clone();
            world.block_on(async move {
                let mut stream = router.stream("ask", within(secs(5))).await.unwrap();
                for _ in 0..reads {
                    stream.next().await.unwrap().unwrap();
                }
            });
        }
        assert_eq!((a.calls(), router.total_in_flight()), (20, 0));
        assert_eq!(log.count(|told| matches!(told, Told::Cancelled { .. })), 20);
    }
}

#[test]
fn after_the_first_content_nobody_starts_over() {
    let world = World::new();
    let members = [
        (Profile::new("a"), always(stream([ITEM, Step::Break(Overloaded)]))),
        (Profile::new("b"), always(stream([ITEM]))),
    ];
    let (router, [_, b]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (mut stream, timer) = (world.stream(&router, within(secs(5))).unwrap(), world.timer().clone());
    let (stream, read) = world.block_on(async move {
        let read = read(&mut stream, &timer, ms(0)).await;
        (stream, read)
    });
    assert_eq!((stream.backend(), stream.attempts().len(), b.calls()), (Some("a"), 1, 0));
    assert_eq!((read.items, read.error), (vec![1], Some((Overloaded, delivered(1, 1)))));
}

#[test]
fn the_decision_tells_how_a_stream_was_interrupted() {
    for (last, kind, after) in [
        (Step::Break(Truncated), Truncated, ms(10)),
        (Step::Panic, Panicked, ms(10)),
        (Step::Hang, Stalled, ms(210)),
        (Step::Pause(ms(150)), FailureKind::Timeout, ms(1000)),
    ] {
        let steps = std::iter::once(ITEM).chain(std::iter::repeat_n([last, ITEM], 20).flatten());
        let world = World::new();
        let builder = world.router(ordered().fail_safe(FailSafe::default()));
        let (router, _) = world.fleet(builder, [(Profile::new("a"), always(stream(steps)))]);
        let mut stream = world.stream(&router, within(secs(1)).idle_limit(ms(200))).unwrap();
        assert_eq!(stream.attempts()[0].failure(), None);
        let timer = world.timer().clone();
        let (stream, read) = world.block_on(async move {
            let read = read(&mut stream, &timer, ms(0)).await;
            (stream, read)
        });
        let [attempt] = stream.attempts() else { panic!("{:?}", stream.attempts()) };
        assert_eq!(read.error.map(|(kind, _)| kind), Some(kind));
        assert_eq!((attempt.failure(), attempt.elapsed()), (Some(kind), after));
        assert!(stream.decision().to_string().contains(&format!("failed with {kind}")), "{}", stream.decision());
    }
}

#[test]
fn a_caller_that_panics_over_an_answer_counts_as_a_failure() {
    for streams in [false, true] {
        let (world, log) = (World::new(), Log::default());
        let act = if streams { stream([ITEM, ITEM]) } else { Act::Answer(ms(10)) };
        let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
        let (router, _) = world.fleet(builder, [(Profile::new("a"), always(act))]);
        for n in 1..=5 {
            let panic = if streams {
                let held = world.stream(&router, within(secs(5))).unwrap();
                catch_unwind(AssertUnwindSafe(move || panic_over(held)))
            } else {
                let held = world.call(&router, within(secs(5))).unwrap();
                catch_unwind(AssertUnwindSafe(move || panic_over(held)))
            };
            assert!(panic.is_err());
            let ends = ends(&log);
            assert!(matches!(ends[n - 1], Told::Failed { kind: Panicked, .. }) && ends.len() == n, "{ends:?}");
        }
        // Five in a row eject.
        let left = log.count(|told| {
            matches!(told, Told::Left { why: fallway::decision::Reason::Ejected { failures: 5, .. }, .. })
        });
        assert_eq!((left, router.total_in_flight()), (1, 0));
    }
}

fn panic_over<T>(held: T) {
    let _held = held;
    scripted_panic()
}

#[test]
fn the_last_resort_may_stream_too() {
    let (world, log) = (World::new(), Log::default());
    let last = world.backend("last", in_turn([stream([Step::Role, ITEM]), stream([ITEM, Step::Hang])]));
    let builder =
        world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()).last_resort(last.clone());
    let (router, _) =
        world.fleet(builder, [(Profile::new("a"), always(stream([Step::Role, Step::Break(ServerError)])))]);
    for expected in [None, Some((Stalled, delivered(1, 1)))] {
        let (caller, timer) = (router.clone(), world.timer().clone());
        let read = world.block_on(async move {
            let mut stream = caller.stream("ask", within(secs(60)).idle_limit(ms(300))).await.unwrap();
            assert!(stream.is_degraded() && stream.backend().is_none());
            read(&mut stream, &timer, ms(0)).await
        });
        assert_eq!((read.items, read.error), (vec![1], expected));
        assert_eq!(last.backstage().in_flight(), 0);
    }
}

#[test]
fn streams_can_be_sent_to_other_threads() {
    fn sendable<T: Send>(_: &T) {}
    let world = World::new();
    let (router, _) = world.fleet(world.router(ordered()), [(Profile::new("a"), always(stream([ITEM])))]);
    sendable(&router.stream("ask", within(secs(5))));
    sendable(&world.stream(&router, within(secs(5))).unwrap());
}
