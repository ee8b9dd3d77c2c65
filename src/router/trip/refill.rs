//! Waiting for what refills.

use super::Trip;
use crate::facts::Need;
use crate::policy::FailSafe;
use crate::router::waiting::is_for_quota;
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'_, Req, Res> {
    /// It waits, was not called, and it is time to see whether a quota has refilled. What has goes to the first in the queue;
    /// who is not that waits on, without another decision. `None` where there is one to make.
    pub(super) fn wait_on(&mut self, now: Instant) -> Option<Instant> {
        let (core, waiting) = (self.core, self.waiting.as_mut().filter(|_| self.in_hand.is_none())?);
        let record = self.decision.record();
        let fleet = &core.current.load().fleet;
        if !Arc::ptr_eq(&record.roster, &fleet.roster) {
            return None;
        }
        let facts = record.facts();
        let (need, priority, round) = (Need::of(facts), facts.request_priority(), core.shared.waiters.round());
        let reserve = if record.last_resort { FailSafe::LAST_RESORT_RESERVE } else { Duration::ZERO };
        let latest = waiting.until(core.longest_wait).min(self.deadline - reserve);
        let (mut until, mut for_quota) = (latest, false);
        for entry in &record.sheet.entries {
            let mut at = entry.rejected?.returns_at();
            if entry.rejected.is_some_and(is_for_quota) {
                let member = &fleet.berths[entry.seat as usize].member;
                let returns_at =
                    || member.quotas.returns_at(need, now).max(member.gauge.promised_until(priority, round));
                if returns_at() <= now {
                    core.shared.offer(member, now);
                    if let Some(slot) = waiting.called() {
                        (self.news, self.in_hand) = (slot.is_none(), slot);
                        return None;
                    }
                }
                (at, for_quota) = (Some(returns_at()), true);
            }
            until = until.min(at.unwrap_or(until));
        }
        if !for_quota || until <= now || until >= latest {
            return None;
        }
        waiting.looks_at(until);
        Some(until)
    }
}
