//! The queue of requests that wait for a slot: who is next, and what becomes of a slot on its way.

mod call_time;
mod full;
mod handing;
mod idle;
mod meters;
mod order;
mod refills;
mod rounds;
mod slots;
mod turns;

use crate::support::{Script, Scripted, TestRouter, World};
use fallway::Profile;
use fallway::policy::{FailSafe, PolicyExt, ordered};

/// `ordered` and fail-safe over these backends.
fn fleet<const N: usize>(world: &World, members: [(Profile, Script); N]) -> (TestRouter, [Scripted; N]) {
    world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members)
}
