//! [`Window`]: how the latest attempts ended.

use crate::time::{Instant, nanos};
use std::time::Duration;

/// Exact counts of how attempts ended in the last `SECONDS`, half a minute by default: numbers, and no average that never forgets.
///
/// Everything is counted when an attempt *ends*, failures and successes alike. Where calls take so long that the window
/// would see quick failures and miss the successes that began with them, the window grows: to twice the longest call in
/// it. What is old leaves by its age, whether or not anything happens meanwhile, and reading changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Window<const SECONDS: u64 = { super::Ejection::WINDOW.as_secs() }> {
    buckets: [Bucket; BUCKETS],
    /// How often the width of a bucket was doubled.
    widened: u32,
    /// The bucket that was written last.
    newest: u64,
}

/// How attempts ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// Answered.
    pub(crate) good: u64,
    /// Failed by a fault of the backend, or on the way to it.
    pub(crate) failed: u64,
    /// Refused for a while: 429, 503. No illness, and no success.
    pub(crate) refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which stretch of time it counts, in widths since the origin.
    number: u64,
    tally: Tally,
}

const BUCKETS: usize = 10;
/// The window doubles so often at most: from half a minute to eight.
const WIDEST: u32 = 4;

impl Tally {
    /// What the failure rate is a rate of: a refusal neither shows an illness nor hides one.
    pub(crate) const fn judged(&self) -> u64 {
        self.good.saturating_add(self.failed)
    }

    pub(crate) const fn all(&self) -> u64 {
        self.judged().saturating_add(self.refused)
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            good: self.good.saturating_add(other.good),
            failed: self.failed.saturating_add(other.failed),
            refused: self.refused.saturating_add(other.refused),
        }
    }
}

impl<const SECONDS: u64> Window<SECONDS> {
    /// The width of a bucket at first, in nanoseconds.
    const WIDTH: u64 = SECONDS * 1_000_000_000 / BUCKETS as u64;

    /// An attempt that took `elapsed` ended so.
    pub(crate) fn count(&mut self, ended: Tally, elapsed: Duration, now: Instant) {
        if self.number(now) < self.newest || self.tally(now) == Tally::default() {
            // The clock ran backwards, or nothing is left.
            *self = Self::default();
        }
        while nanos(elapsed).saturating_mul(2) > self.width() * BUCKETS as u64 && self.widened < WIDEST {
            self.widen();
        }
        let number = self.number(now);
        let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, tally: Tally::default() };
        }
        bucket.tally = bucket.tally.plus(ended);
        self.newest = number;
    }

    /// How attempts ended in the window that ends now.
    pub(crate) fn tally(&self, now: Instant) -> Tally {
        let last = self.number(now);
        let first = last.saturating_sub(BUCKETS as u64 - 1);
        let inside = self.buckets.iter().filter(|bucket| (first..=last).contains(&bucket.number));
        inside.fold(Tally::default(), |sum, bucket| sum.plus(bucket.tally))
    }

    const fn width(&self) -> u64 {
        Self::WIDTH << self.widened
    }

    const fn number(&self, now: Instant) -> u64 {
        now.as_nanos() / self.width()
    }

    /// Two neighbours become one.
    fn widen(&mut self) {
        let old = std::mem::take(&mut self.buckets);
        let oldest = self.newest.saturating_sub(BUCKETS as u64 - 1);
        self.widened += 1;
        self.newest /= 2;
        for bucket in old.iter().filter(|bucket| bucket.number >= oldest) {
            let number = bucket.number / 2;
            let wide = &mut self.buckets[(number % BUCKETS as u64) as usize];
            *wide = Bucket { number, tally: wide.tally.plus(bucket.tally) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::Ejection;
    use crate::rng::Rng;

    const GOOD: Tally = Tally { good: 1, failed: 0, refused: 0 };
    const FAILED: Tally = Tally { good: 0, failed: 1, refused: 0 };
    const QUICK: Duration = Duration::from_millis(5);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn what_is_old_leaves_by_itself_and_reading_changes_nothing() {
        let mut window = <Window>::default();
        (0..5).for_each(|n| window.count(FAILED, QUICK, at(60_000 + n)));
        for ms in [60_004, 80_000, 86_999] {
            assert_eq!(window.tally(at(ms)), Tally { failed: 5, ..Tally::default() }, "{ms}");
        }
        assert_eq!(window.tally(at(90_000)), Tally::default());
        assert_eq!(window.tally(at(60_004)).failed, 5, "a look into the future forgot something");
        assert_eq!(window.tally(at(1)), Tally::default(), "a clock that jumped back");
    }

    /// Against a list of all that was counted: what is younger than the window less one bucket is in it, what is older
    /// than the window is not.
    #[test]
    fn it_counts_what_a_list_would() {
        let mut rng = Rng::new(5);
        let (mut window, mut list, mut now) = (<Window>::default(), Vec::new(), 1_000_000u64);
        for _ in 0..20_000 {
            let most = if rng.below(50) == 0 { 40_000 } else { 900 };
            now += rng.below(most) as u64;
            let ended = [GOOD, FAILED][rng.below(2)];
            window.count(ended, QUICK, at(now));
            list.push((now, ended));
            let younger = |age: u64| {
                let inside = list.iter().rev().take_while(|(then, _)| now - then < age);
                inside.fold(Tally::default(), |sum, (_, ended)| sum.plus(*ended))
            };
            let (least, tally, most) = (younger(27_000), window.tally(at(now)), younger(30_000));
            assert!(least.failed <= tally.failed && tally.failed <= most.failed, "{least:?} {tally:?} {most:?}");
            assert!(least.good <= tally.good && tally.good <= most.good, "{least:?} {tally:?} {most:?}");
        }
    }

    #[test]
    fn it_outlasts_the_calls() {
        // One call in five fails at once, the others take a minute: in half a minute only failures would be seen.
        let mut window = <Window>::default();
        window.count(GOOD, Duration::from_secs(60), at(600_000));
        for n in 0..4 {
            window.count(FAILED, QUICK, at(600_000 + n * 20_000));
        }
        assert_eq!(window.tally(at(670_000)), Tally { good: 1, failed: 4, refused: 0 });
        // It is as short as before when all of that is over.
        window.count(FAILED, QUICK, at(2_000_000));
        assert_eq!(window.tally(at(2_000_000) + Ejection::WINDOW), Tally::default());
        assert_eq!(window.widened, 0);
    }

    #[test]
    fn numbers_at_their_edges_saturate() {
        let mut window = <Window>::default();
        let most = Tally { good: u64::MAX, failed: u64::MAX, refused: u64::MAX };
        for now in [0, u64::MAX, 1, u64::MAX - 1] {
            (0..2).for_each(|_| window.count(most, Duration::MAX, Instant::from_nanos(now)));
            let tally = window.tally(Instant::from_nanos(now));
            assert_eq!((tally, tally.judged(), tally.all()), (most, u64::MAX, u64::MAX));
        }
    }
}
