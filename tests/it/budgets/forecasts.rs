//! What is predicted: the first token, or the whole answer.

use super::*;
use crate::support::{Step, VirtualTimer};
use fallway::FailureKind::Truncated;
use fallway::decision::Pace;
use fallway::policy::{RoutingPolicy, policy_fn};
use futures::StreamExt;

/// So many tokens, with a pause before each but the first.
fn drips(tokens: usize, gap: Duration) -> Act {
    let rest = (1..tokens).flat_map(|_| [Step::Pause(gap), Step::Item]);
    Act::Stream(ms(100), [Step::Item].into_iter().chain(rest).collect())
}

/// Reads a stream to its end, with a pause after each item.
fn read(world: &World, router: &TestRouter, model: &str, pause: Duration) {
    let (router, options, timer): (_, _, VirtualTimer) = (router.clone(), ask(model, secs(600)), world.timer().clone());
    world.block_on(async move {
        let mut stream = router.stream("ask", options).await.unwrap();
        while let Some(item) = stream.next().await {
            item.unwrap();
            timer.sleep(pause).await;
        }
    });
}

/// A stack that asks for the pace of every candidate, also where nothing can be predicted from it.
fn curious(world: &World) -> Builder<str, Reply> {
    let leaf = policy_fn("curious", |cx, slate| {
        slate.each(|candidate| _ = candidate.pace());
        ordered().plan(cx, slate);
    });
    world.router(leaf.budgeted(Budgets::default().whole_answers()).fail_safe(FailSafe::default()))
}

fn pace(router: &TestRouter, name: &str) -> Pace {
    candidate(&router.explain(&ask("m", secs(60))), name).pace().unwrap()
}

fn expecting(tokens: u64, total: Duration) -> CallOptions {
    CallOptions::within(total).facts(Facts::model("m").prompt_tokens(20).output_tokens(tokens).replay_safe())
}

#[test]
fn whole_answers_are_predicted_where_they_are_wanted_and_their_length_is_known() {
    let decides = |budgets: Budgets, options: CallOptions| {
        let world = World::new();
        let members = [(member("a"), always(drips(21, ms(50))))];
        let (router, _) = world.fleet(stack(&world, budgets, FailSafe::default()), members);
        (0..ENOUGH).for_each(|_| read(&world, &router, "m", ms(0)));
        let decision = router.explain(&options);
        missed(&decision, "a").map(|(_, half, _)| half)
    };
    let whole = || Budgets::default().whole_answers();
    // 100 ms and 199 times 50.
    let half = decides(whole(), expecting(200, secs(5))).unwrap();
    assert!(half.abs_diff(nanos(10_050)) < nanos(700), "{half}");
    // A short answer fits, and so does the first token of a long one.
    assert_eq!(decides(whole(), expecting(20, secs(5))), None);
    assert_eq!(decides(Budgets::default(), expecting(200, secs(5))), None);
    // A length that is only guessed forbids nothing.
    assert!(decides(whole(), expecting(30, secs(1))).is_some());
    assert_eq!(decides(whole(), ask("m", secs(1))), None);
}

#[test]
fn the_pace_is_that_of_the_tokens_after_the_first() {
    let world = World::new();
    let (router, _) = world.fleet(curious(&world), [(member("a"), always(drips(11, ms(50))))]);
    assert_eq!(pace(&router, "a").usual, 0);
    read(&world, &router, "m", ms(0));
    assert_eq!(pace(&router, "a").usual, nanos(50));
    (0..3).for_each(|_| read(&world, &router, "m", ms(0)));
    assert_eq!(pace(&router, "a").spread.samples, 3);
}

#[test]
fn a_stream_that_breaks_shows_the_pace_that_it_had() {
    let world = World::new();
    let steps = std::iter::repeat_n([Step::Item, Step::Pause(ms(50))], 11).flatten();
    let breaks = Act::Stream(ms(100), steps.chain([Step::Break(Truncated)]).collect());
    let (router, _) = world.fleet(curious(&world), [(member("a"), always(breaks))]);
    let mut stream = world.stream(&router, ask("m", secs(60))).unwrap();
    world.block_on(async move { while stream.next().await.is_some() {} });
    assert_eq!(pace(&router, "a").usual, nanos(55));
}

#[test]
fn a_reader_that_takes_its_time_teaches_no_pace() {
    let world = World::new();
    let (router, _) = world.fleet(curious(&world), [(member("a"), always(drips(11, ms(50))))]);
    read(&world, &router, "m", ms(500));
    assert_eq!(pace(&router, "a").usual, 0);
}

#[test]
fn plain_answers_have_no_pace_and_are_all_first_token() {
    let world = World::new();
    let (router, _) = world.fleet(curious(&world), [(member("a"), always(Act::Answer(secs(3))))]);
    teach(&world, &router, ["m"]);
    assert_eq!(pace(&router, "a").usual, 0);
    let decision = router.explain(&expecting(500, secs(5)));
    assert_eq!((chosen(&decision), missed(&decision, "a")), (Some("a"), None));
    assert!(missed(&router.explain(&expecting(500, secs(2))), "a").is_some());
}

#[test]
fn a_backend_that_hangs_is_late_before_any_sample_says_so() {
    let world = World::new();
    let members = [(member("a"), always(Act::Hang)), (member("b"), always(Act::Answer(ms(100))))];
    let script: Script = Box::new(|cue: &Cue<'_>| if cue.request == "hang" { Act::Hang } else { Act::Answer(ms(100)) });
    let [_, b] = members;
    let (router, _) = world.fleet(stack(&world, Budgets::default(), FailSafe::default()), [(member("a"), script), b]);
    teach(&world, &router, ["m@a", "m@b"]);
    assert_eq!(chosen(&router.explain(&ask("m", secs(1)))), Some("a"));
    let hanging = router.clone();
    world.spawn(async move { drop(hanging.call("hang", ask("m@a", secs(8))).await) });
    world.run_for(secs(3));
    let decision = router.explain(&ask("m", secs(1)));
    assert_eq!(chosen(&decision), Some("b"));
    assert!(missed(&decision, "a").is_some_and(|(late, ..)| late == nanos(3_000)), "{decision}");
    world.run();
}
