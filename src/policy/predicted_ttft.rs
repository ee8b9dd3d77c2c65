//! `predicted_ttft`: the backend that will probably send its first token first. The default.
//!
//! Use it for language models. It knows what other selectors do not: how much prefill work stands before a request,
//! in tokens, and how fast each backend gets through it.

use super::homing::suppose;
use super::{Contender, PlanContext, RoutingPolicy, Slate};
use crate::decision::Reason;
use crate::rng::mix;

/// See [`predicted_ttft`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PredictedTtft;

/// A leaf that ranks by predicted time to first token, in nanoseconds.
///
/// The prediction is `base + (prompt tokens waiting there + this prompt − what of it is probably cached there) · time
/// per token`, with base and time per token learned per backend; where servers
/// [report](crate::router::Builder::load_reports) their queues, what others have waiting there counts as well, and
/// where the request says [how its prompt begins](crate::Facts::prefix), what a backend was sent of it before is
/// probably cached. It is never less than the age of the oldest call that still waits there: a backend that hangs gets
/// worse with every millisecond, before any timeout. Predictions within a quarter of the best count as equal, and the
/// seed chooses among them; without that, every request would run to the backend that is a microsecond ahead. Of
/// equals, those that have most of the prompt cached come first. Of a prompt's blocks that nobody is known to have, other routers may have
/// sent some: by a draw that is the same in all routers, up to an eighth of them
/// [counts as cached](crate::decision::Candidate::supposed_tokens), so that routers which know nothing of each other send it to the same
/// place.
///
/// What is not known is not good. A backend that was not called yet is predicted as its peers of the same model are, for
/// one request at a time; where nothing is known of these either, it ranks with the worst of all, and one request
/// at a time tries it. What was learned in bad times is not believed for ever: a backend that was not called for ten
/// seconds is tried by one request, a canary, if at its best it was about as good as the best is now, and by what was learned the request
/// would take longer there than elsewhere if nobody else were there: a queue alone needs no canary. While canaries
/// find nothing better, they come every 20 and then every 40 seconds. One that was never that good is tried too, by
/// fewer. A request that takes longer than is usual is no canary: it would lose the most. [`fail_safe`](super::FailSafe) gives a canary up in
/// time for another attempt, and then the request is none again.
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
/// One in so many requests may be a canary to a backend that may be as good as the best, and to another.
const CANARY_ODDS: (u64, u64) = (4, 128);
// Who draws the second has drawn the first.
const _: () = assert!(CANARY_ODDS.1.is_multiple_of(CANARY_ODDS.0));
const CANARY_STREAM: u64 = 0x4341_4e41;

impl RoutingPolicy for PredictedTtft {
    fn name(&self) -> &'static str {
        "predicted_ttft"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.hold_back_newcomers(cx.seed);
        suppose(cx, slate);
        let now = cx.now();
        let (mut best, mut worst, mut usual) = (u64::MAX, 0, 0);
        let mut doubtful = false;
        slate.each(|candidate| {
            let work = candidate.supposed_work();
            let load = candidate.load();
            let behind = load.queued_tokens().saturating_add(work);
            let age = load.age(now);
            doubtful |= load.stale;
            let idle = load.in_flight == 0;
            let latency = candidate.latency();
            if latency.samples == 0 {
                doubtful = true;
                // One call at a time finds out whether it is as its peers are.
                if !(idle && latency.is_known()) {
                    return candidate.rank(UNKNOWN);
                }
            }
            let predicted = latency.predict(behind).max(age).min(UNKNOWN - 1);
            if predicted < best {
                (best, usual) = (predicted, latency.usual);
            }
            worst = worst.max(predicted);
            candidate.rank(predicted);
        });
        let equal = with_tolerance(best);
        let search = (doubtful && cx.may_be_canary()).then(|| Search::new(cx, slate, best, usual));
        // Of equals, who has most of the prompt: work that nobody does is room for all.
        let mut least_work = u64::MAX;
        if cx.facts().prompt_prefix().is_some() {
            slate.each(|candidate| {
                if candidate.cost() <= equal {
                    least_work = least_work.min(candidate.supposed_work());
                }
            });
        }
        slate.each(|candidate| {
            let cost = match candidate.cost() {
                // Nobody is known: the least work waiting, as this router knows it.
                UNKNOWN if best == u64::MAX => candidate.load().queued_tokens(),
                UNKNOWN => worst,
                predicted if predicted > equal => predicted,
                _ if least_work == u64::MAX || candidate.supposed_work() <= least_work => best,
                // Perhaps the best itself: behind those that have more of the prompt all the same.
                predicted => predicted.max(best.saturating_add(1)),
            };
            candidate.rank(cost);
            if search.as_ref().is_some_and(|search| search.wants(candidate)) {
                candidate.promote(Reason::Canary);
            }
        });
    }
}

/// Whether a request looks after a backend of which nothing is known, or nothing that is still true.
struct Search {
    /// What is usual at the best.
    promising: u64,
    /// What the request takes at the quickest, with nobody else there; known where the draw is for a canary.
    quick: u64,
    /// It takes no longer than is usual. Others would lose the most.
    light: bool,
    draw: u64,
}

impl Search {
    fn new(cx: &PlanContext<'_>, slate: &mut Slate<'_>, best: u64, usual: u64) -> Self {
        let promising = with_tolerance(usual);
        let (light, draw) = (best <= promising, mix(cx.seed, CANARY_STREAM));
        let mut quickest = u64::MAX;
        if light && draw.is_multiple_of(CANARY_ODDS.0) {
            slate.each(|candidate| {
                let work = candidate.work();
                let latency = candidate.latency();
                if latency.is_known() {
                    quickest = quickest.min(latency.predict(work));
                }
            });
        }
        Self { promising, quick: with_tolerance(quickest), light, draw }
    }

    fn wants(&self, candidate: &mut Contender<'_>) -> bool {
        let load = candidate.load();
        let (idle, out, stale) = (load.in_flight == 0, load.canary_out, load.stale);
        let work = candidate.work();
        let latency = candidate.latency();
        if out {
            false
        } else if !latency.is_known() {
            idle
        } else {
            let odds = if latency.best <= self.promising { CANARY_ODDS.0 } else { CANARY_ODDS.1 };
            // Where what was learned is good, only its queue keeps requests away, and that needs no canary.
            let is_doubted = || latency.predict(work) > self.quick;
            stale && self.light && self.draw.is_multiple_of(odds) && is_doubted()
        }
    }
}

const fn with_tolerance(time: u64) -> u64 {
    time.saturating_add(time >> TOLERANCE_SHIFT)
}

/// Marks a candidate without samples between the two passes.
const UNKNOWN: u64 = u64::MAX - 1;
