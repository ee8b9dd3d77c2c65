//! Edges: rules that no other test would miss.

use super::fixtures::{at, catalog, codes, on, publish, registry, served, tiny, variant, window};
use fallway::facts::Price;
use fallway::registry::import::{litellm, models_dev};
use fallway::registry::source::{Answer, Fetched, Http};
use fallway::registry::store::{Failing, Memory};
use fallway::registry::{
    Alias, Catalog, Code, Envelope, Keys, ModelVersion, Patch, Placement, Publication, Registry, State,
};

const DAY: u64 = 24 * 3_600;

fn version(state: State, price: Price) -> ModelVersion {
    ModelVersion::new(state).context(32_768).price(price)
}

fn small(price: Price) -> Catalog {
    catalog().version("llama-8b", "1", version(State::Live, price))
}

/// What is said to `after` where `before` is served.
fn judged(before: Catalog, after: Catalog) -> Vec<Code> {
    let registry = Registry::builder().open(at(0));
    publish(&registry, before).unwrap();
    let refused = publish(&registry, after).err();
    let guards = refused.iter().flat_map(codes).map(|(code, _)| code);
    guards.filter(|code| *code != Code::PriceUnknown).collect()
}

fn quarantined(registry: &Registry, seconds: u64) -> bool {
    registry.tick(at(seconds));
    !registry.status(at(seconds)).quarantined.is_empty()
}

#[test]
fn numbers_beyond_what_they_may_be_are_refused_on_every_side() {
    let dear = 1_000_000_000_001;
    let (window, tokens) = (1 << 40, (1 << 40) + 1);
    let live = || ModelVersion::new(State::Live);
    for (wrong, path) in [
        (small(Price::pico(1, dear)), "/models/llama-8b/versions/1/price"),
        (small(Price::pico(1, 1).above(9, Price::pico(1, dear)).unwrap()), "/models/llama-8b/versions/1/price"),
        (catalog().version("m", "1", live().context(tokens)), "/models/m/versions/1/context"),
        (catalog().version("m", "1", live().output(tokens)), "/models/m/versions/1/output"),
        (
            catalog().placement("p", Placement::new("llama-8b@1", "a", "b", "c").price(Price::pico(dear, 0))),
            "/placements/p/price",
        ),
    ] {
        let found: Vec<_> = wrong.check().iter().map(|it| (it.code(), it.path().to_string())).collect();
        assert_eq!(found, [(Code::OutOfRange, path.to_owned())]);
    }
    assert_eq!(catalog().version("m", "1", live().context(window).output(window)).check(), []);
}

#[test]
fn guards_look_at_the_output_and_at_every_tier_of_what_is_served() {
    let tiers = |second: u64| Price::pico(50, 80).above(9, Price::pico(60, second)).unwrap();
    assert_eq!(judged(small(Price::pico(50, 80)), small(Price::pico(50, 800))), [Code::PriceJump]);
    assert_eq!(judged(small(tiers(90)), small(tiers(900))), [Code::PriceJump]);
    assert_eq!(judged(small(tiers(90)), small(tiers(899))), []);
    // Nobody pays a draft.
    let draft = |pico| catalog().version("m", "1", version(State::Draft, Price::pico(pico, pico)));
    assert_eq!(judged(draft(1), draft(1_000)), []);
}

#[test]
fn a_fifth_of_the_models_may_go_and_half_of_the_placements() {
    let models = |many: u32| (0..many).fold(Catalog::new(), |all, n| all.version(format!("m{n}"), "1", drafted()));
    assert_eq!(judged(models(10), models(8)), []);
    assert_eq!(judged(models(10), models(7)), [Code::ModelsRemoved]);
    let moved = |many: usize| {
        let names = ["eu-3", "eu-4", "us-3"];
        let versions = ["llama-70b@3", "llama-70b@4", "llama-70b@3"];
        let tags = ["eu", "eu", "us"];
        (0..many).fold(catalog(), |all, n| {
            all.placement(names[n], Placement::new(versions[n], "acme", "r", format!("new-{n}")).residency([tags[n]]))
        })
    };
    assert_eq!(judged(catalog(), moved(2)), []);
    assert_eq!(judged(catalog(), moved(3)), [Code::PlacementsChanged]);
}

fn drafted() -> ModelVersion {
    ModelVersion::new(State::Draft)
}

#[test]
fn a_residency_that_only_a_drained_placement_has_is_lost() {
    let drained = Placement::new("llama-70b@3", "acme", "us-east", "us-a").residency(["us"]).priority(1).weight(0);
    assert_eq!(judged(catalog(), catalog().placement("us-3", drained)), [Code::ResidencyLost]);
}

#[test]
fn a_quarantine_grows_to_a_day_and_its_count_is_forgotten_a_day_later() {
    let registry = registry();
    for _ in 0..9 {
        registry.quarantine("llama-70b@4", at(0)).unwrap();
        registry.release("llama-70b@4").unwrap();
    }
    registry.quarantine("llama-70b@4", at(0)).unwrap();
    assert!(quarantined(&registry, DAY - 1));
    assert!(!quarantined(&registry, DAY));
    // Asked for again while it lasts, it is neither longer nor counted.
    registry.tick(at(2 * DAY));
    registry.quarantine("llama-70b@4", at(2 * DAY)).unwrap();
    registry.quarantine("llama-70b@4", at(2 * DAY + 300)).unwrap();
    assert!(quarantined(&registry, 2 * DAY + 599));
    assert!(!quarantined(&registry, 2 * DAY + 600), "ten minutes, as the first time");
    registry.quarantine("llama-70b@4", at(2 * DAY + 600)).unwrap();
    assert!(quarantined(&registry, 2 * DAY + 1_799) && !quarantined(&registry, 2 * DAY + 1_800));
}

#[test]
fn a_rollback_that_a_validator_refuses_leaves_nothing_behind() {
    let registry = Registry::builder()
        .validator(|snapshot| {
            let shared = snapshot.catalog().aliases()["chat"].targets().len() == 2;
            if shared { Ok(()) } else { Err("two, always".to_owned()) }
        })
        .open(at(0));
    publish(&registry, catalog()).unwrap();
    let refused = registry.roll_back_version("chat", "llama-70b@4", "bad", at(0)).unwrap_err();
    assert!(refused.has(Code::Refused));
    assert!(!quarantined(&registry, 1));
    registry.pin("small", "llama-8b@1", at(9), at(1)).unwrap();
    assert!(!quarantined(&registry, 2), "nor did the next change bring it to light");
}

#[test]
fn rollbacks_of_an_hour_ago_do_not_count() {
    let registry = registry();
    for n in 0..4 {
        registry.roll_back_version("chat", "llama-70b@4", "bad", at(n * 3_600)).unwrap();
        registry.tick(at((n + 1) * 3_600 - 1));
        publish(&registry, catalog()).unwrap();
        assert!(!registry.status(at(0)).frozen);
    }
}

/// A registry that starts where three catalogues were published and `damage` was done meanwhile.
fn after_three(damage: impl FnOnce(&Memory)) -> Registry {
    let disk = Memory::default();
    let registry = on(&disk);
    (1..=3).for_each(|context| assert!(publish(&registry, tiny(context)).is_ok()));
    drop(registry);
    damage(&disk);
    on(&disk)
}

#[test]
fn back_is_another_content_also_after_a_start_from_the_one_before() {
    let registry = after_three(|disk| disk.corrupt("snapshot-00000000000000000003", b"nonsense"));
    assert_eq!((window(&registry), registry.view().generation()), (Some(2), 4));
    registry.rollback(None, at(1)).unwrap();
    assert_eq!(window(&registry), Some(1));
}

#[test]
fn what_was_never_made_current_is_nobodys_history() {
    // As if the power had gone before CURRENT was written.
    let registry = after_three(|disk| disk.corrupt("CURRENT", &disk.read_all("PREVIOUS")));
    assert_eq!((window(&registry), registry.history().len()), (Some(2), 2));
    assert_eq!(publish(&registry, tiny(9)), Ok(4), "no generation comes twice");
}

trait ReadAll {
    fn read_all(&self, name: &str) -> Vec<u8>;
}

impl ReadAll for Memory {
    fn read_all(&self, name: &str) -> Vec<u8> {
        fallway::registry::store::Fs::read(self, name, 1 << 20).unwrap()
    }
}

#[test]
fn no_serial_is_remembered_whose_content_is_not() {
    for (call, seed) in (0..16).flat_map(|call| (0..8).map(move |seed| (call, seed))) {
        let disk = Memory::default();
        let registry = on(&disk);
        let next = |price| Envelope::new(variant(price), price).to_bytes();
        registry.receive(&next(1), at(0)).unwrap();
        disk.power_off_after(call);
        registry.receive(&next(2), at(1)).unwrap();
        drop(registry);
        disk.power_loss(seed);
        let registry = on(&disk);
        registry.receive(&next(2), at(2)).unwrap();
        assert_eq!(served(&registry), Some(2), "call {call}, seed {seed}: the same again confirmed another content");
    }
}

#[test]
fn a_lost_ledger_forgets_no_serial() {
    let disk = Memory::default();
    on(&disk).receive(&Envelope::new(variant(1), 10).to_bytes(), at(0)).unwrap();
    ["STATE", "STATE-COPY"].iter().for_each(|name| disk.corrupt(name, b"gone"));
    let registry = on(&disk);
    for (serial, code) in [(9, Code::Replayed), (10, Code::Equivocation)] {
        let refused = registry.receive(&Envelope::new(variant(2), serial).to_bytes(), at(1)).unwrap_err();
        assert!(refused.has(code), "{serial}: {refused}");
    }
}

#[test]
fn a_write_that_failed_leaves_no_file_on_a_full_disk() {
    let disk = Memory::default();
    let registry = on(&disk);
    publish(&registry, tiny(1)).unwrap();
    for failing in [Failing::Full, Failing::Rename] {
        disk.fail(Some(failing));
        publish(&registry, tiny(2)).unwrap();
        disk.fail(None);
        let names = fallway::registry::store::Fs::list(&disk).unwrap();
        assert!(!names.iter().any(|name| name.starts_with("tmp-")), "{failing:?}: {names:?}");
    }
}

#[test]
fn a_reason_of_any_length_can_be_kept() {
    let disk = Memory::default();
    let registry = on(&disk);
    publish(&registry, small(Price::pico(1, 1))).unwrap();
    let long = Publication::from(small(Price::pico(100, 1))).force("é".repeat(1 << 20));
    registry.publish(&long, at(1)).unwrap();
    drop(registry);
    let registry = on(&disk);
    let history = registry.history();
    assert_eq!((history.len(), history[1].cause().chars().count()), (2, 512));
}

#[test]
fn etags_are_kept_within_reason_and_unchanged_needs_one() {
    let mut http = Http::new(());
    let answer = |status, etag: usize| Answer { status, etag: Some("e".repeat(etag)), body: Vec::new() };
    assert_eq!(http.answered(answer(304, 1)), Fetched::Failed("status 304".to_owned()));
    http.answered(answer(200, 1_025));
    assert_eq!(http.etag(), None);
    http.answered(answer(200, 1_024));
    assert_eq!(http.etag().map(str::len), Some(1_024));
    assert_eq!(http.answered(answer(304, 1)), Fetched::Unchanged);
}

#[test]
fn lists_tell_tiers_windows_caches_and_ends() {
    let list = br#"{
        "tiered": {"mode": "chat", "tiered_pricing": [
            {"range": [0, 256000.0], "input_cost_per_token": 5e-8, "output_cost_per_token": 4e-7},
            {"range": [256000.0, 1000000.0], "input_cost_per_token": 2.5e-7, "output_cost_per_token": 2e-6}]},
        "output": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "output_cost_per_token_above_200k_tokens": 3e-6},
        "cache": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "cache_read_input_token_cost": 5e-6},
        "long": {"mode": "chat", "max_input_tokens": 4096, "max_output_tokens": 8192}
    }"#;
    let import = litellm(list).unwrap();
    assert_eq!(import.rejected(), []);
    let found = |name: &str| import.catalog().find(&format!("{name}@listed")).unwrap();
    let tiers = |name: &str| -> Vec<_> {
        let price = found(name).known_price().unwrap();
        price.tiers().map(|(above, price)| (above, price.input(), price.output())).collect()
    };
    assert_eq!(tiers("tiered"), [(0, 50_000, 400_000), (256_000, 250_000, 2_000_000)]);
    assert_eq!(tiers("output"), [(0, 1_000_000, 2_000_000), (200_000, 1_000_000, 3_000_000)]);
    assert_eq!(found("cache").known_price().unwrap().cached_input(), 1_000_000, "never dearer than what is not cached");
    assert_eq!((found("long").context_limit(), found("long").output_limit()), (Some(8_192), Some(8_192)));
    let import = models_dev(br#"{"a": {"models": {"m": {"status": "deprecated"}, "n": {}}}}"#).unwrap();
    let state = |name: &str| import.catalog().find(name).unwrap().state();
    assert_eq!((state("a/m@listed"), state("a/n@listed")), (State::Deprecated, State::Live));
}

#[test]
fn what_rounding_leaves_over_goes_to_the_last() {
    let registry = registry();
    let three = Alias::split([("llama-70b@3", 3_333), ("llama-8b@1", 3_333), ("llama-70b@4", 3_334)]);
    publish(&registry, catalog().alias("chat", three)).unwrap();
    registry.set_canary("chat", "llama-70b@4", 1, at(1)).unwrap();
    let view = registry.view();
    let targets = view.snapshot().catalog().aliases()["chat"].targets();
    let shares: Vec<_> = targets.iter().map(|(name, share)| (&**name, *share)).collect();
    assert_eq!(shares, [("llama-70b@4", 1), ("llama-70b@3", 4_999), ("llama-8b@1", 5_000)]);
}

#[test]
fn a_version_beyond_its_sunset_is_a_warning() {
    let registry = registry();
    registry.deprecate("llama-70b@3", at(100), None, at(0)).unwrap();
    let due = |seconds: u64| {
        let review = registry.validate(&Patch::new().into(), at(seconds)).unwrap();
        review.warnings().iter().any(|it| it.code() == Code::SunsetDue)
    };
    assert_eq!((due(99), due(100)), (false, true));
}

#[test]
fn a_placement_that_comes_back_is_not_cold_from_its_first_life() {
    let registry = registry();
    let put = || Patch::new().put(Catalog::new().placement("new", Placement::new("llama-70b@3", "acme", "r", "n")));
    registry.publish(&Publication::from(put()).cold(["new"]), at(0)).unwrap();
    let weight = || {
        let found = registry.resolve("llama-70b@3", Keys::seed(0)).unwrap();
        found.placements().iter().find(|place| place.id() == "new").map(|place| place.placement().relative_weight())
    };
    assert_eq!(weight(), Some(0));
    registry.publish(&Patch::new().remove_placement("new").into(), at(1)).unwrap();
    registry.publish(&put().into(), at(2)).unwrap();
    assert_eq!(weight(), Some(100));
}

#[test]
fn a_subscriber_who_sleeps_misses_the_oldest_and_is_told() {
    let registry = registry();
    let mut news = registry.subscribe();
    for n in 1..=100 {
        publish(&registry, variant(n)).unwrap();
    }
    let generations: Vec<_> = news.by_ref().map(|change| change.generation()).collect();
    assert_eq!((generations.len(), generations[0], generations[63], news.missed()), (64, 38, 101, 36));
}

#[test]
fn an_alias_of_an_alias_follows_the_pin_and_the_chain_of_the_inner_one() {
    let registry = registry();
    publish(&registry, catalog().alias("outer", Alias::to("chat"))).unwrap();
    registry.pin("chat", "llama-70b@4", at(100), at(0)).unwrap();
    for seed in 0..50 {
        let found = registry.resolve("outer", Keys::seed(seed)).unwrap();
        assert_eq!(found.version(), "llama-70b@4");
        assert_eq!(found.fallback().collect::<Vec<_>>(), ["small"]);
        assert!(found.provenance(at(0)).pinned);
    }
    let own = catalog().alias("outer", Alias::to("chat").fallback(["llama-8b@1"]));
    publish(&registry, own).unwrap();
    let found = registry.resolve("outer", Keys::seed(0)).unwrap();
    assert_eq!(found.fallback().collect::<Vec<_>>(), ["llama-8b@1"], "the first on the way that has one");
}

#[test]
fn placements_stand_by_priority_and_not_by_name() {
    let registry = registry();
    let at_rank = |endpoint: &str, rank| Placement::new("llama-8b@1", "acme", "eu-west", endpoint).priority(rank);
    let ranked = Catalog::new().placement("a-last", at_rank("x", 9)).placement("z-second", at_rank("y", 1));
    registry.publish(&Patch::new().put(ranked).into(), at(0)).unwrap();
    let found = registry.resolve("small", Keys::seed(0)).unwrap();
    let ids: Vec<_> = found.placements().iter().map(|place| place.id()).collect();
    assert_eq!(ids, ["eu-s", "z-second", "a-last"]);
}
