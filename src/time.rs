//! The only door to a clock.
//!
//! Everything below the router takes `now` as an argument. The router reads the clock through its [`Timer`] once
//! at the start of a decision and once at the end of an attempt, so a test, a simulator and production differ in
//! one object only.

mod dated;

pub(crate) use dated::Dated;

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// A point on the router's time line, in nanoseconds. Only differences mean anything.
///
/// Unlike [`std::time::Instant`] it can be made by hand ([`Instant::from_nanos`]), and its arithmetic saturates:
/// a clock that jumps backwards or a century ahead yields a wrong duration, never a panic.
///
/// ```
/// use fallway::time::Instant;
/// use std::time::Duration;
/// let t = Instant::from_nanos(5_000_000_000);
/// assert_eq!((t + Duration::from_secs(1)) - t, Duration::from_secs(1));
/// assert_eq!(t - (t + Duration::from_secs(1)), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanos` nanoseconds after the origin of its time line.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin of its time line.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds since `earlier`; zero when `earlier` is later. Without the division that a [`Duration`] costs.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `nanos` nanoseconds later.
    pub(crate) const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// When the [`Clock`] will show it, or did, by what the system's clock shows now. What is a day and more before the start of
/// the process may be the first of all instants, and what is centuries ahead the last. Where the system's clock is wrong,
/// so is this, by as much; it does not change when that is set right.
///
/// ```
/// use fallway::time::{Clock, Instant};
/// use std::time::{Duration, SystemTime};
/// let in_an_hour = Instant::from(SystemTime::now() + Duration::from_secs(3_600));
/// assert!((in_an_hour - Clock.now()).as_secs().abs_diff(3_600) <= 1);
/// ```
impl From<SystemTime> for Instant {
    #[expect(clippy::disallowed_methods, reason = "this is where the two clocks meet")]
    fn from(wall: SystemTime) -> Self {
        let now = Clock.now();
        match wall.duration_since(SystemTime::now()) {
            Ok(ahead) => now + ahead,
            Err(past) => now - past.duration(),
        }
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(rhs)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0 as f64 / 1e9)
    }
}

/// A duration in whole nanoseconds, saturating at 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A future that completes when its moment has come.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells the time and wakes up at a given moment: all that the router needs of a runtime.
///
/// `now` must not run backwards and must be cheap; it is on the path of every decision.
pub trait Timer: fmt::Debug + Send + Sync + 'static {
    /// The current instant.
    fn now(&self) -> Instant;

    /// Completes at or after `at`. Dropping the future cancels the wake-up.
    fn sleep_until(&self, at: Instant) -> Sleep;
}

/// The process-wide monotonic clock, read from the CPU's time stamp counter where that is reliable.
///
/// All instances share one origin, so instants of two of them compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

/// Where [`Clock`] starts: one day, so that "an hour ago" is representable in a fresh process.
const ORIGIN: u64 = 86_400 * 1_000_000_000;

impl Clock {
    /// The current instant.
    pub fn now(self) -> Instant {
        static START: OnceLock<(quanta::Clock, u64)> = OnceLock::new();
        let (clock, start) = START.get_or_init(|| {
            let clock = quanta::Clock::new();
            let start = clock.raw();
            (clock, start)
        });
        Instant(ORIGIN.saturating_add(clock.delta_as_nanos(*start, clock.raw())))
    }
}

/// The default [`Timer`]: [`Clock`] plus a portable timer thread that needs no runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTimer {
    clock: Clock,
}

impl Timer for SystemTimer {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Box::pin(futures_timer::Delay::new(at - self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "this is where the two clocks meet")]
    fn what_the_wall_shows_is_an_instant_of_the_clock() {
        let day = Duration::from_secs(86_400);
        let near = |wall, ahead: i64| {
            let expected = i128::from(Clock.now().as_nanos()) + i128::from(ahead) * 1_000_000_000;
            (i128::from(Instant::from(wall).as_nanos()) - expected).abs() < 1_000_000_000
        };
        let now = SystemTime::now();
        assert!(near(now, 0) && near(now + day * 400, 400 * 86_400) && near(now - day / 2, -43_200));
        // Before the time line, and behind its end.
        assert_eq!(Instant::from(SystemTime::UNIX_EPOCH), Instant::from_nanos(0));
        assert_eq!(Instant::from(now + day * 366 * 700), Instant::from_nanos(u64::MAX));
    }
}
