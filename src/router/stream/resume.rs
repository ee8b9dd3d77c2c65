//! [`Resume`]: the host's word on how a broken stream goes on.

use super::interrupted::Interrupted;
use super::source::{Begun, FirstContent};
use super::streamed::Streamed;
use crate::backend::{BackendError, FailureKind, StreamItem};
use crate::bug;
use crate::router::RouteError;
use crate::router::driver::{Answered, drive};
use crate::router::trip::Trip;
use crate::unwind::contain;
use futures::future::BoxFuture;
use futures::stream::{FusedStream, Stream, TryStream};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a stream goes on that broke after it began: the host's, for only the host knows how to ask for the rest of an answer
/// (the text so far as the beginning of the assistant's message, and fewer tokens to come).
///
/// It keeps what was delivered itself, as it needs it: the router hands items over and forgets them.
///
/// ```
/// # use fallway::backend::StreamItem;
/// # use fallway::router::{Interrupted, Resume};
/// # struct Chunk(String);
/// /// Asks for the rest of a text.
/// struct Rest {
///     prompt: String,
///     text: String,
/// }
///
/// impl Resume<str, Chunk> for Rest {
///     fn delivered(&mut self, chunk: &Chunk) {
///         self.text.push_str(&chunk.0);
///     }
///     fn resume(&mut self, broken: &Interrupted) -> Option<Box<str>> {
///         // Not worth another attempt where hardly anything came.
///         (broken.delivered().content > 8).then(|| format!("{}\n{}", self.prompt, self.text).into())
///     }
/// }
/// ```
///
/// # Panics
///
/// A hook that panics is not asked again: nothing is lost of the stream, and where that breaks, then or later, it ends as if the hook had
/// declined.
pub trait Resume<Req: ?Sized, T>: Send + 'static {
    /// `item` is handed to the caller now, once.
    fn delivered(&mut self, item: &T);

    /// The stream broke. The request for what was not delivered, or `None` where there is none.
    fn resume(&mut self, broken: &Interrupted) -> Option<Box<Req>>;
}

/// A piece of a stream that may go on elsewhere.
#[derive(Debug)]
pub enum Piece<T> {
    /// An item.
    Item(T),
    /// The stream broke like this, and goes on with the answer of another backend to the request for the rest. What was
    /// delivered before is not repeated.
    Resumed(Interrupted),
}

/// A [`Streamed`] that goes on elsewhere when it breaks. Made by [`Streamed::resume`].
///
/// It is a [`Stream`] of [`Piece`]s: items, and a marker at each seam, for what follows may be by another model. The attempt
/// that goes on is one of the request: within its attempts, its deadline, the shared retry budget and its residency, and
/// not where it broke. Where there is none, the error is that of the break, and says [why](Interrupted::not_resumed).
///
/// # Cancel safety
///
/// As [`Streamed`]'s, also between two backends.
pub struct Resumable<Req: ?Sized, S: TryStream> {
    stream: Streamed<Req, S>,
    /// `None` after it panicked, or declined.
    hook: Option<Box<dyn Resume<Req, S::Ok>>>,
    going_on: Option<GoingOn<S>>,
}

/// The next attempt, and what it is to mend.
struct GoingOn<S: TryStream> {
    broken: Interrupted,
    attempt: BoxFuture<'static, Result<Answered<Begun<S>>, RouteError>>,
}

impl<Req: ?Sized, S: TryStream> Resumable<Req, S> {
    pub(super) fn new(stream: Streamed<Req, S>, hook: Box<dyn Resume<Req, S::Ok>>) -> Self {
        Self { stream, hook: Some(hook), going_on: None }
    }

    /// The stream as it is now.
    pub const fn stream(&self) -> &Streamed<Req, S> {
        &self.stream
    }

    /// What the hook says; nothing any more after a panic.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn Resume<Req, S::Ok>) -> Option<T>) -> Option<T> {
        let hook = self.hook.as_deref_mut()?;
        contain(|| ask(hook)).unwrap_or_else(|| {
            let hook = self.hook.take();
            let _ = contain(|| drop(hook));
            None
        })
    }
}

impl<Req, S> Resumable<Req, S>
where
    Req: ?Sized + Send + Sync + 'static,
    S: TryStream<Error = BackendError> + Unpin + Send + 'static,
    S::Ok: StreamItem,
{
    /// The next attempt, where the host wants one.
    fn go_on(&mut self, broken: Interrupted) -> Result<(), Interrupted> {
        // There is no time left, or it was no attempt that broke.
        if broken.out_of_time || self.stream.is_degraded() {
            return Err(broken);
        }
        let Some(request) = self.ask(|hook| hook.resume(&broken)) else { return Err(broken) };
        let attempt = Box::pin(again(&self.stream, request, broken.kind()));
        self.going_on = Some(GoingOn { broken, attempt });
        Ok(())
    }

    /// What came of the next attempt.
    fn poll_next_attempt(&mut self, cx: &mut Context<'_>) -> Option<Poll<Result<Interrupted, Interrupted>>> {
        let going_on = self.going_on.as_mut()?;
        let Poll::Ready(came) = going_on.attempt.as_mut().poll(cx) else { return Some(Poll::Pending) };
        let GoingOn { mut broken, .. } = self.going_on.take()?;
        Some(Poll::Ready(match came {
            Ok(answered) => {
                self.stream.go_on(answered);
                Ok(broken)
            }
            Err(error) => {
                self.stream.conclude(error.decision());
                broken.not_resumed = Some(error);
                Err(broken)
            }
        }))
    }
}

/// Sends the request for the rest of a stream, as one more attempt of the same request.
fn again<Req, S>(
    stream: &Streamed<Req, S>,
    request: Box<Req>,
    kind: FailureKind,
) -> impl Future<Output = Result<Answered<Begun<S>>, RouteError>> + Send + use<Req, S>
where
    Req: ?Sized + Send + Sync + 'static,
    S: TryStream<Error = BackendError> + Unpin + Send + 'static,
    S::Ok: StreamItem,
{
    let (core, decision, idle_limit) = (stream.core().clone(), stream.decision().clone(), stream.idle_limit());
    async move {
        let now = core.shared.timer.now();
        let mut trip = Trip::again(&core, decision, idle_limit, kind.into());
        trip.resume(now);
        let begun = drive(&mut trip, &*request, &FirstContent { largest: core.largest_item }, now).await?;
        Ok(trip.into_answered(begun))
    }
}

impl<Req, S> Stream for Resumable<Req, S>
where
    Req: ?Sized + Send + Sync + 'static,
    S: TryStream<Error = BackendError> + Unpin + Send + 'static,
    S::Ok: StreamItem,
{
    type Item = Result<Piece<S::Ok>, Interrupted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(came) = this.poll_next_attempt(cx) {
                return came.map(|came| Some(came.map(Piece::Resumed)));
            }
            match std::task::ready!(Pin::new(&mut this.stream).poll_next(cx)) {
                Some(Ok(item)) => {
                    let unseen = bug::HOOK_NOT_TOLD && this.stream.delivered().items == 1;
                    this.ask(|hook| (!unseen).then(|| hook.delivered(&item)));
                    return Poll::Ready(Some(Ok(Piece::Item(item))));
                }
                Some(Err(broken)) => {
                    if let Err(broken) = this.go_on(broken) {
                        return Poll::Ready(Some(Err(broken)));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<Req, S> FusedStream for Resumable<Req, S>
where
    Req: ?Sized + Send + Sync + 'static,
    S: TryStream<Error = BackendError> + Unpin + Send + 'static,
    S::Ok: StreamItem,
{
    fn is_terminated(&self) -> bool {
        self.going_on.is_none() && self.stream.is_terminated()
    }
}

impl<Req: ?Sized, S: TryStream> fmt::Debug for Resumable<Req, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumable")
            .field("stream", &self.stream)
            .field("broken", &self.going_on.as_ref().map(|going_on| &going_on.broken))
            .finish_non_exhaustive()
    }
}
