//! [`Reading`], [`Score`] and the [`HealthSignal`] trait.

use crate::backend::BackendId;
use crate::event::Event;
use crate::time::Instant;
use std::fmt;

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

    /// Learns from what happened. The first event is the fleet ([`Event::Fleet`]).
    fn observe(&self, event: &Event<'_>, now: Instant);

    /// Whether it should have a fresh reading of `backend` at any time, as a prober has: then a backend of which it is
    /// silent stands behind those that it calls well. A source that speaks only of what it happened to see (traffic,
    /// the word of an operator) says `false`, or the first backend that was ever used would get all requests.
    fn covers(&self, backend: BackendId) -> bool {
        let _ = backend;
        true
    }

    /// Whether there is nothing to say of any backend of the fleet at `now`: none reads unhealthy, and none that it
    /// covers is without a fresh reading. Then a decision does not ask about each, and in good times the cost of a
    /// signal does not grow with the fleet. `false` is always allowed; `true` must be so. As `read` it computes
    /// nothing.
    fn is_calm(&self, now: Instant) -> bool {
        let _ = now;
        false
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

            fn covers(&self, backend: BackendId) -> bool {
                (**self).covers(backend)
            }

            fn is_calm(&self, now: Instant) -> bool {
                (**self).is_calm(now)
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
