//! Health signals: each source, how they are joined, and what a router makes of them.

mod calm;
mod fusion;
mod fuzz;
mod http;
mod load;
mod manual;
mod probes;
mod queues;
mod quota;
mod success_rate;
mod table;

use crate::support::{ANSWER, Scripted, TestRouter, World, always};
use fallway::Profile;
use fallway::backend::{BackendError, BackendId, FailureKind};
use fallway::decision::{Cost, Tokens};
use fallway::event::{Event, Outcome};
use fallway::policy::ordered;
use fallway::recover::Ejection;
use fallway::signal::{HealthSignal, Reading, Score};
use fallway::time::Instant;
use std::sync::Arc;

/// A router in its world that only its signal can make leave a backend: `a`, `b` and `c`, in this order.
fn heard(signals: impl IntoIterator<Item = Arc<dyn HealthSignal>>) -> (World, TestRouter, [Scripted; 3]) {
    let world = World::new();
    let mut builder = world.router(ordered()).ejection(Ejection::off());
    for signal in signals {
        builder = builder.signal(signal);
    }
    let members = ["a", "b", "c"].map(|id| (Profile::new(id).region("eu"), always(ANSWER)));
    let (router, backends) = world.fleet(builder, members);
    // Nobody measures at the origin of time.
    world.run_for(std::time::Duration::from_secs(1_000));
    (world, router, backends)
}

/// Tells a signal how calls ended.
fn ended(signal: &impl HealthSignal, backend: BackendId, failure: Option<FailureKind>, now: Instant) {
    let error = failure.map(BackendError::new);
    let outcome = error.as_ref().map_or(Outcome::Success, Outcome::Failure);
    let (profile, elapsed) = (&Profile::new("x"), std::time::Duration::ZERO);
    signal.observe(&end_of(backend, profile, elapsed, outcome, false), now);
}

fn end_of<'a>(
    backend: BackendId,
    profile: &'a Profile,
    elapsed: std::time::Duration,
    outcome: Outcome<'a>,
    excused: bool,
) -> Event<'a> {
    let (tokens, cost, first_item) = (Tokens::default(), Cost::Nothing, None);
    Event::Ended { backend, profile, elapsed, first_item, outcome, excused, request: 7, attempt: 1, tokens, cost }
}

/// A fresh score in thousandths; `None` where there is none.
fn fresh(reading: Reading<Score>) -> Option<u16> {
    match reading {
        Reading::Fresh { value, .. } => Some(value.permille()),
        Reading::Stale { .. } | Reading::Missing => None,
    }
}
