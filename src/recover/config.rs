//! [`Ejection`]: when a backend is taken out, for how long, and how it returns.

use std::time::Duration;

/// When a backend is taken out of the running, for how long, and how it returns.
///
/// Two kinds of evidence take a backend out. What this router *experienced* there is a fact and needs nobody else:
/// failures [in a row](Self::consecutive), a [failure rate](Self::failure_rate), a refusal. What is *inferred* by
/// comparison with its peers of the same model and region ([latency](Self::slower_than_peers),
/// [success rate](Self::fails_more_than_peers)) may be wrong about all of them, so it takes out at most
/// [a share](Self::max_outliers) and leaves [some](Self::min_available) in.
///
/// Whatever took it out, it returns the same way: when its time is over *one* request probes it; success lets it
/// back with a growing share, failure sends it away for longer. Requests beside the probe go elsewhere.
///
/// ```
/// use fallway::recover::Ejection;
/// use std::time::Duration;
///
/// let ejection = Ejection::default()
///     .consecutive(3)
///     .slower_than_peers(Ejection::LATENCY_FACTOR)
///     .slow_start(Duration::from_secs(30));
/// assert_ne!(ejection, Ejection::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    pub(crate) consecutive: u32,
    pub(crate) eject: Growth,
    pub(crate) overloaded: Growth,
    pub(crate) unreachable: Growth,
    pub(crate) slow_start: Duration,
    pub(crate) aggression: f64,
    pub(crate) failure_rate: Option<f64>,
    pub(crate) latency: Option<f64>,
    pub(crate) deviations: Option<f64>,
    pub(crate) max_outliers: f64,
    pub(crate) min_available: u32,
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
    /// The share of failed attempts that ejects.
    pub const FAILURE_RATE: f64 = 0.8;
    /// Attempts in the [window](Self::WINDOW) without which a rate, or a latency, means nothing. A backend with less
    /// traffic is ejected by its failures in a row.
    pub const MIN_SAMPLES: u32 = 5;
    /// Over which attempts a rate is a rate: those that ended in this time, or in twice the time of the longest of
    /// them.
    pub const WINDOW: Duration = Duration::from_secs(30);
    /// How many times the median of its peers' time to first token is too much, where latencies are compared. They
    /// are not by default: a pool may be unequal and serve well.
    pub const LATENCY_FACTOR: f64 = 3.0;
    /// Peers with [enough](Self::MIN_SAMPLES) samples without which a latency is compared with nothing.
    pub const LATENCY_PEERS: u32 = 3;
    /// How many standard deviations below the mean of its pool a success rate is too low: Envoy's
    /// `success_rate_stdev_factor`.
    pub const DEVIATIONS: f64 = 1.9;
    /// Backends with enough samples, itself included, without which a success rate is compared with nothing. In a
    /// pool of four no backend can be 1.9 deviations from a mean that it is part of.
    pub const SUCCESS_POOL: u32 = 10;
    /// Attempts in the window without which a success rate is compared with nothing.
    pub const SUCCESS_SAMPLES: u32 = 20;
    /// A success rate is too low only if it is below the mean by this much as well: where all others are perfect, one
    /// failure is many deviations.
    pub const SUCCESS_GAP: f64 = 0.1;
    /// The share of a pool (the backends of one model in one region) that comparisons take out at most, counting
    /// those that are out for whatever reason.
    pub const MAX_OUTLIERS: f64 = 0.5;
    /// How many backends of a pool comparisons leave in at least.
    pub const MIN_AVAILABLE: u32 = 1;
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
    /// The shape of a slow start: the share grows as `(t / T)^(1 / aggression)`.
    pub const AGGRESSION: f64 = 1.0;
    /// Within this time a failure domain has to fail to go out as one: several of its members, and no answer from
    /// any of them in between.
    pub const DOMAIN_WINDOW: Duration = Duration::from_secs(5);
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

    pub(crate) const DEFAULT: Self = Self {
        consecutive: Self::CONSECUTIVE,
        eject: Growth { base: Self::EJECT.0, max: Self::EJECT.1 },
        overloaded: Growth { base: Self::OVERLOADED.0, max: Self::OVERLOADED.1 },
        unreachable: Growth { base: Self::UNREACHABLE.0, max: Self::UNREACHABLE.1 },
        slow_start: Self::SLOW_START,
        aggression: Self::AGGRESSION,
        failure_rate: Some(Self::FAILURE_RATE),
        latency: None,
        deviations: Some(Self::DEVIATIONS),
        max_outliers: Self::MAX_OUTLIERS,
        min_available: Self::MIN_AVAILABLE,
        off: false,
    };

    /// Short rests and a ramp of a third of a second: for pools of stateless servers close by, where a refused connect
    /// costs less than a millisecond and a returning server is warm.
    pub const fn fast() -> Self {
        Self {
            eject: seconds(1, 8),
            overloaded: seconds(1, 4),
            unreachable: Growth { base: Duration::from_millis(700), max: Duration::from_millis(1100) },
            slow_start: Duration::from_millis(300),
            ..Self::DEFAULT
        }
    }

    /// No failure takes a backend out, and a backend that joins takes its share at once: for hosts that judge
    /// backends themselves, by a health signal or a policy.
    pub const fn off() -> Self {
        Self { slow_start: Duration::ZERO, off: true, ..Self::DEFAULT }
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

    /// The shape of a slow start: with 1 the share grows evenly, with more it grows early, with less late.
    #[must_use]
    pub const fn aggression(mut self, aggression: f64) -> Self {
        self.aggression = aggression;
        self
    }

    /// The share of failed attempts, above 0 and up to 1, that ejects; `None` for failures in a row only.
    #[must_use]
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.failure_rate = rate.into();
        self
    }

    /// Ejects a backend whose time to first token is more than so many times the median of its peers; `None`, the
    /// default, for no comparison. For pools whose backends are meant to be equal.
    #[must_use]
    pub fn slower_than_peers(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.latency = factor.into();
        self
    }

    /// Ejects a backend whose success rate is so many standard deviations below the mean of its pool; `None` for no
    /// comparison.
    #[must_use]
    pub fn fails_more_than_peers(mut self, deviations: impl Into<Option<f64>>) -> Self {
        self.deviations = deviations.into();
        self
    }

    /// The share of a pool, from 0 to 1, that comparisons take out at most.
    #[must_use]
    pub const fn max_outliers(mut self, share: f64) -> Self {
        self.max_outliers = share;
        self
    }

    /// How many backends of a pool comparisons leave in at least.
    #[must_use]
    pub const fn min_available(mut self, backends: u32) -> Self {
        self.min_available = backends;
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
        // Written so that NaN passes none of them.
        if !(0.01..=100.0).contains(&self.aggression) {
            return Err(InvalidEjection("the aggression of a slow start must lie between 0.01 and 100"));
        }
        if self.failure_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            return Err(InvalidEjection("a failure rate must lie above 0, up to 1"));
        }
        if self.latency.is_some_and(|factor| !(factor > 1.0 && factor.is_finite())) {
            return Err(InvalidEjection("a backend is slower than its peers from a factor above 1 on"));
        }
        if self.deviations.is_some_and(|deviations| !(deviations > 0.0 && deviations.is_finite())) {
            return Err(InvalidEjection("a success rate is too low from more than 0 deviations on"));
        }
        if !(0.0..=1.0).contains(&self.max_outliers) {
            return Err(InvalidEjection("the share of a pool that comparisons take out must lie between 0 and 1"));
        }
        Ok(())
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Growth {
    /// The rest after the `trips`-th trip in a row (1 for the first).
    pub(crate) fn after(self, trips: u32) -> Duration {
        self.base.saturating_mul(1 << trips.saturating_sub(1).min(20)).min(self.max)
    }
}
