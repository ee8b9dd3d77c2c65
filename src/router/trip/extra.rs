//! What another attempt costs.

use super::Trip;
use crate::backend::FailureKind;
use crate::decision::attempt::counted;
use crate::decision::{Extra, Refusal};
use crate::time::Instant;

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
            self.grant = self.core.retry_budget.withdraw_for(self.payer, now);
        }
        self.grant.is_some()
    }

    /// Whether another attempt would be paid for, if this one timed out now.
    pub(super) fn would_pay(&self, now: Instant) -> bool {
        !self.core.shared.court.pulse.is_overload() && self.core.retry_budget.has_room(self.payer, now)
    }

    /// An attempt that was paid for and is not made goes back.
    pub(super) fn refund(&mut self) {
        self.extra = Extra::NotAsked;
        if let Some(grant) = self.grant.take() {
            self.core.retry_budget.return_grant(&grant);
        }
    }
}
