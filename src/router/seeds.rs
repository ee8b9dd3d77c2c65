//! [`Seeds`]: the randomness of a router.

use super::core::Ticks;
use crate::rng::mix;
use std::sync::atomic::Ordering;

/// Where the seeds of decisions come from.
#[derive(Debug)]
pub(super) enum Seeds {
    /// A sequence that the host fixed: equal runs decide equally.
    Fixed { seed: u64, count: Ticks },
    /// The thread's random generator: no line shared between threads.
    Random,
}

impl Seeds {
    pub(super) fn next(&self) -> u64 {
        match self {
            Self::Fixed { seed, count } => mix(*seed, count.0.fetch_add(1, Ordering::Relaxed)),
            Self::Random => rand::random(),
        }
    }

    /// That of the next request, where it is fixed.
    pub(super) fn peek(&self) -> u64 {
        match self {
            Self::Fixed { seed, count } => mix(*seed, count.0.load(Ordering::Relaxed)),
            Self::Random => rand::random(),
        }
    }
}
