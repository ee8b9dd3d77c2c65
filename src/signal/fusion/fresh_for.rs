//! [`FreshFor`]: readings that grow old.

use crate::backend::BackendId;
use crate::event::Event;
use crate::signal::{HealthSignal, Reading, Score};
use crate::time::Instant;
use std::time::Duration;

/// See [`HealthSignalExt::fresh_for`](crate::signal::HealthSignalExt::fresh_for).
#[derive(Clone, Debug)]
pub struct FreshFor<S> {
    signal: S,
    age: Duration,
}

impl<S> FreshFor<S> {
    pub(in crate::signal) const fn new(signal: S, age: Duration) -> Self {
        Self { signal, age }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: HealthSignal> HealthSignal for FreshFor<S> {
    fn name(&self) -> &'static str {
        self.signal.name()
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        match self.signal.read(backend, now) {
            Reading::Fresh { value, at } if now - at > self.age => Reading::Stale { value, at },
            reading => reading,
        }
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        self.signal.observe(event, now);
    }

    fn covers(&self, backend: BackendId) -> bool {
        self.signal.covers(backend)
    }

    /// It does not know how old what is calm is.
    fn is_calm(&self, _: Instant) -> bool {
        false
    }
}
