//! Conversations: S7.

use super::{Scenario, Settings, Stage};
use crate::sim::{Server, Trace, World, secs, stream};

/// The first 4,000 requests of the Mooncake conversation trace; `data/SOURCE.md` says more.
const MOONCAKE: &str = include_str!("../data/mooncake-conv-4000.csv");

/// So many times the rate of the recording.
pub(super) const SPEED: f64 = 2.2;
/// Prompt tokens a second: the recorded prompts, none of them cached, need 94 % of eight such servers.
const PREFILL_RATE: f64 = 12_000.0;
/// Blocks that a server keeps: a million tokens.
const CACHE: usize = 2_048;
/// Seconds, or a tenth of the whole.
const WARM_UP: f64 = 60.0;

/// S7. The load is the speed of the trace; `Settings::trace` replaces it whole, with its times and its prefixes.
pub(super) fn conversations(settings: &Settings, speed: f64) -> Stage {
    let trace = settings.trace.clone().or_else(|| Trace::parse(MOONCAKE).ok()).unwrap_or_default();
    let trace = trace.spread(stream(settings.seed, "spread"));
    let (recorded, requests) = (trace.rate(), trace.len() as f64);
    // What makes no sense as a speed is named when the world is played, as a load that makes none.
    let lasting = requests / recorded / if speed > 0.0 && speed.is_finite() { speed } else { 1.0 };
    let warm_up = WARM_UP.min(lasting / 10.0);
    let server = |number| Server::new(format!("s-{number}")).prefill_rate(PREFILL_RATE).prefix_cache(CACHE);
    let world = World::new().servers((1..=8).map(server)).trace(trace).slo(secs(5)).deadline(secs(120));
    let share = recorded * speed / world.capacity();
    let world = world.load(share).lasting(secs(lasting)).warm_up(secs(warm_up));
    settings.stage(Scenario::S7, speed, world, (warm_up, lasting))
}
