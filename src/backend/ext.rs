//! Sugar for implementors and users of [`Backend`].

use super::{Attempt, Backend, BackendError, FailureKind, StreamItem};
use async_trait::async_trait;
use futures::stream::{Stream, StreamExt};
use std::fmt;
use std::future::Future;
use std::pin::pin;

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

    /// Reads a streamed answer to its end and throws it away: a call ends with the last item, or fails with the item that
    /// is an error. For the backend of a [mirror](crate::shape::Mirror), whose answers nobody reads.
    fn drained(self) -> Drained<Self> {
        Drained { backend: self }
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
    T: StreamItem,
{
    type Response = ();
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<(), BackendError> {
        let mut items = pin!(self.backend.call(request, attempt).await?);
        while let Some(item) = items.next().await {
            if item?.is_last() {
                return Ok(());
            }
        }
        Err(FailureKind::Truncated.into())
    }
}
