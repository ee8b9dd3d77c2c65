//! What a caller got, read the way a careful client reads it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::sse::SseEvent;

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A whole unary answer, or a stream with its `[DONE]` and all tokens.
    Complete,
    /// A status other than 200.
    Refused,
    /// An error event inside a 200 stream.
    ErrorEvent {
        /// `error.type`.
        kind: String,
        /// The field of the error that says how much was delivered.
        delivered: Option<u64>,
    },
    /// An event that is not JSON, such as half an event that was passed on from a broken stream.
    Malformed,
    /// A clean end although the answer is not whole and nothing said so.
    Silent,
    /// The connection broke.
    Cut,
    /// No connection.
    Unreachable,
    /// The caller's own patience ended, or it hung up as told.
    GaveUp,
}

/// One request as its caller saw it. Times count from when it was sent.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was sent, from the start of the run.
    pub at: Duration,
    /// Until the end of the body or of the connection.
    pub total: Duration,
    /// Until the first content.
    pub first_token: Option<Duration>,
    /// Until the last content.
    pub last_token: Option<Duration>,
    /// Status of the answer; `None` when no headers came.
    pub status: Option<u16>,
    /// Header `x-fallway-attempts`.
    pub attempts: Option<u32>,
    /// Header `x-fallway-backend`, or the fingerprint where it is missing.
    pub backend: Option<String>,
    /// `system_fingerprint` of the body: the deployment that really answered.
    pub fingerprint: Option<String>,
    /// Tokens received.
    pub tokens: usize,
    /// How it ended.
    pub end: End,
}

impl Answer {
    pub(super) fn new() -> Self {
        Self {
            at: Duration::ZERO,
            total: Duration::ZERO,
            first_token: None,
            last_token: None,
            status: None,
            attempts: None,
            backend: None,
            fingerprint: None,
            tokens: 0,
            end: End::Unreachable,
        }
    }

    /// A 200 and a whole answer.
    pub fn ok(&self) -> bool {
        self.status == Some(200) && self.end == End::Complete
    }

    /// When it was over, from the start of the run.
    pub fn finished_at(&self) -> Duration {
        self.at + self.total
    }

    /// Whether the header names another deployment than the one that answered.
    pub fn misattributed(&self) -> bool {
        matches!((&self.backend, &self.fingerprint), (Some(said), Some(real)) if said != real)
    }

    /// Reads a whole unary body.
    pub(super) fn read_unary(&mut self, body: &[u8], asked: usize) {
        self.end = match serde_json::from_slice::<Completion>(body) {
            Ok(completion) => {
                self.read_fingerprint(completion.system_fingerprint);
                self.tokens = completion.choices.first().map_or(0, |choice| count(&choice.message));
                if self.tokens == asked { End::Complete } else { End::Silent }
            }
            Err(_) => End::Silent,
        };
    }

    /// Reads one event of a stream; the end, if it is one.
    pub(super) fn read_event(&mut self, event: &SseEvent, elapsed: Duration, asked: usize) -> Option<End> {
        if event.is_done() {
            return Some(if self.tokens == asked { End::Complete } else { End::Silent });
        }
        let Ok(chunk) = serde_json::from_str::<Completion>(&event.data) else {
            return Some(End::Malformed);
        };
        if let Some(error) = chunk.error {
            let kind = error.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            let fields = error.as_object().into_iter().flatten();
            let delivered =
                fields.filter(|(name, _)| name.starts_with("delivered")).find_map(|(_, value)| value.as_u64());
            return Some(End::ErrorEvent { kind, delivered });
        }
        self.read_fingerprint(chunk.system_fingerprint);
        let tokens = chunk.choices.first().map_or(0, |choice| count(&choice.delta));
        if tokens > 0 {
            self.tokens += tokens;
            self.first_token.get_or_insert(elapsed);
            self.last_token = Some(elapsed);
        }
        None
    }

    fn read_fingerprint(&mut self, fingerprint: Option<String>) {
        if self.backend.is_none() {
            self.backend.clone_from(&fingerprint);
        }
        if fingerprint.is_some() {
            self.fingerprint = fingerprint;
        }
    }
}

/// A completion or a chunk of one.
#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    system_fingerprint: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Content,
    #[serde(default)]
    delta: Content,
}

#[derive(Default, Deserialize)]
struct Content {
    content: Option<String>,
}

/// The scripted deployments send one word per token.
fn count(content: &Content) -> usize {
    content.content.as_deref().map_or(0, |text| text.split_whitespace().count())
}
