//! [`Money`]: what the requests of a plan may cost.

use super::super::audit::Allowance;
use super::super::secs;
use super::Plan;
use crate::shape::SpendLimit;

/// What requests may cost, in pico-dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Money {
    /// Each.
    pub(super) cap: Option<u64>,
    /// Those of each tenant, at each router.
    pub(super) allowance: Option<Allowance>,
}

impl Money {
    pub(super) fn limit(self) -> Option<SpendLimit> {
        let Allowance { most, per_second } = self.allowance?;
        // Of an hour: a second's is too little for a limit.
        let hour = SpendLimit::new("tenant", per_second * 3_600.0 / 1e12, secs(3_600.0));
        Some(hour.by_tenant().burst(most / 1e12))
    }
}

impl Plan {
    /// Tokens.
    pub(super) fn longest_answer(&self) -> u64 {
        self.lengths.iter().map(|(_, output)| u64::from(*output)).max().unwrap_or(1)
    }

    /// What the longest request costs on the dearest server, in pico-dollars.
    pub(super) fn dearest(&self) -> u64 {
        let prompt = self.lengths.iter().map(|(prompt, _)| u64::from(*prompt)).max().unwrap_or(1);
        let costs = self.servers.iter().filter_map(|it| Some(it.charges()?.of(prompt, self.longest_answer())));
        costs.max().unwrap_or(0)
    }

    /// Whether a tenant may run out of money in the calm.
    pub(super) fn is_tight(&self) -> bool {
        let allowance = self.money.and_then(|money| money.allowance);
        allowance.is_some_and(|it| it.most < self.dearest() as f64 * self.ample_calls())
    }

    /// Several times as many calls as a router has in flight in the calm.
    pub(super) fn ample_calls(&self) -> f64 {
        (8.0 * self.calm_rate() * self.longest() / self.routers as f64).ceil().max(8.0)
    }
}
