//! The driver: carries a [`Trip`] out. The only loop that awaits, for whole answers and streams alike.

use super::RouteError;
use super::contain::Contained;
use super::lease::Lease;
use super::step::Step;
use super::trip::Trip;
use crate::backend::{BackendError, FailureKind};
use crate::decision::{Decision, Refusal};
use crate::time::{Instant, Sleep, Timer};
use crate::unwind::contain;
use futures::future::BoxFuture;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// When an answer has begun, so that the request stays with whoever gave it.
pub(super) trait Opening<Res>: Sync {
    /// The answer then.
    type Opened: Send;

    /// Completes when it has; until then a failure is one of the attempt, as the call's own.
    fn open(&self, response: Res, limit: &mut Limit<'_>) -> impl Future<Output = Result<Self::Opened, Failed>> + Send;
}

/// A plain answer is all there when the call returns.
pub(super) struct Whole;

impl<Res: Send> Opening<Res> for Whole {
    type Opened = Res;

    async fn open(&self, response: Res, _: &mut Limit<'_>) -> Result<Res, Failed> {
        Ok(response)
    }
}

/// An answer that has begun.
pub(super) struct Answered<T> {
    pub(super) opened: T,
    /// `None` for the last resort.
    pub(super) lease: Option<Lease>,
    pub(super) decision: Decision,
    pub(super) idle_limit: Duration,
}

/// Sends a request until it is [answered](Trip::into_answered), or nothing is left to try.
///
/// The trip stays where it is: a future has twice the room for what it is given to keep.
pub(super) async fn drive<Req: ?Sized + Sync + 'static, Res: Send + 'static, O: Opening<Res>>(
    trip: &mut Trip<'_, Req, Res>,
    request: &Req,
    opening: &O,
    mut now: Instant,
) -> Result<O::Opened, RouteError> {
    let core = trip.core();
    let timer = &*core.shared.timer;
    loop {
        match trip.next(now)? {
            Step::Call(attempt) => {
                let (generation, seat) = trip.target().expect("a call has a target");
                let backend = &generation.backends[seat];
                if attempt.number() == 1 {
                    core.reflect(request, trip.decision(), now);
                }
                let (hedge, result) = {
                    // Gone when there is an answer: a slot that is free has no call behind it.
                    let call = pin!(run(|| backend.call(request, &attempt), opening, attempt.limit, timer));
                    match attempt.hedge_at {
                        None => (None, call.await),
                        Some(at) => hedged(trip, attempt.number, at, call, request, opening).await,
                    }
                };
                let attempt = hedge.unwrap_or(attempt.number);
                now = timer.now();
                match result {
                    Ok(opened) => {
                        trip.answered(attempt, now);
                        return Ok(opened);
                    }
                    Err(Failed { error, gave_up }) => trip.fail(attempt, error, gave_up, now),
                }
            }
            Step::Sleep { until } => {
                timer.sleep_until(until).await;
                now = timer.now();
            }
            Step::Wait { until } => {
                let mut sleep = timer.sleep_until(until);
                poll_fn(|cx| match trip.poll_called(cx) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => sleep.as_mut().poll(cx),
                })
                .await;
                now = timer.now();
            }
            Step::LastResort { why } => return last_resort(trip, request, opening, why, now).await,
        }
    }
}

/// Waits for an attempt, and from `at` on for another beside it, if there can be one. What came of the first that answered,
/// or of the last that failed; with it the number of the other attempt, where it is that one's.
async fn hedged<Req: ?Sized + Sync + 'static, Res: Send + 'static, O: Opening<Res>>(
    trip: &mut Trip<'_, Req, Res>,
    attempt: u32,
    at: Instant,
    mut call: Pin<&mut (impl Future<Output = Result<O::Opened, Failed>> + Send)>,
    request: &Req,
    opening: &O,
) -> (Option<u32>, Result<O::Opened, Failed>) {
    let timer = &*trip.core().shared.timer;
    let mut sleep = None;
    let begun = poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        // What answers at once needs no timer.
        Poll::Pending => sleep.get_or_insert_with(|| timer.sleep_until(at)).as_mut().poll(cx).map(|()| None),
    })
    .await;
    drop(sleep);
    if let Some(result) = begun {
        return (None, result);
    }
    let Some(hedge) = trip.hedge(timer.now()) else { return (None, call.await) };
    let (generation, seat) = trip.target().expect("a hedge has a target");
    let backend = &generation.backends[seat];
    // On the heap: the others do without it.
    let mut beside = Box::pin(run(|| backend.call(request, &hedge), opening, hedge.limit, timer));
    let (is_hedge, result) = poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready((false, result)),
        Poll::Pending => beside.as_mut().poll(cx).map(|result| (true, result)),
    })
    .await;
    match result {
        Ok(opened) => (is_hedge.then_some(hedge.number), Ok(opened)),
        Err(Failed { error, gave_up }) if is_hedge => {
            trip.fail(hedge.number, error, gave_up, timer.now());
            (None, call.await)
        }
        Err(Failed { error, gave_up }) => {
            trip.fail(attempt, error, gave_up, timer.now());
            (Some(hedge.number), beside.await)
        }
    }
}

async fn last_resort<Req: ?Sized + Sync + 'static, Res: Send + 'static, O: Opening<Res>>(
    trip: &mut Trip<'_, Req, Res>,
    request: &Req,
    opening: &O,
    why: Refusal,
    now: Instant,
) -> Result<O::Opened, RouteError> {
    let core = trip.core();
    let backend = core.last_resort.as_ref().expect("the trip found one");
    let attempt = trip.last_attempt(now);
    let timer = &*core.shared.timer;
    let answer = run(|| backend.call(request, &attempt), opening, attempt.limit, timer).await;
    answer.map_err(|failed| trip.last_resort_failed(why, failed.error, timer.now()))
}

/// A call that did not answer.
pub(super) struct Failed {
    pub(super) error: BackendError,
    /// The router gave it up; the backend had not said anything.
    gave_up: bool,
}

/// The time that an attempt has until its answer begins.
pub(super) struct Limit<'t> {
    timer: &'t dyn Timer,
    at: Instant,
    // Armed when something first has to wait: most of what answers at once never needs a timer.
    sleep: Option<Sleep>,
}

impl From<BackendError> for Failed {
    fn from(error: BackendError) -> Self {
        Self { error, gave_up: false }
    }
}

impl Limit<'_> {
    /// Waits for what `poll` polls, but no longer than there is time.
    pub(super) async fn wait_for<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, BackendError>> + Send,
    ) -> Result<T, Failed> {
        poll_fn(|cx| {
            if let Poll::Ready(result) = poll(cx) {
                return Poll::Ready(result.map_err(Failed::from));
            }
            let sleep = self.sleep.get_or_insert_with(|| self.timer.sleep_until(self.at));
            sleep.as_mut().poll(cx).map(|()| Err(Failed { error: FailureKind::Timeout.into(), gave_up: true }))
        })
        .await
    }
}

/// Runs a call until its answer has begun, for as long as that may take, and contains its panics.
pub(super) async fn run<'c, Res: Send, O: Opening<Res>>(
    call: impl FnOnce() -> BoxFuture<'c, Result<Res, BackendError>>,
    opening: &O,
    limit: Instant,
    timer: &dyn Timer,
) -> Result<O::Opened, Failed> {
    let panicked = || BackendError::new(FailureKind::Panicked);
    let mut call = Contained::new(contain(call).ok_or_else(panicked)?);
    let mut limit = Limit { timer, at: limit, sleep: None };
    let response =
        limit.wait_for(|cx| call.with(|call| call.as_mut().poll(cx), || Poll::Ready(Err(panicked())))).await?;
    drop(call);
    opening.open(response, &mut limit).await
}
