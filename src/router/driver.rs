//! The driver: carries one request's decisions out. The only loop that awaits.

use super::core::{Core, Generation};
use super::lease::Lease;
use super::{CallOptions, RouteError, Routed};
use crate::backend::{Attempt, BackendError, BackendId, FailureKind};
use crate::decision::record::AttemptRecord;
use crate::decision::{Decision, Extra, Next, Reason, Refusal};
use crate::event::Event;
use crate::limit::WaitTurn;
use crate::time::{Instant, Sleep, Timer};
use futures::future::BoxFuture;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Duration;

/// Sends a request until it is answered, or nothing is left to try.
pub(super) async fn drive<Req: ?Sized + Sync + 'static, Res: Send + 'static>(
    core: &Core<Req, Res>,
    request: &Req,
    options: CallOptions,
) -> Result<Routed<Res>, RouteError> {
    let timer = &*core.shared.timer;
    let mut trip = Trip::new(core, options, timer.now());
    core.retry_budget.deposit(trip.now);
    if trip.now >= trip.deadline {
        return Err(trip.refuse(Refusal::ZeroDeadline));
    }
    let mut turn: Option<WaitTurn<'_>> = None;
    loop {
        if trip.now >= trip.deadline {
            return Err(trip.refuse(Refusal::DeadlineExceeded));
        }
        let generation = core.current.load_full();
        match trip.plan(&generation) {
            Next::Call { at } => {
                if at > trip.now {
                    timer.sleep_until(at).await;
                    trip.now = timer.now();
                }
                let Some((seat, lease)) = trip.claim(&generation) else {
                    // Every candidate was lost to other requests since the plan. The next plan sees that, but a
                    // loop without an await must have an end, whatever policies and threads do.
                    trip.lost += 1;
                    if trip.lost >= MAX_LOST {
                        return Err(trip.refuse(Refusal::NothingUsable));
                    }
                    trip.now = timer.now();
                    continue;
                };
                drop(turn.take());
                let attempt = trip.describe(&lease);
                let backend = &generation.backends[seat];
                let result = run(|| backend.call(request, &attempt), attempt.limit, timer).await;
                trip.now = timer.now();
                trip.note(&lease, result.as_ref().err().map(|failed| failed.error.kind()));
                match result {
                    Ok(value) => return Ok(Routed::new(value, lease, trip.decision, trip.idle_limit, trip.now)),
                    Err(Failed { error, gave_up }) => {
                        lease.fail(&error, gave_up && attempt.cut_short, trip.now);
                        trip.last_error = Some(error);
                    }
                }
                match trip.decision.record().sheet.attempts_allowed {
                    Some(allowed) => trip.pay_for_another(allowed),
                    // No policy speaks of retries.
                    None => return trip.give_up(request, Refusal::AttemptsExhausted { attempts: 1 }).await,
                }
            }
            Next::Wait { until } => {
                // Join first, then look again: whatever was freed in between is not missed.
                match &mut turn {
                    None => match core.shared.waiters.join(trip.arrival) {
                        Some(place) => turn = Some(place),
                        None => return Err(trip.refuse(Refusal::QueueFull)),
                    },
                    Some(turn) => {
                        turn.pass_on();
                        wait(turn, timer.sleep_until(until)).await;
                    }
                }
                trip.now = timer.now();
            }
            Next::LastResort { why } => return trip.last_resort(request, why).await,
            Next::Refuse { why } => return Err(trip.refuse(why)),
        }
    }
}

/// How often all candidates of a plan may be lost to other requests before the request gives up.
const MAX_LOST: u32 = 16;

/// One request on its way.
struct Trip<'c, Req: ?Sized, Res> {
    core: &'c Core<Req, Res>,
    decision: Decision,
    arrival: Instant,
    now: Instant,
    deadline: Instant,
    idle_limit: Duration,
    /// Whether the retry budget paid for the attempt that is planned next.
    extra: Extra,
    lost: u32,
    last_error: Option<BackendError>,
}

impl<'c, Req: ?Sized + Sync + 'static, Res: Send + 'static> Trip<'c, Req, Res> {
    fn new(core: &'c Core<Req, Res>, options: CallOptions, now: Instant) -> Self {
        let idle_limit = options.idle_limit.unwrap_or(core.idle_limit);
        let decision = core.open(options, now);
        let deadline = decision.deadline();
        Self {
            core,
            decision,
            arrival: now,
            now,
            deadline,
            idle_limit,
            extra: Extra::NotAsked,
            lost: 0,
            last_error: None,
        }
    }

    fn plan(&mut self, generation: &Generation<Req, Res>) -> Next {
        self.core.plan(generation, &mut self.decision, self.now, self.extra);
        if self.core.shared.is_watched() {
            self.core.shared.tell(&Event::Decided(&self.decision), self.now);
        }
        self.decision.next()
    }

    /// Takes the lease of the best candidate that still has room, and notes the races that were lost.
    fn claim(&mut self, generation: &Generation<Req, Res>) -> Option<(usize, Lease)> {
        let record = self.decision.record_mut();
        let (tokens, attempt) = (record.facts().input_tokens(), record.attempts.len() as u32 + 1);
        while let Some(best) = record.sheet.best(record.seed) {
            let entry = &mut record.sheet.entries[best];
            let seat = entry.seat as usize;
            let (berth, profile) = (&generation.fleet.berths[seat], generation.fleet.profile(entry.seat));
            match Lease::take(&self.core.shared, berth, profile, entry.note, tokens, attempt, self.now) {
                Some(lease) => return Some((seat, lease)),
                None => entry.rejected = Some(Reason::LostRace),
            }
        }
        None
    }

    /// The attempt under `lease`, with the time that it has.
    fn describe(&self, lease: &Lease) -> Attempt {
        let record = self.decision.record();
        let started = lease.started();
        let own = lease.profile().attempt_limit.map_or(self.deadline, |limit| started + limit);
        let (policy, by_deadline) = record.sheet.attempt_limit.unwrap_or((self.deadline, true));
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
        }
    }

    fn note(&mut self, lease: &Lease, failure: Option<FailureKind>) {
        let (backend, profile) = (lease.member().id, lease.profile().clone());
        let (started, ended) = (lease.started(), self.now);
        self.decision.record_mut().attempts.push(AttemptRecord { backend, profile, started, ended, failure });
    }

    /// Asks the shared budget for another attempt, if there can be one.
    fn pay_for_another(&mut self, allowed: u32) {
        self.extra = if self.decision.attempts().len() >= allowed as usize {
            Extra::NotAsked
        } else if self.core.retry_budget.withdraw(self.now) {
            Extra::Granted
        } else {
            Extra::Denied
        };
    }

    /// An attempt that was paid for and is not made goes back.
    fn refund(&mut self) {
        if std::mem::take(&mut self.extra) == Extra::Granted
            && let Some(last) = self.decision.attempts().last()
        {
            self.core.retry_budget.refund(last.ended);
        }
    }

    fn refuse(mut self, why: Refusal) -> RouteError {
        self.refund();
        self.decision.record_mut().verdict = Some(Next::Refuse { why });
        RouteError::new(self.decision, why, self.last_error)
    }

    async fn give_up(self, request: &Req, why: Refusal) -> Result<Routed<Res>, RouteError> {
        if self.core.last_resort.is_some() { self.last_resort(request, why).await } else { Err(self.refuse(why)) }
    }

    async fn last_resort(mut self, request: &Req, why: Refusal) -> Result<Routed<Res>, RouteError> {
        let Some(backend) = &self.core.last_resort else { return Err(self.refuse(why)) };
        self.refund();
        self.decision.record_mut().verdict = Some(Next::LastResort { why });
        let attempt = Attempt {
            backend: BackendId::new(u32::MAX, 0),
            number: self.decision.attempts().len() as u32 + 1,
            request: self.decision.seed(),
            started: self.now,
            limit: self.deadline,
            cut_short: true,
            deadline: self.deadline,
        };
        match run(|| backend.call(request, &attempt), self.deadline, &*self.core.shared.timer).await {
            Ok(value) => Ok(Routed::degraded(value, self.core.shared.clone(), self.decision, self.idle_limit)),
            Err(failed) => {
                self.last_error.get_or_insert(failed.error);
                Err(self.refuse(why))
            }
        }
    }
}

/// Sleeps until called or until the moment comes.
async fn wait(turn: &mut WaitTurn<'_>, mut sleep: Sleep) {
    poll_fn(|cx| match turn.poll_called(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => sleep.as_mut().poll(cx),
    })
    .await;
}

/// A call that did not answer.
struct Failed {
    error: BackendError,
    /// The router gave it up; the backend had not said anything.
    gave_up: bool,
}

/// Runs a call for as long as it may take, and contains its panics.
async fn run<'c, T>(
    call: impl FnOnce() -> BoxFuture<'c, Result<T, BackendError>>,
    limit: Instant,
    timer: &dyn Timer,
) -> Result<T, Failed> {
    let failed = |error, gave_up| Failed { error, gave_up };
    let panicked = |_| failed(FailureKind::Panicked.into(), false);
    let mut call = Contained(Some(catch_unwind(AssertUnwindSafe(call)).map_err(panicked)?));
    // Armed when the call first has to wait: most of what answers at once never needs a timer.
    let mut sleep: Option<Sleep> = None;
    poll_fn(|cx| {
        if let Poll::Ready(result) = call.poll(cx) {
            return Poll::Ready(result.map_err(|error| failed(error, false)));
        }
        let sleep = sleep.get_or_insert_with(|| timer.sleep_until(limit));
        sleep.as_mut().poll(cx).map(|()| Err(failed(FailureKind::Timeout.into(), true)))
    })
    .await
}

/// A call whose panics, at a poll or in its drop, end here.
struct Contained<'c, T>(Option<BoxFuture<'c, Result<T, BackendError>>>);

impl<T> Contained<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, BackendError>> {
        let Some(call) = &mut self.0 else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(Err(BackendError::new(FailureKind::Panicked))),
        }
    }
}

impl<T> Drop for Contained<'_, T> {
    fn drop(&mut self) {
        let call = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
    }
}
