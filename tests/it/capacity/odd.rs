//! Configurations that make no sense, and the suite that every policy must pass.

use crate::support::{ANSWER, LEAVES, World, always, leaf};
use fallway::policy::{Capacity, FailSafe, PolicyExt, Regions, ordered};
use fallway::sim::conformance;
use fallway::{Profile, RoutingPolicy};

/// What `build` says of it.
fn mistake(policy: impl RoutingPolicy + 'static) -> String {
    let world = World::new();
    let profile = Profile::new("a").region("eu").zone("eu-1");
    let builder = world.router(policy).backend(profile, world.backend("a", always(ANSWER)));
    builder.build().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn mistakes_are_named() {
    let of = |capacity: Capacity| mistake(ordered().capacity_aware(capacity));
    let default = Capacity::default;
    for (capacity, says) in [
        (default().headroom(0.0, 0.6), "a share of 0 is not above 0 and at most 1"),
        (default().headroom(0.8, f64::NAN), "a share of NaN is not above 0 and at most 1"),
        (default().headroom(1.1, 0.6), "a share of 1.1 is not above 0 and at most 1"),
        (default().ceilings(0.9, -0.5, 0.1), "a share of -0.5 is not above 0 and at most 1"),
        (default().ceilings(0.9, 0.5, 0.000_4), "a share of 0.0004 is less than a thousandth"),
        (default().headroom(0.85, 0.000_4), "a share of 0.0004 is less than a thousandth"),
        (default().ceilings(0.5, 0.6, 0.1), "of the ceilings [0.5, 0.6, 0.1] a lower priority has the higher one"),
        (default().local("us"), "no backend stands in \"us\", neither a region nor a zone"),
    ] {
        let text = of(capacity);
        assert!(text.contains("capacity_aware: ") && text.contains(says), "{text}");
    }
    let least = default().headroom(0.001, 0.001).ceilings(0.001, 0.001, 0.001);
    for fine in [default(), default().local("eu"), default().local("eu-1"), default().ceilings(1.0, 1.0, 1.0), least] {
        assert_eq!(of(fine), "");
    }
    let inside_out = mistake(ordered().fail_safe(FailSafe::default()).capacity_aware(default()));
    assert!(inside_out.contains("fail_safe stands inside of it; it belongs around it"), "{inside_out}");
}

#[test]
fn around_every_leaf_it_is_a_policy_like_any_other() {
    for name in LEAVES {
        conformance::policy(|| leaf(name).capacity_aware(Capacity::default().throttle()).boxed());
        conformance::policy(|| {
            let regions = Regions::new("eu");
            let inner = leaf(name).capacity_aware(Capacity::default());
            inner.region_failover(regions).fail_safe(FailSafe::default()).boxed()
        });
    }
}
