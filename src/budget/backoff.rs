//! Back-off before the *same* backend is tried again. Another backend is tried at once.

use crate::rng::Rng;
use std::time::Duration;

/// Exponential back-off with full jitter: a uniform draw from zero to `base · 2ⁿ`, capped.
///
/// Full jitter spreads a herd best for the same total work (Brooker, *Exponential Backoff And Jitter*, AWS
/// Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Before a backend that failed: 50 ms.
    pub const FAILURE: Self = Self { base: Duration::from_millis(50), cap: Self::CAP };
    /// Before a backend that asked for less: 1 s.
    pub const THROTTLED: Self = Self { base: Duration::from_secs(1), cap: Self::CAP };
    const CAP: Duration = Duration::from_secs(8);

    /// A back-off that starts at `base` and never exceeds `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The wait before retry number `retry` (0 for the first).
    pub fn wait(&self, retry: u32, rng: &mut Rng) -> Duration {
        let ceiling = self.base.saturating_mul(1u32 << retry.min(16)).min(self.cap);
        ceiling.mul_f64(rng.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_full_and_capped() {
        let mut rng = Rng::new(3);
        for (retry, ceiling) in [(0, 50), (1, 100), (4, 800), (40, 8_000)] {
            let waits: Vec<_> = (0..2_000).map(|_| Backoff::FAILURE.wait(retry, &mut rng)).collect();
            let (max, mean) = (waits.iter().max().unwrap(), waits.iter().sum::<Duration>() / 2_000);
            assert!(*max <= Duration::from_millis(ceiling), "{max:?}");
            let middle = Duration::from_millis(ceiling / 2);
            assert!(mean > middle.mul_f64(0.95) && mean < middle.mul_f64(1.05), "{mean:?}");
        }
    }
}
