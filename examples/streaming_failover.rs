//! What a caller sees when a server breaks in the middle of things: real HTTP, server-sent events, and a table.
//!
//! `cargo run --release --example streaming_failover`
//!
//! Two servers on loopback, and a request for twenty tokens that goes to the first, which breaks in every way in which
//! servers do: once for a whole answer, once for a stream, and once for a stream whose host knows how to ask for the rest.
//! Until the first token a failure costs an attempt and the caller sees nothing of it. After it the caller is told what was
//! delivered, or another server goes on, and every token comes once. No row of the table ends in silence: the example ends
//! with exit code 1 if one does.

use fallway::adapt::tokio::TokioTimer;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Interrupted, Piece, Resume};
use fallway::{CallOptions, Profile, Router};
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use hyper::HeaderMap;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use support::openai::{ChatAnswer, ChatChunk, ChatRequest, Connections, OpenAi};
use support::upstream::{Hang, Upstream, UpstreamConfig};

#[path = "support/mod.rs"]
mod support;

/// Tokens that are asked for, and after how many a server breaks that breaks late.
const TOKENS: usize = 20;
const AFTER: usize = 8;
/// How long an answer may take to begin, and how long a stream may pause. A whole answer takes 0.2 s.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(1_000);
const IDLE_LIMIT: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(8);

/// How the first server breaks.
type Breaks = fn(&Upstream);

/// All the ways, and whether a caller of each kind gets the whole answer: one that wants it whole, one that reads it as it
/// comes, and one that does and has a hook.
const CASES: [(&str, Breaks, [bool; 3]); 12] = [
    ("does not break", |_| (), [true, true, true]),
    ("answers 503", |server| server.fault().status(503, None), [true, true, true]),
    ("hangs before the headers", |server| server.fault().hang(Hang::BeforeHeaders), [true, true, true]),
    ("hangs after the headers", |server| server.fault().hang(Hang::AfterHeaders), [true, true, true]),
    ("hangs after the role", |server| server.fault().hang(Hang::AfterRole), [true, true, true]),
    ("sends an error event first", |server| server.fault().error_event_after(0), [true, true, true]),
    ("drips a byte a second", |server| server.fault().drip(Duration::from_secs(1)), [true, true, true]),
    ("stalls after 8 tokens", |server| server.fault().stall_after(AFTER), [true, false, true]),
    ("is cut after 8 tokens", |server| server.fault().cut_after(AFTER), [true, false, true]),
    ("closes without [DONE] after 8", |server| server.fault().close_after(AFTER), [true, false, true]),
    ("sends an error event after 8", |server| server.fault().error_event_after(AFTER), [true, false, true]),
    (KILLED, |_| (), [true, false, true]),
];

/// No fault that is set before: the server is killed while it answers.
const KILLED: &str = "is killed in mid-answer";

/// How an answer is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Whole,
    Streamed,
    Resumed,
}

/// What a caller saw.
struct Seen {
    text: String,
    /// Where another server went on.
    seams: Vec<usize>,
    /// What the error said: how it broke, and how many tokens were delivered.
    error: Option<(String, u64)>,
    by: String,
    attempts: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let rows = rows().await?;
    println!("{TOKENS} tokens, server a ...\n");
    println!("{:<30} {:<22} {:<30} streamed, with a hook for the rest", "", "whole", "streamed");
    for (case, [whole, streamed, resumed]) in &rows {
        println!("{case:<30} {whole:<22} {streamed:<30} {resumed}");
    }
    let wrong: Vec<_> = mistakes(&rows).collect();
    wrong.iter().for_each(|wrong| eprintln!("{wrong}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Row = (&'static str, [Seen; 3]);

/// All cases at once, each with servers and a router of its own.
async fn rows() -> Result<Vec<Row>, Box<dyn Error>> {
    let cases = CASES.into_iter().map(async |(name, breaks, _)| {
        let seen = |mode| play(name, breaks, mode);
        let (whole, streamed, resumed) =
            tokio::try_join!(seen(Mode::Whole), seen(Mode::Streamed), seen(Mode::Resumed))?;
        Ok::<Row, Box<dyn Error>>((name, [whole, streamed, resumed]))
    });
    join_all(cases).await.into_iter().collect()
}

async fn play(name: &str, breaks: Breaks, mode: Mode) -> Result<Seen, Box<dyn Error>> {
    let start = async |id: &str| {
        Upstream::start(UpstreamConfig { id: id.into(), decode_tokens_per_s: 100.0, ..UpstreamConfig::default() }).await
    };
    let (a, b) = (Arc::new(start("a").await?), start("b").await?);
    breaks(&a);
    let mut connections = Connections::default();
    let mut backend = |server: &Upstream| OpenAi::new(&server.url(), &mut connections);
    let router = Router::builder(ordered().fail_safe(FailSafe::default().attempt_limit(ATTEMPT_LIMIT)))
        .timer(TokioTimer::default())
        .idle_limit(IDLE_LIMIT)
        .backend(Profile::new("a").model("m"), backend(&a)?)
        .backend(Profile::new("b").model("m"), backend(&b)?)
        .build()?;

    let stream = mode != Mode::Whole;
    let body = format!(r#"{{"model":"m","messages":[],"max_tokens":{TOKENS},"stream":{stream}}}"#);
    let request = ChatRequest::new(body.into(), &HeaderMap::new())?;
    let options = CallOptions::within(DEADLINE).facts(request.facts());
    let killer = (name == KILLED).then(|| a.clone());
    if let (Mode::Whole, Some(server)) = (mode, killer.clone()) {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.go_down().await;
        });
    }
    let seen = if stream {
        read(&router, request, options, killer, mode).await?
    } else {
        ask(&router, &request, options).await?
    };
    assert_eq!(router.total_in_flight(), 0, "{name}: nothing is left behind");
    Ok(seen)
}

type Chat = Router<ChatRequest, ChatAnswer>;

/// A whole answer.
async fn ask(router: &Chat, request: &ChatRequest, options: CallOptions) -> Result<Seen, Box<dyn Error>> {
    let answer = router.call(request, options).await?;
    let (by, attempts) = (answer.backend().unwrap_or("nobody").to_owned(), answer.attempts().len());
    let ChatAnswer::Whole(body) = answer.into_inner() else { return Err("a stream that nobody asked for".into()) };
    let body: serde_json::Value = serde_json::from_slice(&body)?;
    let text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    Ok(Seen { text, seams: Vec::new(), error: None, by, attempts })
}

/// A stream, to its end.
async fn read(
    router: &Chat,
    request: ChatRequest,
    options: CallOptions,
    mut killer: Option<Arc<Upstream>>,
    mode: Mode,
) -> Result<Seen, Box<dyn Error>> {
    let stream = router.stream(&request, options).await?;
    let (by, attempts) = (stream.backend().unwrap_or("nobody").to_owned(), stream.attempts().len());
    let mut seen = Seen { text: String::new(), seams: Vec::new(), error: None, by, attempts };
    let hook = Rest { request, text: String::new(), tokens: 0 };
    let mut pieces = match mode {
        Mode::Resumed => stream.resume(hook).left_stream(),
        _ => stream.map_ok(Piece::Item).right_stream(),
    };
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(Piece::Item(chunk)) => seen.text += &chunk.text(),
            Ok(Piece::Resumed(_)) => {
                seen.seams.push(seen.tokens());
                seen.attempts += 1;
            }
            Err(broken) => seen.error = Some((broken.kind().to_string(), broken.delivered().content)),
        }
        if seen.tokens() == AFTER
            && let Some(server) = killer.take()
        {
            server.go_down().await;
        }
    }
    Ok(seen)
}

/// Knows how to ask for the rest of an answer: the same request, with what came of the answer at its end.
struct Rest {
    request: ChatRequest,
    text: String,
    tokens: u64,
}

impl Resume<ChatRequest, ChatChunk> for Rest {
    fn delivered(&mut self, chunk: &ChatChunk) {
        self.text += &chunk.text();
        self.tokens += chunk.tokens;
    }

    fn resume(&mut self, _: &Interrupted) -> Option<Box<ChatRequest>> {
        Some(Box::new(self.request.rest(&self.text, self.tokens)))
    }
}

impl Seen {
    fn tokens(&self) -> usize {
        self.text.split_whitespace().count()
    }

    /// Every token once, and in order: `w0 w1 w2 ...`.
    fn is_in_order(&self) -> bool {
        self.text.split_whitespace().enumerate().all(|(number, word)| word == format!("w{number}"))
    }

    fn is_whole(&self) -> bool {
        self.error.is_none() && self.tokens() == TOKENS
    }

    /// Neither whole nor an error that tells the truth.
    fn is_a_lie(&self) -> bool {
        match &self.error {
            None => !self.is_whole(),
            Some((_, said)) => *said != self.tokens() as u64,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seams, error, by, attempts, .. } = self;
        let mut text = match (error, &seams[..]) {
            (Some((kind, said)), _) => format!("error after {said}: {kind}"),
            (None, [seam]) => format!("{} by {by}, a seam, {} by another", seam, self.tokens() - seam),
            (None, _) => format!("{} by {by}", self.tokens()),
        };
        if *attempts > 1 {
            text += &format!(", attempt {attempts}");
        }
        f.pad(&text)
    }
}

/// What is not as it should be.
fn mistakes(rows: &[Row]) -> impl Iterator<Item = String> {
    CASES.iter().zip(rows).enumerate().flat_map(|(at, ((case, _, whole), (_, seen)))| {
        let pairs = whole.iter().zip(seen);
        pairs.filter_map(move |(whole, seen)| {
            // Who got all of it from a server that breaks did not meet the fault.
            let spared = at > 0 && seen.is_whole() && seen.attempts == 1;
            let wrong = seen.is_whole() != *whole || seen.is_a_lie() || !seen.is_in_order() || spared;
            wrong.then(|| format!("{case}: {seen}, {:?}", seen.text))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_answer_ends_in_silence() {
        let rows = rows().await.expect("the servers start");
        for (case, [whole, streamed, resumed]) in &rows {
            println!("{case:<30} {whole:<22} {streamed:<30} {resumed}");
        }
        assert_eq!(mistakes(&rows).collect::<Vec<_>>(), Vec::<String>::new());
    }
}
