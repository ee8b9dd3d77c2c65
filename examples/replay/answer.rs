//! One call to one server: post the request, read the answer piece by piece, count its tokens.
//!
//! Both clients share this file, so that they differ in how they choose and what they do about trouble, not in how well
//! they read HTTP. Both ask for every answer as a stream, also where the caller wants it whole: a server that sends no
//! first token in time is then found out at once, whatever the length of the answer.

use std::collections::VecDeque;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::time::sleep;

use crate::fleet::Endpoint;
use crate::support::http::{Http, HttpError, Reply};
use crate::support::sse::{SseEvent, SseParser};
use crate::workload::Job;

/// The header that tells the servers how long the prompt is that the trace does not hold.
const PROMPT_TOKENS: HeaderName = HeaderName::from_static("x-prompt-tokens");

/// Why a call gave no answer, or not all of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Refused,
    /// Another status than 200, with its headers.
    Status(StatusCode, Box<HeaderMap>),
    /// The connection broke after the request was sent.
    Broken,
    /// The server reported an error inside its 200 stream.
    ErrorEvent,
    /// Not what the protocol says, or not the tokens that come next.
    Malformed,
}

impl Failure {
    /// A few fixed words, the key under which it is counted.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Refused => "connection refused".into(),
            Self::Status(status, _) => format!("status {}", status.as_u16()),
            Self::Broken => "connection broken".into(),
            Self::ErrorEvent => "error event".into(),
            Self::Malformed => "malformed answer".into(),
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Unreachable(_) => Self::Refused,
            HttpError::Broken(_) => Self::Broken,
        }
    }
}

/// What comes next of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This many tokens of content, at least one.
    Tokens(u32),
    /// The end as the protocol announces it: `[DONE]`.
    Done,
    /// The body ended cleanly, but nothing announced that the answer is complete.
    EndedWithoutDone,
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `None` when the body has ended.
    reply: Option<Reply>,
    parser: SseParser,
    /// Parsed and not yet handed out.
    events: VecDeque<SseEvent>,
    tokens: u32,
}

impl Answer {
    /// Crosses the distance, posts the request and waits for the head of the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) async fn open(http: &Http, endpoint: &Endpoint, job: &Job) -> Result<Self, Failure> {
        sleep(endpoint.rtt).await;
        let headers = [(PROMPT_TOKENS, HeaderValue::from(job.prompt_tokens))];
        let reply = http.post_json(&endpoint.uri, headers, job.body()).await?;
        if reply.status != StatusCode::OK {
            return Err(Failure::Status(reply.status, Box::new(reply.headers)));
        }
        Ok(Self { reply: Some(reply), parser: SseParser::new(), events: VecDeque::new(), tokens: 0 })
    }

    /// Tokens read so far.
    pub(crate) fn tokens(&self) -> u32 {
        self.tokens
    }

    /// The next piece; events without content (the role, the usage) are passed over.
    ///
    /// # Errors
    /// See [`Failure`]; nothing follows after one.
    pub(crate) async fn next(&mut self) -> Result<Piece, Failure> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(piece) = self.read_event(&event)? {
                    return Ok(piece);
                }
            }
            let Some(reply) = &mut self.reply else {
                return Ok(Piece::EndedWithoutDone);
            };
            match reply.chunk().await {
                Some(chunk) => {
                    let mut events = Vec::new();
                    let parsed = self.parser.push(&chunk?, &mut events);
                    parsed.map_err(|_| Failure::Malformed)?;
                    self.events.extend(events);
                }
                // Half an event at the end changes nothing: the answer is not complete without its `[DONE]`.
                None => self.reply = None,
            }
        }
    }

    fn read_event(&mut self, event: &SseEvent) -> Result<Option<Piece>, Failure> {
        if event.is_done() {
            return Ok(Some(Piece::Done));
        }
        let event: Completion = serde_json::from_str(&event.data).map_err(|_| Failure::Malformed)?;
        if event.error.is_some() {
            return Err(Failure::ErrorEvent);
        }
        let text = event.choices.first().and_then(|choice| choice.delta.as_ref());
        let text = text.and_then(|delta| delta.content.as_deref()).unwrap_or("");
        let count = self.count(text)?;
        Ok((count > 0).then_some(Piece::Tokens(count)))
    }

    /// Counts tokens `w0 w1 w2`; a gap or a repetition would mean that two answers were mixed.
    fn count(&mut self, text: &str) -> Result<u32, Failure> {
        let before = self.tokens;
        for word in text.split_ascii_whitespace() {
            let number = word.strip_prefix('w').and_then(|digits| digits.parse().ok());
            if number != Some(self.tokens) {
                return Err(Failure::Malformed);
            }
            self.tokens += 1;
        }
        Ok(self.tokens - before)
    }
}

/// What is read of one event of a stream.
#[derive(Debug, Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    delta: Option<Content>,
}

#[derive(Debug, Deserialize)]
struct Content {
    content: Option<String>,
}
