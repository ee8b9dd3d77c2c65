//! [`Source`]: the stream of a backend, and when its answer has begun.

use super::too_large::TooLarge;
use crate::backend::{BackendError, FailureKind, StreamItem};
use crate::router::contain::Contained;
use crate::router::driver::{Failed, Limit, Opening};
use futures::stream::{TryStream, TryStreamExt as _};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// The stream of a backend; what it does wrong stays in it.
pub(super) struct Source<S> {
    stream: Contained<S>,
    largest: usize,
}

/// An item, and what the host says of it.
pub(super) struct Seen<T> {
    pub(super) item: T,
    pub(super) content: u64,
    pub(super) last: bool,
    pub(super) size: usize,
}

/// A stream whose first content is there.
pub(super) struct Begun<S: TryStream> {
    /// What came before the first content, and that.
    pub(super) held: VecDeque<Seen<S::Ok>>,
    /// `None` where the last item is there as well.
    pub(super) source: Option<Source<S>>,
}

impl<S: TryStream<Error = BackendError> + Unpin> Source<S>
where
    S::Ok: StreamItem,
{
    /// The next item. An end is a cut: the last item says so, and nothing is read after it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Seen<S::Ok>, BackendError>> {
        let seen = |item: S::Ok| {
            let (content, last, size) = (item.content(), item.is_last(), item.size());
            Seen { item, content, last, size }
        };
        let poll = self.stream.with(
            |stream| stream.try_poll_next_unpin(cx).map_ok(seen),
            || Poll::Ready(Some(Err(FailureKind::Panicked.into()))),
        );
        poll.map(|item| {
            let seen = item.unwrap_or_else(|| Err(FailureKind::Truncated.into()))?;
            self.fits(seen.size)?;
            Ok(seen)
        })
    }

    fn fits(&self, bytes: usize) -> Result<(), BackendError> {
        let limit = self.largest;
        if bytes <= limit {
            return Ok(());
        }
        Err(BackendError::new(FailureKind::Protocol).with_source(TooLarge { bytes, limit }))
    }
}

/// A stream has begun to answer with its first content: what comes before that is held back, up to this many bytes.
pub(super) struct FirstContent {
    pub(super) largest: usize,
}

impl<S: TryStream<Error = BackendError> + Unpin + Send> Opening<S> for FirstContent
where
    S::Ok: StreamItem,
{
    type Opened = Begun<S>;

    async fn open(&self, response: S, limit: &mut Limit<'_>) -> Result<Begun<S>, Failed> {
        let mut source = Source { stream: Contained::new(response), largest: self.largest };
        let (mut held, mut bytes) = (VecDeque::new(), 0usize);
        loop {
            let seen = limit.wait_for(|cx| source.poll(cx)).await?;
            let (begins, last) = (seen.content > 0 || seen.last, seen.last);
            // Also what claims to take no room takes some.
            bytes = bytes.saturating_add(seen.size.max(size_of::<Seen<S::Ok>>()));
            held.push_back(seen);
            if begins {
                return Ok(Begun { held, source: (!last).then_some(source) });
            }
            source.fits(bytes)?;
        }
    }
}
