//! Streamed answers: commit, interruption, slow readers, deadlines, and what health learns of them.

mod heads;

use crate::support::{
    ANSWER, Act, Log, Reply, Script, Scripted, Step, Told, VirtualTimer, World, always, in_turn, ms, secs, within,
};
use fallway::FailureKind::{self, Overloaded, Panicked, Protocol, ServerError, Stalled, Timeout, Truncated};
use fallway::backend::{BackendError, BackendExt, Committed};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Interrupted, Routed};
use fallway::time::Timer;
use fallway::{CallOptions, Profile, RouteError, Router};
use futures::StreamExt;
use futures::stream::FusedStream;
use std::error::Error;
use std::time::Duration;

const ITEM: Step = Step::Item;

fn stream(steps: impl IntoIterator<Item = Step>) -> Act {
    Act::Stream(ms(10), steps.into_iter().collect())
}

/// What a reader got: the items, the error and the time from the call to the end.
#[derive(Debug, PartialEq)]
struct Read {
    items: Vec<u32>,
    error: Option<(FailureKind, u64)>,
    took: Duration,
}

/// Reads a stream to its end. The reader takes `pause` after each item.
async fn read<S>(stream: &mut Routed<S>, timer: VirtualTimer, pause: Duration) -> Read
where
    S: futures::Stream<Item = Result<u32, BackendError>> + Unpin,
{
    let (start, mut items, mut error) = (timer.now(), Vec::new(), None);
    while let Some(item) = stream.next().await {
        match item {
            Ok(item) => items.push(item),
            Err(interrupted) => error = Some((interrupted.kind(), interrupted.delivered())),
        }
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
        let mut routed = caller.call("ask", options).await.unwrap();
        read(&mut routed, timer, pause).await
    });
    assert_eq!((router.total_in_flight(), a.backstage().in_flight()), (0, 0));
    let ends = |told: &Told| matches!(told, Told::Succeeded { .. } | Told::Failed { .. } | Told::Cancelled { .. });
    let mut ends: Vec<_> = log.told().into_iter().map(|(_, told)| told).filter(ends).collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    (read, ends.remove(0))
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
        for delivered in [0, 1, 7] {
            let steps = std::iter::repeat_n(ITEM, delivered).chain([Step::Break(kind), ITEM]);
            let (read, end) = reads(stream(steps), within(secs(5)), ms(0));
            assert_eq!((read.items.len(), read.error), (delivered, Some((kind, delivered as u64))));
            assert_eq!(kind_of(&end), Some(kind));
        }
    }
}

#[test]
fn a_gap_beyond_the_idle_limit_is_a_stall() {
    let options = within(secs(60)).idle_limit(secs(2));
    let fits = [ITEM, Step::Pause(ms(1999)), ITEM];
    let (read, _) = reads(stream(fits), options.clone(), ms(0));
    assert_eq!((read.items.len(), read.error), (2, None));
    let (read, end) = reads(stream([ITEM, Step::Pause(ms(2001)), ITEM]), options, ms(0));
    assert_eq!(read, Read { items: vec![1], error: Some((Stalled, 1)), took: secs(2) });
    assert_eq!(kind_of(&end), Some(Stalled));
}

#[test]
fn the_idle_limit_of_the_router_holds_where_a_call_says_nothing() {
    let world = World::new();
    let (router, _) = world
        .fleet(world.router(ordered()).idle_limit(ms(300)), [(Profile::new("a"), always(stream([ITEM, Step::Hang])))]);
    let timer = world.timer().clone();
    let read = world.block_on(async move {
        let mut routed = router.call("ask", within(secs(60))).await.unwrap();
        read(&mut routed, timer, ms(0)).await
    });
    assert_eq!(read, Read { items: vec![1], error: Some((Stalled, 1)), took: ms(300) });
}

#[test]
fn a_slow_reader_is_no_stall() {
    let options = within(secs(600)).idle_limit(ms(100));
    let steps = (0..5).flat_map(|_| [ITEM, Step::Pause(ms(50))]);
    let (read, end) = reads(stream(steps), options, secs(10));
    assert_eq!((read.items.len(), read.error), (5, None));
    assert!(matches!(end, Told::Succeeded { .. }), "{end:?}");
}

#[test]
fn the_deadline_ends_a_stream_and_blames_nobody() {
    let drip = (0..100).flat_map(|_| [Step::Pause(ms(300)), ITEM]);
    let (read, end) = reads(stream(drip), within(secs(2)), ms(0));
    assert_eq!(read, Read { items: (1..=6).collect(), error: Some((Timeout, 6)), took: ms(1990) });
    assert!(matches!(end, Told::Cancelled { .. }), "{end:?}");
}

#[test]
fn the_deadline_ends_a_stream_that_never_pauses() {
    // Items are always ready, and the reader takes its time: the stream is never polled in vain.
    let (read, _) = reads(stream(vec![ITEM; 1000]), within(secs(2)), ms(100));
    assert!(read.took <= ms(2100), "{:?}, {} items, {:?}", read.took, read.items.len(), read.error);
}

#[test]
fn a_panic_in_a_stream_is_contained() {
    let (read, end) = reads(stream([ITEM, Step::Panic, ITEM]), within(secs(5)), ms(0));
    assert_eq!((read.items, read.error), (vec![1], Some((Panicked, 1))));
    assert_eq!(kind_of(&end), Some(Panicked));
}

#[test]
fn an_interruption_shows_its_cause() {
    let world = World::new();
    let (router, _) =
        world.fleet(world.router(ordered()), [(Profile::new("a"), always(stream([ITEM, Step::Break(Truncated)])))]);
    let error: Interrupted = world.block_on(async move {
        let mut routed = router.call("ask", within(secs(5))).await.unwrap();
        loop {
            if let Some(Err(error)) = routed.next().await {
                return error;
            }
        }
    });
    assert_eq!(error.to_string(), "the stream broke after 1 items: truncated");
    assert_eq!(
        (error.source().map(ToString::to_string), error.backend_error().kind()),
        (Some("truncated".into()), Truncated)
    );
}

#[test]
fn truncations_stalls_and_panics_reach_health() {
    for (last, kind) in [(Step::Break(Truncated), Truncated), (Step::Hang, Stalled), (Step::Panic, Panicked)] {
        let (world, log) = (World::new(), Log::default());
        let members = [(Profile::new("a"), always(stream([ITEM, last]))), (Profile::new("b"), always(stream([ITEM])))];
        let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
        let (router, [a, b]) = world.fleet(builder, members);
        for _ in 0..10 {
            let (router, timer) = (router.clone(), world.timer().clone());
            world.block_on(async move {
                let mut routed = router.call("ask", within(secs(60)).idle_limit(ms(200))).await.unwrap();
                read(&mut routed, timer, ms(0)).await
            });
        }
        assert_eq!((a.calls(), b.calls()), (5, 5), "{kind}");
        assert_eq!(log.count(|told| matches!(told, Told::Failed { kind: seen, .. } if *seen == kind)), 5);
    }
}

#[test]
fn a_stream_that_is_dropped_midway_frees_its_slot_and_says_nothing() {
    for reads in 1..4 {
        let (world, log) = (World::new(), Log::default());
        let members = [(Profile::new("a").concurrency(1), always(stream(vec![ITEM; 9])))];
        let (router, [a]) = world.fleet(world.router(ordered()).observer(log.clone()), members);
        for _ in 0..20 {
            let router = router.clone();
            world.block_on(async move {
                let mut routed = router.call("ask", within(secs(5))).await.unwrap();
                for _ in 0..reads {
                    routed.next().await.unwrap().unwrap();
                }
            });
        }
        assert_eq!((a.calls(), router.total_in_flight()), (20, 0));
        assert_eq!(log.count(|told| matches!(told, Told::Cancelled { .. })), 20);
    }
}

type Committing = Router<str, Committed<Reply, u32>>;

/// A world of two streaming backends that commit on their first item.
fn committing(scripts: [Script; 2]) -> (World, Committing, [Scripted; 2], Log) {
    let (world, log) = (World::new(), Log::default());
    let [a, b] = scripts;
    let backends = [world.backend("a", a), world.backend("b", b)];
    let mut builder = Router::builder(ordered().fail_safe(FailSafe::default()))
        .timer(world.timer().clone())
        .seed(7)
        .observer(log.clone());
    for (backend, id) in backends.iter().zip(["a", "b"]) {
        builder = builder.backend(Profile::new(id), backend.clone().commit_on_first_item());
    }
    let router = builder.build().unwrap();
    (world, router, backends, log)
}

type Finished = Result<(Option<String>, usize, Read), RouteError>;

fn finish(world: &World, router: &Committing) -> Finished {
    let (router, timer) = (router.clone(), world.timer().clone());
    world.block_on(async move {
        let mut routed = router.call("ask", within(secs(5))).await?;
        let read = read(&mut routed, timer, ms(0)).await;
        Ok((routed.backend().map(ToOwned::to_owned), routed.attempts().len(), read))
    })
}

#[test]
fn what_fails_before_the_first_item_falls_back() {
    let works = || always(stream([ITEM, ITEM]));
    for (script, failure) in [
        (always(stream([Step::Break(Overloaded)])), Overloaded),
        // An error event inside a 200 stream.
        (always(stream([Step::Pause(ms(5)), Step::Break(Protocol)])), Protocol),
        // An end without a single item is a cut.
        (always(stream([])), Truncated),
        (always(stream([Step::Hang])), Timeout),
        (always(stream([Step::Panic])), Panicked),
        (always(Act::Fail(ServerError, ms(1))), ServerError),
    ] {
        let (world, router, backends, log) = committing([script, works()]);
        let (backend, attempts, read) = finish(&world, &router).unwrap();
        assert_eq!(
            (backend.as_deref(), attempts, read.items, read.error),
            (Some("b"), 2, vec![1, 2], None),
            "{failure}"
        );
        assert_eq!(log.count(|told| matches!(told, Told::Failed { kind, .. } if *kind == failure)), 1, "{failure}");
        assert!(backends.iter().all(|backend| backend.backstage().in_flight() == 0));
    }
}

#[test]
fn after_the_first_item_nobody_starts_over() {
    let (world, router, [_, b], _) =
        committing([always(stream([ITEM, Step::Break(Overloaded)])), always(stream([ITEM]))]);
    let (backend, attempts, read) = finish(&world, &router).unwrap();
    assert_eq!((backend.as_deref(), attempts), (Some("a"), 1));
    assert_eq!((read.items, read.error, b.calls()), (vec![1], Some((Overloaded, 1)), 0));
}

#[test]
fn the_time_to_the_first_token_is_not_that_of_the_headers() {
    let script = || always(Act::Stream(ms(10), vec![Step::Pause(ms(490)), ITEM, Step::Pause(ms(300)), ITEM]));
    let (world, router, _, log) = committing([script(), script()]);
    finish(&world, &router).unwrap();
    let firsts = log.told().into_iter().filter_map(|(_, told)| match told {
        Told::FirstItem { elapsed, .. } => Some(elapsed),
        _ => None,
    });
    assert_eq!(firsts.collect::<Vec<_>>(), [ms(500)]);
}

#[test]
fn streams_fall_back_as_plain_answers_do() {
    for kind in FailureKind::ALL {
        let plain = {
            let world = World::new();
            let members = [(Profile::new("a"), always(Act::Fail(kind, ms(1)))), (Profile::new("b"), always(ANSWER))];
            let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
            world.call(&router, within(secs(5))).map(|routed| routed.attempts().len()).map_err(|error| error.kind())
        };
        let (world, router, ..) = committing([in_turn([stream([Step::Break(kind)])]), always(stream([ITEM]))]);
        let streamed = finish(&world, &router).map(|(_, attempts, _)| attempts).map_err(|error| error.kind());
        assert_eq!(plain, streamed, "{kind}");
    }
}
