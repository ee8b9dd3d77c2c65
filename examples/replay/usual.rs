//! The usual client: a list of servers, three retries, a timeout per attempt, no memory.
//!
//! This is the loop that most applications have around their SDK, with the settings under which it does best here:
//!
//! - **The list** begins with the preferred region. With everything sent to its first entry, that server would drown at
//!   this load and the comparison would end there; so the first choice of each request moves on by one, as every
//!   round-robin proxy does it, and retries go on down the list from there.
//! - **Retries**: three, at once, since each goes to another server. Retried are refused and broken connections, timeouts,
//!   429 and 5xx, as the common SDKs do. Retry-After is for the server that sent it, and the next attempt goes elsewhere.
//! - **The timeout** is that of fallway, 0.4 of the SLO to the first token ([`Patience`]). Most loops wait far longer; of
//!   the limits that were measured (`--usual-limit`, see `docs/benchmarks.md`) this one serves it best.
//! - **Streams**: it asks for streams as fallway does, so that the timeout finds a dead server early whatever the length
//!   of the answer. An answer that its caller wants whole is handed over when it is complete, and one that breaks before
//!   is one more attempt.
//! - **After the first token** of a stream there is no retry: the caller has read a part of the answer. A stream that ends
//!   cleanly is taken for complete, with or without `[DONE]`: most loops end where the body ends.
//! - **No memory**: what one request has learned, the next one learns again. It counts no calls in flight, so it knows no
//!   limits, and there is no deadline over all attempts. That is what makes it the usual client.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use crate::answer::{Answer, Failure, Piece};
use crate::client::{Call, Client, Observation, Outcome, Patience};
use crate::fleet::Endpoint;
use crate::support::http::Http;

/// Attempts after the first.
const RETRIES: u32 = 3;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct UsualClient {
    http: Http,
    servers: Vec<Endpoint>,
    patience: Patience,
    next: AtomicUsize,
}

impl UsualClient {
    /// A client with this list, in order of preference.
    pub(crate) fn new(servers: Vec<Endpoint>, patience: Patience) -> Self {
        Self { http: Http::new(patience.first_token), servers, patience, next: AtomicUsize::new(0) }
    }

    /// One attempt up to what can be handed over: the first piece of a stream, or the whole.
    async fn begin(&self, server: &Endpoint, call: &Call) -> Result<(Answer, Piece), Trouble> {
        let first = async {
            let mut answer = Answer::open(&self.http, server, &call.job).await?;
            let piece = answer.next().await?;
            Ok::<_, Failure>((answer, piece))
        };
        let (mut answer, mut piece) = timeout(self.patience.first_token, first).await??;
        if call.job.stream {
            return Ok((answer, piece));
        }
        while let Piece::Tokens(_) = piece {
            piece = timeout(self.patience.pause, answer.next()).await??;
        }
        match piece {
            Piece::Done => Ok((answer, piece)),
            // Nobody has seen any of it yet.
            _ => Err(Trouble::Failure(Failure::Malformed)),
        }
    }

    /// The rest of an answer whose first piece is known.
    async fn finish(&self, mut answer: Answer, mut piece: Piece, call: &Call) -> Outcome {
        while let Piece::Tokens(_) = piece {
            piece = match timeout(self.patience.pause, answer.next()).await {
                Ok(Ok(next)) => next,
                Ok(Err(_)) | Err(_) => return Outcome::TruncatedReported,
            };
        }
        Outcome::of_finished(answer.tokens(), &call.job)
    }
}

/// How an attempt ended before anything was handed over.
enum Trouble {
    Failure(Failure),
    Timeout,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Elapsed> for Trouble {
    fn from(_: Elapsed) -> Self {
        Self::Timeout
    }
}

impl Trouble {
    fn worth_a_retry(&self) -> bool {
        match self {
            Self::Failure(Failure::Status(status, _)) => status.as_u16() == 429 || status.is_server_error(),
            Self::Failure(_) | Self::Timeout => true,
        }
    }

    fn is_rate_limit(&self) -> bool {
        matches!(self, Self::Failure(Failure::Status(status, _)) if status.as_u16() == 429)
    }

    fn reason(&self) -> String {
        match self {
            Self::Failure(failure) => failure.reason(),
            Self::Timeout => "timeout".into(),
        }
    }
}

impl Client for UsualClient {
    fn name(&self) -> &'static str {
        "usual client"
    }

    fn settings(&self) -> String {
        let Patience { first_token, pause } = self.patience;
        format!(
            "takes turns over the nine, {RETRIES} retries, each elsewhere and at once, first token within \
             {first_token:?}, pauses up to {pause:?}, no limits of calls in flight, no memory"
        )
    }

    async fn send(&self, call: &Call) -> Observation {
        let first = self.next.fetch_add(1, Relaxed);
        let mut seen = Observation {
            started: call.arrived,
            first_token_at: None,
            ended_at: call.arrived,
            attempts: 0,
            rate_limited: 0,
            degraded: false,
            backend: None,
            outcome: Outcome::Error("no server in the list".into()),
        };
        let order = self.servers.iter().cycle().skip(first % self.servers.len().max(1));
        for server in order.take(1 + RETRIES as usize) {
            seen.attempts += 1;
            match self.begin(server, call).await {
                Ok((answer, piece)) => {
                    if answer.tokens() > 0 {
                        seen.first_token_at = Some(Instant::now());
                    }
                    seen.backend = Some(server.id.clone());
                    seen.outcome = self.finish(answer, piece, call).await;
                    break;
                }
                Err(trouble) => {
                    seen.rate_limited += u32::from(trouble.is_rate_limit());
                    seen.outcome = Outcome::Error(trouble.reason());
                    if !trouble.worth_a_retry() {
                        break;
                    }
                }
            }
        }
        seen.ended_at = Instant::now();
        seen
    }
}
