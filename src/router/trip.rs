//! [`Trip`]: one request on its way, without the waiting.

mod claim;
mod extra;
mod hedge;
mod refill;

use super::core::{Core, Generation};
use super::driver::Answered;
use super::lease::Lease;
use super::slot::Slot;
use super::step::Step;
use super::waiting::{Waiting, wants};
use super::{CallOptions, RouteError};
use crate::backend::{Attempt, BackendError, BackendId};
use crate::budget::Payer;
use crate::bug;
use crate::decision::{Decision, Ending, Extra, Next, Refusal};
use crate::event::Event;
use crate::limit::{Cells, Kind, Wished};
use crate::time::{Instant, nanos};
use extra::Paid;
use hedge::Second;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// One request, step by step: what [`Router::call`](super::Router::call) does, without clock, futures or I/O, for
/// hosts that have an event loop of their own and for simulators.
///
/// [`next`](Self::next) says what to do; the host does it, and says what came of it:
///
/// - after [`Step::Call`], either [`answered`](Self::answered) at the first item and [`finish`](Self::finish) at the
///   last, or [`fail`](Self::fail), and then `next` again, unless the call was answered before;
/// - where the attempt says [when](Attempt::hedge_at), [`hedge`](Self::hedge) at that moment if neither has happened: then
///   two calls are under way until one is answered, and `next` comes when both failed;
/// - after [`Step::Sleep`] and [`Step::Wait`], `next` again when the moment has come, and after `Wait` also as soon as it is
///   [called](Self::poll_called): what was freed is held for it from then on.
///
/// Dropping a trip abandons its attempt: the slot is free at once, and the backend's record says neither success nor
/// failure. Made by [`Router::trip`](super::Router::trip), which has an example.
pub struct Trip<'r, Req: ?Sized, Res> {
    core: &'r Core<Req, Res>,
    decision: Decision,
    /// Of whose shares its calls are.
    cells: Cells,
    arrival: Instant,
    deadline: Instant,
    idle_limit: Duration,
    /// Planned over this generation, and not yet called.
    planned: Option<Arc<Generation<Req, Res>>>,
    /// The seat of the backend that is called.
    target: Option<(Arc<Generation<Req, Res>>, usize)>,
    lease: Option<Lease>,
    /// The number of the attempt in flight.
    number: u32,
    /// What runs beside it.
    second: Option<Box<Second>>,
    /// The place in the queue, while it waits.
    waiting: Option<Waiting<'r>>,
    /// A slot that was freed for it.
    in_hand: Option<Box<Slot>>,
    /// It was called for another reason: whatever it waits for, all is to be looked at.
    news: bool,
    /// Whether the retry budget paid for the attempt that is planned next.
    extra: Extra,
    payer: Payer,
    /// What the budget paid for and is not used yet.
    paid: Option<Paid<'r>>,
    /// How many plans of its next attempt were lost to other requests.
    lost: u32,
    last_error: Option<BackendError>,
    /// Why there is no other attempt.
    over: Option<Refusal>,
    /// Observers know of the end, or the answer began: then there is no refusal to tell.
    told: bool,
}

/// How many plans of an attempt may be lost, with all their candidates, to other requests before the request gives up.
const MAX_LOST: u32 = 16;

impl<'r, Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'r, Req, Res> {
    pub(super) fn new(core: &'r Core<Req, Res>, options: CallOptions, now: Instant) -> Self {
        let idle_limit = options.idle_limit.unwrap_or(core.idle_limit);
        let decision = core.open(options, now);
        let refused = core.rates.take(decision.facts(), now).err();
        let mut trip = Self::of(core, decision, idle_limit);
        trip.over = refused;
        if refused.is_none() {
            // Requests that reach nobody must not pay for the retries of others.
            core.retry_budget.deposit_of(trip.payer, now);
        }
        if bug::NO_DEADLINE {
            trip.deadline = Instant::from_nanos(u64::MAX);
        }
        trip
    }

    /// Another attempt of a request whose answer broke: [`resume`](Self::resume) is next.
    pub(super) fn again(
        core: &'r Core<Req, Res>,
        decision: Decision,
        idle_limit: Duration,
        error: BackendError,
    ) -> Self {
        Self { last_error: Some(error), told: true, ..Self::of(core, decision, idle_limit) }
    }

    fn of(core: &'r Core<Req, Res>, decision: Decision, idle_limit: Duration) -> Self {
        let (arrival, deadline) = (decision.record().arrival, decision.deadline());
        let payer = Payer::of(decision.facts().request_tenant(), core.salt);
        Self {
            core,
            cells: core.shared.shares.cells(decision.facts()),
            decision,
            arrival,
            deadline,
            idle_limit,
            planned: None,
            target: None,
            lease: None,
            number: 0,
            second: None,
            waiting: None,
            in_hand: None,
            news: false,
            extra: Extra::NotAsked,
            payer,
            paid: None,
            lost: 0,
            last_error: None,
            over: None,
            told: false,
        }
    }

    /// Decides what is next.
    ///
    /// # Errors
    ///
    /// Nothing is left to try; the trip is over. Asked again, it fails again, without the decision.
    pub fn next(&mut self, now: Instant) -> Result<Step, RouteError> {
        match self.over {
            // Nobody looked at the fleet, and the last resort is for those who may ask.
            Some(why @ Refusal::OverRate { .. }) => {
                self.decision.record_mut().roster = self.core.current.load().fleet.roster.clone();
                return Err(self.refuse(why, now));
            }
            Some(why) => return self.give_up(why, now),
            None => {}
        }
        if now >= self.deadline {
            let zero = self.arrival >= self.deadline;
            return Err(self.refuse(if zero { Refusal::ZeroDeadline } else { Refusal::DeadlineExceeded }, now));
        }
        // For hosts that look at the clock only.
        if self.in_hand.is_none()
            && let Some(call) = self.waiting.as_mut().and_then(Waiting::called)
        {
            self.hear(call);
        }
        if !std::mem::take(&mut self.news)
            && let Some(until) = self.wait_on(false, now)
        {
            return Ok(Step::Wait { until });
        }
        self.news = false;
        loop {
            if let Some(generation) = self.planned.take() {
                if let Some(attempt) = self.claim(generation, now) {
                    return Ok(Step::Call(attempt));
                }
                // Every candidate was lost to other requests since the plan. The next plan sees that, but a loop
                // must have an end, whatever policies and threads do.
                self.lost += 1;
                if self.lost >= MAX_LOST {
                    return Err(self.refuse(Refusal::NothingUsable, now));
                }
            }
            let generation = self.core.current.load_full();
            match self.plan(&generation, now) {
                // Whatever a policy wants: an attempt that nobody paid for is not made.
                Next::Call { .. } if !self.decision.attempts().is_empty() && self.extra != Extra::Granted => {
                    let denied = self.extra == Extra::Denied;
                    return self.give_up(if denied { Refusal::RetryBudgetEmpty } else { self.exhausted() }, now);
                }
                Next::Call { at } => {
                    if let Some(why) = self.waiting.as_ref().and_then(|it| it.too_little_time(&self.decision, now)) {
                        return self.give_up(why, now);
                    }
                    self.planned = Some(generation);
                    if at > now {
                        // Who sleeps for a while must not be handed a slot that others wait for.
                        self.leave_queue();
                        return Ok(Step::Sleep { until: at.min(self.deadline) });
                    }
                }
                Next::Wait { until } => {
                    let declined = self.in_hand.is_some();
                    match self.queue_up(&generation, now) {
                        Ok(None) => {}
                        Ok(Some(latest)) => {
                            let until = self.wait_on(declined, now).unwrap_or(until);
                            if self.in_hand.is_none() && !std::mem::take(&mut self.news) {
                                return Ok(Step::Wait { until: until.min(latest).min(self.deadline) });
                            }
                        }
                        Err(why) => return self.give_up(why, now),
                    }
                }
                Next::LastResort { why } => {
                    self.count_held_back(&generation, now);
                    return self.give_up(why, now);
                }
                Next::Refuse { why } => {
                    self.count_held_back(&generation, now);
                    return Err(self.refuse(why, now));
                }
            }
        }
    }

    /// Ready when something was freed since the last [`Step::Wait`]; else wakes the task then.
    pub fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(()) };
        waiting.poll_called(cx).map(|call| self.hear(call))
    }

    /// The backend began to answer that was called in the attempt of this [number](Attempt::number): its first item is
    /// here, or the whole answer. From here on the request stays with it; another attempt that runs beside it is over.
    pub fn answered(&mut self, attempt: u32, now: Instant) {
        if !self.is_under_way(attempt) {
            return;
        }
        if let Some(loser) = self.part(attempt) {
            self.outrun(*loser, now);
        }
        if let Some(lease) = &mut self.lease {
            lease.first_item(now);
        }
        self.note(Ending::Answering, false, now);
    }

    /// The answer is complete. Where its backend [said](Attempt::used) how many tokens it has, their pace is learned.
    pub fn finish(&mut self, now: Instant) {
        if let Some(mut lease) = self.lease.take() {
            lease.paced(lease.tab().output().saturating_sub(1), now);
            self.close(&lease, Ending::Answered, now);
            lease.succeed(now);
        }
    }

    /// So much of the answer came, in what [`StreamItem::content`](crate::backend::StreamItem::content) counts: for the ledger,
    /// where the backend does not tell what it used.
    pub const fn received(&mut self, content: u64) {
        if let Some(lease) = &mut self.lease {
            lease.received(content);
        }
    }

    /// The attempt of this number failed. `gave_up`: because its time was over, not because the backend said so. Another that
    /// runs beside it goes on alone.
    pub fn fail(&mut self, attempt: u32, error: BackendError, gave_up: bool, now: Instant) {
        if !self.is_under_way(attempt) {
            return;
        }
        if let Some(loser) = self.part(self.other_than(attempt)) {
            self.drop_out(*loser, &error, gave_up, now);
            return self.last_error = Some(error);
        }
        let answered = self.lease.as_ref().is_some_and(|lease| !lease.is_waiting());
        let ending = Ending::Failed { kind: error.kind() };
        if !answered {
            self.note(ending, gave_up, now);
        }
        if let Some(lease) = self.lease.take() {
            if answered {
                self.close(&lease, ending, now);
            }
            lease.fail(&error, gave_up, now);
        }
        self.last_error = Some(error);
        self.told |= answered;
        if answered && !bug::RETRY_AFTER_FIRST_TOKEN {
            self.over = Some(self.exhausted());
        } else {
            self.seek_another(now);
        }
    }

    /// Goes on with an answer that broke after it began: the host has a request for the rest of it. That is one more
    /// attempt of this request, as after any failure; ask [`next`](Self::next) for it. The last resort is none for the
    /// rest of an answer.
    pub fn resume(&mut self, now: Instant) {
        self.decision.record_mut().last_resort = false;
        self.over = None;
        self.seek_another(now);
        if bug::RESUME_FREE && self.extra == Extra::Denied {
            self.extra = Extra::Granted;
        }
    }

    /// The last decision, with every attempt that ended.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The backend to call; there is one after [`Step::Call`].
    pub(super) fn target(&mut self) -> Option<(Arc<Generation<Req, Res>>, usize)> {
        self.target.take()
    }

    pub(super) const fn core(&self) -> &'r Core<Req, Res> {
        self.core
    }

    /// A backend answered, or the last resort: here is how the answer begins.
    pub(super) fn into_answered<T>(self, opened: T) -> Answered<T> {
        Answered { opened, lease: self.lease, decision: self.decision, idle_limit: self.idle_limit }
    }

    /// The last resort failed.
    pub(super) fn last_resort_failed(&mut self, why: Refusal, error: BackendError, now: Instant) -> RouteError {
        self.last_error.get_or_insert(error);
        self.refuse(why, now)
    }

    /// What the last resort is told.
    pub(super) fn last_attempt(&self, now: Instant) -> Attempt {
        Attempt {
            backend: BackendId::new(u32::MAX, 0),
            number: self.decision.attempts().len() as u32 + 1,
            request: self.decision.seed(),
            started: now,
            limit: self.deadline,
            deadline: self.deadline,
            hedge_at: None,
            hedge: false,
            ledger: None,
        }
    }

    fn plan(&mut self, generation: &Generation<Req, Res>, now: Instant) -> Next {
        // Where a hedge failed that was the last to go on, this is no hedge any more.
        self.decision.record_mut().beside = None;
        let in_hand = self.in_hand.as_deref();
        self.decision.record_mut().at_stake = self.lease.iter().map(Lease::at_stake).fold(0, u64::saturating_add);
        self.core.plan(generation, &mut self.decision, now, self.extra, self.cells, in_hand);
        if self.core.shared.is_watched() {
            self.core.shared.tell(&Event::Decided(&self.decision), now);
        }
        self.decision.next()
    }

    /// Takes a place in the queue, or keeps it. Returns how long it may wait there, or `None` where it is to look once
    /// more before.
    fn queue_up(&mut self, generation: &Generation<Req, Res>, now: Instant) -> Result<Option<Instant>, Refusal> {
        let (shared, longest) = (&self.core.shared, self.core.longest_wait);
        let (decision, cells) = (&self.decision, self.cells);
        let kind = || Kind::of(decision.facts(), self.core.salt);
        let wants = wants(decision, cells, kind);
        let waiting = match &mut self.waiting {
            Some(waiting) => {
                if let Some(slot) = &mut self.in_hand {
                    waiting.decline(slot, decision);
                }
                waiting
            }
            none => none.insert(Waiting::join(shared, &generation.fleet, decision, (cells, kind()), &wants, now)?),
        };
        let until = waiting.until(longest, decision);
        if now >= until {
            let waited = Refusal::WaitedTooLong { waited: nanos(longest) };
            return Err(waiting.too_little_time(decision, now).unwrap_or(waited));
        }
        match waiting.wish(wants, &generation.fleet, decision) {
            // With what is in its hands still there: without, it would take that for what it lacks.
            Wished::New if self.in_hand.is_some() => Ok(None),
            Wished::New => {
                // What is left of a quota from now on is kept for the first that waits.
                waiting.ask_for_quotas(&generation.fleet, &self.decision, now);
                Ok(None)
            }
            Wished::Known => {
                self.in_hand = None;
                Ok(Some(until))
            }
            Wished::Shed => Err(Refusal::Shed),
        }
    }

    /// Enters the attempt in the ledger.
    fn note(&mut self, ending: Ending, gave_up: bool, ended: Instant) {
        let Some(lease) = &self.lease else { return };
        self.decision.record_mut().attempts.push(lease.record(ending, gave_up, ended));
    }

    /// The ledger tells how it ended, not how it began.
    fn close(&mut self, lease: &Lease, ending: Ending, ended: Instant) {
        if let Some(attempt) = self.decision.record_mut().attempts.last_mut() {
            lease.close(attempt, ending, ended);
        }
    }

    /// Waits for nothing any more; what was freed for it goes to the next.
    fn leave_queue(&mut self) {
        (self.waiting, self.in_hand) = (None, None);
    }

    /// The driver's own last word.
    fn conclude(&mut self, next: Next, now: Instant) {
        self.refund();
        self.leave_queue();
        let record = self.decision.record_mut();
        (record.verdict, record.verdict_at) = (Some(next), now);
    }

    fn refuse(&mut self, why: Refusal, now: Instant) -> RouteError {
        self.conclude(Next::Refuse { why }, now);
        if self.core.shared.is_watched() && !std::mem::replace(&mut self.told, true) {
            self.core.shared.tell(&Event::Refused { decision: &self.decision, why }, now);
        }
        self.over = Some(why);
        // What is left behind is of no use, but whole: asked again, the trip says no again.
        let mut rest = Decision::blank();
        rest.record_mut().facts = Some(self.decision.record().facts().clone());
        let decision = std::mem::replace(&mut self.decision, rest);
        RouteError::new(decision, why, self.last_error.take())
    }

    fn give_up(&mut self, why: Refusal, now: Instant) -> Result<Step, RouteError> {
        if !self.decision.record().last_resort {
            return Err(self.refuse(why, now));
        }
        self.conclude(Next::LastResort { why }, now);
        Ok(Step::LastResort { why })
    }
}

impl<Req: ?Sized, Res> fmt::Debug for Trip<'_, Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trip").field("decision", &self.decision).field("lease", &self.lease).finish_non_exhaustive()
    }
}
