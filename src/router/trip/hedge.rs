//! A second attempt beside one that is slow to begin.

use super::Trip;
use super::claim::lease_best;
use crate::backend::{Attempt, BackendError};
use crate::budget::Hedge;
use crate::bug;
use crate::decision::attempt::counted;
use crate::decision::record::Entry;
use crate::decision::{Beside, Decision, Ending, Extra, Hedged, Next, Reason, Unhedged};
use crate::event::Event;
use crate::router::lease::Lease;
use crate::time::Instant;
use std::time::Duration;

/// The second of two attempts that run side by side; the first is the trip's own.
pub(super) struct Second {
    number: u32,
    decision: Decision,
    lease: Lease,
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'_, Req, Res> {
    /// It is [time](Attempt::hedge_at), and the answer has not begun: a second attempt, where there can be one. It is to
    /// be called at once; the first goes on, and with whichever [answers](Self::answered) first the other is over.
    ///
    /// `None` where there is nobody to send it to now, or nobody to pay for it, which the [decision](Self::decision)
    /// tells: nothing has changed then, and there is nothing to wait for.
    pub fn hedge(&mut self, now: Instant) -> Option<Attempt> {
        // As asked for, and once.
        if !matches!(self.decision.hedged(), Hedged::Due { .. }) {
            return None;
        }
        let begun = !self.lease.as_ref().is_some_and(Lease::is_waiting) && !bug::HEDGE_AFTER_COMMIT;
        if begun || now >= self.deadline {
            return None;
        }
        let hedge = self.pay_for_hedge(now);
        self.decision.record_mut().hedged = match &hedge {
            Ok(_) => Hedged::Sent { at: now },
            Err(why) => Hedged::Withheld { why: *why },
        };
        if let (Err(why), Some(lease)) = (&hedge, &self.lease)
            && self.core.shared.is_watched()
        {
            let (backend, profile, why) = (lease.member().id, &**lease.profile(), *why);
            self.core.shared.tell(&Event::Unhedged { backend, profile, why }, now);
        }
        hedge.ok()
    }

    /// When the attempt under `lease` is to be hedged; notes why not.
    pub(super) fn hedge_time(&mut self, lease: &Lease) -> Option<Instant> {
        // Once an answer began there is nothing to hedge: the rest of it is another request.
        let hedge = self.decision.record().sheet.hedge.filter(|_| !self.told)?;
        if self.number == 1 {
            self.core.savings.deposit(&hedge);
        }
        let hedged = match self.hedge_delay(&hedge, lease) {
            Ok(at) => Hedged::Due { at },
            Err(why) => Hedged::Withheld { why },
        };
        self.decision.record_mut().hedged = hedged;
        if let Hedged::Due { at } = hedged { Some(at) } else { None }
    }

    fn hedge_delay(&self, hedge: &Hedge, lease: &Lease) -> Result<Instant, Unhedged> {
        let record = self.decision.record();
        let facts = record.facts();
        let (tokens, most) =
            (facts.input_tokens().saturating_add(facts.expected_output_tokens()), hedge.token_ceiling());
        let allowed = record.sheet.attempts_allowed.unwrap_or(1);
        if !facts.is_replay_safe() && !bug::HEDGE_UNSAFE {
            Err(Unhedged::NotReplaySafe)
        } else if tokens > most {
            Err(Unhedged::TooManyTokens { tokens, most })
        } else if record.attempts.iter().any(|attempt| attempt.hedge) {
            Err(Unhedged::HedgedBefore)
        } else if counted(&record.attempts) + 1 >= allowed {
            Err(Unhedged::AttemptsExhausted)
        } else {
            let delay = hedge.delay().map_or_else(|| usual_delay(hedge, lease), Ok)?;
            Ok(lease.started() + delay)
        }
    }

    /// A hedge takes its part of the share and of the retry budget, or nothing.
    fn pay_for_hedge(&mut self, now: Instant) -> Result<Attempt, Unhedged> {
        let core = self.core;
        if core.shared.court.pulse.is_overload() {
            return Err(Unhedged::Overload);
        }
        if !core.savings.withdraw() && !bug::HEDGE_FREE {
            return Err(Unhedged::ShareUsedUp);
        }
        let grant = core.retry_budget.withdraw_for(self.payer, now);
        let sent = match grant {
            Some(_) => self.send_hedge(now),
            None => Err(Unhedged::RetryBudgetEmpty),
        };
        if sent.is_err() {
            core.savings.refund();
            grant.iter().for_each(|grant| core.retry_budget.return_grant(grant));
        }
        sent
    }

    /// Decides once more, over the fleet as it is now and without the backend that was asked, and takes a second lease.
    fn send_hedge(&mut self, now: Instant) -> Result<Attempt, Unhedged> {
        let (core, Some(first)) = (self.core, &self.lease) else { return Err(Unhedged::NobodyElse) };
        let beside = Beside { attempt: self.number, backend: first.member().id, profile: first.profile().clone() };
        let mut decision = core.open_hedge(&self.decision, beside);
        // Both may be billed in full.
        decision.record_mut().at_stake = first.at_stake();
        let generation = core.current.load_full();
        core.plan(&generation, &mut decision, now, Extra::Granted, self.cells, None);
        if core.shared.is_watched() {
            core.shared.tell(&Event::Decided(&decision), now);
        }
        let throttled = |entry: &Entry| matches!(entry.rejected, Some(Reason::Throttled { .. }));
        if decision.record().sheet.entries.iter().any(throttled) {
            return Err(Unhedged::Overload);
        }
        if !matches!(decision.next(), Next::Call { at } if at <= now) {
            return Err(Unhedged::NobodyElse);
        }
        let record = decision.record_mut();
        let (mut lease, seat) =
            lease_best(core, &generation, record, self.cells, &mut None, now).ok_or(Unhedged::NobodyElse)?;
        let number = self.number + 1;
        let attempt = Attempt { hedge: true, ..self.describe(decision.record(), &mut lease, number) };
        self.tell_of_start(&lease, &attempt, now);
        self.second = Some(Box::new(Second { number, decision, lease }));
        self.target = Some((generation, seat));
        Ok(attempt)
    }

    /// Whether the attempt of this number runs.
    pub(super) fn is_under_way(&self, number: u32) -> bool {
        let second = self.second.as_ref().is_some_and(|second| second.number == number);
        self.lease.is_some() && (self.number == number || second)
    }

    /// The number of the attempt that runs beside the one of this number.
    pub(super) const fn other_than(&self, number: u32) -> u32 {
        if number == self.number { number + 1 } else { self.number }
    }

    /// Makes the attempt of this number the trip's own, where two run, and returns the other.
    pub(super) fn part(&mut self, stays: u32) -> Option<Box<Second>> {
        let mut second = self.second.take()?;
        if second.number == stays {
            let Second { number, decision, lease } = &mut *second;
            // The attempts are the request's, whoever decided.
            std::mem::swap(&mut decision.record_mut().attempts, &mut self.decision.record_mut().attempts);
            std::mem::swap(decision, &mut self.decision);
            std::mem::swap(number, &mut self.number);
            if let Some(own) = &mut self.lease {
                std::mem::swap(lease, own);
            }
        }
        Some(second)
    }

    /// One of two attempts is over, for the other was faster.
    pub(super) fn outrun(&mut self, loser: Second, now: Instant) {
        let Second { lease, .. } = loser;
        self.decision.record_mut().attempts.push(lease.record(Ending::Outrun, false, now));
        lease.outrun(now);
    }

    /// One of two attempts failed; the other goes on.
    pub(super) fn drop_out(&mut self, loser: Second, error: &BackendError, gave_up: bool, now: Instant) {
        let (Second { lease, .. }, ending) = (loser, Ending::Failed { kind: error.kind() });
        self.decision.record_mut().attempts.push(lease.record(ending, gave_up, now));
        lease.fail(error, gave_up, now);
    }
}

/// When most of the backend's answers have begun.
fn usual_delay(hedge: &Hedge, lease: &Lease) -> Result<Duration, Unhedged> {
    match lease.quantile(hedge.quantile()) {
        (delay, samples) if samples >= Hedge::WARM_UP => Ok(delay),
        (_, samples) => Err(Unhedged::WarmingUp { samples }),
    }
}
