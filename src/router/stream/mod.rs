//! Streamed answers: what happens before the first content and after it.
//!
//! Before the commit point a stream is a future, [`Router::stream`], and its failures are those of attempts, repeated
//! elsewhere as a plain call's. After it, it is a [`Streamed`], which stays where it is, and its failure is one
//! [`Interrupted`] that says what was delivered. The two have nothing in common but the request, and the types say so.

mod clocks;
mod interrupted;
mod resume;
mod source;
mod streamed;
mod too_large;

pub use interrupted::{Delivered, Interrupted};
pub use resume::{Piece, Resumable, Resume};
pub use streamed::Streamed;
pub use too_large::TooLarge;

use super::trip::Trip;
use super::{CallOptions, RouteError, Router, driver};
use crate::backend::{BackendError, StreamItem};
use futures::stream::TryStream;
use source::FirstContent;

impl<Req, S> Router<Req, S>
where
    Req: ?Sized + Sync + 'static,
    S: TryStream<Error = BackendError> + Unpin + Send + 'static,
    S::Ok: StreamItem,
{
    /// Sends `request` as [`call`](Self::call) does, to backends that answer with a stream, and completes when the answer
    /// has begun: with its first [content](StreamItem::content).
    ///
    /// What goes wrong until then is a failed attempt, and the request goes elsewhere: no answer, an error item, an end, a
    /// panic, or nothing but a role within the attempt's limit. What the failed backend had sent is dropped unseen. From
    /// then on the answer is that backend's, and [`Streamed`] hands it over and watches it: the gap between two items, the
    /// deadline, its size, and its last item, without which no stream is complete.
    ///
    /// ```
    /// use fallway::backend::{BackendError, FailureKind, backend_fn};
    /// use fallway::policy::{FailSafe, PolicyExt, ordered};
    /// use fallway::backend::StreamItem;
    /// use fallway::{CallOptions, Facts, Profile, Router};
    /// use futures::{StreamExt, stream};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// enum Chunk {
    ///     Role,
    ///     Text(&'static str),
    ///     Done,
    /// }
    ///
    /// impl StreamItem for Chunk {
    ///     fn content(&self) -> u64 {
    ///         u64::from(matches!(self, Self::Text(_)))
    ///     }
    ///     fn is_last(&self) -> bool {
    ///         *self == Self::Done
    ///     }
    ///     fn size(&self) -> usize {
    ///         8
    ///     }
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let model = |items: Vec<Result<Chunk, FailureKind>>| {
    ///     backend_fn(move |_: &str, _: &_| {
    ///         let items = items.clone().into_iter().map(|item| item.map_err(BackendError::new));
    ///         async move { Ok(stream::iter(items).boxed()) }
    ///     })
    /// };
    /// let fails = model(vec![Ok(Chunk::Role), Err(FailureKind::Overloaded)]);
    /// let works = model(vec![Ok(Chunk::Role), Ok(Chunk::Text("Hello")), Ok(Chunk::Done)]);
    /// let router = Router::builder(ordered().fail_safe(FailSafe::default()))
    ///     .backend(Profile::new("fails"), fails)
    ///     .backend(Profile::new("works"), works)
    ///     .build()?;
    ///
    /// let mut answer = router.stream("Hi", CallOptions::new(Facts::any().replay_safe())).await?;
    /// assert_eq!(answer.backend(), Some("works"));
    /// let mut text = String::new();
    /// while let Some(chunk) = answer.next().await {
    ///     if let Chunk::Text(piece) = chunk? {
    ///         text += piece;
    ///     }
    /// }
    /// assert_eq!(text, "Hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`RouteError`] tells why no answer began, and carries the last decision with every attempt.
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call)'s. Nothing was handed over yet, so nothing is lost.
    pub async fn stream(&self, request: &Req, options: CallOptions) -> Result<Streamed<Req, S>, RouteError> {
        let core = &self.core;
        let now = core.shared.timer.now();
        let mut trip = Trip::new(core, options, now);
        let opening = FirstContent { largest: core.largest_item };
        let begun = driver::drive(&mut trip, request, &opening, now).await?;
        Ok(Streamed::new(core.clone(), trip.into_answered(begun)))
    }
}
