//! A [`Backend`] for servers that speak the OpenAI chat completions API over plain HTTP/1.1.
//!
//! It does one call and classifies what goes wrong with it; whether and where to try again is the router's business.
//! What matters to a router and is easily missed:
//!
//! - **What is content** is said of every event of a stream: with the first the answer has begun, and what comes before it
//!   (the role, metadata) is held back by the router.
//! - **The end of a stream is `[DONE]`**, nothing else; a connection that closes before is a failure.
//! - **Only whole events leave**, each with its bytes as they came: a client never sees half of one, and nothing is
//!   encoded again.
//! - **A 200 can be an error**: an `error` object in the body or in an event is classified like a status.
//! - **Dropping an answer closes its connection at once**, which tells the server to stop working.
#![allow(dead_code, unreachable_pub)] // every example uses another part of it

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use fallway::Facts;
use fallway::backend::{Attempt, Backend, BackendError, FailureKind, StreamItem};
use fallway::budget::TimeoutFormat;
use fallway::signal::QuotaReport;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Uri};

mod events;
mod json;
#[cfg(test)]
mod tests;
mod wire;

use events::Events;
use wire::{Exchange, Pool};

/// Largest unary answer that is read; the longest completions are some hundred kilobytes.
const MAX_ANSWER: usize = 32 << 20;
/// Largest error body that is looked at. What is longer is not an error object.
const MAX_ERROR: usize = 64 << 10;
const PROMPT_TOKENS: HeaderName = HeaderName::from_static("x-prompt-tokens");
/// What of a caller's headers goes on to the server. Never `authorization`: the caller's key is for the gateway.
const FORWARDED: [HeaderName; 3] =
    [PROMPT_TOKENS, HeaderName::from_static("x-request-id"), HeaderName::from_static("traceparent")];

/// Tells a server how many milliseconds are left for its answer.
const DEADLINE: HeaderName = HeaderName::from_static("x-fallway-deadline-ms");

/// A chat completion to be had somewhere: the body as the caller sent it, and the little of it that routing needs.
pub struct ChatRequest {
    body: Bytes,
    model: String,
    /// Where in the body the model's name stands; `None` where it is written with escapes.
    model_at: Option<Range<usize>>,
    stream: bool,
    max_tokens: Option<u64>,
    headers: HeaderMap,
}

impl ChatRequest {
    /// Reads as much of `body` as routing needs, and takes the headers that go on to the server.
    ///
    /// # Errors
    /// When the body is not the JSON of a chat completion request; the message is fit for its sender.
    pub fn new(body: Bytes, headers: &HeaderMap) -> Result<Self, serde_json::Error> {
        let asked: json::Asked<'_> = serde_json::from_slice(&body)?;
        let model_at = match &asked.model {
            Cow::Borrowed(name) => {
                let start = name.as_ptr() as usize - body.as_ptr() as usize;
                Some(start..start + name.len())
            }
            Cow::Owned(_) => None,
        };
        let mut forwarded = HeaderMap::new();
        for name in FORWARDED {
            if let Some(value) = headers.get(&name) {
                forwarded.insert(name, value.clone());
            }
        }
        let (model, stream) = (asked.model.into_owned(), asked.stream.unwrap_or(false));
        let max_tokens = asked.max_completion_tokens.or(asked.max_tokens);
        Ok(Self { model, model_at, stream, max_tokens, headers: forwarded, body })
    }

    /// What a router may know of it. Tokens of the prompt are those of the header `x-prompt-tokens`, else a quarter of the
    /// characters. The header is the caller's word, and what it says weighs on a backend in the eyes of all others: more
    /// tokens than the body has bytes are not believed. A completion that is computed twice costs money twice and does no
    /// other harm: it is replay-safe.
    pub fn facts(&self) -> Facts {
        let announced = self.headers.get(PROMPT_TOKENS).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let tokens = match announced {
            Some(tokens) => self.body.len().min(tokens) as u64,
            None => Facts::estimate_tokens(self.body.len()),
        };
        let facts = Facts::model(self.model.as_str()).prompt_tokens(tokens).replay_safe();
        match self.max_tokens {
            Some(tokens) => facts.output_tokens(tokens),
            None => facts,
        }
    }

    /// Whether the answer is to come as a stream.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// The request for the rest of an answer of which so many tokens came, with this text: the text as the beginning of
    /// the assistant's message, which many servers go on with.
    pub fn rest(&self, text: &str, tokens: u64) -> Self {
        let left = self.max_tokens.map(|most| most.saturating_sub(tokens));
        let body = json::with_beginning(&self.body, text, left);
        let (model, headers) = (self.model.clone(), self.headers.clone());
        Self { body, model, model_at: None, stream: self.stream, max_tokens: left, headers }
    }

    /// The body for a server that knows the model as `model`. Everything else in it stays as it is, byte by byte.
    fn body_for(&self, model: &str) -> Bytes {
        if model == self.model {
            return self.body.clone();
        }
        // A name always has a JSON form.
        let name = serde_json::Value::from(model).to_string();
        match &self.model_at {
            Some(at) => {
                let inner = &name.as_bytes()[1..name.len() - 1];
                [&self.body[..at.start], inner, &self.body[at.end..]].concat().into()
            }
            None => json::with_model(&self.body, model),
        }
    }
}

impl fmt::Debug for ChatRequest {
    // Not the body: it is payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatRequest").field("model", &self.model).field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// An answer: the whole body, or the events of a stream. One router serves both: `call` gives the first, `stream` the
/// second.
pub enum ChatAnswer {
    /// A unary answer; a JSON document without `error`.
    Whole(Bytes),
    /// Events of a stream.
    Events(BoxStream<'static, Result<ChatChunk, BackendError>>),
}

/// An event of an answer, to be handed on as it is.
#[derive(Debug)]
pub struct ChatChunk {
    /// As it came, comments before it included.
    pub bytes: Bytes,
    /// 1 where it carries content: a token, for a server that sends one per event.
    pub tokens: u64,
    /// Whether it is `[DONE]`.
    pub done: bool,
}

impl ChatChunk {
    /// The text in it.
    pub fn text(&self) -> String {
        events::data(&self.bytes).map_or_else(String::new, |data| json::text(&data))
    }
}

impl StreamItem for ChatChunk {
    fn content(&self) -> u64 {
        self.tokens
    }

    fn is_last(&self) -> bool {
        self.done
    }

    fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl Stream for ChatAnswer {
    type Item = Result<ChatChunk, BackendError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            // Who asked for a stream cannot read it.
            Self::Whole(_) => Poll::Ready(Some(Err(FailureKind::Protocol.into()))),
            Self::Events(events) => events.poll_next_unpin(cx),
        }
    }
}

impl fmt::Debug for ChatAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Events(_) => "Events",
        })
    }
}

/// What a server said to a request that it refused: the source of the [`BackendError`], for a gateway that passes on what
/// is the caller's own fault.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The body; empty where it was too long.
    pub body: Bytes,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status)
    }
}

impl std::error::Error for Refusal {}

/// One server.
#[derive(Debug)]
pub struct OpenAi {
    pool: Pool,
    uri: Uri,
    /// The model's name there; `None` hands on what the caller asked for.
    model: Option<String>,
    /// Headers of every request. The key among them is marked as sensitive, so no `Debug` shows it.
    headers: HeaderMap,
}

/// A mistake in the description of a server. Repeats neither the key nor the address, which may hold a password.
#[derive(Debug, PartialEq, Eq)]
pub enum InvalidServer {
    /// Not `http://host[:port][/path]`.
    Url,
    /// The key is no header value.
    Key,
}

impl fmt::Display for InvalidServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url => "the url is not of the form http://host[:port][/path]",
            Self::Key => "the key holds characters that no header may have",
        })
    }
}

impl std::error::Error for InvalidServer {}

/// The connections to all servers. Backends at one address share theirs: models and keys differ by request.
#[derive(Debug, Default)]
pub struct Connections(BTreeMap<(String, u16), Pool>);

impl OpenAi {
    /// A server whose API stands under `url`, without the `/v1`.
    ///
    /// # Errors
    /// When `url` is not an address in plain HTTP.
    pub fn new(url: &str, connections: &mut Connections) -> Result<Self, InvalidServer> {
        let base: Uri = url.trim_end_matches('/').parse().map_err(|_| InvalidServer::Url)?;
        let plain = |authority: &&Authority| {
            base.scheme_str() == Some("http") && base.query().is_none() && !authority.as_str().contains('@')
        };
        let authority = base.authority().filter(plain).ok_or(InvalidServer::Url)?;
        let path = format!("{}/v1/chat/completions", base.path().trim_end_matches('/'));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| InvalidServer::Url)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(80));
        let pool = connections.0.entry((host.to_owned(), port)).or_insert_with(|| Pool::new(host, port));
        Ok(Self { pool: pool.clone(), uri: path.parse().map_err(|_| InvalidServer::Url)?, model: None, headers })
    }

    /// Calls the model by this name, whatever the caller called it: he may have asked for one that this one stands in for.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sends this key with every request.
    ///
    /// # Errors
    /// When it cannot be sent in a header.
    pub fn key(mut self, key: &str) -> Result<Self, InvalidServer> {
        let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| InvalidServer::Key)?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    fn post(&self, request: &ChatRequest, attempt: &Attempt) -> Request<Full<Bytes>> {
        let model = self.model.as_deref().unwrap_or(&request.model);
        let mut post = Request::new(Full::new(request.body_for(model)));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = self.uri.clone();
        post.headers_mut().clone_from(&self.headers);
        for (name, value) in &request.headers {
            post.headers_mut().insert(name, value.clone());
        }
        if let Ok(left) = HeaderValue::try_from(TimeoutFormat::Millis.format(attempt.time_left())) {
            post.headers_mut().insert(DEADLINE, left);
        }
        post
    }

    /// Reads a whole answer and keeps the connection.
    async fn whole(&self, exchange: Exchange, body: Incoming, attempt: &Attempt) -> Result<ChatAnswer, BackendError> {
        let body = self.pool.read(exchange, body, MAX_ANSWER).await?;
        let answer: json::Whole = serde_json::from_slice(&body)
            .map_err(|error| BackendError::from(FailureKind::Protocol).with_source(error))?;
        match answer {
            json::Whole { error: Some(fault), .. } => Err(fault.classify()),
            json::Whole { choices: None, .. } => Err(FailureKind::Protocol.into()),
            json::Whole { usage, .. } => {
                usage.into_iter().for_each(|usage| attempt.used(usage.into()));
                Ok(ChatAnswer::Whole(body))
            }
        }
    }

    /// Reads a stream as the caller does.
    fn events(&self, exchange: Exchange, body: Incoming, attempt: Attempt) -> ChatAnswer {
        let events = Events::new(self.pool.clone(), exchange, body, attempt);
        let all = stream::try_unfold(events, async |mut events| Ok(events.next().await?.map(|chunk| (chunk, events))));
        ChatAnswer::Events(all.boxed())
    }

    /// An answer that is no success, classified by its status, its headers and its `error` object.
    async fn refused(&self, exchange: Exchange, response: Response<Incoming>) -> BackendError {
        let (head, body) = response.into_parts();
        let body = self.pool.read(exchange, body, MAX_ERROR).await.unwrap_or_default();
        let header = |name: &str| head.headers.get(name)?.to_str().ok();
        let detail = serde_json::from_slice::<json::Whole>(&body).ok().and_then(|answer| answer.error);
        let detail = detail.as_ref().map_or("", |fault| fault.detail(head.status));
        BackendError::from_http(head.status.as_u16(), header, detail, SystemTime::now())
            .with_source(Refusal { status: head.status, body })
    }
}

#[async_trait]
impl Backend<ChatRequest> for OpenAi {
    type Response = ChatAnswer;

    async fn call(&self, request: &ChatRequest, attempt: &Attempt) -> Result<ChatAnswer, BackendError> {
        let (exchange, response) = self.pool.send(self.post(request, attempt), attempt.time_limit()).await?;
        // Refusals say what is left as well, and most of all.
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        attempt.quota(&QuotaReport::from_headers(header, SystemTime::now()));
        if response.status() != StatusCode::OK {
            return Err(self.refused(exchange, response).await);
        }
        // A server may answer whole where a stream was asked for; its errors often come so.
        let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if request.stream && kind.starts_with(b"text/event-stream") {
            Ok(self.events(exchange, response.into_body(), attempt.clone()))
        } else {
            self.whole(exchange, response.into_body(), attempt).await
        }
    }
}
