//! Pools of servers in one place: S1, S2, S4, S15, S16, S18.

use super::{Scenario, Settings, Stage};
use crate::rng::Rng;
use crate::sim::{Arrivals, Run, Server, World, at, secs, stream};

/// S1.
pub(super) fn unequal(settings: &Settings, load: f64) -> Stage {
    let speeds = [1.0; 12].into_iter().chain([0.5; 2]).chain([0.2; 2]);
    let servers = (1..).zip(speeds).map(|(number, speed)| Server::new(format!("s{number}")).speed(speed));
    let world = World::new().servers(servers).load(load).arrivals(Arrivals::Gamma { cv: 1.5 });
    let world = world.lasting(secs(600)).warm_up(secs(60)).deadline(secs(600));
    settings.stage(Scenario::S1, load, world, (60.0, 600.0))
}

/// S2.
pub(super) fn gray(settings: &Settings, load: f64) -> Vec<Stage> {
    let stage = |variant, fault| {
        let world = World::new().pool("s", 10).load(load).lasting(secs(400)).warm_up(secs(60));
        let world = world.probes(secs(5)).deadline(secs(120)).fault(fault);
        settings.stage(Scenario::S2, load, world, (100.0, 300.0)).called(variant).disturbed(100.0, 300.0)
    };
    let gray = || at(secs(100)).lasting(secs(200)).server("s-4");
    vec![stage("slow", gray().slow(20.0)), stage("errors", gray().errors(0.95, secs(0.005)))]
}

/// S4.
pub(super) fn storm(settings: &Settings, load: f64) -> Stage {
    let world = World::new().pool("s", 8).load(load).lasting(secs(240)).warm_up(secs(30)).slo(secs(5));
    let world = world.attempt_limit(secs(5)).deadline(secs(120));
    let world = world.fault(at(secs(60)).lasting(secs(30)).everywhere().speed(0.3));
    settings.stage(Scenario::S4, load, world, (150.0, 240.0)).disturbed(60.0, 90.0)
}

/// S15: what is in flight when the server goes down breaks, so every return that is trusted costs.
pub(super) fn flapping(settings: &Settings, load: f64) -> Stage {
    let (start, end) = (60.0, 360.0);
    let world = World::new().pool("s", 8).load(load).lasting(secs(430)).warm_up(secs(30));
    let flaps = at(secs(start)).lasting(secs(end - start)).server(FLAPPING).flapping(secs(10), secs(10)).down();
    settings.stage(Scenario::S15, load, world.fault(flaps), (start, end)).disturbed(start, end)
}

const FLAPPING: &str = "s-4";

/// S15: the most often that a router took the flapping server out in one minute, once it had done so three times.
pub(super) fn ejections(_: &Stage, run: &Run) -> Option<f64> {
    if run.transitions().is_empty() {
        return None;
    }
    let server = run.servers().iter().position(|id| id == FLAPPING)? as u32;
    let routers = run.transitions().iter().map(|it| it.router).max()?;
    let most = |router| {
        let own = run.transitions().iter().filter(|it| it.router == router && it.server == server);
        // A server that is out already is not taken out.
        let mut out = false;
        let ejected = own.filter(|it| std::mem::replace(&mut out, it.out) != it.out && it.out);
        let times: Vec<_> = ejected.map(|it| it.at).skip(3).collect();
        let within = |from: &f64| times.iter().filter(|at| (*from..*from + 60.0).contains(*at)).count();
        times.iter().map(within).max().unwrap_or_default()
    };
    (0..=routers).map(most).max().map(|most| most as f64)
}

/// S16.
pub(super) fn ramp(settings: &Settings, load: f64) -> Stage {
    let count = 10;
    let world = World::new().pool("s", count).lasting(secs(S16_STEP * 9.0)).slo(secs(5));
    let world = world.attempt_limit(secs(5)).deadline(secs(600));
    let steps = (0..9).map(|step| (secs(S16_STEP * f64::from(step)), load * S16_MEAN * S16_FACTOR.powi(step)));
    let mut rng = Rng::new(stream(settings.seed, "speeds"));
    let mut noise = Vec::new();
    for number in 1..=count {
        let mut time = 0.0;
        while time < S16_STEP * 9.0 {
            let lasts = 5.0 + 55.0 * rng.unit();
            let speed = 0.3 + 0.7 * rng.unit();
            noise.push(at(secs(time)).lasting(secs(lasts)).server(format!("s-{number}")).speed(speed));
            time += lasts;
        }
    }
    settings.stage(Scenario::S16, load, world.load_steps(steps).faults(noise), (0.0, S16_STEP * 9.0))
}

/// The length of a step of S16, in seconds, the mean speed of its servers, and what a step adds.
const S16_STEP: f64 = 60.0;
const S16_MEAN: f64 = 0.65;
const S16_FACTOR: f64 = 10.0 / 9.0;

/// S16: requests served well at the worst step at or beyond capacity, as a share of what the servers could do then.
pub(super) fn worst_step(stage: &Stage, run: &Run) -> f64 {
    let beyond = stage.steps(run).into_iter().filter(|(offered, _)| *offered >= 1.0);
    beyond.map(|(_, good)| good).min_by(f64::total_cmp).unwrap_or_else(|| run.goodput())
}

impl Stage {
    /// S16: of each step, the requests that came and those served well, as shares of what the servers could do then.
    pub fn steps(&self, run: &Run) -> Vec<(f64, f64)> {
        let step = |step: i32| {
            let (from, to) = (S16_STEP * f64::from(step), S16_STEP * f64::from(step + 1));
            let possible = self.possible(from, to);
            let good = run.between(from, to).filter(|record| run.is_good(record)).count();
            (run.between(from, to).count() as f64 / possible, good as f64 / possible)
        };
        (0..9).map(step).collect()
    }

    /// How many requests the servers could serve between two moments, at the speeds that they had.
    fn possible(&self, from: f64, to: f64) -> f64 {
        let full = self.world.lengths.capacity(&Server::new("any"));
        let spells = self.world.faults.iter().filter_map(|fault| {
            let (start, end) = fault.window(self.world.lasting);
            let overlap = end.as_secs_f64().min(to) - start.as_secs_f64().max(from);
            (overlap > 0.0).then(|| overlap * fault.speed_share())
        });
        spells.sum::<f64>() * full
    }
}

/// S18.
pub(super) fn joining(settings: &Settings, load: f64) -> Stage {
    let newcomer = Server::new("new").region("s").joins_after(secs(120));
    let world = World::new().pool("s", 10).server(newcomer).load(load).lasting(secs(300));
    let world = world.warm_up(secs(60)).deadline(secs(120));
    settings.stage(Scenario::S18, load, world, (60.0, 300.0)).disturbed(120.0, 180.0)
}

/// S18: the newcomer's largest share of twenty seconds while it warms up, divided by a fair share.
pub(super) fn newcomer(stage: &Stage, run: &Run) -> f64 {
    let (start, end) = stage.windows[0];
    let fair = 1.0 / stage.world.servers.len() as f64;
    let mut most: f64 = 0.0;
    let mut time = start;
    while time + 20.0 <= end {
        most = most.max(run.shares_between(time, time + 20.0).last().copied().unwrap_or(0.0) / fair);
        time += 5.0;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Transition;
    use crate::sim::baselines::Contestant;

    #[test]
    fn the_first_three_ejections_are_free() {
        let stage = flapping(&Settings { requests: Some(50), ..Settings::default() }, 0.6);
        let mut run = stage.run(Contestant::ALL[0]).unwrap();
        run.transitions.clear();
        assert_eq!(ejections(&stage, &run), None);
        let mut write = |at, router, out| run.transitions.push(Transition { at, router, server: 3, out });
        for at in [60.0, 80.0, 100.0, 120.0, 170.0, 185.0] {
            write(at, 0, true);
            // Out for longer is not out again.
            write(at + 1.0, 0, true);
            write(at + 5.0, 0, false);
        }
        write(500.0, 1, true);
        assert_eq!(ejections(&stage, &run), Some(2.0));
        run.transitions.retain(|it| it.at < 115.0);
        assert_eq!(ejections(&stage, &run), Some(0.0));
    }
}
