//! [`InvalidSignal`].

use super::Score;
use std::time::Duration;

/// What is wrong with the configuration of a signal; names the offender.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSignal {
    /// A window of zero holds no outcome.
    #[error("a window of zero holds no outcome")]
    ZeroWindow,
    /// The threshold to go down lies above the one to come up again.
    #[error("down below {}, up from {}: the thresholds are crossed", down.permille(), up.permille())]
    CrossedThresholds {
        /// Below this it is ill.
        down: Score,
        /// From this on it is well.
        up: Score,
    },
    /// A quorum that is always or never there.
    #[error("{needed} of {of} signals is no quorum")]
    ImpossibleQuorum {
        /// How many must agree.
        needed: usize,
        /// Of how many.
        of: usize,
    },
    /// A quorum of more sources than it can hold.
    #[error("a quorum holds at most {} signals, not {of}", super::Quorum::MOST)]
    TooManySignals {
        /// Of how many.
        of: usize,
    },
    /// An interval of zero would probe without a pause.
    #[error("a probe interval of zero would probe without a pause")]
    ZeroInterval,
    /// A limit of zero fails every probe.
    #[error("a probe limit of zero fails every probe")]
    ZeroLimit,
    /// A check may take longer than the time between two.
    #[error("a probe may take {limit:?} and is due every {interval:?}")]
    LimitOverInterval {
        /// How long a check may take.
        limit: Duration,
        /// The time between two.
        interval: Duration,
    },
    /// A threshold of no probes.
    #[error("{0} is zero")]
    ZeroThreshold(&'static str),
    /// Not a share of the interval.
    #[error("a jitter of {0} is not in [0, 1)")]
    InvalidJitter(f64),
}
