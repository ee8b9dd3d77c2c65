//! [`PlanContext`].

use crate::bug;
use crate::decision::attempt::counted;
use crate::decision::names::{Lead, Names, lead};
use crate::decision::{AttemptRecord, Beside, Extra, Refusal};
use crate::facts::{Facts, Profile};
use crate::policy::FailSafe;
use crate::rng::Rng;
use crate::time::{Instant, nanos};
use std::time::Duration;

/// What a policy knows beside the candidates.
#[derive(Clone, Copy, Debug)]
pub struct PlanContext<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) now: Instant,
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
    pub(crate) seed: u64,
    pub(crate) attempts: &'a [AttemptRecord],
    pub(crate) extra: Extra,
    pub(crate) last_resort: bool,
    pub(crate) beside: Option<&'a Beside>,
    pub(crate) names: Option<&'a Names>,
}

impl<'a> PlanContext<'a> {
    /// The request.
    pub const fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// The time of the decision.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// When the request came.
    pub const fn arrival(&self) -> Instant {
        self.arrival
    }

    /// When the request ends.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The request's failed attempts so far.
    pub const fn attempts(&self) -> &'a [AttemptRecord] {
        self.attempts
    }

    /// How many of them count among the [attempts that the request may make](crate::policy::Slate::allow_attempts): all but a
    /// [canary that was given up early](AttemptRecord::is_canary_timeout).
    pub fn attempts_counted(&self) -> u32 {
        counted(self.attempts)
    }

    /// Whether the shared retry budget pays for another attempt.
    pub const fn extra(&self) -> Extra {
        self.extra
    }

    /// The attempt beside which a hedge is planned, where this decides one. It goes to a backend that is well and has
    /// room now, or nowhere: it finds nothing out, waits for nothing, and is no fallback.
    pub const fn beside(&self) -> Option<&'a Beside> {
        self.beside
    }

    /// Whether the host gave the router a last resort.
    pub const fn has_last_resort(&self) -> bool {
        self.last_resort
    }

    /// Whether a request may look after a backend, as a canary: not beside another attempt, and not once more after it was
    /// given up early for that.
    pub(super) fn may_be_canary(&self) -> bool {
        let paid = self.attempts.iter().any(AttemptRecord::is_canary_timeout) && !bug::CANARY_TWICE;
        self.beside.is_none() && !paid
    }

    /// Where a name leads, by the registry.
    pub(super) fn lead(&self, name: &str) -> Lead<'a> {
        lead(self.names, name, self.facts, self.seed)
    }

    /// What fits into a backend of this profile, where known.
    pub(super) fn window_of(&self, profile: &Profile) -> Option<u64> {
        profile.context_window.or_else(|| {
            let terms = self.names?.terms(self.names?.version(profile.full_model()?)?);
            Some(terms.context_window).filter(|window| *window < u64::MAX)
        })
    }

    /// Why a request is refused whose model no backend serves.
    pub(super) fn unserved(&self) -> Refusal {
        match self.facts.requested_model().map(|model| self.lead(model)) {
            Some(Lead::Refused(why)) => why,
            _ => Refusal::UnknownModel,
        }
    }

    /// The time that is kept for the host's last resort: a quarter of a second, and no more than an eighth of what the
    /// request had when it came.
    pub(super) fn last_resort_reserve(&self) -> Duration {
        if !self.last_resort {
            return Duration::ZERO;
        }
        FailSafe::LAST_RESORT_RESERVE.min((self.deadline - self.arrival) / 8)
    }

    /// What is left for attempts, in nanoseconds.
    pub(super) fn time_for_attempts(&self) -> u64 {
        // In nanoseconds throughout: every decision passes here.
        let all = self.deadline.nanos_since(self.now);
        if self.last_resort { all - nanos(self.last_resort_reserve()).min(all) } else { all }
    }

    /// A random generator for this decision. Two purposes take two different `stream`s, so that neither disturbs
    /// the other.
    pub const fn rng(&self, stream: u64) -> Rng {
        Rng::new(self.seed ^ stream)
    }
}
