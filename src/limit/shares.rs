//! [`Shares`]: the calls in flight of each tenant and each route, against what [`Bulkheads`] allow.

use super::bulkhead::{Bulkheads, Share};
use crate::decision::Reason;
use crate::facts::Facts;
use crate::rng::hash_keyed;
use crate::sync::{AtomicU32, Ordering};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What each tenant and each route has in flight. Decisions read it without a lock.
#[derive(Debug)]
pub(crate) struct Shares {
    tenants: Option<Ledger>,
    routes: Option<Ledger>,
    /// Requests in the queue: any of them may wait for a share, or come to.
    wanted: AtomicU32,
}

/// Where the calls of a request are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Cells {
    tenant: u32,
    route: u32,
    /// Whether a part of either is guaranteed.
    is_guaranteed: bool,
}

/// What a call took of the shares of its tenant and its route.
#[derive(Debug)]
#[must_use = "a stake that is not given back is taken for ever"]
pub(crate) struct Stake(Cells);

/// What came of an attempt to take a stake.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) stake: Option<Stake>,
    /// Something was taken for a moment and returned: others may have found it missing.
    pub(crate) disturbed: bool,
}

/// How a request stands that wants to start: who has the right to what it asks for comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Right {
    /// It is below what its tenant or its route is guaranteed.
    Own,
    /// It takes of what is there for all.
    Open,
}

/// The calls in flight of one kind of names.
///
/// A name takes of what is kept for it first, and beyond that of what is *open* to all. Both are counted so that at every
/// moment `taken ≥ Σ max(0, used − kept)`: what is open is taken before a call is counted and returned after it is not
/// any more. So the calls in flight are never more than `Σ kept + open`, which is the whole.
#[derive(Debug)]
struct Ledger {
    named: FxHashMap<Arc<str>, u32>,
    shares: Box<[Named]>,
    others: Box<[AtomicU32]>,
    each: Share,
    open: u32,
    /// What is taken of it.
    taken: Line<AtomicU32>,
    salt: u64,
}

#[derive(Debug)]
struct Named {
    share: Share,
    used: Line<AtomicU32>,
}

/// Alone on its cache line: every call writes it.
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

impl Shares {
    /// `salt`: what callers can not know, so that they can not choose their cell.
    pub(crate) fn new(tenants: Option<Bulkheads>, routes: Option<Bulkheads>, salt: u64) -> Self {
        let ledger = |bulkheads| Ledger::new(bulkheads, salt);
        Self { tenants: tenants.map(ledger), routes: routes.map(ledger), wanted: AtomicU32::new(0) }
    }

    /// Whether anything is divided.
    pub(crate) const fn exist(&self) -> bool {
        self.tenants.is_some() || self.routes.is_some()
    }

    #[inline]
    pub(crate) fn cells(&self, facts: &Facts) -> Cells {
        let cell = |ledger: &Option<Ledger>, name: Option<&str>| {
            ledger.as_ref().map_or(0, |ledger| ledger.cell(name.unwrap_or_default()))
        };
        let tenant = cell(&self.tenants, facts.request_tenant());
        let route = cell(&self.routes, facts.requested_model());
        let least = |ledger: &Option<Ledger>, cell| ledger.as_ref().map_or(0, |ledger| ledger.at(cell).1.least);
        let is_guaranteed = least(&self.tenants, tenant) > 0 || least(&self.routes, route) > 0;
        Cells { tenant, route, is_guaranteed }
    }

    /// Why a request may not start now, if it may not.
    #[inline]
    pub(crate) fn full(&self, cells: Cells) -> Option<Reason> {
        if !self.exist() {
            return None;
        }
        let full = |ledger: &Option<Ledger>, cell, why: fn(u32, u32) -> Reason| {
            let ledger = ledger.as_ref()?;
            let (in_flight, most) = ledger.full(cell)?;
            Some(if ledger.has_none_for(cell) { Reason::NoShare } else { why(in_flight, most) })
        };
        let tenant = full(&self.tenants, cells.tenant, |in_flight, most| Reason::TenantFull { in_flight, most });
        let route = full(&self.routes, cells.route, |in_flight, most| Reason::RouteFull { in_flight, most });
        // What never ends goes before what does.
        [tenant, route].into_iter().flatten().find(|why| *why == Reason::NoShare).or(tenant).or(route)
    }

    /// The right by which a request may start now; `None` where it may not.
    pub(super) fn right(&self, cells: Cells) -> Option<Right> {
        let right = |ledger: &Option<Ledger>, cell| ledger.as_ref().map_or(Some(Right::Open), |it| it.right(cell));
        Some(right(&self.tenants, cells.tenant)?.min(right(&self.routes, cells.route)?))
    }

    /// Whether something is there for all: without it nobody may start who has no guarantee.
    pub(super) fn are_open(&self) -> bool {
        [&self.tenants, &self.routes].into_iter().flatten().all(Ledger::is_open)
    }

    /// Takes one call of both shares, or nothing.
    pub(crate) fn take(&self, cells: Cells) -> Taken {
        let mut disturbed = false;
        let mut take = |ledger: &Option<Ledger>, cell| ledger.as_ref().is_none_or(|it| it.take(cell, &mut disturbed));
        let tenant = take(&self.tenants, cells.tenant);
        if tenant && take(&self.routes, cells.route) {
            return Taken { stake: Some(Stake(cells)), disturbed };
        }
        if tenant && let Some(tenants) = &self.tenants {
            tenants.give_back(cells.tenant);
            disturbed = true;
        }
        Taken { stake: None, disturbed }
    }

    /// The call is over. What it took is free when this returns.
    pub(crate) fn give_back(&self, Stake(cells): Stake) {
        if let Some(tenants) = &self.tenants {
            tenants.give_back(cells.tenant);
        }
        if let Some(routes) = &self.routes {
            routes.give_back(cells.route);
        }
    }

    /// Somebody joins the queue. Whoever does must look once more before sleeping: either it sees what was given back, or
    /// the one who gave it back sees that somebody waits.
    pub(crate) fn want(&self) {
        self.wanted.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn unwant(&self) {
        self.wanted.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether somebody may wait for what is given back.
    pub(crate) fn are_wanted(&self) -> bool {
        self.exist() && self.wanted.load(Ordering::SeqCst) > 0
    }

    /// Calls in flight that are counted where those of this tenant are; `None` where nobody counts.
    pub(crate) fn of_tenant(&self, name: &str) -> Option<u32> {
        self.tenants.as_ref().map(|ledger| ledger.used(ledger.cell(name)))
    }

    /// As [`of_tenant`](Self::of_tenant), of a route.
    pub(crate) fn of_route(&self, name: &str) -> Option<u32> {
        self.routes.as_ref().map(|ledger| ledger.used(ledger.cell(name)))
    }
}

impl Cells {
    /// The best right that a call of these may ever have.
    pub(super) const fn best_right(self) -> Right {
        if self.is_guaranteed { Right::Own } else { Right::Open }
    }
}

impl Ledger {
    fn new(bulkheads: Bulkheads, salt: u64) -> Self {
        let Bulkheads { total, shares, others, .. } = bulkheads;
        let kept: u32 = shares.values().map(|share| share.kept()).sum();
        let named = |share| Named { share, used: Line(AtomicU32::new(0)) };
        Self {
            named: shares.keys().cloned().zip(0..).collect(),
            shares: shares.into_values().map(named).collect(),
            others: (0..Bulkheads::CELLS).map(|_| AtomicU32::new(0)).collect(),
            each: others,
            open: total - kept,
            taken: Line(AtomicU32::new(0)),
            salt,
        }
    }

    fn cell(&self, name: &str) -> u32 {
        let hashed = || hash_keyed(self.salt, Some(name)) % self.others.len() as u64 + self.shares.len() as u64;
        self.named.get(name).copied().unwrap_or_else(|| hashed() as u32)
    }

    /// What is used in a cell, and its share.
    #[inline]
    fn at(&self, cell: u32) -> (&AtomicU32, Share) {
        match self.shares.get(cell as usize) {
            Some(named) => (&named.used.0, named.share),
            None => (&self.others[cell as usize - self.shares.len()], self.each),
        }
    }

    fn used(&self, cell: u32) -> u32 {
        self.at(cell).0.load(Ordering::SeqCst)
    }

    /// How many there are in a cell, and how many there may be now, where that is no more.
    #[inline]
    fn full(&self, cell: u32) -> Option<(u32, u32)> {
        let (used, share) = self.at(cell);
        let used = used.load(Ordering::SeqCst);
        if used >= share.most {
            return Some((used, share.most));
        }
        (used >= share.kept() && !self.is_open()).then_some((used, used))
    }

    /// Whether nothing is kept for this cell, and nothing is open to all, ever.
    fn has_none_for(&self, cell: u32) -> bool {
        self.open == 0 && self.at(cell).1.kept() == 0
    }

    fn is_open(&self) -> bool {
        self.taken.0.load(Ordering::SeqCst) < self.open
    }

    fn right(&self, cell: u32) -> Option<Right> {
        let (used, share) = self.at(cell);
        let own = used.load(Ordering::SeqCst) < share.least;
        self.full(cell).is_none().then_some(if own { Right::Own } else { Right::Open })
    }

    fn take(&self, cell: u32, disturbed: &mut bool) -> bool {
        let (used, share) = self.at(cell);
        let mut borrowed = false;
        let mut seen = used.load(Ordering::SeqCst);
        let took = loop {
            if seen >= share.most {
                break false;
            }
            if seen >= share.kept() && !borrowed {
                borrowed = self.borrow();
                if !borrowed {
                    break false;
                }
            }
            match used.compare_exchange(seen, seen + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break true,
                Err(now) => seen = now,
            }
        };
        // Where one of its own was given back meanwhile, what is kept for it will do.
        if borrowed && (!took || seen < share.kept()) {
            self.taken.0.fetch_sub(1, Ordering::SeqCst);
            *disturbed = true;
        }
        took
    }

    fn borrow(&self) -> bool {
        let free = |taken: u32| (taken < self.open).then(|| taken + 1);
        self.taken.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).is_ok()
    }

    fn give_back(&self, cell: u32) {
        let (used, share) = self.at(cell);
        if used.fetch_sub(1, Ordering::SeqCst) > share.kept() {
            self.taken.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, not(fallway_loom)))]
mod tests;

#[cfg(all(test, fallway_loom))]
mod models;
