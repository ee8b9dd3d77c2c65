//! A client with kept-alive connections, on top of the plain HTTP/1.1 connection of hyper.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::super::sse::SseParser;
use super::answer::{Answer, End};

/// A caller waits this long at most, so that no run can hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// One chat completion to ask for.
#[derive(Clone, Debug)]
pub struct Call {
    /// Model to ask for.
    pub model: String,
    /// Ask for a stream.
    pub stream: bool,
    /// Output tokens to ask for and to expect.
    pub tokens: usize,
    /// Header `x-fallway-deadline-ms`.
    pub deadline: Option<Duration>,
    /// Hang up after this long, closing the connection.
    pub patience: Duration,
}

impl Call {
    /// A unary call for 20 tokens of model `m` without a deadline of its own.
    pub fn unary() -> Self {
        Self { model: "m".into(), stream: false, tokens: 20, deadline: None, patience: PATIENCE }
    }

    /// The same as a stream.
    pub fn stream() -> Self {
        Self { stream: true, ..Self::unary() }
    }

    fn request(&self, host: &str) -> Request<Full<Bytes>> {
        let body = format!(
            r#"{{"model":"{}","messages":[{{"role":"user","content":"Say something."}}],"max_tokens":{},"stream":{}}}"#,
            self.model, self.tokens, self.stream
        );
        let mut request = Request::post("/v1/chat/completions")
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(deadline) = self.deadline {
            request = request.header("x-fallway-deadline-ms", deadline.as_millis().to_string());
        }
        request.body(Full::from(body)).expect("all parts are literals and numbers")
    }
}

/// Connections to one endpoint; a new one is opened whenever all are busy.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    host: String,
    idle: Mutex<Vec<Connection>>,
}

/// An open connection and the task that drives it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    /// Hanging up is closing the socket now, not when the driver finds out.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client without connections yet.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, host: addr.to_string(), idle: Mutex::new(Vec::new()) }
    }

    /// The endpoint.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The status of `GET path`.
    ///
    /// # Errors
    /// When there is no connection or no answer.
    pub async fn status(&self, path: &str) -> io::Result<u16> {
        let request = Request::get(path).header(header::HOST, &self.host).body(Full::default());
        let request = request.map_err(io::Error::other)?;
        let (connection, response) = self.send(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await.map_err(io::Error::other)?;
        self.keep(connection);
        Ok(status)
    }

    /// One call with as little work as possible: its status, when the whole body arrived.
    ///
    /// # Errors
    /// When there is no connection or it breaks.
    pub async fn exchange(&self, call: &Call) -> io::Result<u16> {
        let (connection, mut response) = self.send(call.request(&self.host)).await?;
        while let Some(frame) = response.body_mut().frame().await {
            frame.map_err(io::Error::other)?;
        }
        self.keep(connection);
        Ok(response.status().as_u16())
    }

    /// One call with everything that can be said about its answer. `at` is left at zero.
    pub async fn call(&self, call: &Call) -> Answer {
        let start = Instant::now();
        let mut answer = Answer::new();
        if timeout(call.patience, self.read(call, start, &mut answer)).await.is_err() {
            answer.end = End::GaveUp;
        }
        answer.total = start.elapsed();
        answer
    }

    async fn read(&self, call: &Call, start: Instant, answer: &mut Answer) {
        let (connection, response) = match self.send(call.request(&self.host)).await {
            Ok(sent) => sent,
            Err(error) => {
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                answer.end = if refused { End::Unreachable } else { End::Cut };
                return;
            }
        };
        answer.status = Some(response.status().as_u16());
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        answer.attempts = header("x-fallway-attempts").and_then(|value| value.parse().ok());
        answer.backend = header("x-fallway-backend").map(str::to_owned);
        let body = response.into_body();
        let whole = match (answer.status, call.stream) {
            (Some(200), true) => read_stream(body, start, call.tokens, answer).await,
            (Some(200), false) => match body.collect().await {
                Ok(body) => {
                    answer.read_unary(&body.to_bytes(), call.tokens);
                    true
                }
                Err(_) => false,
            },
            _ => {
                answer.end = End::Refused;
                body.collect().await.is_ok()
            }
        };
        if whole {
            self.keep(connection);
        } else if answer.end == End::Unreachable {
            answer.end = End::Cut;
        }
    }

    /// Sends on an idle connection or a new one. An idle one that was closed meanwhile is replaced, once per idle one.
    async fn send(&self, mut request: Request<Full<Bytes>>) -> io::Result<(Connection, Response<Incoming>)> {
        while let Some(mut connection) = self.take_idle() {
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(io::Error::other(error.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.sender.send_request(request).await.map_err(io::Error::other)?;
        Ok((connection, response))
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Its caller sees the error as the end of the answer.
            let _ = driver.await;
        });
        Ok(Connection { sender, driver })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        if !connection.sender.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// Reads a stream to its end and says whether the connection survived it.
async fn read_stream(mut body: Incoming, start: Instant, asked: usize, answer: &mut Answer) -> bool {
    let mut parser = SseParser::new();
    let mut events = Vec::new();
    let mut end = None;
    while let Some(frame) = body.frame().await {
        let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else {
            // A break after the terminator harms nobody; before it, or before an error event, the answer is cut.
            answer.end = end.unwrap_or(End::Cut);
            return false;
        };
        let parsed = parser.push(&data, &mut events);
        for event in events.drain(..) {
            let now = answer.read_event(&event, start.elapsed(), asked);
            end = end.or(now);
        }
        if parsed.is_err() {
            answer.end = End::Cut;
            return false;
        }
    }
    answer.end = end.unwrap_or(End::Silent);
    true
}
