//! `power_of_two`: the better of two random backends, by peak EWMA.
//!
//! Use it for large pools of backends that serve small, similar requests, with many routers: two draws avoid the
//! herd that a common "best" attracts. For language models, whose work is known in tokens beforehand,
//! [`predicted_ttft`](super::predicted_ttft) leaves a shorter tail.

use super::{Contender, PlanContext, RoutingPolicy, Slate};
use crate::decision::Reason;
use crate::time::{Instant, nanos};
use std::time::Duration;

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
        let mut rng = cx.rng(DRAW_STREAM);
        let first = rng.below(front);
        // Distinct: the second draw is from the others.
        let second = if front > 1 { (first + 1 + rng.below(front - 1)) % front } else { first };
        let (first, second) = (first.min(second), first.max(second));
        let Some(a) = slate.nth_at(level, first) else { return };
        price(&mut slate.contender(a), cx.now());
        if second != first
            && let Some(b) = slate.nth_at(level, second)
        {
            price(&mut slate.contender(b), cx.now());
        }
    }
}

const DRAW_STREAM: u64 = 0x0050_3243;

/// Behind every known cost, before those that were not drawn.
const UNKNOWN: u64 = u64::MAX - 1;

/// How often a backend that gets no calls is tried: the rate at which Prequal-style probes would be paid for by real
/// requests.
pub(super) const CANARY_INTERVAL: Duration = Duration::from_secs(10);

fn price(candidate: &mut Contender<'_>, now: Instant) {
    let load = candidate.load();
    let latency = candidate.latency();
    let calls = u64::from(load.in_flight) + 1;
    let age = nanos(load.oldest_wait.map_or(Duration::ZERO, |since| now - since));
    let unused = load.last_called.is_none_or(|last| now - last > CANARY_INTERVAL);
    candidate.rank(match latency.samples {
        0 => UNKNOWN,
        _ => latency.peak.max(age).saturating_mul(calls).min(UNKNOWN - 1),
    });
    if (latency.samples == 0 || unused) && load.in_flight == 0 && !load.canary_out {
        candidate.promote(Reason::Canary);
    }
}
