//! A bad version of a model behind an alias takes itself back: real HTTP, one registry, one router.
//!
//! `cargo run --release --example model_rollback`
//!
//! Three servers on loopback. Two run version 3 of a model; the third runs version 4, which fails 20 % of its requests. The
//! registry gives version 4 a tenth of the alias `chat`. The router reads the registry, its `Rollouts` watch what became of
//! every attempt, and once a second the host lets them act. Callers see none of the failures, for version 3 stands in.
//! Exits with 0 when version 4 was rolled back by itself within fifteen seconds, got no request after that, and no caller
//! was left without an answer; with 1 else.

use fallway::adapt::tokio::TokioTimer;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::registry::{
    Alias, Catalog, ModelVersion, Place, Placement, Publication, Registry, RolledBack, Rollouts, State,
};
use fallway::router::Update;
use fallway::time::Clock;
use fallway::{CallOptions, Profile, Router};
use hyper::HeaderMap;
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use support::openai::{ChatAnswer, ChatRequest, Connections, OpenAi};
use support::upstream::{Upstream, UpstreamConfig};
use tokio::time::interval;

#[path = "support/mod.rs"]
mod support;

/// The version that is tried, its share in basis points, and the share of its requests that it fails.
const NEW: &str = "big@4";
const SHARE: u32 = 1_000;
const FAILS: f64 = 0.2;
/// Between two requests: a hundred a second.
const GAP: Duration = Duration::from_millis(10);
/// Seconds until it must have happened, and for which nothing more may go to the new version then.
const LIMIT: u64 = 15;
const AFTER: u64 = 3;

type Chat = Router<ChatRequest, ChatAnswer>;

/// What callers got.
#[derive(Default)]
struct Callers {
    answered: AtomicU64,
    refused: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let servers = servers().await?;
    let registry = Arc::new(Registry::builder().open(SystemTime::now()));
    registry.publish(&Publication::from(catalog()), SystemTime::now())?;
    let rollouts = Arc::new(Rollouts::new(registry.clone()));

    // What is behind the endpoints only the host knows.
    let mut connections = Connections::default();
    let mut clients = BTreeMap::new();
    for server in &servers {
        clients.insert(server.id().to_owned(), Arc::new(OpenAi::new(&server.url(), &mut connections)?));
    }
    let follow = |fleet: &mut Update<ChatRequest, ChatAnswer>| {
        fleet.sync(&registry.view(), |place: &Place, profile: Profile| {
            Some((profile.concurrency(64), clients.get(place.placement().endpoint())?.clone()))
        });
    };
    let router = Router::builder(predicted_ttft().fail_safe(FailSafe::default()))
        .timer(TokioTimer::default())
        .registry(registry.clone())
        .observer(rollouts.clone())
        .fleet(follow)
        .build()?;

    let callers = Arc::new(Callers::default());
    let asking = tokio::spawn(ask(router.clone(), callers.clone()));
    registry.set_canary("chat", NEW, SHARE, SystemTime::now())?;
    router.update(follow)?;
    println!("{NEW} gets {} % of chat, and fails {} % of that\n", SHARE / 100, FAILS * 100.0);
    println!("second  answered  refused  at {NEW}  of them failed");

    let (mut changes, mut second) = (registry.subscribe(), interval(Duration::from_secs(1)));
    let new = &servers[2];
    let mut done: Option<(RolledBack, u64)> = None;
    let mut left = LIMIT;
    second.tick().await;
    for passed in 1.. {
        second.tick().await;
        registry.tick(SystemTime::now());
        let acted = rollouts.tick(Clock.now(), SystemTime::now()).pop();
        if changes.by_ref().count() > 0 {
            router.update(follow)?;
        }
        let (answered, refused) = (callers.answered.load(Ordering::Relaxed), callers.refused.load(Ordering::Relaxed));
        let (tried, failed) = (new.counters().requests(), new.counters().answered(500));
        println!("{passed:>6}  {answered:>8}  {refused:>7}  {tried:>8}  {failed:>14}");
        if let Some(acted) = acted {
            println!("\n{acted}\n");
            done = Some((acted, tried));
            left = AFTER + 1;
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    asking.abort();

    for record in registry.history() {
        println!("generation {}: {}", record.generation(), record.cause());
    }
    let facts = ChatRequest::new(body(0), &HeaderMap::new())?.facts();
    println!("\n{}", router.explain(&CallOptions::new(facts)));
    let (tried, refused) = (new.counters().requests(), callers.refused.load(Ordering::Relaxed));
    let well = matches!(&done, Some((acted, then)) if acted.done.is_ok() && tried - then <= IN_FLIGHT);
    Ok(if well && refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Requests that resolved before the rollback and had not been sent, at most.
const IN_FLIGHT: u64 = 3;

async fn servers() -> Result<[Upstream; 3], Box<dyn Error>> {
    let start = async |id: &str| {
        Upstream::start(UpstreamConfig { id: id.into(), model: String::new(), ..UpstreamConfig::default() }).await
    };
    let servers = [start("eu-a").await?, start("eu-b").await?, start("eu-c").await?];
    servers[2].fault().status_with_probability(500, None, FAILS);
    Ok(servers)
}

fn catalog() -> Catalog {
    let version = |state| ModelVersion::new(state).context(131_072);
    let placement = |version: &str, endpoint: &str| Placement::new(version, "acme", "eu-west", endpoint);
    Catalog::new()
        .version("big", "3", version(State::Live))
        .version("big", "4", version(State::Validated))
        .placement("big-3-a", placement("big@3", "eu-a"))
        .placement("big-3-b", placement("big@3", "eu-b"))
        .placement("big-4-c", placement(NEW, "eu-c"))
        .alias("chat", Alias::to("big@3").fallback(["big@3"]))
}

/// Callers that ask for a few tokens each, a hundred a second.
async fn ask(router: Chat, callers: Arc<Callers>) {
    let mut gap = interval(GAP);
    for number in 0_u64.. {
        gap.tick().await;
        let (router, callers) = (router.clone(), callers.clone());
        tokio::spawn(async move {
            let request = ChatRequest::new(body(number), &HeaderMap::new()).expect("the body is JSON");
            let options = CallOptions::within(Duration::from_secs(5)).facts(request.facts());
            let answer = router.call(&request, options).await;
            let count = if answer.is_ok() { &callers.answered } else { &callers.refused };
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
}

fn body(number: u64) -> bytes::Bytes {
    format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"{number}"}}],"max_tokens":4}}"#).into()
}
