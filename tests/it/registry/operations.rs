//! Guards, force, validators, and what operators may and may not do.

use super::fixtures::{at, catalog, codes, publish, registry, variant};
use fallway::facts::Price;
use fallway::registry::store::{Memory, Store};
use fallway::registry::{
    Alias, Catalog, Code, Freshness, Keys, ModelVersion, Patch, Placement, Publication, Registry, ResolveError, State,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn small(context: u64, price: u64) -> Catalog {
    catalog().version(
        "llama-8b",
        "1",
        ModelVersion::new(State::Live).context(context).price(Price::pico(price, 80_000)),
    )
}

fn patched(patch: Patch) -> Publication {
    Publication::from(patch)
}

#[test]
fn a_change_that_is_likelier_a_mistake_needs_force() {
    let without = |id: &str| patched(Patch::new().remove_placement(id));
    let two = Patch::new().remove_model("llama-8b").remove_placement("eu-s").remove_alias("small");
    let two = two.put(Catalog::new().alias("chat", Alias::to("llama-70b@3")));
    let moved = Catalog::new()
        .placement("eu-3", Placement::new("llama-70b@3", "acme", "eu-west", "eu-x").residency(["eu"]))
        .placement("eu-4", Placement::new("llama-70b@4", "acme", "eu-west", "eu-y").residency(["eu"]))
        .placement("eu-s", Placement::new("llama-8b@1", "acme", "eu-west", "eu-z").residency(["eu"]));
    for (publication, code, path) in [
        (Publication::from(small(32_768, 500_000)), Code::PriceJump, "/models/llama-8b/versions/1/price"),
        (Publication::from(small(32_768, 5_000)), Code::PriceJump, "/models/llama-8b/versions/1/price"),
        (Publication::from(small(32_768, 0)), Code::PriceJump, "/models/llama-8b/versions/1/price"),
        (Publication::from(small(16_384, 50_000)), Code::ContextHalved, "/models/llama-8b/versions/1/context"),
        (without("us-3"), Code::ResidencyLost, "/placements"),
        (patched(two), Code::ModelsRemoved, "/models"),
        (patched(Patch::new().put(moved)), Code::PlacementsChanged, "/placements"),
        (
            Publication::from(catalog().version("llama-8b", "1", ModelVersion::new(State::Canary))),
            Code::StateJump,
            "/models/llama-8b/versions/1/state",
        ),
    ] {
        let registry = registry();
        let refused = registry.publish(&publication, at(1)).unwrap_err();
        assert!(codes(&refused).contains(&(code, path.to_owned())), "{refused:?}");
        assert!(refused.can_be_forced());
        assert_eq!(registry.view().generation(), 1);
        let ack = registry.publish(&publication.force("asked the provider"), at(1)).unwrap();
        assert!(ack.review().warnings().iter().any(|warning| warning.code() == code), "what was forced is said");
        assert_eq!(registry.history()[1].cause(), "publish, forced: asked the provider");
    }
}

#[test]
fn a_change_below_the_guards_passes() {
    for (n, publication) in
        [
            Publication::from(small(32_768, 499_999)),
            Publication::from(small(32_768, 5_001)),
            Publication::from(small(16_385, 50_000)),
            Publication::from(small(32_768, 50_000).version("llama-8b", "1", ModelVersion::new(State::Live))),
            patched(Patch::new().put(
                Catalog::new().placement("eu-3", Placement::new("llama-70b@3", "b", "eu-1", "e").residency(["eu"])),
            )),
        ]
        .into_iter()
        .enumerate()
    {
        let ack = registry().publish(&publication, at(1));
        assert_eq!(ack.as_ref().map(|ack| ack.generation()), Ok(2), "{n}");
    }
}

#[test]
fn force_does_not_make_the_invalid_valid() {
    let registry = registry();
    let broken = Publication::from(catalog().alias("chat", Alias::to("llama-70b@9"))).force("please");
    let refused = registry.publish(&broken, at(1)).unwrap_err();
    assert_eq!(codes(&refused), [(Code::UnknownTarget, "/aliases/chat/targets/0".to_owned())]);
    assert!(!refused.can_be_forced());
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let registry = registry();
    let publication = Publication::from(variant(7));
    let review = registry.validate(&publication, at(1)).unwrap();
    assert_eq!(review.diff().to_string(), "~ /models/llama-8b/versions/1\n");
    assert_eq!(registry.view().generation(), 1);
    assert_eq!(registry.publish(&publication, at(1)).unwrap().review(), &review);
    let guarded = Publication::from(small(32_768, 0));
    assert_eq!(registry.validate(&guarded, at(1)), registry.publish(&guarded, at(1)).map(|_| unreachable!()));
}

#[test]
fn validators_of_the_host_refuse_and_their_panic_is_a_refusal() {
    let calls = std::sync::Arc::new(AtomicU32::new(0));
    let seen = calls.clone();
    let registry = Registry::builder()
        .validator(move |snapshot| {
            seen.fetch_add(1, Ordering::Relaxed);
            let price = snapshot.catalog().find("llama-8b@1").unwrap().known_price().unwrap().input();
            assert_ne!(price, 50_013, "superstition");
            if price == 50_007 { Err("not seven".to_owned()) } else { Ok(()) }
        })
        .open(at(0));
    publish(&registry, catalog()).unwrap();
    let refused = [publish(&registry, variant(7)).unwrap_err(), publish(&registry, variant(13)).unwrap_err()];
    assert_eq!(codes(&refused[0]), [(Code::Refused, String::new())]);
    assert_eq!(refused[0].violations()[0].message(), "not seven");
    assert_eq!(codes(&refused[1]), [(Code::ValidatorPanicked, String::new())]);
    assert_eq!(publish(&registry, variant(8)), Ok(2), "and the registry works on");
    // It is not asked about what is invalid anyhow.
    let before = calls.load(Ordering::Relaxed);
    publish(&registry, catalog().alias("chat", Alias::to("x"))).unwrap_err();
    assert_eq!(calls.load(Ordering::Relaxed), before);
}

#[test]
fn the_same_content_again_is_no_new_generation() {
    let registry = registry();
    assert_eq!(publish(&registry, catalog()), Ok(1));
    assert_eq!(registry.history().len(), 1);
}

#[test]
fn states_follow_the_rollout() {
    let registry = registry();
    let state = |version: &str| registry.view().state_of(version).unwrap();
    registry.set_canary("chat", "llama-70b@4", 0, at(1)).unwrap();
    assert_eq!(state("llama-70b@4"), State::Validated);
    assert!(matches!(registry.resolve("llama-70b@4", Keys::seed(0)), Err(ResolveError::NotServed(State::Validated))));
    registry.set_canary("chat", "llama-70b@4", 10, at(2)).unwrap();
    assert_eq!(state("llama-70b@4"), State::Canary);
    registry.promote("chat", "llama-70b@4", at(3)).unwrap();
    assert_eq!((state("llama-70b@4"), state("llama-70b@3")), (State::Live, State::Live));
    for (alias, version, share) in
        [("nobody", "llama-70b@4", 1), ("chat", "llama-70b@9", 1), ("chat", "llama-70b@4", 10_001)]
    {
        assert!(registry.set_canary(alias, version, share, at(4)).is_err(), "{alias} {version} {share}");
    }
    let refused = registry.set_canary("chat", "llama-70b@4", 0, at(4)).unwrap_err();
    assert!(refused.has(Code::SplitSum), "nobody would be left");
}

#[test]
fn shares_of_the_others_keep_their_proportions_and_the_sum() {
    let registry = registry();
    let three =
        Alias::split([("llama-70b@3", 3_333), ("llama-70b@4", 3_333), ("llama-8b@1", 3_334)]).fallback(["small"]);
    publish(&registry, catalog().alias("chat", three)).unwrap();
    for share in [0, 1, 777, 5_000, 9_999] {
        registry.set_canary("chat", "llama-70b@4", share, at(1)).unwrap();
        let view = registry.view();
        let targets = view.snapshot().catalog().aliases()["chat"].targets();
        assert_eq!(targets.iter().map(|(_, share)| share).sum::<u32>(), 10_000, "{targets:?}");
        let first = targets.iter().find(|(target, _)| target == "llama-70b@4").map_or(0, |(_, share)| *share);
        assert_eq!(first, share);
    }
}

#[test]
fn a_rollback_that_is_asked_for_twice_does_not_bring_back_what_was_bad() {
    let registry = registry();
    let first = registry.view().snapshot().digest();
    (1..=2).for_each(|price| assert!(publish(&registry, variant(price)).is_ok()));
    let [good, bad] = [1, 2].map(|price| variant(price).digest());
    assert_eq!(registry.rollback(None, at(1)).unwrap().digest(), good);
    assert_eq!(registry.rollback(None, at(1)).unwrap().digest(), first, "further back");
    assert!(registry.rollback(None, at(1)).unwrap_err().has(Code::NotFound), "there was nothing before");
    // By its number everything is served again, the bad one too.
    assert_eq!(registry.rollback(Some(3), at(1)).unwrap().digest(), bad);
    assert_eq!(registry.rollback(None, at(1)).unwrap().digest(), good);
}

#[test]
fn only_what_is_remembered_can_be_rolled_back_to() {
    let registry = registry();
    assert!(registry.rollback(None, at(1)).unwrap_err().has(Code::NotFound), "there was nothing before");
    let kept = Store::KEPT as u64;
    for price in 1..=kept {
        publish(&registry, variant(price)).unwrap();
    }
    assert_eq!(registry.history().len(), Store::KEPT);
    assert!(registry.rollback(Some(1), at(1)).is_err(), "the one before all that are kept is forgotten");
    assert_eq!(registry.rollback(None, at(1)).unwrap().digest(), variant(kept - 1).digest());
    assert_eq!(registry.history().last().unwrap().cause(), format!("rollback to {kept}"));
    let empty = Registry::builder().open(at(0));
    assert!(empty.promote("chat", "llama-70b@4", at(0)).unwrap_err().has(Code::NothingPublished));
    assert!(empty.rollback(None, at(0)).is_err());
}

#[test]
fn what_nobody_confirms_goes_stale_and_is_served_unless_told_otherwise() {
    let [serving, refusing] = [Registry::builder(), Registry::builder().refuse_when_expired()].map(|builder| {
        let registry = builder.open(at(0));
        publish(&registry, catalog()).unwrap();
        registry
    });
    let day = 24 * 3_600;
    for (seconds, freshness) in
        [(299, Freshness::Fresh), (300, Freshness::Stale), (day - 1, Freshness::Stale), (day, Freshness::Expired)]
    {
        for registry in [&serving, &refusing] {
            registry.tick(at(seconds));
            let status = registry.status(at(seconds));
            assert_eq!((status.freshness, status.age), (freshness, Duration::from_secs(seconds)));
        }
    }
    assert!(serving.resolve("chat", Keys::seed(0)).is_ok());
    assert_eq!(refusing.resolve("chat", Keys::seed(0)).unwrap_err(), ResolveError::Expired);
    refusing.receive(&catalog().to_bytes(), at(day + 1)).unwrap();
    refusing.tick(at(day + 1));
    assert!(refusing.resolve("chat", Keys::seed(0)).is_ok());
}

#[test]
fn an_unknown_price_is_said_and_never_zero() {
    let registry = Registry::builder().open(at(0));
    let unknown = catalog().version("llama-8b", "1", ModelVersion::new(State::Live));
    let ack = registry.publish(&Publication::from(unknown), at(0)).unwrap();
    let warning = &ack.review().warnings()[0];
    assert_eq!((warning.code(), warning.path().as_str()), (Code::PriceUnknown, "/models/llama-8b/versions/1/price"));
    let found = registry.resolve("small", Keys::seed(0)).unwrap();
    assert_eq!(found.placements()[0].known_price(), None);
    // A placement's own price comes before that of the version.
    let own =
        Placement::new("llama-70b@3", "acme", "eu-west", "eu-a").residency(["eu"]).price(Price::pico(60_000, 80_000));
    publish(&registry, catalog().placement("eu-3", own)).unwrap();
    let found = registry.resolve("llama-70b@3", Keys::seed(0)).unwrap();
    let prices: Vec<_> = found.placements().iter().map(|place| place.known_price().unwrap().input()).collect();
    assert_eq!(prices, [60_000, 590_000]);
}

#[test]
fn a_model_that_keeps_its_name_and_no_version_is_gone() {
    let registry = Registry::builder().open(at(0));
    let models = |full: u32| {
        let numbered = (0..10).map(|n| (format!("m{n}"), n < full));
        numbered.fold(catalog(), |catalog, (name, full)| match full {
            true => catalog.version(name, "1", ModelVersion::new(State::Live)),
            false => catalog,
        })
    };
    publish(&registry, models(10)).unwrap();
    let hollow = |from: u32| {
        let text = String::from_utf8(models(from).to_bytes()).unwrap();
        let names: String = (from..10).map(|n| format!("\"m{n}\":{{\"versions\":{{}}}},")).collect();
        Publication::parse(text.replace("\"models\":{", &format!("\"models\":{{{names}")).as_bytes()).unwrap()
    };
    // Of twelve.
    registry.validate(&hollow(8), at(1)).unwrap();
    let refused = registry.validate(&hollow(7), at(1)).unwrap_err();
    assert_eq!(codes(&refused)[0], (Code::ModelsRemoved, "/models".to_owned()));
    assert!(refused.to_string().contains("3 of 12 models"), "{refused}");
}

/// With `eu-3` at a price of its own, or at that of its version.
fn priced(own: Option<u64>) -> Catalog {
    let placement = Placement::new("llama-70b@3", "acme", "eu-west", "eu-a").residency(["eu"]);
    let price = own.map(|pico| Price::pico(pico, 790_000));
    catalog().placement("eu-3", price.into_iter().fold(placement, Placement::price))
}

#[test]
fn a_placement_may_not_jump_from_the_price_of_its_version_to_its_own_or_back() {
    for (before, after, refused) in [
        (None, Some(5_900_000), true),
        (Some(5_900_000), None, true),
        (Some(600_000), Some(6_000_000), true),
        (None, Some(5_899_999), false),
        (Some(590_000), None, false),
    ] {
        let registry = Registry::builder().open(at(0));
        publish(&registry, priced(before)).unwrap();
        let answer = publish(&registry, priced(after));
        let expected = [(Code::PriceJump, "/placements/eu-3/price".to_owned())];
        assert_eq!(answer.err().map(|nack| codes(&nack)), refused.then(|| expected.to_vec()), "{before:?} {after:?}");
    }
    // The same placement with a dearer version is a dearer placement.
    let registry = registry();
    let dear = ModelVersion::new(State::Live).price(Price::pico(5_900_000, 790_000));
    let moved = Placement::new("llama-70b@5", "acme", "eu-west", "eu-a").residency(["eu"]);
    let refused = publish(&registry, catalog().version("llama-70b", "5", dear).placement("eu-3", moved)).unwrap_err();
    assert_eq!(codes(&refused), [(Code::PriceJump, "/placements/eu-3/price".to_owned())]);
}

#[test]
fn nothing_but_a_confirmation_ends_the_refusal_of_what_has_expired() {
    let day = 24 * 3_600;
    let disk = Memory::default();
    let open = |seconds: u64| {
        let builder = Registry::builder().store(Store::open(disk.clone()).unwrap());
        builder.refuse_when_expired().open(at(seconds))
    };
    let refused = |registry: &Registry| registry.resolve("chat", Keys::seed(0)).err() == Some(ResolveError::Expired);
    let registry = open(0);
    publish(&registry, catalog()).unwrap();
    registry.tick(at(day));
    assert!(refused(&registry));
    registry.pin("chat", "llama-70b@3", at(9 * day), at(day)).unwrap();
    assert!(refused(&registry), "a pin confirms nothing");
    drop(registry);
    let registry = open(5 * day);
    assert!(refused(&registry), "nor does a start");
    registry.receive(&variant(1).to_bytes(), at(5 * day)).unwrap();
    assert!(!refused(&registry));
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_ages_nothing_for_good() {
    let registry = registry();
    registry.tick(at(400 * 24 * 3_600));
    registry.tick(at(10));
    assert_eq!(
        (registry.view().age(), registry.status(at(10)).age),
        (Duration::from_secs(10), Duration::from_secs(10))
    );
    registry.receive(&catalog().to_bytes(), at(11)).unwrap();
    assert_eq!(registry.view().age(), Duration::ZERO);
}
