//! `budgeted`: what is left of a request's time is spent where it buys the most.
//!
//! A wrapper, around what ranks the backends, inside of `fail_safe`. A candidate whose first token
//! ([or whole answer](Budgets::whole_answers)) is not predicted within what is left, in 95 of 100 cases, is ruled out for that reason,
//! with both numbers. What follows from it:
//!
//! 1. another backend of the tier;
//! 2. a faster tier (*brownout*), and the decision says so;
//! 3. where nobody is sure to answer in time, the one that comes closest, if it does so in half of the cases;
//! 4. else a refusal, at once: work that nobody waits for any more is not begun.
//!
//! An attempt leaves time for those that could follow it: as much as half of the answers take there.
//!
//! Tiers and what follows are the business of [`fail_safe`](super::FailSafe). The rest holds without it as well.
//!
//! What is not known forbids nothing. A prediction needs [`Budgets::ENOUGH`] samples, of which those of five minutes ago count half; and a
//! backend that got no calls for a while, or whose last answers came much sooner than predicted, is looked after by one request at a
//! time, a canary: so a prediction that is wrong by now meets its evidence.

mod config;

pub use config::Budgets;

use super::{Check, Contender, PlanContext, RoutingPolicy, Slate, Window, stack};
use crate::bug;
use crate::decision::Reason;
use crate::decision::record::{Entry, Reserve};
use crate::facts::Priority;
use crate::time::nanos;

/// A policy wrapped in [`Budgets`]; made by [`PolicyExt::budgeted`](super::PolicyExt::budgeted).
#[derive(Clone, Debug)]
pub struct Budgeted<P> {
    config: Budgets,
    reserve: Reserve,
    inner: P,
}

impl Budgets {
    /// Wraps `inner`.
    pub fn around<P: RoutingPolicy>(self, inner: P) -> Budgeted<P> {
        let reserve = Reserve { least: self.reserve.map_or(0, nanos), whole: self.whole_answers };
        Budgeted { config: self, reserve, inner }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<P: RoutingPolicy> RoutingPolicy for Budgeted<P> {
    fn name(&self) -> &'static str {
        "budgeted"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let left = cx.time_for_attempts();
        slate.sheet.reserve = Some(self.reserve);
        slate.sheet.hedge = self.config.hedge;
        slate.each(|candidate| self.look(cx, candidate, left));
        if !slate.is_regular() {
            slate.each_rejected(|candidate| self.look_at_busy(candidate, left));
        }
        note_brownout(slate);
        self.inner.plan(cx, slate);
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
            check.error(self.name(), "wraps another budgeted: the reserve and the hedge of one of them would not hold");
        }
        check.has_no_fail_safe(self.name(), &self.inner);
        self.inner.check(check);
    }
}

impl<P: RoutingPolicy> Budgeted<P> {
    #[inline]
    fn look(&self, cx: &PlanContext<'_>, candidate: &mut Contender<'_>, left: u64) {
        let Some(forecast) = candidate.forecast(self.reserve.whole) else { return };
        let left = match candidate.note() {
            // That it may be late is known, and nobody else is left.
            Some(Reason::MayBeLate { .. }) => return,
            Some(Reason::RetriedHere { at }) => left.saturating_sub(at.nanos_since(cx.now())),
            _ => left,
        };
        if forecast.late <= left {
            return;
        }
        if forecast.doubtful && !bug::LATE_FOR_GOOD && cx.beside().is_none() && !candidate.load().canary_out {
            candidate.note_unless_on_errand(Reason::Canary);
        } else {
            candidate.reject(Reason::MissesDeadline { late: forecast.late, half: forecast.half, left });
        }
    }

    /// Nobody waits for the slot of one that would be too slow if it were idle.
    fn look_at_busy(&self, candidate: &mut Contender<'_>, left: u64) {
        if candidate.rejected().is_some_and(|reason| reason.is_busy())
            && let Some(forecast) = candidate.forecast_idle(self.reserve.whole)
            && forecast.half > left
        {
            candidate.reject_instead(Reason::MissesDeadline { late: forecast.late, half: forecast.half, left });
        }
    }
}

/// Nobody is sure to answer in time: lets the one back in that comes closest, where that is in time in half of the cases.
pub(super) fn admit_closest(slate: &mut Slate<'_>) -> bool {
    let close = |(index, entry): (usize, &Entry)| match entry.rejected {
        Some(Reason::MissesDeadline { late, half, left }) if half <= left => Some((late, index, left)),
        _ => None,
    };
    let closest = slate.sheet.entries.iter().enumerate().filter_map(close).min();
    closest.is_some_and(|(late, index, left)| slate.contender(index).try_anyway(Reason::MayBeLate { late, left }))
}

/// Says of the candidates of this tier that another was wished for, and would have been too slow.
fn note_brownout(slate: &mut Slate<'_>) {
    let range = slate.range();
    let missed = |entry: &Entry| match entry.rejected {
        Some(Reason::MissesDeadline { late, left, .. }) => Some((late, left)),
        _ => None,
    };
    // Tiers that were opened before come before.
    if let Some((late, left)) = slate.sheet.entries[..range.start].iter().filter_map(missed).min() {
        slate.each(|candidate| candidate.note_unless_on_errand(Reason::Brownout { late, left }));
    }
}
