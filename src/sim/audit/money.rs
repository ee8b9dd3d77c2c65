//! Money: what routers book, against what servers bill.

use super::books::Books;
use crate::decision::Cost;
use crate::time::Instant;
use rustc_hash::FxHashMap;

/// What each tenant of a router may spend, in pico-dollars: at once, and in each second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Allowance {
    pub(in super::super) most: f64,
    pub(in super::super) per_second: f64,
}

/// An attempt: the request that its router counts it with, and its number.
pub(in super::super) type CallId = (u64, u32);

/// Both sides of every attempt that is not settled, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Money {
    open: FxHashMap<CallId, Sides>,
    /// By request.
    billed: FxHashMap<u64, u64>,
    /// By router and tenant.
    spent: FxHashMap<(usize, usize), Owed>,
}

#[derive(Clone, Copy, Debug)]
struct Sides {
    router: usize,
    tenant: usize,
    request: u64,
    booked: Option<(Cost, Instant)>,
    billed: Option<u64>,
}

/// What was spent and has not come back, as it was billed, and as it was booked.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    billed: f64,
    booked: f64,
    since: Instant,
}

impl Owed {
    fn refill(&mut self, allowed: Allowance, now: Instant) {
        let came = now.nanos_since(self.since) as f64 / 1e9 * allowed.per_second;
        (self.billed, self.booked) = ((self.billed - came).max(0.0), (self.booked - came).max(0.0));
        self.since = self.since.max(now);
    }
}

impl Books {
    /// An attempt is sent.
    pub(super) fn open_account(&mut self, call: CallId, router: usize, request: u64) {
        let sides = Sides { router, tenant: self.tenant_of(request), request, booked: None, billed: None };
        if self.money.open.insert(call, sides).is_some() {
            self.find("I17", || format!("attempt {} of request {request} is sent twice", call.1));
        }
    }

    /// The server's last word on an attempt.
    pub(super) fn billed(&mut self, call: CallId, pico: u64) {
        match self.money.open.get_mut(&call) {
            Some(sides) if sides.billed.is_none() => sides.billed = Some(pico),
            _ => {
                return self.find("I17", || format!("attempt {} of a request is billed {pico} once too often", call.1));
            }
        }
        self.compare_sides(call);
    }

    /// The router's last word on an attempt.
    pub(super) fn booked(&mut self, call: CallId, cost: Cost, now: Instant) {
        match self.money.open.get_mut(&call) {
            Some(sides) if sides.booked.is_none() => sides.booked = Some((cost, now)),
            _ => {
                return self
                    .find("I17", || format!("attempt {} of a request is booked {cost:?} once too often", call.1));
            }
        }
        self.compare_sides(call);
    }

    fn compare_sides(&mut self, call: CallId) {
        let Some(Sides { router, tenant, request, booked: Some((cost, now)), billed: Some(billed) }) =
            self.money.open.get(&call).copied()
        else {
            return;
        };
        self.money.open.remove(&call);
        let fits = match cost {
            Cost::Nothing => billed == 0,
            Cost::Known(pico) => billed == pico,
            Cost::Possible(most) => billed <= most || !self.rules.bounded,
            Cost::Unknown => false,
        };
        if !fits {
            self.find("I17", || format!("attempt {} of request {request} is booked {cost:?}, billed {billed}", call.1));
        }
        if let Some(cap) = self.rules.cap {
            let sum = self.money.billed.entry(request).or_default();
            *sum += billed;
            let sum = *sum;
            if sum > cap {
                self.find("I18", || format!("request {request} is billed {sum}, its cap is {cap}"));
            }
        }
        let Some(allowed) = self.rules.allowance else { return };
        let owed = self.money.spent.entry((router, tenant)).or_default();
        owed.refill(allowed, now);
        owed.billed += billed as f64;
        owed.booked += cost.most().unwrap_or(0) as f64;
        let spent = owed.billed;
        if spent > allowed.most * NEARLY && !self.jumped_back {
            let most = allowed.most;
            self.find("I18", || format!("router {router}: tenant {tenant} has spent {spent}, it may {most}"));
        }
    }

    /// All attempts are over: both sides have had their last word, and nothing is held. `left`: what the router says that a
    /// tenant may spend.
    pub(super) fn is_settled(&mut self, router: usize, tenant: usize, left: u64, now: Instant) {
        let Some(allowed) = self.rules.allowance.filter(|_| !self.jumped_back) else { return };
        let owed = self.money.spent.entry((router, tenant)).or_default();
        owed.refill(allowed, now);
        let expected = allowed.most - owed.booked;
        if (left as f64 - expected).abs() > allowed.most * (NEARLY - 1.0) {
            self.find("I17", || format!("router {router}: tenant {tenant} has {left} left, not {expected}"));
        }
    }

    pub(super) fn all_settled(&mut self) {
        if let Some((call, sides)) = self.money.open.iter().next() {
            let what = format!("attempt {} has one side in the end: {sides:?}", call.1);
            self.find("I17", || what);
        }
    }
}

/// Rounding of sums that refill.
const NEARLY: f64 = 1.0 + 1e-6;
