//! [`Lease`]: the claim of one attempt on its backend.

mod entry;
mod money;

pub(super) use money::is_limited;

use super::imprint::{Imprint, loses_memory};
use super::receipt::Quote;
use super::tab::Tab;
use crate::backend::{BackendError, FailureKind};
use crate::bug;
use crate::decision::names::Names;
use crate::decision::{Ending, Reason};
use crate::event::{Doubt, Event, Outcome};
use crate::facts::{Facts, Profile};
use crate::fleet::Member;
use crate::limit::{CallTime, Cells, Claim, Moved, Passed, Sent, Stake, Ticket};
use crate::recover::{Change, Evidence, Kin, Permits, Ties, Verdict};
use crate::shape::Held;
use crate::time::{Instant, nanos};
use std::sync::Arc;
use std::time::Duration;

/// The claim of one attempt on its backend: a slot, prefill work on the books, tokens in flight, its part of the quotas, a call of the shares of its
/// tenant and its route, money, the permit of a probe.
///
/// However the attempt ends, dropping the lease returns all of it and tells those who learn from the outcome.
#[derive(Debug)]
pub(crate) struct Lease {
    tab: Arc<Tab>,
    ties: Arc<Ties>,
    // All `None` only after the end.
    held: Option<(Ticket, Claim, Permits)>,
    stake: Option<Stake>,
    /// Money of the spend limits; `None` after the end.
    money: Option<Held>,
    quote: Quote,
    /// Whose price holds where the profile says none.
    terms: Option<(Names, u32)>,
    request: u64,
    number: u32,
    hedge: bool,
    canary: bool,
    limiter: Limiter,
    started: Instant,
    /// When its request is over.
    deadline: Instant,
    /// Prefill work before this when it was sent, its own and that of others included.
    work: u64,
    /// What is to be seen of its prompt's prefix; until its first item.
    imprint: Option<Imprint>,
    waiting: bool,
    /// When the first item came, and how much content there was.
    first: Option<Instant>,
    content: u64,
    /// What a drop without an explicit end means.
    answered: bool,
    /// Its failure says nothing about the backend.
    excused: bool,
    /// Whether it counts for the throttle.
    throttles: bool,
    /// Whom it teaches how much time a call takes, where its request has waited.
    teaches: Option<Arc<CallTime>>,
}

/// What an attempt is to take, as its decision said, and when.
#[derive(Debug)]
pub(super) struct Needs<'a> {
    pub(super) now: Instant,
    pub(super) facts: &'a Facts,
    pub(super) deadline: Instant,
    pub(super) cells: Cells,
    /// What of it the backend probably has, as the decision counted it.
    pub(super) cached: u64,
    /// What of the limit is for others, in thousandths.
    pub(super) kept: u32,
    /// The decision asks what the backend accepts.
    pub(super) throttles: bool,
    /// The request, the number of its attempt, and the tokens of its answer that it sends along.
    pub(super) request: u64,
    pub(super) number: u32,
    pub(super) hedge: bool,
    pub(super) carried: u64,
    /// Where the registry knows the backend's version.
    pub(super) terms: Option<(&'a Names, u32)>,
    /// What was noted of the backend: whether this is its trial, or its canary.
    pub(super) note: Option<Reason>,
}

/// What limits an attempt. What the host configured is a judgement on the backend; the others are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limiter {
    Host,
    /// The time that the caller leaves.
    Caller,
    /// It finds something out, and its request is not to pay for that.
    Canary,
}

/// A caller with little time must not bench a backend for all: where the deadline cut an attempt short, giving it up
/// counts against the backend only after three times its typical time to first token; for a slow backend after half
/// as much again as is typical, but no less than this; where nothing is known, after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
const TYPICAL_TIMES: u32 = 3;

impl Lease {
    /// Where its backend says what it used.
    pub(super) fn tab(&self) -> Arc<Tab> {
        self.tab.clone()
    }

    pub(super) fn profile(&self) -> &Arc<Profile> {
        &self.ties.profile
    }

    pub(super) const fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        &self.tab.member
    }

    /// Whether it looks after a backend that gets no other requests.
    pub(super) const fn is_canary(&self) -> bool {
        self.canary
    }

    /// What made its limit as short as it is.
    pub(super) const fn limited_by(&mut self, limiter: Limiter) {
        self.limiter = limiter;
    }

    /// Whether the first item is still to come.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether the clock jumped meanwhile, or the process slept: nobody waits beyond the deadline. How long the call took is
    /// not known then.
    fn is_past_measure(&self, now: Instant) -> bool {
        now - self.deadline > PATIENCE
    }

    /// What it took from `start` until `now`, to learn from; no more than there was until the deadline.
    fn waited(&self, start: Instant, now: Instant) -> Duration {
        now.min(self.deadline) - start
    }

    /// The first item is here.
    pub(super) fn first_item(&mut self, now: Instant) {
        if !std::mem::take(&mut self.waiting) {
            return;
        }
        self.first = Some(now);
        if let Some((ticket, ..)) = &mut self.held
            && self.tab.member.gauge.first_item(ticket)
        {
            self.tab.shared.hand_over(Some(&self.tab.member), &Passed::default(), now);
        }
        let (elapsed, measured) = (self.waited(self.started, now), !self.is_past_measure(now));
        if measured {
            self.tab.member.recovery.first_token(nanos(elapsed), now);
        }
        if let Some(imprint) = self.imprint.take() {
            self.work = imprint.answered(&self.tab.member, self.work, nanos(elapsed));
        }
        if self.throttles {
            self.tab.member.throttle.accepted(elapsed, now);
        }
        if let (Some(how), Some(sent)) = (self.ties.profile.adaptive, self.sent()) {
            let moved = self.tab.member.gauge.learned().answered(how, sent, nanos(elapsed));
            self.limit_moved(moved, now);
        }
        if !measured {
            // Nothing is learned of how long its answers take.
        } else if self.canary {
            let better = self.tab.member.latency.record_canary(self.work, nanos(elapsed), now);
            self.tab.member.canary_said(better);
        } else {
            self.tab.member.latency.record(self.work, nanos(elapsed), now);
        }
        if self.tab.shared.is_watched() {
            let elapsed = now - self.started;
            self.tell(&Event::FirstItem { backend: self.tab.member.id, profile: &self.ties.profile, elapsed }, now);
        }
    }

    /// The call answered; from here on a drop is a success.
    pub(super) const fn answered(&mut self) {
        self.answered = true;
    }

    /// For how long its answer has been coming, in nanoseconds; 0 before it began.
    pub(super) fn since_first(&self, now: Instant) -> u64 {
        self.first.map_or(0, |first| nanos(self.waited(first, now)))
    }

    /// So many tokens followed the first until now.
    pub(super) fn paced(&self, tokens: u64, now: Instant) {
        self.tab.member.latency.record_pace(tokens, self.since_first(now), now);
    }

    pub(super) fn succeed(&mut self, now: Instant) {
        self.first_item(now);
        self.end(Outcome::Success, now);
    }

    /// `gave_up`: its time was over; the backend had not said anything.
    pub(super) fn fail(mut self, error: &BackendError, gave_up: bool, now: Instant) {
        self.excused |= gave_up && self.limiter != Limiter::Host && now - self.started < self.patience();
        self.end(Outcome::Failure(error), now);
    }

    /// Its request has waited: how long it takes is known to those that wait behind it.
    pub(super) fn teach(&mut self, call_time: Option<Arc<CallTime>>) {
        self.teaches = call_time;
    }

    /// How it fails is the impatience of its caller, and says nothing about the backend.
    pub(super) const fn excuse(&mut self) {
        self.excused = true;
    }

    /// Another attempt of the request was faster.
    pub(super) fn outrun(mut self, now: Instant) {
        if bug::LOSER_KEPT {
            self.held = None;
        }
        self.end(Outcome::Outrun, now);
    }

    /// The slowest first tokens of a backend are those that hedges save its callers from. Were they not counted as what
    /// they were at least, it would look the better the more often it is too slow.
    fn learn_of_defeat(&self, elapsed: u64, now: Instant) {
        let Member { latency, recovery, .. } = &**self.member();
        latency.contradict(self.work, elapsed, now);
        if (1..elapsed).contains(&latency.typical()) {
            recovery.first_token(elapsed, now);
        }
    }

    /// The time to its first item that so many thousandths stay below, and how many samples say so.
    pub(super) fn quantile(&self, permille: u32) -> (Duration, u32) {
        let (nanos, samples) = self.tab.member.latency.quantile(self.work, permille, self.started);
        (Duration::from_nanos(nanos), samples)
    }

    fn patience(&self) -> Duration {
        match self.tab.member.latency.typical() {
            0 => PATIENCE,
            typical => {
                let typical = Duration::from_nanos(typical);
                typical.saturating_mul(TYPICAL_TIMES).min(PATIENCE.max(typical.saturating_mul(3) / 2))
            }
        }
    }

    /// What the backend's limit learns from.
    fn sent(&self) -> Option<Sent> {
        self.held.as_ref().map(|(ticket, ..)| Sent { at: self.started, among: ticket.among })
    }

    /// Whether this failure says that fewer calls should have been in flight. Where the peers time out as well, the fleet
    /// has too much to do, and one backend's limit is not what is wrong.
    fn is_refusal(&self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::RateLimited | FailureKind::Overloaded => true,
            FailureKind::Timeout => {
                let slot = self.tab.member.id.slot();
                !self.excused && self.tab.shared.court.pulse.is_strange(|other| other == slot, 1)
            }
            _ => false,
        }
    }

    /// Somebody who waits may start where there is more room now; observers hear of what is far from what they know.
    fn limit_moved(&self, moved: Option<Moved>, now: Instant) {
        let Some(Moved { from, to }) = moved else { return };
        for _ in from..to {
            self.tab.shared.hand_over(Some(&self.tab.member), &Passed::default(), now);
        }
        if self.tab.shared.is_watched()
            && let Some(Moved { from, to }) = self.tab.member.gauge.learned().news()
        {
            let (backend, profile, from) =
                (self.tab.member.id, &*self.ties.profile, (from != u32::MAX).then_some(from));
            self.tell(&Event::Limit { backend, profile, from, to }, now);
        }
    }

    /// Returns everything, once, and learns.
    fn end(&mut self, outcome: Outcome<'_>, now: Instant) {
        if let (Outcome::Failure(error), Some(_), Some(sent)) = (outcome, self.ties.profile.adaptive, self.sent())
            && self.is_refusal(error.kind())
        {
            let moved = self.tab.member.gauge.learned().refused(sent, now);
            self.limit_moved(moved, now);
        }
        let (tokens, cost) = self.receipt(match outcome {
            Outcome::Success => Ending::Answered,
            Outcome::Failure(error) => Ending::Failed { kind: error.kind() },
            Outcome::Outrun => Ending::Outrun,
            Outcome::Cancelled => Ending::Abandoned,
        });
        let Some((ticket, claim, permits)) = self.held.take() else { return };
        let (elapsed, measured) = (self.waited(self.started, now), !self.is_past_measure(now));
        match (self.teaches.take(), outcome) {
            (Some(time), Outcome::Success) => time.answered(now - self.started),
            (Some(time), _) if now >= self.deadline && measured => time.cut(elapsed),
            _ => {}
        }
        let evidence = match outcome {
            Outcome::Success => Evidence::Success,
            Outcome::Cancelled | Outcome::Outrun => Evidence::Nothing,
            Outcome::Failure(_) if self.excused => Evidence::TooEarly,
            Outcome::Failure(error) => Evidence::Failure(error),
        };
        if self.waiting && measured {
            match outcome {
                Outcome::Success => {}
                Outcome::Cancelled => self.tab.member.latency.contradict(self.work, nanos(elapsed), now),
                Outcome::Outrun => self.learn_of_defeat(nanos(elapsed), now),
                Outcome::Failure(error) if error.kind() == FailureKind::Timeout => {
                    self.tab.member.latency.record_at_least(self.work, nanos(elapsed), now);
                }
                Outcome::Failure(_) => {}
            }
        }
        if let (Outcome::Failure(error), true, true) = (outcome, self.throttles, self.waiting) {
            self.tab.member.throttle.failed(error.kind(), elapsed, now);
        }
        if let Some(imprint) = self.imprint.take() {
            imprint.unanswered(&self.tab.member);
        }
        // Before the slot is free: who gets it finds what is given back.
        let usage = self.settle(&claim, outcome, now);
        if let Some(money) = self.money.take() {
            self.tab.shared.spends.settle(&money, cost.most().unwrap_or(0), now);
        }
        let verdict = self.tab.member.recovery.learn(&self.ties, permits, evidence, &self.tab.shared.court, now);
        if !(bug::PERMIT_LEAKED_ON_CANCEL && matches!(outcome, Outcome::Cancelled)) {
            self.tab.member.gauge.leave(ticket);
        }
        if let Some(stake) = self.stake.take()
            && !(bug::SHARE_NOT_RETURNED && matches!(outcome, Outcome::Cancelled))
        {
            self.tab.shared.shares.give_back(stake);
        }
        if std::mem::take(&mut self.canary) {
            self.tab.member.return_canary();
            let expected = self.tab.member.latency.read().predict(self.work);
            // Whose caller left before it could have been better says nothing.
            if self.waiting && !(matches!(outcome, Outcome::Cancelled) && nanos(elapsed) < expected / 2) {
                self.tab.member.canary_said(false);
            }
        }
        let unreachable = matches!(outcome, Outcome::Failure(error) if error.kind() == FailureKind::Unreachable);
        if unreachable || verdict.change.and_then(|change| change.out).is_some_and(loses_memory) {
            self.tab.member.prefixes.forget();
        }
        if verdict.moved() {
            // Somebody is back, or gone: whoever waits decides again.
            self.tab.shared.waiters.call_all();
        } else if !bug::SLOT_NOT_HANDED_OVER {
            self.tab.shared.hand_over(Some(&self.tab.member), &Passed::default(), now);
        }
        if self.tab.shared.is_watched() {
            let (backend, profile) = (self.tab.member.id, &*self.ties.profile);
            let elapsed = now - self.started;
            let Self { excused, request, number: attempt, .. } = *self;
            let first_item = self.first.map(|first| first - self.started);
            self.tell(
                &Event::Ended {
                    backend,
                    profile,
                    elapsed,
                    first_item,
                    outcome,
                    excused,
                    request,
                    attempt,
                    tokens,
                    cost,
                },
                now,
            );
            if let Some((tokens, doubt, doubts)) = usage {
                self.tell(&Event::Usage { backend, profile, tokens, doubt, doubts }, now);
            }
            self.tell_verdict(&verdict, now);
        }
    }

    /// Corrects what was taken of the quotas to what was spent. Returns what there is to tell of it: tokens, doubts.
    fn settle(&self, claim: &Claim, outcome: Outcome<'_>, now: Instant) -> Option<(Option<u64>, Option<Doubt>, u64)> {
        let quotas = &self.tab.member.quotas;
        let (tokens, doubt) = self.tab.read(outcome, claim.counts_tokens());
        if claim.is_counted() {
            quotas.settle(claim, Tab::spent(outcome, tokens));
            if let Outcome::Failure(error) = outcome
                && error.kind() == FailureKind::RateLimited
            {
                quotas.refused(claim, error.retry_hint(), now);
            }
        }
        let doubts = if doubt.is_some() { quotas.doubt() } else { quotas.doubts() };
        (tokens.is_some() || doubt.is_some()).then_some((tokens, doubt, doubts))
    }

    fn tell_verdict(&self, verdict: &Verdict, now: Instant) {
        let ties = &self.ties;
        if let Some((turn, members)) = &verdict.domain {
            let (until, cause, trips) = (turn.until, turn.cause, turn.trips);
            self.tell(&Event::DomainTransition { domain: ties.domain_name(), until, cause, trips }, now);
            for Kin { id, profile, recovery } in members.iter().map(|member| &ties.members()[*member]) {
                let out = recovery.out_with_domain(ties);
                if out.is_some() == until.is_some() {
                    self.tell(&Event::Transition { backend: *id, profile, out, cause, trips }, now);
                }
            }
        }
        if let Some(Change { out, cause, trips, .. }) = verdict.change {
            let (backend, profile) = (self.tab.member.id, &*self.ties.profile);
            self.tell(&Event::Transition { backend, profile, out, cause, trips }, now);
        }
    }

    fn tell(&self, event: &Event<'_>, now: Instant) {
        self.tab.shared.tell(event, now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held.is_none() {
            return;
        }
        let now = self.tab.shared.timer.now();
        if std::thread::panicking() {
            self.end(Outcome::Failure(&BackendError::new(FailureKind::Panicked)), now);
        } else if self.answered {
            self.first_item(now);
            self.end(Outcome::Success, now);
        } else {
            self.end(Outcome::Cancelled, now);
        }
    }
}
