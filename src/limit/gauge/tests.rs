//! The books of one backend.

use super::*;
use crate::facts::Facts;
use crate::rng::{Rng, mix};
use proptest::prelude::*;
use std::thread;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn need(prompt: u64, output: u64) -> Need {
    Need::of(&Facts::any().prompt_tokens(prompt).output_tokens(output))
}

/// 0 for no bound.
fn bounds(prefill: u64, total: u64) -> Profile {
    let profile = Profile::new("a");
    let profile = if prefill > 0 { profile.max_prefill_tokens(prefill) } else { profile };
    if total > 0 { profile.max_total_tokens(total) } else { profile }
}

fn bounded(prefill: u64, total: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set_bounds(&bounds(prefill, total));
    gauge
}

fn books(gauge: &Gauge) -> (u32, u64, u64) {
    let load = gauge.read();
    (load.in_flight, load.waiting_tokens, gauge.total_tokens())
}

#[test]
fn the_limit_holds_and_zero_is_nothing() {
    let gauge = Gauge::default();
    let ticket = gauge.enter(1, 1000, need(10, 0), at(5)).unwrap();
    assert!(gauge.enter(1, 1000, need(10, 0), at(6)).is_none());
    assert!(gauge.enter(0, 1000, need(10, 0), at(6)).is_none());
    gauge.leave(ticket);
    assert_eq!(gauge.read(), Load { last_called: at(5), ..Load::default() });
}

#[test]
fn tokens_are_taken_with_the_slot_or_not_at_all() {
    let gauge = bounded(100, 300);
    let mut first = gauge.enter(9, 1000, need(60, 40), at(1)).unwrap();
    assert_eq!(books(&gauge), (1, 60, 100));
    for (limit, share, asks) in
        [(9, 1000, need(41, 0)), (9, 1000, need(40, 161)), (1, 1000, need(1, 1)), (9, 700, need(11, 0))]
    {
        assert!(gauge.enter(limit, share, asks, at(2)).is_none(), "{asks:?}");
        assert_eq!(gauge.hold(limit, share, asks).unwrap_err(), if limit == 1 { Short::Slots } else { Short::Tokens });
        assert_eq!(books(&gauge), (1, 60, 100), "{asks:?}");
    }
    // The prompt is done with the first item, the rest with the call.
    assert!(gauge.first_item(&mut first));
    assert_eq!(books(&gauge), (1, 0, 100));
    let second = gauge.enter(9, 1000, need(100, 100), at(3)).unwrap();
    assert_eq!(books(&gauge), (2, 100, 300));
    gauge.leave(first);
    gauge.leave(second);
    assert_eq!(books(&gauge), (0, 0, 0));
}

#[test]
fn what_is_held_is_entered_with_to_the_token() {
    let gauge = bounded(100, 300);
    // A prompt longer than the bound, for all that is known of caches: who enters knows more.
    let hold = gauge.hold(9, 1000, need(150, 50)).unwrap();
    assert_eq!(books(&gauge), (1, 100, 200));
    assert_eq!(gauge.tokens_beside(&hold), bounded(100, 300).tokens_for(Priority::Batch, 0));
    let ticket = gauge.enter_held(hold, need(150, 50).without(70), at(1));
    assert_eq!(books(&gauge), (1, 80, 200));
    let hold = gauge.hold(9, 1000, need(20, 80)).unwrap();
    gauge.set_bounds(&bounds(0, 0));
    gauge.release(hold);
    gauge.leave(ticket);
    assert_eq!(books(&gauge), (0, 0, 0));
}

#[test]
fn a_promise_is_for_whoever_comes_before() {
    let gauge = bounded(100, 0);
    let until = None;
    gauge.promise(Some(Promise { priority: Priority::Standard, round: 3, until }));
    let promised = |priority| gauge.tokens_for(priority, 3).promised;
    assert!(promised(Priority::Batch) && promised(Priority::Standard) && !promised(Priority::Critical));
    // All were called since, and nobody is first.
    assert!(!gauge.tokens_for(Priority::Batch, 4).promised);
    let until = Some(Instant::from_nanos(70));
    gauge.promise(Some(Promise { priority: Priority::Standard, round: 3, until }));
    assert!(!promised(Priority::Batch));
    let until = |priority, round| gauge.promised_until(priority, round).as_nanos();
    assert_eq!([until(Priority::Batch, 3), until(Priority::Critical, 3), until(Priority::Batch, 4)], [70, 0, 0]);
    gauge.promise(None);
    assert!(!promised(Priority::Batch) && !gauge.is_promised());
}

/// What is in flight, in plain words: since when, tokens of its prompt while it waits, all of its tokens, its ticket.
type Flying = (u64, u64, u64, Ticket);
/// What is held: of its prompt, of all, what for.
type Held = (u64, u64, Need, Hold);

proptest! {
    /// Against plain lists: whatever the order of events, the books show exactly what is in flight, and whoever finds no
    /// room is right.
    #[test]
    fn the_books_balance(events in prop::collection::vec((0u8..8, any::<prop::sample::Index>(), any::<u64>()), 1..200)) {
        let gauge = Gauge::default();
        let (mut flying, mut held): (Vec<Flying>, Vec<Held>) = (Vec::new(), Vec::new());
        let (mut most_prefill, mut most_total) = (u64::MAX, u64::MAX);
        for (time, (event, which, tokens)) in (1u64..).zip(events) {
            let asks = if tokens.is_multiple_of(16) { need(tokens, 0) } else { need(tokens % 300, tokens / 300 % 300) };
            let prefill: u64 = flying.iter().map(|(_, prefill, ..)| prefill).chain(held.iter().map(|(it, ..)| it)).sum();
            let total: u64 = flying.iter().map(|(_, _, total, _)| total).chain(held.iter().map(|(_, it, ..)| it)).sum();
            let own = |asked: u64, bound: u64| if bound == u64::MAX { 0 } else { asked.min(bound) };
            let fits = |asked: u64, taken: u64, bound: u64| {
                bound == u64::MAX || asked == 0 || taken.saturating_add(asked) <= bound
            };
            let takes_total = own(asks.expected, most_total);
            let room = flying.len() + held.len() < 20 && fits(takes_total, total, most_total);
            match event {
                0 | 1 => {
                    let ticket = gauge.enter(20, 1000, asks, at(time));
                    prop_assert_eq!(ticket.is_some(), room && fits(asks.prefill, prefill, most_prefill));
                    if let Some(ticket) = ticket {
                        flying.push((time, asks.prefill.min(MAX_TOKENS), takes_total, ticket));
                    }
                }
                2 => {
                    let hold = gauge.hold(20, 1000, asks);
                    let prompt = own(asks.prefill, most_prefill);
                    prop_assert_eq!(hold.is_ok(), room && fits(prompt, prefill, most_prefill));
                    if let Ok(hold) = hold {
                        held.push((prompt.min(MAX_TOKENS), takes_total, asks, hold));
                    }
                }
                3 if !held.is_empty() => gauge.release(held.remove(which.index(held.len())).3),
                4 if !held.is_empty() => {
                    let (.., total, asks, hold) = held.remove(which.index(held.len()));
                    let asks = asks.without(tokens % 64);
                    let ticket = gauge.enter_held(hold, asks, at(time));
                    flying.push((time, asks.prefill.min(MAX_TOKENS), total, ticket));
                }
                5 if tokens.is_multiple_of(4) => {
                    let draw = |tokens: u64| if tokens.is_multiple_of(3) { 0 } else { 200 + tokens % 1_000 };
                    let profile = bounds(draw(tokens / 4), draw(tokens / 5_000));
                    gauge.set_bounds(&profile);
                    (most_prefill, most_total) = (
                        profile.max_prefill_tokens.unwrap_or(u64::MAX),
                        profile.max_total_tokens.unwrap_or(u64::MAX),
                    );
                }
                6 if !flying.is_empty() => {
                    let index = which.index(flying.len());
                    let (_, prefill, _, ticket) = &mut flying[index];
                    gauge.first_item(ticket);
                    *prefill = 0;
                }
                7 if !flying.is_empty() => gauge.leave(flying.remove(which.index(flying.len())).3),
                _ => {}
            }
            let waiting = || flying.iter().filter(|(.., ticket)| ticket.place.is_some());
            let prefill: u64 = flying.iter().map(|(_, prefill, ..)| prefill).chain(held.iter().map(|(it, ..)| it)).sum();
            let total: u64 = flying.iter().map(|(_, _, total, _)| total).chain(held.iter().map(|(_, it, ..)| it)).sum();
            prop_assert_eq!(books(&gauge), ((flying.len() + held.len()) as u32, prefill, total));
            prop_assert_eq!(gauge.read().oldest_wait(), waiting().map(|(since, ..)| at(*since)).min());
            prop_assert_eq!(gauge.waiting_calls() as usize, waiting().count());
        }
        flying.into_iter().for_each(|(.., ticket)| gauge.leave(ticket));
        held.into_iter().for_each(|(.., hold)| gauge.release(hold));
        prop_assert_eq!((books(&gauge), gauge.read().oldest_wait()), ((0, 0, 0), None));
    }
}

/// How many events the threads have together.
fn events() -> u64 {
    std::env::var("FALLWAY_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(1_000_000)
}

/// A call or what is held for one; given back when it is dropped, panic or not.
struct Taken<'g>(&'g Gauge, Option<Result<Ticket, Hold>>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        match self.1.take() {
            Some(Ok(ticket)) => self.0.leave(ticket),
            Some(Err(hold)) => self.0.release(hold),
            None => {}
        }
    }
}

const SLOTS: u32 = 20;
/// Of prompts and of all, as it is most of the time, and as it is set between.
const BOUNDS: [(u64, u64); 3] = [(2_000, 6_000), (500, 1_500), (1_000, 0)];

fn work(gauge: &Gauge, seed: u64, events: u64) {
    let mut rng = Rng::new(seed);
    let mut taken: Vec<Taken<'_>> = Vec::new();
    for time in 1..=events {
        let draw = rng.next_u64();
        let (asks, event, one) = (need(draw % 400, draw / 400 % 400), draw >> 32 & 15, draw as usize >> 40);
        match event {
            0..6 => {
                let ticket = gauge.enter(SLOTS, 1000, asks, at(time));
                taken.extend(ticket.map(|ticket| Taken(gauge, Some(Ok(ticket)))));
            }
            6 | 7 => taken.extend(gauge.hold(SLOTS, 1000, asks).ok().map(|hold| Taken(gauge, Some(Err(hold))))),
            8 if (draw >> 36).trailing_zeros() >= 6 => {
                let (prefill, total) = BOUNDS[one % 3];
                gauge.set_bounds(&bounds(prefill, total));
            }
            _ if taken.is_empty() => {}
            8..12 => {
                let at_hand = taken.len();
                let Taken(_, held) = &mut taken[one % at_hand];
                *held = held.take().map(|held| match held {
                    Ok(mut ticket) => {
                        gauge.first_item(&mut ticket);
                        Ok(ticket)
                    }
                    // What it has in its cache is known only now.
                    Err(hold) if hold.0.prefill > 0 => {
                        let prompt = need(hold.0.prefill, 0).without(draw % 64);
                        Ok(gauge.enter_held(hold, prompt, at(time)))
                    }
                    Err(hold) => Err(hold),
                });
            }
            _ => {
                let one = taken.swap_remove(one % taken.len());
                if (draw >> 36).trailing_zeros() >= 4 {
                    let work = std::panic::AssertUnwindSafe(move || {
                        let _one = one;
                        std::panic::resume_unwind(Box::new("planned"));
                    });
                    assert!(std::panic::catch_unwind(work).is_err());
                }
            }
        }
        let (in_flight, prefill, total) = books(gauge);
        assert!(in_flight <= SLOTS && prefill <= BOUNDS[0].0 && total <= BOUNDS[0].1, "{in_flight} {prefill} {total}");
    }
}

#[test]
fn a_million_events_from_two_and_eight_threads_are_never_over_and_leave_nothing() {
    for threads in [2, 8] {
        let gauge = bounded(BOUNDS[0].0, BOUNDS[0].1);
        thread::scope(|scope| {
            for thread in 0..threads {
                let gauge = &gauge;
                scope.spawn(move || work(gauge, mix(11, thread), events() / threads));
            }
        });
        assert_eq!((books(&gauge), gauge.read().oldest_wait(), gauge.waiting_calls()), ((0, 0, 0), None, 0));
    }
}
