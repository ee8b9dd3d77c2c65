//! What an attempt takes, and what it is told.

use super::Trip;
use super::extra::Paid;
use crate::backend::Attempt;
use crate::decision::record::Record;
use crate::decision::{Beside, Extra, Reason};
use crate::event::Event;
use crate::limit::Cells;
use crate::router::core::{Core, Generation};
use crate::router::lease::{Lease, Limiter, Needs};
use crate::router::slot::Slot;
use crate::router::waiting::Waiting;
use crate::time::Instant;
use std::sync::Arc;

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'_, Req, Res> {
    /// Takes the lease of the best candidate that still has room, and notes the races that were lost.
    pub(super) fn claim(&mut self, generation: Arc<Generation<Req, Res>>, now: Instant) -> Option<Attempt> {
        let record = self.decision.record_mut();
        let (mut lease, seat) = lease_best(self.core, &generation, record, self.cells, &mut self.in_hand, now)?;
        lease.teach(self.waiting.as_ref().and_then(Waiting::call_time));
        // Another than the one that was freed for it: that goes to the next.
        (self.waiting, self.in_hand) = (None, None);
        self.core.shared.call_next(lease.member(), now);
        // Spent: what is made is not given back, also where a broken answer is asked what is next.
        self.extra = Extra::NotAsked;
        self.paid.take().into_iter().for_each(Paid::spend);
        // An attempt after it begins anew, whoever drives the trip: the rest of a stream is asked for with a new one.
        self.lost = 0;
        self.number = self.decision.attempts().len() as u32 + 1;
        let hedge_at = self.hedge_time(&lease);
        let attempt = Attempt { hedge_at, ..self.describe(self.decision.record(), &mut lease, self.number) };
        self.tell_of_start(&lease, &attempt, now);
        self.lease = Some(lease);
        self.count_held_back(&generation, now);
        self.target = Some((generation, seat));
        Some(attempt)
    }

    pub(super) fn tell_of_start(&self, lease: &Lease, attempt: &Attempt, now: Instant) {
        if self.core.shared.is_watched() {
            let Attempt { backend, number: attempt, hedge, .. } = *attempt;
            self.core.shared.tell(&Event::Started { backend, profile: lease.profile(), attempt, hedge }, now);
        }
    }

    /// What was held back from a backend that it would have been sent to counts as a request to it.
    pub(super) fn count_held_back(&self, generation: &Generation<Req, Res>, now: Instant) {
        let sheet = &self.decision.record().sheet;
        let throttled = |reason| matches!(reason, Some(Reason::Throttled { .. }));
        for entry in sheet.entries.iter().filter(|entry| sheet.throttles && throttled(entry.rejected)) {
            generation.fleet.berths[entry.seat as usize].member.throttle.held_back(now);
        }
    }

    /// The attempt under `lease`, which `record` decided, with the time that it has.
    pub(super) fn describe(&self, record: &Record, lease: &mut Lease, number: u32) -> Attempt {
        let started = lease.started();
        let own = lease.profile().attempt_limit.map_or(self.deadline, |limit| started + limit);
        let (policy, by_deadline) = record.sheet.attempt_limit.unwrap_or((self.deadline, true));
        // Given up early for another attempt, where that would be paid for; else it is the only one.
        let canary = record.sheet.canary_limit;
        let canary = canary.filter(|limit| *limit < policy && lease.is_canary() && self.would_pay(started));
        let limit = canary.unwrap_or(policy).min(own).min(self.deadline);
        lease.limited_by(if canary == Some(limit) {
            Limiter::Canary
        } else if limit == self.deadline || (limit == policy && by_deadline) {
            Limiter::Caller
        } else {
            Limiter::Host
        });
        Attempt {
            backend: lease.member().id,
            number,
            request: record.seed,
            started,
            limit,
            deadline: self.deadline,
            hedge_at: None,
            hedge: false,
            ledger: Some(lease.tab()),
        }
    }
}

/// Takes the lease of the best candidate of a decision that still has room, and notes the races that were lost.
pub(super) fn lease_best<Req: ?Sized, Res>(
    core: &Core<Req, Res>,
    generation: &Generation<Req, Res>,
    record: &mut Record,
    cells: Cells,
    in_hand: &mut Option<Box<Slot>>,
    now: Instant,
) -> Option<(Lease, usize)> {
    let (carried, hedge) = (record.carried(), record.beside.is_some());
    let number = record.beside.as_ref().map_or(record.attempts.len() as u32, Beside::attempt) + 1;
    let facts = record.facts.as_deref().expect("a record in use has the facts of its request");
    let mut next = record.sheet.best;
    while let Some(best) = next {
        let entry = &mut record.sheet.entries[best];
        let seat = entry.seat as usize;
        let berth = &generation.fleet.berths[seat];
        let (note, tier) = (entry.note, usize::from(entry.tier));
        let belief =
            record.sheet.readings[best].prefix(entry, || berth.member.prefixes.belief(facts, berth.prefix_cache));
        let cached = belief.map_or(0, |belief| belief.cached);
        let (kept, throttles, request) = (record.sheet.kept, record.sheet.throttles, record.seed);
        let terms = record.names.as_ref().zip(record.sheet.tiers[tier].version);
        let needs = Needs {
            now,
            facts,
            deadline: record.deadline,
            cells,
            cached,
            kept,
            throttles,
            request,
            number,
            hedge,
            carried,
            terms,
            note,
        };
        if let Some(lease) = Lease::take(&core.shared, berth, in_hand, &needs) {
            return Some((lease, seat));
        }
        entry.rejected = Some(Reason::LostRace);
        next = record.sheet.best(record.seed);
    }
    None
}
