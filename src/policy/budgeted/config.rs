//! The configuration of `budgeted`.

use crate::budget::Hedge;
use crate::policy::Check;
use std::time::Duration;

/// What a request may spend, and on what. Wrap a policy with [`PolicyExt::budgeted`](crate::policy::PolicyExt::budgeted).
///
/// ```
/// use fallway::policy::{Budgets, FailSafe, PolicyExt, predicted_ttft};
/// let policy = predicted_ttft().budgeted(Budgets::default()).fail_safe(FailSafe::default());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Budgets {
    pub(super) reserve: Option<Duration>,
    pub(super) whole_answers: bool,
    pub(super) hedge: Option<Hedge>,
}

impl Budgets {
    /// Samples without which a prediction forbids nothing: of the backend itself, or of all that serve its model where it
    /// has a few.
    pub const ENOUGH: u32 = crate::signal::ENOUGH;

    /// What an attempt leaves, at least, for each that could follow it. Where more is known, it leaves as much as half of the
    /// answers there take; without this, a second, and an eighth of what remains at most, for those of which nothing is
    /// known.
    #[must_use]
    pub const fn reserve(mut self, least: Duration) -> Self {
        self.reserve = Some(least);
        self
    }

    /// Requests want the whole answer by their deadline, and not its first token. That is predicted where the request says
    /// how many tokens [it expects](crate::Facts::output_tokens), from answers that were streamed.
    #[must_use]
    pub const fn whole_answers(mut self) -> Self {
        self.whole_answers = true;
        self
    }

    /// Sends a request to a second backend as well, when its answer has not begun in the time that is usual at the first; off by
    /// default. Only requests that are [replay safe](crate::Facts::replay_safe), within what [`Hedge`] says of the rest.
    ///
    /// ```
    /// use fallway::budget::Hedge;
    /// use fallway::policy::{Budgets, FailSafe, PolicyExt, predicted_ttft};
    /// let budgets = Budgets::default().hedge(Hedge::default());
    /// let policy = predicted_ttft().budgeted(budgets).fail_safe(FailSafe::default());
    /// # drop(policy);
    /// ```
    #[must_use]
    pub const fn hedge(mut self, hedge: Hedge) -> Self {
        self.hedge = Some(hedge);
        self
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        const NAME: &str = "budgeted";
        if let Some(delay) = self.hedge.and_then(|hedge| hedge.delay())
            && delay >= check.default_deadline
        {
            let deadline = check.default_deadline;
            check.error(
                NAME,
                format!("a hedge after {delay:?} comes when the default deadline of {deadline:?} is over"),
            );
        }
        let Some(reserve) = self.reserve else { return };
        if reserve.is_zero() {
            check.error(NAME, "a reserve of zero leaves nothing for the attempt that follows");
        } else if reserve >= check.default_deadline {
            let deadline = check.default_deadline;
            check.error(NAME, format!("a reserve of {reserve:?} is all of the default deadline of {deadline:?}"));
        }
    }
}
