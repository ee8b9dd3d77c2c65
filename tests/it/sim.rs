//! The simulator against arithmetic, against itself, and against nonsense; and what routing in it is worth.

mod bad_input;
mod baselines;
mod drivers;
mod envoy;
mod exact;
mod faults;
mod figures;
mod quality;
mod regions;

use fallway::RoutingPolicy;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::sim::{Ended, Run, Server, World, secs};

/// The stack that the tests use where the stack is not the matter.
fn default_stack() -> impl RoutingPolicy + 'static {
    predicted_ttft().fail_safe(FailSafe::default())
}

/// Three servers in two regions a few milliseconds from their routers, two minutes.
fn small() -> World {
    let server = |id: &str, region: &str| Server::new(id).region(region);
    World::new()
        .servers([server("a", "eu"), server("b", "eu"), server("c", "us")])
        .round_trip("eu", "eu", secs(0.001))
        .round_trip("eu", "us", secs(0.04))
        .load(0.4)
        .lasting(secs(120))
        .seed(11)
}

/// Runs with the default stack, and checks what holds for every run.
fn run(world: &World) -> Run {
    let run = world.run(|_| default_stack()).unwrap();
    check(&run);
    assert!(!run.records().is_empty());
    run
}

/// Every request has one outcome, and nothing is left.
fn check(run: &Run) {
    assert_eq!(run.leaked(), 0);
    for record in run.records() {
        assert_ne!(record.ended, Ended::Open, "{record:?}");
        if record.ended == Ended::Completed {
            assert!(record.attempts > 0 && record.server.is_some() && record.first.is_some(), "{record:?}");
        }
        assert!(record.first.is_none_or(|first| (0.0..=record.total).contains(&first)), "{record:?}");
        assert!(matches!(record.ended, Ended::Completed | Ended::Broken(_) | Ended::Left) || record.first.is_none());
    }
}

/// How many requests ended so.
fn count(run: &Run, which: impl Fn(Ended) -> bool) -> usize {
    run.records().iter().filter(|record| which(record.ended)).count()
}
