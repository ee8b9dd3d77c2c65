//! The shared retry budget.

use super::counts::{Deposits, Grants, SLOTS, second};
use crate::bug;
use crate::rng::hash_keyed;
use crate::time::Instant;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::OnceLock;
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
///
/// Inside a router a tenant pays with what its own requests earned, and beyond that out of the reserve, where it may take as much as it
/// leaves: whose requests all fail does not use up the retries of the others. Tenants are counted in
/// [`CELLS`](Self::CELLS) cells, by a hash that callers do not know; requests without one are one tenant, where others have
/// one.
#[derive(Debug)]
pub struct RetryBudget {
    /// What a request deposits, in millionths of an extra attempt.
    per_request: u64,
    /// Extra attempts per second that need no deposit.
    reserve: u64,
    requests: Deposits,
    /// The same by the cell of the tenant, since there was one.
    by_tenant: OnceLock<Box<[Deposits]>>,
    /// Extra attempts are rare; a lock makes them exact.
    granted: Mutex<Granted>,
}

#[derive(Debug, Default)]
struct Granted {
    all: Grants,
    /// Those that their tenant had not earned.
    from_reserve: Grants,
    by_tenant: FxHashMap<u16, Grants>,
}

/// In whose name a request is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer {
    cell: u16,
    named: bool,
}

/// An extra attempt that was granted.
#[derive(Debug)]
#[must_use = "an attempt that is not made is given back"]
pub(crate) struct Grant {
    second: u64,
    cell: Option<u16>,
    from_reserve: bool,
}

impl Payer {
    /// `salt`: what callers can not know, so that they can not choose their cell.
    pub(crate) fn of(tenant: Option<&str>, salt: u64) -> Self {
        let cell = hash_keyed(salt, tenant) % RetryBudget::CELLS as u64;
        Self { cell: cell as u16, named: tenant.is_some() }
    }
}

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
    /// How many cells count tenants. With a hundred of them at a time, one in eleven shares its cell with another.
    pub const CELLS: usize = 1024;

    /// A budget of `ratio` extra attempts per request plus `reserve` per second.
    ///
    /// # Errors
    ///
    /// [`InvalidRetryBudget`] when `ratio` is not in `0..=10`.
    pub fn new(ratio: f64, reserve: u32) -> Result<Self, InvalidRetryBudget> {
        if !(0.0..=10.0).contains(&ratio) {
            return Err(InvalidRetryBudget(ratio));
        }
        Ok(Self::with((ratio * ATTEMPT as f64).round() as u64, reserve))
    }

    /// A budget that never refuses, for policies that bound their extra attempts themselves.
    pub fn unlimited() -> Self {
        Self::with(0, u32::MAX)
    }

    fn with(per_request: u64, reserve: u32) -> Self {
        Self {
            per_request,
            reserve: reserve.into(),
            requests: Deposits::default(),
            by_tenant: OnceLock::new(),
            granted: Mutex::default(),
        }
    }

    /// Counts a request.
    pub fn deposit(&self, now: Instant) {
        self.requests.add(second(now));
    }

    /// Takes one extra attempt out of the budget; `false` when it is spent.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.grant(None, second(now)).is_some()
    }

    /// Gives back an extra attempt that was taken at `taken` and not made.
    pub fn refund(&self, taken: Instant) {
        self.return_grant(&Grant { second: second(taken), cell: None, from_reserve: false });
    }

    /// Counts a request of this payer.
    pub(crate) fn deposit_of(&self, payer: Payer, now: Instant) {
        self.deposit(now);
        if let Some(part) = self.part(payer) {
            part.add(second(now));
        }
    }

    /// Takes one extra attempt out of the budget in this payer's name, unless it is spent, or its part is.
    pub(crate) fn withdraw_for(&self, payer: Payer, now: Instant) -> Option<Grant> {
        self.grant(Some(payer), second(now))
    }

    /// Whether there is an extra attempt in the budget for this payer.
    pub(crate) fn has_room(&self, payer: Payer, now: Instant) -> bool {
        self.source(&self.granted.lock(), Some(payer), second(now)).is_some()
    }

    /// Gives back an extra attempt that was not made.
    pub(crate) fn return_grant(&self, grant: &Grant) {
        let mut granted = self.granted.lock();
        granted.all.remove(grant.second);
        if grant.from_reserve {
            granted.from_reserve.remove(grant.second);
        }
        if let Some(part) = grant.cell.and_then(|cell| granted.by_tenant.get_mut(&cell)) {
            part.remove(grant.second);
        }
    }

    fn grant(&self, payer: Option<Payer>, second: u64) -> Option<Grant> {
        let mut granted = self.granted.lock();
        let from_reserve = self.source(&granted, payer, second)?;
        granted.all.add(second);
        if from_reserve {
            granted.from_reserve.add(second);
        }
        let cell = payer.filter(|payer| self.part(*payer).is_some()).map(|payer| payer.cell);
        if let Some(cell) = cell {
            granted.by_tenant.entry(cell).or_default().add(second);
        }
        Some(Grant { second, cell, from_reserve })
    }

    /// Whether the next extra attempt would be one out of the reserve; `None` where there is none.
    fn source(&self, granted: &Granted, payer: Option<Payer>, second: u64) -> Option<bool> {
        if bug::BUDGET_FREE {
            return Some(false);
        }
        let reserve = self.reserve * SLOTS as u64 * ATTEMPT;
        let allowed = self.earned(&self.requests, second).saturating_add(reserve);
        if allowed < (granted.all.sum(second) + 1) * ATTEMPT {
            return None;
        }
        let Some((payer, part)) = payer.and_then(|payer| Some((payer, self.part(payer)?))) else { return Some(false) };
        let spent = granted.by_tenant.get(&payer.cell).map_or(0, |grants| grants.sum(second));
        let lacks = ((spent + 1) * ATTEMPT).saturating_sub(self.earned(part, second));
        if lacks == 0 {
            return Some(false);
        }
        // No more than it leaves: there is always something for the next (dynamic thresholds: Choudhury, Hahne 1998).
        let left = reserve.saturating_sub(granted.from_reserve.sum(second) * ATTEMPT);
        (lacks <= left).then_some(true)
    }

    /// What requests earned, in millionths of an extra attempt.
    fn earned(&self, requests: &Deposits, second: u64) -> u64 {
        requests.sum(second).saturating_mul(self.per_request)
    }

    /// The requests of a payer. While nobody has a name, all are one.
    fn part(&self, payer: Payer) -> Option<&Deposits> {
        let parts = match payer.named {
            true => self.by_tenant.get_or_init(|| (0..Self::CELLS).map(|_| Deposits::default()).collect()),
            false => self.by_tenant.get()?,
        };
        Some(&parts[usize::from(payer.cell)])
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(Self::RATIO, Self::RESERVE).expect("the default ratio is in range")
    }
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

    fn payer(tenant: &str) -> Payer {
        Payer::of(Some(tenant), 7)
    }

    #[test]
    fn each_tenant_gets_what_it_earned_to_the_attempt() {
        // Whatever another does whose requests all fail, three times each.
        for percent in [1, 2, 3, 7, 10, 20, 33, 50, 75, 99, 100u32] {
            let budget = RetryBudget::new(f64::from(percent) / 100.0, 0).unwrap();
            let mut granted = [0u32; 3];
            for request in 0..20_000u64 {
                let now = at(100 + request / 1_000);
                let who = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][request as usize % 10];
                let payer = payer(["flood", "a", "b"][who]);
                budget.deposit_of(payer, now);
                for _ in 0..if who == 0 { 3 } else { 1 } {
                    granted[who] += u32::from(budget.withdraw_for(payer, now).is_some());
                }
            }
            assert_eq!(granted, [120, 60, 20].map(|requests| requests * percent), "{percent} %");
        }
    }

    #[test]
    fn the_reserve_is_never_taken_whole() {
        let budget = RetryBudget::new(0.0, 10).unwrap();
        let take = |tenant: &str, second| {
            (0..200).filter(|_| budget.withdraw_for(payer(tenant), at(second)).is_some()).count()
        };
        assert_eq!(["a", "b", "c", "a"].map(|tenant| take(tenant, 50)), [50, 25, 13, 0]);
        assert_eq!(take("d", 59), 6);
        assert_eq!(take("a", 60), 47, "what it took is past, and what the last took is not");
        // Nobody else has a name: it is one budget, as for whoever takes in nobody's name.
        let budget = RetryBudget::new(0.0, 10).unwrap();
        let nobody = Payer::of(None, 7);
        assert_eq!((0..200).filter(|_| budget.withdraw_for(nobody, at(50)).is_some()).count(), 100);
    }

    #[test]
    fn what_is_returned_is_returned_where_it_was_taken() {
        let budget = RetryBudget::new(0.5, 1).unwrap();
        (0..2).for_each(|_| budget.deposit_of(payer("a"), at(50)));
        let take = || std::iter::from_fn(|| budget.withdraw_for(payer("a"), at(50))).collect::<Vec<_>>();
        for _ in 0..3 {
            let grants = take();
            // One that it earned, and half of the ten of the reserve.
            assert_eq!((grants.len(), grants.iter().filter(|grant| grant.from_reserve).count()), (6, 5));
            assert!(!budget.has_room(payer("a"), at(50)) && budget.has_room(payer("b"), at(50)));
            grants.iter().for_each(|grant| budget.return_grant(grant));
        }
    }

    #[test]
    fn a_million_tenants_cost_what_a_thousand_do() {
        let budget = RetryBudget::new(1.0, 0).unwrap();
        for n in 0..1_000_000 {
            let payer = payer(&format!("tenant-{n}"));
            budget.deposit_of(payer, at(50));
            assert!(n % 10 > 0 || budget.withdraw_for(payer, at(50)).is_some(), "{n}");
        }
        let table = budget.by_tenant.get().unwrap();
        assert_eq!((size_of_val(&**table), RetryBudget::CELLS), (80 * 1024, 1024));
        assert!(budget.granted.lock().by_tenant.len() <= RetryBudget::CELLS);
    }
}
