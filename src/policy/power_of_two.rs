//! `power_of_two`: the better of two random backends, by peak EWMA.
//!
//! Use it for large pools of backends that serve small, similar requests, with many routers: two draws avoid the
//! herd that a common "best" attracts. For language models, whose work is known in tokens beforehand,
//! [`predicted_ttft`](super::predicted_ttft) leaves a shorter tail.

use super::{Contender, PlanContext, RoutingPolicy, Slate, Window};
use crate::decision::Reason;

/// See [`power_of_two`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerOfTwo;

/// A leaf that draws two distinct usable backends and takes the one with the lower cost.
///
/// The cost is `max(peak EWMA of TTFT, age of the oldest unanswered call) · (calls in flight + 1)`, in nanoseconds.
/// The age matters: a backend that stopped answering delivers no sample, and without it its estimate would stay
/// that of a fast one. The draw is Mitzenmacher's power of two choices, the cost Finagle's peak EWMA.
///
/// A backend of which nothing is known loses against one that is known, except for one request at a time that finds
/// out; so does, at most every ten seconds, one that was not called for so long.
///
/// ```
/// let policy = fallway::policy::power_of_two();
/// ```
pub const fn power_of_two() -> PowerOfTwo {
    PowerOfTwo
}

impl RoutingPolicy for PowerOfTwo {
    fn name(&self) -> &'static str {
        "power_of_two"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (level, front) = slate.front();
        if front <= 2 {
            // The pair that was drawn already, or what is left of a small pool.
            return slate.each(|candidate| {
                if candidate.level() == level {
                    price(candidate, cx);
                }
            });
        }
        let mut rng = cx.rng(DRAW_STREAM);
        let first = rng.below(front);
        // Distinct: the second draw is from the others.
        let second = (first + 1 + rng.below(front - 1)) % front;
        // Both are found before either is priced, which may change who stands in front.
        for index in [first, second].map(|draw| slate.nth_at(level, draw)).into_iter().flatten() {
            price(&mut slate.contender(index), cx);
        }
    }

    fn window(&self) -> Window {
        Window::Pair
    }
}

const DRAW_STREAM: u64 = 0x0050_3243;

/// Behind every known cost, before those that were not drawn.
const UNKNOWN: u64 = u64::MAX - 1;

fn price(candidate: &mut Contender<'_>, cx: &PlanContext<'_>) {
    let load = candidate.load();
    let calls = u64::from(load.in_flight) + 1;
    let age = load.age(cx.now());
    let idle = load.in_flight == 0 && !load.canary_out;
    let unused = load.stale;
    let latency = candidate.latency();
    let known = latency.samples > 0;
    let cost = if known { latency.peak.max(age).saturating_mul(calls).min(UNKNOWN - 1) } else { UNKNOWN };
    candidate.rank(cost);
    if idle && (unused || !known) && cx.may_be_canary() {
        candidate.promote(Reason::Canary);
    }
}
