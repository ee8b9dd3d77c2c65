//! [`Ejection`]: when a backend is taken out, for how long, and how it returns.

use std::time::Duration;

/// When a backend is taken out of the running, for how long, and how it returns.
///
/// Whatever took it out, it returns the same way: when its time is over *one* request probes it; success lets it
/// back with a growing share, failure sends it away for longer. Requests beside the probe go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    pub(crate) consecutive: u32,
    pub(crate) eject: Growth,
    pub(crate) overloaded: Growth,
    pub(crate) unreachable: Growth,
    pub(crate) slow_start: Duration,
    pub(crate) off: bool,
}

/// A time that doubles from `base` to `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Growth {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

/// An [`Ejection`] that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("ejection: {0}")]
pub struct InvalidEjection(&'static str);

const fn seconds(base: u64, max: u64) -> Growth {
    Growth { base: Duration::from_secs(base), max: Duration::from_secs(max) }
}

impl Ejection {
    /// Failures in a row that eject: Envoy's `consecutive_5xx`.
    pub const CONSECUTIVE: u32 = 5;
    /// The first ejection lasts this long, each next one twice as long; starts anew after a slow start without
    /// failure.
    pub const EJECT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
    /// How long a backend rests that says it is overloaded and gives no hint: short, for it knows best, and
    /// doubling, because it said so before.
    pub const OVERLOADED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
    /// How long a backend rests that can not be reached. Trying costs a refused connect and no load.
    pub const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
    /// How long a backend that returns takes to get its full share.
    pub const SLOW_START: Duration = Duration::from_secs(60);
    /// The lease of a probe: one that never ends is given up after this time, and another may go.
    pub const PROBE_LEASE: Duration = Duration::from_secs(30);
    /// The share at which a slow start begins, in thousandths.
    pub const FIRST_SHARE: u32 = 100;
    /// How long a model rests on a backend that does not have it.
    pub const MODEL_UNAVAILABLE: Duration = Duration::from_secs(60);
    /// How long a refused credential rests.
    pub const UNAUTHORIZED: Duration = Duration::from_secs(60);
    /// How long a credential without credit rests, where no hint says otherwise.
    pub const QUOTA_EXHAUSTED: Duration = Duration::from_secs(300);
    /// How long a backend rests after 429 without a hint, at first and at most.
    pub const RATE_LIMITED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

    /// Short rests and a ramp of a third of a second: for pools of stateless servers close by, where a refused connect
    /// costs less than a millisecond and a returning server is warm.
    pub const fn fast() -> Self {
        Self {
            consecutive: Self::CONSECUTIVE,
            eject: seconds(1, 8),
            overloaded: seconds(1, 4),
            unreachable: Growth { base: Duration::from_millis(700), max: Duration::from_millis(1100) },
            slow_start: Duration::from_millis(300),
            off: false,
        }
    }

    /// No failure takes a backend out, and a backend that joins takes its share at once: for hosts that judge
    /// backends themselves, by a health signal or a policy.
    pub fn off() -> Self {
        Self { slow_start: Duration::ZERO, off: true, ..Self::default() }
    }

    /// How many failures in a row eject.
    #[must_use]
    pub const fn consecutive(mut self, failures: u32) -> Self {
        self.consecutive = failures;
        self
    }

    /// How long an ejection lasts, at first and at most.
    #[must_use]
    pub const fn eject_for(mut self, base: Duration, max: Duration) -> Self {
        self.eject = Growth { base, max };
        self
    }

    /// How long an overloaded backend rests, at first and at most.
    #[must_use]
    pub const fn rest_overloaded(mut self, base: Duration, max: Duration) -> Self {
        self.overloaded = Growth { base, max };
        self
    }

    /// How long an unreachable backend rests, at first and at most.
    #[must_use]
    pub const fn rest_unreachable(mut self, base: Duration, max: Duration) -> Self {
        self.unreachable = Growth { base, max };
        self
    }

    /// How long a returning backend takes to get its full share; zero for at once.
    #[must_use]
    pub const fn slow_start(mut self, ramp: Duration) -> Self {
        self.slow_start = ramp;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidEjection> {
        if self.consecutive == 0 {
            return Err(InvalidEjection("0 failures in a row would eject every backend at once"));
        }
        for growth in [self.eject, self.overloaded, self.unreachable] {
            if growth.base.is_zero() || growth.base > growth.max {
                return Err(InvalidEjection("a rest must be longer than zero and no longer than its maximum"));
            }
        }
        Ok(())
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive: Self::CONSECUTIVE,
            eject: Growth { base: Self::EJECT.0, max: Self::EJECT.1 },
            overloaded: Growth { base: Self::OVERLOADED.0, max: Self::OVERLOADED.1 },
            unreachable: Growth { base: Self::UNREACHABLE.0, max: Self::UNREACHABLE.1 },
            slow_start: Self::SLOW_START,
            off: false,
        }
    }
}

impl Growth {
    /// The rest after the `trips`-th trip in a row (1 for the first).
    pub(crate) fn after(self, trips: u32) -> Duration {
        self.base.saturating_mul(1 << trips.saturating_sub(1).min(20)).min(self.max)
    }
}
