//! The usual client: a list of servers, three retries, a timeout per attempt, no memory.
//!
//! This is the loop that most applications have around their SDK, and it is given every fair chance:
//!
//! - **The list** begins with the preferred region. With everything sent to its first entry, that server would drown at
//!   this load and the comparison would end there; so the first choice of each request moves on by one, as every
//!   round-robin proxy does it, and retries go on down the list from there.
//! - **Retries**: three, at once, since each goes to another server. Retried are refused and broken connections, timeouts,
//!   429 and 5xx, as the common SDKs do. Retry-After is for the server that sent it, and the next attempt goes elsewhere.
//! - **The timeout** is two seconds: to the first token of a stream, to the whole of a unary answer. Common defaults are
//!   60 to 600 s in a world where an answer takes ten seconds; answers here take a fraction of a second, so two seconds
//!   are the *short* end of what is usual. A stream must also not pause for longer than that.
//! - **After the first token** there is no retry: the caller has read a part of the answer. A stream that ends cleanly
//!   is taken for complete, with or without `[DONE]`: most loops end where the body ends.
//! - **No memory**: what one request has learned, the next one learns again. There is no deadline over all attempts.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::answer::{Answer, Failure, Piece};
use crate::client::{Call, Client, Observation, Outcome};
use crate::fleet::Endpoint;
use crate::support::http::Http;

/// Attempts after the first.
const RETRIES: u32 = 3;
/// Limit of one attempt, and of a pause inside a stream.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct UsualClient {
    http: Http,
    servers: Vec<Endpoint>,
    next: AtomicUsize,
}

impl UsualClient {
    /// A client with this list, in order of preference.
    pub(crate) fn new(servers: Vec<Endpoint>) -> Self {
        Self { http: Http::new(ATTEMPT_TIMEOUT), servers, next: AtomicUsize::new(0) }
    }

    /// One attempt up to the first piece of content.
    async fn begin(&self, server: &Endpoint, call: &Call) -> Result<(Answer, Piece), Trouble> {
        let first = async {
            let mut answer = Answer::open(&self.http, server, &call.job, call.job.stream).await?;
            let piece = answer.next().await?;
            Ok((answer, piece))
        };
        match timeout(ATTEMPT_TIMEOUT, first).await {
            Ok(result) => result.map_err(Trouble::Failure),
            Err(_) => Err(Trouble::Timeout),
        }
    }

    /// The rest of an answer whose first piece is known.
    async fn finish(&self, mut answer: Answer, mut piece: Piece, call: &Call) -> Outcome {
        while let Piece::Tokens(_) = piece {
            piece = match timeout(ATTEMPT_TIMEOUT, answer.next()).await {
                Ok(Ok(next)) => next,
                Ok(Err(_)) | Err(_) => return Outcome::TruncatedReported,
            };
        }
        Outcome::of_finished(answer.tokens(), &call.job)
    }
}

/// How an attempt ended before its first token.
enum Trouble {
    Failure(Failure),
    Timeout,
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
                    if let Piece::Tokens(_) = piece {
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
