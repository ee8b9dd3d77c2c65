//! Whether a canary is worse than what it would replace: the same windows, both counted, and chance ruled out.

use crate::FailureKind;
use crate::backend::Fault;
use crate::time::{Instant, nanos};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Which of the two a request went to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arm {
    /// What is trusted.
    Stable,
    /// What is being tried.
    Canary,
}

/// How a request ended, as far as it says something about the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// Answered, the first token after so long.
    Answered(Duration),
    /// Failed, by its own fault.
    Failed,
    /// Failed, by its own fault, after it was noted as answered: a stream that broke. It is no other request.
    Broke,
}

impl Observation {
    /// What a failure says of a version: nothing where the caller, a quota, a credential, the network or this process was
    /// at fault, nor where a backend only had too much to do.
    pub fn failure(kind: FailureKind) -> Option<Self> {
        let own = matches!(kind.conduct().fault, Fault::Backend | Fault::Model) && kind != FailureKind::Overloaded;
        own.then_some(Self::Failed)
    }
}

/// What speaks against a version, or for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Evidence {
    /// Failures and requests of the canary.
    pub canary: (u64, u64),
    /// The same of what is trusted, over the same windows.
    pub stable: (u64, u64),
    /// The 95th percentile of the time to first token of the canary and of the other, in the last window that was
    /// full enough.
    pub p95: Option<(Duration, Duration)>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (canary, stable) = (self.canary, self.stable);
        write!(f, "{} of {} failed, of the stable version {} of {}", canary.0, canary.1, stable.0, stable.1)?;
        match self.p95 {
            Some((canary, stable)) => write!(f, "; p95 {canary:.1?}, of the stable version {stable:.1?}"),
            None => Ok(()),
        }
    }
}

/// What a [`Judge`] says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// Too little was seen. Neither way.
    Hold,
    /// Nothing speaks against the canary.
    Sound(Evidence),
    /// It fails more often, and not by chance.
    Failing(Evidence),
    /// It is slower, window after window.
    Slow(Evidence),
    /// Both are bad: the cause is elsewhere, and going back would mend nothing.
    InconclusiveSharedFailure(Evidence),
}

impl Verdict {
    /// What to roll back for: see [`Registry::roll_back_version`](super::Registry::roll_back_version).
    pub const fn rolls_back(&self) -> Option<Evidence> {
        match self {
            Self::Failing(evidence) | Self::Slow(evidence) => Some(*evidence),
            _ => None,
        }
    }
}

/// Compares a canary with what it would replace, by what requests saw. A state machine in the host's time.
///
/// It looks at the shortest run of windows, back from now, in which both had [`ENOUGH`](Self::ENOUGH) requests: a canary
/// that fails at once is seen at once, one with little traffic is judged late and not wrongly. The test for
/// proportions is the pooled two-proportion z-test, one-sided.
///
/// ```
/// use fallway::registry::{Arm, Judge, Observation, Verdict};
/// use fallway::time::Instant;
/// use std::time::Duration;
/// let mut judge = Judge::new();
/// let now = Instant::from_nanos(0);
/// for n in 0..100 {
///     judge.observe(Arm::Stable, Observation::Answered(Duration::from_millis(200)), now);
///     let failed = n % 5 == 0;
///     let seen = if failed { Observation::Failed } else { Observation::Answered(Duration::from_millis(200)) };
///     judge.observe(Arm::Canary, seen, now);
/// }
/// assert!(matches!(judge.verdict(now), Verdict::Failing(evidence) if evidence.canary == (20, 100)));
/// ```
#[derive(Clone, Debug)]
pub struct Judge {
    windows: VecDeque<Window>,
    slow: u32,
    p95: Option<(Duration, Duration)>,
}

#[derive(Clone, Debug)]
struct Window {
    number: u64,
    stable: Tally,
    canary: Tally,
}

/// What one of them did within a window.
#[derive(Clone, Debug, Default)]
struct Tally {
    failed: u64,
    all: u64,
    /// Times to first token in nanoseconds, the first so many: enough for a percentile, and bounded.
    times: Vec<u64>,
}

/// How many times a window keeps.
const TIMES: usize = 2_048;
/// So many times make a percentile.
const MANY: usize = 20;
/// How many windows are looked back upon: ten minutes.
const WINDOWS: u64 = 60;

impl Judge {
    /// The requests of each without which nothing is said.
    pub const ENOUGH: u64 = 50;
    /// The length of a window.
    pub const WINDOW: Duration = Duration::from_secs(10);
    /// By how many percent points more of its requests fail.
    pub const POINTS: f64 = 5.0;
    /// So many times the failures, or the time to first token, of the other.
    pub const TIMES: u32 = 2;
    /// The chance below which chance is ruled out.
    pub const SIGNIFICANCE: f64 = 0.01;
    /// For so many windows it must be slower.
    pub const SLOW_WINDOWS: u32 = 3;
    /// The share of failures from which on both are bad.
    pub const SHARED: f64 = 0.2;

    /// Nothing was seen yet.
    pub const fn new() -> Self {
        Self { windows: VecDeque::new(), slow: 0, p95: None }
    }

    /// Notes how a request ended. What says nothing about a version is not noted: see [`Observation::failure`].
    pub fn observe(&mut self, arm: Arm, seen: Observation, now: Instant) {
        self.advance(now);
        // A clock that ran backwards counts in the newest window.
        let Some(window) = self.windows.back_mut() else { return };
        let tally = match arm {
            Arm::Stable => &mut window.stable,
            Arm::Canary => &mut window.canary,
        };
        tally.all += u64::from(seen != Observation::Broke);
        match seen {
            Observation::Failed | Observation::Broke => tally.failed += 1,
            Observation::Answered(time) if tally.times.len() < TIMES => tally.times.push(nanos(time)),
            Observation::Answered(_) => {}
        }
    }

    /// Opens the window of `now`, and judges the times of the one before.
    fn advance(&mut self, now: Instant) {
        let number = now.as_nanos() / nanos(Self::WINDOW);
        let last = self.windows.back_mut();
        if let Some(last) = last {
            if last.number >= number {
                return;
            }
            // A window with too few times says nothing, neither for nor against.
            if let (Some(canary), Some(stable)) = (last.canary.close(), last.stable.close()) {
                let slow = canary >= stable.saturating_mul(u64::from(Self::TIMES)) && canary > 0;
                self.slow = if slow { self.slow + 1 } else { 0 };
                self.p95 = Some((Duration::from_nanos(canary), Duration::from_nanos(stable)));
            }
        }
        self.windows.push_back(Window { number, stable: Tally::default(), canary: Tally::default() });
        while self.windows.front().is_some_and(|first| first.number + WINDOWS <= number) {
            self.windows.pop_front();
        }
    }

    /// What can be said now.
    pub fn verdict(&mut self, now: Instant) -> Verdict {
        self.advance(now);
        let (mut canary, mut stable) = ((0, 0), (0, 0));
        for window in self.windows.iter().rev() {
            canary = (canary.0 + window.canary.failed, canary.1 + window.canary.all);
            stable = (stable.0 + window.stable.failed, stable.1 + window.stable.all);
            if canary.1 >= Self::ENOUGH && stable.1 >= Self::ENOUGH {
                // What broke now may have been answered in a window before these.
                let most = |(failed, all): (u64, u64)| (failed.min(all), all);
                return self.compare(Evidence { canary: most(canary), stable: most(stable), p95: self.p95 });
            }
        }
        Verdict::Hold
    }

    fn compare(&self, evidence: Evidence) -> Verdict {
        let share = |(failed, all): (u64, u64)| failed as f64 / all as f64;
        let (canary, stable) = (share(evidence.canary), share(evidence.stable));
        if canary >= Self::SHARED && stable >= Self::SHARED {
            return Verdict::InconclusiveSharedFailure(evidence);
        }
        // In integers, so that exactly five points and exactly twice count.
        let ((f, n), (g, m)) = (evidence.canary, evidence.stable);
        let wide = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let points = wide(f, m) * 100 >= wide(g, n) * 100 + wide(n, m) * Self::POINTS as u128;
        let times = wide(f, m) >= wide(g, n) * u128::from(Self::TIMES);
        if points && times && chance(evidence.canary, evidence.stable) < Self::SIGNIFICANCE {
            return Verdict::Failing(evidence);
        }
        if self.slow >= Self::SLOW_WINDOWS { Verdict::Slow(evidence) } else { Verdict::Sound(evidence) }
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// The 95th percentile, where there are enough for one. The times are let go.
    fn close(&mut self) -> Option<u64> {
        let mut times = std::mem::take(&mut self.times);
        if times.len() < MANY {
            return None;
        }
        let rank = (times.len() * 95).div_ceil(100) - 1;
        Some(*times.select_nth_unstable(rank).1)
    }
}

/// The chance that the first fails at least so much more often, were both alike.
fn chance(first: (u64, u64), second: (u64, u64)) -> f64 {
    let (n, m) = (first.1 as f64, second.1 as f64);
    let pooled = (first.0 + second.0) as f64 / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    if error == 0.0 {
        return 1.0;
    }
    upper_tail((first.0 as f64 / n - second.0 as f64 / m) / error)
}

/// The upper tail of the normal distribution: Abramowitz and Stegun 26.2.17, good to 7.5e-8.
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = series.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if z < 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_normal_distribution() {
        // From any table.
        for (z, tail) in
            [(0.0, 0.5), (1.0, 0.158_655_25), (1.644_853_6, 0.05), (2.326_347_9, 0.01), (-1.0, 0.841_344_75)]
        {
            assert!((upper_tail(z) - tail).abs() < 2e-7, "{z}: {}", upper_tail(z));
        }
        assert_eq!(chance((0, 50), (0, 50)), 1.0);
        assert_eq!(chance((50, 50), (50, 50)), 1.0);
    }
}
