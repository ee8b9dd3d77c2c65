//! Deadlines: S13.

use super::{Scenario, Settings, Stage};
use crate::sim::{Run, World, secs};
use std::time::Duration;

/// S13: the times that callers give.
const TIMES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(60)];
/// The share of them that no server can keep.
const HOPELESS: f64 = 0.2;
/// Seconds.
const WARM_UP: f64 = 120.0;
const LASTING: f64 = 900.0;

/// S13.
pub(super) fn hurried(settings: &Settings, load: f64) -> Stage {
    let world = World::new().pool("s", 8).load(load).lasting(secs(LASTING)).warm_up(secs(WARM_UP));
    settings.stage(Scenario::S13, load, world.hurry(HOPELESS, TIMES), (WARM_UP, LASTING))
}

/// S13: served well, of those that had a chance.
pub(super) fn feasible(stage: &Stage, run: &Run) -> f64 {
    let (from, to) = stage.counted;
    run.goodput_of_feasible(from, to)
}

/// S13: refused at entry, of those that had none.
pub(super) fn refused(stage: &Stage, run: &Run) -> Option<f64> {
    let (from, to) = stage.counted;
    run.hopeless_refused(from, to)
}
