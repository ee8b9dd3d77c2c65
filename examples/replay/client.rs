//! What a client under test is, and what is noted of each of its requests.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::faults::Fault;
use crate::workload::Job;

/// How long a client waits for a first token and for the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the first token of one attempt.
    pub(crate) first_token: Duration,
    /// For the next token.
    pub(crate) pause: Duration,
}

impl Patience {
    /// The part of the SLO that one attempt may wait for its first token, by default: what is left is enough for another.
    pub(crate) const FIRST_TOKEN: f64 = 0.4;

    /// What suits this SLO.
    pub(crate) fn for_slo(slo: Duration) -> Self {
        Self { first_token: slo.mul_f64(Self::FIRST_TOKEN), pause: slo }
    }
}

/// Somebody who sends requests to the nine servers. It knows their addresses, nothing of the faults.
pub(crate) trait Client: Send + Sync + 'static {
    /// Name in tables and pictures.
    fn name(&self) -> &'static str;

    /// What it was told, in a few words, for whoever compares.
    fn settings(&self) -> String;

    /// Sends one request and reads its answer to the end.
    ///
    /// It may read from the call what an application knows: the request, when it arrived, by when the whole answer is due.
    /// It checks the answer with [`Outcome::of_finished`] once it takes it for complete.
    fn send(&self, call: &Call) -> impl Future<Output = Observation> + Send;

    /// Decisions worth showing after the run; a client that keeps no record has none.
    fn explained(&self) -> Vec<Explained> {
        Vec::new()
    }

    /// Claims on capacity that are still held after the last request ended; none for a client that holds none.
    fn leaked_leases(&self) -> u64 {
        0
    }
}

/// One request on its way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) job: Arc<Job>,
    /// When it arrived by the schedule. Latency counts from here, so that a late start is not a fast answer.
    pub(crate) arrived: Instant,
    /// By when the whole answer is due.
    pub(crate) deadline: Instant,
    /// The fault in force at its arrival. For choosing which decisions to show, not for routing.
    pub(crate) during: Option<Fault>,
}

/// How a request went.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// When it arrived by the schedule.
    pub(crate) started: Instant,
    /// When the first content was there; of a unary answer, all of it.
    pub(crate) first_token_at: Option<Instant>,
    /// When the client was done with it, one way or the other.
    pub(crate) ended_at: Instant,
    /// Calls to servers.
    pub(crate) attempts: u32,
    /// How many of them were answered 429.
    pub(crate) rate_limited: u32,
    /// Whether a last resort answered instead of a server.
    pub(crate) degraded: bool,
    /// Who gave the answer.
    pub(crate) backend: Option<String>,
    /// What the caller got.
    pub(crate) outcome: Outcome,
}

/// What the caller of a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole answer.
    Ok,
    /// An error instead of an answer, with its reason in a few fixed words.
    Error(String),
    /// A part of the answer and an error that says so.
    TruncatedReported,
    /// A part of the answer that was handed over as the whole.
    TruncatedSilently,
}

impl Outcome {
    /// What a caller has who was told "complete" and counts the tokens.
    pub(crate) fn of_finished(tokens: u32, job: &Job) -> Self {
        if tokens == job.output_tokens { Self::Ok } else { Self::TruncatedSilently }
    }

    /// The key under which it is counted as an error, if it is one.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Error(reason) => Some(reason),
            Self::TruncatedReported => Some("truncated, reported"),
            Self::TruncatedSilently => Some("truncated, silent"),
        }
    }
}

/// A decision for people.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    /// Why this one is shown.
    pub(crate) title: String,
    /// The explanation, several lines.
    pub(crate) text: String,
}
