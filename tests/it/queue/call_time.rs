//! Who waits behind calls that were cut short is not begun with when it has no more time left than they had.

use crate::support::{Act, Step, Task, TestRouter, World, always, ms, secs};
use fallway::decision::{Next, Refusal};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::RouteErrorKind;
use fallway::time::Timer;
use fallway::{CallOptions, Profile};
use futures::StreamExt;
use std::task::{Context, Waker};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Whole,
    CutShort,
    Refused(Refusal),
}

/// A backend for one stream at a time, whose first item takes 20 ms and the whole so long.
fn router(world: &World, whole: Duration) -> TestRouter {
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let act = Act::Stream(ms(20), vec![Step::Item, Step::Pause(whole - ms(20)), Step::Item]);
    world.fleet(builder, [(Profile::new("a").concurrency(1), always(act))]).0
}

fn ask(world: &World, router: &TestRouter, within: Duration) -> Task<End> {
    let (router, options) = (router.clone(), CallOptions::within(within));
    world.spawn(async move {
        let mut stream = match router.stream("ask", options).await {
            Ok(stream) => stream,
            Err(error) => {
                let Next::Refuse { why } = error.decision().next() else { panic!("{error}") };
                assert_eq!(error.kind(), RouteErrorKind::TooLate, "{error}");
                return End::Refused(why);
            }
        };
        while let Some(item) = stream.next().await {
            if item.is_err() {
                return End::CutShort;
            }
        }
        End::Whole
    })
}

fn count(ends: &[End], of: impl Fn(End) -> bool) -> usize {
    ends.iter().filter(|end| of(**end)).count()
}

#[test]
fn in_an_overload_what_is_begun_with_is_finished() {
    // Streams of two seconds, at twice the rate that there is room for; each has ten seconds.
    let world = World::new();
    let router = router(&world, secs(2));
    let calls: Vec<_> = (0..600)
        .map(|_| {
            let call = ask(&world, &router, secs(10));
            world.run_for(secs(1));
            call
        })
        .collect();
    world.run();
    let ends: Vec<_> = calls.into_iter().map(Task::take).collect();
    let (whole, cut) = (count(&ends, |end| end == End::Whole), count(&ends, |end| end == End::CutShort));
    // Of 300 that there is time for.
    assert!(whole >= 270 && cut <= 15, "{whole} answers are whole, {cut} were cut short");
    let late = count(&ends, |end| matches!(end, End::Refused(_)));
    assert_eq!(whole + cut + late, ends.len());
}

#[test]
fn a_burst_that_there_is_time_for_is_served_to_the_last() {
    // Forty-nine seconds' work for those that have fifty: nobody is cut short, so nothing is learned.
    let world = World::new();
    let router = router(&world, secs(1));
    let calls: Vec<_> = (0..49).map(|_| ask(&world, &router, secs(50))).collect();
    world.run();
    assert!(calls.into_iter().all(|call| call.take() == End::Whole));
}

#[test]
fn who_fell_asleep_before_that_was_known_passes_its_slot_on() {
    let world = World::new();
    let router = router(&world, secs(4));
    // The second is done after eight seconds. The third has two left then, and is cut short, the fourth would have one.
    let [first, second, third, fourth, fifth] = [60, 9, 10, 11, 15].map(|within| {
        let call = ask(&world, &router, secs(within));
        world.settle();
        call
    });
    world.run();
    let ends = [first, second, third, fourth, fifth].map(Task::take);
    let late = End::Refused(Refusal::WouldBeCutShort { left: 1_000_000_000, needed: 3_000_000_000 });
    assert_eq!(ends, [End::Whole, End::Whole, End::CutShort, late, End::Whole]);
}

/// A stream begins at four seconds, has six left, is polled once at `polls` and not read until `then`. What becomes of the one that
/// has its slot after it, and has `within` all together.
fn behind_a_reader(polls: Option<Duration>, drops: bool, then: Duration, within: Duration) -> End {
    let world = World::new();
    let router = router(&world, secs(4));
    let before = ask(&world, &router, secs(60));
    world.settle();
    let (timer, start, asked) = (world.timer().clone(), world.now(), router.clone());
    let slow = world.spawn(async move {
        let mut stream = asked.stream("ask", CallOptions::within(secs(10))).await.expect("it has its turn");
        assert!(stream.next().await.is_some_and(|item| item.is_ok()));
        if let Some(at) = polls {
            timer.sleep_until(start + at).await;
            assert!(stream.poll_next_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        timer.sleep_until(start + then).await;
        drops || stream.next().await.is_some_and(|item| item.is_err())
    });
    world.settle();
    let behind = ask(&world, &router, within);
    world.run();
    assert!(before.take() == End::Whole && slow.take(), "it begins, and is cut short");
    behind.take()
}

#[test]
fn who_does_not_read_teaches_nobody_how_long_answers_take() {
    for drops in [false, true] {
        let end = behind_a_reader(None, drops, ms(10_500), secs(16));
        assert_eq!(end, End::Whole, "dropped: {drops}");
        // One that waited for its backend most of the time does.
        let end = behind_a_reader(Some(secs(5)), drops, ms(10_500), secs(16));
        assert!(matches!(end, End::Refused(Refusal::WouldBeCutShort { .. })), "dropped: {drops}, {end:?}");
        // What it waits after its deadline does not count,
        assert_eq!(behind_a_reader(Some(ms(7_500)), drops, ms(10_900), secs(16)), End::Whole, "dropped: {drops}");
        // and nothing does where nobody looked for so long that the clock is not to be believed.
        assert_eq!(behind_a_reader(Some(secs(5)), drops, secs(14), secs(20)), End::Whole, "dropped: {drops}");
    }
}
