//! Whether a signal has anything to say.

use crate::time::Instant;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Between which moments there is nothing to say of any backend, in two words that decisions read. Each alone errs
/// towards having something to say, so it does no harm when one is a moment older than the other.
#[derive(Default)]
pub(super) struct Calm {
    after: AtomicU64,
    before: AtomicU64,
    /// Held while stock is taken, or an older look at the rows could replace a newer one.
    taking: Mutex<()>,
}

impl Calm {
    pub(super) fn at(&self, now: Instant) -> bool {
        now > self.after() && now < self.before()
    }

    pub(super) fn after(&self) -> Instant {
        Instant::from_nanos(self.after.load(Ordering::Acquire))
    }

    pub(super) fn before(&self) -> Instant {
        Instant::from_nanos(self.before.load(Ordering::Acquire))
    }

    /// Looks at all rows again, after one of them has changed: after when all that speaks against a backend is old, and
    /// before when a backend has to be heard of again.
    pub(super) fn take_stock(&self, look: impl FnOnce() -> (Instant, Instant)) {
        let _taking = self.taking.lock();
        let (after, before) = look();
        self.after.store(after.as_nanos(), Ordering::Release);
        self.before.store(before.as_nanos(), Ordering::Release);
    }

    /// What speaks against a backend was said again, and is not old before this.
    pub(super) fn put_off(&self, until: Instant) {
        let _taking = self.taking.lock();
        self.after.fetch_max(until.as_nanos(), Ordering::Release);
    }
}

/// The end of time.
pub(super) const NEVER: Instant = Instant::from_nanos(u64::MAX);
/// Its origin.
pub(super) const EVER: Instant = Instant::from_nanos(0);

impl fmt::Debug for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}, before {:?}", self.after(), self.before())
    }
}
