//! The events of one streamed answer.

use bytes::{Bytes, BytesMut};
use fallway::backend::{Attempt, BackendError, FailureKind};
use hyper::body::Incoming;

use super::super::sse::{MAX_EVENT, SseEvent, SseParser};
use super::ChatChunk;
use super::json::Chunk;
use super::wire::{Exchange, Pool};

/// Reads a stream event by event. Dropping it closes the connection.
pub(super) struct Events {
    pool: Pool,
    /// `None` after the terminator.
    exchange: Option<Exchange>,
    body: Incoming,
    parser: SseParser,
    /// Received and not yet handed on. Its first `parsed` bytes are known to the parser: an event that is not complete.
    raw: BytesMut,
    parsed: usize,
    complete: Vec<SseEvent>,
    attempt: Attempt,
}

impl Events {
    pub(super) fn new(pool: Pool, exchange: Exchange, body: Incoming, attempt: Attempt) -> Self {
        Self {
            pool,
            exchange: Some(exchange),
            body,
            parser: SseParser::new(),
            raw: BytesMut::new(),
            parsed: 0,
            complete: Vec::new(),
            attempt,
        }
    }

    /// The next event; `None` where the body ends, which is a cut unless it was `[DONE]` that came last.
    pub(super) async fn next(&mut self) -> Result<Option<ChatChunk>, BackendError> {
        let Some((event, bytes)) = self.event().await? else { return Ok(None) };
        if event.is_done() {
            if let Some(exchange) = self.exchange.take() {
                self.pool.keep_if_ended(exchange, &mut self.body).await;
            }
            return Ok(Some(ChatChunk { bytes, tokens: 0, done: true }));
        }
        let protocol = |error| BackendError::from(FailureKind::Protocol).with_source(error);
        let chunk: Chunk<'_> = serde_json::from_str(&event.data).map_err(protocol)?;
        if let Some(fault) = &chunk.error {
            return Err(fault.classify());
        }
        let tokens = chunk.has_content().into();
        chunk.usage.into_iter().for_each(|usage| self.attempt.used(usage.into()));
        Ok(Some(ChatChunk { bytes, tokens, done: false }))
    }

    /// The next event with its bytes, comments before it included.
    async fn event(&mut self) -> Result<Option<(SseEvent, Bytes)>, BackendError> {
        let Some(exchange) = &mut self.exchange else { return Ok(None) };
        loop {
            while self.parsed < self.raw.len() {
                // One line at a time, so that an event ends where its bytes end.
                let end = self.parsed + line_length(&self.raw[self.parsed..]);
                let pushed = self.parser.push(&self.raw[self.parsed..end], &mut self.complete);
                pushed.map_err(|error| BackendError::from(FailureKind::Protocol).with_source(error))?;
                self.parsed = end;
                if let Some(event) = self.complete.pop() {
                    self.parsed = 0;
                    return Ok(Some((event, self.raw.split_to(end).freeze())));
                }
            }
            if self.raw.len() > MAX_EVENT {
                return Err(FailureKind::Protocol.into());
            }
            match exchange.frame(&mut self.body).await {
                Some(Ok(data)) => self.raw.extend_from_slice(&data),
                Some(Err(error)) => return Err(BackendError::from(FailureKind::Truncated).with_source(error)),
                None => return Ok(None),
            }
        }
    }
}

/// The data of an event, from its bytes.
pub(super) fn data(bytes: &[u8]) -> Option<String> {
    let mut events = Vec::new();
    SseParser::new().push(bytes, &mut events).ok()?;
    events.pop().map(|event| event.data)
}

/// Bytes of the first line, its end included; of all, where the line is not complete.
fn line_length(bytes: &[u8]) -> usize {
    match bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        Some(end) if bytes[end..].starts_with(b"\r\n") => end + 2,
        Some(end) => end + 1,
        None => bytes.len(),
    }
}
