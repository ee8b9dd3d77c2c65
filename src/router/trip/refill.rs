//! Waiting for what refills.

use super::Trip;
use crate::decision::{Next, Reason};
use crate::facts::Need;
use crate::limit::{Call, LOOKS_AFTER};
use crate::policy::FailSafe;
use crate::router::slot::Slot;
use crate::router::waiting::{is_for_quota, is_too_late, is_unheard};
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'_, Req, Res> {
    /// Whether nothing is handed to it for the moment, for it could not use what it was given again and again.
    #[cfg(feature = "sim")]
    pub(crate) fn rests(&self) -> bool {
        self.waiting.as_ref().is_some_and(super::Waiting::rests)
    }

    /// Something happened to it in the queue.
    pub(super) fn hear(&mut self, call: Call<Box<Slot>>) {
        match call {
            Call::Slot(slot) => self.in_hand = Some(slot),
            Call::News | Call::Shed => self.news = true,
            Call::Alarm => {}
        }
    }

    /// It waits for what refills: when to look next, without another decision. `None` where there is one to make.
    ///
    /// The first in the queue is given what has refilled, or has it kept and is told when there is enough; nobody else need
    /// look. `declined`: it did not use what it was given, and what is kept is for others.
    pub(super) fn wait_on(&mut self, declined: bool, now: Instant) -> Option<Instant> {
        let (core, waiting) = (self.core, self.waiting.as_mut().filter(|_| self.in_hand.is_none())?);
        let record = self.decision.record();
        let fleet = &core.current.load().fleet;
        if !Arc::ptr_eq(&record.roster, &fleet.roster) {
            return None;
        }
        let reasons = || record.sheet.entries.iter().filter_map(|entry| Some((entry.seat, entry.rejected?)));
        let quotas = || reasons().filter(|(_, why)| is_for_quota(*why));
        let reserve = if record.last_resort { FailSafe::LAST_RESORT_RESERVE } else { Duration::ZERO };
        let latest = waiting.until(core.longest_wait, &self.decision).min(self.deadline - reserve);
        let others = reasons().filter(|(_, why)| !is_for_quota(*why)).filter_map(|(_, why)| match why {
            Reason::Reserved { until, .. } => until,
            // Whoever is first spends what has come back, and the others would look again.
            Reason::OverSpendLimit { .. } => None,
            _ => why.returns_at(),
        });
        // What its policy says, unless that is when a quota returns: of that it is told.
        let verdict = match self.decision.next() {
            Next::Wait { until } if quotas().all(|(_, why)| why.returns_at() != Some(until)) => until,
            _ => latest,
        };
        // What may change without a word it looks after by itself.
        let decided = record.now;
        let again = decided + waiting.age(decided).max(LOOKS_AFTER);
        let is_late = |why: Reason| is_too_late(why, self.deadline);
        // A region has more room after a slow start, or for whom others there may be used.
        let has_regions = !record.sheet.regions.is_empty();
        let unheard = has_regions || reasons().any(|(_, why)| is_unheard(why) || is_late(why));
        let unheard = if unheard { again } else { latest };
        let due = others.fold(latest.min(verdict), Instant::min).min(unheard);
        let rang = waiting.alarm(now).is_some_and(|at| at <= now);
        if rang && waiting.decides() {
            return None;
        }
        if rang {
            // Its last decision may have been about other things.
            waiting.offer_kept(now);
            if let Some(call) = waiting.called() {
                self.hear(call);
                return None;
            }
        }
        if due <= now {
            return None;
        }
        if quotas().next().is_none() {
            if rang {
                // A quota that its last decision knows nothing of.
                return None;
            }
            return Some(waiting.alarm(now).map_or(due, |at| due.min(at)));
        }
        let facts = record.facts();
        let (need, priority, round) = (Need::of(facts), facts.request_priority(), core.shared.waiters.round());
        let mut enough = latest;
        for (seat, why) in quotas() {
            let member = &fleet.berths[seat as usize].member;
            let returns_at = || member.quotas.returns_at(need, now).max(member.gauge.promised_until(priority, round));
            if rang || (returns_at() <= now && !declined) {
                core.shared.offer(member, now);
                if let Some(call) = waiting.called() {
                    self.hear(call);
                    return None;
                }
            }
            let at = returns_at();
            // Where there is enough, its policy knows of a quota that is not told here.
            enough = enough.min(if at <= now { why.returns_at().unwrap_or(at) } else { at });
        }
        if declined && enough > now {
            waiting.looks_at(enough);
        }
        let by_itself = enough.max(now + waiting.age(now).max(LOOKS_AFTER));
        Some(due.min(waiting.alarm(now).unwrap_or(by_itself)).min(by_itself))
    }
}
