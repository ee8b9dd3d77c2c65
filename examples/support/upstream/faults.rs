//! Faults that a schedule or a test switches on and off while the deployment runs.

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use fallway::rng::Rng;

/// A status answered at once instead of the completion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatusFault {
    /// For example 503 or 429.
    pub status: u16,
    /// Value of the `retry-after` header in seconds; no header when `None`.
    pub retry_after_s: Option<u64>,
    /// Share of the requests that get it, 0 to 1.
    pub probability: f64,
}

/// Where a request stops making progress for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// The request is read, nothing is ever answered.
    BeforeHeaders,
    /// A 200 and its headers, then nothing.
    AfterHeaders,
    /// The role chunk of a stream, or half of a unary answer, then nothing.
    AfterRole,
}

/// Everything that can be wrong with a deployment at one moment; the default is nothing. All fields compose.
///
/// A request keeps the set it met when it arrived: clearing the faults heals later requests, not one that hangs.
/// Token counts count tokens already sent; a fault beyond the end of an answer never happens. When several faults wait at
/// the same token, the order is stall, cut, close, error event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultSet {
    /// Answer this instead of working.
    pub status: Option<StatusFault>,
    /// Factor on all latencies, `Some(10.0)` for a gray failure.
    pub slow: Option<f64>,
    /// Stop for ever at this point.
    pub hang: Option<Hang>,
    /// Stop for ever after this many tokens.
    pub stall_after: Option<usize>,
    /// Write half an event after this many tokens, then close the connection without the final chunk.
    pub cut_after: Option<usize>,
    /// End the stream cleanly after this many tokens, without a finish chunk and without `[DONE]`; a unary answer at its half.
    pub close_after: Option<usize>,
    /// Send an error event inside the 200 stream after this many tokens, then end it; a unary 200 is an error object then.
    pub error_event_after: Option<usize>,
    /// Send the body byte by byte with this pause between them.
    pub drip: Option<Duration>,
}

/// The faults in force. Every setter changes one fault and leaves the others.
#[derive(Debug)]
pub struct Faults {
    set: RwLock<FaultSet>,
    /// From a fixed seed: the n-th request of two runs meets the same luck.
    luck: Mutex<Rng>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { set: RwLock::default(), luck: Mutex::new(Rng::new(0)) }
    }
}

impl Faults {
    /// All faults in force.
    pub fn get(&self) -> FaultSet {
        *self.set.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all faults at once.
    pub fn set(&self, set: FaultSet) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = set;
    }

    /// Switches everything off.
    pub fn clear(&self) {
        self.set(FaultSet::default());
    }

    /// Answers every request with this status.
    pub fn status(&self, status: u16, retry_after_s: Option<u64>) {
        self.status_with_probability(status, retry_after_s, 1.0);
    }

    /// Answers a share of the requests with this status.
    pub fn status_with_probability(&self, status: u16, retry_after_s: Option<u64>, probability: f64) {
        self.change(|set| set.status = Some(StatusFault { status, retry_after_s, probability }));
    }

    /// Multiplies all latencies.
    pub fn slow(&self, factor: f64) {
        self.change(|set| set.slow = Some(factor));
    }

    /// Stops every request for ever at this point.
    pub fn hang(&self, hang: Hang) {
        self.change(|set| set.hang = Some(hang));
    }

    /// Stops every answer for ever after this many tokens.
    pub fn stall_after(&self, tokens: usize) {
        self.change(|set| set.stall_after = Some(tokens));
    }

    /// Cuts the connection in the middle of an event after this many tokens.
    pub fn cut_after(&self, tokens: usize) {
        self.change(|set| set.cut_after = Some(tokens));
    }

    /// Ends streams cleanly but without `[DONE]` after this many tokens.
    pub fn close_after(&self, tokens: usize) {
        self.change(|set| set.close_after = Some(tokens));
    }

    /// Sends an error event inside the stream after this many tokens.
    pub fn error_event_after(&self, tokens: usize) {
        self.change(|set| set.error_event_after = Some(tokens));
    }

    /// Sends bodies byte by byte.
    pub fn drip(&self, pause: Duration) {
        self.change(|set| set.drip = Some(pause));
    }

    /// The status this request is to be refused with, if any. Draws only when the probability is not certain.
    pub(super) fn refusal(&self, set: &FaultSet) -> Option<StatusFault> {
        set.status.filter(|fault| fault.probability >= 1.0 || self.draw() < fault.probability)
    }

    fn change(&self, change: impl FnOnce(&mut FaultSet)) {
        change(&mut self.set.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn draw(&self) -> f64 {
        self.luck.lock().unwrap_or_else(PoisonError::into_inner).unit()
    }
}
