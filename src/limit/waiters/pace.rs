//! [`Pace`]: how fast a line moves.

use crate::time::Instant;

/// The mean time between the slots that a line of waiting requests was handed lately, while it never was empty: over the
/// current block of up to 32 of them, or over one of the two blocks before if that was faster, so that one stall does not
/// look like the pace of the next minute. Says nothing before it has seen [`ENOUGH`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When the current block began, and when the last slot came; `None` before the first.
    block: Option<(Instant, Instant)>,
    /// Slots of the current block.
    count: u32,
    /// The mean gaps of the two blocks before, in nanoseconds, the later first.
    before: [Option<u64>; 2],
}

/// Slots of a block.
const BLOCK: u32 = 32;
/// What is too little to predict anything from.
const ENOUGH: u32 = 8;

impl Pace {
    /// A slot was handed over.
    pub(super) fn handed(&mut self, now: Instant) {
        let Some((start, last)) = self.block else {
            self.block = Some((now, now));
            return;
        };
        let last = last.max(now);
        self.count += 1;
        if self.count < BLOCK {
            self.block = Some((start, last));
        } else {
            (self.before, self.count, self.block) = ([self.gap_until(last), self.before[0]], 0, Some((last, last)));
        }
    }

    fn gap_until(&self, last: Instant) -> Option<u64> {
        let (start, _) = self.block?;
        (self.count >= ENOUGH).then(|| last.nanos_since(start) / u64::from(self.count))
    }

    /// The mean gap in nanoseconds; `None` where too little is known.
    pub(super) fn gap(&self) -> Option<u64> {
        self.before.into_iter().chain([self.gap_until(self.last()?)]).flatten().min()
    }

    /// When the last slot was freed.
    pub(super) fn last(&self) -> Option<Instant> {
        self.block.map(|(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    const fn ms(millis: u64) -> Instant {
        Instant::from_nanos(millis * MS)
    }

    #[test]
    fn it_knows_from_eight_gaps_on() {
        let mut pace = Pace::default();
        assert_eq!((pace.gap(), pace.last()), (None, None));
        for n in 0..8 {
            pace.handed(ms(1_000 + n * 10));
            assert_eq!(pace.gap(), None);
        }
        for n in 8..200 {
            pace.handed(ms(1_000 + n * 10));
            assert_eq!((pace.gap(), pace.last()), (Some(10 * MS), Some(ms(1_000 + n * 10))));
        }
    }

    #[test]
    fn slots_that_come_together_count_as_many() {
        let mut pace = Pace::default();
        for n in 0..40 {
            (0..4).for_each(|_| pace.handed(ms(n * 20)));
        }
        let gap = pace.gap().unwrap();
        assert!((4 * MS..=5 * MS).contains(&gap), "one every 5 ms, give or take: {gap}");
    }

    #[test]
    fn a_stall_is_no_pace() {
        let mut pace = Pace::default();
        (0..100).for_each(|n| pace.handed(ms(n)));
        for n in 0..200 {
            pace.handed(ms(10_000 + n));
            assert_eq!(pace.gap(), Some(MS), "{n} after the stall");
        }
        // A clock that runs back spoils nothing.
        pace.handed(ms(5));
        assert_eq!(pace.last(), Some(ms(10_199)));
    }

    #[test]
    fn slower_for_good_is_believed_after_three_blocks() {
        let mut pace = Pace::default();
        (0..100).for_each(|n| pace.handed(ms(n)));
        (1..=128).for_each(|n| pace.handed(ms(99 + n * 50)));
        assert_eq!(pace.gap(), Some(50 * MS));
    }
}
