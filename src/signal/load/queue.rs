//! A reported queue and its time in one word.

use crate::time::{Instant, nanos};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many requests wait at a backend and when it said so, for decisions to read. The sixteen low bits hold the number,
/// the others the time in units of 65,536 ns.
pub(crate) struct Queue(AtomicU64);

const LENGTH: u64 = 0xffff;
/// Said at the origin of time: not fresh for long.
const NOTHING: u64 = 0;

impl Default for Queue {
    fn default() -> Self {
        Self(AtomicU64::new(NOTHING))
    }
}

impl Queue {
    pub(super) fn set(&self, waiting: Option<u64>, at: Instant) {
        let word = waiting.map_or(NOTHING, |waiting| (at.as_nanos() & !LENGTH) | waiting.min(LENGTH));
        self.0.store(word, Ordering::Relaxed);
    }

    /// What waits there; nothing when it was said longer than `age` ago.
    #[inline]
    pub(crate) fn waiting(&self, now: Instant, age: Duration) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        // Who measured may be a moment ahead of who decides.
        let fresh = now.nanos_since(Instant::from_nanos(word & !LENGTH)) <= nanos(age);
        if fresh { word & LENGTH } else { 0 }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Ordering::Relaxed);
        write!(f, "{} at {:?}", word & LENGTH, Instant::from_nanos(word & !LENGTH))
    }
}
