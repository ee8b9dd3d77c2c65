//! After the commit: another goes on, with the host's word on how.

use super::{ITEM, delivered, ends, stream};
use crate::support::{
    Act, Log, Reply, Scripted, Step, TestRouter, Token, Told, World, always, dropped_after, in_turn, loaded_panic, ms,
    plain, secs, within,
};
use fallway::FailureKind::{self, InvalidRequest, Overloaded, ServerError, Stalled, Timeout, Truncated};
use fallway::budget::RetryBudget;
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Delivered, Interrupted, Piece, Resumable, Resume, RouteErrorKind};
use fallway::time::Instant;
use fallway::{CallOptions, Facts, Profile};
use futures::StreamExt;
use futures::stream::FusedStream;
use std::sync::{Arc, Mutex};

/// Asks for what comes after the last item that it saw.
#[derive(Default)]
struct After {
    seen: u32,
    /// How often it was asked.
    asked: Arc<Mutex<Vec<(FailureKind, Delivered)>>>,
}

impl Resume<str, Token> for After {
    fn delivered(&mut self, item: &Token) {
        if let Token::Number(number) = item {
            self.seen = *number;
        }
    }

    fn resume(&mut self, broken: &Interrupted) -> Option<Box<str>> {
        self.asked.lock().unwrap().push((broken.kind(), broken.delivered()));
        Some(format!("ask after {}", self.seen).into())
    }
}

/// A hook that does this when it is asked.
struct When<F>(F);

impl<F: FnMut() -> Option<Box<str>> + Send + 'static> Resume<str, Token> for When<F> {
    fn delivered(&mut self, _: &Token) {}
    fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
        (self.0)()
    }
}

/// What a reader got of a stream that goes on: the numbers, where it was resumed, and the error.
#[derive(Debug, PartialEq)]
struct Whole {
    numbers: Vec<u32>,
    seams: Vec<(FailureKind, Delivered)>,
    error: Option<(FailureKind, Delivered, Option<RouteErrorKind>)>,
}

async fn read(stream: &mut Resumable<str, Reply>) -> Whole {
    let mut whole = Whole { numbers: Vec::new(), seams: Vec::new(), error: None };
    while let Some(piece) = stream.next().await {
        assert_eq!(whole.error, None, "something follows the error");
        match piece {
            Ok(Piece::Item(Token::Number(number))) => whole.numbers.push(number),
            Ok(Piece::Item(_)) => {}
            Ok(Piece::Resumed(broken)) => whole.seams.push((broken.kind(), broken.delivered())),
            Err(broken) => {
                let why = broken.not_resumed().map(fallway::RouteError::kind);
                whole.error = Some((broken.kind(), broken.delivered(), why));
            }
        }
    }
    assert!(stream.is_terminated() && stream.next().await.is_none());
    whole
}

/// Backends that do this, one after the other.
fn fleet(acts: impl IntoIterator<Item = Act>) -> (World, TestRouter, Vec<Scripted>, Log) {
    let (world, log) = (World::new(), Log::default());
    let mut builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let mut backends = Vec::new();
    for (act, name) in acts.into_iter().zip(["a", "b", "c", "d"]) {
        let backend = world.backend(name, always(act));
        builder = builder.backend(Profile::new(name), backend.clone());
        backends.push(backend);
    }
    (world, builder.build().unwrap(), backends, log)
}

fn resumed(
    world: &World,
    router: &TestRouter,
    options: CallOptions,
    hook: impl Resume<str, Token>,
) -> (Resumable<str, Reply>, Whole) {
    let stream = world.stream(router, options).unwrap();
    let mut stream = stream.resume(hook);
    world.block_on(async move {
        let whole = read(&mut stream).await;
        (stream, whole)
    })
}

fn items(count: usize) -> impl Iterator<Item = Step> {
    std::iter::repeat_n([Step::Pause(ms(1)), ITEM], count).flatten()
}

#[test]
fn another_goes_on_and_every_item_comes_once() {
    for (last, kind) in [
        (Step::Break(Truncated), Truncated),
        (Step::Close, Truncated),
        (Step::Hang, Stalled),
        (Step::Break(Overloaded), Overloaded),
        (Step::Panic, FailureKind::Panicked),
        (Step::Large(usize::MAX), FailureKind::Protocol),
    ] {
        let (world, router, backends, log) =
            fleet([stream(items(3).chain([last])), stream([Step::Role].into_iter().chain(items(4)))]);
        let hook = After::default();
        let asked = hook.asked.clone();
        let (stream, whole) = resumed(&world, &router, within(secs(60)).idle_limit(ms(500)), hook);
        let seam = (kind, delivered(3, 3));
        assert_eq!(whole, Whole { numbers: (1..=7).collect(), seams: vec![seam], error: None });
        assert_eq!(*asked.lock().unwrap(), [seam]);
        assert_eq!((stream.stream().backend(), stream.stream().delivered()), (Some("b"), delivered(9, 7)));
        let attempts: Vec<_> =
            stream.stream().attempts().iter().map(|it| (it.name().to_owned(), it.failure())).collect();
        assert_eq!(attempts, [("a".to_owned(), Some(kind)), ("b".to_owned(), None)]);
        let requests: Vec<_> =
            backends.iter().flat_map(Scripted::seen).map(|seen| (seen.request, seen.number)).collect();
        assert_eq!(requests, [("ask".to_owned(), 1), ("ask after 3".to_owned(), 2)]);
        assert!(matches!(&ends(&log)[..], [Told::Failed { kind: told, .. }, Told::Succeeded { .. }] if *told == kind));
        assert_eq!((router.total_in_flight(), world.timer().next_wake()), (0, None));
    }
}

#[test]
fn what_fails_on_the_way_on_is_an_attempt_too() {
    let (world, router, backends, _) = fleet([
        stream(items(2).chain([Step::Close])),
        stream([Step::Role, Step::Break(ServerError)]),
        stream(items(2)),
    ]);
    let (stream, whole) = resumed(&world, &router, within(secs(60)), After::default());
    let seam = (Truncated, delivered(2, 2));
    assert_eq!(whole, Whole { numbers: (1..=4).collect(), seams: vec![seam], error: None });
    assert_eq!(stream.stream().attempts().len(), 3);
    assert!(backends.iter().all(|backend| backend.calls() == 1));
}

#[test]
fn as_often_as_there_are_attempts() {
    // Each breaks; the request has three attempts.
    let (world, router, backends, log) = fleet([(); 4].map(|()| stream(items(2).chain([Step::Close]))));
    let (stream, whole) = resumed(&world, &router, within(secs(60)), After::default());
    let seams = vec![(Truncated, delivered(2, 2)), (Truncated, delivered(4, 4))];
    let error = Some((Truncated, delivered(6, 6), Some(RouteErrorKind::AttemptsExhausted)));
    assert_eq!(whole, Whole { numbers: (1..=6).collect(), seams, error });
    assert_eq!(backends.iter().map(Scripted::calls).collect::<Vec<_>>(), [1, 1, 1, 0]);
    assert_eq!(stream.stream().attempts().iter().filter(|it| it.failure() == Some(Truncated)).count(), 3);
    // It was answered, if not to the end: nobody is told that it was refused.
    assert_eq!(log.count(|told| matches!(told, Told::Refused { .. })), 0);
}

#[test]
fn the_error_says_why_nobody_went_on() {
    let cut = || stream(items(2).chain([Step::Close]));
    let unsafe_ = |total| CallOptions::within(total).facts(Facts::any().prompt_tokens(20));
    for (acts, options, (why, attempts)) in [
        (vec![cut()], within(secs(60)), (RouteErrorKind::NothingUsable, 3)),
        (vec![cut(), cut()], unsafe_(secs(60)), (RouteErrorKind::NotRetryable, 1)),
        (vec![cut(), stream([Step::Break(InvalidRequest)])], within(secs(60)), (RouteErrorKind::NotRetryable, 2)),
        (vec![cut(), Act::Hang], within(secs(2)), (RouteErrorKind::DeadlineExceeded, 2)),
    ] {
        // One that is alone is tried again after a back-off, and breaks again, unless it may not.
        let alone = acts.len() == 1;
        let (world, router, ..) = fleet(acts);
        let (stream, whole) = resumed(&world, &router, options, After::default());
        let (kind, _, refused) = whole.error.unwrap();
        // What was tried to mend it is in the decision of the stream.
        assert_eq!(stream.stream().attempts().len(), attempts);
        if alone {
            assert_eq!((whole.numbers, refused), ((1..=6).collect(), Some(RouteErrorKind::AttemptsExhausted)));
            continue;
        }
        assert_eq!((whole.numbers, kind, refused), (vec![1, 2], Truncated, Some(why)));
        assert_eq!(stream.stream().delivered(), delivered(2, 2));
        assert_eq!(router.total_in_flight(), 0);
    }
}

#[test]
fn an_interruption_that_was_not_mended_shows_both_causes() {
    let cut = stream(items(1).chain([Step::Close]));
    let (world, router, ..) = fleet([cut, stream([Step::Break(InvalidRequest)])]);
    let mut stream = world.stream(&router, within(secs(5))).unwrap().resume(After::default());
    let error = world.block_on(async move {
        loop {
            if let Some(Err(error)) = stream.next().await {
                return error;
            }
        }
    });
    let text = error.to_string();
    assert!(text.starts_with("the stream broke after 1 items with a content of 1: truncated; not resumed: "), "{text}");
    assert!(text.contains("invalid_request"), "{text}");
}

#[test]
fn a_hook_that_declines_or_panics_gives_the_honest_error() {
    let hooks: [fn() -> Option<Box<str>>; 2] = [|| None, || loaded_panic()];
    for hook in hooks {
        let (world, router, backends, log) = fleet([(); 2].map(|()| stream(items(2).chain([Step::Close]))));
        let (_, whole) = resumed(&world, &router, within(secs(60)), When(hook));
        let error = Some((Truncated, delivered(2, 2), None));
        assert_eq!(whole, Whole { numbers: vec![1, 2], seams: vec![], error });
        assert_eq!((backends[1].calls(), router.total_in_flight(), ends(&log).len()), (0, 0, 1));
    }
}

#[test]
fn a_hook_that_panics_over_an_item_loses_no_item() {
    struct Panics;
    impl Resume<str, Token> for Panics {
        fn delivered(&mut self, _: &Token) {
            loaded_panic()
        }
        fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
            Some("ask".into())
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                loaded_panic()
            }
        }
    }
    let (world, router, backends, _) = fleet([(); 2].map(|()| stream(items(3).chain([Step::Close]))));
    let (_, whole) = resumed(&world, &router, within(secs(60)), Panics);
    // It does not know any more what was delivered, so it is not asked.
    assert_eq!((whole.numbers, whole.error), (vec![1, 2, 3], Some((Truncated, delivered(3, 3), None))));
    assert_eq!(backends[1].calls(), 0);
}

#[test]
fn a_hook_that_asks_for_nonsense_gets_its_error() {
    // As a server does that finds the continuation invalid: the caller's own fault, and nobody else is asked.
    let script = |cue: &crate::support::Cue<'_>| match cue.request {
        "ask" => stream(items(2).chain([Step::Close])),
        _ => Act::Fail(InvalidRequest, ms(1)),
    };
    let world = World::new();
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), Box::new(script) as crate::support::Script));
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (_, whole) = resumed(&world, &router, within(secs(60)), When(|| Some("{".into())));
    assert_eq!(whole.error, Some((Truncated, delivered(2, 2), Some(RouteErrorKind::NotRetryable))));
    assert_eq!(backends.map(|backend| backend.calls()), [1, 1, 0]);
}

#[test]
fn the_deadline_is_no_reason_to_go_on() {
    let (world, router, backends, _) = fleet([(); 2].map(|()| stream(items(2).chain([Step::Hang]))));
    let hook = After::default();
    let asked = hook.asked.clone();
    let ((_, whole), took) = world.timed(|| resumed(&world, &router, within(secs(2)), hook));
    assert_eq!((whole.error, took), (Some((Timeout, delivered(2, 2), None)), secs(2)));
    assert_eq!((asked.lock().unwrap().len(), backends[1].calls()), (0, 0));
}

#[test]
fn the_rest_has_what_is_left_of_the_deadline() {
    let slow = stream([ITEM, Step::Pause(secs(3)), Step::Close]);
    let (world, router, backends, _) = fleet([slow, stream([ITEM, Step::Hang])]);
    let ((_, whole), took) = world.timed(|| resumed(&world, &router, within(secs(5)), After::default()));
    assert_eq!((whole.numbers, whole.error, took), (vec![1, 2], Some((Timeout, delivered(2, 2), None)), secs(5)));
    let [first, second] = [&backends[0], &backends[1]].map(|backend| backend.seen()[0].clone());
    assert_eq!((first.deadline, first.request_id), (second.deadline, second.request_id));
    assert!(second.time_limit <= secs(2), "{second:?}");
}

#[test]
fn going_on_is_paid_for_from_the_shared_budget() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let builder = builder.retry_budget(RetryBudget::new(0.0, 0).unwrap());
    let members = ["a", "b"].map(|id| (Profile::new(id), always(stream(items(2).chain([Step::Close])))));
    let (router, [_, b]) = world.fleet(builder, members);
    let (_, whole) = resumed(&world, &router, within(secs(60)), After::default());
    assert_eq!(whole.error, Some((Truncated, delivered(2, 2), Some(RouteErrorKind::RetryBudgetEmpty))));
    assert_eq!(b.calls(), 0);
}

#[test]
fn a_policy_without_retries_goes_on_nowhere() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id), always(stream(items(2).chain([Step::Close])))));
    let (router, _) = world.fleet(world.router(ordered()), members);
    let (_, whole) = resumed(&world, &router, within(secs(60)), After::default());
    assert_eq!(whole.error, Some((Truncated, delivered(2, 2), Some(RouteErrorKind::AttemptsExhausted))));
}

#[test]
fn the_last_resort_is_none_for_the_rest() {
    let world = World::new();
    let last = world.backend("last", always(stream(items(9))));
    let builder = world.router(ordered().fail_safe(FailSafe::default().attempts(2))).last_resort(last.clone());
    let members = [
        (Profile::new("a"), always(stream(items(2).chain([Step::Close])))),
        (Profile::new("b"), always(stream([Step::Break(ServerError)]))),
    ];
    let (router, _) = world.fleet(builder, members);
    let (resumable, whole) = resumed(&world, &router, within(secs(60)), After::default());
    assert_eq!(whole.error, Some((Truncated, delivered(2, 2), Some(RouteErrorKind::AttemptsExhausted))));
    assert!(last.calls() == 0 && !resumable.stream().is_degraded());
    // One that answers from the start is nobody's to go on with.
    let broken = world.backend("last", always(stream(items(2).chain([Step::Close]))));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).last_resort(broken);
    let (router, [_]) = world.fleet(builder, [(Profile::new("a"), always(stream([Step::Break(ServerError)])))]);
    let (stream, whole) = resumed(&world, &router, within(secs(60)), After::default());
    assert_eq!((stream.stream().is_degraded(), whole.error), (true, Some((Truncated, delivered(2, 2), None))));
}

#[test]
fn hard_lines_hold_for_the_rest() {
    let world = World::new();
    let members = [
        (Profile::new("a").region("eu"), always(stream(items(2).chain([Step::Close])))),
        (Profile::new("b").region("us"), always(stream(items(2)))),
        (Profile::new("c").region("eu"), always(stream(items(2)))),
    ];
    let (router, [_, b, c]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let options = CallOptions::within(secs(60)).facts(plain().residency(["eu"]));
    let (_, whole) = resumed(&world, &router, options, After::default());
    assert_eq!((whole.numbers, b.calls(), c.calls()), (vec![1, 2, 3, 4], 0, 1));
}

#[test]
fn every_decision_on_the_way_replays() {
    let (world, router, _, log) = fleet([(); 4].map(|()| stream(items(2).chain([Step::Close]))));
    let (stream, _) = resumed(&world, &router, within(secs(60)), After::default());
    let decisions = log.decisions();
    assert_eq!(decisions.len(), 4);
    for decision in decisions.iter().chain([stream.stream().decision()]) {
        assert!(router.replay(decision).same_choice(decision), "{decision}");
    }
}

/// Between two attempts as everywhere: whoever drops the stream gets everything back.
#[test]
fn dropped_at_every_poll() {
    for polls in 0..100 {
        let steps = [ITEM, Step::Pause(ms(5)), ITEM, Step::Close];
        let (world, router, backends, log) =
            fleet([stream(steps), Act::Fail(ServerError, ms(5)), stream([Step::Role, Step::Pause(ms(5)), ITEM])]);
        let caller = router.clone();
        let whole = world.block_on(dropped_after(polls, async move {
            let mut stream = caller.stream("ask", within(secs(60))).await.unwrap().resume(After::default());
            read(&mut stream).await
        }));
        assert_eq!((router.total_in_flight(), router.waiting()), (0, 0), "{polls} polls");
        assert!(backends.iter().all(|backend| backend.backstage().in_flight() == 0), "{polls} polls");
        assert_eq!(world.timer().next_wake(), None, "{polls} polls: somebody still sleeps");
        let started = log.count(|told| matches!(told, Told::Started { .. }));
        assert_eq!(ends(&log).len(), started, "{polls} polls");
        if let Some(whole) = whole {
            assert_eq!((whole.numbers, polls), (vec![1, 2, 3], 6));
            return;
        }
        assert_eq!(log.count(|told| matches!(told, Told::Succeeded { .. })), 0, "{polls} polls");
    }
    panic!("more than 100 polls");
}

/// An observer that counts the attempts in flight.
#[derive(Clone, Debug, Default)]
struct InFlight(Arc<Mutex<(i32, i32)>>);

impl Observer for InFlight {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        let mut count = self.0.lock().unwrap();
        match event {
            Event::Started { .. } => count.0 += 1,
            Event::Ended { .. } => count.0 -= 1,
            _ => {}
        }
        count.1 = count.1.max(count.0);
    }
}

#[test]
fn one_attempt_at_a_time() {
    let (world, seen) = (World::new(), InFlight::default());
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(seen.clone());
    let cut = || in_turn([stream(items(1).chain([Step::Close])), stream(items(1))]);
    let (router, _) = world.fleet(builder, ["a", "b"].map(|id| (Profile::new(id).concurrency(1), cut())));
    resumed(&world, &router, within(secs(60)), After::default());
    assert_eq!(*seen.0.lock().unwrap(), (0, 1));
}
