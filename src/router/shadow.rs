//! The shadow: a future that the host drives, and that sends the copies of a [`Mirror`].

use super::core::Shared;
use super::driver::{Whole, run};
use crate::backend::{Attempt, Backend, BackendError, BackendId, FailureKind};
use crate::event::{Event, Outcome};
use crate::shape::{Copied, Flight, Mirror, Reflect};
use crate::unwind::discard;
use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, Stream};
use std::borrow::Borrow;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// A mirror that a router fills, for as long as it is held.
pub(super) struct Fed<Req: ?Sized>(pub(super) Arc<dyn Reflect<Req>>);

impl<Req: ?Sized> Fed<Req> {
    pub(super) fn new(mirror: Arc<dyn Reflect<Req>>) -> Self {
        mirror.feed(1);
        Self(mirror)
    }
}

impl<Req: ?Sized> Drop for Fed<Req> {
    fn drop(&mut self) {
        self.0.feed(-1);
    }
}

/// How many copies may end before others have their turn on the thread.
const TURNS: u32 = 32;

/// Sends copies until there are no more and nobody makes any.
pub(super) async fn drive<Req, B>(shared: Arc<Shared>, mirror: Arc<Mirror<Req>>, backend: Arc<B>)
where
    Req: ?Sized + ToOwned + Sync + 'static,
    Req::Owned: Send,
    B: Backend<Req>,
{
    let Some(_driving) = mirror.drive() else { return };
    let mut flights = FuturesUnordered::new();
    poll_fn(|cx| {
        for _ in 0..TURNS {
            // Before the look: a copy that comes in between wakes us. Whether there will be more is asked before, too.
            mirror.call_back(cx.waker());
            let fed = mirror.is_fed();
            while flights.len() < mirror.concurrency() as usize {
                let Some((copied, flight)) = mirror.take(shared.timer.now()) else { break };
                flights.push(send(copied, flight, mirror.clone(), backend.clone(), shared.clone()));
            }
            match Pin::new(&mut flights).poll_next(cx) {
                // One has ended, so another may go.
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) if !fed => return Poll::Ready(()),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sends one copy. Whatever panics in it, panics here.
async fn send<Req, B>(
    copied: Copied<Req::Owned>,
    flight: Flight<Req>,
    mirror: Arc<Mirror<Req>>,
    backend: Arc<B>,
    shared: Arc<Shared>,
) where
    Req: ?Sized + ToOwned + Sync + 'static,
    Req::Owned: Send,
    B: Backend<Req>,
{
    let Copied { request, facts, seed, limit } = copied;
    let started = shared.timer.now();
    let timer = shared.timer.clone();
    let whole = AssertUnwindSafe(async move {
        let borrowed: &Req = request.borrow();
        // No member of the fleet has this id.
        let backend_id = BackendId::new(u32::MAX, 0);
        let attempt = Attempt {
            backend: backend_id,
            number: 1,
            request: seed,
            started,
            limit,
            deadline: limit,
            hedge_at: None,
            hedge: false,
            ledger: None,
        };
        run(|| backend.call(borrowed, &attempt), &Whole, limit, &*timer).await.map(drop).map_err(|failed| failed.error)
    });
    let result = whole.catch_unwind().await.unwrap_or_else(|payload| {
        discard(payload);
        Err(BackendError::new(FailureKind::Panicked))
    });
    flight.end(result.is_ok());
    if shared.is_watched() {
        let (profile, now) = (&**mirror.profile(), shared.timer.now());
        let outcome = result.as_ref().map_or_else(Outcome::Failure, |()| Outcome::Success);
        shared.tell(&Event::Mirrored { profile, facts: &facts, elapsed: now - started, outcome }, now);
    }
}
