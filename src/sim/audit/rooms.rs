//! What regions have room for.

use super::books::Books;
use crate::decision::Decision;
use crate::facts::Priority;

impl Books {
    /// A router is about to call this server: its region has room, where nothing is wrong with any that is in it.
    pub(super) fn hold_region(&mut self, router: usize, server: usize, decision: &Decision) {
        let Some(ceiling) = self.rules.region else { return };
        let kin = &self.rules.pools[server].0;
        let is_well = |number: &usize| {
            let mut candidates = decision.candidates();
            let candidate = candidates.find(|it| it.id().slot() == *number && it.note().is_none());
            candidate.is_some_and(|it| it.rejected().is_none_or(|reason| reason.is_busy()))
        };
        if decision.facts().request_priority() == Priority::Critical || !kin.iter().all(is_well) {
            return;
        }
        let limits: Option<u32> = kin.iter().map(|number| self.rules.limits[*number]).sum();
        let in_flight: u32 = kin.iter().map(|number| self.desks[router].seats[*number].in_flight).sum();
        if let Some(limits) = limits.filter(|limits| in_flight > 0 && in_flight * 1000 + 500 > limits * ceiling) {
            self.find("I2", || {
                format!("router {router} calls server {server}, in whose region {in_flight} of {limits} are in flight")
            });
        }
    }
}
