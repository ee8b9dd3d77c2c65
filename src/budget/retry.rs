//! The shared retry budget.

use crate::bug;
use crate::time::{Instant, nanos};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds the extra attempts of all requests together: retries, failovers and hedges.
///
/// *Why a budget and not only a maximum of attempts?* Three attempts each triple the load of a fleet that fails
/// because it is overloaded. A budget lets a few failures be retried freely, and makes a general outage cost no more
/// than `ratio` extra.
///
/// Over each window of [`WINDOW`](Self::WINDOW) the granted extra attempts are at most `ratio` times the requests
/// of that window, plus `reserve` per second. The arithmetic is in millionths and exact: a ratio of 0.75 grants
/// 75 of 100. The idea is Finagle's `RetryBudget`.
#[derive(Debug)]
pub struct RetryBudget {
    /// What a request deposits, in millionths of an extra attempt.
    per_request: u64,
    /// Extra attempts per second that need no deposit.
    reserve: u64,
    /// Requests by second: the second in the upper half, the count in the lower, so that a slot of a bygone window
    /// is recognised and the count can never mix two windows.
    deposits: [AtomicU64; SLOTS],
    /// Granted extra attempts by second. Extra attempts are rare; a lock makes them exact.
    grants: Mutex<[(u64, u64); SLOTS]>,
}

/// Seconds in the window.
const SLOTS: usize = 10;
/// An extra attempt, in the unit of the account.
const ATTEMPT: u64 = 1_000_000;

/// A ratio that is not in `0..=10`, or not a number.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("a retry ratio of {0} is not in 0..=10")]
pub struct InvalidRetryBudget(f64);

impl RetryBudget {
    /// The window over which requests and extra attempts are counted.
    pub const WINDOW: Duration = Duration::from_secs(SLOTS as u64);
    /// The default ratio: 20 extra attempts for 100 requests, Finagle's and linkerd's default.
    pub const RATIO: f64 = 0.2;
    /// The default reserve: 10 extra attempts per second, so that a quiet service may retry at all.
    pub const RESERVE: u32 = 10;

    /// A budget of `ratio` extra attempts per request plus `reserve` per second.
    ///
    /// # Errors
    ///
    /// [`InvalidRetryBudget`] when `ratio` is not in `0..=10`.
    pub fn new(ratio: f64, reserve: u32) -> Result<Self, InvalidRetryBudget> {
        if !(0.0..=10.0).contains(&ratio) {
            return Err(InvalidRetryBudget(ratio));
        }
        Ok(Self {
            per_request: (ratio * ATTEMPT as f64).round() as u64,
            reserve: u64::from(reserve),
            deposits: Default::default(),
            grants: Mutex::default(),
        })
    }

    /// A budget that never refuses, for policies that bound their extra attempts themselves.
    pub fn unlimited() -> Self {
        Self { per_request: 0, reserve: u64::from(u32::MAX), deposits: Default::default(), grants: Mutex::default() }
    }

    /// Counts a request.
    pub fn deposit(&self, now: Instant) {
        let second = second(now);
        let slot = &self.deposits[second as usize % SLOTS];
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

    /// Takes one extra attempt out of the budget; `false` when it is spent.
    pub fn withdraw(&self, now: Instant) -> bool {
        let second = second(now);
        let mut grants = self.grants.lock();
        if !self.has_room_beside(&grants, second) {
            return false;
        }
        let slot = &mut grants[second as usize % SLOTS];
        if slot.0 == second {
            slot.1 += 1;
        } else {
            *slot = (second, 1);
        }
        true
    }

    /// Whether there is an extra attempt in the budget.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        self.has_room_beside(&self.grants.lock(), second(now))
    }

    fn has_room_beside(&self, grants: &[(u64, u64); SLOTS], second: u64) -> bool {
        let allowed = self.earned(second).saturating_add(self.reserve * SLOTS as u64 * ATTEMPT);
        allowed >= (spent(grants, second) + 1) * ATTEMPT || bug::BUDGET_FREE
    }

    /// Gives back an extra attempt that was taken at `taken` and not made.
    pub fn refund(&self, taken: Instant) {
        let second = second(taken);
        let slot = &mut self.grants.lock()[second as usize % SLOTS];
        if slot.0 == second {
            slot.1 = slot.1.saturating_sub(1);
        }
    }

    /// What the requests of the window earned, in millionths of an extra attempt.
    fn earned(&self, second: u64) -> u64 {
        let requests: u64 = self
            .deposits
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .filter(|slot| in_window(slot >> 32, second & 0xffff_ffff))
            .map(|slot| slot & 0xffff_ffff)
            .sum();
        requests.saturating_mul(self.per_request)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(Self::RATIO, Self::RESERVE).expect("the default ratio is in range")
    }
}

fn second(now: Instant) -> u64 {
    now.as_nanos() / nanos(Duration::from_secs(1))
}

fn in_window(second: u64, now: u64) -> bool {
    second <= now && second + (SLOTS as u64) > now
}

fn spent(grants: &[(u64, u64); SLOTS], now: u64) -> u64 {
    grants.iter().filter(|(second, _)| in_window(*second, now)).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn the_ratio_is_exact_from_one_to_a_hundred_percent() {
        for percent in 1..=100u32 {
            let budget = RetryBudget::new(f64::from(percent) / 100.0, 0).unwrap();
            let mut granted = 0;
            for request in 0..100_000u64 {
                let now = at(100 + request / 5_000);
                budget.deposit(now);
                granted += u32::from(budget.withdraw(now));
            }
            assert_eq!(granted, percent * 1_000, "{percent} %");
        }
    }

    #[test]
    fn the_reserve_works_without_traffic_and_returns_with_time() {
        let budget = RetryBudget::new(0.0, 2).unwrap();
        assert_eq!((0..100).filter(|_| budget.withdraw(at(50))).count(), 20);
        assert!(!budget.withdraw(at(59)));
        assert_eq!((0..100).filter(|_| budget.withdraw(at(60))).count(), 20);
    }

    #[test]
    fn a_refund_restores_exactly_one() {
        let budget = RetryBudget::new(0.0, 1).unwrap();
        assert_eq!((0..100).filter(|_| budget.withdraw(at(50))).count(), 10);
        budget.refund(at(50));
        assert!(budget.withdraw(at(51)));
        assert!(!budget.withdraw(at(51)));
    }

    #[test]
    fn old_deposits_leave_the_window() {
        let budget = RetryBudget::new(1.0, 0).unwrap();
        for _ in 0..5 {
            budget.deposit(at(10));
        }
        assert!(budget.withdraw(at(19)));
        assert!(!budget.withdraw(at(20)));
    }

    #[test]
    fn nonsense_is_refused() {
        for ratio in [f64::NAN, -0.1, 10.1, f64::INFINITY] {
            assert!(RetryBudget::new(ratio, 0).is_err());
        }
    }
}
