//! [`Reading`], [`Score`] and the [`HealthSignal`] trait.

use crate::backend::BackendId;
use crate::event::Event;
use crate::time::Instant;
use std::fmt;
use std::time::Duration;

/// A measured value that may be old or absent. There is no default: absence is never a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading<T> {
    /// Measured recently enough to act on.
    Fresh {
        /// The value.
        value: T,
        /// When it was measured.
        at: Instant,
    },
    /// Measured too long ago to act on.
    Stale {
        /// The value then.
        value: T,
        /// When it was measured.
        at: Instant,
    },
    /// Never measured.
    Missing,
}

/// How healthy a backend looks, from 0 (dead) to 1000 (well). Ordered, and never NaN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Score(u16);

impl Score {
    /// Dead.
    pub const DEAD: Self = Self(0);
    /// Well.
    pub const WELL: Self = Self(1000);
    /// Below this a backend counts as unhealthy.
    pub const HEALTHY: Self = Self(500);

    /// A score from thousandths; what is above 1000 counts as 1000.
    pub const fn from_permille(permille: u16) -> Self {
        Self(if permille > 1000 { 1000 } else { permille })
    }

    /// A score from a fraction in `[0, 1]`, clamped; `None` for NaN.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        (!fraction.is_nan()).then(|| Self((fraction.clamp(0.0, 1.0) * 1000.0).round() as u16))
    }

    /// In thousandths.
    pub const fn permille(self) -> u16 {
        self.0
    }

    /// Whether it counts as healthy.
    pub fn is_healthy(self) -> bool {
        self >= Self::HEALTHY
    }
}

/// A source of readings about backends' health: passive (it learns from what it observes) or external (a prober, a
/// status page, a load report).
///
/// `read` is on the path of every decision and for every candidate: it must not block, wait or compute. Evaluate
/// when something arrives, keep the verdict in an atomic, read the atomic. A panic in either method is contained:
/// the reading counts as missing.
///
/// A fresh unhealthy reading takes a backend out of the running *softly*: when too few look healthy, panic mode
/// distrusts the signal. See the example `custom_signal`.
pub trait HealthSignal: fmt::Debug + Send + Sync + 'static {
    /// A short name for decisions.
    fn name(&self) -> &'static str;

    /// What is known of `backend` at `now`.
    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score>;

    /// Learns from what happened.
    fn observe(&self, event: &Event<'_>, now: Instant);
}

/// Combinators on every [`HealthSignal`].
pub trait HealthSignalExt: HealthSignal + Sized {
    /// Readings older than `age` become stale, whatever the signal itself thinks: a source that stopped must not
    /// be believed for ever.
    fn fresh_for(self, age: Duration) -> FreshFor<Self> {
        FreshFor { signal: self, age }
    }
}

impl<S: HealthSignal> HealthSignalExt for S {}

/// See [`HealthSignalExt::fresh_for`].
#[derive(Clone, Debug)]
pub struct FreshFor<S> {
    signal: S,
    age: Duration,
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
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<S: HealthSignal + ?Sized> HealthSignal for $pointer {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
                (**self).read(backend, now)
            }

            fn observe(&self, event: &Event<'_>, now: Instant) {
                (**self).observe(event, now);
            }
        }
    )*};
}

forward!(Box<S>, std::sync::Arc<S>);
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_take_any_number() {
        assert_eq!(Score::from_fraction(f64::NAN), None);
        assert_eq!(Score::from_fraction(f64::INFINITY), Some(Score::WELL));
        assert_eq!(Score::from_fraction(-1.0), Some(Score::DEAD));
        assert_eq!(Score::from_permille(5000), Score::WELL);
        assert!(Score::HEALTHY.is_healthy() && !Score::from_permille(499).is_healthy());
    }
}
