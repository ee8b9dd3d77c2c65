//! [`Curve`]: how the share of a returning backend grows.

use super::Ejection;

/// The share of a slow start over its time: `max(0.1, (t / T)^(1 / aggression))`, as a table, so that a decision looks
/// up two numbers and draws no root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve([u16; STEPS + 1]);

const STEPS: usize = 64;
/// Where the share is whole.
const WHOLE: u64 = 1000;

impl Curve {
    pub(crate) fn new(aggression: f64) -> Self {
        let share = |step| (step as f64 / STEPS as f64).powf(1.0 / aggression);
        Self(std::array::from_fn(|step| (share(step) * WHOLE as f64).round() as u16))
    }

    /// The share in thousandths when `passed` of `whole` is over; `None` when all of it is.
    pub(crate) fn share(&self, passed: u64, whole: u64) -> Option<u32> {
        if passed >= whole {
            return None;
        }
        let place = u128::from(passed) * STEPS as u128;
        let (step, rest) = ((place / u128::from(whole)) as usize, place % u128::from(whole));
        let (low, high) = (u128::from(self.0[step]), u128::from(self.0[step + 1]));
        let share = low + (high - low) * rest / u128::from(whole);
        Some((share as u32).max(Ejection::FIRST_SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_the_formula() {
        for (aggression, most) in [(1.0, 2.0), (2.0, 13.0), (0.5, 2.0), (1.5, 5.0)] {
            let curve = Curve::new(aggression);
            for passed in 0..60_000u32 {
                let exact = (f64::from(passed) / 60_000.0).powf(1.0 / aggression).max(0.1) * 1000.0;
                let share = f64::from(curve.share(passed.into(), 60_000).unwrap());
                assert!((share - exact).abs() <= most, "{share} for {exact} at {passed}, aggression {aggression}");
            }
        }
    }

    #[test]
    fn the_share_ends_and_does_not_overflow() {
        let curve = Curve::new(1.0);
        assert_eq!(curve.share(0, 0), None);
        assert_eq!((curve.share(0, 1), curve.share(1, 1)), (Some(100), None));
        assert_eq!(curve.share(u64::MAX - 1, u64::MAX), Some(999));
        assert_eq!(curve.share(u64::MAX, u64::MAX), None);
        let shares: Vec<_> = (0..1000).map(|passed| Curve::new(0.01).share(passed, 1000).unwrap()).collect();
        assert!(shares.is_sorted());
    }
}
