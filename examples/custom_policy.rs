//! A policy of one's own: a leaf, a wrapper and a closure, composed with what the crate brings.
//!
//! `cargo run --example custom_policy`

use fallway::backend::{BackendError, backend_fn};
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PlanContext, PolicyExt, RoutingPolicy, Slate, describe, policy_fn};
use fallway::{CallOptions, Facts, Profile, Router};

/// A leaf: ranks by calls in flight, and prefers the request's own zone among equals. The zone comes with the request,
/// as a label of this name; a request without it has no zone of its own.
#[derive(Debug)]
struct SameZone(&'static str);

impl RoutingPolicy for SameZone {
    fn name(&self) -> &'static str {
        "same_zone"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let zone = cx.facts().label_value(self.0);
        slate.rank(|candidate| {
            let elsewhere = zone.is_some() && candidate.profile().zone_name() != zone;
            u64::from(candidate.load().in_flight) * 2 + u64::from(elsewhere)
        });
    }
}

/// A wrapper: keeps the batch tenant off the machines that the others need. The rejection is soft, so that a
/// `fail_safe` around it may still use them when nothing else is left.
#[derive(Debug)]
struct KeepBatchOff<P>(P);

impl<P: RoutingPolicy> RoutingPolicy for KeepBatchOff<P> {
    fn name(&self) -> &'static str {
        "keep_batch_off"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        if cx.facts().request_tenant() == Some("batch") {
            slate.each(|candidate| {
                if candidate.profile().id().starts_with("prod-") {
                    candidate.reject(Reason::Custom { text: "reserved for interactive traffic" });
                }
            });
        }
        self.0.plan(cx, slate);
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let policy = KeepBatchOff(SameZone("zone")).fail_safe(FailSafe::default());
    println!("{}\n", describe(&policy));

    let router = Router::builder(policy)
        .backend(Profile::new("prod-1").region("eu-west").zone("eu-west-1"), model())
        .backend(Profile::new("prod-2").region("eu-west").zone("eu-west-2"), model())
        .backend(Profile::new("spare").region("us-east").zone("us-east-1"), model())
        .build()?;
    for (zone, nearest) in [("eu-west-1", "prod-1"), ("eu-west-2", "prod-2"), ("us-east-1", "spare")] {
        let decision = router.explain(&CallOptions::new(Facts::any().tenant("search").label("zone", zone)));
        println!("{decision}\n");
        assert_eq!(decision.chosen().map(|candidate| candidate.name()), Some(nearest));
    }
    println!("{}\n", router.explain(&CallOptions::new(Facts::any().tenant("batch"))));
    router.update(|fleet| fleet.drain("spare"))?;
    println!("{}\n", router.explain(&CallOptions::new(Facts::any().tenant("batch"))));

    // A closure is a policy too.
    let alphabet = policy_fn("alphabet", |_, slate| {
        slate.rank(|candidate| candidate.profile().id().bytes().next().map_or(0, u64::from));
    });
    let router = Router::builder(alphabet.fail_safe(FailSafe::default()))
        .backend(Profile::new("zebra"), model())
        .backend(Profile::new("ant"), model())
        .build()?;
    println!("{}", router.explain(&CallOptions::default()));
    Ok(())
}
