//! How the time that is left is split among attempts.

use super::{FailSafe, FailSafePolicy};
use crate::decision::Reason;
use crate::decision::record::{Entry, KNOWS_LATENCY, Reserve};
use crate::policy::{Contender, PlanContext, RoutingPolicy, Slate};
use crate::time::{Instant, nanos};

/// How long a canary may take: this many times what the best of the others is predicted to take, and at least this
/// long, in nanoseconds.
const CANARY_TIMES: u64 = 3;
const CANARY_LEAST: u64 = 50_000_000;

const RESERVE: u64 = FailSafe::RESERVE.as_nanos() as u64;

impl<P: RoutingPolicy> FailSafePolicy<P> {
    /// Leaves time for what stands behind: an attempt may use what remains, less a reserve for each attempt that
    /// could follow it, and less than its cap. `t = min(cap, R − Σ reserve)`.
    pub(super) fn limit_attempt(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let work = cx.facts().input_tokens();
        let (mut usable, mut fastest) = (0u32, u64::MAX);
        for (entry, readings) in slate.sheet.entries.iter().zip(&slate.sheet.readings) {
            if entry.admitted() {
                usable += 1;
                if entry.known & KNOWS_LATENCY != 0 && readings.latency.samples > 0 {
                    fastest = fastest.min(readings.latency.predict(work));
                }
            }
        }
        let left = self.config.attempts.saturating_sub(cx.attempts_counted() + 1);
        let following = left.min(usable.saturating_sub(1).saturating_add(self.config.tiers_behind(cx, slate)));
        let remaining = cx.time_for_attempts();
        let predicted = if fastest == u64::MAX { 0 } else { fastest.saturating_mul(2) };
        let guess = (remaining / 8).min(RESERVE);
        let limit = match slate.sheet.reserve {
            Some(reserve) => split_by_forecast(cx, slate, reserve, remaining, following, guess),
            None => {
                let reserve = guess.max(predicted).saturating_mul(following.into());
                remaining.saturating_sub(reserve).max(remaining / 2)
            }
        };
        let at = |limit: u64| Instant::from_nanos(cx.now().as_nanos().saturating_add(limit));
        // A canary finds out whether a backend is well again; if it is not, this request must not pay for that, nor does the
        // attempt count.
        let early = left > 0 && predicted > 0 && cx.may_be_canary();
        if early && cx.facts().is_replay_safe() && is_canary(slate) {
            slate.sheet.canary_limit = Some(at((fastest.saturating_mul(CANARY_TIMES)).max(CANARY_LEAST)));
        }
        match self.config.attempt_limit.map(nanos) {
            Some(cap) if cap <= limit => slate.limit_attempt(at(cap)),
            _ => slate.cut_attempt(at(limit)),
        }
    }
}

/// What the best candidate gets of `remaining`, where a policy inside keeps forecasts. Those behind it, in their order, are
/// left as much as half of the answers there take. None of that comes from what the best itself takes in 95 of 100 cases: of
/// two that would both be cut too short, none would answer.
fn split_by_forecast(
    cx: &PlanContext<'_>,
    slate: &mut Slate<'_>,
    reserve: Reserve,
    remaining: u64,
    following: u32,
    guess: u64,
) -> u64 {
    let Some(best) = slate.sheet.best(cx.seed) else { return remaining };
    let own = slate.contender(best).forecast(false).map_or(remaining / 2, |forecast| forecast.late);
    let (mut kept, mut last) = (0u64, Some(best));
    for _ in 0..following {
        last = last.and_then(|last| slate.sheet.next_best(cx.seed, last));
        let next = last.map_or(guess.max(reserve.least), |next| time_for(&mut slate.contender(next), reserve, guess));
        kept = kept.saturating_add(next);
    }
    remaining.saturating_sub(kept).max(own.min(remaining))
}

/// What is kept for an attempt at this candidate, in nanoseconds.
pub(super) fn time_for(candidate: &mut Contender<'_>, reserve: Reserve, guess: u64) -> u64 {
    candidate.forecast(reserve.whole).map_or(guess, |forecast| forecast.half).max(reserve.least)
}

/// Whether the candidate that stands first is there to be looked after.
fn is_canary(slate: &Slate<'_>) -> bool {
    let canary = |entry: &Entry| entry.admitted() && entry.note == Some(Reason::Canary);
    !slate.is_regular() && slate.sheet.entries.iter().any(canary)
}
