//! What a backend says of its quotas, against its own books.

use super::bucket::{Bucket, WINDOW};
use super::tests::{START, at, bucket, with_old_failures};
use crate::backend::quota::Quota;
use crate::rng::Rng;
use proptest::prelude::*;

/// A word of the backend: its limit, and what is left of it.
pub(super) fn word(limit: impl Into<Option<u64>>, left: impl Into<Option<u64>>) -> Quota {
    Quota { limit: limit.into(), remaining: left.into(), resets_in: None }
}

/// What is left after a minute's worth of 6,000 was taken to this, and the backend has said something to it.
fn left_after(bucket: &Bucket, taken: u64, quota: Quota) -> Option<u64> {
    let claim = bucket.take(taken, at(START))?;
    bucket.hear(&quota, claim.mark(), at(START), at(START));
    Some(bucket.read(at(START))?.1)
}

#[test]
fn a_word_of_the_backend_closes_what_was_taken_before() {
    let bucket = bucket(6_000, 0);
    let early = bucket.take(1_000, at(START)).unwrap();
    let late = bucket.take(500, at(START)).unwrap();
    assert!(!bucket.hear(&word(None, 2_000), early.mark(), at(START), at(START)));
    // What was taken later may be on its way.
    assert_eq!(bucket.read(at(START)), Some((6_000, 1_500)));
    // The backend has counted what came before it spoke.
    bucket.settle(early, 0);
    assert_eq!(bucket.read(at(START)), Some((6_000, 1_500)));
    bucket.settle(late, 0);
    assert_eq!(bucket.read(at(START)), Some((6_000, 2_000)));
    // No more of a limit than the host said.
    let hear = |limit| bucket.hear(&word(limit, None), late.mark(), at(START), at(START));
    for (limit, expected) in [(9_000, (6_000, 2_000)), (3_000, (3_000, 1_000)), (4_500, (4_500, 1_500))] {
        hear(limit);
        assert_eq!(bucket.read(at(START + 8)), Some(expected));
    }
}

#[test]
fn more_is_believed_where_all_of_it_is_for_this_router() {
    // The whole quota, or a part of it as the rate and the whole at once.
    assert_eq!(left_after(&bucket(6_000, 0), 4_000, word(6_000, 5_000)), Some(5_000));
    assert_eq!(left_after(&bucket(200, 6_000), 4_000, word(6_000, 5_000)), Some(5_000));
    // A part, or less at once than a minute's worth; or the backend does not say what all of it is.
    assert_eq!(left_after(&bucket(6_000, 0), 4_000, word(9_000, 5_000)), Some(2_000));
    assert_eq!(left_after(&bucket(6_000, 4_500), 4_000, word(6_000, 5_000)), Some(500));
    assert_eq!(left_after(&bucket(6_000, 0), 4_000, word(None, 5_000)), Some(2_000));
    // Less always is.
    for bucket in [bucket(6_000, 0), bucket(200, 6_000), bucket(6_000, 4_500)] {
        assert_eq!(left_after(&bucket, 4_000, word(9_000, 100)), Some(100));
    }
}

#[test]
fn what_comes_late_of_an_earlier_attempt_is_old() {
    for (old, new) in [(5_500, 3_000), (1_000, 3_000)] {
        let bucket = bucket(6_000, 0);
        let [first, second] = [(); 2].map(|()| bucket.take(100, at(START)).unwrap());
        bucket.hear(&word(6_000, new), second.mark(), at(START), at(START));
        assert!(!bucket.hear(&word(6_000, old), first.mark(), at(START), at(START)));
        assert_eq!(bucket.read(at(START)), Some((6_000, new)));
        // The same attempt may say more, later.
        bucket.hear(&word(6_000, new + 7), second.mark(), at(START), at(START));
        assert_eq!(bucket.read(at(START)), Some((6_000, new + 7)));
    }
}

#[test]
fn a_slow_answer_takes_nothing_away_of_what_refilled_meanwhile() {
    let bucket = bucket(6_000, 0);
    let claim = bucket.take(3_000, at(START)).unwrap();
    let later = START + WINDOW / 4;
    // 1,500 have refilled, so 3,000 to 4,500 may be left, and the own books are as good as any of them.
    bucket.hear(&word(6_000, 3_000), claim.mark(), at(START), at(later));
    assert_eq!(bucket.read(at(later)), Some((6_000, 4_500)));
    // Outside of that they are mended to the nearest that may be.
    bucket.hear(&word(6_000, 2_000), claim.mark(), at(START), at(later));
    assert_eq!(bucket.read(at(later)), Some((6_000, 3_500)));
    bucket.hear(&word(6_000, 4_000), claim.mark(), at(START), at(later));
    assert_eq!(bucket.read(at(later)), Some((6_000, 4_000)));
}

#[test]
fn a_burst_that_is_refused_in_any_order_leaves_what_the_hint_says() {
    for reversed in [false, true] {
        let bucket = bucket(6_000, 0);
        let mut claims = [(); 50].map(|()| bucket.take(100, at(START)).unwrap());
        if reversed {
            claims.reverse();
        }
        for claim in claims {
            bucket.settle(claim, 0);
            bucket.refused(claim, WINDOW / 60, at(START));
        }
        assert_eq!(bucket.returns_at(100, at(START)), at(START + WINDOW / 60));
    }
}

#[test]
fn who_took_of_the_old_key_says_nothing_of_the_new() {
    let bucket = bucket(6_000, 0);
    let old = bucket.take(1_000, at(START)).unwrap();
    bucket.renew();
    assert!(!bucket.hear(&word(10, 0), old.mark(), at(START), at(START)));
    bucket.settle(old, 0);
    assert_eq!(bucket.read(at(START)), Some((6_000, 6_000)));
    assert_eq!(left_after(&bucket, 1_000, word(6_000, 500)), Some(500));
}

/// A bucket of which claims take years at a time, so that a few of them are more nanoseconds than there are.
const YEARS: u64 = 10_000_000;

fn deep() -> Bucket {
    bucket(1, 3 * YEARS)
}

#[test]
fn what_is_given_back_comes_back_however_much_was_taken_before() {
    // Found full by each claim, and by none but the first.
    for kept in [0, YEARS / 10] {
        let bucket = deep();
        bucket.take(kept, at(START)).unwrap();
        for now in START + 1..START + 200 {
            let claim = bucket.take(YEARS, at(now)).unwrap();
            bucket.settle(claim, 0);
            assert!(bucket.gone(at(now)) <= kept * WINDOW, "{kept}: claim {}", now - START);
        }
    }
}

#[test]
fn what_the_backend_says_is_heard_however_much_was_taken_before() {
    // By each answer, and after a long time in which it said nothing.
    for every in [1, 13, 25] {
        let bucket = deep();
        for number in 1..200 {
            let claim = bucket.take(YEARS, at(START)).unwrap();
            if number % every > 0 {
                bucket.settle(claim, 0);
                continue;
            }
            let left = 2 * YEARS + number;
            bucket.hear(&word(3 * YEARS, left), claim.mark(), at(START), at(START));
            assert_eq!(bucket.read(at(START)).map(|(_, left)| left), Some(left), "every {every}: {number}");
        }
    }
}

proptest! {
    #![proptest_config(with_old_failures())]

    /// Whatever answers say of what is left, in whatever order they come and however late: what is sent is there. A request
    /// uses what was expected or less, and only the backend's word tells how much.
    #[test]
    fn what_is_sent_is_there_by_the_backends_own_books(limit in 600u64..600_000, seed in any::<u64>()) {
        let (bucket, mut rng) = (bucket(limit, 0), Rng::new(seed));
        let per_nano = limit as f64 / WINDOW as f64;
        let (mut level, mut now) = (limit as f64, START);
        let (mut answers, mut raised) = (Vec::new(), 0);
        for _ in 0..400 {
            let pause = rng.next_u64() % (WINDOW / 40);
            now += pause;
            level = (level + pause as f64 * per_nano).min(limit as f64);
            if !rng.next_u64().is_multiple_of(3) {
                let expected = 1 + rng.next_u64() % (limit / 10);
                let Some(claim) = bucket.take(expected, at(now)) else { continue };
                prop_assert!(expected as f64 <= level + 1.0, "{} of {}", expected, level);
                level -= (rng.next_u64() % (expected + 1)) as f64;
                answers.push((claim.mark(), now, level as u64));
            } else if !answers.is_empty() {
                let (mark, sent, left) = answers.swap_remove(rng.next_u64() as usize % answers.len());
                let before = bucket.read(at(now)).unwrap().1;
                bucket.hear(&word(limit, left), mark, at(sent), at(now));
                let after = bucket.read(at(now)).unwrap().1;
                prop_assert!(after as f64 <= level + 1.0, "{} of {}", after, level);
                raised += u64::from(after > before);
            }
        }
        prop_assert!(raised > 10, "{}", raised);
    }
}
