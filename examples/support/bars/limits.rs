//! Deployments that answer 429, with a Retry-After or because of their capacity.

use std::time::Duration;

use tokio::time::Instant;

use super::report::Row;
use super::{
    Bench, Context, Rows, UpstreamConfig, attempts, backend, between, deployments, latency, ok_percent, until,
};
use crate::support::load::{Answer, Call, ms};

/// Healthy traffic before the limits strike.
const WARM: f64 = 1.0;

/// 2 of 3 answer 429 + retry-after 2.
///
/// The bar is held where the header is true: the quota is exhausted for the 2 s it announces. The second row is a quota that
/// stays exhausted whatever the header promised; every return then costs a new 429 per deployment.
pub(super) async fn two_of_three(context: &Context) -> Rows {
    let mut rows = Vec::new();
    for (title, heals) in [("2 of 3 answer 429 + retry-after 2 for 2 s", true), ("the same for good", false)] {
        let bench = Bench::start(context, deployments(3), &[]).await?;
        let answers = bench
            .load_with(Duration::from_secs(if heals { 4 } else { 8 }), &Call::unary(), async |start: Instant| {
                until(start, WARM).await;
                bench.each(0..2, |upstream| upstream.fault().status(429, Some(2)));
                if heals {
                    until(start, WARM + 2.0).await;
                    bench.each(0..2, |upstream| upstream.fault().clear());
                }
            })
            .await;
        let into_window: u64 = bench.upstreams.iter().map(|upstream| upstream.counters().in_retry_window()).sum();
        bench.stop().await;
        let tries = attempts(&answers);
        let row = Row::new(title).exactly("ok", ok_percent(&answers), " %", 100.0).exactly(
            "sent into the window per 100",
            100.0 * into_window as f64 / answers.len() as f64,
            "",
            0.0,
        );
        rows.push(if heals {
            row.at_most("attempts/request", tries, "", 1.01)
        } else {
            row.info("attempts/request", tries, "")
        });
    }
    Ok(rows)
}

/// All answer 429 + retry-after 1 for 3 s; callers that can wait, callers that cannot, and one with 5 s left.
pub(super) async fn all(context: &Context) -> Rows {
    const OVER: f64 = WARM + 3.0;
    /// When the caller with a deadline comes, and its deadline: enough for what is left of the fault.
    const ASKS: f64 = WARM + 0.5;
    const LEFT: Duration = Duration::from_secs(5);

    let patient = Call::unary();
    let hasty = Call { deadline: Some(Duration::from_millis(500)), ..Call::unary() };
    let mut rows = Vec::new();
    for (title, call) in [("callers without a deadline of their own", patient), ("callers with 500 ms", hasty)] {
        let bench = Bench::start(context, deployments(3), &[]).await?;
        let (mut before, mut after) = (0, 0);
        let mut waiting: Option<Answer> = None;
        let answers = bench
            .load_with(Duration::from_secs_f64(OVER + 5.0), &call, async |start: Instant| {
                until(start, WARM).await;
                before = bench.sent();
                bench.each(0..3, |upstream| upstream.fault().status(429, Some(1)));
                let caller = async {
                    until(start, ASKS).await;
                    waiting = Some(bench.client.call(&Call { deadline: Some(LEFT), ..Call::unary() }).await);
                };
                let end = async {
                    until(start, OVER).await;
                    after = bench.sent();
                    bench.each(0..3, |upstream| upstream.fault().clear());
                };
                tokio::join!(caller, end);
            })
            .await;
        bench.stop().await;
        let asked = between(&answers, WARM, OVER);
        let later = between(&answers, OVER, OVER + 5.0);
        let waited = waiting.as_ref();
        rows.push(
            Row::new(format!("all 429 + retry-after 1 for 3 s, {title}"))
                .at_most(
                    "sent per asked",
                    f64::from(u32::try_from(after - before).unwrap_or(u32::MAX)) / asked.len() as f64,
                    "",
                    0.08,
                )
                .exactly("ok in the next 5 s", ok_percent(&later), " %", 100.0)
                .exactly(
                    "caller with 5 s left succeeds",
                    waited.map_or(f64::NAN, |answer| f64::from(u8::from(answer.ok()))),
                    "",
                    1.0,
                )
                .at_most("after", ms(waited.map(|answer| answer.total)), " ms", 5_010.0)
                .info("ok of those asked meanwhile", ok_percent(&asked), " %"),
        );
    }
    Ok(rows)
}

/// Limits of 2, 4 and 16 concurrent requests at 55 % of the capacity, known to the gateway.
pub(super) async fn known(context: &Context) -> Rows {
    let (answers, refused) = capacity(context, true).await?;
    Ok(vec![
        Row::new("limits 2/4/16 at 55 %, known")
            .exactly("ok", ok_percent(&answers), " %", 100.0)
            .exactly("429s", refused, "", 0.0)
            .at_most("attempts/request", attempts(&answers), "", 1.0)
            .at_most("p99", latency(&answers, 0.99), " ms", 105.0)
            .later(),
    ])
}

/// The same limits, unknown to the gateway: it can only learn them from 429s.
pub(super) async fn unknown(context: &Context) -> Rows {
    let (answers, refused) = capacity(context, false).await?;
    Ok(vec![
        Row::new("limits 2/4/16 at 55 %, unknown")
            .at_least("ok", ok_percent(&answers), " %", 99.0)
            .at_most("429s per 100", 100.0 * refused / answers.len() as f64, "", 5.0)
            .info("attempts/request", attempts(&answers), "")
            .info("p99", latency(&answers, 0.99), " ms")
            .later(),
    ])
}

/// The load on three deployments with hard limits, and the 429s that it caused.
async fn capacity(context: &Context, tell: bool) -> std::io::Result<(Vec<Answer>, f64)> {
    const LIMITS: [usize; 3] = [2, 4, 16];
    const SERVICE: Duration = Duration::from_millis(100);
    let mut upstreams = Vec::new();
    for (config, limit) in deployments(3).into_iter().zip(LIMITS) {
        let config = UpstreamConfig { base_latency: SERVICE, hard_limit: Some(limit), ..config };
        upstreams.push(context.upstream(config).await?);
    }
    let backends: Vec<String> = upstreams
        .iter()
        .zip(LIMITS)
        .map(|(upstream, limit)| {
            let limit = if tell { format!(",concurrency={limit}") } else { String::new() };
            backend(upstream, upstream.id()) + &limit
        })
        .collect();
    let bench = Bench::with_backends(context, upstreams, &backends, &[]).await?;
    let rps = 0.55 * LIMITS.iter().sum::<usize>() as f64 / SERVICE.as_secs_f64();
    let answers = bench.load_at(rps, Duration::from_secs(8), &Call::unary(), async |_| {}).await;
    let refused: u64 = bench.upstreams.iter().map(|upstream| upstream.counters().answered(429)).sum();
    bench.stop().await;
    Ok((answers, refused as f64))
}
