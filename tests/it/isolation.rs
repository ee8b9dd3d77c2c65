//! What one tenant can do to another: shares of the calls in flight, subsets of the backends, parts of the retry budget.

mod bulkheads;
mod noise;
mod retries;
mod shards;
mod threads;

use crate::support::{Answer, Task, TestRouter, World, plain, secs};
use fallway::CallOptions;
use fallway::facts::Priority;

/// A request of this tenant.
fn of(tenant: &str) -> CallOptions {
    CallOptions::within(secs(60)).facts(plain().tenant(tenant))
}

fn critical(tenant: &str) -> CallOptions {
    CallOptions::within(secs(60)).facts(plain().tenant(tenant).priority(Priority::Critical))
}

/// Many requests of this tenant, at once.
fn flood(world: &World, router: &TestRouter, tenant: &str, count: usize) -> Vec<Task<Answer>> {
    (0..count).map(|_| world.ask(router, of(tenant))).collect()
}

fn all_ok(tasks: Vec<Task<Answer>>) -> bool {
    tasks.into_iter().map(Task::take).all(|answer| answer.ok())
}
