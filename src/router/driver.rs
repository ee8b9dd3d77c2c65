//! The driver: carries one request's decisions out. The only loop that awaits.

use super::core::{Core, Generation};
use super::lease::Lease;
use super::{CallOptions, RouteError, Routed};
use crate::backend::{Attempt, BackendError, BackendId, FailureKind};
use crate::decision::record::AttemptRecord;
use crate::decision::{Decision, Extra, Next, Reason, Refusal};
use crate::event::Event;
use crate::facts::Profile;
use crate::limit::WaitTurn;
use crate::time::{Instant, Sleep, Timer};
use futures::future::BoxFuture;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Sends a request until it is answered, or nothing is left to try.
pub(super) async fn drive<Req: ?Sized + Sync + 'static, Res: Send + 'static>(
    core: &Core<Req, Res>,
    request: &Req,
    options: CallOptions,
) -> Result<Routed<Res>, RouteError> {
    let timer = &*core.shared.timer;
    let idle_limit = options.idle_limit.unwrap_or(core.idle_limit);
    let mut decision = core.open(options, timer.now());
    let (started, deadline) = (decision.time(), decision.deadline());
    let mut last_error = None;
    let mut turn: Option<WaitTurn<'_>> = None;
    let mut lost = 0;
    core.retry_budget.deposit(started);
    loop {
        if decision.time() >= deadline {
            return Err(refuse(core, decision, Refusal::DeadlineExceeded, last_error));
        }
        let generation = core.current.load_full();
        core.plan(&generation, &mut decision);
        if core.shared.is_watched() {
            core.shared.tell(&Event::Decided(&decision), decision.time());
        }
        match decision.next() {
            Next::Call { at } => {
                if at > decision.time() {
                    timer.sleep_until(at).await;
                    decision.record_mut().now = timer.now();
                }
                let Some((seat, lease)) = claim(core, &generation, &mut decision) else {
                    // Every candidate was lost to other requests since the plan. The next plan sees that, but a
                    // loop without an await must have an end, whatever policies and threads do.
                    lost += 1;
                    if lost >= MAX_LOST {
                        return Err(refuse(core, decision, Refusal::NothingUsable, last_error));
                    }
                    decision.record_mut().now = timer.now();
                    continue;
                };
                drop(turn.take());
                let attempt = describe(&decision, &lease);
                let backend = &generation.backends[seat];
                let call = || backend.call(request, &attempt);
                let result = run(call, attempt.limit, timer).await;
                let now = timer.now();
                note(&mut decision, lease.member().id, lease.profile(), attempt.started, now, result.as_ref().err());
                match result {
                    Ok(value) => return Ok(Routed::new(value, lease, decision, idle_limit, now)),
                    Err(error) => {
                        lease.fail(&error, now);
                        last_error = Some(error);
                    }
                }
                pay_for_another(core, &mut decision, now);
            }
            Next::Wait { until } => {
                // Join first, then look again: whatever was freed in between is not missed.
                match &mut turn {
                    None => match core.shared.waiters.join() {
                        Some(place) => turn = Some(place),
                        None => return Err(refuse(core, decision, Refusal::QueueFull, last_error)),
                    },
                    Some(turn) => {
                        turn.pass_on();
                        wait(turn, timer.sleep_until(until)).await;
                    }
                }
                decision.record_mut().now = timer.now();
            }
            Next::LastResort { why } => {
                refund(core, &decision);
                return last_resort(core, request, decision, why, last_error).await;
            }
            Next::Refuse { .. } => {
                refund(core, &decision);
                return Err(RouteError::new(decision, last_error));
            }
        }
        if decision.record().sheet.attempts_allowed <= 1 && !decision.attempts().is_empty() {
            // No policy speaks of retries.
            let why = Refusal::AttemptsExhausted { attempts: 1 };
            if core.last_resort.is_some() {
                return last_resort(core, request, decision, why, last_error).await;
            }
            return Err(refuse(core, decision, why, last_error));
        }
    }
}

/// Plans in a row, or spread over a request, of which every candidate was lost to other requests.
const MAX_LOST: u32 = 16;

/// Takes the lease of the best candidate that still has room, and notes the races that were lost.
fn claim<Req: ?Sized, Res>(
    core: &Core<Req, Res>,
    generation: &Generation<Req, Res>,
    decision: &mut Decision,
) -> Option<(usize, Lease)> {
    let record = decision.record_mut();
    let (tokens, now) = (record.facts().input_tokens(), record.now);
    let attempt = record.attempts.len() as u32 + 1;
    while let Some(best) = record.sheet.best(record.seed) {
        let entry = &mut record.sheet.entries[best];
        let seat = entry.seat as usize;
        let (berth, profile) = (&generation.fleet.berths[seat], generation.fleet.profile(entry.seat));
        match Lease::take(&core.shared, berth, profile, entry.note, tokens, attempt, now) {
            Some(lease) => return Some((seat, lease)),
            None => entry.rejected = Some(Reason::LostRace),
        }
    }
    None
}

fn describe(decision: &Decision, lease: &Lease) -> Attempt {
    let record = decision.record();
    let started = lease.started();
    let own_limit = lease.profile().attempt_limit.map_or(record.deadline, |limit| started + limit);
    Attempt {
        backend: lease.member().id,
        number: record.attempts.len() as u32 + 1,
        request: record.seed,
        started,
        limit: record.sheet.attempt_limit.unwrap_or(record.deadline).min(own_limit).min(record.deadline),
        deadline: record.deadline,
    }
}

fn note(
    decision: &mut Decision,
    backend: BackendId,
    profile: &Arc<Profile>,
    started: Instant,
    ended: Instant,
    error: Option<&BackendError>,
) {
    let failure = error.map(BackendError::kind);
    let profile = profile.clone();
    decision.record_mut().attempts.push(AttemptRecord { backend, profile, started, ended, failure });
}

/// Asks the shared budget for another attempt, if there can be one.
fn pay_for_another<Req: ?Sized, Res>(core: &Core<Req, Res>, decision: &mut Decision, now: Instant) {
    let record = decision.record_mut();
    record.now = now;
    record.extra = if record.attempts.len() >= record.sheet.attempts_allowed as usize {
        Extra::NotAsked
    } else if core.retry_budget.withdraw(now) {
        Extra::Granted
    } else {
        Extra::Denied
    };
}

/// An attempt that was paid for and is not made goes back.
fn refund<Req: ?Sized, Res>(core: &Core<Req, Res>, decision: &Decision) {
    if decision.extra() == Extra::Granted
        && let Some(last) = decision.attempts().last()
    {
        core.retry_budget.refund(last.ended);
    }
}

fn refuse<Req: ?Sized, Res>(
    core: &Core<Req, Res>,
    mut decision: Decision,
    why: Refusal,
    error: Option<BackendError>,
) -> RouteError {
    refund(core, &decision);
    decision.record_mut().sheet.next = Some(Next::Refuse { why });
    RouteError::new(decision, error)
}

async fn last_resort<Req: ?Sized + Sync + 'static, Res: Send + 'static>(
    core: &Core<Req, Res>,
    request: &Req,
    mut decision: Decision,
    why: Refusal,
    error: Option<BackendError>,
) -> Result<Routed<Res>, RouteError> {
    decision.record_mut().sheet.next = Some(Next::LastResort { why });
    let Some(backend) = &core.last_resort else { return Err(RouteError::new(decision, error)) };
    let (now, deadline) = (decision.time(), decision.deadline());
    let attempt = Attempt {
        backend: BackendId::new(u32::MAX, 0),
        number: decision.attempts().len() as u32 + 1,
        request: decision.seed(),
        started: now,
        limit: deadline,
        deadline,
    };
    match run(|| backend.call(request, &attempt), deadline, &*core.shared.timer).await {
        Ok(value) => Ok(Routed::degraded(value, decision)),
        Err(failed) => Err(RouteError::new(decision, error.or(Some(failed)))),
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

/// Runs a call for as long as it may take, and contains its panics.
async fn run<'c, T>(
    call: impl FnOnce() -> BoxFuture<'c, Result<T, BackendError>>,
    limit: Instant,
    timer: &dyn Timer,
) -> Result<T, BackendError> {
    let panicked = |_| BackendError::new(FailureKind::Panicked);
    let mut call = Contained(Some(catch_unwind(AssertUnwindSafe(call)).map_err(panicked)?));
    // Armed when the call first has to wait: most of what answers at once never needs a timer.
    let mut sleep: Option<Sleep> = None;
    poll_fn(|cx| {
        if let Poll::Ready(result) = call.poll(cx) {
            return Poll::Ready(result);
        }
        let sleep = sleep.get_or_insert_with(|| timer.sleep_until(limit));
        sleep.as_mut().poll(cx).map(|()| Err(BackendError::new(FailureKind::Timeout)))
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
