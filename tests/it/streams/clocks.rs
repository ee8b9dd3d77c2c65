//! The three clocks of a stream.

use super::{ITEM, Read, delivered, kind_of, read, reads, stream};
use crate::support::{Act, Step, Told, World, always, ms, secs, within};
use fallway::FailureKind::{Stalled, Timeout};
use fallway::Profile;
use fallway::policy::ordered;
use fallway::time::{Instant, Sleep, Timer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn a_gap_beyond_the_idle_limit_is_a_stall() {
    let options = within(secs(60)).idle_limit(secs(2));
    let fits = [ITEM, Step::Pause(ms(1999)), ITEM];
    let (read, _) = reads(stream(fits), options.clone(), ms(0));
    assert_eq!((read.items.len(), read.error), (2, None));
    let (read, end) = reads(stream([ITEM, Step::Pause(ms(2001)), ITEM]), options, ms(0));
    assert_eq!(read, Read { items: vec![1], error: Some((Stalled, delivered(1, 1))), took: secs(2) });
    assert_eq!(kind_of(&end), Some(Stalled));
}

#[test]
fn each_gap_is_measured_from_the_item_before_it() {
    // Longer together than the limit, and a stall after that takes the whole limit.
    let drip = (0..20).flat_map(|_| [ITEM, Step::Pause(ms(700))]).chain([ITEM, Step::Hang]);
    let (read, _) = reads(stream(drip), within(secs(60)).idle_limit(secs(1)), ms(0));
    assert_eq!((read.items.len(), read.took), (21, ms(20 * 700 + 1000)));
    assert_eq!(read.error, Some((Stalled, delivered(21, 21))));
}

#[test]
fn an_item_without_content_is_a_sign_of_life() {
    let pings = (0..5).flat_map(|_| [Step::Pause(ms(900)), Step::Role]);
    let (read, _) = reads(stream([ITEM].into_iter().chain(pings)), within(secs(60)).idle_limit(secs(1)), ms(0));
    assert_eq!((read.items, read.error, read.took), (vec![1], None, ms(4500)));
}

#[test]
fn the_idle_limit_of_the_router_holds_where_a_call_says_nothing() {
    let world = World::new();
    let (router, _) = world
        .fleet(world.router(ordered()).idle_limit(ms(300)), [(Profile::new("a"), always(stream([ITEM, Step::Hang])))]);
    let timer = world.timer().clone();
    let read = world.block_on(async move {
        let mut stream = router.stream("ask", within(secs(60))).await.unwrap();
        read(&mut stream, &timer, ms(0)).await
    });
    assert_eq!(read, Read { items: vec![1], error: Some((Stalled, delivered(1, 1))), took: ms(300) });
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
fn a_backend_that_hangs_under_a_slow_reader_is_one() {
    let options = within(secs(600)).idle_limit(ms(100));
    let steps = (0..5).flat_map(|_| [ITEM, Step::Pause(ms(50))]).chain([Step::Hang]);
    let (read, end) = reads(stream(steps), options, secs(10));
    assert_eq!((read.items.len(), read.error), (5, Some((Stalled, delivered(5, 5)))));
    assert_eq!(kind_of(&end), Some(Stalled));
}

#[test]
fn the_deadline_ends_a_stream_and_blames_nobody() {
    let drip = (0..100).flat_map(|_| [ITEM, Step::Pause(ms(300))]);
    let (read, end) = reads(stream(drip), within(secs(2)), ms(0));
    assert_eq!(read, Read { items: (1..=7).collect(), error: Some((Timeout, delivered(7, 7))), took: ms(1990) });
    assert!(matches!(end, Told::Cancelled { .. }), "{end:?}");
}

#[test]
fn the_deadline_ends_a_stream_that_never_pauses() {
    // Items are always ready, and the reader takes its time: the stream is never polled in vain.
    let (read, _) = reads(stream(vec![ITEM; 1000]), within(secs(2)), ms(100));
    assert!(read.took <= ms(2100), "{:?}, {} items, {:?}", read.took, read.items.len(), read.error);
    assert_eq!(read.error.map(|(kind, _)| kind), Some(Timeout));
}

#[test]
fn what_was_held_back_is_the_callers_even_after_the_deadline() {
    let act = Act::Stream(ms(10), vec![Step::Role, ITEM]);
    let (read, _) = reads(act, within(secs(2)), secs(3));
    assert_eq!((read.items, read.error), (vec![1], Some((Timeout, delivered(2, 1)))));
}

/// Counts the sleeps that it is asked for.
#[derive(Debug)]
struct Counting(crate::support::VirtualTimer, Arc<AtomicU32>);

impl Timer for Counting {
    fn now(&self) -> Instant {
        self.0.now()
    }
    fn sleep_until(&self, at: Instant) -> Sleep {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.sleep_until(at)
    }
}

#[test]
fn items_cost_no_timer_each() {
    let (world, sleeps) = (World::new(), Arc::<AtomicU32>::default());
    let builder = world.router(ordered()).timer(Counting(world.timer().clone(), sleeps.clone())).idle_limit(secs(30));
    // Two minutes of items, each of which is waited for.
    let steps = (0..12_000).flat_map(|_| [ITEM, Step::Pause(ms(10))]);
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(stream(steps)))]);
    let timer = world.timer().clone();
    let read = world.block_on(async move {
        let mut stream = router.stream("ask", within(secs(600))).await.unwrap();
        read(&mut stream, &timer, ms(0)).await
    });
    assert_eq!((read.items.len(), read.error), (12_000, None));
    // One for the call, and one in thirty seconds.
    let sleeps = sleeps.load(Ordering::Relaxed);
    assert!((4..=6).contains(&sleeps), "{sleeps} sleeps");
}
