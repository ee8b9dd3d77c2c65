//! Writers and readers at once: no mixed generation, none that goes back, no panic.

use super::fixtures::{at, catalog, registry};
use fallway::facts::Price;
use fallway::registry::{Alias, Catalog, Keys, ModelVersion, Placement, Publication, State};
use fallway::rng::Rng;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Publications, beside a thousand times as many resolutions: the long run with `FALLWAY_PUBLISHES=10000`.
fn publishes() -> u64 {
    std::env::var("FALLWAY_PUBLISHES").ok().and_then(|many| many.parse().ok()).unwrap_or(1_000)
}

/// A catalogue in which everything says `n`: the price, the window, the region.
fn uniform(n: u64) -> Catalog {
    let version = ModelVersion::new(State::Live).context(100_000 + n).price(Price::pico(1_000_000 + n, 1_000_000));
    let place =
        |id: &str| Placement::new("llama-70b@3", "acme", format!("r{n}"), id.to_owned()).residency(["eu", "us"]);
    catalog()
        .version("llama-70b", "3", version)
        .placement("eu-3", place("eu-a"))
        .placement("us-3", place("us-a"))
        .alias("all", Alias::to("llama-70b@3"))
}

#[test]
fn readers_see_whole_generations_in_order() {
    let registry = registry();
    registry.publish(&Publication::from(uniform(0)).force("start"), at(0)).unwrap();
    let (done, taken, refused, read) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let total = publishes();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|seed| {
                let (registry, taken, refused) = (&registry, &taken, &refused);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for _ in 0..total / 4 {
                        let next = uniform(rng.below(1_000) as u64);
                        let publication = match rng.below(4) {
                            0 => Publication::from(next.alias("chat", Alias::to("nobody"))),
                            1 => Publication::from(next).expect_generation(rng.below(3) as u64),
                            2 => {
                                Publication::from(next.alias("all", Alias::split([("llama-70b@3", 9_999)]))).force("x")
                            }
                            _ => Publication::from(next).force("x"),
                        };
                        let counter = if registry.publish(&publication, at(0)).is_ok() { taken } else { refused };
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for seed in 0..8 {
            let (registry, done, read) = (&registry, &done, &read);
            scope.spawn(move || {
                let (mut last, mut count) = (0, 0);
                while !done.load(Ordering::Relaxed) || count < total * 125 {
                    let found = registry.resolve("all", Keys::seed(seed + count)).unwrap();
                    let n = found.facts().context_limit().unwrap() - 100_000;
                    assert_eq!(found.facts().known_price().unwrap().input(), 1_000_000 + n, "mixed");
                    assert_eq!(found.placements().len(), 2);
                    for place in found.placements() {
                        assert_eq!(
                            place.placement().region().strip_prefix('r').and_then(|r| r.parse().ok()),
                            Some(n),
                            "mixed"
                        );
                    }
                    let generation = found.view().generation();
                    assert!(generation >= last, "{generation} after {last}");
                    (last, count) = (generation, count + 1);
                }
                read.fetch_add(count, Ordering::Relaxed);
            });
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let [taken, refused, read] = [taken, refused, read].map(AtomicU64::into_inner);
    println!("{taken} publications taken, {refused} refused, {read} resolutions");
    assert_eq!(taken + refused, total / 4 * 4);
    assert!(taken > total / 8 && refused > total / 4, "{taken} {refused}");
    assert!(read >= total * 1_000);
}
