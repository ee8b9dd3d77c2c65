//! [`Routed`]: an answer and the claim behind it.

use super::core::Shared;
use super::lease::Lease;
use crate::backend::{BackendError, Delivers, FailureKind};
use crate::decision::{AttemptRecord, Decision};
use crate::time::{Instant, Sleep};
use futures::stream::{FusedStream, Stream};
use pin_project::pin_project;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// An answer, the lease on its backend's capacity, and the decision behind it.
///
/// The attempt ends when this does. A plain answer: when it is taken out ([`into_inner`](Self::into_inner)) or
/// dropped; both are a success. A stream: when it has ended or failed, or is dropped; poll the `Routed` itself, which is a
/// [`Stream`] when the response is one, and watches it: a gap longer than the idle limit, the deadline, an error
/// item, a panic each end it with [`Interrupted`], and nothing follows.
///
/// # Cancel safety
///
/// Dropping a stream before its end frees everything and says nothing about the backend. Before its first poll a
/// stream looks like any answer, so its backend should [say](crate::backend::Backend::delivers) that it streams.
#[pin_project]
pub struct Routed<Res> {
    #[pin]
    response: Res,
    lease: Option<Lease>,
    shared: Arc<Shared>,
    decision: Decision,
    degraded: bool,
    watch: Watch,
}

/// The clocks and counts of a stream.
struct Watch {
    idle_limit: Duration,
    delivered: u64,
    sleep: Option<Sleep>,
    done: bool,
}

/// A stream that broke after it began. What was delivered until then stands; the router does not start over.
#[derive(Debug)]
pub struct Interrupted {
    error: BackendError,
    delivered: u64,
}

impl<Res> Routed<Res> {
    pub(super) fn new(
        response: Res,
        delivers: Delivers,
        mut lease: Lease,
        decision: Decision,
        idle_limit: Duration,
        now: Instant,
    ) -> Self {
        if delivers != Delivers::Head {
            lease.first_item(now);
        }
        if delivers == Delivers::Answer {
            lease.answered();
        }
        Self {
            response,
            shared: lease.shared().clone(),
            lease: Some(lease),
            decision,
            degraded: false,
            watch: Watch { idle_limit, delivered: 0, sleep: None, done: false },
        }
    }

    pub(super) fn degraded(response: Res, shared: Arc<Shared>, decision: Decision, idle_limit: Duration) -> Self {
        let watch = Watch { idle_limit, delivered: 0, sleep: None, done: false };
        Self { response, lease: None, shared, decision, degraded: true, watch }
    }

    /// The answer.
    pub const fn response(&self) -> &Res {
        &self.response
    }

    /// Takes the answer out; its attempt ends here, successfully.
    pub fn into_inner(self) -> Res {
        self.into_parts().0
    }

    /// Takes the answer and the decision out; the attempt ends here, successfully.
    pub fn into_parts(mut self) -> (Res, Decision) {
        if let Some(lease) = &mut self.lease {
            lease.answered();
        }
        (self.response, self.decision)
    }

    /// The decision behind it.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The name of the backend that answered; `None` for the last resort.
    pub fn backend(&self) -> Option<&str> {
        if self.degraded { None } else { self.attempts().last().map(AttemptRecord::name) }
    }

    /// Every attempt, the successful one last.
    pub fn attempts(&self) -> &[AttemptRecord] {
        self.decision.attempts()
    }

    /// Whether the last resort answered.
    pub const fn is_degraded(&self) -> bool {
        self.degraded
    }
}

impl<Res: fmt::Debug> fmt::Debug for Routed<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the response: it is payload.
        f.debug_struct("Routed")
            .field("degraded", &self.degraded)
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}

impl<S, T> Stream for Routed<S>
where
    S: Stream<Item = Result<T, BackendError>>,
{
    type Item = Result<T, Interrupted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let watch = this.watch;
        if watch.done {
            return Poll::Ready(None);
        }
        if let Some(lease) = this.lease.as_mut() {
            lease.streaming();
        }
        let timer = &*this.shared.timer;
        let deadline = this.decision.deadline();
        let poll = catch_unwind(AssertUnwindSafe(|| this.response.poll_next(cx)))
            .unwrap_or_else(|_| Poll::Ready(Some(Err(FailureKind::Panicked.into()))));
        // The error, and whether it is only that the caller's time is over, of which the backend knows nothing.
        let (error, out_of_time) = match poll {
            // A stream that never pauses ends at the deadline too.
            Poll::Ready(Some(Ok(_))) if timer.now() >= deadline => (FailureKind::Timeout.into(), true),
            Poll::Ready(Some(Ok(item))) => {
                if let Some(lease) = this.lease.as_mut()
                    && lease.is_waiting()
                {
                    lease.first_item(timer.now());
                }
                watch.delivered += 1;
                watch.sleep = None;
                return Poll::Ready(Some(Ok(item)));
            }
            Poll::Ready(None) => {
                watch.done = true;
                watch.sleep = None;
                if let Some(lease) = this.lease.take() {
                    lease.succeed(timer.now());
                }
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => (error, false),
            Poll::Pending => {
                // The gap is measured from the first poll that found nothing: a reader that takes its time is not
                // a backend that stalls.
                let sleep =
                    watch.sleep.get_or_insert_with(|| timer.sleep_until(deadline.min(timer.now() + watch.idle_limit)));
                match sleep.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) if timer.now() < deadline => (FailureKind::Stalled.into(), false),
                    Poll::Ready(()) => (FailureKind::Timeout.into(), true),
                }
            }
        };
        watch.done = true;
        watch.sleep = None;
        // The decision tells how the attempt ended, not how it began.
        if let Some(attempt) = this.decision.record_mut().attempts.last_mut()
            && this.lease.is_some()
        {
            (attempt.failure, attempt.ended) = (Some(error.kind()), timer.now());
        }
        if let Some(lease) = this.lease.take()
            && !out_of_time
        {
            lease.fail(&error, false, timer.now());
        }
        Poll::Ready(Some(Err(Interrupted { error, delivered: watch.delivered })))
    }
}

impl<S, T> FusedStream for Routed<S>
where
    S: Stream<Item = Result<T, BackendError>>,
{
    fn is_terminated(&self) -> bool {
        self.watch.done
    }
}

impl Interrupted {
    /// How it broke: [`Timeout`](FailureKind::Timeout) when the request's deadline passed or the backend itself reported
    /// one; only the second counts against it.
    pub const fn kind(&self) -> FailureKind {
        self.error.kind()
    }

    /// How many items were delivered before.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The backend's error.
    pub const fn backend_error(&self) -> &BackendError {
        &self.error
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream broke after {} items: {}", self.delivered, self.error)
    }
}

impl Error for Interrupted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
