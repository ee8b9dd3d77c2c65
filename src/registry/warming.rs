//! Waiting for new placements to be warm, and not for ever.

use crate::time::Instant;
use std::collections::BTreeSet;
use std::time::Duration;

/// The placements that are being warmed before they are published. What is not warm in time joins with weight 0.
///
/// ```
/// use fallway::registry::Warming;
/// use fallway::time::Instant;
/// let start = Instant::from_nanos(0);
/// let mut warming = Warming::new(["eu-4", "us-4"], start);
/// warming.warmed("eu-4");
/// assert!(!warming.is_done(start));
/// assert!(warming.is_done(start + Warming::DEADLINE));
/// assert_eq!(warming.cold().collect::<Vec<_>>(), ["us-4"]); // for Publication::cold
/// ```
#[derive(Clone, Debug)]
pub struct Warming {
    cold: BTreeSet<String>,
    until: Instant,
}

impl Warming {
    /// How long a placement may take.
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// These placements, which are being warmed from now on, all at once.
    pub fn new<S: Into<String>>(placements: impl IntoIterator<Item = S>, now: Instant) -> Self {
        Self { cold: placements.into_iter().map(Into::into).collect(), until: now + Self::DEADLINE }
    }

    /// One of them is warm.
    pub fn warmed(&mut self, placement: &str) {
        self.cold.remove(placement);
    }

    /// Whether all are warm, or the time is over.
    pub fn is_done(&self, now: Instant) -> bool {
        self.cold.is_empty() || now >= self.until
    }

    /// Those that are not warm.
    pub fn cold(&self) -> impl Iterator<Item = &str> {
        self.cold.iter().map(|id| &**id)
    }
}
