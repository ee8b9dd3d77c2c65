//! What the gateway costs when nothing is wrong.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fallway::rng::Rng;
use tokio::time::{Instant, sleep};

use super::gateway::Gateway;
use super::report::Row;
use super::{Bench, Context, Rows, attempts, backend, deployments, latency, misattributed, ok_percent};
use crate::support::load::{Call, Client, closed_loop, median, ms};
use crate::support::upstream::UpstreamConfig;

/// Pairs of one direct request and one through the gateway, against deployments that answer at once.
const PAIRS: usize = 2_000;
/// Fresh gateways per figure. On a machine with few cores the scheduler's placement of a process decides over half of what
/// it seems to add, and it stays for the life of the process.
const ROUNDS: usize = 5;
/// Pairs before the measurement: connections, allocator and branch predictors are warm afterwards.
const WARM_UP: usize = 300;
/// The same against deployments that take 20 ms: fewer, for the timer of the deployment dominates.
const SLOW_PAIRS: usize = 150;
/// Connections of the closed loop.
const CONNECTIONS: usize = 64;
/// Time before the throughput is counted.
const THROUGHPUT_WARM_UP: Duration = Duration::from_secs(1);
/// Time in which it is counted.
const THROUGHPUT_LENGTH: Duration = Duration::from_secs(4);

/// Healthy: added p50 at concurrency 1, direct and through the gateway in turns, the median over several fresh gateways.
///
/// The bar is held against deployments that answer at once: a timer of 20 ms fires at whole milliseconds, which hides half
/// of what a proxy adds and blurs the rest. The figure with 20 ms is shown beside it.
pub(super) async fn added_latency(context: &Context) -> Rows {
    let (mut added, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let bench = Bench::start(context, instant(3), &[]).await?;
        let mut turns = Turns::new(vec![direct_client(&bench), Arc::clone(&bench.client)], context.seed);
        turns.run(WARM_UP, Duration::ZERO).await?;
        turns.clear();
        turns.run(PAIRS, Duration::ZERO).await?;
        added.push(turns.added(1));
        direct.push(turns.p50(0));
        bench.stop().await;
    }
    added.sort_by(f64::total_cmp);
    direct.sort_by(f64::total_cmp);
    let row = Row::new("concurrency 1, instant answers")
        .at_most("added p50", added[ROUNDS / 2], " ms", 0.08)
        .info("best", added[0], " ms")
        .info("worst", added[ROUNDS - 1], " ms")
        .info("direct p50", direct[ROUNDS / 2], " ms");

    let bench = Bench::start(context, deployments(3), &[]).await?;
    let mut turns = Turns::new(vec![direct_client(&bench), Arc::clone(&bench.client)], context.seed);
    turns.run(SLOW_PAIRS, Duration::from_millis(2)).await?;
    let slow = Row::new("concurrency 1, 20 ms answers, idle cores").info("added p50", turns.added(1), " ms").info(
        "direct p50",
        turns.p50(0),
        " ms",
    );
    bench.stop().await;
    Ok(vec![row, slow])
}

/// Healthy: the open loop that all faults are compared with. Nothing may be retried.
pub(super) async fn healthy(context: &Context) -> Rows {
    let bench = Bench::start(context, deployments(3), &[]).await?;
    let answers = bench.load(Duration::from_secs(6), &Call::unary()).await;
    let sent = bench.sent();
    bench.stop().await;
    Ok(vec![
        Row::new("healthy, open loop")
            .exactly("ok", ok_percent(&answers), " %", 100.0)
            .exactly("attempts/request", attempts(&answers), "", 1.0)
            .exactly("received/request", sent as f64 / answers.len() as f64, "", 1.0)
            .exactly("misattributed", misattributed(&answers), "", 0.0)
            .info("p50", latency(&answers, 0.5), " ms")
            .at_most("p99", latency(&answers, 0.99), " ms", 25.0),
    ])
}

/// Healthy: requests per second in a closed loop, the load generator and the deployments on the same cores.
pub(super) async fn throughput(context: &Context) -> Rows {
    let call = Call::unary();
    let bench = Bench::start(context, instant(3), &[]).await?;
    let measure = |addr| closed_loop(addr, CONNECTIONS, THROUGHPUT_WARM_UP, THROUGHPUT_LENGTH, &call);
    let direct = measure(bench.upstreams[0].addr()).await;
    let gateway = measure(bench.client.addr()).await;
    bench.stop().await;
    Ok(vec![
        Row::new("healthy, closed loop of 64 connections")
            .at_least("throughput", gateway.rps.round(), " rps", 15_801.0)
            .exactly("failed", gateway.failed as f64, "", 0.0)
            .info("without a gateway", direct.rps.round(), " rps"),
    ])
}

/// Cost of the choice: p50 added in front of 8, 100 and 1,000 backends, all gateways in turns. The backends are one
/// deployment under many ids, so that nothing but their number differs.
pub(super) async fn choice(context: &Context) -> Rows {
    const COUNTS: [usize; 3] = [8, 100, 1_000];
    let mut rounds: [Vec<f64>; COUNTS.len()] = Default::default();
    let mut growth = Vec::new();
    for _ in 0..ROUNDS {
        let instant = UpstreamConfig { base_latency: Duration::ZERO, ..UpstreamConfig::default() };
        let upstream = context.upstream(instant).await?;
        let mut clients = vec![Arc::new(Client::new(upstream.addr()))];
        let mut gateways = Vec::new();
        for count in COUNTS {
            let backends: Vec<String> = (0..count).map(|n| backend(&upstream, &format!("b{n}"))).collect();
            let gateway = Gateway::spawn(&context.gateway, &backends, &[]).await?;
            clients.push(Arc::new(Client::new(gateway.addr())));
            gateways.push(gateway);
        }
        let mut turns = Turns::new(clients, context.seed);
        turns.run(WARM_UP, Duration::ZERO).await?;
        turns.clear();
        turns.run(PAIRS, Duration::ZERO).await?;
        for (n, round) in rounds.iter_mut().enumerate() {
            round.push(turns.added(n + 1));
        }
        growth.push(turns.added(COUNTS.len()) - turns.added(1));
        for gateway in gateways {
            gateway.stop().await;
        }
    }
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    let [few, some, many] = rounds.each_mut().map(middle);
    Ok(vec![
        Row::new("8, 100 and 1,000 deployments")
            .info("added p50 at 8", few, " ms")
            .info("at 100", some, " ms")
            .info("at 1,000", many, " ms")
            .at_most("1,000 over 8", middle(&mut growth), " ms", 0.02),
    ])
}

/// Deployments that answer at once.
fn instant(count: usize) -> Vec<UpstreamConfig> {
    let config = |config| UpstreamConfig { base_latency: Duration::ZERO, ..config };
    deployments(count).into_iter().map(config).collect()
}

/// A client of the first deployment itself.
fn direct_client(bench: &Bench) -> Arc<Client> {
    Arc::new(Client::new(bench.upstreams[0].addr()))
}

/// One request at a time, to each endpoint in turns, so that all meet the same state of the machine.
struct Turns {
    clients: Vec<Arc<Client>>,
    times: Vec<Vec<Duration>>,
    rng: Rng,
}

impl Turns {
    /// The first client is the direct one that the others are compared with.
    fn new(clients: Vec<Arc<Client>>, seed: u64) -> Self {
        Self { times: vec![Vec::new(); clients.len()], clients, rng: Rng::new(seed) }
    }

    /// Runs this many turns; before each request, a random pause of up to `pause` breaks the lock-step with timers.
    async fn run(&mut self, turns: usize, pause: Duration) -> io::Result<()> {
        let call = Call::unary();
        for _ in 0..turns {
            for (client, times) in self.clients.iter().zip(&mut self.times) {
                if !pause.is_zero() {
                    sleep(pause.mul_f64(self.rng.unit())).await;
                }
                let start = Instant::now();
                let status = client.exchange(&call).await?;
                if status != 200 {
                    return Err(io::Error::other(format!("a healthy request was answered {status}")));
                }
                times.push(start.elapsed());
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.times.iter_mut().for_each(Vec::clear);
    }

    /// The median of this endpoint in milliseconds.
    fn p50(&self, endpoint: usize) -> f64 {
        ms(median(self.times[endpoint].iter().copied()))
    }

    /// What this endpoint adds to the median of the direct one.
    fn added(&self, endpoint: usize) -> f64 {
        self.p50(endpoint) - self.p50(0)
    }
}
