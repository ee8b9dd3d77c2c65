//! Streams that are cut: S14.

use super::{Scenario, Settings, Stage};
use crate::sim::{World, at, secs};

/// S14: the same cuts, for callers who are told and for callers who bring a hook.
pub(super) fn cut(settings: &Settings, load: f64) -> Vec<Stage> {
    let (start, end) = (100.0, 300.0);
    let stage = |variant, resuming: bool| {
        let cut = |server: &str, tokens| at(secs(start)).lasting(secs(end - start)).server(server).cuts_streams(tokens);
        let world = World::new().pool("s", 8).load(load).lasting(secs(400)).warm_up(secs(60)).deadline(secs(120));
        // One soon after the first token, one where most answers are half done.
        let world = world.fault(cut("s-3", 2)).fault(cut("s-6", 60));
        let world = if resuming { world.resuming() } else { world };
        settings.stage(Scenario::S14, load, world, (start, end)).called(variant).disturbed(start, end)
    };
    vec![stage("told", false), stage("resumed", true)]
}
