//! Regions: S3.

use super::{Scenario, Settings, Stage};
use crate::sim::{Run, Server, World, at, secs};

/// S3: the region of the callers, which goes down.
pub(super) const LOST: &str = "eu-west";
const REGIONS: [&str; 3] = [LOST, "eu-north", "us-east"];
/// Round trips: within each region, and between any two.
const TRIPS: [(usize, usize, f64); 6] =
    [(0, 0, 0.002), (1, 1, 0.002), (2, 2, 0.002), (0, 1, 0.08), (0, 2, 0.15), (1, 2, 0.15)];
const SERVERS: usize = 6;
/// 0.68 of three regions is 102 % of the two that are left.
pub(super) const LOADS: [(&str, f64); 2] = [("ample", 0.55), ("short", 0.68)];
const DOWN: (f64, f64) = (200.0, 400.0);

/// S3. Everybody hears the same probes; 30 % of the requests are critical, 20 % may not leave the first two regions. A
/// router is told its part of what each server has room for, where it can be told: of all policies here, only those
/// that come with this crate can.
///
/// The callers' region alone can carry neither load, so who fills the nearest region before the next, without counting,
/// overruns it before anything fails. Where there are routers enough, there is a stage in which a third of the callers
/// is in each region.
pub(super) fn lost(settings: &Settings) -> Vec<Stage> {
    let stage = |variant, load, homes: &[&str]| {
        let (start, end) = DOWN;
        let part = (Server::BATCH as usize / settings.routers.max(1)).max(1) as u32;
        let mut world = World::new().load(load).lasting(secs(600)).warm_up(secs(60)).routers_in(homes.iter().copied());
        for region in REGIONS {
            let server = |number| Server::new(format!("{region}-{number}")).region(region).known_limit(part);
            world = world.servers((1..=SERVERS).map(server));
        }
        for (one, other, trip) in TRIPS {
            world = world.round_trip(REGIONS[one], REGIONS[other], secs(trip));
        }
        let world = world.critical_share(0.3).residency(0.2, [LOST, "eu-north"]).probes(secs(5));
        let world = world.fault(at(secs(start)).lasting(secs(end - start)).region(LOST).down());
        settings.stage(Scenario::S3, load, world, DOWN).called(variant).disturbed(start, end)
    };
    let mut stages = match settings.load {
        Some(load) => vec![stage("", load, &[LOST])],
        None => LOADS.map(|(variant, load)| stage(variant, load, &[LOST])).into(),
    };
    if settings.routers >= REGIONS.len() {
        stages.push(stage("everywhere", settings.load.unwrap_or(LOADS[0].1), &REGIONS));
    }
    stages
}

/// S3: how often the region that was down lost its traffic again, once it had some: less than a quarter of its share
/// before the fault, after more than a half of it.
pub(super) fn flaps(stage: &Stage, run: &Run) -> f64 {
    let Some(lost) = run.region_names().iter().position(|name| name == LOST) else { return 0.0 };
    let (start, end) = stage.windows[0];
    let before = run.region_shares_between(start - 100.0, start)[lost];
    let (mut back, mut flaps, mut from) = (false, 0u32, end);
    while from + 5.0 <= stage.lasting() {
        let share = run.region_shares_between(from, from + 5.0)[lost];
        if share > before / 2.0 {
            back = true;
        } else if back && share < before / 4.0 {
            (back, flaps) = (false, flaps + 1);
        }
        from += 5.0;
    }
    f64::from(flaps)
}
