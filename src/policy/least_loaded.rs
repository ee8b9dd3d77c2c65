//! `least_loaded`: the backend with the fewest calls in flight for its weight.
//!
//! Use it where service times are alike but unknown and no latency was learned. It counts calls, not tokens, so
//! long prompts look like short ones; [`predicted_ttft`](super::predicted_ttft) does not have that flaw.

use super::{PlanContext, RoutingPolicy, Slate};

/// See [`least_loaded`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastLoaded;

/// A leaf that prefers the backend with the fewest calls in flight, divided by its weight.
///
/// Counted before the call and released after its last item, so a burst sees itself.
///
/// ```
/// let policy = fallway::policy::least_loaded();
/// ```
pub const fn least_loaded() -> LeastLoaded {
    LeastLoaded
}

impl RoutingPolicy for LeastLoaded {
    fn name(&self) -> &'static str {
        "least_loaded"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.hold_back_newcomers(cx.seed);
        slate.rank(|candidate| {
            let in_flight = f64::from(candidate.load().in_flight) * 1000.0;
            (in_flight / candidate.profile().relative_weight()) as u64
        });
    }
}
