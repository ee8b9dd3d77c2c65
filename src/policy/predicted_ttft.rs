//! `predicted_ttft`: the backend that will probably send its first token first. The default.
//!
//! Use it for language models. It knows what other selectors do not: how much prefill work stands before a request,
//! in tokens, and how fast each backend gets through it.

use super::power_of_two::CANARY_INTERVAL;
use super::{PlanContext, RoutingPolicy, Slate};
use crate::decision::Reason;
use crate::rng::mix;
use crate::time::nanos;
use std::time::Duration;

/// See [`predicted_ttft`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PredictedTtft;

/// A leaf that ranks by predicted time to first token, in nanoseconds.
///
/// The prediction is `base + (prompt tokens waiting there + this prompt) · time per token`, with base and time per
/// token learned per backend, and never less than the age of the oldest call that still waits there: a backend that
/// hangs gets worse with every millisecond, before any timeout. Predictions within a quarter of the best count as
/// equal, and the seed chooses among them; without that, every request would run to the backend that is a
/// microsecond ahead.
///
/// What is not known is not good: a backend without samples ranks with the worst of its peers, but one request at a
/// time tries it. One that was not called for ten seconds is tried by a few requests, one at a time, so that what
/// was learned of it in bad times is not believed for ever.
///
/// ```
/// use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
/// let policy = predicted_ttft().fail_safe(FailSafe::default());
/// ```
pub const fn predicted_ttft() -> PredictedTtft {
    PredictedTtft
}

/// A prediction is equal to the best when it exceeds it by less than this part of it: the spread of identical
/// servers.
const TOLERANCE_SHIFT: u32 = 2;
/// One in so many requests may be a canary to a backend that was not called for long.
const CANARY_ODDS: u64 = 32;
const CANARY_STREAM: u64 = 0x4341_4e41;

impl RoutingPolicy for PredictedTtft {
    fn name(&self) -> &'static str {
        "predicted_ttft"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let now = cx.now();
        let work = cx.facts().input_tokens().max(1);
        let may_refresh = mix(cx.seed, CANARY_STREAM).is_multiple_of(CANARY_ODDS);
        let (mut best, mut worst) = (u64::MAX, 0);
        slate.each(|candidate| {
            let load = candidate.load();
            let latency = candidate.latency();
            let age = nanos(load.oldest_wait.map_or(Duration::ZERO, |since| now - since));
            let unused = || load.last_called.is_none_or(|last| now - last > CANARY_INTERVAL);
            if latency.samples == 0 {
                candidate.rank(UNKNOWN);
                if load.in_flight == 0 && !load.canary_out {
                    candidate.promote(Reason::Canary);
                }
                return;
            }
            let predicted = latency.predict(load.waiting_tokens.saturating_add(work)).max(age).min(UNKNOWN - 1);
            candidate.rank(predicted);
            best = best.min(predicted);
            worst = worst.max(predicted);
            if may_refresh && unused() && !load.canary_out {
                candidate.promote(Reason::Canary);
            }
        });
        let equal = best.saturating_add(best >> TOLERANCE_SHIFT);
        slate.each(|candidate| {
            let cost = match candidate.cost() {
                // Nobody is known: the least work waiting, as this router knows it.
                UNKNOWN if best == u64::MAX => candidate.load().waiting_tokens,
                UNKNOWN => worst,
                predicted if predicted <= equal => best,
                predicted => predicted,
            };
            candidate.rank(cost);
        });
    }
}

/// Marks a candidate without samples between the two passes.
const UNKNOWN: u64 = u64::MAX - 1;
