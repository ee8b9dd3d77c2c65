//! [`Bucket`]: one quota per minute, as this router mirrors it.

use crate::backend::quota::Quota;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Instant, nanos};

/// A bucket that refills continuously and holds a minute's worth, if nothing else is said: the generic cell rate algorithm (ITU-T I.371).
///
/// Its level is one word, the moment at which it will be full again, so it refills by itself and there is no minute to
/// begin. What is taken is time: the time in which that much refills. A limit that changes therefore rescales what is
/// left, and what is given back is to the nanosecond what was taken.
#[derive(Debug)]
pub(super) struct Bucket {
    /// When it is full again, in nanoseconds.
    pub(super) full_at: AtomicU64,
    /// When its level was last known for certain, in nanoseconds: somebody found it full, or the backend said what is
    /// left. What was taken before has no part in the level any more.
    certain_at: AtomicU64,
    /// How long one unit refills, in 2⁻²⁰ nanoseconds; 0 while there is no limit.
    unit: AtomicU64,
    /// How long all of it refills, in nanoseconds.
    depth: AtomicU64,
    /// Units per minute, and at once.
    limit: AtomicU64,
    most: AtomicU64,
    /// What the host said: units per minute, and at once; 0 for nothing.
    told: AtomicU64,
    burst: AtomicU64,
    /// Until when a limit that the backend said holds, in nanoseconds; 0 where it said none.
    heard_until: AtomicU64,
    /// What resets said of the backend's window: one of the three below.
    window: AtomicU64,
}

/// What a request took: time, and the rate at which it was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    cost: u64,
    unit: u64,
    at: Instant,
}

/// The quotas that are mirrored are those of a minute.
pub(super) const WINDOW: u64 = 60_000_000_000;

/// How long a limit holds that the backend said once and did not repeat, in nanoseconds.
const HEARD_FOR: u64 = 10 * WINDOW;

/// What is known of the window of a limit that the backend says; nothing yet, and what speaks for a minute.
const UNKNOWN: u64 = 0;
const SHORTER: u64 = 1;
const MINUTE: u64 = 2;
/// A reset that is so far away, in nanoseconds, is not that of a window of seconds.
const OF_A_MINUTE: u64 = WINDOW / 2;
/// Resets are told in whole seconds by some.
const ROUNDED: u64 = 1_000_000_000;

/// Nanoseconds are too coarse for a unit of a large quota.
const FRACTION: u32 = 20;

impl Default for Bucket {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            full_at: zero(),
            certain_at: zero(),
            unit: zero(),
            depth: zero(),
            limit: zero(),
            most: zero(),
            told: zero(),
            burst: zero(),
            heard_until: zero(),
            window: zero(),
        }
    }
}

/// How long `amount` units refill, rounded up.
const fn cost(amount: u64, unit: u64) -> u64 {
    let exact = (amount as u128 * unit as u128 + ((1 << FRACTION) - 1)) >> FRACTION;
    if exact > u64::MAX as u128 { u64::MAX } else { exact as u64 }
}

impl Taken {
    /// Whether there was a limit when it was taken.
    pub(super) const fn is_counted(&self) -> bool {
        self.unit != 0
    }
}

impl Bucket {
    /// The host says how many units a minute there are, and how many may be taken at once; 0 for no limit, and for a
    /// minute's worth. What was learned since it said the same is kept.
    pub(super) fn tell(&self, limit: u64, burst: u64) {
        if (self.told.load(Ordering::Relaxed), self.burst.load(Ordering::Relaxed)) != (limit, burst) {
            self.told.store(limit, Ordering::Relaxed);
            self.burst.store(burst, Ordering::Relaxed);
            self.unhear();
        }
    }

    /// Only what the host said is known of the limit.
    fn unhear(&self) {
        self.window.store(UNKNOWN, Ordering::Relaxed);
        self.heard_until.store(0, Ordering::Relaxed);
        self.set(self.told.load(Ordering::Relaxed), u64::MAX);
    }

    /// So many units a minute, and no more than `whole` at once.
    fn set(&self, limit: u64, whole: u64) {
        let unit = if limit == 0 { 0 } else { ((u128::from(WINDOW) << FRACTION) as u64).div_ceil(limit) };
        let burst = self.burst.load(Ordering::Relaxed);
        let most = if burst == 0 { limit } else { burst.min(whole) };
        self.limit.store(limit, Ordering::Relaxed);
        self.most.store(most, Ordering::Relaxed);
        self.depth.store(if most == limit { WINDOW } else { cost(most, unit) }, Ordering::Relaxed);
        self.unit.store(unit, Ordering::Relaxed);
    }

    /// Full again, and as the host said: whoever took of it took of another.
    pub(super) fn renew(&self, now: Instant) {
        self.unhear();
        self.certain_at.fetch_max(now.as_nanos().saturating_add(1), Ordering::AcqRel);
        self.full_at.store(0, Ordering::Release);
    }

    pub(super) fn is_limited(&self) -> bool {
        self.unit.load(Ordering::Relaxed) != 0
    }

    /// The limit that `amount` units exceed, so that they can never be taken at once. Only the host draws such a line: what a
    /// backend said may have been a mistake, and where nothing is sent it could not correct it.
    #[inline]
    pub(super) fn too_small_for(&self, amount: u64) -> Option<u64> {
        let (told, burst) = (self.told.load(Ordering::Relaxed), self.burst.load(Ordering::Relaxed));
        let most = if burst == 0 { told } else { burst };
        (told > 0 && amount > most).then_some(most)
    }

    /// The most that can be taken at once.
    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Units a minute.
    pub(super) fn per_minute(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// When `amount` units can be taken; the origin of time for now. More than it holds is all that it holds.
    #[inline]
    pub(super) fn returns_at(&self, amount: u64, now: Instant) -> Instant {
        let unit = self.unit.load(Ordering::Relaxed);
        if unit == 0 {
            return Instant::default();
        }
        let depth = self.depth.load(Ordering::Relaxed);
        let after = self.full_at.load(Ordering::Relaxed).saturating_add(cost(amount, unit).min(depth));
        if after > now.as_nanos().saturating_add(depth) {
            Instant::from_nanos(after - depth)
        } else {
            Instant::default()
        }
    }

    /// Takes `amount` units; `None` when they are not there.
    pub(super) fn take(&self, amount: u64, now: Instant) -> Option<Taken> {
        let heard_until = self.heard_until.load(Ordering::Relaxed);
        if heard_until > 0 && heard_until <= now.as_nanos() {
            self.unhear();
        }
        let unit = self.unit.load(Ordering::Relaxed);
        if unit == 0 {
            return Some(Taken::default());
        }
        let depth = self.depth.load(Ordering::Relaxed);
        let (now, cost) = (now.as_nanos(), cost(amount, unit).min(depth));
        let mut full_at = self.full_at.load(Ordering::Acquire);
        loop {
            if full_at <= now {
                // Before the level moves: who gives back what was taken earlier sees both or none of the two.
                self.certain_at.fetch_max(now, Ordering::AcqRel);
            }
            let after = full_at.max(now).saturating_add(cost);
            if after > now.saturating_add(depth) {
                return None;
            }
            match self.full_at.compare_exchange_weak(full_at, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Taken { cost, unit, at: Instant::from_nanos(now) }),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Corrects what was taken to `amount` units. Less gives the rest back, unless the level became certain since: then
    /// the rest has refilled already, or the backend has counted it.
    pub(super) fn settle(&self, taken: Taken, amount: u64) {
        if taken.unit == 0 {
            return;
        }
        // No more than a minute, or all of it: the limit that it was counted by may have been a mistake.
        let most = self.depth.load(Ordering::Relaxed).max(WINDOW);
        let owed = cost(amount, taken.unit).min(most.max(taken.cost));
        if owed >= taken.cost {
            self.move_by(|full_at| Some(full_at.saturating_add(owed - taken.cost)));
        } else {
            self.move_by(|full_at| {
                let open = self.certain_at.load(Ordering::Acquire) <= taken.at.as_nanos();
                open.then(|| full_at.saturating_sub(taken.cost - owed))
            });
        }
    }

    /// The backend refused `taken` and wants to be asked again in `hint` nanoseconds: no sooner is that much there.
    pub(super) fn refused(&self, taken: Taken, hint: u64, now: Instant) {
        let depth = self.depth.load(Ordering::Relaxed);
        let least = now.as_nanos().saturating_add(depth).saturating_add(hint.min(WINDOW)) - taken.cost.min(depth);
        self.lower(least, now);
    }

    /// Whether the limit in this word of the backend may be one of a minute. A bucket of a minute is full again only after
    /// the time in which what is used of it refills, so an earlier reset is that of a shorter window, or comes near the end
    /// of a minute of the clock; and then there are late ones as well.
    pub(super) fn counts_minutes(&self, quota: &Quota) -> bool {
        if let (Some(limit), Some(left), Some(reset)) = (quota.limit, quota.remaining, quota.resets_in) {
            let (reset, used) = (nanos(reset), limit.saturating_sub(left));
            let refills = u128::from(WINDOW) * u128::from(used);
            if reset >= OF_A_MINUTE {
                self.window.store(MINUTE, Ordering::Relaxed);
            } else if u128::from(reset + ROUNDED) * u128::from(limit) < refills
                && self.window.load(Ordering::Relaxed) == UNKNOWN
            {
                self.unhear();
                self.window.store(SHORTER, Ordering::Relaxed);
            }
        }
        self.window.load(Ordering::Relaxed) != SHORTER
    }

    /// The backend says how many units a minute there are, and how many are left. Fewer than expected is believed. More
    /// than the host said is not for this router alone. Returns whether there was no limit before.
    pub(super) fn hear(&self, limit: Option<u64>, left: Option<u64>, now: Instant) -> bool {
        let was_limited = self.is_limited();
        if let Some(limit) = limit.filter(|limit| *limit > 0) {
            let told = self.told.load(Ordering::Relaxed);
            let part = if told == 0 { limit } else { limit.min(told) };
            self.heard_until.store(now.as_nanos().saturating_add(HEARD_FOR), Ordering::Relaxed);
            if part != self.limit.load(Ordering::Relaxed) || self.most() > limit {
                self.set(part, limit);
            }
        }
        let unit = self.unit.load(Ordering::Relaxed);
        if let Some(left) = left.filter(|_| unit != 0) {
            let depth = self.depth.load(Ordering::Relaxed);
            self.lower(now.as_nanos().saturating_add(depth - cost(left, unit).min(depth)), now);
        }
        !was_limited && unit != 0
    }

    /// It is not full before `least`, by the backend's own word.
    fn lower(&self, least: u64, now: Instant) {
        let higher = |full_at: u64| (full_at.max(now.as_nanos()) < least).then_some(least);
        if higher(self.full_at.load(Ordering::Acquire)).is_some() {
            self.certain_at.fetch_max(now.as_nanos().saturating_add(1), Ordering::AcqRel);
            self.move_by(higher);
        }
    }

    fn move_by(&self, to: impl Fn(u64) -> Option<u64>) {
        // Where there is nowhere to move to, it stays.
        let _ = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, to);
    }

    /// Units a minute, and units that are left; `None` without a limit.
    pub(super) fn read(&self, now: Instant) -> Option<(u64, u64)> {
        let unit = self.unit.load(Ordering::Relaxed);
        if unit == 0 {
            return None;
        }
        let depth = self.depth.load(Ordering::Relaxed);
        let gone = self.full_at.load(Ordering::Relaxed).saturating_sub(now.as_nanos());
        let left = (u128::from(depth.saturating_sub(gone)) << FRACTION) / u128::from(unit);
        let rounded = if gone == 0 { self.most() } else { left as u64 };
        Some((self.limit.load(Ordering::Relaxed), rounded))
    }

    /// For how long it would refill if `taken` were taken from it.
    pub(super) fn gone_with(&self, taken: Taken, now: Instant) -> u64 {
        self.gone(now).saturating_add(taken.cost)
    }

    /// For how long it will refill.
    pub(super) fn gone(&self, now: Instant) -> u64 {
        self.full_at.load(Ordering::Relaxed).saturating_sub(now.as_nanos())
    }
}
