//! The client under test: nine backends behind one fallway router. This is all the code that a host needs for it.
//!
//! - **The point of no return** of a stream is its first token: until then the router tries elsewhere, after it the caller
//!   is told. An answer that the caller wants whole is handed over when it is complete, so one that breaks midway costs an
//!   attempt and not the request.
//! - **The end is `[DONE]`**, nothing else. A body that ends without it is a failure of its server, and the router learns it.
//! - **Limits**: no server gets more in flight than it can use. What does not fit waits in the router, from where it goes to
//!   whoever is free first, and not behind a slow one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use fallway::backend::StreamItem;
use fallway::backend::{Attempt, Backend, BackendError, FailureKind};
use fallway::decision::Next;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::recover::Ejection;
use fallway::router::Streamed;
use fallway::{CallOptions, Decision, Facts, Profile, RouteError, Router};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, timeout};

use crate::answer::{Answer, Failure, Piece};
use crate::client::{Call, Client, Explained, Observation, Outcome, Patience};
use crate::faults::Fault;
use crate::fleet::Endpoint;
use crate::support::http::Http;
use crate::workload::{Job, MODEL};

/// This many requests pass before the decision is kept that is shown as the normal one: the router knows its servers then.
const WARM: usize = 40;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct FallwayClient {
    router: Router<Job, Pieces>,
    patience: Patience,
    shown: Mutex<Shown>,
}

/// Answers as they arrive; a whole one is its only piece.
type Pieces = BoxStream<'static, Result<Part, BackendError>>;

/// A part of an answer.
struct Part {
    tokens: u32,
    last: bool,
}

impl StreamItem for Part {
    fn content(&self) -> u64 {
        self.tokens.into()
    }

    fn is_last(&self) -> bool {
        self.last
    }

    fn size(&self) -> usize {
        0 // the text is read and not kept
    }
}

impl FallwayClient {
    /// A router over these servers.
    pub(crate) fn new(servers: Vec<Endpoint>, patience: Patience) -> Self {
        let http = Http::new(patience.first_token);
        // In compressed time a second is most of a minute: rests are short. Every cut stream is a request that nobody can
        // save, so three failures in a row are enough.
        let ejection = Ejection::fast().consecutive(3);
        let mut router = Router::builder(predicted_ttft().fail_safe(FailSafe::default())).ejection(ejection);
        for endpoint in servers {
            let profile =
                Profile::new(endpoint.id.clone()).model(MODEL).region(endpoint.region).concurrency(endpoint.in_flight);
            router = router.backend(profile, Server { http: http.clone(), endpoint, patience });
        }
        Self {
            router: router.build().expect("nine servers with distinct ids and positive limits are a valid fleet"),
            patience,
            shown: Mutex::default(),
        }
    }

    fn options(&self, job: &Job, time: Duration) -> CallOptions {
        // A completion that is computed twice costs money twice and does no other harm.
        let facts = Facts::model(MODEL).prompt_tokens(job.prompt_tokens.into()).replay_safe();
        CallOptions::within(time).facts(facts).idle_limit(self.patience.pause)
    }
}

impl Client for FallwayClient {
    fn name(&self) -> &'static str {
        "fallway"
    }

    fn settings(&self) -> String {
        let Patience { first_token, pause } = self.patience;
        let attempts = FailSafe::ATTEMPTS;
        format!(
            "{} over the nine, {attempts} attempts, first token within {first_token:?}, pauses up to {pause:?}, known \
             limits of calls in flight, one deadline for all attempts",
            self.router.describe()
        )
    }

    async fn send(&self, call: &Call) -> Observation {
        let time = call.deadline.saturating_duration_since(Instant::now());
        let answer = self.router.stream(&call.job, self.options(&call.job, time)).await;
        self.show(call, answer.as_ref().map_or_else(RouteError::decision, Streamed::decision));
        let attempts = answer.as_ref().map_or_else(RouteError::attempts, Streamed::attempts);
        let limited = attempts.iter().filter(|attempt| attempt.failure() == Some(FailureKind::RateLimited)).count();
        let mut seen = Observation {
            started: call.arrived,
            first_token_at: answer.is_ok().then(Instant::now),
            ended_at: call.arrived,
            attempts: attempts.len() as u32,
            rate_limited: limited as u32,
            degraded: answer.as_ref().is_ok_and(Streamed::is_degraded),
            backend: answer.as_ref().ok().and_then(Streamed::backend).map(str::to_owned),
            outcome: Outcome::TruncatedReported,
        };
        seen.outcome = match answer {
            Ok(answer) => read(answer, &call.job).await,
            Err(error) => Outcome::Error(match error.last_failure() {
                Some(kind) => format!("refused after {kind}"),
                None => "refused, nothing usable".into(),
            }),
        };
        seen.ended_at = Instant::now();
        seen
    }

    fn explained(&self) -> Vec<Explained> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let named = [
            ("a normal decision", &shown.normal),
            ("with a region lost", &shown.outage),
            ("a request of the run that was refused", &shown.refused),
        ];
        let kept = named.into_iter().filter_map(|(title, text)| Some((title, text.clone()?)));
        // Where the run refused nobody, a refusal is only to be had by asking for what nobody offers.
        let dry = shown.refused.is_none().then(|| {
            let abroad = Facts::model(MODEL).prompt_tokens(900).residency(["ap-south"]);
            let title = "no request of the run was refused; a dry run of one that may be served in ap-south only";
            (title, self.router.explain(&CallOptions::new(abroad)).to_string())
        });
        kept.chain(dry).map(|(title, text)| Explained { title: title.into(), text }).collect()
    }

    fn leaked_leases(&self) -> u64 {
        self.router.total_in_flight()
    }
}

/// Reads an answer to its end, which the router watches.
async fn read(mut answer: Streamed<Job, Pieces>, job: &Job) -> Outcome {
    let mut tokens = 0;
    while let Some(part) = answer.next().await {
        match part {
            Ok(part) => tokens += part.tokens,
            Err(_interrupted) => return Outcome::TruncatedReported,
        }
    }
    Outcome::of_finished(tokens, job)
}

/// The decisions to show. Rendering costs something, so it is done for a few.
#[derive(Debug, Default)]
struct Shown {
    requests: usize,
    normal: Option<String>,
    outage: Option<String>,
    refused: Option<String>,
    /// The one kept of the outage had to try twice: there is no better one.
    failed_over: bool,
}

impl FallwayClient {
    fn show(&self, call: &Call, decision: &Decision) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.requests += 1;
        if shown.requests > WARM && call.during.is_none() && shown.normal.is_none() {
            shown.normal = Some(decision.to_string());
        }
        if matches!(decision.next(), Next::Refuse { .. }) && shown.refused.is_none() {
            shown.refused = Some(decision.to_string());
        }
        let failed_over = decision.attempts().len() > 1;
        let better = failed_over && !shown.failed_over;
        if call.during == Some(Fault::RegionLost) && (shown.outage.is_none() || better) {
            shown.outage = Some(decision.to_string());
            shown.failed_over = failed_over;
        }
    }
}

/// One server as a fallway backend.
#[derive(Debug)]
struct Server {
    http: Http,
    endpoint: Endpoint,
    patience: Patience,
}

#[async_trait]
impl Backend<Job> for Server {
    type Response = Pieces;

    async fn call(&self, job: &Job, _: &Attempt) -> Result<Pieces, BackendError> {
        let first = timeout(self.patience.first_token, self.begin(job)).await;
        let (mut answer, first) = first.map_err(|_| FailureKind::Timeout)??;
        if job.stream {
            let rest =
                stream::try_unfold(answer, async |mut answer| Ok(part(&mut answer).await?.map(|it| (it, answer))));
            return Ok(stream::iter([Ok(first)]).chain(rest).boxed());
        }
        let mut last = first.last;
        while !last {
            last = part(&mut answer).await?.ok_or(FailureKind::Truncated)?.last;
        }
        Ok(stream::iter([Ok(Part { tokens: answer.tokens(), last })]).boxed())
    }
}

impl Server {
    /// An answer and its first part. To wait for it here costs nothing: the router has a limit of its own for all.
    async fn begin(&self, job: &Job) -> Result<(Answer, Part), BackendError> {
        let mut answer = Answer::open(&self.http, &self.endpoint, job).await?;
        let first = part(&mut answer).await?;
        Ok((answer, first.ok_or(FailureKind::Protocol)?))
    }
}

/// The next part of an answer; `None` where the body ends.
async fn part(answer: &mut Answer) -> Result<Option<Part>, BackendError> {
    Ok(match answer.next().await? {
        Piece::Tokens(tokens) => Some(Part { tokens, last: false }),
        Piece::Done => Some(Part { tokens: 0, last: true }),
        Piece::EndedWithoutDone => None,
    })
}

/// What went wrong, in the words of the taxonomy.
impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused => FailureKind::Unreachable.into(),
            Failure::Status(status, headers) => {
                let header = |name: &str| headers.get(name)?.to_str().ok();
                Self::from_http(status.as_u16(), header, "", SystemTime::now())
            }
            Failure::Broken => FailureKind::Truncated.into(),
            Failure::ErrorEvent => Self::from_stream_event(None, ""),
            Failure::Malformed => FailureKind::Protocol.into(),
        }
    }
}
