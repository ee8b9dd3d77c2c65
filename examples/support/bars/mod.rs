//! The scenarios of the gateway benchmark and what they share: scripted upstreams, the gateway child, the open loop.
#![allow(unreachable_pub)] // an example exports nothing; `pub` marks what `bars.rs` itself uses

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::support::load::{Answer, Arrivals, Call, Client, ms, open_loop, percentile};
use crate::support::upstream::{Upstream, UpstreamConfig};

mod cost;
mod gateway;
mod limits;
mod outages;
pub mod report;
mod slow;
mod streams;

use gateway::Gateway;
use report::Row;

/// What all scenarios are run with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The binary under test.
    pub gateway: PathBuf,
    /// Rate of the open loop in requests per second.
    pub rps: f64,
    /// Seed of the arrivals.
    pub seed: u64,
    /// Runs the deployments, on a thread of its own: with client and deployment on one thread, a direct request would
    /// need no wake-up at all, and the gateway would be charged for the four that a real one needs.
    pub deployments: Handle,
}

impl Context {
    /// Starts a deployment on its own thread.
    async fn upstream(&self, config: UpstreamConfig) -> io::Result<Upstream> {
        self.deployments.spawn(Upstream::start(config)).await.map_err(io::Error::other)?
    }
}

/// The rows of a scenario, when it could be run.
pub type Rows = io::Result<Vec<Row>>;

/// One scenario.
pub struct Scenario {
    /// Its name for `--only`.
    pub name: &'static str,
    /// Runs it.
    pub run: for<'a> fn(&'a Context) -> Pin<Box<dyn Future<Output = Rows> + 'a>>,
}

/// All scenarios, in the order of the table of bars.
pub const ALL: &[Scenario] = &[
    Scenario { name: "added-latency", run: |context| Box::pin(cost::added_latency(context)) },
    Scenario { name: "healthy", run: |context| Box::pin(cost::healthy(context)) },
    Scenario { name: "throughput", run: |context| Box::pin(cost::throughput(context)) },
    Scenario { name: "refused", run: |context| Box::pin(outages::refused(context)) },
    Scenario { name: "unavailable", run: |context| Box::pin(outages::unavailable(context)) },
    Scenario { name: "region", run: |context| Box::pin(outages::region(context)) },
    Scenario { name: "recovery", run: |context| Box::pin(outages::recovery(context)) },
    Scenario { name: "gray", run: |context| Box::pin(slow::gray(context)) },
    Scenario { name: "rate-limited", run: |context| Box::pin(limits::two_of_three(context)) },
    Scenario { name: "all-rate-limited", run: |context| Box::pin(limits::all(context)) },
    Scenario { name: "everything-503", run: |context| Box::pin(outages::everything(context)) },
    Scenario { name: "hang", run: |context| Box::pin(slow::hang(context)) },
    Scenario { name: "deadline-all-hang", run: |context| Box::pin(slow::deadline_all_hang(context)) },
    Scenario { name: "deadline-one-hangs", run: |context| Box::pin(slow::deadline_one_hangs(context)) },
    Scenario { name: "stream-break", run: |context| Box::pin(streams::breaks(context)) },
    Scenario { name: "stream-silent-end", run: |context| Box::pin(streams::ends_silently(context)) },
    Scenario { name: "stream-error-event", run: |context| Box::pin(streams::error_event(context)) },
    Scenario { name: "stream-stall", run: |context| Box::pin(streams::stalls(context)) },
    Scenario { name: "stream-start", run: |context| Box::pin(streams::unavailable_at_start(context)) },
    Scenario { name: "limits-known", run: |context| Box::pin(limits::known(context)) },
    Scenario { name: "limits-unknown", run: |context| Box::pin(limits::unknown(context)) },
    Scenario { name: "single-primary", run: |context| Box::pin(outages::single_primary(context)) },
    Scenario { name: "choice", run: |context| Box::pin(cost::choice(context)) },
    Scenario { name: "disconnect", run: |context| Box::pin(slow::disconnect(context)) },
];

/// Those that count and do not time, in some seconds altogether: what also a busy machine can be held to.
pub const QUICK: [&str; 5] = ["stream-break", "stream-silent-end", "stream-error-event", "stream-start", "disconnect"];

/// Upstreams, a fresh gateway in front of them, and a client of that gateway.
struct Bench {
    upstreams: Vec<Upstream>,
    gateway: Gateway,
    client: Arc<Client>,
    rps: f64,
    seed: u64,
}

impl Bench {
    /// Starts `configs` and a gateway that knows them as its backends.
    async fn start(context: &Context, configs: Vec<UpstreamConfig>, flags: &[&str]) -> io::Result<Self> {
        let mut upstreams = Vec::with_capacity(configs.len());
        for config in configs {
            upstreams.push(context.upstream(config).await?);
        }
        let backends: Vec<String> = upstreams.iter().map(|upstream| backend(upstream, upstream.id())).collect();
        Self::with_backends(context, upstreams, &backends, flags).await
    }

    /// The same with backends spelled out.
    async fn with_backends(
        context: &Context,
        upstreams: Vec<Upstream>,
        backends: &[String],
        flags: &[&str],
    ) -> io::Result<Self> {
        let gateway = Gateway::spawn(&context.gateway, backends, flags).await?;
        let client = Arc::new(Client::new(gateway.addr()));
        Ok(Self { upstreams, gateway, client, rps: context.rps, seed: context.seed })
    }

    /// Ends the gateway, then the upstreams.
    async fn stop(self) {
        self.gateway.stop().await;
    }

    /// The open loop for this long.
    async fn load(&self, length: Duration, call: &Call) -> Vec<Answer> {
        self.load_at(self.rps, length, call, async |_| {}).await
    }

    /// The open loop for this long, with a fault schedule beside it that gets the zero of the clock.
    async fn load_with(&self, length: Duration, call: &Call, schedule: impl AsyncFnOnce(Instant)) -> Vec<Answer> {
        self.load_at(self.rps, length, call, schedule).await
    }

    /// The open loop at another rate.
    async fn load_at(
        &self,
        rps: f64,
        length: Duration,
        call: &Call,
        schedule: impl AsyncFnOnce(Instant),
    ) -> Vec<Answer> {
        let start = Instant::now();
        let arrivals = Arrivals { rps, length, seed: self.seed };
        tokio::join!(open_loop(&self.client, start, arrivals, call), schedule(start)).0
    }

    /// Requests that reached any upstream so far.
    fn sent(&self) -> u64 {
        self.upstreams.iter().map(|upstream| upstream.counters().requests()).sum()
    }

    /// Applies a fault to these upstreams.
    fn each(&self, range: std::ops::Range<usize>, fault: impl Fn(&Upstream)) {
        self.upstreams[range].iter().for_each(fault);
    }
}

/// `count` plain 20 ms deployments `a`, `b`, … in one region.
fn deployments(count: usize) -> Vec<UpstreamConfig> {
    (0..count).map(|n| UpstreamConfig { id: name(n), ..UpstreamConfig::default() }).collect()
}

/// `a`, `b`, …
fn name(n: usize) -> String {
    char::from(b'a' + u8::try_from(n).unwrap_or(25).min(25)).to_string()
}

/// An upstream as a `--backend` argument under this id.
fn backend(upstream: &Upstream, id: &str) -> String {
    format!("id={id},url={},region={},model={}", upstream.url(), upstream.region(), upstream.config().model)
}

/// Waits until this long after the zero of the clock.
async fn until(start: Instant, at: f64) {
    sleep_until(start + Duration::from_secs_f64(at)).await;
}

/// The answers to requests sent in `from..to` seconds.
fn between(answers: &[Answer], from: f64, to: f64) -> Vec<Answer> {
    let range = Duration::from_secs_f64(from)..Duration::from_secs_f64(to);
    answers.iter().filter(|answer| range.contains(&answer.at)).cloned().collect()
}

/// Share of good answers in percent.
fn ok_percent(answers: &[Answer]) -> f64 {
    100.0 * answers.iter().filter(|answer| answer.ok()).count() as f64 / answers.len() as f64
}

/// Answers that were not good.
fn lost(answers: &[Answer]) -> f64 {
    answers.iter().filter(|answer| !answer.ok()).count() as f64
}

/// A percentile of the time to the end of the answer, in milliseconds.
fn latency(answers: &[Answer], q: f64) -> f64 {
    ms(percentile(answers.iter().map(|answer| answer.total), q))
}

/// Attempts per request as the gateway reports them in `x-fallway-attempts`. NaN when an answer lacks the header: an
/// attempt that was refused never reaches an upstream, so nobody else can count it.
fn attempts(answers: &[Answer]) -> f64 {
    let total: Option<u32> = answers.iter().map(|answer| answer.attempts).sum();
    total.map_or(f64::NAN, |total| f64::from(total) / answers.len() as f64)
}

/// Answers whose `x-fallway-backend` names another deployment than the one that wrote the body.
fn misattributed(answers: &[Answer]) -> f64 {
    answers.iter().filter(|answer| answer.misattributed()).count() as f64
}
