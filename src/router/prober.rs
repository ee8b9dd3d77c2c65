//! The prober: a future that the host drives, and that checks every backend of the fleet now and then.

use super::core::Shared;
use crate::backend::{BackendError, BackendId, FailureKind};
use crate::facts::Profile;
use crate::rng::mix;
use crate::signal::{Probes, Turn};
use crate::time::{Instant, Timer};
use crate::unwind::discard;
use async_trait::async_trait;
use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::{FuturesUnordered, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;

/// Finds out whether a backend could serve: cheaply, and never with a request that costs money. `GET /health` or
/// `GET /v1/models` is the usual way ([`HttpProbe`](crate::adapt::http::HttpProbe), feature `http`).
///
/// # Cancel safety
///
/// The future is dropped when the check takes longer than [`Probing::limit`](crate::signal::Probing::limit), or with the
/// prober.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Checks `backend` once. The kind of an error decides: a fault of the backend, of the way to it or of its quota
    /// fails the check, any other comes to no verdict.
    async fn probe(&self, backend: BackendId, profile: &Profile) -> Result<(), BackendError>;
}

/// A [`Probe`] from a closure.
pub fn probe_fn<F, Fut>(probe: F) -> FnProbe<F>
where
    F: Fn(BackendId, &Profile) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BackendError>> + Send,
{
    FnProbe(probe)
}

/// See [`probe_fn`].
pub struct FnProbe<F>(F);

#[async_trait]
impl<F, Fut> Probe for FnProbe<F>
where
    F: Fn(BackendId, &Profile) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BackendError>> + Send,
{
    async fn probe(&self, backend: BackendId, profile: &Profile) -> Result<(), BackendError> {
        (self.0)(backend, profile).await
    }
}

impl<F> fmt::Debug for FnProbe<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnProbe")
    }
}

/// When each backend is due. One that is being checked is not in it.
#[derive(Debug, Default)]
struct Schedule {
    by_time: BTreeSet<(Instant, BackendId)>,
    /// How often each was checked; also of those that are being checked.
    rounds: BTreeMap<BackendId, u64>,
}

impl Schedule {
    /// The fleet is this now: who joined is due at once.
    fn follow(&mut self, backends: &[BackendId], now: Instant) {
        let still = |id: &BackendId| backends.binary_search(id).is_ok();
        self.by_time.retain(|(_, id)| still(id));
        self.rounds.retain(|id, _| still(id));
        for id in backends {
            if !self.rounds.contains_key(id) {
                self.rounds.insert(*id, 0);
                self.by_time.insert((now, *id));
            }
        }
    }

    /// The next that is due, if it is time, and its round.
    fn due(&mut self, now: Instant) -> Option<(BackendId, u64)> {
        let (_, id) =
            self.by_time.first().copied().filter(|(at, _)| *at <= now).and_then(|_| self.by_time.pop_first())?;
        let round = self.rounds.get_mut(&id)?;
        *round += 1;
        Some((id, *round))
    }

    /// It is due again then, unless it left.
    fn again(&mut self, id: BackendId, at: Instant) {
        if self.rounds.contains_key(&id) {
            self.by_time.insert((at, id));
        }
    }
}

/// What a check came to.
struct Checked {
    backend: BackendId,
    result: Result<(), BackendError>,
    panicked: bool,
    next: Instant,
}

/// Checks the backends of a router until the router is gone.
pub(super) async fn drive(shared: Weak<Shared>, probes: Arc<Probes>, probe: Arc<dyn Probe>) {
    let Some((timer, salt)) = shared.upgrade().map(|shared| (shared.timer.clone(), shared.court.salt)) else { return };
    let mut schedule = Schedule::default();
    let mut known = None;
    let mut flights = FuturesUnordered::new();
    loop {
        // Only looked at: a prober must not keep its router alive.
        let Some(router) = shared.upgrade() else { return };
        let now = timer.now();
        let changes = probes.changes();
        if known.replace(changes) != Some(changes) {
            schedule.follow(&probes.backends(), now);
        }
        while let Some((backend, round)) = schedule.due(now) {
            let seed = mix(mix(salt, backend.slot() as u64), round);
            let next = now + probes.probing().pause(seed);
            match probes.turn(backend) {
                Some(turn) => flights.push(check(turn, probe.clone(), timer.clone(), probes.clone(), next).boxed()),
                None => schedule.again(backend, next),
            }
        }
        drop(router);
        let pause = now + probes.probing().pause(salt);
        let wake = schedule.by_time.first().map_or(pause, |(at, _)| *at).min(pause);
        if let Some(checked) = next(&mut flights, &*timer, &probes, changes, wake).await {
            let now = timer.now();
            probes.report(checked.backend, checked.result.as_ref().copied(), now);
            schedule.again(checked.backend, checked.next.max(now));
            if checked.panicked
                && let Some(router) = shared.upgrade()
            {
                router.tell_of_panic("probe", None, now);
            }
        }
    }
}

/// Waits for the end of a check; `None` when it is time for the next, or the fleet has changed.
async fn next(
    flights: &mut FuturesUnordered<BoxFuture<'static, Checked>>,
    timer: &dyn Timer,
    probes: &Probes,
    changes: u64,
    wake: Instant,
) -> Option<Checked> {
    let mut sleep = timer.sleep_until(wake);
    poll_fn(|cx| {
        // Before the look: a change in between wakes us.
        probes.call_back(cx.waker());
        if let Poll::Ready(Some(checked)) = Pin::new(&mut *flights).poll_next(cx) {
            return Poll::Ready(Some(checked));
        }
        if probes.changes() != changes {
            return Poll::Ready(None);
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// One check, within its limit. Its panic is its own.
async fn check(
    turn: Turn,
    probe: Arc<dyn Probe>,
    timer: Arc<dyn Timer>,
    probes: Arc<Probes>,
    next: Instant,
) -> Checked {
    let limit = timer.now() + probes.probing().time_limit();
    let checking = AssertUnwindSafe(async { probe.probe(turn.backend, &turn.profile).await }).catch_unwind();
    let (result, panicked) = match select(pin!(checking), timer.sleep_until(limit)).await {
        Either::Left((Ok(result), _)) => (result, false),
        Either::Left((Err(payload), _)) => {
            discard(payload);
            (Err(BackendError::new(FailureKind::Panicked)), true)
        }
        Either::Right(_) => (Err(BackendError::new(FailureKind::Timeout)), false),
    };
    Checked { backend: turn.backend, result, panicked, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_due_no_more_also_when_its_check_ends_later() {
        let [a, b] = [0, 1].map(|slot| BackendId::new(slot, 0));
        let at = Instant::from_nanos;
        let mut schedule = Schedule::default();
        schedule.follow(&[a, b], at(5));
        assert_eq!(schedule.due(at(4)), None);
        assert_eq!([schedule.due(at(5)), schedule.due(at(5)), schedule.due(at(5))], [Some((a, 1)), Some((b, 1)), None]);
        schedule.follow(&[a], at(6));
        schedule.again(a, at(10));
        schedule.again(b, at(10));
        assert_eq!([schedule.due(at(10)), schedule.due(at(10))], [Some((a, 2)), None]);
        // In its slot comes another.
        let newcomer = BackendId::new(1, 1);
        schedule.follow(&[a, newcomer], at(11));
        assert_eq!(schedule.due(at(11)), Some((newcomer, 1)));
    }
}
