//! Observers and signals.

use super::{Answered, TestRouter, secs, within};
use fallway::Decision;
use fallway::backend::{BackendId, FailureKind};
use fallway::decision::{Reason, Refusal, Unhedged};
use fallway::event::{Cause, Event, Observer, Outcome};
use fallway::signal::{HealthSignal, Reading, Score};
use fallway::time::Instant;
use futures::future::{BoxFuture, FutureExt};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An event, kept.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Decided(Decision),
    Started { backend: String, attempt: u32, hedge: bool },
    FirstItem { backend: String, elapsed: Duration },
    Succeeded { backend: String },
    Failed { backend: String, kind: FailureKind },
    Cancelled { backend: String },
    Outrun { backend: String },
    Unhedged { backend: String, why: Unhedged },
    Left { backend: String, why: Reason },
    Returned { backend: String },
    Refused { why: Refusal },
    Region { region: String, from: &'static str, to: &'static str },
    Panicked { name: String },
}

/// An observer that keeps everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(Instant, Told)>>>);

impl Log {
    pub(crate) fn told(&self) -> Vec<(Instant, Told)> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, of: impl Fn(&Told) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|(_, told)| of(told)).count()
    }

    pub(crate) fn decisions(&self) -> Vec<Decision> {
        let decided = |(_, told)| match told {
            Told::Decided(decision) => Some(decision),
            _ => None,
        };
        self.told().into_iter().filter_map(decided).collect()
    }
}

impl Observer for Log {
    fn on_event(&self, event: &Event<'_>, now: Instant) {
        let told = match event {
            Event::Decided(decision) => Told::Decided((*decision).clone()),
            Event::Started { profile, attempt, hedge, .. } => {
                Told::Started { backend: profile.id().to_owned(), attempt: *attempt, hedge: *hedge }
            }
            Event::Unhedged { profile, why, .. } => Told::Unhedged { backend: profile.id().to_owned(), why: *why },
            Event::FirstItem { profile, elapsed, .. } => {
                Told::FirstItem { backend: profile.id().to_owned(), elapsed: *elapsed }
            }
            Event::Ended { profile, outcome, .. } => {
                let backend = profile.id().to_owned();
                match outcome {
                    Outcome::Success => Told::Succeeded { backend },
                    Outcome::Failure(error) => Told::Failed { backend, kind: error.kind() },
                    Outcome::Cancelled => Told::Cancelled { backend },
                    Outcome::Outrun => Told::Outrun { backend },
                }
            }
            // It was out before, or in.
            Event::Transition { cause: Cause::ProbeFailed { .. } | Cause::RampEnded, .. } => return,
            Event::Transition { profile, out: Some(why), .. } => {
                Told::Left { backend: profile.id().to_owned(), why: *why }
            }
            Event::Transition { profile, out: None, .. } => Told::Returned { backend: profile.id().to_owned() },
            Event::Region { region, from, to, .. } => {
                Told::Region { region: (*region).to_owned(), from: from.label(), to: to.label() }
            }
            Event::Refused { why, .. } => Told::Refused { why: *why },
            Event::Panicked { name } => Told::Panicked { name: (*name).to_owned() },
            _ => return,
        };
        self.0.lock().unwrap().push((now, told));
    }
}

/// A signal that says what it is told to say, by slot; of others it knows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opinion(Arc<Mutex<BTreeMap<usize, Reading<Score>>>>);

impl Opinion {
    pub(crate) fn set(&self, slot: usize, reading: Reading<Score>) {
        self.0.lock().unwrap().insert(slot, reading);
    }

    pub(crate) fn fresh(&self, slot: usize, permille: u16, at: Instant) {
        self.set(slot, Reading::Fresh { value: Score::from_permille(permille), at });
    }
}

impl HealthSignal for Opinion {
    fn name(&self) -> &'static str {
        "opinion"
    }

    fn read(&self, backend: BackendId, _: Instant) -> Reading<Score> {
        self.0.lock().unwrap().get(&backend.slot()).copied().unwrap_or(Reading::Missing)
    }

    fn observe(&self, _: &Event<'_>, _: Instant) {}
}

/// A request that slips in between a decision and its call, once: it takes what the decision meant to take.
#[derive(Clone, Default)]
pub(crate) struct Rival(Arc<Mutex<Ambush>>);

#[derive(Default)]
struct Ambush {
    router: Option<TestRouter>,
    call: Option<BoxFuture<'static, Answered>>,
}

impl Rival {
    /// Waits for the next decision of a router that it observes.
    pub(crate) fn lurk(&self, router: &TestRouter) {
        self.0.lock().unwrap().router = Some(router.clone());
    }

    /// Gives up what it took.
    pub(crate) fn leave(&self) {
        let call = self.0.lock().unwrap().call.take();
        assert!(call.is_some(), "it never came out");
    }
}

impl fmt::Debug for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rival")
    }
}

impl Observer for Rival {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        let router = match event {
            Event::Decided(_) => self.0.lock().unwrap().router.take(),
            _ => None,
        };
        if let Some(router) = router {
            let mut call = async move { router.call("rival", within(secs(5))).await }.boxed();
            assert!((&mut call).now_or_never().is_none(), "it holds what it took");
            self.0.lock().unwrap().call = Some(call);
        }
    }
}
