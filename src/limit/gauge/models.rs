//! Every interleaving of three calls.

use super::*;
use crate::facts::Facts;
use std::sync::Arc;

fn need(prompt: u64, output: u64) -> Need {
    Need::of(&Facts::any().prompt_tokens(prompt).output_tokens(output))
}

fn gauge() -> Arc<Gauge> {
    let gauge = Gauge::default();
    gauge.set_bounds(&Profile::new("a").max_prefill_tokens(4).max_total_tokens(10));
    Arc::new(gauge)
}

fn look(gauge: &Gauge) {
    let load = gauge.tokens_for(Priority::Critical, 0);
    assert!(load.prefill.taken <= 4 && load.total.taken <= 10 && gauge.in_flight() <= 2, "{load:?}");
}

/// One call, one that is held for another that enters with less, and one that looks on.
#[test]
fn slots_and_tokens_are_never_over_and_nothing_is_lost() {
    loom::model(|| {
        let gauge = gauge();
        let now = Instant::from_nanos(1);
        let caller = gauge.clone();
        let call = loom::thread::spawn(move || {
            let Some(mut ticket) = caller.enter(2, 1000, need(3, 3), now) else { return false };
            caller.first_item(&mut ticket);
            caller.leave(ticket);
            true
        });
        let holder = gauge.clone();
        let held = loom::thread::spawn(move || {
            let Ok(hold) = holder.hold(2, 1000, need(3, 3)) else { return false };
            holder.leave(holder.enter_held(hold, need(3, 3).without(1), now));
            true
        });
        look(&gauge);
        let (called, held) = (call.join().unwrap(), held.join().unwrap());
        assert!(called || held, "one of them finds room");
        assert_eq!((gauge.in_flight(), gauge.total_tokens(), gauge.read().waiting_tokens), (0, 0, 0));
    });
}

/// Somebody who wishes and looks again finds what was given back, or whoever gave it back finds the wish.
#[test]
fn no_wish_is_missed() {
    loom::model(|| {
        let gauge = gauge();
        let now = Instant::from_nanos(1);
        let mut ticket = gauge.enter(2, 1000, need(4, 0), now).unwrap();
        let caller = gauge.clone();
        let call = loom::thread::spawn(move || {
            caller.first_item(&mut ticket);
            let seen = caller.is_wanted();
            caller.leave(ticket);
            seen
        });
        gauge.want();
        let room = gauge.tokens_for(Priority::Standard, 0).full(need(4, 0)).is_none();
        assert!(call.join().unwrap() || room);
        gauge.unwant();
    });
}
