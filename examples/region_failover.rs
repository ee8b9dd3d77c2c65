//! A region dies and comes back: six real HTTP servers in three regions, and a picture of where the traffic goes.
//!
//! `cargo run --release --example region_failover`
//!
//! Fifteen seconds, sixty requests a second. The first region is killed after three seconds and listens again after
//! six: the traffic is elsewhere with the next request, the region is held for a moment when it is back, and its share
//! grows slowly. Production would hold it longer; the defaults are half a minute and a minute. The picture is printed,
//! and drawn into `target/region_failover.svg`.

use fallway::adapt::tokio::TokioTimer;
use fallway::backend::{Attempt, Backend, BackendError, FailureKind};
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, Regions, predicted_ttft};
use fallway::{CallOptions, Facts, Profile, Router};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use support::load::{Arrivals, Call, Client};
use support::svg::{Chart, Series, Span};
use support::upstream::{Upstream, UpstreamConfig};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

#[path = "support/mod.rs"]
mod support;

const REGIONS: [(&str, u64, &str); 3] =
    [("eu-west", 10, "#1d4ed8"), ("eu-north", 30, "#15803d"), ("us-east", 90, "#c2410c")];
const LENGTH: Duration = Duration::from_secs(15);
const OUTAGE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(6));
/// One row of the picture.
const ROW: Duration = Duration::from_millis(500);

/// One server behind a client that keeps its connections.
struct Remote(Client);

#[async_trait::async_trait]
impl Backend<Call> for Remote {
    type Response = ();

    async fn call(&self, call: &Call, _attempt: &Attempt) -> Result<(), BackendError> {
        match self.0.exchange(call).await {
            Ok(200) => Ok(()),
            Ok(status) => Err(BackendError::from_http(status, |_| None, "", SystemTime::now())),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(BackendError::new(FailureKind::Unreachable))
            }
            Err(_) => Err(BackendError::new(FailureKind::Truncated)),
        }
    }
}

/// Says when a region goes and comes.
#[derive(Debug)]
struct News(Instant, Mutex<Vec<String>>);

impl Observer for News {
    fn on_event(&self, event: &Event<'_>, _: fallway::time::Instant) {
        if let Event::Region { region, health, from, to, .. } = event {
            let seconds = self.0.elapsed().as_secs_f64();
            let (from, to, health) = (from.label(), to.label(), *health / 10);
            let line = format!("{seconds:5.1} s  {region}: {from} -> {to}, {health} % healthy");
            self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let regions = Regions::new("eu-west").then("eu-north").then("us-east");
    let regions = regions.hold(Duration::from_secs(2), Duration::from_secs(20)).ramp(Duration::from_secs(4));
    let policy = predicted_ttft().region_failover(regions).fail_safe(FailSafe::default());

    let news = Arc::new(News(Instant::now(), Mutex::default()));
    let mut builder = Router::builder(policy).timer(TokioTimer::default()).observer(news.clone());
    let mut servers = Vec::new();
    for (region, millis, _) in REGIONS {
        for number in 1..=2 {
            let (id, base_latency) = (format!("{region}-{number}"), Duration::from_millis(millis));
            let config = UpstreamConfig { id: id.clone(), region: region.into(), base_latency, ..Default::default() };
            let server = Upstream::start(config).await?;
            let profile = Profile::new(id).model("m").region(region).concurrency(32);
            builder = builder.backend(profile, Remote(Client::new(server.addr())));
            servers.push(server);
        }
    }
    let router = builder.build()?;

    let start = Instant::now();
    let mut calls = JoinSet::new();
    let outage = outage(&servers, start);
    let traffic = async {
        for at in (Arrivals { rps: 60.0, length: LENGTH, seed: 1 }).times() {
            sleep_until(start + at).await;
            let router = router.clone();
            calls.spawn(async move {
                let options = CallOptions::within(Duration::from_secs(5)).facts(Facts::model("m").replay_safe());
                let reply = router.call(&Call::unary(), options).await;
                let region = reply.as_ref().ok().and_then(|reply| {
                    let region = reply.decision().chosen()?.profile().region_name()?;
                    REGIONS.iter().position(|(name, ..)| *name == region)
                });
                (at, region, reply.map_or(0, |reply| reply.attempts().len()))
            });
        }
    };
    let (outage, ()) = tokio::join!(outage, traffic);
    outage?;
    let answers = calls.join_all().await;

    let shares = shares(&answers);
    print(&shares);
    for line in news.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
        println!("{line}");
    }
    let lost = answers.iter().filter(|(_, region, _)| region.is_none()).count();
    let attempts: usize = answers.iter().map(|(_, _, attempts)| attempts).sum();
    println!("{} requests, {lost} lost, {:.3} attempts each", answers.len(), attempts as f64 / answers.len() as f64);
    println!("\nNow:\n{}", router.explain(&CallOptions::new(Facts::model("m"))));
    std::fs::create_dir_all("target")?;
    std::fs::write("target/region_failover.svg", draw(&shares, answers.len(), lost))?;
    println!("\nDrawn into target/region_failover.svg");
    Ok(())
}

async fn outage(servers: &[Upstream], start: Instant) -> std::io::Result<()> {
    let first = || servers.iter().filter(|server| server.region() == REGIONS[0].0);
    sleep_until(start + OUTAGE.0).await;
    for server in first() {
        server.go_down().await;
    }
    sleep_until(start + OUTAGE.1).await;
    for server in first() {
        server.come_back().await?;
    }
    Ok(())
}

/// Of each row of the picture, what share of its requests each region served.
fn shares(answers: &[(Duration, Option<usize>, usize)]) -> Vec<[f64; 3]> {
    let rows = (LENGTH.as_millis() / ROW.as_millis()) as usize;
    let mut counts = vec![([0.0; 3], 0.0); rows];
    for (at, region, _) in answers {
        let row = ((at.as_millis() / ROW.as_millis()) as usize).min(rows - 1);
        counts[row].1 += 1.0;
        if let Some(region) = region {
            counts[row].0[*region] += 1.0;
        }
    }
    counts.into_iter().map(|(served, all)| served.map(|served| served / f64::max(all, 1.0))).collect()
}

fn print(shares: &[[f64; 3]]) {
    println!("  time  {:24}{:24}{:24}", REGIONS[0].0, REGIONS[1].0, REGIONS[2].0);
    for (row, shares) in (0u32..).zip(shares) {
        let time = (ROW * row).as_secs_f64();
        let bars = shares.map(|share| format!("{:24}", "█".repeat((share * 20.0).round() as usize)));
        let mark = if (OUTAGE.0..OUTAGE.1).contains(&(ROW * row)) { "!" } else { " " };
        println!("{mark}{time:5.1}  {}", bars.concat().trim_end());
    }
    println!();
}

fn draw(shares: &[[f64; 3]], requests: usize, lost: usize) -> String {
    let points: Vec<Vec<_>> = (0..3)
        .map(|region| {
            let middle = |row: u32| (ROW * row + ROW / 2).as_secs_f64();
            (0u32..).zip(shares).map(|(row, shares)| (middle(row), Some(shares[region]))).collect()
        })
        .collect();
    let series: Vec<_> = REGIONS
        .iter()
        .zip(&points)
        .map(|((name, _, colour), points)| Series { name, colour, dashed: *name != "eu-west", points })
        .collect();
    Chart {
        title: "A region dies and comes back",
        subtitle: &format!("{requests} requests, {lost} lost; hold 2 s, ramp 4 s"),
        x_label: "seconds",
        y_label: "share of the traffic",
        x_end: LENGTH.as_secs_f64(),
        spans: &[Span {
            start: OUTAGE.0.as_secs_f64(),
            end: OUTAGE.1.as_secs_f64(),
            label: vec!["eu-west down".to_owned()],
        }],
        series: &series,
    }
    .render()
}
