//! [`Throttle`]: what share of the requests to a backend is not even sent, because it refuses what it gets.

use super::window::{Tally, Window};
use crate::backend::{FailureKind, Fault};
use crate::time::{Dated, Instant};
use parking_lot::Mutex;
use std::time::Duration;

/// The client-side throttle of Google's
/// [site reliability book](https://sre.google/sre-book/handling-overload/#eq2101): of the requests to a backend a share of
/// `max(0, (requests − 2 · accepts) / (requests + 8))` is refused here, so that it gets about twice what it accepts, and
/// spends its time on answers instead of refusals.
///
/// Both are counted when the outcome is known. Counted at send, the requests of a cold start would stand against no
/// accepts until the first answers come, and lock out a backend that is well. What is refused here counts as a request.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// In thousandths; what decisions read.
    share: Dated,
    counts: Mutex<Window<SECONDS>>,
}

/// Two minutes at least, for the oldest tenth leaves at once; and more where calls take long.
const SECONDS: u64 = 140;
/// The share is not believed for longer than anything it was made of.
const BELIEVED: Duration = Duration::from_secs(SECONDS);
/// How many requests a backend may get for each that it accepts.
const K: u64 = 2;
/// So many requests are nothing to judge by.
const PAD: u64 = 8;
/// The rest finds out whether the backend accepts more, in thousandths.
const MOST: u64 = 900;

const ACCEPTED: Tally = Tally { good: 1, failed: 0, refused: 0 };
const REFUSED: Tally = Tally { good: 0, failed: 0, refused: 1 };

impl Throttle {
    /// The share of requests that is not to be sent, in thousandths.
    #[inline]
    pub(crate) fn share(&self, now: Instant) -> u32 {
        self.share.read(now, BELIEVED).0 as u32
    }

    /// A request was answered after `elapsed`.
    pub(crate) fn accepted(&self, elapsed: Duration, now: Instant) {
        self.count(ACCEPTED, elapsed, now);
    }

    /// A request failed after `elapsed`. Only an overload or a quota refuses; the caller's fault was found by somebody
    /// who had the time to look, and other failures say nothing of either.
    pub(crate) fn failed(&self, kind: FailureKind, elapsed: Duration, now: Instant) {
        match kind {
            FailureKind::Overloaded | FailureKind::RateLimited => self.count(REFUSED, elapsed, now),
            _ if kind.conduct().fault == Fault::Caller => self.count(ACCEPTED, elapsed, now),
            _ => {}
        }
    }

    /// A request was not sent, for the share of this backend.
    pub(crate) fn held_back(&self, now: Instant) {
        self.count(REFUSED, Duration::ZERO, now);
    }

    fn count(&self, ended: Tally, elapsed: Duration, now: Instant) {
        let mut counts = self.counts.lock();
        counts.count(ended, elapsed, now);
        let Tally { good, refused, .. } = counts.tally(now);
        let requests = good + refused;
        let share = requests.saturating_sub(K * good) * 1000 / (requests + PAD);
        self.share.set(Some(share.min(MOST)), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos((1 + millis) * 1_000_000)
    }

    #[test]
    fn the_share_is_that_of_the_book() {
        let throttle = Throttle::default();
        (0..30).for_each(|n| throttle.accepted(Duration::ZERO, at(n)));
        (0..62).for_each(|n| throttle.failed(FailureKind::Overloaded, Duration::ZERO, at(30 + n)));
        // (92 − 2 · 30) / (92 + 8)
        assert_eq!(throttle.share(at(100)), 320);
        // Other failures change nothing; the caller's fault was accepted.
        throttle.failed(FailureKind::ServerError, Duration::ZERO, at(100));
        throttle.failed(FailureKind::Timeout, Duration::ZERO, at(100));
        assert_eq!(throttle.share(at(100)), 320);
        throttle.failed(FailureKind::InvalidRequest, Duration::ZERO, at(100));
        assert_eq!(throttle.share(at(100)), 31 * 1000 / 101);
        throttle.held_back(at(100));
        assert_eq!(throttle.share(at(100)), 32 * 1000 / 102);
        assert_eq!(throttle.share(at(100 + SECONDS * 1000 + 1)), 0);
    }

    #[test]
    fn a_tenth_always_gets_through() {
        let throttle = Throttle::default();
        (0..10_000).for_each(|n| throttle.failed(FailureKind::RateLimited, Duration::ZERO, at(n)));
        assert_eq!(throttle.share(at(10_000)), 900);
    }

    #[test]
    fn a_backend_gets_about_twice_what_it_accepts() {
        // A hundred requests a second for ten minutes; ten of them are accepted.
        let (throttle, mut rng, mut sent) = (Throttle::default(), Rng::new(1), 0u32);
        for n in 0..60_000u64 {
            let now = at(n * 10);
            if (rng.below(1000) as u32) < throttle.share(now) {
                throttle.held_back(now);
                continue;
            }
            sent += u32::from(n >= 12_000);
            match n % 10 {
                0 => throttle.accepted(Duration::ZERO, now),
                _ => throttle.failed(FailureKind::Overloaded, Duration::ZERO, now),
            }
        }
        // The backend accepts the first of each ten requests, if that is sent: the share is at its most.
        let per_second = f64::from(sent) / 480.0;
        assert!((9.0..12.0).contains(&per_second), "{per_second}");
    }
}
