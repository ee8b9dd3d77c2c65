//! Tenants: S10.

use super::{Scenario, Settings, Stage};
use crate::sim::{Run, Server, World, secs};

/// S10: who comes in bursts, and how: its part of all requests, and the variation of their gaps.
pub(super) const LOUD: &str = "loud";
const PART: f64 = 0.3;
const VARIATION: f64 = 27.0;
const OTHERS: usize = 9;
const SERVERS: usize = 16;
/// Seconds.
const WARM_UP: f64 = 60.0;
const LASTING: f64 = 600.0;

/// S10: nine tenants, each as steady as the other, and one in whose bursts hundreds of requests come at once. A router is told its
/// part of what each server has room for.
pub(super) fn loud(settings: &Settings, load: f64) -> Stage {
    let part = (Server::BATCH as usize / settings.routers.max(1)).max(1) as u32;
    let server = |number| Server::new(format!("s-{number}")).known_limit(part);
    let world = World::new().servers((1..=SERVERS).map(server)).lasting(secs(LASTING)).warm_up(secs(WARM_UP));
    let world = world.tenants((1..=OTHERS).map(|number| (format!("t-{number}"), 1.0)));
    let alone = world.load(load * (1.0 - PART));
    let world = alone.clone().guest(LOUD, load * PART, VARIATION);
    settings.stage(Scenario::S10, load, world, (WARM_UP, LASTING)).beside(settings.apply(alone))
}

/// S10: the goodput of all but the loud one, as a share of what it is when that one stays away.
pub(super) fn others(stage: &Stage, run: &Run) -> Option<f64> {
    let (from, to) = stage.counted;
    Some(run.goodput_beside(LOUD, from, to) / run.alone?)
}
