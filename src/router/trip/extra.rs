//! What another attempt costs.

use super::Trip;
use crate::backend::FailureKind;
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
        self.extra = if self.decision.attempts().len() >= allowed as usize {
            Extra::NotAsked
        } else if self.withdraw(now) {
            Extra::Granted
        } else {
            Extra::Denied
        };
    }

    /// What timed out used up a backend's work, and would use up another's: while the fleet has too much to do, that
    /// is not repeated. (The reserves of many routers' budgets together would be a multiple of what it can bear.)
    fn withdraw(&self, now: Instant) -> bool {
        let timed_out = self.last_error.as_ref().is_some_and(|error| error.kind() == FailureKind::Timeout);
        !(timed_out && self.core.shared.court.pulse.is_overload()) && self.core.retry_budget.withdraw(now)
    }

    /// Whether another attempt would be paid for, if this one timed out now.
    pub(super) fn would_pay(&self, now: Instant) -> bool {
        !self.core.shared.court.pulse.is_overload() && self.core.retry_budget.has_room(now)
    }

    /// An attempt that was paid for and is not made goes back.
    pub(super) fn refund(&mut self) {
        if std::mem::take(&mut self.extra) == Extra::Granted
            && let Some(last) = self.decision.attempts().last()
        {
            self.core.retry_budget.refund(last.ended);
        }
    }
}
