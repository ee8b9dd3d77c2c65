//! [`Quorum`]: several must agree.

use crate::backend::BackendId;
use crate::event::Event;
use crate::signal::{HealthSignal, InvalidSignal, Reading, Score};
use crate::time::Instant;
use std::sync::Arc;

/// A backend is ill when at least so many of the sources say so: for probers in several places, of which one alone may
/// have lost its own network.
///
/// Its score is the `needed`-th lowest of the fresh ones. Where fewer sources have a fresh reading there is no quorum:
/// the reading is stale, or missing where too few ever had one.
///
/// ```
/// use fallway::signal::{HealthSignalExt, InvalidSignal, Probes, Probing, Quorum};
/// use std::sync::Arc;
///
/// let [a, b, c] = [(); 3].map(|()| Probes::new(Probing::default()).map(Arc::new));
/// let two_of_three = Quorum::of(2, [a?.shared(), b?.shared(), c?.shared()])?;
/// # let one = || Probes::new(Probing::default()).map(|it| it.shared());
/// assert_eq!(Quorum::of(2, [one()?]).unwrap_err(), InvalidSignal::ImpossibleQuorum { needed: 2, of: 1 });
/// # Ok::<(), InvalidSignal>(())
/// ```
#[derive(Clone, Debug)]
pub struct Quorum {
    needed: usize,
    signals: Vec<Arc<dyn HealthSignal>>,
}

impl Quorum {
    /// How many sources it holds at most: a decision reads them all for every candidate.
    pub const MOST: usize = 16;

    /// At least `needed` of `signals` decide.
    ///
    /// # Errors
    ///
    /// [`InvalidSignal::ImpossibleQuorum`] where `needed` is zero or more than there are,
    /// [`InvalidSignal::TooManySignals`] above [`MOST`](Self::MOST).
    pub fn of(needed: usize, signals: impl IntoIterator<Item = Arc<dyn HealthSignal>>) -> Result<Self, InvalidSignal> {
        let signals: Vec<_> = signals.into_iter().collect();
        match signals.len() {
            of if needed == 0 || needed > of => Err(InvalidSignal::ImpossibleQuorum { needed, of }),
            of if of > Self::MOST => Err(InvalidSignal::TooManySignals { of }),
            _ => Ok(Self { needed, signals }),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl HealthSignal for Quorum {
    fn name(&self) -> &'static str {
        "quorum"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        let (mut fresh, mut known) = ([(Score::WELL, now); Self::MOST], [(Score::WELL, now); Self::MOST]);
        let (mut of_fresh, mut of_known) = (0, 0);
        for signal in &self.signals {
            let (said, is_fresh) = match signal.read(backend, now) {
                Reading::Fresh { value, at } => ((value, at), true),
                Reading::Stale { value, at } => ((value, at), false),
                Reading::Missing => continue,
            };
            known[of_known] = said;
            of_known += 1;
            if is_fresh {
                fresh[of_fresh] = said;
                of_fresh += 1;
            }
        }
        let decisive = |said: &mut [(Score, Instant)]| {
            (said.len() >= self.needed).then(|| {
                said.sort_unstable();
                said[self.needed - 1]
            })
        };
        match (decisive(&mut fresh[..of_fresh]), decisive(&mut known[..of_known])) {
            (Some((value, at)), _) => Reading::Fresh { value, at },
            (None, Some((value, at))) => Reading::Stale { value, at },
            (None, None) => Reading::Missing,
        }
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        self.signals.iter().for_each(|signal| signal.observe(event, now));
    }

    /// Where so many sources that decide do.
    fn covers(&self, backend: BackendId) -> bool {
        self.signals.iter().filter(|signal| signal.covers(backend)).count() >= self.needed
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.signals.iter().all(|signal| signal.is_calm(now))
    }
}
