//! [`Probes`]: what checks of the backends said last.

use super::calm::{Calm, EVER, NEVER};
use super::latch::Latch;
use super::rows::Rows;
use super::{HealthSignal, InvalidSignal, Probing, Reading, Score};
use crate::backend::{BackendError, BackendId, Fault};
use crate::event::Event;
use crate::facts::Profile;
use crate::time::Instant;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

/// What checks of the backends said last. [`Router::probe`](crate::Router::probe) makes the checks; a host with a prober
/// of its own hands over the results with [`report`](Self::report).
///
/// The first verdict on a backend counts at once; after that it takes several in a row to turn it
/// ([`Probing::unhealthy_after`], [`Probing::healthy_after`]). A verdict is fresh for two rounds: a prober that stopped
/// is not believed. A check that failed by the fault of the prober itself (its credential, its path, a panic) comes to
/// no verdict; a backend of which no check ever came to one, as a provider without such a page, is not
/// [covered](HealthSignal::covers), and stands behind nobody for it.
pub struct Probes {
    probing: Probing,
    targets: Rows<Target>,
    calm: Calm,
    /// Grows with every change of the fleet.
    changes: AtomicU64,
    prober: Mutex<Option<Waker>>,
}

#[derive(Clone)]
struct Target {
    profile: Arc<Profile>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    verdict: Latch,
    run: Mutex<Run>,
    /// A check is on its way.
    busy: AtomicBool,
    /// Checks there were, and none came to a verdict.
    mute: AtomicBool,
}

/// The checks in a row that speak against the verdict.
#[derive(Debug, Default)]
struct Run {
    well: Option<bool>,
    against: u32,
}

/// The right to check a backend: one at a time, returned when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) backend: BackendId,
    pub(crate) profile: Arc<Profile>,
    state: Arc<State>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.state.busy.store(false, Ordering::Release);
    }
}

impl Probes {
    /// Nothing is known yet.
    ///
    /// # Errors
    ///
    /// [`InvalidSignal`] names what makes no sense: an interval, limit or threshold of zero, a limit over the interval,
    /// a jitter that is not in `[0, 1)`.
    pub fn new(probing: Probing) -> Result<Self, InvalidSignal> {
        probing.check()?;
        let (targets, calm, prober) = (Rows::default(), Calm::default(), Mutex::default());
        Ok(Self { probing, targets, calm, changes: AtomicU64::new(0), prober })
    }

    /// A check of `backend` ended so. Of a backend that is not in the fleet it says nothing.
    pub fn report(&self, backend: BackendId, result: Result<(), &BackendError>, now: Instant) {
        let passed = match result.map_err(|error| error.kind().conduct().fault) {
            Ok(()) => Some(true),
            Err(Fault::Backend | Fault::Transport | Fault::Quota) => Some(false),
            Err(Fault::Credential | Fault::Model | Fault::Caller | Fault::Host) => None,
        };
        let turned = self.targets.with(backend, |target| target.state.judge(passed, &self.probing, now));
        // Verdicts are renewed before they are old, so the end of the calm is put off now and then.
        let before = self.calm.before();
        let ends_soon = before != EVER && before < now + self.probing.fresh_for() / 2;
        if turned.is_some_and(|turned| turned || ends_soon) {
            self.take_stock();
        }
    }

    /// There is nothing to say until the first verdict grows old, unless a backend is ill or unknown.
    fn take_stock(&self) {
        self.calm.take_stock(|| {
            let mut before = NEVER;
            self.targets.each(|_, Target { state, .. }| {
                before = before.min(match state.verdict.read(NEVER, Duration::MAX) {
                    _ if state.is_troubled() => EVER,
                    Reading::Fresh { at, .. } => at + self.probing.fresh_for(),
                    Reading::Stale { .. } | Reading::Missing => NEVER,
                });
            });
            (EVER, before)
        });
    }

    pub(crate) const fn probing(&self) -> &Probing {
        &self.probing
    }

    /// Grows with every change of the fleet.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whom to wake when the fleet changes.
    pub(crate) fn call_back(&self, waker: &Waker) {
        let mut prober = self.prober.lock();
        if !prober.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *prober = Some(waker.clone());
        }
    }

    pub(crate) fn backends(&self) -> Vec<BackendId> {
        let mut all = Vec::new();
        self.targets.each(|id, _| all.push(id));
        all.sort_unstable();
        all
    }

    /// The right to check `backend`; `None` while another check is on its way, or when it is gone.
    pub(crate) fn turn(&self, backend: BackendId) -> Option<Turn> {
        let Target { profile, state } = self.targets.with(backend, Target::clone)?;
        (!state.busy.swap(true, Ordering::AcqRel)).then_some(Turn { backend, profile, state })
    }
}

impl State {
    /// It is ill, or not known and should be.
    fn is_troubled(&self) -> bool {
        match self.verdict.score() {
            Some(score) => !score.is_healthy(),
            None => !self.mute.load(Ordering::Relaxed),
        }
    }

    /// Returns whether it came into trouble or out of it.
    fn judge(&self, passed: Option<bool>, probing: &Probing, now: Instant) -> bool {
        let mut run = self.run.lock();
        let before = self.is_troubled();
        match passed {
            None => self.mute.store(run.well.is_none(), Ordering::Relaxed),
            Some(passed) => self.turn_to(&mut run, passed, probing, now),
        }
        self.is_troubled() != before
    }

    fn turn_to(&self, run: &mut Run, passed: bool, probing: &Probing, now: Instant) {
        let needed = if passed { probing.healthy_after } else { probing.unhealthy_after };
        run.against = if run.well == Some(!passed) { run.against + 1 } else { 0 };
        if run.well.is_none() || run.against >= needed {
            *run = Run { well: Some(passed), against: 0 };
        }
        self.mute.store(false, Ordering::Relaxed);
        self.verdict.set(if run.well == Some(true) { Score::WELL } else { Score::DEAD }, now);
    }
}

#[deny(clippy::missing_trait_methods)]
impl HealthSignal for Probes {
    fn name(&self) -> &'static str {
        "probes"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        let read = |target: &Target| target.state.verdict.read(now, self.probing.fresh_for());
        self.targets.with(backend, read).unwrap_or(Reading::Missing)
    }

    fn observe(&self, event: &Event<'_>, _: Instant) {
        if let Event::Fleet { backends, .. } = event {
            let unknown = || {
                let (verdict, run) = (Latch::empty(), Mutex::default());
                Arc::new(State { verdict, run, busy: AtomicBool::new(false), mute: AtomicBool::new(false) })
            };
            self.targets.follow(backends, |profile, old| Target {
                profile: profile.clone(),
                state: old.map_or_else(unknown, |old| old.state.clone()),
            });
            self.take_stock();
            self.changes.fetch_add(1, Ordering::Release);
            let prober = self.prober.lock().take();
            prober.into_iter().for_each(Waker::wake);
        }
    }

    fn covers(&self, backend: BackendId) -> bool {
        self.targets.with(backend, |target| !target.state.mute.load(Ordering::Relaxed)).unwrap_or(false)
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.calm.at(now)
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probes({:?} of {:?})", self.probing, self.targets)
    }
}
