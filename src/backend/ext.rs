//! Sugar for implementors and users of [`Backend`].

use super::{Attempt, Backend, BackendError, Delivers, FailureKind};
use async_trait::async_trait;
use futures::stream::{Stream, StreamExt};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Combinators on every [`Backend`].
pub trait BackendExt<Req: ?Sized + Sync>: Backend<Req> + Sized {
    /// Changes the response: for instance to make backends of different providers answer in one type.
    fn map_response<T, F>(self, map: F) -> MapResponse<Self, F>
    where
        F: Fn(Self::Response) -> T + Send + Sync + 'static,
        T: Send,
    {
        MapResponse { backend: self, map }
    }

    /// Moves the point of no return of a streaming backend from the headers to the first item: the call succeeds
    /// once the first item has arrived, so an error, an end or silence before it is a failed attempt that the
    /// router can repeat elsewhere. Let the stream carry content only, or a role chunk would count as commit.
    fn commit_on_first_item(self) -> CommitOnFirstItem<Self> {
        CommitOnFirstItem { backend: self }
    }

    /// Reads a streamed answer to its end and throws it away: a call ends with the last item, or fails with the item that
    /// is an error. For the backend of a [mirror](crate::shape::Mirror), whose answers nobody reads.
    fn drained(self) -> Drained<Self> {
        Drained { backend: self }
    }

    /// Declares that what a call returns is the head of a stream: the time to first token is measured at the first
    /// item that the caller reads, and a stream that is dropped before its end says nothing about the backend. The
    /// point of no return stays at the head; [`commit_on_first_item`](Self::commit_on_first_item) moves it.
    fn streaming(self) -> Streaming<Self> {
        Streaming { backend: self }
    }
}

impl<Req: ?Sized + Sync, B: Backend<Req>> BackendExt<Req> for B {}

/// A backend from a closure: `async |request, attempt| ..` returning a boxed future. See [`backend_fn`].
pub struct FnBackend<F>(F);

/// Makes a [`Backend`] of a function that returns a future owning what it needs of the request.
///
/// ```
/// use fallway::backend::{BackendError, backend_fn};
/// let shout = backend_fn(|request: &str, _attempt| {
///     let answer = request.to_uppercase();
///     async move { Ok::<_, BackendError>(answer) }
/// });
/// # let _: &dyn fallway::Backend<str, Response = String> = &shout;
/// ```
pub fn backend_fn<Req, T, F, Fut>(call: F) -> FnBackend<F>
where
    Req: ?Sized + Sync,
    F: Fn(&Req, &Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, BackendError>> + Send,
    T: Send,
{
    FnBackend(call)
}

impl<F> fmt::Debug for FnBackend<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnBackend")
    }
}

#[async_trait]
impl<Req, T, F, Fut> Backend<Req> for FnBackend<F>
where
    Req: ?Sized + Sync,
    F: Fn(&Req, &Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, BackendError>> + Send,
    T: Send,
{
    type Response = T;
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<T, BackendError> {
        (self.0)(request, attempt).await
    }
}

/// See [`BackendExt::map_response`].
pub struct MapResponse<B, F> {
    backend: B,
    map: F,
}

impl<B: fmt::Debug, F> fmt::Debug for MapResponse<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapResponse").field(&self.backend).finish()
    }
}

#[async_trait]
impl<Req, B, T, F> Backend<Req> for MapResponse<B, F>
where
    Req: ?Sized + Sync,
    B: Backend<Req>,
    F: Fn(B::Response) -> T + Send + Sync + 'static,
    T: Send,
{
    type Response = T;
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<T, BackendError> {
        self.backend.call(request, attempt).await.map(&self.map)
    }
    fn delivers(&self) -> Delivers {
        self.backend.delivers()
    }
}

/// See [`BackendExt::streaming`].
#[derive(Debug)]
pub struct Streaming<B> {
    backend: B,
}

#[async_trait]
impl<Req: ?Sized + Sync, B: Backend<Req>> Backend<Req> for Streaming<B> {
    type Response = B::Response;
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<B::Response, BackendError> {
        self.backend.call(request, attempt).await
    }
    fn delivers(&self) -> Delivers {
        Delivers::Head
    }
}

/// See [`BackendExt::drained`].
#[derive(Debug)]
pub struct Drained<B> {
    backend: B,
}

#[async_trait]
impl<Req, B, S, T> Backend<Req> for Drained<B>
where
    Req: ?Sized + Sync,
    B: Backend<Req, Response = S>,
    S: Stream<Item = Result<T, BackendError>> + Send,
    T: Send,
{
    type Response = ();
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<(), BackendError> {
        let mut items = pin!(self.backend.call(request, attempt).await?);
        while let Some(item) = items.next().await {
            item?;
        }
        Ok(())
    }
}

/// See [`BackendExt::commit_on_first_item`].
#[derive(Debug)]
pub struct CommitOnFirstItem<B> {
    backend: B,
}

#[async_trait]
impl<Req, B, S, T> Backend<Req> for CommitOnFirstItem<B>
where
    Req: ?Sized + Sync,
    B: Backend<Req, Response = S>,
    S: Stream<Item = Result<T, BackendError>> + Send + Unpin + 'static,
    T: Send + 'static,
{
    type Response = Committed<S, T>;
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<Committed<S, T>, BackendError> {
        let mut rest = self.backend.call(request, attempt).await?;
        match rest.next().await {
            Some(Ok(first)) => Ok(Committed { first: Some(first), rest }),
            Some(Err(error)) => Err(error),
            None => Err(BackendError::new(FailureKind::Truncated)),
        }
    }
    fn delivers(&self) -> Delivers {
        Delivers::FirstItem
    }
}

/// A stream whose first item has arrived.
pub struct Committed<S, T> {
    first: Option<T>,
    rest: S,
}

impl<S, T> fmt::Debug for Committed<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Committed")
    }
}

// The first item is moved out whole and never pinned.
impl<S: Unpin, T> Unpin for Committed<S, T> {}

impl<S, T> Stream for Committed<S, T>
where
    S: Stream<Item = Result<T, BackendError>> + Unpin,
{
    type Item = Result<T, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.rest.poll_next_unpin(cx),
        }
    }
}
