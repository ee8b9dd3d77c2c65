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
        let at = Instant::from_nanos(word & !NUMBER);
        // Who measured may be a moment ahead of who decides.
        let fresh = now.nanos_since(at) <= nanos(age);
        (if fresh { word & NUMBER } else { 0 }, at)
    }
}

impl fmt::Debug for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Ordering::Relaxed);
        write!(f, "{} at {:?}", word & NUMBER, Instant::from_nanos(word & !NUMBER))
    }
}
