//! [`Cause`]: why a backend left or came back, with the numbers behind it.

use crate::backend::FailureKind;
use std::fmt;
use std::time::Duration;

/// Why a backend, or a failure domain, left or came back: which detector spoke, and the numbers it compared.
///
/// Copied where it is wanted, and without secrets: it holds numbers and kinds.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It failed so often in a row.
    Streak {
        /// Failures in a row.
        failures: u32,
    },
    /// It failed too often in the last [window](crate::recover::Ejection::WINDOW).
    FailureRate {
        /// Attempts that failed.
        failures: u64,
        /// Attempts that failed or were answered.
        samples: u64,
    },
    /// Its time to first token is far above that of its peers.
    SlowerThanPeers {
        /// Its usual time to first token.
        usual: Duration,
        /// The median of its peers.
        median: Duration,
        /// How many times the median is too much.
        factor: f64,
        /// Peers with enough samples.
        peers: u32,
    },
    /// It succeeds far less often than its peers.
    FailsMoreThanPeers {
        /// The share of its attempts that succeeded.
        rate: f64,
        /// The mean share of the pool, itself included.
        mean: f64,
        /// The standard deviation of these shares.
        deviation: f64,
        /// Backends of the pool with enough samples, itself included.
        pool: u32,
    },
    /// A failure took it out by itself: it could not be reached, said that it is overloaded, or its quota, model or
    /// credential was refused.
    Refused {
        /// The failure.
        kind: FailureKind,
        /// It said for how long.
        hint: bool,
    },
    /// Its failure domain went out, or came back, as one.
    Domain {
        /// Members that had failed.
        failing: u32,
        /// Members of the domain.
        members: u32,
    },
    /// The one request that was to find out whether it is well again failed.
    ProbeFailed {
        /// How.
        kind: FailureKind,
    },
    /// The one request that was to find out whether it is well again was answered.
    ProbeSucceeded {
        /// How long its slow start takes.
        ramp: Duration,
    },
    /// Its slow start is over: it has its full share.
    RampEnded,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Streak { failures } => write!(f, "{failures} failures in a row"),
            Self::FailureRate { failures, samples } => write!(f, "{failures} of {samples} attempts failed"),
            Self::SlowerThanPeers { usual, median, factor, peers } => {
                write!(f, "first token in {usual:?}, more than {factor} times the {median:?} of {peers} peers")
            }
            Self::FailsMoreThanPeers { rate, mean, deviation, pool } => {
                write!(f, "success rate {rate:.3}, mean {mean:.3} ± {deviation:.3} of {pool}")
            }
            Self::Refused { kind, hint: false } => write!(f, "{kind}"),
            Self::Refused { kind, hint: true } => write!(f, "{kind}, and said for how long"),
            Self::Domain { failing, members } => write!(f, "its failure domain, {failing} of {members} failing"),
            Self::ProbeFailed { kind } => write!(f, "its probe failed: {kind}"),
            Self::ProbeSucceeded { ramp } => write!(f, "its probe was answered, slow start {ramp:?}"),
            Self::RampEnded => f.write_str("its slow start is over"),
        }
    }
}
