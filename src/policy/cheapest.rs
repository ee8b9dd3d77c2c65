//! `cheapest`: the backend where this request costs least.
//!
//! Use it where any backend is good enough and money decides. It fills the cheapest until that has a limit or
//! fails: give the profiles a [`concurrency`](crate::Profile::concurrency).

use super::{PlanContext, RoutingPolicy, Slate};

/// See [`cheapest`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Cheapest;

/// A leaf that ranks by the price of prompt and expected answer, in pico-dollars. A backend of unknown price comes
/// last: unknown is not free.
///
/// In a pool of more than 64 backends it is the cheapest of the 64 that the decision looked at, not of the pool. To
/// find the cheapest of many, keep the pool of a model at 64 or below.
///
/// ```
/// let policy = fallway::policy::cheapest();
/// ```
pub const fn cheapest() -> Cheapest {
    Cheapest
}

/// Behind every known price, and still a rank.
const UNKNOWN: u64 = u64::MAX - 1;

impl RoutingPolicy for Cheapest {
    fn name(&self) -> &'static str {
        "cheapest"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (input, output) = (cx.facts().input_tokens(), cx.facts().expected_output_tokens());
        slate.rank(|candidate| match candidate.price() {
            Some(price) => price.of(input, output).min(UNKNOWN - 1),
            None => UNKNOWN,
        });
    }
}
