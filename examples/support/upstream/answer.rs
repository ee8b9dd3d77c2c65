//! The body of an answer, written piece by piece with the faults of its request.

use std::future::pending;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::Hang;
use super::service::Job;

/// Time for the last bytes to leave before an injected cut. A connection that ends with unwritten data would cut earlier
/// than the script says.
const FLUSH: Duration = Duration::from_millis(2);

/// The whole answer of a unary request.
pub(super) fn completion(job: &Job) -> Bytes {
    let config = &job.flight.shared.config;
    Bytes::from(
        json!({
            "id": format!("chatcmpl-{}", job.flight.number),
            "object": "chat.completion",
            "created": job.flight.created(),
            "model": config.model,
            "system_fingerprint": config.id,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": text(job.from, job.output_tokens)},
                "finish_reason": "stop",
            }],
            "usage": usage(job),
        })
        .to_string(),
    )
}

/// Tokens `from..to` as text: `w0 w1 w2 `. A client can count them and see a gap or a repetition.
fn text(from: usize, to: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity((to - from) * 5);
    for token in from..to {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "w{token} ");
    }
    text
}

fn usage(job: &Job) -> serde_json::Value {
    json!({
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.output_tokens - job.from,
        "total_tokens": job.prompt_tokens + job.output_tokens - job.from,
    })
}

/// What is written next.
enum Phase {
    /// A unary answer in one piece, or half of it when it is to break off.
    Whole(Bytes),
    Role,
    Tokens,
    Finish,
    Usage,
    Done,
    /// Close without the final chunk.
    Cut,
    /// Never write again.
    Stall,
    End,
}

/// An answer in progress. It holds the slot; dropped before its end, it counts as cancelled by the client.
pub(super) struct Script {
    job: Job,
    phase: Phase,
    sent: usize,
    token_time: Duration,
    first_token: Instant,
    next_event: Instant,
    /// The fixed start of every event.
    prefix: String,
    /// Bytes to drip.
    rest: Bytes,
}

/// The error inside of a 200.
fn injected() -> serde_json::Value {
    json!({"error": {
        "message": "injected error inside the answer", "type": "server_error", "param": null, "code": "injected_fault",
    }})
}

impl Script {
    /// The events of a stream, the first token due now.
    pub(super) fn stream(job: Job) -> Self {
        let config = &job.flight.shared.config;
        let prefix = format!(
            r#"data: {{"id":"chatcmpl-{}","object":"chat.completion.chunk","created":{},"model":{},"system_fingerprint":{},"#,
            job.flight.number,
            job.flight.created(),
            json!(config.model),
            json!(config.id),
        );
        Self::new(job, Phase::Role, prefix)
    }

    /// A unary answer whose request has faults.
    pub(super) fn whole(job: Job, answer: Bytes) -> Self {
        Self::new(job, Phase::Whole(answer), String::new())
    }

    fn new(job: Job, phase: Phase, prefix: String) -> Self {
        let now = Instant::now();
        Self {
            token_time: job.token_time(),
            sent: job.from,
            job,
            phase,
            first_token: now,
            next_event: now,
            prefix,
            rest: Bytes::new(),
        }
    }

    /// The script as a response body.
    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut script| async move {
            let piece = script.write().await?;
            Some((piece, script))
        }))
    }

    /// The next bytes, whole pieces or single bytes.
    async fn write(&mut self) -> Option<io::Result<Bytes>> {
        let Some(pause) = self.job.faults.drip else {
            return self.piece().await;
        };
        if self.rest.is_empty() {
            match self.piece().await? {
                Ok(piece) => self.rest = piece,
                Err(error) => return Some(Err(error)),
            }
        }
        sleep(pause).await;
        Some(Ok(self.rest.split_to(1)))
    }

    /// The next piece of the answer, `None` at its clean end, an error where the connection is to be cut.
    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        let phase = std::mem::replace(&mut self.phase, Phase::End);
        let piece = match phase {
            Phase::Whole(answer) => {
                self.hang_at(Hang::AfterHeaders).await;
                self.half_or_whole(answer)
            }
            Phase::Role => {
                self.hang_at(Hang::AfterHeaders).await;
                self.phase = Phase::Tokens;
                self.choice(r#"{"role":"assistant","content":""}"#, "null")
            }
            Phase::Tokens => {
                self.hang_at(Hang::AfterRole).await;
                self.tokens().await
            }
            Phase::Finish => {
                self.phase = if self.job.include_usage { Phase::Usage } else { Phase::Done };
                self.choice("{}", r#""stop""#)
            }
            Phase::Usage => {
                self.phase = Phase::Done;
                Bytes::from(format!("{}\"choices\":[],\"usage\":{}}}\n\n", self.prefix, usage(&self.job)))
            }
            Phase::Done => {
                self.job.flight.finish();
                Bytes::from_static(b"data: [DONE]\n\n")
            }
            Phase::Cut => {
                self.job.flight.finish();
                sleep(FLUSH).await;
                return Some(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            Phase::Stall => pending().await,
            Phase::End => {
                self.job.flight.finish();
                return None;
            }
        };
        Some(Ok(piece))
    }

    /// The next content event, or what the faults put in its place. Sets the phase that follows.
    async fn tokens(&mut self) -> Bytes {
        let faults = self.job.faults;
        let reached = |limit: Option<usize>| limit.is_some_and(|limit| self.sent >= limit);
        if reached(faults.stall_after) {
            pending::<()>().await;
        }
        if reached(faults.cut_after) {
            self.phase = Phase::Cut;
            return Bytes::from(format!("{}\"choices\":[{{\"index\":0,\"de", self.prefix));
        }
        if reached(faults.close_after) {
            // An SSE comment: nothing for the client, and the stream ends after it.
            return Bytes::from_static(b": closing\n\n");
        }
        if reached(faults.error_event_after) {
            return Bytes::from(format!("data: {}\n\n", injected()));
        }
        if self.sent >= self.job.output_tokens {
            self.phase = Phase::Finish;
            return self.choice(r#"{"content":""}"#, "null");
        }

        let count = self.due().await;
        let delta = json!({"content": text(self.sent, self.sent + count)}).to_string();
        self.sent += count;
        self.job.flight.shared.counters.send_tokens(count);
        let pause_for_fault = [faults.stall_after, faults.cut_after, faults.close_after, faults.error_event_after]
            .contains(&Some(self.sent));
        self.phase =
            if self.sent == self.job.output_tokens && !pause_for_fault { Phase::Finish } else { Phase::Tokens };
        self.choice(&delta, "null")
    }

    /// Waits for the next content event and says how many tokens it carries, never past the next fault.
    async fn due(&mut self) -> usize {
        let position = u32::try_from(self.sent - self.job.from).unwrap_or(u32::MAX);
        let at = self.next_event.max(self.first_token + self.token_time.saturating_mul(position));
        if at > Instant::now() {
            sleep_until(at).await;
        }
        let interval = self.job.flight.shared.config.chunk_interval;
        self.next_event = at + interval;
        let faults = &self.job.faults;
        let stop = [faults.stall_after, faults.cut_after, faults.close_after, faults.error_event_after]
            .into_iter()
            .flatten()
            .filter(|stop| *stop > self.sent)
            .fold(self.job.output_tokens, usize::min);
        let room = stop - self.sent;
        if interval.is_zero() {
            1
        } else if self.token_time.is_zero() {
            room
        } else {
            let elapsed = Instant::now().duration_since(self.first_token);
            let produced = self.job.from + (elapsed.as_secs_f64() / self.token_time.as_secs_f64()) as usize + 1;
            produced.saturating_sub(self.sent).clamp(1, room)
        }
    }

    fn half_or_whole(&mut self, mut answer: Bytes) -> Bytes {
        let faults = &self.job.faults;
        let within = |limit: Option<usize>| limit.is_some_and(|limit| limit <= self.job.output_tokens);
        if within(faults.stall_after) || faults.hang == Some(Hang::AfterRole) {
            self.phase = Phase::Stall;
        } else if within(faults.cut_after) {
            self.phase = Phase::Cut;
        } else if within(faults.close_after) {
            self.phase = Phase::End;
        } else if within(faults.error_event_after) {
            return Bytes::from(injected().to_string());
        } else {
            self.job.flight.shared.counters.send_tokens(self.job.output_tokens - self.job.from);
            return answer;
        }
        answer.split_to(answer.len() / 2)
    }

    async fn hang_at(&self, point: Hang) {
        if self.job.faults.hang == Some(point) {
            pending::<()>().await;
        }
    }

    /// One event with one choice.
    fn choice(&self, delta: &str, finish_reason: &str) -> Bytes {
        Bytes::from(format!(
            "{}\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish_reason}}}]}}\n\n",
            self.prefix
        ))
    }
}
