//! Executions that take much longer than they should: S6.

use super::{Scenario, Settings, Stage};
use crate::rng::Rng;
use crate::sim::{Lengths, Server, World, at, secs, stream};

/// S6: servers of slots that answer when they are done, where one execution in fifty takes eight times as long. Nobody knows
/// which; the same request sent again is as likely as any other to be one of them. A router is told its part of the slots.
pub(super) fn slow_ones(settings: &Settings, load: f64) -> Stage {
    let part = (SLOTS as usize / settings.routers.max(1)).max(1) as u32;
    let server = |number| Server::new(format!("s-{number}")).slots(SLOTS).known_limit(part);
    let world = World::new().servers((1..=SERVERS).map(server)).lengths(short_answers(settings.seed)).load(load);
    let world = world.lasting(secs(LASTING)).warm_up(secs(WARM_UP)).deadline(secs(60)).slo(secs(SLO));
    let world = world.fault(at(secs(0)).everywhere().straggles(SHARE, TIMES));
    settings.stage(Scenario::S6, load, world, (WARM_UP, LASTING))
}

const SERVERS: usize = 10;
const SLOTS: u32 = 8;
const SHARE: f64 = 0.02;
const TIMES: f64 = 8.0;
/// Seconds. Each of 32 routers has to learn of ten servers from less than two requests a second.
const WARM_UP: f64 = 300.0;
const LASTING: f64 = 1_200.0;
/// Seconds; an answer takes one on average.
const SLO: f64 = 3.0;

/// Answers of 44 tokens in the median, two in three of them between 27 and 73: about a second, as a classifier takes, or an
/// agent's next step.
fn short_answers(seed: u64) -> Lengths {
    let mut rng = Rng::new(stream(seed, "answers"));
    let length = |_| {
        // Twelve draws are a bell.
        let bell = (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
        (256, (44.0 * (bell / 2.0).exp()).round().max(1.0) as u32)
    };
    let lengths: Vec<_> = (0..1_000).map(length).collect();
    Lengths::of(lengths).unwrap_or_default()
}
