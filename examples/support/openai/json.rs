//! What is read of requests and answers, and no more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use fallway::backend::{BackendError, FailureKind, Usage};
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A request.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
pub(super) struct Asked<'a> {
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    pub(super) stream: Option<bool>,
    pub(super) max_tokens: Option<u64>,
    pub(super) max_completion_tokens: Option<u64>,
}

/// A request's body with another model, where the old name is written in a way that hides its place (`"a\/b"`).
pub(super) fn with_model(body: &[u8], model: &str) -> Bytes {
    // It was read as a JSON object before.
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    fields.insert("model".into(), model.into());
    serde_json::to_vec(&fields).unwrap_or_default().into()
}

/// A request's body for an assistant's message that begins like this, and so many more tokens.
pub(super) fn with_beginning(body: &[u8], text: &str, left: Option<u64>) -> Bytes {
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let message = serde_json::json!({"role": "assistant", "content": text});
    match fields.get_mut("messages").and_then(Value::as_array_mut) {
        Some(messages) => messages.push(message),
        None => drop(fields.insert("messages".into(), Value::Array(vec![message]))),
    }
    for name in ["max_tokens", "max_completion_tokens"] {
        if let (Some(field), Some(left)) = (fields.get_mut(name), left) {
            *field = left.into();
        }
    }
    serde_json::to_vec(&fields).unwrap_or_default().into()
}

/// The text of an event.
pub(super) fn text(data: &str) -> String {
    let chunk = serde_json::from_str::<Chunk<'_>>(data).ok();
    let deltas = chunk.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.delta.as_ref());
    deltas.filter_map(|delta| delta.content.as_deref()).collect()
}

/// A whole answer, good or bad.
#[derive(Deserialize)]
pub(super) struct Whole {
    pub(super) choices: Option<IgnoredAny>,
    pub(super) usage: Option<Used>,
    pub(super) error: Option<Fault>,
}

/// One event of a stream.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    /// In the last event, where the caller asked for it (`stream_options.include_usage`).
    pub(super) usage: Option<Used>,
    pub(super) error: Option<Fault>,
}

/// Tokens, as the server counted them.
#[derive(Deserialize)]
pub(super) struct Used {
    #[serde(default)]
    prompt_tokens: i64,
    #[serde(default)]
    completion_tokens: i64,
}

impl From<Used> for Usage {
    fn from(used: Used) -> Self {
        Self::new(used.prompt_tokens, used.completion_tokens)
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    tool_calls: Option<IgnoredAny>,
}

impl Chunk<'_> {
    /// Whether something is in it that the caller asked for.
    pub(super) fn has_content(&self) -> bool {
        self.choices.iter().filter_map(|choice| choice.delta.as_ref()).any(|delta| {
            let text = [&delta.content, &delta.reasoning_content, &delta.refusal];
            delta.tool_calls.is_some() || text.into_iter().flatten().any(|text| !text.is_empty())
        })
    }
}

/// An `error` object. Servers differ in its fields; some send a mere text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Fault {
    Object {
        code: Option<Code>,
        #[serde(rename = "type")]
        kind: Option<String>,
    },
    Other(IgnoredAny),
}

/// OpenAI sends a name, vLLM and OpenRouter a status.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Code {
    Status(u16),
    Name(String),
    Other(IgnoredAny),
}

impl Fault {
    /// The machine-readable part that says more than the status. The type is coarser than most statuses: a 503 of type
    /// `server_error` is still an overload. It counts only beside a 400, which says least.
    pub(super) fn detail(&self, status: StatusCode) -> &str {
        match self {
            Self::Object { code: Some(Code::Name(name)), .. } => name,
            Self::Object { kind: Some(kind), .. } if status == StatusCode::BAD_REQUEST => kind,
            _ => "",
        }
    }

    /// An error that came inside a 200: by its code, else by its type.
    pub(super) fn classify(&self) -> BackendError {
        let Self::Object { code, kind } = self else { return FailureKind::Protocol.into() };
        let error = match code {
            Some(Code::Status(status)) => BackendError::from_stream_event(Some(*status), ""),
            Some(Code::Name(name)) => BackendError::from_stream_event(None, name),
            _ => FailureKind::Protocol.into(),
        };
        match kind {
            Some(kind) if error.kind() == FailureKind::Protocol => BackendError::from_stream_event(None, kind),
            _ => error,
        }
    }
}
