//! Streams that break, stall, or never start.

use super::pool::{AtLeast, AtMost, Pool, REFUSAL, over_seeds};
use crate::support::{Act, Begun, Step, Task, Token, ms, secs, within};
use fallway::FailureKind::{self, Overloaded, Protocol, Stalled, Truncated};
use futures::StreamExt;
use std::time::Duration;

const AFTER: usize = 10;

/// Ten tokens, one per millisecond, and then this.
fn ten_then(last: Step) -> Act {
    let mut steps: Vec<Step> = (0..AFTER).flat_map(|_| [Step::Pause(ms(1)), Step::Item]).collect();
    steps.push(last);
    Act::Stream(ms(20), steps)
}

/// Reads a stream to its end: the items, the typed error if there was one, and the silence before it.
async fn read(begun: Begun, timer: crate::support::VirtualTimer) -> (u64, Option<(FailureKind, u64)>, Duration) {
    use fallway::time::Timer;
    let mut stream = begun.expect("the stream begins");
    let mut items = 0;
    let mut last = timer.now();
    while let Some(item) = stream.next().await {
        match item {
            Ok(item) => items += u64::from(item != Token::Done),
            Err(error) => return (items, Some((error.kind(), error.delivered().items)), timer.now() - last),
        }
        last = timer.now();
    }
    (items, None, timer.now() - last)
}

fn breaks_with(fault: super::pool::Fault, kind: FailureKind, silence: Duration) {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, fault);
        let mut typed = 0u32;
        let mut longest = Duration::ZERO;
        for _ in 0..3 {
            let (router, timer) = (pool.router.clone(), pool.world.timer().clone());
            let (items, error, gap) = pool.world.block_on(async move {
                let begun = router.stream("ask", within(secs(60)).idle_limit(ms(500))).await;
                read(begun, timer).await
            });
            typed += u32::from(items == AFTER as u64 && error == Some((kind, items)));
            longest = longest.max(gap);
        }
        [
            AtLeast("typed errors that say what was delivered", f64::from(typed), 3.0),
            AtMost("longest silence", longest.as_secs_f64(), silence.as_secs_f64()),
            AtMost("left in flight", pool.router.total_in_flight() as f64, 0.0),
        ]
    });
}

#[test]
fn a_stream_that_breaks_is_a_typed_error() {
    breaks_with(|_, _| Some(ten_then(Step::Break(Truncated))), Truncated, ms(1));
}

#[test]
fn an_error_event_in_a_stream_is_a_typed_error() {
    breaks_with(|_, _| Some(ten_then(Step::Break(Protocol))), Protocol, ms(1));
}

#[test]
fn a_stream_that_stalls_is_given_up_at_the_idle_limit() {
    breaks_with(|_, _| Some(ten_then(Step::Hang)), Stalled, ms(550));
}

#[test]
fn one_of_three_answers_503_at_the_start_of_streams() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, move |n, _| {
            Some(if n == 0 { Act::Fail(Overloaded, REFUSAL) } else { Act::Stream(ms(20), vec![Step::Item; 20]) })
        });
        let asked = (0..36u64).map(|n| {
            let (router, timer) = (pool.router.clone(), pool.world.timer().clone());
            pool.world.spawn(async move {
                timer.sleep(ms(20 * n)).await;
                read(router.stream("ask", within(secs(60))).await, timer).await
            })
        });
        let asked: Vec<_> = asked.collect();
        pool.world.run();
        let whole = asked.into_iter().filter(|it| it.is_done()).map(Task::take).filter(|it| (it.0, it.1) == (20, None));
        [AtLeast("whole", whole.count() as f64, 36.0)]
    });
}
