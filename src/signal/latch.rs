//! A verdict and its time in one word.

use super::{Reading, Score};
use crate::time::Instant;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Score and time of a verdict in one atomic, so that no reader sees the score of one and the time of another. The ten
/// low bits hold the score, the others the time in units of 1024 ns.
pub(super) struct Latch(AtomicU64);

const SCORE_BITS: u32 = 10;
const SCORE: u64 = (1 << SCORE_BITS) - 1;
/// Its ten low bits are no score.
const NOTHING: u64 = u64::MAX;

impl Default for Latch {
    fn default() -> Self {
        Self::empty()
    }
}

impl Latch {
    pub(super) const fn empty() -> Self {
        Self(AtomicU64::new(NOTHING))
    }

    pub(super) fn set(&self, score: Score, at: Instant) {
        let time = at.as_nanos() & !SCORE;
        self.0.store(time | u64::from(score.permille()), Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.0.store(NOTHING, Ordering::Release);
    }

    /// The score, however old.
    pub(super) fn score(&self) -> Option<Score> {
        let word = self.0.load(Ordering::Acquire);
        (word != NOTHING).then(|| Score::from_permille((word & SCORE) as u16))
    }

    /// When it was found ill, however long ago; `None` where it was not.
    pub(super) fn ill_at(&self) -> Option<Instant> {
        match self.read(Instant::from_nanos(u64::MAX), Duration::MAX) {
            Reading::Fresh { value, at } if !value.is_healthy() => Some(at),
            _ => None,
        }
    }

    /// The verdict, stale when it is older than `age`.
    pub(super) fn read(&self, now: Instant, age: Duration) -> Reading<Score> {
        let word = self.0.load(Ordering::Acquire);
        if word == NOTHING {
            return Reading::Missing;
        }
        // Who measured may be a moment ahead of who decides.
        let at = Instant::from_nanos(word & !SCORE).min(now);
        let value = Score::from_permille((word & SCORE) as u16);
        if now - at > age { Reading::Stale { value, at } } else { Reading::Fresh { value, at } }
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read(Instant::from_nanos(u64::MAX), Duration::MAX) {
            Reading::Fresh { value, at } | Reading::Stale { value, at } => write!(f, "{} at {at:?}", value.permille()),
            Reading::Missing => f.write_str("nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_back_what_was_set_within_a_microsecond() {
        let latch = Latch::empty();
        let at = Instant::from_nanos(7_000_000_123);
        assert_eq!(latch.read(at, Duration::MAX), Reading::Missing);
        for permille in [0, 1, 499, 1000] {
            let score = Score::from_permille(permille);
            latch.set(score, at);
            let Reading::Fresh { value, at: told } = latch.read(at, Duration::ZERO + Duration::from_micros(2)) else {
                panic!("it is fresh")
            };
            assert_eq!(value, score);
            assert!(told <= at && at - told < Duration::from_nanos(1024));
            let late = at + Duration::from_secs(1);
            assert!(matches!(latch.read(late, Duration::from_millis(999)), Reading::Stale { .. }));
        }
        assert!(
            matches!(latch.read(Instant::from_nanos(5), Duration::ZERO), Reading::Fresh { at, .. } if at.as_nanos() == 5)
        );
        latch.set(Score::WELL, Instant::from_nanos(u64::MAX));
        assert!(matches!(latch.read(Instant::from_nanos(u64::MAX), Duration::MAX), Reading::Fresh { .. }));
        latch.clear();
        assert_eq!(latch.read(at, Duration::MAX), Reading::Missing);
    }
}
