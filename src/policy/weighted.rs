//! `weighted`: shares in proportion to the profiles' weights, smoothly.
//!
//! Use it for fixed shares: contracts, canaries by hand, machines of known different size. Like `round_robin` it
//! looks at no load.

use super::{PlanContext, RoutingPolicy, Slate};
use crate::rng::GOLDEN;

/// See [`weighted`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Weighted;

/// A leaf that gives each usable backend its share by weight.
///
/// The choice walks the cumulated weights in steps of the golden ratio (a Weyl sequence): deterministic, without
/// bursts, and after `n` decisions the share of a backend is off by O(log n / n), where independent random draws
/// are off by O(1/√n). A share of 1 % is 1 % in any hundred requests, not "1 % one day".
///
/// In a pool of more than 64 backends the weights are compared among the 64 that the decision looked at: shares hold
/// on average as far as such windows are alike, and one heavy backend among many light ones gets less than its share.
///
/// ```
/// use fallway::{Profile, policy::weighted};
/// let profiles = [Profile::new("stable").weight(99.0), Profile::new("canary").weight(1.0)];
/// let policy = weighted();
/// # let _ = (profiles, policy);
/// ```
pub const fn weighted() -> Weighted {
    Weighted
}

impl RoutingPolicy for Weighted {
    fn name(&self) -> &'static str {
        "weighted"
    }

    fn plan(&self, _: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (level, front) = slate.front();
        if front == 0 {
            return;
        }
        let mut total = 0.0;
        slate.each(|candidate| {
            if candidate.level() == level {
                total += candidate.profile().relative_weight();
            }
        });
        let position = slate.tick().wrapping_mul(GOLDEN) as f64 / 2f64.powi(64) * total;
        // Cost 0 for the chosen one; the others follow by weight, the heaviest first.
        let mut end = 0.0;
        let mut chosen = false;
        slate.each(|candidate| {
            let weight = candidate.profile().relative_weight();
            let mut cost = ((1e9 / weight) as u64).saturating_add(1).min(u64::MAX - 1);
            if candidate.level() == level && !chosen {
                end += weight;
                if position < end {
                    chosen = true;
                    cost = 0;
                }
            }
            candidate.rank(cost);
        });
    }
}
