//! A small catalogue, and registries that have it.

use fallway::facts::{Capabilities, Price};
use fallway::registry::store::{Memory, Store};
use fallway::registry::{Alias, Catalog, Code, ModelVersion, Nack, Placement, Publication, Registry, State};
use std::time::{Duration, SystemTime};

/// Seconds after a day in 2026.
pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
}

/// Two versions of a large model, of which the newer has a twentieth, and a small one that stands in.
pub(super) fn catalog() -> Catalog {
    let large = |state| {
        ModelVersion::new(state)
            .context(131_072)
            .output(8_192)
            .price(Price::pico(590_000, 790_000))
            .capabilities(Capabilities::TOOLS)
    };
    let small = ModelVersion::new(State::Live).context(32_768).price(Price::pico(50_000, 80_000));
    Catalog::new()
        .version("llama-70b", "3", large(State::Live))
        .version("llama-70b", "4", large(State::Canary))
        .version("llama-8b", "1", small)
        .placement("eu-3", Placement::new("llama-70b@3", "acme", "eu-west", "eu-a").residency(["eu"]))
        .placement("us-3", Placement::new("llama-70b@3", "acme", "us-east", "us-a").residency(["us"]).priority(1))
        .placement("eu-4", Placement::new("llama-70b@4", "acme", "eu-west", "eu-b").residency(["eu"]))
        .placement("eu-s", Placement::new("llama-8b@1", "acme", "eu-west", "eu-c").residency(["eu"]))
        .alias("chat", Alias::split([("llama-70b@4", 500), ("llama-70b@3", 9_500)]).fallback(["small"]))
        .alias("small", Alias::to("llama-8b@1"))
}

/// The same with another price of the small model, to tell one from the other.
pub(super) fn variant(price: u64) -> Catalog {
    let small = ModelVersion::new(State::Live).context(32_768).price(Price::pico(50_000 + price, 80_000));
    catalog().version("llama-8b", "1", small)
}

/// As small as a catalogue can be, for tests that go through thousands of it; with a window to tell one from the other.
pub(super) fn tiny(context: u64) -> Catalog {
    Catalog::new()
        .version("m", "1", ModelVersion::new(State::Live).context(context))
        .placement("p", Placement::new("m@1", "a", "b", "c"))
        .alias("x", Alias::to("m@1"))
}

/// The window of the tiny catalogue that a registry serves.
pub(super) fn window(registry: &Registry) -> Option<u64> {
    registry.view().snapshot().catalog().find("m@1")?.context_limit()
}

/// The variant that a registry serves; none where it serves nothing.
pub(super) fn served(registry: &Registry) -> Option<u64> {
    let view = registry.view();
    let version = view.snapshot().catalog().find("llama-8b@1")?;
    Some(version.known_price().unwrap().input() - 50_000)
}

/// In memory, with the catalogue published.
pub(super) fn registry() -> Registry {
    let registry = Registry::builder().open(at(0));
    registry.publish(&Publication::from(catalog()), at(0)).unwrap();
    registry
}

/// On `disk`.
pub(super) fn on(disk: &Memory) -> Registry {
    Registry::builder().store(Store::open(disk.clone()).unwrap()).open(at(0))
}

pub(super) fn publish(registry: &Registry, catalog: Catalog) -> Result<u64, Nack> {
    registry.publish(&Publication::from(catalog), at(0)).map(|ack| ack.generation())
}

/// The codes and places of what was found.
pub(super) fn codes(nack: &Nack) -> Vec<(Code, String)> {
    nack.violations().iter().map(|violation| (violation.code(), violation.path().to_string())).collect()
}
