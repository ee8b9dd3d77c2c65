//! [`WorstOf`]: the more pessimistic of two.

use crate::backend::BackendId;
use crate::event::Event;
use crate::signal::{HealthSignal, Reading, Score};
use crate::time::Instant;

/// See [`HealthSignalExt::worst_of`](crate::signal::HealthSignalExt::worst_of).
///
/// Of two fresh readings the lower score, and of two equal ones the newer. A fresh one beats a stale one and a stale one
/// a missing one, whatever they say: what is not known now neither accuses nor acquits.
#[derive(Clone, Debug)]
pub struct WorstOf<A, B>(A, B);

impl<A, B> WorstOf<A, B> {
    pub(in crate::signal) const fn new(one: A, other: B) -> Self {
        Self(one, other)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<A: HealthSignal, B: HealthSignal> HealthSignal for WorstOf<A, B> {
    fn name(&self) -> &'static str {
        "worst_of"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        worse(self.0.read(backend, now), self.1.read(backend, now))
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        self.0.observe(event, now);
        self.1.observe(event, now);
    }

    fn covers(&self, backend: BackendId) -> bool {
        self.0.covers(backend) || self.1.covers(backend)
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.0.is_calm(now) && self.1.is_calm(now)
    }
}

/// The reading that counts.
fn worse(one: Reading<Score>, other: Reading<Score>) -> Reading<Score> {
    let key = |reading: &Reading<Score>| match *reading {
        Reading::Fresh { value, at } => (0, value, std::cmp::Reverse(at)),
        Reading::Stale { value, at } => (1, value, std::cmp::Reverse(at)),
        Reading::Missing => (2, Score::WELL, std::cmp::Reverse(Instant::default())),
    };
    if key(&other) < key(&one) { other } else { one }
}
