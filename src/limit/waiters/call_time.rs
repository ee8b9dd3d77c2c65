//! [`CallTime`]: how much time the requests of a flow must have left to be worth beginning with.

use crate::time::{Instant, nanos};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where there is more to do than can be done, the earliest deadline first means that whoever starts has hardly any time left:
/// everybody waits for as long as possible, is cut short, and has used what would have been enough for others. So calls that had
/// waited teach those that wait behind them.
///
/// Nothing is learned but from calls that their deadline cut short, and it is unlearned from those that needed less.
#[derive(Debug, Default)]
pub(crate) struct CallTime(AtomicU64);

/// What was not enough is taken for this much too little, as a part of itself.
const MORE_SHIFT: u32 = 1;
/// A call that needed less takes away so much of the difference, as a power of two.
const LESS_SHIFT: u32 = 5;

impl CallTime {
    /// A call had this much time, and it was not enough.
    pub(crate) fn cut(&self, left: Duration) {
        let left = nanos(left);
        self.0.fetch_max(left.saturating_add(left >> MORE_SHIFT), Ordering::Relaxed);
    }

    /// A call was answered in this time.
    pub(crate) fn answered(&self, took: Duration) {
        let known = self.0.load(Ordering::Relaxed);
        let less = known.saturating_sub(nanos(took)) >> LESS_SHIFT;
        // Of what two threads learn at once, one may be lost.
        self.0.store(known - less, Ordering::Relaxed);
    }

    /// What another knows.
    pub(super) fn learn_from(&self, other: &Self) {
        self.0.fetch_max(other.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// When a request of this arrival and deadline is to start at the latest. Half of its time is for waiting, whatever others took.
    pub(crate) fn latest(&self, arrival: Instant, deadline: Instant) -> Instant {
        let half = (deadline - arrival) / 2;
        let needed = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        arrival + (deadline - arrival).saturating_sub(needed.min(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn latest(time: &CallTime, deadline: u64) -> u64 {
        time.latest(at(0), at(deadline)).as_nanos() / 1_000_000
    }

    #[test]
    fn it_is_learned_from_what_was_cut_short_and_from_nothing_else() {
        let time = CallTime::default();
        time.answered(Duration::from_secs(5));
        assert_eq!(latest(&time, 60_000), 60_000);
        time.cut(Duration::from_secs(4));
        assert_eq!(latest(&time, 60_000), 54_000);
        // Less was too little as well, which is no news.
        time.cut(Duration::from_secs(1));
        assert_eq!(latest(&time, 60_000), 54_000);
        // Half of its time is a request's own.
        assert_eq!(latest(&time, 8_000), 4_000);
        time.cut(Duration::MAX);
        assert_eq!(latest(&time, 60_000), 30_000);
    }

    #[test]
    fn it_is_unlearned_from_those_that_need_less() {
        let time = CallTime::default();
        time.cut(Duration::from_secs(20));
        (0..100).for_each(|_| time.answered(Duration::from_secs(40)));
        assert_eq!(latest(&time, 100_000), 70_000);
        (0..200).for_each(|_| time.answered(Duration::from_secs(1)));
        let left = 100_000 - latest(&time, 100_000);
        assert!((1_000..1_200).contains(&left), "{left} ms");
    }
}
