//! [`Streamed`]: a stream that has begun.

use super::clocks::{Clocks, RanOut};
use super::interrupted::{Delivered, Interrupted};
use super::resume::{Resumable, Resume};
use super::source::{Begun, Seen, Source};
use crate::backend::{BackendError, FailureKind, StreamItem};
use crate::bug;
use crate::decision::{AttemptRecord, Decision, Ending};
use crate::router::core::Core;
use crate::router::driver::Answered;
use crate::router::lease::{Lease, PATIENCE};
use crate::time::Instant;
use futures::stream::{FusedStream, Stream, TryStream};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A stream past its commit point: its first content is there, and the request stays with the backend that gave it. Made
/// by [`Router::stream`](crate::Router::stream).
///
/// It is a [`Stream`] of the backend's items, each once and in order, and ends in one of two ways: with its last item, or
/// with one [`Interrupted`]. Nothing follows either.
///
/// # Cancel safety
///
/// Dropping it before its end closes the backend's stream and frees everything at once. It says nothing about the backend, unless
/// its reader panics: that is a failure of the attempt (`Panicked`), for what it holds may have caused it.
pub struct Streamed<Req: ?Sized, S: TryStream> {
    core: Arc<Core<Req, S>>,
    /// What the backend gave and the caller has not got yet.
    held: VecDeque<Seen<S::Ok>>,
    // Before the lease: a slot is free when the call behind it is gone.
    /// `None` when nothing more comes of it.
    source: Option<Source<S>>,
    /// `None` for the last resort, and when the attempt has ended.
    lease: Option<Lease>,
    decision: Decision,
    degraded: bool,
    clocks: Clocks,
    delivered: Delivered,
    /// What this attempt gave after its first content.
    followed: u64,
    over: bool,
}

// Items are moved out whole and never pinned.
impl<Req: ?Sized, S: TryStream + Unpin> Unpin for Streamed<Req, S> {}

impl<Req: ?Sized, S: TryStream> Streamed<Req, S> {
    pub(super) fn new(core: Arc<Core<Req, S>>, answered: Answered<Begun<S>>) -> Self {
        let Answered { opened: Begun { held, source }, mut lease, decision, idle_limit } = answered;
        if let Some(lease) = &mut lease {
            held.iter().for_each(|seen| lease.received(seen.content));
        }
        let (degraded, clocks) = (lease.is_none(), Clocks::new(idle_limit, decision.deadline()));
        let delivered = Delivered::default();
        let (followed, over) = (0, false);
        let mut streamed = Self { core, held, source, lease, decision, degraded, clocks, delivered, followed, over };
        streamed.settle(None);
        streamed
    }

    /// Goes on with what another attempt gives.
    pub(super) fn go_on(&mut self, answered: Answered<Begun<S>>) {
        let delivered = self.delivered;
        *self = Self::new(self.core.clone(), answered);
        self.delivered = delivered;
    }

    /// The decision behind it, with how its attempts ended so far.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The name of the backend that answers; `None` for the last resort.
    pub fn backend(&self) -> Option<&str> {
        if self.degraded { None } else { self.attempts().last().map(AttemptRecord::name) }
    }

    /// Every attempt, the one that answers last.
    pub fn attempts(&self) -> &[AttemptRecord] {
        self.decision.attempts()
    }

    /// Whether the last resort answers.
    pub const fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// What was delivered so far.
    pub const fn delivered(&self) -> Delivered {
        self.delivered
    }

    pub(super) const fn core(&self) -> &Arc<Core<Req, S>> {
        &self.core
    }

    pub(super) const fn idle_limit(&self) -> Duration {
        self.clocks.idle_limit()
    }

    /// The last decision, where nobody goes on with it.
    pub(super) fn conclude(&mut self, decision: &Decision) {
        self.decision = decision.clone();
    }

    fn hand_out(&mut self, seen: Seen<S::Ok>) -> S::Ok {
        self.delivered.items += 1;
        self.delivered.content = self.delivered.content.saturating_add(seen.content);
        seen.item
    }

    /// What came after the first content shows the pace of its backend, where it was not that of the reader.
    fn learn_pace(&self, now: Instant) {
        if let Some(lease) = &self.lease
            && self.clocks.waited() >= lease.since_first(now) / 2
        {
            lease.paced(self.followed, now);
        }
    }

    /// What it took is what its reader took, where the router waited for less than half of the time: it teaches nobody who
    /// waits behind it.
    fn excuse_reader(&mut self, now: Instant) {
        let waited = self.clocks.waited_until(now);
        if let Some(lease) = self.lease.as_mut().filter(|lease| waited < lease.since_first(now) / 2) {
            lease.teach(None);
        }
    }

    /// A caller with little patience must not bench a backend for all: a limit of its own that is shorter than the host's
    /// judges only where it is no shorter than this.
    fn excuse_stall(&mut self) {
        if let Some(lease) = &mut self.lease
            && self.clocks.idle_limit() < self.core.idle_limit.min(PATIENCE)
        {
            lease.excuse();
        }
    }

    /// Ends the attempt where the answer is complete.
    fn settle(&mut self, now: Option<Instant>) {
        if self.source.is_none()
            && let Some(lease) = &mut self.lease
        {
            self.clocks.stop();
            let now = now.unwrap_or_else(|| self.core.shared.timer.now());
            if let Some(attempt) = self.decision.record_mut().attempts.last_mut() {
                lease.close(attempt, Ending::Answered, now);
            }
            // Where it stands: it is large, and every stream ends it.
            lease.succeed(now);
            self.lease = None;
        }
    }

    /// The ledger tells how the attempt ended, not how it began.
    fn close(&mut self, lease: &Lease, ending: Ending, now: Instant) {
        if let Some(attempt) = self.decision.record_mut().attempts.last_mut() {
            lease.close(attempt, ending, now);
        }
    }

    fn break_off(&mut self, error: BackendError, out_of_time: bool, now: Instant) -> Interrupted {
        self.over = true;
        self.clocks.stop();
        self.learn_pace(now);
        self.excuse_reader(now);
        // The call first: a slot that is free has none behind it.
        self.source = None;
        if let Some(lease) = self.lease.take() {
            self.close(&lease, Ending::Failed { kind: error.kind() }, now);
            // That the caller's time is over says nothing about a backend that was delivering.
            if out_of_time { drop(lease) } else { lease.fail(&error, false, now) }
        }
        Interrupted { error, delivered: self.delivered, out_of_time, not_resumed: None }
    }
}

impl<Req, S> Streamed<Req, S>
where
    Req: ?Sized + Send + Sync + 'static,
    S: TryStream<Error = BackendError> + Unpin + Send + 'static,
    S::Ok: StreamItem,
{
    /// Has another backend go on where this one breaks off, with the request for the rest that `hook` makes.
    #[must_use]
    pub fn resume(self, hook: impl Resume<Req, S::Ok>) -> Resumable<Req, S> {
        Resumable::new(self, Box::new(hook))
    }
}

impl<Req: ?Sized, S> Stream for Streamed<Req, S>
where
    S: TryStream<Error = BackendError> + Unpin,
    S::Ok: StreamItem,
{
    type Item = Result<S::Ok, Interrupted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(seen) = this.held.pop_front() {
            return Poll::Ready(Some(Ok(this.hand_out(seen))));
        }
        let Some(source) = &mut this.source else {
            this.over = true;
            return Poll::Ready(None);
        };
        let timer = &*this.core.shared.timer;
        let (error, now) = match source.poll(cx) {
            Poll::Ready(Ok(seen)) => {
                let now = timer.now();
                if this.clocks.item(now) {
                    this.followed = this.followed.saturating_add(seen.content);
                    if let Some(lease) = &mut this.lease {
                        lease.received(seen.content);
                    }
                    if seen.last {
                        this.source = None;
                        this.learn_pace(now);
                        this.settle(Some(now));
                    }
                    return Poll::Ready(Some(Ok(this.hand_out(seen))));
                }
                (None, now)
            }
            Poll::Ready(Err(error)) if bug::SILENT_END && error.kind() == FailureKind::Truncated => {
                return Poll::Ready(None);
            }
            Poll::Ready(Err(error)) => (Some(error), timer.now()),
            Poll::Pending => match std::task::ready!(this.clocks.poll(timer, cx)) {
                RanOut::Idle => {
                    this.excuse_stall();
                    (Some(FailureKind::Stalled.into()), this.core.shared.timer.now())
                }
                RanOut::Deadline => (None, timer.now()),
            },
        };
        let out_of_time = error.is_none();
        let error = error.unwrap_or_else(|| FailureKind::Timeout.into());
        Poll::Ready(Some(Err(this.break_off(error, out_of_time, now))))
    }
}

impl<Req: ?Sized, S: TryStream> Drop for Streamed<Req, S> {
    fn drop(&mut self) {
        if self.lease.is_some() {
            self.excuse_reader(self.core.shared.timer.now());
        }
    }
}

impl<Req: ?Sized, S> FusedStream for Streamed<Req, S>
where
    S: TryStream<Error = BackendError> + Unpin,
    S::Ok: StreamItem,
{
    fn is_terminated(&self) -> bool {
        self.over
    }
}

impl<Req: ?Sized, S: TryStream> fmt::Debug for Streamed<Req, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the items: they are payload.
        f.debug_struct("Streamed")
            .field("delivered", &self.delivered)
            .field("degraded", &self.degraded)
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}
