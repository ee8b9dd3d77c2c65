//! Deployments that are slow or hang, callers with deadlines, and callers that hang up.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::report::Row;
use super::{Bench, Context, Rows, UpstreamConfig, deployments, latency, name, ok_percent, until};
use crate::support::load::{Answer, Call};
use crate::support::upstream::Hang;

/// A caller that has 2 s, and the most it may wait.
const DEADLINE: Duration = Duration::from_secs(2);
const DEADLINE_BAR_MS: f64 = 2_010.0;

/// 3 healthy deployments and one that is ten times slower.
pub(super) async fn gray(context: &Context) -> Rows {
    let bench = Bench::start(context, deployments(4), &[]).await?;
    bench.each(3..4, |upstream| upstream.fault().slow(10.0));
    let answers = bench.load(Duration::from_secs(12), &Call::unary()).await;
    let total = bench.sent() as f64;
    let share = |n: usize| 100.0 * bench.upstreams[n].counters().requests() as f64 / total;
    let (gray, healthy) = (share(3), [share(0), share(1), share(2)]);
    bench.stop().await;
    let of_healthy = healthy.map(|share| 100.0 * share / (100.0 - gray));
    Ok(vec![
        Row::new("3 healthy, 1 at 10×")
            .exactly("ok", ok_percent(&answers), " %", 100.0)
            .at_most("share of the gray one", gray, " %", 3.0)
            .at_least("least healthy share", of_healthy.into_iter().fold(f64::INFINITY, f64::min), " %", 25.0)
            .at_most("largest healthy share", of_healthy.into_iter().fold(0.0, f64::max), " %", 42.0)
            .at_most("p95", latency(&answers, 0.95), " ms", 25.0),
    ])
}

/// 1 of 3 hangs, an attempt may take 1 s.
pub(super) async fn hang(context: &Context) -> Rows {
    let bench = Bench::start(context, deployments(3), &["--attempt-timeout-ms", "1000"]).await?;
    bench.each(0..1, |upstream| upstream.fault().hang(Hang::BeforeHeaders));
    let answers = bench.load(Duration::from_secs(4), &Call::unary()).await;
    let hung = bench.upstreams[0].counters().requests();
    bench.stop().await;
    Ok(vec![
        Row::new("1 of 3 hangs, attempt limit 1 s")
            .exactly("ok", ok_percent(&answers), " %", 100.0)
            .at_most("p95", latency(&answers, 0.95), " ms", 25.0)
            .at_most("p99", latency(&answers, 0.99), " ms", 1_010.0)
            .at_most("hung attempts", hung as f64, "", 3.0)
            .info("of", answers.len() as f64, ""),
    ])
}

/// A deadline of 2 s, every deployment hangs.
pub(super) async fn deadline_all_hang(context: &Context) -> Rows {
    let call = Call { deadline: Some(DEADLINE), ..Call::unary() };
    let bench = Bench::start(context, deployments(3), &[]).await?;
    bench.each(0..3, |upstream| upstream.fault().hang(Hang::BeforeHeaders));
    let first = [bench.client.call(&call).await];
    let tried = bench.upstreams.iter().filter(|upstream| upstream.counters().requests() > 0).count();
    let answers = bench.load(Duration::from_secs(2), &call).await;
    bench.stop().await;
    let typed = first.iter().chain(&answers).all(|answer| answer.status.is_some_and(|status| status >= 500));
    Ok(vec![
        Row::new("deadline 2 s, all hang")
            .at_most("answered after", latency(&first, 1.0), " ms", DEADLINE_BAR_MS)
            .at_least("backends tried", tried as f64, "", 2.0)
            .at_most("longest of 100 more", latency(&answers, 1.0), " ms", DEADLINE_BAR_MS)
            .exactly("all answered 5xx", f64::from(u8::from(typed)), "", 1.0),
    ])
}

/// A deadline of 2 s, 1 of 3 hangs.
pub(super) async fn deadline_one_hangs(context: &Context) -> Rows {
    let call = Call { deadline: Some(DEADLINE), ..Call::unary() };
    let bench = Bench::start(context, deployments(3), &[]).await?;
    bench.each(0..1, |upstream| upstream.fault().hang(Hang::BeforeHeaders));
    let answers = bench.load(Duration::from_secs(4), &call).await;
    bench.stop().await;
    Ok(vec![
        Row::new("deadline 2 s, 1 of 3 hangs")
            .exactly("ok", ok_percent(&answers), " %", 100.0)
            .at_most("max", latency(&answers, 1.0), " ms", DEADLINE_BAR_MS)
            .info("p95", latency(&answers, 0.95), " ms"),
    ])
}

/// A client that goes away cancels the call to the deployment.
pub(super) async fn disconnect(context: &Context) -> Rows {
    /// Callers that hang up, each after this long.
    const CALLERS: u64 = 10;
    const PATIENCE: Duration = Duration::from_millis(300);
    /// Time for the news to travel through the gateway.
    const GRACE: Duration = Duration::from_millis(100);
    let slow = UpstreamConfig { base_latency: Duration::from_secs(5), ..UpstreamConfig::default() };
    let streaming = UpstreamConfig { decode_tokens_per_s: 100.0, ..UpstreamConfig::default() };
    let stream = Call { tokens: 1_000, ..Call::stream() };

    let mut rows = Vec::new();
    for (title, config, call) in [("unary answer", slow, Call::unary()), ("stream", streaming, stream)] {
        let configs = (0..3).map(|n| UpstreamConfig { id: name(n), ..config.clone() }).collect();
        let bench = Bench::start(context, configs, &["--attempt-timeout-ms", "20000"]).await?;
        let call = Call { patience: PATIENCE, ..call };
        let length = Duration::from_secs_f64(CALLERS as f64 / context.rps);
        let mut left = f64::NAN;
        let _answers: Vec<Answer> = bench
            .load_with(length, &call, async |start: Instant| {
                until(start, (length + PATIENCE).as_secs_f64()).await;
                sleep(GRACE).await;
                left = bench.upstreams.iter().map(|upstream| upstream.counters().in_flight() as f64).sum();
            })
            .await;
        let cancelled: u64 = bench.upstreams.iter().map(|upstream| upstream.counters().cancelled()).sum();
        let sent = bench.sent();
        bench.stop().await;
        rows.push(
            Row::new(format!("client hangs up, {title}"))
                .exactly("upstream calls", sent as f64, "", CALLERS as f64)
                .exactly("cancelled within 100 ms", cancelled as f64, "", CALLERS as f64)
                .exactly("left in flight", left, "", 0.0),
        );
    }
    Ok(rows)
}
