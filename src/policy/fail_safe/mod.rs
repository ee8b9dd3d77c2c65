//! `fail_safe`: what to do when the best is not good enough.
//!
//! The outermost wrapper. It picks the model tier and lets the inner policies rank it; when they leave nothing, it
//! goes down a fixed list, so that degradation has an order:
//!
//! 1. another backend of the same tier, at once;
//! 2. in a tier where most look unhealthy: those too; what this router itself found wrong stands behind (panic mode);
//! 3. the next tier;
//! 4. where another is only busy, its next free slot, for half of the time that is left; else the same backend
//!    again, after a back-off;
//! 5. where everything rests after failures: one request every [`FailSafe::TRIAL_INTERVAL`] tries anyway;
//! 6. waiting, when a backend promised to return, or a slot will be free, before the deadline;
//! 7. the last resort of the host, marked degraded;
//! 8. an error, at once.
//!
//! Where [`budgeted`](super::PolicyExt::budgeted) stands inside, who is predicted to miss the deadline is not usable. Before step 4 the one
//! that comes closest tries, if it is in time in half of the cases.
//!
//! It also decides about retries: it is the one owner of them, so nothing multiplies.

mod chains;
mod config;
mod last;
mod split;

pub use config::FailSafe;

use super::{Check, Contender, PlanContext, RoutingPolicy, Slate, Window, stack};
use crate::backend::{BackendId, FailureKind, Fault, Replay, Retry};
use crate::bug;
use crate::decision::{AttemptRecord, Extra, Next, Reason, Refusal};
use crate::facts::{Priority, Profile};
use crate::time::nanos;

/// A policy wrapped in [`FailSafe`]; made by [`PolicyExt::fail_safe`](super::PolicyExt::fail_safe).
#[derive(Clone, Debug)]
pub struct FailSafePolicy<P> {
    config: FailSafe,
    inner: P,
}

impl FailSafe {
    /// Wraps `inner`.
    pub const fn around<P: RoutingPolicy>(mut self, inner: P) -> FailSafePolicy<P> {
        self.attempts += bug::ATTEMPTS_PLUS_ONE as u32;
        FailSafePolicy { config: self, inner }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<P: RoutingPolicy> RoutingPolicy for FailSafePolicy<P> {
    fn name(&self) -> &'static str {
        "fail_safe"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.allow_attempts(self.config.attempts);
        if let Some(next) = self.end(cx) {
            // Nothing is planned any more; the candidates are looked at for the explanation only.
            self.config.each_tier(cx, slate, &mut |slate, larger| {
                self.set_aside_failed(cx, slate, larger);
                false
            });
            return slate.conclude(next);
        }
        let mut found = false;
        self.config.each_tier(cx, slate, &mut |slate, larger| {
            self.plan_tier(cx, slate, larger);
            found = slate.is_usable();
            // A hedge is no fallback: it goes no further than what it stands beside.
            found || cx.beside().is_some_and(|beside| slate.is_of(beside.profile()))
        });
        if found {
            self.limit_attempt(cx, slate);
        } else if cx.beside().is_some() {
            slate.conclude(Next::Refuse { why: Refusal::NothingUsable });
        } else {
            let next = self.when_nothing_is_left(cx, slate);
            slate.conclude(next);
        }
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.inner)
    }

    fn window(&self) -> Window {
        self.inner.window().beyond_a_pair()
    }

    fn ceiling(&self, priority: Priority) -> u32 {
        self.inner.ceiling(priority)
    }

    fn allows_region(&self, region: Option<&str>) -> bool {
        self.inner.allows_region(region)
    }

    fn check(&self, check: &mut Check<'_>) {
        self.config.check(check);
        if stack(&self.inner).any(|policy| policy.name() == self.name()) {
            check.error(self.name(), "wraps another fail_safe: two owners of retries multiply attempts");
        }
        self.inner.check(check);
    }
}

impl<P: RoutingPolicy> FailSafePolicy<P> {
    /// Whether the failures so far end the request.
    fn end(&self, cx: &PlanContext<'_>) -> Option<Next> {
        let kind = last_failure(cx)?;
        let conduct = kind.conduct();
        let unsafe_replay = conduct.replay == Replay::Uncertain && !cx.facts().is_replay_safe() && !bug::RETRY_UNSAFE;
        if conduct.retry == Retry::Never || unsafe_replay {
            Some(Next::Refuse { why: Refusal::NotRetryable { kind } })
        } else if cx.deadline() - cx.now() <= cx.last_resort_reserve() {
            // The rest of the time is the last resort's.
            Some(give_up(cx, Refusal::DeadlineExceeded))
        } else if cx.attempts_counted() >= self.config.attempts {
            let attempts = cx.attempts().len() as u32;
            Some(give_up(cx, Refusal::AttemptsExhausted { attempts }))
        } else if cx.extra() == Extra::Denied {
            Some(give_up(cx, Refusal::RetryBudgetEmpty))
        } else {
            None
        }
    }

    /// Has the inner policies rank the current tier.
    fn plan_tier(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>, larger: bool) {
        self.set_aside_failed(cx, slate, larger);
        if cx.beside().is_none() {
            self.panic(slate);
        }
        self.plan_inner(cx, slate);
    }

    fn plan_inner(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.plan_with(&self.inner, cx);
        // The inner policies may have rejected, softly, all that was left. Let back in, these are shown to all of them
        // once more, and soft doubts do not count: who saw nobody then may draw a hard line now, and the leaf ranks.
        if cx.beside().is_none() && self.readmit(slate) {
            slate.ground.lenient = true;
            slate.plan_with(&self.inner, cx);
            slate.ground.lenient = false;
        }
    }

    /// Lets those back in whom only soft doubts keep out, where nobody else is left. Returns whether there are any.
    fn readmit(&self, slate: &mut Slate<'_>) -> bool {
        let mut readmitted = false;
        if self.config.panic_threshold > 0.0 && !slate.is_usable() {
            // Busy is not sick: a slot there is better than a doubt here.
            let mut busy = false;
            slate.each_rejected(|candidate| busy |= candidate.rejected().is_some_and(|reason| reason.is_busy()));
            if busy {
                return false;
            }
            slate.each_rejected(|candidate| {
                let own = matches!(candidate.rejected(), Some(Reason::Custom { .. } | Reason::Unhealthy { .. }));
                readmitted |= own && candidate.readmit(Reason::Readmitted);
            });
            if readmitted {
                note_panic(slate);
            }
        }
        readmitted
    }

    /// Asks the inner policies about candidates that were let back in, so that the lines they draw hold for these
    /// as well. Returns whether any is left.
    fn consult(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> bool {
        let mut found = false;
        for tier in 0..slate.sheet.tiers.len() {
            slate.current = Some(tier);
            if slate.is_usable() {
                self.plan_inner(cx, slate);
                found |= slate.is_usable();
            }
        }
        found
    }

    /// A retry goes to a backend that this request has not failed on, and to none where the failure would repeat.
    fn set_aside_failed(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>, larger_tier: bool) {
        if cx.attempts().is_empty() {
            return;
        }
        let too_long = |attempt: &&AttemptRecord| attempt.failure() == Some(FailureKind::ContextTooLong);
        let window = failed_with(cx, FailureKind::ContextTooLong)
            .then(|| cx.attempts().iter().filter(too_long).filter_map(|attempt| cx.window_of(&attempt.profile)).max());
        let throttled = failed_with(cx, FailureKind::RateLimited);
        let timed_out = last_failure(cx) == Some(FailureKind::Timeout);
        slate.each_rejected(|candidate| {
            let doubted = |reason: Reason| reason.is_ejection() || matches!(reason, Reason::Unhealthy { .. });
            if candidate.rejected().is_some_and(doubted)
                && let Some(reason) = failed_here(cx, candidate.id())
            {
                candidate.reject_instead(reason);
            }
        });
        slate.each(|candidate| {
            if let Some(reason) = failed_here(cx, candidate.id()).filter(|_| !bug::RETRY_SAME_BACKEND) {
                candidate.reject(reason);
            } else if throttled && candidate.note() == Some(Reason::QuotaProbe) {
                // Quotas of one provider return together or not at all; asking each of them would use up the
                // attempts that waiting leaves.
                candidate.reject(Reason::QuotaInDoubt);
            } else if timed_out && let Some(predicted) = self.too_slow(candidate) {
                candidate.reject(Reason::TooSlow { predicted });
            } else if let Some(failed_window) = window
                && !larger(candidate.context_window(), failed_window, larger_tier)
            {
                candidate.reject(Reason::WouldRepeat { kind: FailureKind::ContextTooLong });
            } else if let Some(attempt) = failed_domain(cx, candidate.profile()) {
                candidate.demote(Reason::SameDomain { attempt });
            }
        });
    }

    /// The predicted time to first token of a candidate that is no place for what was given up elsewhere. Where
    /// attempts have a limit, one that takes a good part of it, and longer than at its best, has a queue as well: it
    /// would hardly do better, and those who wait there would pay.
    fn too_slow(&self, candidate: &mut Contender<'_>) -> Option<u64> {
        let limits = [self.config.attempt_limit, candidate.profile().attempt_limit];
        let limit = nanos(limits.into_iter().flatten().min()?);
        let predicted = candidate.predicted()?;
        let best = candidate.latency().best;
        (predicted > limit / BUSY && predicted > best.saturating_add(best / 2)).then_some(predicted)
    }

    /// Panic mode: when too few look healthy, the signals are doubted. What an outside signal says is set aside
    /// altogether; what this router experienced itself stands behind the healthy. Refusals with authority, and
    /// backends that rest because they said so or could not be reached, are never readmitted here.
    fn panic(&self, slate: &mut Slate<'_>) {
        if slate.is_regular() {
            return;
        }
        let mut healthy = 0u32;
        slate.each(|_| healthy += 1);
        let (mut opinions, mut streaks, mut resting) = (0u32, 0u32, 0u32);
        slate.each_rejected(|candidate| match candidate.rejected() {
            Some(Reason::Unhealthy { .. }) => opinions += 1,
            Some(reason) if reason.is_ejection() => streaks += 1,
            // Busy is not sick.
            Some(reason) if reason.is_busy() => healthy += 1,
            Some(Reason::CoolingDown { .. } | Reason::DomainOut { .. } | Reason::OnProbation { .. }) => resting += 1,
            _ => {}
        });
        let all = healthy + opinions + streaks + resting;
        if opinions + streaks == 0 || f64::from(healthy) >= f64::from(all) * self.config.panic_threshold {
            return;
        }
        slate.each_rejected(|candidate| match candidate.rejected() {
            Some(Reason::Unhealthy { .. }) => {
                candidate.readmit(Reason::Readmitted);
            }
            Some(reason) if reason.is_ejection() && candidate.readmit(Reason::Readmitted) => {
                candidate.demote(Reason::Readmitted);
            }
            Some(Reason::OutsideResidency) if bug::RESIDENCY_IN_PANIC => {
                candidate.try_anyway(Reason::Readmitted);
            }
            _ => {}
        });
        note_panic(slate);
    }
}

/// After a timeout: a candidate that is predicted to take more than this part of the limit is busy, unless it takes
/// as long at its best.
const BUSY: u64 = 5;

/// Whether an attempt of this request failed in this way.
fn failed_with(cx: &PlanContext<'_>, kind: FailureKind) -> bool {
    cx.attempts().iter().any(|attempt| attempt.failure() == Some(kind))
}

fn last_failure(cx: &PlanContext<'_>) -> Option<FailureKind> {
    cx.attempts().last().and_then(AttemptRecord::failure)
}

fn give_up(cx: &PlanContext<'_>, why: Refusal) -> Next {
    if cx.has_last_resort() { Next::LastResort { why } } else { Next::Refuse { why } }
}

/// Where and how the request failed at this backend, the last time.
fn failed_here(cx: &PlanContext<'_>, backend: BackendId) -> Option<Reason> {
    let failed = cx.attempts().iter().filter(|attempt| attempt.backend() == backend);
    failed
        .filter_map(|failed| Some(Reason::FailedHere { attempt: failed.number(), kind: failed.failure()? }))
        .next_back()
}

/// The attempt that failed in this backend's domain, by a fault of the backend or on the way to it: what is wrong
/// there may be wrong with all of it.
fn failed_domain(cx: &PlanContext<'_>, profile: &Profile) -> Option<u32> {
    let domain = profile.domain()?;
    let mut attempts = cx.attempts().iter().filter(|attempt| attempt.profile.domain() == Some(domain));
    let blamed = |kind: FailureKind| matches!(kind.conduct().fault, Fault::Backend | Fault::Transport);
    attempts.find(|attempt| attempt.failure().is_some_and(blamed)).map(AttemptRecord::number)
}

/// Whether a window is larger than that which was too small. `named`: the host says so.
fn larger(window: Option<u64>, failed: Option<u64>, named: bool) -> bool {
    match (window, failed) {
        (Some(window), Some(failed)) => window > failed,
        // The failed model's window was not known; any model that says what it holds has been checked against the
        // prompt already.
        (Some(_), None) => true,
        (None, _) => named,
    }
}

fn note_panic(slate: &mut Slate<'_>) {
    if let Some(tier) = slate.tier_mut() {
        tier.panic = true;
    }
}
