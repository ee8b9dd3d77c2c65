//! [`Routed`]: an answer and the claim behind it.

use super::driver::Answered;
use super::lease::Lease;
use crate::decision::{AttemptRecord, Decision, Ending};
use std::fmt;

/// An answer, the lease on its backend's capacity, and the decision behind it.
///
/// The attempt ends when this does: when the answer is taken out ([`into_inner`](Self::into_inner)) or this is dropped.
/// Both are a success, for the answer was all there; only where a panic drops this, the attempt
/// [failed](crate::FailureKind::Panicked), for the answer may be what made its reader panic. One that is still to come is a stream's: see
/// [`Router::stream`](crate::Router::stream).
pub struct Routed<Res> {
    response: Res,
    // Dropped behind the response. `None` for the last resort.
    lease: Option<Lease>,
    decision: Decision,
}

impl<Res> Routed<Res> {
    pub(super) fn new(answered: Answered<Res>) -> Self {
        let Answered { opened, mut lease, mut decision, .. } = answered;
        if let Some(lease) = &mut lease {
            lease.answered();
            // All of it is there, and what it used was told.
            if let Some(attempt) = decision.record_mut().attempts.last_mut() {
                lease.close(attempt, Ending::Answered, attempt.ended);
            }
        }
        Self { response: opened, lease, decision }
    }

    /// The answer.
    pub const fn response(&self) -> &Res {
        &self.response
    }

    /// Takes the answer out; its attempt ends here, successfully.
    pub fn into_inner(self) -> Res {
        self.response
    }

    /// Takes the answer and the decision out; the attempt ends here, successfully.
    pub fn into_parts(self) -> (Res, Decision) {
        (self.response, self.decision)
    }

    /// The decision behind it.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The name of the backend that answered; `None` for the last resort.
    pub fn backend(&self) -> Option<&str> {
        if self.is_degraded() { None } else { self.attempts().last().map(AttemptRecord::name) }
    }

    /// Every attempt, the successful one last.
    pub fn attempts(&self) -> &[AttemptRecord] {
        self.decision.attempts()
    }

    /// Whether the last resort answered.
    pub const fn is_degraded(&self) -> bool {
        self.lease.is_none()
    }
}

impl<Res: fmt::Debug> fmt::Debug for Routed<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the response: it is payload.
        f.debug_struct("Routed")
            .field("degraded", &self.is_degraded())
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}
