//! Deployments, regions and everything that is down or answers 503, and comes back.

use std::time::Duration;

use tokio::time::Instant;

use super::report::Row;
use super::{
    Bench, Context, Rows, UpstreamConfig, attempts, between, deployments, latency, lost, misattributed, name,
    ok_percent, until,
};
use crate::support::load::{Answer, Call, ms};

/// Healthy traffic before a fault that strikes a warm gateway.
const WARM: f64 = 1.0;
/// Length of a fault that lasts to the end of the run.
const FAULT: f64 = 8.0;
/// Answers over which the share of a returned region is taken.
const SHARE_WINDOW: usize = 20;

/// 1 of 3 refuses connections.
pub(super) async fn refused(context: &Context) -> Rows {
    let cold = one_of_three(context, "1 of 3 refused, from the start", 0.0, 1.03, Fault::Refuse).await?;
    let warm = one_of_three(context, "1 of 3 refused, under traffic", WARM, 1.03, Fault::Refuse).await?;
    Ok(vec![cold, warm])
}

/// 1 of 3 answers 503.
pub(super) async fn unavailable(context: &Context) -> Rows {
    let cold = one_of_three(context, "1 of 3 answers 503, from the start", 0.0, 1.02, Fault::Unavailable).await?;
    let warm = one_of_three(context, "1 of 3 answers 503, under traffic", WARM, 1.02, Fault::Unavailable).await?;
    Ok(vec![cold, warm])
}

/// How a deployment fails.
#[derive(Clone, Copy)]
enum Fault {
    Refuse,
    Unavailable,
}

impl Fault {
    async fn strike(self, bench: &Bench, upstream: usize) {
        match self {
            Self::Refuse => bench.upstreams[upstream].go_down().await,
            Self::Unavailable => bench.upstreams[upstream].fault().status(503, None),
        }
    }
}

async fn one_of_three(
    context: &Context,
    title: &str,
    warm: f64,
    max_attempts: f64,
    fault: Fault,
) -> std::io::Result<Row> {
    let bench = Bench::start(context, deployments(3), &[]).await?;
    if warm == 0.0 {
        fault.strike(&bench, 0).await;
    }
    let length = Duration::from_secs_f64(warm + FAULT);
    let answers = bench
        .load_with(length, &Call::unary(), async |start: Instant| {
            if warm > 0.0 {
                until(start, warm).await;
                fault.strike(&bench, 0).await;
            }
        })
        .await;
    bench.stop().await;
    let during = between(&answers, warm, warm + FAULT);
    Ok(Row::new(title)
        .exactly("ok", ok_percent(&answers), " %", 100.0)
        .at_most("attempts/request", attempts(&during), "", max_attempts)
        .at_most("p99", latency(&during, 0.99), " ms", 25.0)
        .exactly("misattributed", misattributed(&answers), "", 0.0))
}

/// A region, 3 of 6, is gone for 5 s and returns.
pub(super) async fn region(context: &Context) -> Rows {
    const GONE: f64 = 5.0;
    const BACK: f64 = 10.0;
    const END: f64 = 20.0;
    let configs = deployments(6).into_iter().enumerate().map(|(n, config)| {
        let region = if n < 3 { "eu" } else { "us" };
        UpstreamConfig { region: region.into(), ..config }
    });
    let bench = Bench::start(context, configs.collect(), &[]).await?;
    let mut returned = Ok(());
    let answers = bench
        .load_with(Duration::from_secs_f64(END), &Call::unary(), async |start: Instant| {
            until(start, GONE).await;
            for upstream in &bench.upstreams[..3] {
                upstream.go_down().await;
            }
            until(start, BACK).await;
            for upstream in &bench.upstreams[..3] {
                let back = upstream.come_back().await;
                returned = std::mem::replace(&mut returned, Ok(())).and(back);
            }
        })
        .await;
    bench.stop().await;
    returned?;

    let down = between(&answers, GONE, BACK);
    let after = between(&answers, BACK, END);
    let local = |answer: &Answer| answer.ok() && (0..3).any(|n| answer.backend.as_deref() == Some(&name(n)));
    let first = after.iter().filter(|answer| local(answer)).map(Answer::finished_at).min();
    let mut order: Vec<&Answer> = after.iter().collect();
    order.sort_by_key(|answer| answer.finished_at());
    let share = order.windows(SHARE_WINDOW).find_map(|window| {
        let returned = window.iter().filter(|answer| local(answer)).count();
        (returned * 4 >= SHARE_WINDOW).then(|| window[SHARE_WINDOW - 1].finished_at())
    });
    let since = |at: Option<Duration>| ms(at) / 1_000.0 - BACK;
    Ok(vec![
        Row::new("region (3 of 6) gone for 5 s of 20 s")
            .exactly("lost", lost(&answers), "", 0.0)
            .info("of", answers.len() as f64, "")
            .at_most("attempts/request while down", attempts(&down), "", 1.10)
            .at_most("p99 while down", latency(&down, 0.99), " ms", 25.0),
        Row::new("region back")
            .at_most("first success", since(first), " s", 0.5)
            .at_most("25 % share", since(share), " s", 1.0)
            .exactly("lost", lost(&after), "", 0.0),
    ])
}

/// Everything answers 503 for 3 s, then all is well.
pub(super) async fn recovery(context: &Context) -> Rows {
    const HEALED: f64 = WARM + 3.0;
    let bench = Bench::start(context, deployments(3), &[]).await?;
    let answers = bench
        .load_with(Duration::from_secs_f64(HEALED + 4.0), &Call::unary(), async |start: Instant| {
            until(start, WARM).await;
            bench.each(0..3, |upstream| upstream.fault().status(503, None));
            until(start, HEALED).await;
            bench.each(0..3, |upstream| upstream.fault().clear());
        })
        .await;
    bench.stop().await;
    let healed = Duration::from_secs_f64(HEALED);
    let first = answers.iter().filter(|answer| answer.ok()).map(Answer::finished_at).filter(|at| *at >= healed).min();
    let settled = between(&answers, HEALED + 1.0, HEALED + 4.0);
    Ok(vec![
        Row::new("everything 503 for 3 s")
            .at_most("first success after", ms(first) / 1_000.0 - HEALED, " s", 0.5)
            .exactly("ok from 1 s after on", ok_percent(&settled), " %", 100.0),
    ])
}

/// Everything answers 503 and stays so: what one request costs, and what many cost.
pub(super) async fn everything(context: &Context) -> Rows {
    let bench = Bench::start(context, deployments(3), &[]).await?;
    bench.each(0..3, |upstream| upstream.fault().status(503, None));
    let first = [bench.client.call(&Call::unary()).await];
    let first_attempts = bench.sent();
    let answers = bench.load(Duration::from_secs(10), &Call::unary()).await;
    let sent = bench.sent() - first_attempts;
    bench.stop().await;
    let most = answers.iter().chain(&first).map(|answer| answer.attempts).max().flatten();
    let typed = first.iter().chain(&answers).all(|answer| answer.status.is_some_and(|status| status >= 500));
    Ok(vec![
        Row::new("everything 503, one request").at_most("attempts", first_attempts as f64, "", 3.0).at_most(
            "time to its error",
            latency(&first, 1.0),
            " ms",
            5.0,
        ),
        Row::new("everything 503, 500 requests")
            .at_most("amplification", sent as f64 / answers.len() as f64, "", 0.10)
            .at_most("most attempts of one", most.map_or(f64::NAN, f64::from), "", 3.0)
            .at_most("p50 to the error", latency(&answers, 0.5), " ms", 1.0)
            .info("p99 to the error", latency(&answers, 0.99), " ms")
            .exactly("all answered 5xx", f64::from(u8::from(typed)), "", 1.0),
    ])
}

/// One deployment per group and a fallback group, the primary down for good.
pub(super) async fn single_primary(context: &Context) -> Rows {
    /// Requests that may still pay for finding out.
    const FIRST: usize = 20;
    let mut rows = Vec::new();
    for (title, fault) in [("503", Fault::Unavailable), ("refused", Fault::Refuse)] {
        let mut configs = deployments(2);
        configs[1].model = "m2".into();
        let bench = Bench::start(context, configs, &["--fallback-model", "m2"]).await?;
        fault.strike(&bench, 0).await;
        let answers = bench.load(Duration::from_secs_f64(FAULT), &Call::unary()).await;
        bench.stop().await;
        let later = &answers[FIRST.min(answers.len())..];
        rows.push(
            Row::new(format!("one primary, one fallback group, primary {title}"))
                .exactly("ok", ok_percent(&answers), " %", 100.0)
                .at_most("p50 after the first 20", latency(later, 0.5), " ms", 25.0)
                .at_most("attempts/request after them", attempts(later), "", 1.10),
        );
    }
    Ok(rows)
}
