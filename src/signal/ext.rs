//! [`HealthSignalExt`]: combinators.

use super::{FreshFor, HealthSignal, Hysteresis, InvalidSignal, Score, WorstOf};
use std::sync::Arc;
use std::time::Duration;

/// Combinators on every [`HealthSignal`].
///
/// ```
/// use fallway::signal::{HealthSignalExt, Manual, Probes, Probing, Score, SuccessRate};
/// use std::sync::Arc;
///
/// let (probes, manual) = (Arc::new(Probes::new(Probing::default())?), Arc::new(Manual::default()));
/// let signal = SuccessRate::default()
///     .hysteresis(Score::from_permille(400), Score::from_permille(700))?
///     .worst_of(probes.clone())
///     .worst_of(manual.clone());
/// println!("{signal:#?}");
/// # Ok::<(), fallway::signal::InvalidSignal>(())
/// ```
pub trait HealthSignalExt: HealthSignal + Sized {
    /// Readings older than `age` become stale, whatever the signal itself thinks: a source that stopped must not
    /// be believed for ever.
    fn fresh_for(self, age: Duration) -> FreshFor<Self> {
        FreshFor::new(self, age)
    }

    /// The worse of two: what either calls ill is ill. Where one is silent the other's word stands.
    fn worst_of<O: HealthSignal>(self, other: O) -> WorstOf<Self, O> {
        WorstOf::new(self, other)
    }

    /// Ill below `down`, well again from `up` on; in between as it was.
    ///
    /// # Errors
    ///
    /// [`InvalidSignal::CrossedThresholds`] where `down` lies above `up`.
    fn hysteresis(self, down: Score, up: Score) -> Result<Hysteresis<Self>, InvalidSignal> {
        Hysteresis::new(self, down, up)
    }

    /// Shared and without its type, for a [`Quorum`](super::Quorum).
    fn shared(self) -> Arc<dyn HealthSignal> {
        Arc::new(self)
    }
}

impl<S: HealthSignal> HealthSignalExt for S {}
