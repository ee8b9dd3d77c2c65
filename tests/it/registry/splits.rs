//! Who gets which version of an alias.

use super::fixtures::{at, catalog, publish, registry};
use fallway::Facts;
use fallway::registry::{Alias, Catalog, Keys, Patch, Placement, Publication, Registry, ResolveError, State};
use fallway::shape::Sticky;

/// How many of so many sessions get the newer version.
fn canaries(registry: &Registry, sessions: u32) -> u32 {
    let newer = |session: u32| {
        let name = format!("s{session}");
        registry.resolve("chat", Keys::seed(0).session(&name)).unwrap().version() == "llama-70b@4"
    };
    (0..sessions).map(|session| u32::from(newer(session))).sum()
}

#[test]
fn shares_are_those_that_were_set() {
    let registry = registry();
    for share in [500, 1, 3_333, 9_999] {
        registry.set_canary("chat", "llama-70b@4", share, at(0)).unwrap();
        let seen = f64::from(canaries(&registry, 100_000));
        let expected = f64::from(share) * 10.0;
        // Six standard deviations of the binomial distribution.
        let bound = 6.0 * (expected * (1.0 - expected / 100_000.0)).sqrt();
        assert!((seen - expected).abs() <= bound, "{share}: {seen} of {expected} ± {bound}");
    }
}

#[test]
fn a_growing_canary_keeps_its_sessions() {
    let registry = registry();
    let mut before = Vec::new();
    for share in [500, 1_000, 5_000, 10_000] {
        registry.set_canary("chat", "llama-70b@4", share, at(0)).unwrap();
        let newer = |session: &u32| {
            let name = format!("s{session}");
            registry.resolve("chat", Keys::seed(0).session(&name)).unwrap().version() == "llama-70b@4"
        };
        let now: Vec<u32> = (0..2_000).filter(newer).collect();
        assert!(before.iter().all(|session| now.contains(session)), "{share}");
        before = now;
    }
    assert_eq!(before.len(), 2_000);
}

#[test]
fn what_sticks_is_what_the_alias_says() {
    let by = |sticky| {
        let registry = registry();
        let half = Alias::split([("llama-70b@4", 5_000), ("llama-70b@3", 5_000)]).sticky(sticky).fallback(["small"]);
        publish(&registry, catalog().alias("chat", half)).unwrap();
        let facts = Facts::model("chat").session("s").tenant("t");
        let other = Facts::model("chat").session("other").tenant("t");
        let buckets = |facts: &Facts| -> Vec<_> {
            let seeds = 0..20;
            seeds
                .map(|seed| registry.resolve("chat", Keys::of(facts, seed)).unwrap().provenance(at(0)).bucket)
                .collect()
        };
        (buckets(&facts), buckets(&other))
    };
    let same = |buckets: &[Option<u16>]| buckets.iter().all(|bucket| *bucket == buckets[0]);
    let (one, other) = by(Sticky::Session);
    assert!(same(&one) && same(&other) && one[0] != other[0]);
    let (one, other) = by(Sticky::Tenant);
    assert!(same(&one) && one == other);
    let (one, other) = by(Sticky::Request);
    assert!(!same(&one) && one == other);
}

#[test]
fn aliases_of_aliases_split_independently() {
    let registry = registry();
    let nested = catalog()
        .alias("outer", Alias::split([("chat", 5_000), ("small", 5_000)]))
        .alias("third", Alias::to("outer"))
        .alias("fourth", Alias::to("third"));
    publish(&registry, nested).unwrap();
    let mut seen = [0u32; 3];
    for seed in 0..100_000 {
        let found = registry.resolve("fourth", Keys::seed(seed)).unwrap();
        let versions = ["llama-70b@4", "llama-70b@3", "llama-8b@1"];
        seen[versions.iter().position(|version| *version == found.version()).unwrap()] += 1;
        assert_eq!(found.provenance(at(0)).aliases[..3], ["fourth", "third", "outer"]);
    }
    assert!((2_200..2_800).contains(&seen[0]) && (46_000..49_000).contains(&seen[1]), "{seen:?}");
}

#[test]
fn quarantine_gives_a_share_to_the_others_and_never_takes_the_last() {
    let registry = registry();
    registry.quarantine("llama-70b@4", at(0)).unwrap();
    assert_eq!(canaries(&registry, 10_000), 0);
    assert_eq!(
        registry.resolve("llama-70b@4", Keys::seed(0)).unwrap_err(),
        ResolveError::NotServed(State::Quarantined),
        "by its own name it is not served"
    );
    let refused = registry.quarantine("llama-70b@3", at(0)).unwrap_err();
    assert_eq!(refused.violations()[0].path().as_str(), "/aliases/chat");
    assert!(registry.quarantine("llama-8b@1", at(0)).is_err(), "an inner alias counts too");
    assert_eq!(registry.status(at(0)).quarantined, ["llama-70b@4"]);
    // Nor may a publication leave an alias with nothing else.
    let only = Publication::from(catalog().alias("chat", Alias::to("llama-70b@4")));
    assert_eq!(registry.publish(&only, at(0)).unwrap_err().violations()[0].path().as_str(), "/aliases/chat");
    registry.release("llama-70b@4").unwrap();
    assert!(canaries(&registry, 10_000) > 300);
}

#[test]
fn an_alias_whose_every_version_is_written_off_is_refused() {
    let registry = registry();
    let off = |catalog: &Catalog, version: &str| {
        let what = fallway::registry::ModelVersion::new(State::Quarantined);
        catalog.clone().version("llama-70b", version, what)
    };
    let both = off(&off(&catalog(), "3"), "4");
    let refused = registry.publish(&Publication::from(both).force("really"), at(0)).unwrap_err();
    assert!(refused.has(fallway::registry::Code::QuarantineEmpties));
    // One of them is only left out.
    registry.publish(&Publication::from(off(&catalog(), "4")), at(0)).unwrap();
    assert_eq!(canaries(&registry, 1_000), 0);
}

#[test]
fn a_pin_decides_unless_its_version_is_quarantined() {
    let registry = registry();
    registry.pin("chat", "llama-70b@4", at(100), at(0)).unwrap();
    assert_eq!(canaries(&registry, 100), 100);
    registry.quarantine("llama-70b@4", at(0)).unwrap();
    assert_eq!(canaries(&registry, 100), 0);
    assert!(registry.pin("chat", "llama-70b@9", at(100), at(0)).is_err());
    assert!(registry.pin("nobody", "llama-70b@3", at(100), at(0)).is_err());
    assert!(registry.pin("chat", "llama-70b@3", at(0), at(0)).is_err(), "a pin that is over");
    registry.unpin("chat").unwrap();
    assert!(registry.unpin("chat").is_err());
}

#[test]
fn what_is_not_warm_joins_with_nothing_and_all_cold_is_better_than_nobody() {
    let registry = Registry::builder().open(at(0));
    let ack = registry.publish(&Publication::from(catalog()).cold(["eu-3", "eu-s"]), at(0)).unwrap();
    assert_eq!(ack.review().to_warm(), ["eu-3", "eu-4", "eu-s", "us-3"]);
    let weights = |name: &str| -> Vec<u32> {
        let found = registry.resolve(name, Keys::seed(0)).unwrap();
        found.placements().iter().map(|place| place.placement().relative_weight()).collect()
    };
    assert_eq!(weights("llama-70b@3"), [0, 100]);
    assert_eq!(weights("small"), [100], "nothing else is there");
    let next = Catalog::new().alias("other", Alias::to("small"));
    let next = Publication::from(fallway::registry::Patch::new().put(next));
    registry.publish(&next, at(1)).unwrap();
    assert_eq!(weights("llama-70b@3"), [0, 100], "another publication warms nothing");
    registry.warmed("eu-3");
    assert_eq!(weights("llama-70b@3"), [100, 100]);
}

#[test]
fn a_pin_holds_nothing_that_a_later_publication_left_without_a_placement() {
    let registry = registry();
    registry.pin("chat", "llama-70b@3", at(100), at(0)).unwrap();
    let moved = Catalog::new().alias("chat", Alias::to("llama-70b@4"));
    let moved = Patch::new().put(moved).remove_placement("eu-3").remove_placement("us-3");
    registry.publish(&Publication::from(moved).force("moved"), at(1)).unwrap();
    let found = registry.resolve("chat", Keys::seed(1)).unwrap();
    assert_eq!((found.version(), found.placements().len()), ("llama-70b@4", 1));
    assert!(!found.provenance(at(1)).pinned);
}

#[test]
fn what_a_source_brings_is_cold_until_somebody_has_warmed_it() {
    let weights = |registry: &Registry| -> Vec<_> {
        let found = registry.resolve("llama-70b@3", Keys::seed(0)).unwrap();
        let places = found.placements().iter();
        places.map(|place| (place.id().to_owned(), place.placement().relative_weight())).collect()
    };
    let grown = catalog().placement("new", Placement::new("llama-70b@3", "acme", "eu-west", "eu-n"));
    let expected = |new| [("eu-3".to_owned(), 100), ("new".to_owned(), new), ("us-3".to_owned(), 100)];
    for (builder, new) in [(Registry::builder(), 100), (Registry::builder().cold_from_sources(), 0)] {
        let registry = builder.open(at(0));
        registry.receive(&catalog().to_bytes(), at(0)).unwrap();
        assert_eq!(weights(&registry).len(), 2, "all are new: cold is better than nobody");
        ["eu-3", "us-3", "eu-4", "eu-s"].iter().for_each(|id| registry.warmed(id));
        let ack = registry.receive(&grown.to_bytes(), at(1)).unwrap();
        assert_eq!(ack.review().to_warm(), ["new"]);
        assert_eq!(weights(&registry), expected(new));
        registry.warmed("new");
        assert_eq!(weights(&registry), expected(100));
    }
}
