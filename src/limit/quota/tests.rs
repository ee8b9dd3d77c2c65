//! The buckets against plain arithmetic: never over, exact, and nothing left behind.

use super::bucket::{Bucket, WINDOW};
use super::words::word;
use super::{Claim, Need, Quotas, Spent};
use crate::facts::{Facts, Profile};
use crate::limit::{Gauge, Ticket};
use crate::rng::{Rng, mix};
use crate::time::{Clock, Instant};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub(super) fn bucket(limit: u64, burst: u64) -> Bucket {
    let bucket = Bucket::default();
    bucket.tell(limit, burst);
    bucket
}

pub(super) const fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// An hour, in which nothing but a bucket happened yet.
pub(super) const START: u64 = 3_600_000_000_000;

/// How many units of one are granted until `end` to who asks every `gap` nanoseconds.
fn granted(bucket: &Bucket, gap: u64, end: u64) -> u64 {
    (START..START + end).step_by(gap as usize).filter(|now| bucket.take(1, at(*now)).is_some()).count() as u64
}

#[test]
fn every_limit_grants_what_it_says() {
    for limit in [1, 7, 59, 60, 61, 100, 999, 6_000, 9_999] {
        // Asked often enough; the burst of the beginning, and then ten minutes.
        let most = granted(&bucket(limit, 1), WINDOW / limit / 50 + 1, 10 * WINDOW);
        assert!(most.abs_diff(10 * limit) <= 1 + limit / 10, "{limit}: {most}");
        assert_eq!(granted(&bucket(limit, 0), WINDOW, 1), 1);
    }
}

#[test]
fn the_grant_ratio_is_exact_to_one_percent_from_one_percent_to_all() {
    // Ten thousand requests a minute, of which the quota grants so many percent, for ten minutes.
    for percent in 1..=100u64 {
        let limit = 100 * percent;
        let granted = granted(&bucket(limit, 2), WINDOW / 10_000, 10 * WINDOW);
        let share = granted as f64 / 100_000.0;
        assert!((share / (percent as f64 / 100.0) - 1.0).abs() <= 0.01, "{percent} %: {share}");
    }
    // Of tokens likewise, that come in lumps of unequal size.
    for percent in 1..=100u64 {
        let (bucket, mut rng) = (bucket(60_000 * percent, 0), Rng::new(percent));
        let (mut granted, mut asked) = (0, 0);
        for now in (START..START + 100 * WINDOW).step_by(WINDOW as usize / 600) {
            let amount = 5_000 + rng.next_u64() % 10_001;
            asked += amount;
            granted += if bucket.take(amount, at(now)).is_some() { amount } else { 0 };
        }
        let expected = (60_000 * percent * 101).min(asked);
        assert!((granted as f64 / expected as f64 - 1.0).abs() <= 0.01, "{percent} %: {granted} of {expected}");
    }
}

#[test]
fn a_whole_bucket_fits_and_one_more_does_not() {
    for limit in [1, 3, 7, 1_000, 400_000, 1_500_000, 999_999_937, 60_000_000_000, u64::from(u32::MAX) * 1_000] {
        let bucket = bucket(limit, 0);
        assert_eq!((bucket.too_small_for(limit), bucket.too_small_for(limit + 1)), (None, Some(limit)));
        assert_eq!(bucket.too_small_for(u64::MAX), Some(limit));
        assert!(bucket.take(limit, at(START)).is_some(), "{limit}");
        assert_eq!(bucket.read(at(START)), Some((limit, 0)));
        assert_eq!(bucket.returns_at(limit, at(START)), at(START + WINDOW));
        assert!(
            bucket.take(limit, at(START + WINDOW - 1)).is_none() && bucket.take(limit, at(START + WINDOW)).is_some()
        );
    }
}

/// Cases that once failed stand beside this file, and are played first.
pub(super) fn with_old_failures() -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { failure_persistence: Some(Box::new(beside)), ..Default::default() }
}

proptest! {
    #![proptest_config(with_old_failures())]

    /// What a bucket says of the time when something fits is true, and not a nanosecond late.
    #[test]
    fn it_says_when_there_is_enough(limit in 1u64..2_000_000, takes in prop::collection::vec((1u64..5_000, 0u64..WINDOW / 10), 1..60)) {
        let bucket = bucket(limit, 0);
        let mut now = START;
        for (amount, pause) in takes {
            now += pause;
            let returns = bucket.returns_at(amount, at(now));
            if returns > at(now) {
                prop_assert!(bucket.take(amount, at(now)).is_none());
                prop_assert!(bucket.take(amount, at(returns.as_nanos() - 1)).is_none());
                now = returns.as_nanos();
                prop_assert_eq!(bucket.returns_at(amount, at(now)), Instant::default());
            }
            prop_assert!(bucket.take(amount, at(now)).is_some());
        }
    }

    /// In no window of a minute is there more than a minute's worth and what a full bucket holds, whatever is asked, and
    /// given back as soon as it was refused.
    #[test]
    fn no_window_has_more_than_the_limit_and_a_bucket(
        limit in 1u64..200, burst in 0u64..200, refused in 0u64..100, seed in any::<u64>(),
    ) {
        let bucket = bucket(limit, burst);
        let depth = if burst == 0 { limit } else { burst };
        let (mut now, mut sent, mut rng) = (START, Vec::new(), Rng::new(seed));
        // An answer takes up to a hundredth of the time between two requests.
        let trip = WINDOW / limit / 100;
        while sent.len() < 500 {
            now += rng.next_u64() % (WINDOW / limit / 4 + 1);
            if let Some(taken) = bucket.take(1, at(now)) {
                if rng.next_u64() % 100 < refused {
                    now += rng.next_u64() % trip;
                    bucket.settle(taken, 0);
                } else {
                    sent.push(now);
                }
            }
        }
        for (first, from) in sent.iter().enumerate() {
            let within = sent[first..].iter().take_while(|at| **at < from + WINDOW).count() as u64;
            prop_assert!(within <= limit + depth, "{} in the minute from {}, of {} and {}", within, from, limit, depth);
        }
    }
}

/// How many events; the environment may ask for more.
fn events() -> u64 {
    std::env::var("FALLWAY_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(1_000_000)
}

/// What a lease takes: a slot and a part of the quotas. Settled when it is dropped, panic or not.
struct Held<'t>(&'t Table, Option<(Ticket, Claim)>, Spent);

/// A backend that may have twenty calls in flight, and the clock of its threads, which moves with every event.
struct Table {
    gauge: Gauge,
    quotas: Quotas,
    clock: AtomicU64,
}

/// Nanoseconds between two events.
const TICK: u64 = 20_000;
/// How many there are of everything.
const SLOTS: u32 = 20;
const REQUESTS: u64 = 600_000;
const TOKENS: u64 = 60_000_000;

impl<'t> Held<'t> {
    fn take(table: &'t Table, expected: u64, now: Instant) -> Option<Self> {
        let facts = Facts::any().prompt_tokens(expected).output_tokens(0);
        let claim = table.quotas.take(Need::of(&facts), now)?;
        match table.gauge.enter(SLOTS, 1000, Need::of(&facts), now) {
            Some(ticket) => Some(Self(table, Some((ticket, claim)), Spent::Tokens(None))),
            None => {
                table.quotas.settle(&claim, Spent::Nothing);
                None
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some((ticket, claim)) = self.1.take() {
            self.0.quotas.settle(&claim, self.2);
            self.0.gauge.leave(ticket);
        }
    }
}

/// One of several threads that take, give back, correct, cancel and panic.
fn work(table: &Table, seed: u64, events: u64) {
    let mut rng = Rng::new(seed);
    let mut held: Vec<Held<'_>> = Vec::new();
    for _ in 0..events {
        let now = at(table.clock.fetch_add(TICK, Ordering::SeqCst));
        let draw = rng.next_u64();
        if draw.is_multiple_of(2) {
            held.extend(Held::take(table, 1 + draw / 2 % 4_000, now));
        } else if !held.is_empty() {
            let mut one = held.swap_remove(draw as usize / 2 % held.len());
            one.2 = match draw / 64 % 8 {
                0 => Spent::Nothing,
                1 => Spent::Request,
                2 => Spent::Tokens(Some(8_000)),
                3..6 => Spent::Tokens(Some(draw % 1_000)),
                _ => Spent::Tokens(None),
            };
            if (draw / 1_024).is_multiple_of(64) {
                panics(one);
            }
        }
        let (in_flight, left) = (table.gauge.in_flight(), table.quotas.read(now));
        assert!(in_flight <= SLOTS, "{in_flight} in flight");
        // What answers used beyond their estimates is owed. The clock has moved on since, for other threads as well.
        let owed = u64::from(SLOTS) * 8_000 * WINDOW / TOKENS;
        let full_at = now + left.requests.resets_in.max(left.tokens.resets_in).unwrap_or_default();
        let latest = at(table.clock.load(Ordering::SeqCst)) + Duration::from_nanos(WINDOW + owed);
        assert!(full_at <= latest, "more than all is taken: {full_at:?}, at most {latest:?}");
    }
}

/// Drops it in a panic that prints nothing.
fn panics(held: Held<'_>) {
    let work = std::panic::AssertUnwindSafe(move || {
        let _held = held;
        std::panic::resume_unwind(Box::new("planned"));
    });
    assert!(std::panic::catch_unwind(work).is_err());
}

#[test]
fn a_million_events_from_two_and_eight_threads_are_never_over_and_leave_nothing() {
    for threads in [2, 8] {
        let table = Table { gauge: Gauge::default(), quotas: Quotas::default(), clock: AtomicU64::new(START) };
        table.quotas.tell(&Profile::new("a").requests_per_minute(REQUESTS).tokens_per_minute(TOKENS));
        thread::scope(|scope| {
            for thread in 0..threads {
                let table = &table;
                scope.spawn(move || work(table, mix(7, thread), events() / threads));
            }
        });
        let load = table.gauge.read();
        assert_eq!((load.in_flight, load.waiting_tokens, load.oldest_wait()), (0, 0, None));
        let left = table.quotas.read(at(table.clock.into_inner() + 2 * WINDOW));
        assert_eq!((left.requests.remaining, left.tokens.remaining), (Some(REQUESTS), Some(TOKENS)));
        assert_eq!((left.requests.resets_in, left.tokens.resets_in), (Some(Duration::ZERO), Some(Duration::ZERO)));
    }
}

#[test]
fn eight_threads_get_a_hundred_a_minute_and_the_burst() {
    for burst in [1, 10, 0] {
        let (bucket, clock) = (bucket(100, burst), AtomicU64::new(START));
        let sent = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let now = clock.fetch_add(1_000_000, Ordering::SeqCst);
                        if now >= START + 5 * WINDOW {
                            return;
                        }
                        if bucket.take(1, at(now)).is_some() {
                            sent.lock().unwrap().push(now);
                        }
                    }
                });
            }
        });
        let mut sent = sent.into_inner().unwrap();
        sent.sort_unstable();
        let depth = if burst == 0 { 100 } else { burst as usize };
        let within = |first: usize| sent[first..].iter().take_while(|at| **at < sent[first] + WINDOW).count();
        let most = (0..sent.len()).map(within).max().unwrap();
        assert!(most <= 100 + depth, "{most} of 100 and {depth}");
        assert!((500 + depth - 8..=500 + depth).contains(&sent.len()), "{} in five minutes", sent.len());
    }
}

#[test]
fn in_real_time_too() {
    // 60,000 a minute are one in a millisecond: as fast as eight threads can ask, for a twentieth of a second.
    let (bucket, clock) = (bucket(60_000, 5), Clock);
    let (start, granted, last) = (clock.now(), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let now = clock.now();
                    if now >= start + Duration::from_millis(50) {
                        return;
                    }
                    granted.fetch_add(u64::from(bucket.take(1, now).is_some()), Ordering::SeqCst);
                    last.fetch_max(now.as_nanos(), Ordering::SeqCst);
                }
            });
        }
    });
    let elapsed = at(last.into_inner()) - start;
    let most = 5 + elapsed.as_millis() as u64;
    let granted = granted.into_inner();
    assert!(granted <= most + 1, "{granted} in {elapsed:?}");
}

#[test]
fn what_was_taken_is_given_back_to_the_nanosecond() {
    let bucket = bucket(999_999_937, 0);
    let mut rng = Rng::new(3);
    let taken: Vec<_> = (0..1_000).filter_map(|_| bucket.take(1 + rng.next_u64() % 100_000, at(START))).collect();
    let gone = bucket.gone(at(START));
    let last = bucket.take(77, at(START)).unwrap();
    bucket.settle(last, 0);
    assert_eq!(bucket.gone(at(START)), gone);
    taken.into_iter().for_each(|taken| bucket.settle(taken, 0));
    assert_eq!((bucket.gone(at(START)), bucket.read(at(START))), (0, Some((999_999_937, 999_999_937))));
}

#[test]
fn nothing_overflows_at_the_edges() {
    for limit in [1, u64::MAX] {
        let bucket = bucket(limit, 0);
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            for amount in [0, 1, u64::MAX] {
                let taken = bucket.take(amount, at(now));
                bucket.returns_at(amount, at(now));
                if let Some(taken) = taken {
                    bucket.hear(&word(limit, amount), taken.mark(), at(START), at(now));
                    bucket.refused(taken, u64::MAX, at(now));
                    bucket.settle(taken, amount);
                    bucket.settle(taken, 0);
                }
                bucket.read(at(now));
            }
        }
    }
}
