//! [`Dated`]: a number with its time, in one word.

use super::{Instant, nanos};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number and when it was true. The sixteen low bits hold the number, the others the time in units of 65,536 ns.
pub(crate) struct Dated(AtomicU64);

const NUMBER: u64 = 0xffff;
/// Said at the origin of time: not fresh for long.
const NOTHING: u64 = 0;

impl Default for Dated {
    fn default() -> Self {
        Self(AtomicU64::new(NOTHING))
    }
}

impl Dated {
    /// It is this now; `None` for nothing.
    pub(crate) fn set(&self, number: Option<u64>, at: Instant) {
        let word = number.map_or(NOTHING, |number| (at.as_nanos() & !NUMBER) | number.min(NUMBER));
        self.0.store(word, Ordering::Relaxed);
    }

    /// The number and its time; zero when it was said longer than `age` ago.
    #[inline]
    pub(crate) fn read(&self, now: Instant, age: Duration) -> (u64, Instant) {
        let word = self.0.load(Ordering::Relaxed);
        (if is_fresh(word, now, age) { word & NUMBER } else { 0 }, time_of(word))
    }

    /// The number and its time; `None` where nothing was said, or it was longer than `age` ago.
    #[inline]
    pub(crate) fn fresh(&self, now: Instant, age: Duration) -> Option<(u64, Instant)> {
        let word = self.0.load(Ordering::Relaxed);
        (word != NOTHING && is_fresh(word, now, age)).then_some((word & NUMBER, time_of(word)))
    }

    /// Counts what came since `at`, the time of another that was read.
    pub(crate) fn add_since(&self, at: Instant, number: u64) {
        let more = |word| Some(at.as_nanos() | counted(word, at).saturating_add(number).min(NUMBER));
        // It gives no `None`, so this is an addition.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// What was counted since `at`.
    #[inline]
    pub(crate) fn since(&self, at: Instant) -> u64 {
        counted(self.0.load(Ordering::Relaxed), at)
    }
}

#[inline]
const fn time_of(word: u64) -> Instant {
    Instant::from_nanos(word & !NUMBER)
}

#[inline]
fn is_fresh(word: u64, now: Instant, age: Duration) -> bool {
    // Who measured may be a moment ahead of who decides.
    now.nanos_since(time_of(word)) <= nanos(age)
}

#[inline]
fn counted(word: u64, since: Instant) -> u64 {
    if time_of(word) == since { word & NUMBER } else { 0 }
}

impl fmt::Debug for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Ordering::Relaxed);
        write!(f, "{} at {:?}", word & NUMBER, Instant::from_nanos(word & !NUMBER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_no_zero() {
        let (dated, at) = (Dated::default(), Instant::from_nanos(7_000_000_000));
        assert_eq!((dated.fresh(at, SECOND), dated.read(at, SECOND).0), (None, 0));
        dated.set(Some(0), at);
        assert_eq!(dated.fresh(at, SECOND).unwrap().0, 0);
        dated.set(Some(1 << 20), at);
        assert_eq!(dated.fresh(at + SECOND, SECOND + SECOND).unwrap().0, NUMBER);
        assert_eq!(dated.fresh(at + SECOND, SECOND / 2), None);
        dated.set(None, at);
        assert_eq!(dated.fresh(at, SECOND), None);
    }

    #[test]
    fn it_counts_what_came_since() {
        let (said, since) = (Dated::default(), Dated::default());
        let told = |nanos| {
            said.set(Some(1), Instant::from_nanos(nanos));
            said.fresh(Instant::from_nanos(nanos), SECOND).unwrap().1
        };
        let first = told(7_000_000_123);
        assert_eq!(since.since(first), 0);
        since.add_since(first, 3);
        since.add_since(first, 4);
        assert_eq!(since.since(first), 7);
        let next = told(7_100_000_123);
        assert_eq!(since.since(next), 0);
        since.add_since(next, 5);
        assert_eq!((since.since(next), since.since(first)), (5, 0));
        // No time goes wrong by what is too much.
        since.add_since(next, u64::MAX);
        assert_eq!(since.since(next), NUMBER);
    }
}
