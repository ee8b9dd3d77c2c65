//! Capacity.
//!
//! Elsewhere: a gauge that leaks, in `cancel`, `streams` and `constitution::never_lose_and_never_double_answer`; a
//! queue that holds one, in `fail_safe::waiting::a_request_waits_for_a_slot_and_gets_it_in_turn`; residency as a
//! preference, in `constitution::never_cross_a_hard_line` and `fleet::residency_holds_among_ten_thousand`.

use crate::support::{ANSWER, Act, Step, TestRouter, World, always, dropped_after, leaf, ms, plain, secs, within};
use fallway::FailureKind::{Overloaded, Truncated};
use fallway::decision::Load;
use fallway::policy::{FailSafe, PolicyExt, least_loaded, ordered};
use fallway::{CallOptions, Facts, Profile};
use futures::StreamExt;

/// The books of the first backend.
fn books(router: &TestRouter) -> Load {
    let decision = router.explain(&within(secs(5)));
    decision.candidates().next().and_then(|a| a.load()).unwrap()
}

#[test]
fn what_is_released_is_what_was_taken() {
    let world = World::new();
    let script = |cue: &crate::support::Cue<'_>| match cue.call % 5 {
        0 => Act::Answer(ms(50)),
        1 => Act::Fail(Truncated, ms(30)),
        2 => Act::Stream(ms(40), vec![Step::Item, Step::Break(Truncated)]),
        3 => Act::Panic(ms(20)),
        _ => Act::Hang,
    };
    let (router, _) = world.fleet(world.router(least_loaded()), [(Profile::new("a"), Box::new(script))]);
    let tokens = [1, 1_000, 77, 0, 123_456, 9, u64::MAX];
    let mut expected = 0u64;
    for (n, tokens) in tokens.into_iter().enumerate() {
        let router = router.clone();
        let options = CallOptions::within(secs(1)).facts(plain().prompt_tokens(tokens));
        world.spawn(dropped_after(2 + n, async move {
            if let Ok(mut stream) = router.stream("ask", options).await {
                while stream.next().await.is_some() {}
            }
        }));
        world.settle();
        // One call claims no more than any context window holds.
        expected += tokens.min(u32::MAX.into());
    }
    let full = books(&router);
    assert_eq!((full.in_flight, full.waiting_tokens), (7, expected));
    world.run();
    let empty = books(&router);
    assert_eq!((empty.in_flight, empty.waiting_tokens, empty.oldest_wait()), (0, 0, None));
}

#[test]
fn prefill_work_leaves_the_books_at_the_first_item_and_the_slot_at_the_last() {
    let world = World::new();
    let steps = vec![Step::Item, Step::Pause(ms(100)), Step::Item];
    let (router, _) =
        world.fleet(world.router(least_loaded()), [(Profile::new("a"), always(Act::Stream(ms(10), steps)))]);
    let reader = router.clone();
    let task = world.spawn(async move {
        let mut stream = reader.stream("ask", within(secs(5))).await.unwrap();
        while stream.next().await.is_some() {}
    });
    let mut seen = Vec::new();
    for _ in 0..3 {
        world.settle();
        let load = books(&router);
        seen.push((load.in_flight, load.waiting_tokens));
        world.run_for(ms(60));
    }
    assert_eq!(seen, [(1, 20), (1, 0), (0, 0)]);
    assert!(task.is_done());
}

#[test]
fn clones_of_a_router_share_its_limits() {
    let world = World::new();
    let (router, [a]) = world.fleet(
        world.router(ordered().fail_safe(FailSafe::default())),
        [(Profile::new("a").concurrency(3), always(ANSWER))],
    );
    let clones = [(); 4].map(|()| router.clone());
    let calls: Vec<_> = (0..40).map(|n| world.spawn_call(&clones[n % 4], within(secs(60)))).collect();
    // Answers that nobody takes hold their slots.
    world.run_for(secs(1));
    let done = calls.iter().filter(|call| call.is_done()).count();
    assert_eq!((a.backstage().peak(), router.total_in_flight(), done), (3, 3, 3));
}

#[test]
fn a_fallback_respects_the_limit_of_its_target() {
    for name in ["ordered", "least_loaded", "predicted_ttft"] {
        let world = World::new();
        let members = [
            (Profile::new("a").model("m"), always(Act::Fail(Overloaded, ms(1)))),
            (Profile::new("b").model("spare").concurrency(2), always(ANSWER)),
        ];
        let config = FailSafe::default().fallback(["spare"]);
        let (router, [_, b]) = world.fleet(world.router(leaf(name).fail_safe(config)), members);
        let options = CallOptions::within(secs(60)).facts(Facts::model("m").replay_safe());
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (router, options) = (router.clone(), options.clone());
                world.spawn(async move { router.call("ask", options).await.is_ok() })
            })
            .collect();
        world.run();
        let ok = calls.into_iter().map(crate::support::Task::take).filter(|ok| *ok).count();
        assert_eq!((ok, b.backstage().peak()), (50, 2), "{name}");
    }
}
