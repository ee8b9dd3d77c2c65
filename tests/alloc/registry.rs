//! Resolutions, alone and as part of decisions.

use super::{Decisions, Nothing, allocations, fleet, is_chosen};
use fallway::facts::Price;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::registry::{Alias, Catalog, Keys, ModelVersion, Placement, Publication, Registry, State};
use fallway::{CallOptions, Facts, Profile};
use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

#[test]
fn a_resolution_allocates_nothing() {
    let now = SystemTime::UNIX_EPOCH;
    let registry = Registry::builder().open(now);
    let mut catalog = Catalog::new();
    for n in 0..600 {
        let split = Alias::split([(format!("m{n}@2"), 500), (format!("m{n}@1"), 9_500)]);
        catalog = catalog
            .version(format!("m{n}"), "1", ModelVersion::new(State::Live))
            .version(format!("m{n}"), "2", ModelVersion::new(State::Canary))
            .placement(format!("p{n}"), Placement::new(format!("m{n}@1"), "a", "eu", format!("e{n}")))
            .placement(format!("q{n}"), Placement::new(format!("m{n}@2"), "a", "eu", format!("f{n}")))
            .alias(format!("inner{n}"), split)
            .alias(format!("alias{n}"), Alias::to(format!("inner{n}")).fallback(["m0@1"]));
    }
    registry.publish(&Publication::from(catalog), now).unwrap();
    let names: Vec<_> = (0..600).map(|n| format!("alias{n}")).collect();
    let mut n = 0;
    let made = allocations(1_000, 10_000, || {
        n += 1;
        let found = registry.resolve(&names[n % 600], Keys::seed(n as u64).session("s")).unwrap();
        assert_eq!(black_box(found.placements()).len() + found.fallback().count(), 2);
        assert!(registry.resolve("nobody", Keys::seed(0)).is_err());
    });
    assert_eq!(made, 0);
}

/// The registry's view is swapped between decisions, which still allocate nothing.
#[test]
fn a_decision_that_resolves_allocates_nothing() {
    let now = SystemTime::UNIX_EPOCH;
    let registry = Arc::new(Registry::builder().open(now));
    let version = |state| ModelVersion::new(state).context(8_192).price(Price::pico(1, 1));
    let placement = |version: &str, endpoint: &str| Placement::new(version, "a", "eu", endpoint);
    let catalog = Catalog::new()
        .version("m", "1", version(State::Live))
        .version("m", "2", version(State::Canary))
        .placement("p", placement("m@1", "e"))
        .placement("q", placement("m@2", "f"))
        .alias("chat", Alias::split([("m@2", 500), ("m@1", 9_500)]).fallback(["m@1"]));
    registry.publish(&Publication::from(catalog), now).unwrap();
    let profile = |model: &'static str| move |n| Profile::new(format!("{model}-{n}")).model(model);
    let profiles = ["m@1", "m@2"].into_iter().flat_map(|model| (0..32).map(profile(model)));
    let builder = fleet(predicted_ttft().fail_safe(FailSafe::default()), profiles, || Nothing(None));
    let router = builder.registry(registry.clone()).build().unwrap();
    let facts = Facts::model("chat").prompt_tokens(100).max_output_tokens(10).max_cost(1_000_000);
    let mut decisions = Decisions::new(&router, &CallOptions::new(facts), 1);
    for round in 0..3 {
        let made = allocations(500, 1_000, || assert!(is_chosen(decisions.next())));
        assert_eq!(made, 0, "round {round}");
        registry.set_canary("chat", "m@2", 1_000 * (round + 1), now).unwrap();
    }
}
