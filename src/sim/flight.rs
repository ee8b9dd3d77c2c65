//! A request on its way, as the loop without futures keeps it.

use super::Answer;
use super::audit::Over;
use super::job::{JobId, Request};
use super::setting::Setting;
use crate::backend::{Attempt, FailureKind};
use crate::router::Trip;
use crate::time::Instant;
use std::task::Waker;

/// A request on its way.
pub(super) struct Flight<'s> {
    pub(super) trip: Trip<'s, Request, Answer>,
    pub(super) request: Request,
    pub(super) router: usize,
    pub(super) record: usize,
    /// What runs: one call, or two side by side, the second a hedge.
    pub(super) calls: [Option<Call>; 2],
    pub(super) answered: bool,
    /// How its answer broke last.
    pub(super) broken: Option<FailureKind>,
    /// How many steps it took, and before which moment how many of them.
    pub(super) steps: u32,
    pub(super) steps_before: (Instant, u32),
    /// When its caller leaves.
    pub(super) leaves: Option<Instant>,
    pub(super) waits: bool,
    pub(super) bell: Option<Waker>,
}

/// A call to a server.
pub(super) struct Call {
    pub(super) job: JobId,
    pub(super) attempt: Attempt,
    /// When it has had its time.
    pub(super) limit: Instant,
}

/// Marks the tag of a request's second call.
pub(super) const HEDGE: u64 = 1 << 31;

/// Steps at one moment, after which no end is to be expected.
const MOST_STEPS: u32 = 300;

impl Flight<'_> {
    /// It takes one more step; whether there may be an end of them at this moment.
    pub(super) fn steps_on(&mut self, setting: &Setting, now: Instant) -> bool {
        self.waits = false;
        self.steps += 1;
        if self.steps_before.0 != now {
            self.steps_before = (now, self.steps);
        }
        let rests = self.steps - self.steps_before.1 < MOST_STEPS;
        if !rests {
            setting.tell(|audit| audit.never_rests(self.request.number));
        }
        rests
    }

    /// Which of the calls is that of this attempt.
    pub(super) fn side_of(&self, number: u32) -> Option<usize> {
        self.calls.iter().position(|call| call.as_ref().is_some_and(|call| call.attempt.number() == number))
    }

    /// Gives up this call, if it has had its time by now.
    pub(super) fn time_out(&mut self, side: usize, setting: &Setting, now: Instant) {
        if self.answered || self.calls[side].as_ref().is_none_or(|call| now < call.limit) {
            return;
        }
        if let Some(attempt) = self.give_up(side, setting, now) {
            self.trip.fail(attempt.number(), FailureKind::Timeout.into(), true, now);
        }
    }

    /// Nobody waits for this call any more.
    pub(super) fn give_up(&mut self, side: usize, setting: &Setting, now: Instant) -> Option<Attempt> {
        let Call { job, attempt, .. } = self.calls[side].take()?;
        setting.reality.lock().cluster.cancel(job);
        setting.tell(|audit| audit.over(self.request.number, &attempt, Over::GivenUp, now));
        Some(attempt)
    }
}

pub(super) fn flight<'f, 's>(flights: &'f mut [(u32, Option<Flight<'s>>)], tag: u64) -> Option<&'f mut Flight<'s>> {
    let (generation, flight) = flights.get_mut(tag as u32 as usize)?;
    if u64::from(*generation) == tag >> 32 { flight.as_mut() } else { None }
}
