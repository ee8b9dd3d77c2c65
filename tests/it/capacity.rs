//! What backends can take, and who gets it.

mod headroom;
mod kept;
mod large;
mod learned;
mod never_over;
mod odd;
mod priorities;
mod reports;
mod throttle;
mod tokens;

use crate::support::{Act, Cue, Script, TestRouter, World, always, ms, plain, secs};
use fallway::facts::Priority;
use fallway::policy::{Capacity, FailSafe, PolicyExt};
use fallway::router::Builder;
use fallway::{CallOptions, FailureKind, Profile, RoutingPolicy};
use std::time::Duration;

const PRIORITIES: [Priority; 4] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];

/// Takes so many calls at once, each for 100 ms, and refuses the others with 429 and a Retry-After.
fn takes(limit: u32) -> Script {
    Box::new(move |cue: &Cue<'_>| match cue.in_flight <= limit {
        true => Act::Answer(ms(100)),
        false => Act::Hint(FailureKind::RateLimited, Duration::from_micros(500), secs(1)),
    })
}

fn of(priority: Priority) -> CallOptions {
    CallOptions::within(secs(600)).facts(plain().priority(priority))
}

/// The stack around this leaf.
fn stack(leaf: impl RoutingPolicy + 'static, capacity: Capacity) -> impl RoutingPolicy + 'static {
    leaf.capacity_aware(capacity).fail_safe(FailSafe::default())
}

/// Backends that take so many calls, and answer after ten seconds.
fn fleet<const N: usize>(
    world: &World,
    builder: Builder<str, crate::support::Reply>,
    members: [(&str, u32); N],
) -> TestRouter {
    let slow = |(id, limit)| (Profile::new(id).region(id).concurrency(limit), always(Act::Answer(secs(10))));
    world.fleet(builder, members.map(slow)).0
}

/// Sends so many calls of this priority, one after the other.
fn send(world: &World, router: &TestRouter, priority: Priority, calls: usize) {
    for _ in 0..calls {
        let (router, options) = (router.clone(), of(priority));
        world.spawn(async move { router.call("ask", options).await.is_ok() });
        world.settle();
    }
}

/// Calls in flight at each.
fn load<const N: usize>(router: &TestRouter, ids: [&str; N]) -> [u32; N] {
    ids.map(|id| router.in_flight(id).unwrap())
}
