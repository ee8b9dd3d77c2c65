//! What an attempt takes, and what it is told.

use super::Trip;
use crate::backend::Attempt;
use crate::decision::{AttemptRecord, Extra, Reason};
use crate::event::Event;
use crate::router::core::Generation;
use crate::router::lease::{Lease, Needs};
use crate::time::Instant;
use std::sync::Arc;

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'_, Req, Res> {
    /// Takes the lease of the best candidate that still has room, and notes the races that were lost.
    pub(super) fn claim(&mut self, generation: Arc<Generation<Req, Res>>, now: Instant) -> Option<Attempt> {
        let record = self.decision.record_mut();
        let facts = record.facts.as_deref().expect("a record in use has the facts of its request");
        while let Some(best) = record.sheet.best(record.seed) {
            let entry = &mut record.sheet.entries[best];
            let seat = entry.seat as usize;
            let (berth, profile) = (&generation.fleet.berths[seat], generation.fleet.profile(entry.seat));
            let (shared, note, in_hand) = (&self.core.shared, entry.note, &mut self.in_hand);
            let cached = record.sheet.readings[best]
                .cached(entry, || berth.member.prefixes.cached_of(facts, berth.prefix_cache));
            let (cells, kept, throttles) = (self.cells, record.sheet.kept, record.sheet.throttles);
            let (request, number) = (record.seed, record.attempts.len() as u32 + 1);
            let carried = record.attempts.iter().map(AttemptRecord::broken_off).fold(0, u64::saturating_add);
            let cached = cached.unwrap_or(0);
            let needs = Needs { facts, cells, cached, kept, throttles, request, number, carried };
            let Some(lease) = Lease::take(shared, berth, profile, note, in_hand, needs, now) else {
                entry.rejected = Some(Reason::LostRace);
                continue;
            };
            // Another than the one that was freed for it: that goes to the next.
            (self.waiting, self.in_hand) = (None, None);
            // Spent: what is made is not given back, also where a broken answer is asked what is next.
            (self.extra, self.grant) = (Extra::NotAsked, None);
            let attempt = self.describe(&lease);
            self.cut_short = attempt.cut_short;
            if shared.is_watched() {
                let (backend, profile, attempt) = (attempt.backend, lease.profile(), attempt.number);
                shared.tell(&Event::Started { backend, profile, attempt }, now);
            }
            self.lease = Some(lease);
            self.count_held_back(&generation, now);
            self.target = Some((generation, seat));
            return Some(attempt);
        }
        None
    }

    /// What was held back from a backend that it would have been sent to counts as a request to it.
    pub(super) fn count_held_back(&self, generation: &Generation<Req, Res>, now: Instant) {
        let sheet = &self.decision.record().sheet;
        let throttled = |reason| matches!(reason, Some(Reason::Throttled { .. }));
        for entry in sheet.entries.iter().filter(|entry| sheet.throttles && throttled(entry.rejected)) {
            generation.fleet.berths[entry.seat as usize].member.throttle.held_back(now);
        }
    }

    /// The attempt under `lease`, with the time that it has.
    fn describe(&self, lease: &Lease) -> Attempt {
        let record = self.decision.record();
        let started = lease.started();
        let own = lease.profile().attempt_limit.map_or(self.deadline, |limit| started + limit);
        let (policy, by_deadline) = record.sheet.attempt_limit.unwrap_or((self.deadline, true));
        // Given up early for another attempt, where that would be paid for; else it is the only one.
        let canary = record.sheet.canary_limit.filter(|limit| *limit < policy && lease.is_canary());
        let (policy, by_deadline) = match canary {
            Some(limit) if self.would_pay(started) => (limit, true),
            _ => (policy, by_deadline),
        };
        let limit = policy.min(own).min(self.deadline);
        Attempt {
            backend: lease.member().id,
            number: record.attempts.len() as u32 + 1,
            request: record.seed,
            started,
            limit,
            // What the host configured is a judgement on the backend; what the caller's time leaves is not.
            cut_short: limit == self.deadline || (limit == policy && by_deadline),
            deadline: self.deadline,
            ledger: Some(lease.tab()),
        }
    }
}
