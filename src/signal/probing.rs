//! [`Probing`]: how often, how long, and what follows.

use super::InvalidSignal;
use crate::rng::mix;
use std::time::Duration;

/// How often backends are probed, and what follows from it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Probing {
    interval: Duration,
    limit: Duration,
    jitter: f64,
    pub(super) unhealthy_after: u32,
    pub(super) healthy_after: u32,
}

impl Probing {
    /// The time from one check of a backend to the next.
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// How long a check may take.
    pub const LIMIT: Duration = Duration::from_secs(1);
    /// By which share of itself an interval may be shorter or longer.
    pub const JITTER: f64 = 0.2;
    /// After how many failed checks in a row a backend that was well is ill.
    pub const UNHEALTHY_AFTER: u32 = 3;
    /// After how many passed checks in a row a backend that was ill is well.
    pub const HEALTHY_AFTER: u32 = 2;

    /// The time from one check of a backend to the next; default 5 s.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a check may take, then it has failed; default 1 s.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// By which share of itself an interval may be shorter or longer, in `[0, 1)`; default 0.2. It keeps many routers
    /// from probing one backend at the same moment.
    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// After how many failed checks in a row a backend that was well is ill; default 3.
    #[must_use]
    pub const fn unhealthy_after(mut self, checks: u32) -> Self {
        self.unhealthy_after = checks;
        self
    }

    /// After how many passed checks in a row a backend that was ill is well; default 2.
    #[must_use]
    pub const fn healthy_after(mut self, checks: u32) -> Self {
        self.healthy_after = checks;
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidSignal> {
        if self.interval.is_zero() {
            return Err(InvalidSignal::ZeroInterval);
        }
        if self.limit.is_zero() {
            return Err(InvalidSignal::ZeroLimit);
        }
        if self.limit > self.interval {
            return Err(InvalidSignal::LimitOverInterval { limit: self.limit, interval: self.interval });
        }
        if !(0.0..1.0).contains(&self.jitter) {
            return Err(InvalidSignal::InvalidJitter(self.jitter));
        }
        let thresholds = [("unhealthy_after", self.unhealthy_after), ("healthy_after", self.healthy_after)];
        match thresholds.into_iter().find(|(_, checks)| *checks == 0) {
            Some((name, _)) => Err(InvalidSignal::ZeroThreshold(name)),
            None => Ok(()),
        }
    }

    /// How long a verdict is fresh: two of the longest rounds, so that one may be missing.
    pub(super) fn fresh_for(&self) -> Duration {
        self.times(1.0 + self.jitter).saturating_add(self.limit).saturating_mul(2)
    }

    /// The pause before the next check, drawn with `seed`.
    pub(crate) fn pause(&self, seed: u64) -> Duration {
        let draw = (mix(seed, JITTER_STREAM) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        self.times(1.0 + self.jitter * draw)
    }

    fn times(&self, factor: f64) -> Duration {
        Duration::try_from_secs_f64(self.interval.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }

    /// How long a check may take.
    pub(crate) const fn time_limit(&self) -> Duration {
        self.limit
    }
}

/// Separates the draws for pauses from other draws of the seed.
const JITTER_STREAM: u64 = 0x5052_4f42;

impl Default for Probing {
    fn default() -> Self {
        Self {
            interval: Self::INTERVAL,
            limit: Self::LIMIT,
            jitter: Self::JITTER,
            unhealthy_after: Self::UNHEALTHY_AFTER,
            healthy_after: Self::HEALTHY_AFTER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_over_the_jitter_and_centred() {
        let probing = Probing::default().every(Duration::from_secs(10)).jitter(0.2);
        let pauses: Vec<f64> = (0..10_000).map(|seed| probing.pause(seed).as_secs_f64()).collect();
        assert!(pauses.iter().all(|pause| (8.0..=12.0).contains(pause)));
        assert!((pauses.iter().sum::<f64>() / 10_000.0 - 10.0).abs() < 0.05);
        assert!(pauses.iter().any(|pause| *pause < 8.1) && pauses.iter().any(|pause| *pause > 11.9));
        assert_eq!(probing.jitter(0.0).pause(3), Duration::from_secs(10));
    }

    #[test]
    fn the_longest_interval_does_not_overflow() {
        let probing = Probing::default().every(Duration::MAX);
        probing.check().unwrap();
        assert_eq!(probing.fresh_for(), Duration::MAX);
        probing.pause(1);
    }
}
