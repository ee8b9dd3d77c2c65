//! An incremental parser for server-sent events: bytes in as they arrive, events out, bounded memory.
//!
//! It follows the event stream grammar of the HTML standard (all three line ends, comments, several `data` lines per event,
//! a byte order mark) with two deliberate differences. Input is bounded, because the peer may be broken or hostile. And the
//! end of the input is checked: an event without its blank line is an error instead of being dropped, since a stream that
//! was cut must not look like one that ended.
//!
//! ```ignore
//! let mut parser = SseParser::new();
//! let mut events = Vec::new();
//! parser.push(b"data: {\"a\":1}\n\ndata: [DO", &mut events)?;
//! parser.push(b"NE]\n\n", &mut events)?;
//! assert_eq!(events[1].data, "[DONE]");
//! parser.finish()?;
//! ```
#![allow(dead_code, unreachable_pub)] // every example uses another part of it

use std::fmt;

/// Longest line that is accepted, in bytes without its end.
pub const MAX_LINE: usize = 1 << 20;
/// Most data that one event may carry over all of its lines, in bytes.
pub const MAX_EVENT: usize = 4 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; `None` where the event names no type.
    pub kind: Option<String>,
    /// The `data` lines, joined by line feeds.
    pub data: String,
    /// The `id` field of this event.
    pub id: Option<String>,
}

impl SseEvent {
    /// Whether this is the terminator of an OpenAI stream.
    pub fn is_done(&self) -> bool {
        self.data == "[DONE]"
    }
}

/// Why a stream is not a valid event stream. The parser stays in this state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SseError {
    /// A line is longer than the parser accepts.
    LineTooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// The data lines of one event are together longer than the parser accepts.
    EventTooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// A line is not UTF-8.
    NotUtf8,
    /// The input ended inside an event.
    Incomplete {
        /// Bytes of the unfinished line and event.
        bytes: usize,
    },
}

impl fmt::Display for SseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong { limit } => write!(f, "a line of the event stream exceeds {limit} bytes"),
            Self::EventTooLong { limit } => write!(f, "an event of the stream exceeds {limit} bytes"),
            Self::NotUtf8 => f.write_str("a line of the event stream is not UTF-8"),
            Self::Incomplete { bytes } => write!(f, "the event stream ended inside an event, {bytes} bytes into it"),
        }
    }
}

impl std::error::Error for SseError {}

/// The parser; one per stream.
#[derive(Debug)]
pub struct SseParser {
    max_line: usize,
    max_event: usize,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The event that is not complete yet.
    event: SseEvent,
    has_data: bool,
    /// A carriage return ended the last line; a line feed right after it belongs to it.
    after_return: bool,
    first_line: bool,
    failed: Option<SseError>,
}

impl Default for SseParser {
    fn default() -> Self {
        Self::new()
    }
}

impl SseParser {
    /// A parser with the bounds [`MAX_LINE`] and [`MAX_EVENT`].
    pub fn new() -> Self {
        Self::with_limits(MAX_LINE, MAX_EVENT)
    }

    /// A parser with other bounds, in bytes.
    pub fn with_limits(max_line: usize, max_event: usize) -> Self {
        Self {
            max_line,
            max_event,
            line: Vec::new(),
            event: SseEvent::default(),
            has_data: false,
            after_return: false,
            first_line: true,
            failed: None,
        }
    }

    /// Takes the next bytes and appends the events they complete to `events`.
    ///
    /// # Errors
    /// When a bound is exceeded or a line is not UTF-8; the events before it have been appended. Every later call returns
    /// the same error.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take(bytes, events).inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Says whether the input ended between two events.
    ///
    /// # Errors
    /// The earlier error, or [`SseError::Incomplete`] when an event or a line was still open.
    pub fn finish(&self) -> Result<(), SseError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let bytes = self.line.len() + self.event.data.len();
        if bytes > 0 || self.has_data { Err(SseError::Incomplete { bytes }) } else { Ok(()) }
    }

    fn take(&mut self, mut bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > self.max_line {
                return Err(SseError::LineTooLong { limit: self.max_line });
            }
            let Some(end) = end else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if self.line.is_empty() {
                self.end_line(part, events)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.end_line(&line, events)?;
                // Keeps the allocation for the next split line.
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    fn end_line(&mut self, mut line: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        let line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.event.data.len() + value.len() + 1 > self.max_event {
                    return Err(SseError::EventTooLong { limit: self.max_event });
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => self.event.kind = Some(value.to_owned()),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            // Comments have an empty field name; `retry` and unknown fields mean nothing here.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, SseError> {
        let mut parser = SseParser::new();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut events)?;
        }
        parser.finish()?;
        Ok(events)
    }

    fn data(events: Result<Vec<SseEvent>, SseError>) -> Vec<String> {
        events.expect("a valid stream").into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn every_split_gives_the_same_events() {
        let stream: &[u8] = "\u{feff}event: x\r\nid: 7\r\ndata: eins\r\ndata:zwei ä\r\n\r\n: note\n\ndata: {\"a\":1}\n\rdata\r\rdata: [DONE]\n\n".as_bytes();
        let whole = parse(&[stream]).expect("a valid stream");
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0], SseEvent { kind: Some("x".into()), data: "eins\nzwei ä".into(), id: Some("7".into()) });
        assert_eq!(whole[1].data, r#"{"a":1}"#);
        assert_eq!(whole[2].data, "");
        assert!(whole[3].is_done());
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(parse(&pieces).as_ref(), Ok(&whole), "split at {first} and {second}");
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(parse(&bytes), Ok(whole));
    }

    #[test]
    fn only_one_space_belongs_to_the_syntax() {
        assert_eq!(data(parse(&[b"data:  x\n\ndata:y\n\n"])), [" x", "y"]);
    }

    #[test]
    fn events_without_data_and_comments_are_skipped() {
        assert_eq!(data(parse(&[b"event: ping\n\n: keep-alive\n\nretry: 10\n\n\n\ndata: x\n\n"])), ["x"]);
    }

    #[test]
    fn a_type_does_not_leak_into_the_next_event() {
        let events = parse(&[b"event: ping\n\ndata: x\n\n"]).expect("a valid stream");
        assert_eq!(events[0].kind, None);
    }

    #[test]
    fn a_cut_stream_is_incomplete() {
        assert_eq!(parse(&[b"data: x\n\ndata: {\"ch"]), Err(SseError::Incomplete { bytes: 10 }));
        assert_eq!(parse(&[b"data: x\n"]), Err(SseError::Incomplete { bytes: 1 }));
        assert_eq!(parse(&[b"data:\n"]), Err(SseError::Incomplete { bytes: 0 }));
        assert_eq!(parse(&[]), Ok(vec![]));
    }

    #[test]
    fn a_line_is_bounded_however_it_arrives() {
        let long = vec![b'x'; MAX_LINE + 1];
        assert_eq!(parse(&[&long]), Err(SseError::LineTooLong { limit: MAX_LINE }));
        let mut parser = SseParser::with_limits(16, 64);
        let mut events = Vec::new();
        assert_eq!(parser.push(b"data: 0123456789", &mut events), Ok(()));
        assert_eq!(parser.push(b"\n\n", &mut events), Ok(()));
        assert_eq!(parser.push(b"data: 0123456789", &mut events), Ok(()));
        let error = SseError::LineTooLong { limit: 16 };
        assert_eq!(parser.push(b"x", &mut events), Err(error.clone()));
        assert_eq!(parser.push(b"\n\n", &mut events), Err(error.clone()), "the error stays");
        assert_eq!(parser.finish(), Err(error));
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn an_event_is_bounded_over_its_lines() {
        let mut parser = SseParser::with_limits(16, 20);
        let mut events = Vec::new();
        assert_eq!(parser.push(b"data: 01234567\n", &mut events), Ok(()));
        assert_eq!(parser.push(b"data: 01234567\n", &mut events), Ok(()));
        assert_eq!(parser.push(b"data: 01234567\n", &mut events), Err(SseError::EventTooLong { limit: 20 }));
        assert!(events.is_empty());
    }

    #[test]
    fn bytes_that_are_not_text_are_an_error() {
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
    }
}
