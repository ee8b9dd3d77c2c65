//! Before the commit: failures are those of attempts, and the caller sees nothing of them.

use super::{ITEM, Read, read, stream};
use crate::support::{
    ANSWER, Act, Log, Scripted, Step, TestRouter, Token, Told, World, always, fail, in_turn, ms, secs, within,
};
use fallway::FailureKind::{self, Overloaded, Panicked, Protocol, ServerError, Timeout, Truncated};
use fallway::backend::BackendExt;
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered, round_robin};
use fallway::router::TooLarge;
use fallway::{Backend, Profile, RouteError};
use futures::StreamExt;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// A world of two backends: the first does this, the second works.
fn two(first: Act) -> (World, TestRouter, [Scripted; 2], Log) {
    let (world, log) = (World::new(), Log::default());
    let works = stream([Step::Role, ITEM, ITEM]);
    let members = [(Profile::new("a"), always(first)), (Profile::new("b"), always(works))];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()).largest_item(1_000);
    let (router, backends) = world.fleet(builder, members);
    (world, router, backends, log)
}

type Finished = Result<(Option<String>, usize, Read), RouteError>;

fn finish(world: &World, router: &TestRouter) -> Finished {
    let (router, timer) = (router.clone(), world.timer().clone());
    world.block_on(async move {
        let mut stream = router.stream("ask", within(secs(5))).await?;
        let read = read(&mut stream, &timer, ms(0)).await;
        Ok((stream.backend().map(ToOwned::to_owned), stream.attempts().len(), read))
    })
}

#[test]
fn what_fails_before_the_first_content_goes_elsewhere() {
    let role = || [Step::Role, Step::Role].into_iter();
    for (act, failure) in [
        (stream([Step::Break(Overloaded)]), Overloaded),
        // An error event inside a stream that began well.
        (stream(role().chain([Step::Pause(ms(5)), Step::Break(Protocol)])), Protocol),
        // An end without a last item is a cut.
        (stream([Step::Close]), Truncated),
        (stream(role().chain([Step::Close])), Truncated),
        (stream([Step::Hang]), Timeout),
        (stream(role().chain([Step::Hang])), Timeout),
        // A ping now and then is no content.
        (stream((0..1000).flat_map(|_| [Step::Role, Step::Pause(secs(1))])), Timeout),
        (stream([Step::Panic]), Panicked),
        (stream(role().chain([Step::Panic])), Panicked),
        (stream([Step::Large(1_001)]), Protocol),
        (Act::Fail(ServerError, ms(1)), ServerError),
    ] {
        let (world, router, backends, log) = two(act);
        let (backend, attempts, read) = finish(&world, &router).unwrap();
        assert_eq!(
            (backend.as_deref(), attempts, read.items, read.error),
            (Some("b"), 2, vec![1, 2], None),
            "{failure}"
        );
        assert_eq!(log.count(|told| matches!(told, Told::Failed { kind, .. } if *kind == failure)), 1, "{failure}");
        assert!(backends.iter().all(|backend| backend.backstage().in_flight() == 0));
        assert_eq!((router.total_in_flight(), world.timer().next_wake()), (0, None));
    }
}

#[test]
fn what_came_before_the_content_is_delivered_before_it() {
    let (world, router, ..) = two(stream([Step::Role, Step::Pause(ms(5)), Step::Role, ITEM]));
    let mut stream = world.stream(&router, within(secs(5))).unwrap();
    let items = world.block_on(async move {
        let mut items = Vec::new();
        while let Some(item) = stream.next().await {
            items.push(item.unwrap());
        }
        items
    });
    assert_eq!(items, [Token::Role, Token::Role, Token::Number(1), Token::Done]);
}

#[test]
fn an_answer_without_content_is_complete_with_its_last_item() {
    let (world, router, [a, b], log) = two(stream([Step::Role]));
    let stream = world.stream(&router, within(secs(5))).unwrap();
    assert_eq!((a.calls(), b.calls(), router.total_in_flight()), (1, 0, 0));
    assert_eq!(log.count(|told| matches!(told, Told::Succeeded { .. })), 1);
    let items = world.block_on(stream.map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(items, [Token::Role, Token::Done]);
}

#[test]
fn metadata_without_end_takes_bounded_memory() {
    // Each fits, together they do not; and what claims to take four bytes takes more.
    let (world, router, [a, b], _) = two(stream(vec![Step::Role; 1000]));
    let (backend, attempts, _) = finish(&world, &router).unwrap();
    assert_eq!((backend.as_deref(), attempts, a.calls(), b.calls()), (Some("b"), 2, 1, 1));

    let world = World::new();
    let builder = world.router(ordered()).largest_item(100);
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(stream(vec![Step::Role; 1000])))]);
    let error = world.stream(&router, within(secs(5))).unwrap_err();
    let source = error.backend_error().and_then(|error| error.source()?.downcast_ref::<TooLarge>());
    assert!(source.is_some_and(|it| it.limit == 100 && (105..200).contains(&it.bytes)), "{source:?}");
}

#[test]
fn the_time_to_the_first_token_is_that_of_the_content() {
    let act = Act::Stream(ms(10), vec![Step::Role, Step::Pause(ms(490)), ITEM, Step::Pause(ms(300)), ITEM]);
    let (world, router, _, log) = two(act);
    finish(&world, &router).unwrap();
    let firsts = log.told().into_iter().filter_map(|(_, told)| match told {
        Told::FirstItem { elapsed, .. } => Some(elapsed),
        _ => None,
    });
    assert_eq!(firsts.collect::<Vec<Duration>>(), [ms(500)]);
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
        for act in [fail(kind), stream([Step::Break(kind)]), stream([Step::Role, Step::Break(kind)])] {
            let (world, router, ..) = two(act);
            let streamed = finish(&world, &router).map(|(_, attempts, _)| attempts).map_err(|error| error.kind());
            assert_eq!(plain, streamed, "{kind}");
        }
    }
}

#[test]
fn the_deadline_is_one_for_all_attempts() {
    for total in [ms(1), ms(700), secs(2)] {
        let world = World::new();
        let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(stream([Step::Role, Step::Hang]))));
        let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
        let (error, took) = world.timed(|| world.stream(&router, within(total)).unwrap_err());
        assert!(took <= total && took >= total * 9 / 10, "{took:?} of {total:?}, {error}");
    }
}

#[test]
fn a_probe_is_not_passed_by_a_head() {
    let (world, log) = (World::new(), Log::default());
    let acts = [fail(Overloaded), stream([Step::Role, Step::Hang]), stream([ITEM])];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), in_turn(acts))]);
    let note = || router.explain(&within(secs(5))).candidates().next().and_then(|it| it.note());
    assert!(world.stream(&router, within(ms(1))).is_err());
    world.run_for(secs(20));
    assert_eq!(note(), Some(Reason::Probe));
    // Headers and a role, and the caller goes away: no probe succeeded by that.
    let caller = router.clone();
    world.block_on(crate::support::dropped_after(2, async move { drop(caller.stream("ask", within(secs(5))).await) }));
    assert_eq!((note(), router.total_in_flight()), (Some(Reason::Probe), 0));
    assert!(matches!(super::ends(&log)[..], [_, Told::Cancelled { .. }]));
    drop(world.stream(&router, within(secs(5))).unwrap());
    assert_eq!(
        log.count(|told| matches!(told, Told::Returned { .. })),
        0,
        "a stream dropped midway passes none either"
    );
}

#[test]
fn wrapped_backends_stream_as_before() {
    let (world, log) = (World::new(), Log::default());
    let backend = || world.backend("a", always(stream([ITEM])));
    let boxed: Box<dyn Backend<str, Response = crate::support::Reply>> = Box::new(backend());
    let builder = world
        .router(round_robin())
        .observer(log.clone())
        .backend(Profile::new("arc"), Arc::new(backend()))
        .backend(Profile::new("box"), boxed)
        .backend(Profile::new("map"), backend().map_response(|reply| reply));
    let router = builder.build().unwrap();
    for _ in 0..3 {
        assert_eq!(finish(&world, &router).unwrap().2.items, [1]);
    }
    assert_eq!(log.count(|told| matches!(told, Told::Succeeded { .. })), 3);
}
