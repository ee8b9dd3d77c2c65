//! What another attempt costs.

use super::Trip;
use crate::backend::FailureKind;
use crate::budget::{Grant, RetryBudget};
use crate::decision::attempt::counted;
use crate::decision::{Extra, Refusal};
use crate::time::Instant;

/// Another attempt that was paid for. Dropped before it is made, it goes back.
#[derive(Debug)]
pub(super) struct Paid<'r> {
    budget: &'r RetryBudget,
    // `None` once it is made.
    grant: Option<Grant>,
}

impl Paid<'_> {
    /// The attempt is made.
    pub(super) fn spend(mut self) {
        self.grant = None;
    }
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        self.grant.iter().for_each(|grant| self.budget.return_grant(grant));
    }
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'_, Req, Res> {
    pub(super) fn exhausted(&self) -> Refusal {
        Refusal::AttemptsExhausted { attempts: self.decision.attempts().len() as u32 }
    }

    /// Asks the shared budget for another attempt, if there can be one.
    pub(super) fn seek_another(&mut self, now: Instant) {
        let Some(allowed) = self.decision.record().sheet.attempts_allowed else {
            // No policy speaks of retries.
            return self.over = Some(self.exhausted());
        };
        self.extra = if counted(self.decision.attempts()) >= allowed {
            Extra::NotAsked
        } else if self.withdraw(now) {
            Extra::Granted
        } else {
            Extra::Denied
        };
    }

    /// What timed out used up a backend's work, and would use up another's: while the fleet has too much to do, that
    /// is not repeated. (The reserves of many routers' budgets together would be a multiple of what it can bear.)
    fn withdraw(&mut self, now: Instant) -> bool {
        let timed_out = self.last_error.as_ref().is_some_and(|error| error.kind() == FailureKind::Timeout);
        if !(timed_out && self.core.shared.court.pulse.is_overload()) {
            let budget = &self.core.retry_budget;
            self.paid = budget.withdraw_for(self.payer, now).map(|grant| Paid { budget, grant: Some(grant) });
        }
        self.paid.is_some()
    }

    /// Whether another attempt would be paid for, if this one timed out now.
    pub(super) fn would_pay(&self, now: Instant) -> bool {
        !self.core.shared.court.pulse.is_overload() && self.core.retry_budget.has_room(self.payer, now)
    }

    /// There is no other attempt.
    pub(super) fn refund(&mut self) {
        (self.extra, self.paid) = (Extra::NotAsked, None);
    }
}
