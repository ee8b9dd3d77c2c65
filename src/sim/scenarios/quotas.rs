//! Quotas: S5, S12.

use super::{Scenario, Settings, Stage};
use crate::sim::quota::Bucket;
use crate::sim::source::Source;
use crate::sim::{Run, Server, Trace, World, secs, stream};
use std::time::Duration;

/// All requests of the Azure code completion trace; `data/SOURCE.md` says more.
const AZURE_CODE: &str = include_str!("../data/azure-code.csv");

/// Tokens per minute and dollars for a million of each provider, the cheapest first.
const PROVIDERS: [(&str, u64, f64); 3] = [("a", 400_000, 1.0), ("b", 300_000, 1.3), ("c", 1_500_000, 3.0)];

/// S5. The load is the speed of the trace; `Settings::trace` replaces it whole, with its times.
pub(super) fn bursts(settings: &Settings, speed: f64) -> Vec<Stage> {
    stages(Scenario::S5, settings, speed, &World::new())
}

/// S12.
pub(super) fn mix(settings: &Settings, speed: f64) -> Vec<Stage> {
    stages(Scenario::S12, settings, speed, &World::new().critical_share(0.3))
}

/// Whether the providers say with each answer what is left, as OpenAI, Azure OpenAI and Anthropic do.
fn stages(scenario: Scenario, settings: &Settings, speed: f64, world: &World) -> Vec<Stage> {
    let stage = |tells| stage(scenario, settings, speed, world.clone(), tells);
    vec![stage(true).called("headers"), stage(false).called("silent")]
}

fn stage(scenario: Scenario, settings: &Settings, speed: f64, world: World, tells: bool) -> Stage {
    let trace = settings.trace.clone().or_else(|| Trace::parse(AZURE_CODE).ok()).unwrap_or_default();
    let trace = trace.spread(stream(settings.seed, "spread"));
    let (recorded, requests) = (trace.rate(), trace.len() as f64);
    // What makes no sense as a speed is named when the world is played, as a load that makes none.
    let lasting = requests / recorded / if speed > 0.0 && speed.is_finite() { speed } else { 1.0 };
    let server = |(name, tokens, price): (&str, u64, f64)| {
        let server = Server::new(name).base_latency(secs(0.4)).prefill_rate(200_000.0);
        let server = server.decode(Duration::from_millis(10), Duration::ZERO, 4_096);
        let server = server.quota(None, Some(tokens)).known_quota().price(price);
        if tells { server.quota_headers() } else { server }
    };
    let world = world.servers(PROVIDERS.map(server)).trace(trace);
    let share = recorded * speed / world.capacity();
    settings.stage(scenario, speed, world.load(share).lasting(secs(lasting)), (0.0, lasting))
}

/// What a token of a whole answer cost, compared with what it costs whoever knows every length and every quota, and sends
/// each request to the cheapest provider that has room for it; where none has, to where it has soonest.
pub(super) fn cost_vs_best(stage: &Stage, run: &Run) -> f64 {
    let servers = &stage.world.servers;
    let mut buckets: Vec<_> =
        servers.iter().map(|server| Bucket::per_minute(server.tokens_per_minute.unwrap_or(u64::MAX))).collect();
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by(|a, b| servers[*a].price.total_cmp(&servers[*b].price));
    let (mut cost, mut all) = (0.0, 0.0);
    for arrival in Source::new(&stage.world) {
        let tokens = u64::from(arrival.request.prompt_tokens()) + u64::from(arrival.request.output_tokens());
        let Some(at) = order.iter().copied().min_by_key(|at| buckets[*at].wait(tokens, arrival.at)) else { continue };
        buckets[at].take(tokens, arrival.at);
        cost += tokens as f64 * servers[at].price / 1e6;
        all += tokens as f64;
    }
    (run.cost() / run.tally.useful) / (cost / all)
}
