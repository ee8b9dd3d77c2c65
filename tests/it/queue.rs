//! The queue of requests that wait for a slot: who is next, and what becomes of a slot on its way.

mod call_time;
mod full;
mod handing;
mod idle;
mod meters;
mod order;
mod refills;
mod regions;
mod rights;
mod rooms;
mod rounds;
mod slots;
mod turns;
mod unheard;

use crate::support::{Script, Scripted, Task, TestRouter, World};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::time::{Instant, Timer};
use fallway::{CallOptions, Facts, Profile};
use std::time::Duration;

/// `ordered` and fail-safe over these backends.
fn fleet<const N: usize>(world: &World, members: [(Profile, Script); N]) -> (TestRouter, [Scripted; N]) {
    world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members)
}

/// When it was answered.
fn ask(world: &World, router: &TestRouter, facts: Facts, within: Duration) -> Task<Option<Instant>> {
    let (router, timer) = (router.clone(), world.timer().clone());
    let options = CallOptions::within(within).facts(facts);
    let task = world.spawn(async move { router.call("ask", options).await.ok().map(|_| timer.now()) });
    world.settle();
    task
}

fn facts(tenant: &str, tokens: u64) -> Facts {
    Facts::any().tenant(tenant).prompt_tokens(tokens / 2).output_tokens(tokens / 2).max_output_tokens(tokens / 2)
}
