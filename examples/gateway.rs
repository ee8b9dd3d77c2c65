//! An OpenAI-compatible reverse proxy: what a platform team builds first on top of the crate.
//!
//! ```text
//! cargo run --release --example gateway -- --listen 127.0.0.1:8080 \
//!     --backend id=a,url=http://127.0.0.1:9001,region=eu,model=m --backend id=b,url=http://127.0.0.1:9002,model=m
//! ```
//!
//! `POST /v1/chat/completions`, whole and streamed, within the total deadline of the header `x-fallway-deadline-ms`
//! (default 60 s). Every answer says who gave it, after how many attempts, and why: `x-fallway-backend`,
//! `x-fallway-attempts`, `x-fallway-decision`. `GET /decisions` shows the last hundred in full, `GET /health` says `ok`.
//! A client that goes away cancels the call to the backend. With `weight=` requests are shared out by weight.

use std::collections::VecDeque;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fallway::adapt::tokio::TokioTimer;
use fallway::backend::{FailureKind, Fault};
use fallway::budget::TimeoutFormat;
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::{BuildError, CallOptions, Decision, RouteError, Routed, Router};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};

#[path = "support/proxy/mod.rs"]
mod proxy;
#[path = "support/mod.rs"]
mod support;

use proxy::args::Args;
use proxy::http::{Answer, answer, problem, relay, serve};
use support::openai::{ChatAnswer, ChatRequest, Refusal};

const BACKEND: HeaderName = HeaderName::from_static("x-fallway-backend");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-fallway-attempts");
const DECISION: HeaderName = HeaderName::from_static("x-fallway-decision");
/// Longest request body: a prompt with pictures.
const MAX_REQUEST: usize = 32 << 20;
/// How many decisions `GET /decisions` shows.
const KEPT: usize = 100;
/// Longest decision in a header; `/decisions` has the whole.
const MAX_LINE: usize = 400;

/// The router, and what it decided lately.
struct Gateway {
    router: Router<ChatRequest, ChatAnswer>,
    decisions: Mutex<VecDeque<Decision>>,
}

fn main() -> ExitCode {
    let started = Args::parse(std::env::args().skip(1)).and_then(|args| {
        let (listen, threads) = (args.listen, args.threads);
        let router = build(args).map_err(|error| error.to_string())?;
        Ok((listen, threads, Gateway { router, decisions: Mutex::default() }))
    });
    let (message, code) = match started {
        Ok((listen, threads, gateway)) => {
            let Err(error) = serve(listen, threads, gateway, Gateway::handle);
            (format!("{listen}: {error}"), ExitCode::FAILURE)
        }
        Err(message) => (message, ExitCode::from(2)),
    };
    eprintln!("gateway: {message}");
    code
}

fn build(args: Args) -> Result<Router<ChatRequest, ChatAnswer>, BuildError> {
    let mut fail_safe = FailSafe::default().attempts(args.attempts);
    if let Some(limit) = args.attempt_limit {
        fail_safe = fail_safe.attempt_limit(limit);
    }
    // A chain for each model by name and none behind unknown ones: a typing error shall be a 404.
    if let Some(fallback) = &args.fallback_model {
        for model in args.backends.iter().filter_map(|(profile, _)| profile.model_name()) {
            fail_safe = fail_safe.tiers(model, [model, fallback.as_str()]);
        }
    }
    let mut builder = Router::builder(args.leaf().fail_safe(fail_safe));
    if let Some(limit) = args.stall_limit {
        builder = builder.idle_limit(limit);
    }
    for (profile, backend) in args.backends {
        builder = builder.backend(profile, backend);
    }
    builder.ejection(Ejection::fast()).timer(TokioTimer::default()).build()
}

impl Gateway {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/chat/completions") => self.chat(request).await,
            (&Method::GET, "/decisions") => match serde_json::to_vec(&*self.decisions()) {
                Ok(json) => answer(StatusCode::OK, "application/json", json),
                Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &error.to_string()),
            },
            (&Method::GET, "/health") => answer(StatusCode::OK, "text/plain", "ok"),
            _ => problem(StatusCode::NOT_FOUND, "not_found", "there is no such page"),
        }
    }

    async fn chat(&self, request: Request<Incoming>) -> Answer {
        let bad = |message: &str| problem(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, MAX_REQUEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return problem(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &error.to_string()),
        };
        let request = match ChatRequest::new(body, &head.headers) {
            Ok(request) => request,
            Err(error) => return bad(&format!("the body is no chat completion request: {error}")),
        };
        let mut options = CallOptions::new(request.facts());
        if let Some(value) = head.headers.get("x-fallway-deadline-ms") {
            match value.to_str().map(|text| TimeoutFormat::Millis.parse(text)) {
                Ok(Ok(total)) => options = options.deadline(total),
                _ => return bad("x-fallway-deadline-ms is not a whole number of milliseconds"),
            }
        }
        let (mut answer, decision) = if request.is_stream() {
            match self.router.stream(&request, options).await {
                Ok(stream) => {
                    let decision = stream.decision().clone();
                    (relay(stream), decision)
                }
                Err(error) => refuse(&error),
            }
        } else {
            match self.router.call(&request, options).await.map(Routed::into_parts) {
                Ok((ChatAnswer::Whole(bytes), decision)) => {
                    (answer(StatusCode::OK, "application/json", bytes), decision)
                }
                Ok((ChatAnswer::Events(_), decision)) => {
                    (problem(StatusCode::BAD_GATEWAY, "upstream_error", "a stream that nobody asked for"), decision)
                }
                Err(error) => refuse(&error),
            }
        };
        answer.headers_mut().extend(explain(&decision));
        self.keep(decision);
        answer
    }

    fn keep(&self, decision: Decision) {
        let mut decisions = self.decisions();
        if decisions.len() == KEPT {
            decisions.pop_front();
        }
        decisions.push_back(decision);
    }

    fn decisions(&self) -> MutexGuard<'_, VecDeque<Decision>> {
        // A panic elsewhere leaves the list as it was.
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The headers that say how the request went.
fn explain(decision: &Decision) -> [(HeaderName, HeaderValue); 3] {
    let ascii = |text: &str| {
        let plain = text.chars().map(|char| match char {
            ' '..='~' => char,
            'µ' => 'u',
            _ => '?', // a model's name comes from the caller and may be anything
        });
        HeaderValue::try_from(plain.take(MAX_LINE).collect::<String>()).unwrap_or(HeaderValue::from_static("?"))
    };
    let last = decision.attempts().last().map_or("none", |attempt| attempt.name());
    let attempts = decision.attempts().len().into();
    [(BACKEND, ascii(last)), (ATTEMPTS, attempts), (DECISION, ascii(&format!("{decision:#}")))]
}

/// The error of a request that no backend answered. What is the caller's fault is passed on in the backend's own words.
fn refuse(error: &RouteError) -> (Answer, Decision) {
    (refusal(error), error.decision().clone())
}

fn refusal(error: &RouteError) -> Answer {
    let said = error.backend_error().and_then(|error| error.source()?.downcast_ref::<Refusal>());
    if let Some(Refusal { status, body }) = said
        && error.last_failure().is_some_and(|kind| kind.conduct().fault == Fault::Caller)
    {
        return answer(*status, "application/json", body.clone());
    }
    let (status, kind) = match error.kind() {
        RouteErrorKind::UnknownModel | RouteErrorKind::NotServed => (StatusCode::NOT_FOUND, "model_not_found"),
        RouteErrorKind::DeadlineExceeded | RouteErrorKind::ZeroDeadline => {
            (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded")
        }
        RouteErrorKind::NothingUsable if is_too_large(error) => (StatusCode::BAD_REQUEST, "context_length_exceeded"),
        _ if is_rate_limited(error) => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
        RouteErrorKind::AttemptsExhausted | RouteErrorKind::NotRetryable => (StatusCode::BAD_GATEWAY, "upstream_error"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
    };
    let mut answer = problem(status, kind, &error.to_string());
    if let Some(after) = error.retry_after() {
        let seconds = after.as_secs_f64().ceil().max(1.0);
        answer.headers_mut().insert(RETRY_AFTER, (seconds as u64).into());
    }
    answer
}

/// Whether rate limits are what stood in the way.
fn is_rate_limited(error: &RouteError) -> bool {
    let mut rejected = error.decision().candidates().filter_map(|candidate| candidate.rejected());
    match error.last_failure() {
        Some(kind) => kind == FailureKind::RateLimited,
        None => rejected.all(|reason| {
            matches!(reason, Reason::RateLimited { .. } | Reason::OverQuota { .. } | Reason::ProbeInFlight { .. })
        }),
    }
}

/// Whether it will never fit anywhere: as servers say it of a prompt that is too long, so that nobody asks again.
fn is_too_large(error: &RouteError) -> bool {
    let mut candidates = error.decision().candidates().peekable();
    candidates.peek().is_some()
        && candidates.all(|candidate| {
            matches!(
                candidate.rejected(),
                Some(Reason::ContextTooLong { .. } | Reason::QuotaTooSmall { .. } | Reason::TokenBoundTooSmall { .. })
            )
        })
}
