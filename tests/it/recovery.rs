//! What takes backends out and lets them back, with the numbers that observers are told.

mod detectors;
mod domains;
mod flaps;
mod probes;

use crate::support::{Act, Script, Scripted, TestRouter, World, secs, within};
use fallway::Profile;
use fallway::decision::Reason;
use fallway::event::{Cause, Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, round_robin};
use fallway::recover::Ejection;
use fallway::time::Instant;
use std::sync::{Arc, Mutex};

/// A transition, kept.
#[derive(Clone, PartialEq, Debug)]
struct Turn {
    at: Instant,
    /// The backend, or the domain in brackets.
    who: String,
    /// Whether it is out, and until when.
    until: Option<Instant>,
    cause: Cause,
    trips: u32,
}

/// An observer that keeps transitions.
#[derive(Clone, Debug, Default)]
struct Turns(Arc<Mutex<Vec<Turn>>>);

impl Turns {
    fn all(&self) -> Vec<Turn> {
        self.0.lock().unwrap().clone()
    }

    fn causes(&self, who: &str) -> Vec<Cause> {
        self.all().into_iter().filter(|turn| turn.who == who).map(|turn| turn.cause).collect()
    }
}

impl Observer for Turns {
    fn on_event(&self, event: &Event<'_>, at: Instant) {
        let turn = match *event {
            Event::Transition { profile, out, cause, trips, .. } => {
                let until = out.map(|out| out.returns_at().unwrap_or_default());
                Turn { at, who: profile.id().to_owned(), until, cause, trips }
            }
            Event::DomainTransition { domain, until, cause, trips } => {
                Turn { at, who: format!("[{domain}]"), until, cause, trips }
            }
            _ => return,
        };
        assert!(!turn.cause.to_string().is_empty());
        self.0.lock().unwrap().push(turn);
    }
}

/// A router that takes turns over these, and what it told.
struct Scene {
    world: World,
    router: TestRouter,
    backends: Vec<Scripted>,
    turns: Turns,
}

impl Scene {
    fn new(ejection: Ejection, members: impl IntoIterator<Item = (Profile, Script)>) -> Self {
        let (world, turns) = (World::new(), Turns::default());
        let mut builder = world
            .router(round_robin().fail_safe(FailSafe::default()))
            .ejection(ejection)
            .retry_budget(fallway::budget::RetryBudget::unlimited())
            .observer(turns.clone());
        let mut backends = Vec::new();
        for (profile, script) in members {
            let backend = world.backend(profile.id(), script);
            builder = builder.backend(profile, backend.clone());
            backends.push(backend);
        }
        Self { router: builder.build().unwrap(), world, backends, turns }
    }

    fn ask(&self, times: usize) {
        for _ in 0..times {
            self.world.call(&self.router, within(secs(60))).unwrap();
        }
    }

    /// Why each is out now, if it is.
    fn out(&self) -> Vec<(String, Reason)> {
        let decision = self.router.explain(&within(secs(5)));
        decision.candidates().filter_map(|it| Some((it.name().to_owned(), it.rejected()?))).collect()
    }

    fn names_out(&self) -> Vec<String> {
        self.out().into_iter().map(|(name, _)| name).collect()
    }
}

fn named(id: impl Into<String>) -> Profile {
    Profile::new(id)
}

/// Answers after so many milliseconds, always.
fn answers(millis: u64) -> Script {
    crate::support::always(Act::Answer(crate::support::ms(millis)))
}
