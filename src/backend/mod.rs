//! What serves a request: the [`Backend`] trait, its errors and the failure taxonomy.

mod attempt;
mod error;
mod ext;
mod http;
mod item;
mod kind;
// Read by signals and limits; its public path is that of signals.
pub(crate) mod quota;
mod usage;

pub(crate) use attempt::Ledger;
pub use attempt::{Attempt, BackendId};
pub use error::BackendError;
pub use ext::{BackendExt, Drained, FnBackend, MapResponse, backend_fn};
pub(crate) use http::{retry_after, retry_after_ms};
pub use item::StreamItem;
pub use kind::{Billed, Conduct, Cools, FailureKind, Fault, Replay, Retry};
pub use usage::Usage;

use async_trait::async_trait;
use std::sync::Arc;

/// Something that can serve a request: a provider's model endpoint, a self-hosted server, an in-process model.
///
/// The request is borrowed, so retries never clone it. Classify every failure ([`BackendError::from_http`] does it
/// for HTTP): the router's conduct depends on the kind.
///
/// # Cancel safety
///
/// The router drops the future when the attempt's time is over or the caller goes away. Dropping it must abandon
/// the call and give back what it holds; it must not block.
///
/// # Panics
///
/// A panic in the future, or in its drop, becomes a [`FailureKind::Panicked`] failure of this attempt.
///
/// ```
/// use fallway::backend::{Attempt, Backend, BackendError};
///
/// struct Echo;
///
/// #[async_trait::async_trait]
/// impl Backend<str> for Echo {
///     type Response = String;
///     async fn call(&self, request: &str, _: &Attempt) -> Result<String, BackendError> {
///         Ok(request.to_owned())
///     }
/// }
/// ```
#[async_trait]
pub trait Backend<Req: ?Sized + Sync>: Send + Sync + 'static {
    /// The answer; a `Stream<Item = Result<_, BackendError>>` where the backend streams ([`Router::stream`](crate::Router::stream)).
    type Response: Send;

    /// Sends `request` once. `attempt` tells how long the router will wait. A backend that streams returns as soon as it
    /// has the stream: what comes of it is the router's to watch.
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<Self::Response, BackendError>;
}

#[async_trait]
impl<Req: ?Sized + Sync, B: Backend<Req> + ?Sized> Backend<Req> for Arc<B> {
    type Response = B::Response;
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<B::Response, BackendError> {
        (**self).call(request, attempt).await
    }
}

#[async_trait]
impl<Req: ?Sized + Sync, B: Backend<Req> + ?Sized> Backend<Req> for Box<B> {
    type Response = B::Response;
    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<B::Response, BackendError> {
        (**self).call(request, attempt).await
    }
}
