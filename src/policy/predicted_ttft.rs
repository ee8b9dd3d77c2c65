//! `predicted_ttft`: the backend that will probably send its first token first. The default.
//!
//! Use it for language models. It knows what other selectors do not: how much prefill work stands before a request,
//! in tokens, and how fast each backend gets through it.

use super::power_of_two::CANARY_INTERVAL;
use super::{PlanContext, RoutingPolicy, Slate};
use crate::decision::Reason;
use crate::rng::mix;

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
            let behind = load.waiting_tokens.saturating_add(work);
            let age = load.age(now);
            let idle = load.in_flight == 0;
            let unused = may_refresh && now.nanos_since(load.last_called) > CANARY_INTERVAL;
            let canary_out = load.canary_out;
            let latency = candidate.latency();
            let known = latency.samples > 0;
            let predicted = latency.predict(behind).max(age).min(UNKNOWN - 1);
            if known {
                best = best.min(predicted);
                worst = worst.max(predicted);
            }
            candidate.rank(if known { predicted } else { UNKNOWN });
            if !canary_out && (unused || (idle && !known)) {
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
