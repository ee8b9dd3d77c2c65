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
    /// All that was ever taken, in nanoseconds of refill; wraps. What it shows once a claim is in it is the mark of that
    /// claim: what was taken later is the difference.
    taken: AtomicU64,
    /// The mark up to which claims have no part in the level any more: somebody found it full since, or the backend
    /// said what is left.
    closed: AtomicU64,
    /// The mark of the latest attempt whose answer said what is left.
    heard: AtomicU64,
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

/// What a request took: time, the rate at which it was counted, and its place among all claims.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    cost: u64,
    unit: u64,
    mark: u64,
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
            taken: zero(),
            closed: zero(),
            heard: zero(),
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

/// Marks wrap: refunds do not take back what was taken, so a few days of large claims that are given back can be as many nanoseconds as
/// there are. Of two marks, the later is less than half of all ahead. Whatever stands still must not be overtaken by that much, so
/// each time that an eighth has gone by it is pulled along, an eighth behind; and no claim is larger.
const EIGHTH: u64 = 1 << 61;

/// Whether a mark is earlier than another.
const fn is_before(mark: u64, other: u64) -> bool {
    other.wrapping_sub(mark).cast_signed() > 0
}

/// Moves on to a mark, unless that is earlier; returns where it stood.
fn advance(word: &AtomicU64, mark: u64) -> u64 {
    let later = |seen| is_before(seen, mark).then_some(mark);
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, later).unwrap_or_else(|seen| seen)
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

    /// What had been taken of the bucket with it.
    pub(super) const fn mark(&self) -> u64 {
        self.mark
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
        self.depth.store(if most == limit { WINDOW } else { cost(most, unit).min(EIGHTH) }, Ordering::Relaxed);
        self.unit.store(unit, Ordering::Relaxed);
    }

    /// Full again, and as the host said: whoever took of it took of another, and what its answer says is of another.
    pub(super) fn renew(&self) {
        self.unhear();
        let mark = self.taken.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        self.closed.store(mark, Ordering::Release);
        self.heard.store(mark, Ordering::Release);
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

    /// The most that the host said, a minute's worth or at once; 0 where it said nothing.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed).max(self.burst.load(Ordering::Relaxed))
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
            return Some(Taken { mark: self.taken.load(Ordering::Acquire), ..Taken::default() });
        }
        let depth = self.depth.load(Ordering::Relaxed);
        let (now, cost) = (now.as_nanos(), cost(amount, unit).min(depth));
        let fits = |full_at: u64| {
            let after = full_at.max(now).saturating_add(cost);
            (after <= now.saturating_add(depth)).then_some(after)
        };
        fits(self.full_at.load(Ordering::Relaxed))?;
        // Before the level moves: who hears the backend's word in between takes this for a claim that is not in it.
        let before = self.taken.fetch_add(cost, Ordering::AcqRel);
        let mark = before.wrapping_add(cost);
        if before / EIGHTH != mark / EIGHTH {
            for word in [&self.closed, &self.heard] {
                advance(word, mark.wrapping_sub(EIGHTH));
            }
        }
        let mut full_at = self.full_at.load(Ordering::Acquire);
        loop {
            if full_at <= now {
                // Before the level moves: who gives back what was taken earlier sees both or none of the two.
                advance(&self.closed, before);
            }
            let after = fits(full_at)?;
            match self.full_at.compare_exchange_weak(full_at, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Taken { cost, unit, mark }),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Corrects what was taken to `amount` units. Less gives the rest back, unless the claim is closed: then the rest has
    /// refilled already, or the backend has counted it.
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
                let open = is_before(self.closed.load(Ordering::Acquire), taken.mark);
                open.then(|| full_at.saturating_sub(taken.cost - owed))
            });
        }
    }

    /// The backend refused `taken` and wants to be asked again in `hint` nanoseconds: no sooner is that much there. What is on its
    /// way is refused as well, or was counted before.
    pub(super) fn refused(&self, taken: Taken, hint: u64, now: Instant) {
        let depth = self.depth.load(Ordering::Relaxed);
        let least = now.as_nanos().saturating_add(depth).saturating_add(hint.min(WINDOW)) - taken.cost.min(depth);
        self.correct(least, u64::MAX, self.taken.load(Ordering::Acquire), now);
    }

    /// Whether the limit in this word of the backend may be one of a minute. A bucket of a minute is full again only after
    /// the time in which what is used of it refills, so an earlier reset is that of a shorter window, or comes near the end
    /// of a minute of the clock; and then there are late ones as well.
    fn counts_minutes(&self, quota: &Quota) -> bool {
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

    /// The answer to the attempt of `mark`, which was sent at `sent`, says how many units a minute there are, and how
    /// many were left at some moment since. Fewer than expected are believed. More are where the bucket holds all that the
    /// backend's holds; else they are not for this router alone, and no more is a limit than the host said. What an earlier
    /// attempt brings later is old. Returns whether there was no limit before.
    pub(super) fn hear(&self, quota: &Quota, mark: u64, sent: Instant, now: Instant) -> bool {
        // What takes longer to be full is the quota of a day or a month.
        let is_of_a_minute = quota.resets_in.is_none_or(|reset| nanos(reset) <= WINDOW);
        let says_nothing = quota.limit.is_none() && quota.remaining.is_none();
        if says_nothing || !is_of_a_minute || is_before(mark, advance(&self.heard, mark)) {
            return false;
        }
        let before = self.per_minute();
        let limit = quota.limit.filter(|limit| *limit > 0 && self.counts_minutes(quota));
        if let Some(limit) = limit {
            let told = self.told.load(Ordering::Relaxed);
            let part = if told == 0 { limit } else { limit.min(told) };
            self.heard_until.store(now.as_nanos().saturating_add(HEARD_FOR), Ordering::Relaxed);
            if part != self.limit.load(Ordering::Relaxed) || self.most() > limit {
                self.set(part, limit);
            }
        }
        let unit = self.unit.load(Ordering::Relaxed);
        if let Some(left) = quota.remaining.filter(|_| unit != 0) {
            let depth = self.depth.load(Ordering::Relaxed);
            let full = |from: Instant| from.as_nanos().saturating_add(depth - cost(left, unit).min(depth));
            let latest = if limit == Some(self.most()) { full(now) } else { u64::MAX };
            // Books that were kept by another limit say nothing of what refilled meanwhile.
            let soonest = full(if self.per_minute() == before { sent.min(now) } else { now });
            self.correct(soonest, latest, mark, now);
        }
        before == 0 && unit != 0
    }

    /// By the backend's own word it is full between `soonest` and `latest`, and later by what was taken after `mark`: that
    /// may still be on its way. An expectation between the two stays.
    fn correct(&self, soonest: u64, latest: u64, mark: u64, now: Instant) {
        let corrected = |full_at: u64| {
            let since = self.taken.load(Ordering::Acquire).wrapping_sub(mark);
            let (soonest, latest) = (soonest.saturating_add(since), latest.saturating_add(since));
            if full_at.max(now.as_nanos()) < soonest { Some(soonest) } else { (full_at > latest).then_some(latest) }
        };
        if corrected(self.full_at.load(Ordering::Acquire)).is_some() {
            advance(&self.closed, mark);
            self.move_by(corrected);
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
