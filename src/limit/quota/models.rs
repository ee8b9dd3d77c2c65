//! Every interleaving of what threads do to a bucket, tried by loom (docs/contributing.md says how to run it).

use super::bucket::{Bucket, WINDOW};
use crate::backend::quota::Quota;
use crate::sync::Ordering;
use crate::time::Instant;
use std::sync::Arc;

const START: u64 = 3_600_000_000_000;
/// One of a hundred a minute.
const UNIT: u64 = WINDOW / 100;

const fn at(nanos: u64) -> Instant {
    Instant::from_nanos(START + nanos)
}

/// Tries every interleaving with at most two preemptions, which is where such mistakes are found.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(check);
}

fn bucket(limit: u64, burst: u64) -> Arc<Bucket> {
    let bucket = Bucket::default();
    bucket.tell(limit, burst);
    Arc::new(bucket)
}

fn spawn<T: 'static>(bucket: &Arc<Bucket>, act: impl FnOnce(&Bucket) -> T + 'static) -> loom::thread::JoinHandle<T> {
    let bucket = bucket.clone();
    loom::thread::spawn(move || act(&bucket))
}

const fn left(amount: u64) -> Quota {
    Quota { limit: Some(100), remaining: Some(amount), resets_in: None }
}

fn racing_takes(take: fn(&Bucket) -> bool) {
    model(move || {
        let bucket = bucket(100, 2);
        let others = [(); 2].map(|()| spawn(&bucket, take));
        let own = take(&bucket);
        let granted = others.into_iter().map(|other| other.join().unwrap()).filter(|granted| *granted).count();
        assert_eq!(granted + usize::from(own), 2);
    });
}

#[test]
fn racing_requests_get_what_is_there_and_no_more() {
    racing_takes(|bucket| bucket.take(1, at(0)).is_some());
}

#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn a_look_before_a_leap_would_be_found() {
    racing_takes(|bucket| {
        let there = bucket.returns_at(1, at(0)) == Instant::default();
        if there {
            bucket.full_at.store(bucket.full_at.load(Ordering::Acquire).max(START) + UNIT, Ordering::Release);
        }
        there
    });
}

#[test]
fn what_is_given_back_and_taken_at_once_adds_up() {
    model(|| {
        let bucket = bucket(100, 0);
        let held = bucket.take(30, at(0)).unwrap();
        let other = spawn(&bucket, |bucket| bucket.take(50, at(1)).is_some());
        bucket.settle(held, 10);
        assert!(other.join().unwrap());
        assert_eq!(bucket.gone(at(0)), 60 * UNIT);
    });
}

#[test]
fn who_found_the_bucket_full_is_not_paid_by_what_refilled_before() {
    model(|| {
        let bucket = bucket(100, 0);
        let early = bucket.take(10, at(0)).unwrap();
        // All of it has refilled.
        let late = spawn(&bucket, |bucket| bucket.take(100, at(10 * UNIT)).is_some());
        bucket.settle(early, 0);
        assert!(late.join().unwrap());
        assert_eq!(bucket.gone(at(10 * UNIT)), WINDOW);
    });
}

#[test]
fn what_is_taken_while_the_backend_speaks_is_not_in_its_word() {
    model(|| {
        let bucket = bucket(100, 0);
        let early = bucket.take(40, at(0)).unwrap();
        let mark = early.mark();
        let word = spawn(&bucket, move |bucket| bucket.hear(&left(80), mark, at(0), at(0)));
        let late = bucket.take(10, at(0)).unwrap();
        word.join().unwrap();
        // At worst it is counted twice, until the next word.
        let gone = bucket.gone(at(0));
        assert!((30 * UNIT..=40 * UNIT).contains(&gone), "{gone}");
        bucket.settle(late, 0);
        assert!(bucket.gone(at(0)) >= 20 * UNIT);
    });
}

#[test]
fn the_word_of_the_backend_is_the_last() {
    model(|| {
        let bucket = bucket(100, 0);
        let early = bucket.take(40, at(0)).unwrap();
        let mark = early.mark();
        let word = spawn(&bucket, move |bucket| bucket.hear(&left(20), mark, at(1), at(1)));
        bucket.settle(early, 0);
        word.join().unwrap();
        // Said before or after: what is left is no more than the backend said.
        assert_eq!(bucket.gone(at(1)), 80 * UNIT);
    });
}
