//! The driver: carries a [`Trip`] out. The only loop that awaits.

use super::core::Core;
use super::trip::{Step, Trip};
use super::{CallOptions, RouteError, Routed};
use crate::backend::{BackendError, FailureKind};
use crate::decision::Refusal;
use crate::time::{Instant, Sleep, Timer};
use futures::future::BoxFuture;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

/// Sends a request until it is answered, or nothing is left to try.
pub(super) async fn drive<Req: ?Sized + Sync + 'static, Res: Send + 'static>(
    core: &Core<Req, Res>,
    request: &Req,
    options: CallOptions,
) -> Result<Routed<Res>, RouteError> {
    let timer = &*core.shared.timer;
    let mut now = timer.now();
    let mut trip = Trip::new(core, options, now);
    loop {
        match trip.next(now)? {
            Step::Call(attempt) => {
                let (generation, seat) = trip.target().expect("a call has a target");
                let backend = &generation.backends[seat];
                if attempt.number() == 1 {
                    core.reflect(request, trip.decision(), now);
                }
                let result = run(|| backend.call(request, &attempt), attempt.limit, timer).await;
                now = timer.now();
                match result {
                    Ok(value) => {
                        return Ok(trip.into_routed(value, backend.delivers(), now).expect("a call has a lease"));
                    }
                    Err(Failed { error, gave_up }) => trip.fail(error, gave_up, now),
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
            Step::LastResort { why } => return last_resort(core, trip, request, why, now).await,
        }
    }
}

async fn last_resort<Req: ?Sized + Sync + 'static, Res: Send + 'static>(
    core: &Core<Req, Res>,
    trip: Trip<'_, Req, Res>,
    request: &Req,
    why: Refusal,
    now: Instant,
) -> Result<Routed<Res>, RouteError> {
    let backend = core.last_resort.as_ref().expect("the trip found one");
    let attempt = trip.last_attempt(now);
    match run(|| backend.call(request, &attempt), attempt.limit, &*core.shared.timer).await {
        Ok(value) => Ok(trip.into_degraded(value)),
        Err(failed) => Err(trip.into_error(why, failed.error, core.shared.timer.now())),
    }
}

/// A call that did not answer.
pub(super) struct Failed {
    pub(super) error: BackendError,
    /// The router gave it up; the backend had not said anything.
    gave_up: bool,
}

/// Runs a call for as long as it may take, and contains its panics.
pub(super) async fn run<'c, T>(
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
