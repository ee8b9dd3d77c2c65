//! The endpoints and the service model: refusals, slots, prefill.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::UpstreamConfig;
use super::answer::Script;
use super::counters::{Counters, End};
use super::faults::{FaultSet, Faults, Hang};
use super::quota::Quotas;

/// Prompts of long conversations are megabytes; the default of axum is 2 MB.
const MAX_BODY: usize = 32 << 20;
/// Output tokens of a request that names no `max_tokens`.
const DEFAULT_MAX_TOKENS: usize = 20;
/// Rough length of a token, for prompts whose count is not announced.
const CHARS_PER_TOKEN: usize = 4;
/// A timer may fire this much late; a prefill that follows another one directly is counted from the end it should have had.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// State of one deployment, shared by its connections and its handle.
pub(super) struct Shared {
    pub(super) config: UpstreamConfig,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
    /// Set while the server goes down: what dies then was not cancelled by its client.
    pub(super) down: AtomicBool,
    slots: Arc<Semaphore>,
    /// When the prefill server became free. The lock is the FIFO queue in front of it.
    prefill: Mutex<Instant>,
    answers: AtomicU64,
    quotas: std::sync::Mutex<Quotas>,
    /// `created` of all answers, in Unix seconds.
    started: u64,
}

impl Shared {
    pub(super) fn new(config: UpstreamConfig) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(config.slots.min(Semaphore::MAX_PERMITS))),
            faults: Faults::default(),
            counters: Counters::new(),
            down: AtomicBool::new(false),
            prefill: Mutex::new(Instant::now()),
            answers: AtomicU64::new(0),
            quotas: std::sync::Mutex::new(Quotas::new(config.requests_per_minute, config.tokens_per_minute)),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            config,
        }
    }

    fn quotas(&self) -> MutexGuard<'_, Quotas> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the prefill server and then for the prefill itself.
    async fn prefill(&self, tokens: usize, slow: f64) {
        let cost = seconds(tokens as f64 / self.config.prefill_tokens_per_s * slow);
        if cost.is_zero() {
            return;
        }
        let (mut free_at, start) = match self.prefill.try_lock() {
            Ok(free_at) => (free_at, Instant::now()),
            Err(_) => {
                let free_at = self.prefill.lock().await;
                let earliest = Instant::now().checked_sub(TIMER_SLACK).unwrap_or_else(Instant::now);
                let start = (*free_at).max(earliest);
                (free_at, start)
            }
        };
        let end = start + cost;
        tokio::time::sleep_until(end).await;
        *free_at = end;
    }
}

/// A request inside the server. Dropped before `finish`, its client has hung up.
pub(super) struct Flight {
    pub(super) shared: Arc<Shared>,
    /// Number of the answer, for its id.
    pub(super) number: u64,
    finished: bool,
}

impl Flight {
    /// `created` of the answer.
    pub(super) fn created(&self) -> u64 {
        self.shared.started
    }

    /// From here on the end of the request is ours, not the client's.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.counters.leave(match (self.finished, self.shared.down.load(Relaxed)) {
            (true, _) => End::Answered,
            (false, true) => End::Killed,
            (false, false) => End::Cancelled,
        });
    }
}

/// A request admitted to a slot, with what it asked for.
pub(super) struct Job {
    pub(super) flight: Flight,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) faults: FaultSet,
    pub(super) prompt_tokens: usize,
    /// The first token to send: not 0 where the request goes on with an assistant's message.
    pub(super) from: usize,
    /// The token after the last.
    pub(super) output_tokens: usize,
    pub(super) include_usage: bool,
}

impl Job {
    /// Time of one output token.
    pub(super) fn token_time(&self) -> Duration {
        seconds(self.faults.slow.unwrap_or(1.0) / self.flight.shared.config.decode_tokens_per_s)
    }
}

/// The parts of a chat completion request that matter here.
#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<usize>,
    #[serde(default)]
    stream_options: StreamOptions,
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: serde_json::Value,
}

/// The routes of one deployment.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let body = json!({"object": "list", "data": [{
        "id": shared.config.model, "object": "model", "created": shared.started, "owned_by": shared.config.id,
    }]});
    respond(&shared, StatusCode::OK, "application/json", Body::from(body.to_string()))
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let in_flight = shared.counters.enter();
    let number = shared.answers.fetch_add(1, Relaxed);
    let mut flight = Flight { shared: Arc::clone(&shared), number, finished: false };
    let faults = shared.faults.get();

    if let Some(fault) = shared.faults.refusal(&faults) {
        flight.finish();
        return refuse(&shared, fault.status, fault.retry_after_s, "injected_fault", "injected by the fault schedule");
    }
    if shared.config.hard_limit.is_some_and(|limit| in_flight > limit as u64) {
        flight.finish();
        return refuse(&shared, 429, Some(1), "rate_limit_exceeded", "too many concurrent requests");
    }
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            flight.finish();
            return refuse(&shared, 400, None, "invalid_json", &error.to_string());
        }
    };
    if !shared.config.model.is_empty() && request.model != shared.config.model {
        flight.finish();
        let message = format!("the model `{}` does not exist here", request.model);
        return refuse(&shared, 404, None, "model_not_found", &message);
    }
    let prompt_tokens = prompt_tokens(&headers, &request);
    let output_tokens = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let over = shared.quotas().take(prompt_tokens + output_tokens);
    if let Some(wait) = over {
        flight.finish();
        let seconds = wait.as_secs_f64().ceil() as u64;
        return refuse(&shared, 429, Some(seconds), "rate_limit_exceeded", "over the limit per minute");
    }
    if faults.hang == Some(Hang::BeforeHeaders) {
        std::future::pending::<()>().await;
    }

    let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else {
        flight.finish();
        return refuse(&shared, 503, None, "shutting_down", "the server is stopping");
    };
    let slow = faults.slow.unwrap_or(1.0);
    let latency = seconds(shared.config.base_latency.as_secs_f64() * slow);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    shared.prefill(prompt_tokens, slow).await;

    let from = request.messages.last().map_or(0, beginning);
    let job = Job {
        flight,
        slot,
        faults,
        prompt_tokens,
        from,
        output_tokens: from + output_tokens,
        include_usage: request.stream_options.include_usage,
    };
    if request.stream { stream(&shared, job) } else { unary(&shared, job).await }
}

fn stream(shared: &Shared, job: Job) -> Response {
    shared.counters.answer(200);
    respond(shared, StatusCode::OK, "text/event-stream", Script::stream(job).into_body())
}

async fn unary(shared: &Shared, mut job: Job) -> Response {
    let gaps = u32::try_from((job.output_tokens - job.from).saturating_sub(1)).unwrap_or(u32::MAX);
    let decode = job.token_time().saturating_mul(gaps);
    if !decode.is_zero() {
        tokio::time::sleep(decode).await;
    }
    shared.counters.answer(200);
    let whole = super::answer::completion(&job);
    let length = whole.len();
    let faults = &job.faults;
    let scripted = faults.hang.is_some()
        || faults.drip.is_some()
        || [faults.cut_after, faults.stall_after].iter().flatten().any(|tokens| *tokens <= job.output_tokens);
    // Of a length that nobody announces.
    let open =
        [faults.close_after, faults.error_event_after].iter().flatten().any(|tokens| *tokens <= job.output_tokens);
    let scripted = scripted || open;
    let body = if scripted {
        Script::whole(job, whole).into_body()
    } else {
        shared.counters.send_tokens(job.output_tokens - job.from);
        job.flight.finish();
        Body::from(whole)
    };
    let mut response = respond(shared, StatusCode::OK, "application/json", body);
    if !open {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// An error in the form of the OpenAI API.
fn refuse(shared: &Shared, status: u16, retry_after_s: Option<u64>, code: &str, message: &str) -> Response {
    shared.counters.answer(status);
    let kind = match status {
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(shared, status, "application/json", Body::from(body.to_string()));
    if let Some(after) = retry_after_s {
        if status == StatusCode::TOO_MANY_REQUESTS {
            shared.counters.announce_window(Duration::from_secs(after));
        }
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
    }
    response
}

fn respond(shared: &Shared, status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    shared.quotas().tell(headers);
    // An id that is no header value is a mistake of the example; the answer itself is still good.
    if let Ok(id) = HeaderValue::from_str(&shared.config.id) {
        headers.insert("x-upstream-id", id);
    }
    response
}

/// Tokens of the answer that are there already.
fn beginning(last: &Message) -> usize {
    let text = last.content.as_str().filter(|_| last.role == "assistant");
    text.map_or(0, |text| text.split_whitespace().count())
}

fn prompt_tokens(headers: &HeaderMap, request: &Request) -> usize {
    let announced = headers.get("x-prompt-tokens").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    announced.unwrap_or_else(|| {
        let chars: usize = request
            .messages
            .iter()
            .map(|message| match &message.content {
                serde_json::Value::String(text) => text.chars().count(),
                serde_json::Value::Null => 0,
                parts => parts.to_string().len(),
            })
            .sum();
        chars.div_ceil(CHARS_PER_TOKEN)
    })
}

/// A duration from a computed number of seconds: nothing for NaN and negatives, a day for what never ends.
fn seconds(value: f64) -> Duration {
    const DAY: f64 = 86_400.0;
    if value > 0.0 { Duration::from_secs_f64(value.min(DAY)) } else { Duration::ZERO }
}
