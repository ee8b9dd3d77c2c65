//! Three tenants share two servers, and one of them floods: who gets what, without bulkheads and with them.
//!
//! `cargo run --example capacity_tenants`
//!
//! Each server works on one prompt at a time, for 10 ms, and on up to 64 answers at once, for 100 ms each. `search` and `chat`
//! ask 20 times a second; `batch` sends 300 requests at once, every two seconds. Whoever is answered within 400 ms was served
//! well. The queue of the router takes turns among tenants in both runs; what shares add is that a burst does not fill the
//! servers before the others come. Exits with 1 where they do not keep that promise.

use fallway::adapt::tokio::TokioTimer;
use fallway::backend::{Attempt, Backend, BackendError};
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::router::Builder;
use fallway::{CallOptions, Facts, Profile, Router};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

const LENGTH: Duration = Duration::from_secs(6);
const PREFILL: Duration = Duration::from_millis(10);
const DECODE: Duration = Duration::from_millis(100);
const GOOD: Duration = Duration::from_millis(400);
const ROOM: u32 = 64;
/// Who asks how often, and how many at once.
const TENANTS: [(&str, Duration, usize); 3] = [
    ("search", Duration::from_millis(50), 1),
    ("chat", Duration::from_millis(50), 1),
    ("batch", Duration::from_secs(2), 300),
];

/// A server that works on one prompt after the other.
#[derive(Default)]
struct Model(Mutex<()>);

#[async_trait::async_trait]
impl Backend<str> for Model {
    type Response = ();

    async fn call(&self, _: &str, _: &Attempt) -> Result<(), BackendError> {
        let prompt = self.0.lock().await;
        sleep(PREFILL).await;
        drop(prompt);
        sleep(DECODE).await;
        Ok(())
    }
}

fn router(bulkheads: Option<Bulkheads>) -> Result<Router<str, ()>, Box<dyn Error>> {
    let mut builder = Router::builder(predicted_ttft().fail_safe(FailSafe::default())).timer(TokioTimer::default());
    for id in ["a", "b"] {
        builder = builder.backend(Profile::new(id).concurrency(ROOM), Model::default());
    }
    Ok(bulkheads.into_iter().fold(builder, Builder::tenant_bulkheads).build()?)
}

/// Half of the room is kept for those who wait for their answer; whoever is not named has an eighth at most.
fn shares() -> Bulkheads {
    let interactive = Share::at_least(ROOM / 2).lends(ROOM / 4);
    Bulkheads::of(2 * ROOM, Share::at_most(ROOM / 4)).share("search", interactive).share("chat", interactive)
}

/// The times of all answers of each tenant, in order.
async fn play(router: Router<str, ()>) -> Vec<Vec<Duration>> {
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for (number, (tenant, every, at_once)) in TENANTS.into_iter().enumerate() {
        let times = (0..).map(|n| start + every * n).take_while(|at| *at < start + LENGTH);
        for at in times.flat_map(|at| std::iter::repeat_n(at, at_once)) {
            let router = router.clone();
            calls.spawn(async move {
                sleep_until(at).await;
                let facts = Facts::any().tenant(tenant).prompt_tokens(1_000);
                let answered = router.call("", CallOptions::within(Duration::from_secs(20)).facts(facts)).await;
                (number, answered.map_or(Duration::MAX, |_| at.elapsed()))
            });
        }
    }
    let mut times = vec![Vec::new(); TENANTS.len()];
    while let Some(Ok((number, time))) = calls.join_next().await {
        times[number].push(time);
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    times
}

/// Prints what each tenant got, and returns the least share that was served well, of those that do not flood.
fn report(name: &str, times: &[Vec<Duration>]) -> f64 {
    println!("{name}\n  {:8} {:>8} {:>9} {:>9} {:>9}", "tenant", "requests", "in time", "p50 ms", "p99 ms");
    let mut least = 1.0f64;
    for ((tenant, _, at_once), times) in TENANTS.iter().zip(times) {
        let good = times.iter().filter(|time| **time <= GOOD).count() as f64 / times.len() as f64;
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_millis();
        println!("  {tenant:8} {:>8} {:>7.1} % {:>9} {:>9}", times.len(), good * 100.0, at(50), at(99));
        least = if *at_once == 1 { least.min(good) } else { least };
    }
    println!();
    least
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    report("without bulkheads", &play(router(None)?).await);
    let kept = report("with bulkheads", &play(router(Some(shares()))?).await) >= 0.99;
    println!("{}", if kept { "Nobody noticed the flood." } else { "The flood was noticed: the promise is broken." });
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
