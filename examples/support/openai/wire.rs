//! Connections to one server.
//!
//! A connection has no task of its own: whoever waits for an answer drives it. This saves a wake-up of a second task in
//! either direction, and makes dropping a call and closing its socket the same thing. Nobody drives an idle connection;
//! that the server has closed it is found out when it is taken, before anything is sent.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fallway::backend::{BackendError, FailureKind};
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An idle connection is used for this long; shorter than the limits that servers and balancers usually have (60 s and
/// more), so that the pool rarely offers one that the other side is about to close.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The longest wait for a connection, which must not eat the time of an attempt: who does not answer the first packet in
/// this time is unreachable, and the request certainly did not get there.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The idle connections of one server. A cheap handle: clones share them.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: String,
    port: u16,
    /// The last one used at the back, so that a pool that was too large shrinks from the front.
    idle: Mutex<VecDeque<(Instant, Exchange)>>,
}

/// A connection with a request on it.
#[derive(Debug)]
pub(super) struct Exchange {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    wire: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

impl Pool {
    pub(super) fn new(host: &str, port: u16) -> Self {
        // The brackets around an IPv6 address belong to the URL.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self(Arc::new(Shared { host, port, idle: Mutex::default() }))
    }

    /// Sends `post` and waits for the head of the answer.
    ///
    /// A connection that turns out to be closed before anything of the request was written is replaced. Whatever happens
    /// later is a failure of the attempt, for the server may have seen all of it.
    pub(super) async fn send(
        &self,
        mut post: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(Exchange, Response<Incoming>), BackendError> {
        while let Some(mut exchange) = self.take() {
            match exchange.send(post).await {
                Ok(response) => return Ok((exchange, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => post = unsent,
                    None => return Err(broken(error.into_error())),
                },
            }
        }
        let unreachable = |error: io::Error| BackendError::from(FailureKind::Unreachable).with_source(error);
        let connected = timeout(CONNECT_LIMIT.min(limit / 2), self.connect()).await;
        let mut exchange = connected.map_err(|late| unreachable(late.into()))?.map_err(unreachable)?;
        match exchange.send(post).await {
            Ok(response) => Ok((exchange, response)),
            Err(mut error) => match error.take_message() {
                Some(_unsent) => Err(unreachable(io::ErrorKind::ConnectionReset.into())),
                None => Err(broken(error.into_error())),
            },
        }
    }

    /// Reads a body of at most `limit` bytes to its end and keeps the connection.
    pub(super) async fn read(
        &self,
        mut exchange: Exchange,
        body: Incoming,
        limit: usize,
    ) -> Result<Bytes, BackendError> {
        let whole = exchange.drive(Limited::new(body, limit).collect()).await;
        let whole = whole.map_err(|error| BackendError::from(FailureKind::Truncated).with_source(error))?;
        self.keep(exchange).await;
        Ok(whole.to_bytes())
    }

    /// Keeps the connection of a stream after its terminator, if the end of the body came along with it. Waiting for it
    /// would hold up the caller.
    pub(super) async fn keep_if_ended(&self, mut exchange: Exchange, body: &mut Incoming) {
        if matches!(exchange.frame(body).now_or_never(), Some(None)) {
            self.keep(exchange).await;
        }
    }

    async fn connect(&self) -> io::Result<Exchange> {
        let stream = TcpStream::connect((self.0.host.as_str(), self.0.port)).await?;
        stream.set_nodelay(true)?; // a request is one small write: waiting for more only delays it
        let (sender, wire) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Exchange { sender, wire: Some(wire) })
    }

    fn take(&self) -> Option<Exchange> {
        let mut idle = self.idle();
        let (since, exchange) = idle.pop_back()?;
        if since.elapsed() < POOL_IDLE {
            return Some(exchange);
        }
        // The last one used is too old: so are all.
        idle.clear();
        None
    }

    /// Keeps a connection for the next request, if its answer was read to the end and it stays open.
    async fn keep(&self, mut exchange: Exchange) {
        let turn = poll_fn(|cx| {
            exchange.turn(cx);
            Poll::Ready(())
        });
        turn.await;
        if exchange.sender.is_ready() {
            let now = Instant::now();
            let mut idle = self.idle();
            idle.push_back((now, exchange));
            if idle.front().is_some_and(|(since, _)| now - *since > POOL_IDLE) {
                idle.pop_front();
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Instant, Exchange)>> {
        // A panic elsewhere leaves the list as it was.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    async fn send(
        &mut self,
        post: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let response = self.sender.try_send_request(post);
        self.drive(response).await
    }

    /// The next data of a body; `None` at its clean end.
    pub(super) async fn frame(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.drive(body.frame()).await?.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits for something that this connection brings about.
    async fn drive<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        let mut waited_for = pin!(waited_for);
        poll_fn(|cx| {
            if let Poll::Ready(value) = waited_for.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            self.turn(cx);
            waited_for.as_mut().poll(cx)
        })
        .await
    }

    /// Reads and writes what can be read and written now. An error arrives where the answer is waited for.
    fn turn(&mut self, cx: &mut Context<'_>) {
        if let Some(wire) = &mut self.wire
            && Pin::new(wire).poll(cx).is_ready()
        {
            self.wire = None;
        }
    }
}

/// A connection that broke with a request on it.
fn broken(error: hyper::Error) -> BackendError {
    let kind = if error.is_parse() { FailureKind::Protocol } else { FailureKind::Truncated };
    BackendError::from(kind).with_source(error)
}
