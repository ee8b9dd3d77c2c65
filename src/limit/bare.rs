//! [`Bare`]: what limits a backend, without a router around it, so that `benches/lease.rs` can see what that alone costs.
//! No part of the interface.

use super::{Bulkheads, Claim, Gauge, Quotas, Shares, Spent, Stake, Ticket};
use crate::facts::{Facts, Need, Profile};
use crate::time::Instant;

/// A backend's slots, its work and bounds of tokens, and its quotas and the shares of tenants where there are any.
#[derive(Debug)]
pub struct Bare {
    limit: u32,
    gauge: Gauge,
    quotas: Option<Quotas>,
    shares: Option<Shares>,
}

/// What a call took of them.
#[derive(Debug)]
#[must_use = "what is not given back is taken for ever"]
pub struct Lease {
    ticket: Ticket,
    claim: Option<Claim>,
    stake: Option<Stake>,
}

impl Bare {
    /// As a router with this backend would keep them.
    pub fn new(profile: &Profile, tenants: Option<Bulkheads>) -> Self {
        let gauge = Gauge::default();
        gauge.set_bounds(profile);
        let is_metered = profile.requests_per_minute.is_some() || profile.tokens_per_minute.is_some();
        let quotas = is_metered.then(|| {
            let quotas = Quotas::default();
            quotas.tell(profile);
            quotas
        });
        let shares = tenants.map(|tenants| Shares::new(Some(tenants), None, 0));
        Self { limit: profile.concurrency.unwrap_or(u32::MAX), gauge, quotas, shares }
    }

    /// Takes what a call needs; a bench asks for no more than there is.
    ///
    /// # Panics
    ///
    /// Panics where there is less.
    #[inline]
    pub fn take(&self, facts: &Facts, now: Instant) -> Lease {
        const ENOUGH: &str = "a bench asks for no more than there is";
        let need = Need::of(facts);
        let stake = self.shares.as_ref().map(|it| it.take(it.cells(facts)).stake.expect(ENOUGH));
        let claim = self.quotas.as_ref().map(|it| it.take(need, now).expect(ENOUGH));
        let ticket = self.gauge.enter(self.limit, 1000, need, now).expect(ENOUGH);
        Lease { ticket, claim, stake }
    }

    /// The call is over, and took so many tokens.
    #[inline]
    pub fn give_back(&self, Lease { ticket, claim, stake }: Lease, tokens: u64) {
        if let (Some(quotas), Some(claim)) = (&self.quotas, claim) {
            quotas.settle(&claim, Spent::Tokens(Some(tokens)));
        }
        self.gauge.leave(ticket);
        if let (Some(shares), Some(stake)) = (&self.shares, stake) {
            shares.give_back(stake);
        }
    }
}
