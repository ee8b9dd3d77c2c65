//! A scripted OpenAI-compatible deployment on loopback: a real HTTP/1.1 server with the service model of an inference
//! engine and faults that can be switched while it runs.
//!
//! The examples need deployments whose truth is known: how many requests really arrived, what was answered, who hung up.
//! A request passes through four stations, and leaves each one at once when its client goes away:
//!
//! 1. refusals: an injected status, an unknown model, the hard limit, the quotas;
//! 2. `slots`: a FIFO queue in front of a fixed number of running requests;
//! 3. the base latency and a FIFO prefill server of `prefill_tokens_per_s`;
//! 4. decode at `decode_tokens_per_s` per stream. The first token is the result of the prefill, the k-th follows `k - 1`
//!    token times later. Response headers are sent when the prefill is done.
//!
//! With an infinite prefill rate and 20 ms of base latency this is the plain "20 ms deployment" of the gateway benchmarks.
#![allow(dead_code, unreachable_pub, unused_imports)] // every example uses another part of it

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

mod answer;
mod counters;
mod faults;
mod quota;
mod service;

pub use counters::Counters;
pub use faults::{FaultSet, Faults, Hang, StatusFault};

use service::Shared;

/// Pending connections the kernel keeps for a server; above every burst of the examples.
const BACKLOG: u32 = 1024;

/// What one deployment is and how fast it works.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Name of the deployment, echoed as `system_fingerprint` and as the header `x-upstream-id`.
    pub id: String,
    /// Region label; the server itself makes no use of it.
    pub region: String,
    /// The one model it serves; a request for another is answered 404 `model_not_found`. Empty: any model.
    pub model: String,
    /// Fixed time every request takes before its prefill.
    pub base_latency: Duration,
    /// Speed of the prefill, one request at a time. `f64::INFINITY`: no prefill.
    pub prefill_tokens_per_s: f64,
    /// Speed of one stream. `f64::INFINITY`: all tokens at once.
    pub decode_tokens_per_s: f64,
    /// Requests served at the same time; further ones queue in order of arrival.
    pub slots: usize,
    /// At most one content event per interval, with as many tokens as are due. Zero: one event per token.
    pub chunk_interval: Duration,
    /// Above this number in flight a request is answered 429 with `retry-after: 1` at once instead of queueing.
    pub hard_limit: Option<usize>,
    /// Above this many a minute a request is answered 429 with `retry-after`; every answer says what is left
    /// (`x-ratelimit-*`).
    pub requests_per_minute: Option<u32>,
    /// The same for tokens of prompts and answers.
    pub tokens_per_minute: Option<u32>,
}

impl Default for UpstreamConfig {
    /// The 20 ms deployment: the whole answer is due 20 ms after its request, one event per token, no limit in practice.
    fn default() -> Self {
        Self {
            id: "upstream".into(),
            region: "eu".into(),
            model: "m".into(),
            base_latency: Duration::from_millis(20),
            prefill_tokens_per_s: f64::INFINITY,
            decode_tokens_per_s: f64::INFINITY,
            slots: 10_000,
            chunk_interval: Duration::ZERO,
            hard_limit: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

/// A running deployment. Dropping it closes its port and every connection.
pub struct Upstream {
    shared: Arc<Shared>,
    addr: SocketAddr,
    /// Where it was started; it returns there, whoever calls `come_back`.
    runtime: Handle,
    state: Mutex<State>,
}

/// Whether the port is served.
enum State {
    /// The task owns the listener and all connections; aborting it ends them all.
    Up(JoinHandle<()>),
    /// Bound but not listening: connects are refused, and nobody else can take the port meanwhile.
    Down(io::Result<TcpSocket>),
}

impl Upstream {
    /// Starts a deployment on a free loopback port, served by the current runtime.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(config: UpstreamConfig) -> io::Result<Self> {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(config));
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { shared, addr, runtime: Handle::current(), state: Mutex::new(State::Up(task)) })
    }

    /// The address it listens on; the same after [`come_back`](Self::come_back).
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Base URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Name of the deployment.
    pub fn id(&self) -> &str {
        &self.shared.config.id
    }

    /// Region label.
    pub fn region(&self) -> &str {
        &self.shared.config.region
    }

    /// What it was started with.
    pub fn config(&self) -> &UpstreamConfig {
        &self.shared.config
    }

    /// The faults in force; set them at any time, from any thread.
    pub fn fault(&self) -> &Faults {
        &self.shared.faults
    }

    /// What really arrived and how it was answered.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Closes the listener and kills every live connection; from now on connects are refused. No effect when down.
    pub async fn go_down(&self) {
        let mut state = self.state.lock().await;
        if let State::Up(task) = &mut *state {
            self.shared.down.store(true, Relaxed);
            task.abort();
            // The listener is closed when the task is gone; its result is the abort itself.
            let _ = task.await;
            *state = State::Down(bind(self.addr));
        }
    }

    /// Listens again on the same port. No effect when up.
    ///
    /// # Errors
    /// When the port could not be kept or cannot be listened on.
    pub async fn come_back(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        let socket = match &mut *state {
            State::Up(_) => return Ok(()),
            State::Down(socket) => std::mem::replace(socket, Err(io::ErrorKind::AddrInUse.into()))?,
        };
        let _context = self.runtime.enter();
        let listener = socket.listen(BACKLOG)?;
        self.shared.down.store(false, Relaxed);
        *state = State::Up(self.runtime.spawn(serve(listener, Arc::clone(&self.shared))));
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let State::Up(task) = self.state.get_mut() {
            self.shared.down.store(true, Relaxed);
            task.abort();
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("id", &self.id()).field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// A bound socket that may reuse a port whose old connections linger.
fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Accepts for ever. The connections live in this task's `JoinSet`, so that its end is their end.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = service::router(shared);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: the listener stays usable, a tight loop would only burn the core.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Fails only on a socket that is closed already, which the next read will notice.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            // A client that hangs up and an injected cut both end here, as they should.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
