//! Counts by second over a window.

use crate::time::{Instant, nanos};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds in the window.
pub(super) const SLOTS: usize = 10;

/// What comes all the time: the second in the upper half, the count in the lower, so that a slot of a bygone window is
/// recognised and the count can never mix two windows.
#[derive(Debug, Default)]
pub(super) struct Deposits([AtomicU64; SLOTS]);

/// What is rare, and stands behind a lock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grants([(u64, u64); SLOTS]);

impl Deposits {
    pub(super) fn add(&self, second: u64) {
        let slot = &self.0[second as usize % SLOTS];
        let mut current = slot.load(Ordering::Relaxed);
        loop {
            // A late deposit of an older second is dropped: it would not be in the window for long.
            let next = match (current >> 32).cmp(&(second & 0xffff_ffff)) {
                std::cmp::Ordering::Equal if current & 0xffff_ffff == 0xffff_ffff => return,
                std::cmp::Ordering::Equal => current + 1,
                std::cmp::Ordering::Less => ((second & 0xffff_ffff) << 32) | 1,
                std::cmp::Ordering::Greater => return,
            };
            match slot.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    /// How many in the window that ends with this second.
    pub(super) fn sum(&self, second: u64) -> u64 {
        let slots = self.0.iter().map(|slot| slot.load(Ordering::Relaxed));
        slots.filter(|slot| in_window(slot >> 32, second & 0xffff_ffff)).map(|slot| slot & 0xffff_ffff).sum()
    }
}

impl Grants {
    pub(super) const fn add(&mut self, second: u64) {
        let slot = &mut self.0[second as usize % SLOTS];
        if slot.0 == second {
            slot.1 += 1;
        } else {
            *slot = (second, 1);
        }
    }

    pub(super) const fn remove(&mut self, second: u64) {
        let slot = &mut self.0[second as usize % SLOTS];
        if slot.0 == second {
            slot.1 = slot.1.saturating_sub(1);
        }
    }

    /// How many in the window that ends with this second.
    pub(super) fn sum(&self, second: u64) -> u64 {
        self.0.iter().filter(|(slot, _)| in_window(*slot, second)).map(|(_, count)| count).sum()
    }
}

pub(super) fn second(now: Instant) -> u64 {
    now.as_nanos() / nanos(Duration::from_secs(1))
}

const fn in_window(second: u64, now: u64) -> bool {
    second <= now && second + (SLOTS as u64) > now
}
