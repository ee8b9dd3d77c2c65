//! Budgets of time: who is skipped, what an attempt may use, what is refused, and how wrong predictions heal.

mod alone;
mod bad_input;
mod doubt;
mod forecasts;
mod skip;
mod split;

use crate::support::{Act, Cue, Reply, Script, TestRouter, World, always, ms, plain, secs};
use fallway::decision::{Candidate, Reason};
use fallway::policy::{Budgets, FailSafe, PolicyExt, ordered};
use fallway::router::Builder;
use fallway::time::Instant;
use fallway::{CallOptions, Decision, Facts, Profile};
use std::time::Duration;

/// More samples than a prediction needs.
const ENOUGH: usize = Budgets::ENOUGH as usize + 5;

/// `fail_safe` over `budgeted` over the order of the fleet.
fn stack(world: &World, budgets: Budgets, fail_safe: FailSafe) -> Builder<str, Reply> {
    world.router(ordered().budgeted(budgets).fail_safe(fail_safe)).default_deadline(secs(60))
}

/// A request for this model that ends within `total`.
fn ask(model: &str, total: Duration) -> CallOptions {
    CallOptions::within(total).facts(Facts::model(model).prompt_tokens(20).replay_safe())
}

/// A backend named as the version of model `m` that it has, so that it can be asked by name.
fn member(id: &str) -> Profile {
    Profile::new(id).model(format!("m@{id}"))
}

/// Asks each of these models so often that its latency is known.
fn teach<const N: usize>(world: &World, router: &TestRouter, models: [&str; N]) {
    for _ in 0..ENOUGH {
        for model in models {
            world.call(router, ask(model, secs(60))).unwrap();
        }
    }
}

/// Answers after the first of these until `until`, and after the second from then on.
fn turns(until: Instant, before: Duration, after: Duration) -> Script {
    Box::new(move |cue: &Cue<'_>| Act::Answer(if cue.now < until { before } else { after }))
}

fn candidate<'d>(decision: &'d Decision, name: &str) -> Candidate<'d> {
    decision.candidates().find(|candidate| candidate.name() == name).unwrap()
}

/// What is left, where this one is ruled out for it.
fn missed(decision: &Decision, name: &str) -> Option<(u64, u64, u64)> {
    match candidate(decision, name).rejected() {
        Some(Reason::MissesDeadline { late, half, left }) => Some((late, half, left)),
        _ => None,
    }
}

fn chosen(decision: &Decision) -> Option<&str> {
    decision.chosen().map(|candidate| candidate.name())
}

const fn nanos(millis: u64) -> u64 {
    millis * 1_000_000
}
