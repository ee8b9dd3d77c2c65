//! Remote providers: S8, S9.

use super::{Scenario, Settings, Stage};
use crate::backend::FailureKind;
use crate::rng::Rng;
use crate::sim::{Fault, Run, Server, World, at, secs, stream};
use std::time::Duration;

/// What a provider adds outweighs what a prompt costs; it has room for everybody.
fn provider(name: &str, region: &str, base: f64) -> Server {
    let server = Server::new(name).region(region).base_latency(secs(base));
    server.prefill_rate(200_000.0).decode(Duration::from_millis(10), Duration::ZERO, 4_096)
}

/// S8.
pub(super) fn slow(settings: &Settings, load: f64) -> Stage {
    let servers =
        [("a", 0.3), ("b", 0.6), ("c", 0.9), ("d", 1.5)].map(|(name, base)| provider(name, Server::REGION, base));
    // A few requests a second for each unit of load: these servers have no capacity to speak of.
    let world = World::new().servers(servers).lasting(secs(900)).warm_up(secs(100)).slo(secs(2));
    let rate = 60.0 * load;
    let capacity = world.capacity();
    let world = world.load(rate / capacity).deadline(secs(120));
    let world = world.fault(at(secs(300)).lasting(secs(300)).server("a").latency(secs(2.7)));
    settings.stage(Scenario::S8, load, world, (100.0, 900.0)).disturbed(300.0, 600.0)
}

/// S8: when the mean time to first token is what it can be.
pub(super) fn reaction(stage: &Stage, run: &Run) -> (Option<f64>, Option<f64>) {
    let (start, end) = stage.windows[0];
    let before = run.mean_ttft_between(start - 100.0, start).unwrap_or(f64::INFINITY);
    let during = run.mean_ttft_between(end - 100.0, end).unwrap_or(f64::INFINITY);
    let settled = |from: f64, until: f64, most: f64| {
        let mut since = None;
        let mut time = from;
        while time + 10.0 <= until {
            if run.mean_ttft_between(time, time + 10.0).is_none_or(|mean| mean <= most) {
                since = since.or(Some(time - from));
            } else {
                since = None;
            }
            time += 10.0;
        }
        since
    };
    (settled(start, end, during * 1.25), settled(end, stage.lasting(), before * 1.1))
}

/// S9: so many hours, and a request in so many seconds at load 1. Who asks once in five minutes, and as one of 32
/// routers once in two hours and a half, learns nothing from counting failures in windows.
const HOURS: f64 = 10_000.0;
const GAP: f64 = 300.0;
const HOUR: f64 = 3_600.0;

/// S9: two providers, each in two regions; `a` is nearer to the first token and two and a half times cheaper.
pub(super) fn year(settings: &Settings, load: f64) -> Stage {
    let offer = |name: &str, base, price| {
        ["eu", "us"].map(|region| provider(&format!("{name}-{region}"), region, base).price(price))
    };
    let world = World::new().servers(offer("a", 0.4, 1.0)).servers(offer("b", 0.6, 2.5)).routers_in(["eu"]);
    let world = world.round_trip("eu", "us", secs(0.08)).lasting(secs(HOURS * HOUR)).slo(World::DEADLINE);
    let share = load / GAP / world.capacity();
    // Nobody needs to know every 100 ms for more than a year how these servers stand.
    let world = world.load(share).reports_every(secs(300));
    let mut incidents = Vec::new();
    for (name, median, sigma) in [("a", 75.0 * 60.0, 1.1), ("b", 46.0 * 60.0, 1.3)] {
        let mut rng = Rng::new(stream(settings.seed, name));
        incidents.extend(incidents_of(name, median, sigma, &mut rng));
    }
    settings.stage(Scenario::S9, load, world.faults(incidents), (0.0, HOURS * HOUR))
}

/// S9: a provider's incidents. One in four takes all of it down; any other lets a share of the requests in one of its
/// regions fail.
fn incidents_of(name: &str, median: f64, sigma: f64, rng: &mut Rng) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut time = 0.0;
    loop {
        time += weibull(0.6, 88.0 * HOUR, rng);
        let lasts = median * (sigma * normal(rng)).exp();
        if time >= HOURS * HOUR - 1.0 {
            return faults;
        }
        let schedule = |region: &str| at(secs(time)).lasting(secs(lasts.max(1.0))).server(format!("{name}-{region}"));
        if rng.unit() < 0.25 {
            faults.extend(["eu", "us"].map(|region| schedule(region).down()));
        } else {
            let region = if rng.unit() < 0.5 { "eu" } else { "us" };
            let share = 0.1 + 0.8 * rng.unit();
            faults.push(schedule(region).fails(FailureKind::ServerError, share, secs(0.3)));
        }
        time += lasts;
    }
}

fn weibull(shape: f64, scale: f64, rng: &mut Rng) -> f64 {
    scale * (-(1.0 - rng.unit()).ln()).powf(1.0 / shape)
}

fn normal(rng: &mut Rng) -> f64 {
    // Box and Muller.
    let (u, v) = (1.0 - rng.unit(), rng.unit());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// S9: what was spent, as a share of the cap.
pub(super) fn spend(stage: &Stage, run: &Run) -> f64 {
    let cheapest = stage.world.servers.iter().map(|server| server.price).fold(f64::INFINITY, f64::min);
    let cap = run.tally.useful * cheapest / 1e6 * SPEND_CAP;
    if cap > 0.0 { run.cost() / cap } else { 0.0 }
}

const SPEND_CAP: f64 = 1.1;

/// S9: how often a router took a backend out again within ten minutes of letting it back, per hour.
pub(super) fn flaps(stage: &Stage, run: &Run) -> Option<f64> {
    let transitions = run.transitions();
    if transitions.is_empty() {
        return None;
    }
    let again = |(number, out): (usize, &crate::sim::Transition)| {
        let same = |it: &&crate::sim::Transition| (it.router, it.server) == (out.router, out.server);
        let before = transitions[..number].iter().rev().find(same);
        out.out && before.is_some_and(|it| !it.out && out.at - it.at <= 600.0)
    };
    let flaps = transitions.iter().enumerate().filter(|it| again(*it)).count();
    Some(flaps as f64 / stage.world.routers as f64 / (stage.lasting() / HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        year(&Settings { routers: 2, requests: Some(50), ..Settings::default() }, 1.0)
    }

    #[test]
    fn a_flap_is_a_return_that_did_not_last() {
        let stage = stage();
        let mut run = stage.run(crate::sim::baselines::Contestant::ALL[0]).unwrap();
        run.transitions.clear();
        assert_eq!(flaps(&stage, &run), None);
        let mut write = |at, router, server, out| {
            run.transitions.push(crate::sim::Transition { at, router, server, out });
        };
        write(10.0, 0, 1, true);
        write(100.0, 0, 1, false);
        // Another router, another server, another time: no flap.
        write(110.0, 1, 1, true);
        write(120.0, 0, 2, true);
        write(701.0, 0, 1, true);
        write(800.0, 0, 1, false);
        write(900.0, 0, 1, true);
        assert!((flaps(&stage, &run).unwrap() - 1.0 / 2.0 / HOURS).abs() < 1e-12);
    }

    #[test]
    fn the_cap_is_a_tenth_above_the_cheaper_provider() {
        let stage = stage();
        let mut run = stage.run(crate::sim::baselines::Contestant::ALL[0]).unwrap();
        (run.tally.useful, run.tally.cost) = (2e6, 2.2);
        assert!((spend(&stage, &run) - 1.0).abs() < 1e-12);
        (run.tally.useful, run.tally.cost) = (2e6, 5.0);
        assert!((spend(&stage, &run) - 5.0 / 2.2).abs() < 1e-12);
        (run.tally.useful, run.tally.cost) = (0.0, 0.0);
        assert_eq!(spend(&stage, &run), 0.0);
    }

    #[test]
    fn incidents_are_as_frequent_and_as_long_as_they_should_be() {
        let mut rng = Rng::new(7);
        let (mut incidents, mut down, mut full) = (0.0, 0.0, 0.0);
        let rounds = 40;
        for _ in 0..rounds {
            for fault in incidents_of("a", 75.0 * 60.0, 1.1, &mut rng) {
                let whole = matches!(fault.effect, crate::sim::fault::Effect::Down);
                // An incident of all of the provider is two faults.
                let weight = if whole { 0.5 } else { 1.0 };
                incidents += weight;
                full += if whole { weight } else { 0.0 };
                down += weight * fault.lasting.unwrap().as_secs_f64();
            }
        }
        // Means: gaps of 88 h · Γ(1 + 1/0.6) = 132.4 h, durations of 75 min · exp(1.1² / 2) = 137.3 min.
        let expected = f64::from(rounds) * HOURS / (132.4 + 137.3 / 60.0);
        assert!((incidents / expected - 1.0).abs() < 0.06, "{incidents} {expected}");
        assert!((down / incidents / (137.3 * 60.0) - 1.0).abs() < 0.08, "{}", down / incidents / 60.0);
        assert!((full / incidents - 0.25).abs() < 0.02, "{}", full / incidents);
    }
}
