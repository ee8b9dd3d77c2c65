//! Rollouts: S11.

use super::{Scenario, Settings, Stage};
use crate::sim::{Fault, Run, Schedule, Server, World, at, secs};

/// S11: an alias gives a tenth of its requests to a new version, of which 15 % fail, or which takes twice as long to its
/// first token. Whoever does not take it back by itself has it taken back by people, after five minutes.
pub(super) fn bad_version(settings: &Settings, load: f64) -> Vec<Stage> {
    let stage = |variant: &'static str, fault: fn(Schedule) -> Fault| {
        let stable = (1..=STABLE).map(|number| Server::new(format!("s-{number}")).model("m@1"));
        let tried = (1..=TRIED).map(|number| Server::new(format!("c-{number}")).model(VERSION));
        let mut world = World::new().servers(stable.chain(tried)).load(load).lasting(secs(WARM_UP + COUNTED));
        world = world.warm_up(secs(WARM_UP)).rollout(VERSION, SHARE, secs(BEGINS), secs(NOTICED));
        for number in 1..=TRIED {
            world = world.fault(fault(at(secs(0)).server(format!("c-{number}"))));
        }
        settings.stage(Scenario::S11, load, world, (WARM_UP, WARM_UP + COUNTED)).called(variant)
    };
    vec![
        stage("failing", |server| server.errors(0.15, secs(0.05))),
        stage("slow", |server| server.latency(secs(SLOWER))),
    ]
}

/// Servers of each version: the new one has room for its share, at the load of the others.
const STABLE: usize = 18;
const TRIED: usize = 2;
const VERSION: &str = "m@2";
/// Basis points.
const SHARE: u32 = 1_000;
/// Seconds. The rollout does not begin with a window of the judge.
const WARM_UP: f64 = 120.0;
const BEGINS: f64 = 123.4;
const NOTICED: f64 = 300.0;
const COUNTED: f64 = 900.0;
/// What the slow version takes longer, in seconds: as long as 95 % of the others take at most.
const SLOWER: f64 = 1.0;

/// S11: seconds from the beginning of the rollout to the last request that went to the new version.
pub(super) fn time_to_roll_back(run: &Run) -> Option<f64> {
    let tried = |server: &u32| run.servers()[*server as usize].starts_with("c-");
    let last = run.records().iter().rfind(|record| record.server.as_ref().is_some_and(tried))?;
    Some(last.at - BEGINS)
}

/// S11: the share of the requests that the new version failed, or kept waiting.
pub(super) fn harmed(run: &Run) -> f64 {
    run.harmed() as f64 / run.requests() as f64
}
