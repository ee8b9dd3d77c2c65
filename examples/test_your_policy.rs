//! Test your own policy against an outage, as you would in your CI: a region of six servers goes down for half a minute.
//!
//! ```text
//! cargo run --release --features sim --example test_your_policy
//! ```
//!
//! In a test the two assertions are all that is needed. The run takes milliseconds, and the same seed gives the same
//! figures, so a failure can be looked at as long as it takes.

use fallway::policy::{FailSafe, PlanContext, PolicyExt, RoutingPolicy, Slate, policy_fn};
use fallway::sim::{World, WorldError, at, secs};

/// The policy to be tested: the fewest prompt tokens waiting.
fn fewest_tokens() -> impl RoutingPolicy {
    policy_fn("fewest_tokens", |_: &PlanContext<'_>, slate: &mut Slate<'_>| {
        slate.rank(|candidate| candidate.load().waiting_tokens);
    })
}

fn main() -> Result<(), WorldError> {
    let world = World::new()
        .pool("eu", 6)
        .pool("us", 6)
        .routers(8)
        .load(0.4)
        .lasting(secs(180))
        .fault(at(secs(60)).lasting(secs(30)).region("eu").down());
    for (name, run) in [
        ("alone", world.run(|_| fewest_tokens())?),
        ("in fail_safe", world.run(|_| fewest_tokens().fail_safe(FailSafe::default()))?),
    ] {
        println!("{name:13} {run}; {:.1} % while the region is down", run.goodput_between(60.0, 90.0) * 100.0);
        if name == "in fail_safe" {
            assert!(run.goodput_between(60.0, 90.0) > 0.95 && run.goodput() > 0.98, "{run}");
            assert_eq!(run.leaked(), 0, "slots that nobody gave back");
        }
    }
    Ok(())
}
