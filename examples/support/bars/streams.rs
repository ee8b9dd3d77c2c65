//! Streams that break, lie about their end, stall, or never start.

use std::time::Duration;

use tokio::time::sleep;

use super::report::Row;
use super::{Bench, Context, Rows, UpstreamConfig, attempts, deployments, latency, ok_percent};
use crate::support::load::{Answer, Call, End, ms, percentile};
use crate::support::upstream::Faults;

/// Tokens after which a stream of 20 goes wrong.
const AFTER: usize = 10;
/// Requests to a fleet whose every stream goes wrong: fewer than make a breaker open.
const ALL_FAIL: usize = 3;
/// Length of the load on a fleet with one bad deployment of three.
const LOAD: Duration = Duration::from_secs(2);
/// Idle gap between tokens that the gateway is told to allow.
const STALL_LIMIT: &str = "500";
const STALL_LIMIT_MS: f64 = 500.0;
/// Time for an abandoned upstream call to be noticed by its deployment.
const GRACE: Duration = Duration::from_millis(100);

/// Streams break in the middle of an event after 10 of 20 tokens.
pub(super) async fn breaks(context: &Context) -> Rows {
    typed_errors(context, "stream breaks after 10 of 20 tokens", |faults| faults.cut_after(AFTER)).await
}

/// Streams end cleanly after 10 of 20 tokens, without `[DONE]`.
pub(super) async fn ends_silently(context: &Context) -> Rows {
    typed_errors(context, "stream ends without [DONE] after 10 of 20", |faults| faults.close_after(AFTER)).await
}

/// An error event comes inside the stream after 10 of 20 tokens.
pub(super) async fn error_event(context: &Context) -> Rows {
    typed_errors(context, "error event inside the stream", |faults| faults.error_event_after(AFTER)).await
}

/// Streams stall after 10 of 20 tokens.
pub(super) async fn stalls(context: &Context) -> Rows {
    let bench = start(context).await?;
    bench.each(0..3, |upstream| upstream.fault().stall_after(AFTER));
    let call = Call { patience: Duration::from_secs(5), ..Call::stream() };
    let mut answers = Vec::new();
    for _ in 0..ALL_FAIL {
        answers.push(bench.client.call(&call).await);
    }
    sleep(GRACE).await;
    let left: u64 = bench.upstreams.iter().map(|upstream| upstream.counters().in_flight()).sum();
    bench.stop().await;
    let gaps = answers.iter().filter_map(|answer| Some(answer.total - answer.last_token?));
    let gap = if answers.iter().all(|answer| answer.last_token.is_some()) { percentile(gaps, 1.0) } else { None };
    Ok(vec![
        Row::new("stream stalls after 10 tokens, limit 500 ms")
            .at_most("longest silence", ms(gap), " ms", STALL_LIMIT_MS + 50.0)
            .exactly("typed errors", typed(&answers), "", ALL_FAIL as f64)
            .exactly("left in flight", left as f64, "", 0.0),
    ])
}

/// 1 of 3 answers 503 before any stream starts.
pub(super) async fn unavailable_at_start(context: &Context) -> Rows {
    const STREAMS: f64 = 36.0;
    let bench = start(context).await?;
    bench.each(0..1, |upstream| upstream.fault().status(503, None));
    let answers = bench.load(Duration::from_secs_f64(STREAMS / context.rps), &Call::stream()).await;
    bench.stop().await;
    let ok = answers.iter().filter(|answer| answer.ok()).count();
    Ok(vec![
        Row::new("503 at stream start, 1 of 3")
            .exactly("ok of 36", ok as f64, "", STREAMS)
            .info("attempts/request", attempts(&answers), "")
            .info("p99", latency(&answers, 0.99), " ms"),
    ])
}

/// What callers see of a fault in the middle of their streams: first on all deployments, then on one of three.
async fn typed_errors(context: &Context, title: &str, fault: impl Fn(&Faults)) -> Rows {
    let bench = start(context).await?;
    bench.each(0..3, |upstream| fault(upstream.fault()));
    let mut answers = Vec::new();
    for _ in 0..ALL_FAIL {
        answers.push(bench.client.call(&Call::stream()).await);
    }
    bench.stop().await;
    let all = Row::new(format!("{title}, all 3"))
        .exactly("typed errors", typed(&answers), "", ALL_FAIL as f64)
        .exactly("silent ends", count(&answers, &End::Silent), "", 0.0)
        .exactly("bare cuts", count(&answers, &End::Cut), "", 0.0)
        .exactly("half events passed on", count(&answers, &End::Malformed), "", 0.0);

    let bench = start(context).await?;
    bench.each(0..1, |upstream| fault(upstream.fault()));
    let answers = bench.load(LOAD, &Call::stream()).await;
    let broken = bench.upstreams[0].counters().answered(200);
    bench.stop().await;
    let one = Row::new(format!("{title}, 1 of 3"))
        .exactly("broken streams without a typed error", broken as f64 - typed(&answers), "", 0.0)
        .exactly("silent ends", count(&answers, &End::Silent), "", 0.0)
        .info("broken", broken as f64, "")
        .info("ok", ok_percent(&answers), " %");
    Ok(vec![all, one])
}

/// Three deployments that send a token per millisecond.
async fn start(context: &Context) -> std::io::Result<Bench> {
    let configs = deployments(3).into_iter().map(|config| UpstreamConfig { decode_tokens_per_s: 1_000.0, ..config });
    Bench::start(context, configs.collect(), &["--stall-timeout-ms", STALL_LIMIT]).await
}

/// Answers that end with a typed error that says truly how much was delivered. An error event of the deployment that is
/// merely passed through does not.
fn typed(answers: &[Answer]) -> f64 {
    let typed = |answer: &&Answer| match &answer.end {
        End::ErrorEvent { kind, delivered } => !kind.is_empty() && *delivered == Some(answer.tokens as u64),
        _ => false,
    };
    answers.iter().filter(typed).count() as f64
}

/// Answers with this end.
fn count(answers: &[Answer], end: &End) -> f64 {
    answers.iter().filter(|answer| answer.end == *end).count() as f64
}
