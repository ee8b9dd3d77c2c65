//! Blindness: S17.

use super::{Scenario, Settings, Stage};
use crate::sim::{World, at, secs};

/// S17: twice the same hour, once with probes and load reports and once without either; in the middle of it a server
/// goes down for a minute. What fails in the first and not in the second fails because of what is not heard. A registry
/// or a store that routers share is nothing that this crate needs to decide, so there is none to lose.
pub(super) fn blind(settings: &Settings, load: f64) -> Vec<Stage> {
    let (start, end) = (300.0, 3_900.0);
    let stage = |variant| {
        let world = World::new().pool("s", 3).load(load).lasting(secs(4_200)).warm_up(secs(60));
        let world = world.probes(secs(5)).load_signals();
        let world = world.fault(at(secs(2_100)).lasting(secs(60)).server("s-2").down());
        settings.stage(Scenario::S17, load, world, (start, end)).called(variant).disturbed(start, end)
    };
    let hour = || at(secs(start)).lasting(secs(end - start)).everywhere();
    let mut blind = stage("blind");
    blind.world = blind.world.fault(hour().silent_probes()).fault(hour().silent_reports());
    vec![blind, stage("seeing")]
}
