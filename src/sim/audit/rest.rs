//! The books when the world is over: nothing may be left.

use super::books::Books;
use crate::decision::{Decision, Reason};

impl Books {
    /// What is counted against the tenants' shares.
    pub(super) fn gave_back(&mut self, router: usize, shares: u32) {
        if shares > 0 {
            self.find("I2", || format!("router {router} counts {shares} calls of tenants, and none is in flight"));
        }
    }

    pub(super) fn is_over(&mut self, router: usize, in_flight: u64, decision: &Decision) {
        if in_flight > 0 {
            self.find("I2", || format!("router {router} thinks that {in_flight} calls are in flight, and none is"));
        }
        if router == 0 && self.open() > 0 {
            let open = self.open();
            self.find("L3", || format!("{open} requests never ended"));
        }
        let (seen, told) = (self.desks[router].seen, self.desks[router].told);
        if seen != told {
            self.find("I10", || format!("router {router} told of {told:?}, the servers saw {seen:?}"));
        }
        self.end = decision.time();
        self.compare(router, decision);
        for candidate in decision.candidates() {
            let probe = |note: &Reason| matches!(note, Reason::Probe | Reason::QuotaProbe);
            if let Some(reason) = candidate.rejected().or_else(|| candidate.note().filter(probe)) {
                self.kept_out.push((router, candidate.id().slot(), reason));
            }
        }
    }
}
