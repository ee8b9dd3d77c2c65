//! What a resolution costs: alias to version to placements over 600 models, at rest and with a swap every millisecond,
//! beside an `ArcSwap::load` and a hash lookup as the floor; and what it adds to a decision.
//!
//! `cargo bench --bench registry` prints nanoseconds (the fastest of several rounds) and allocations of each. It
//! exits with 1 when a promise is missed: 150 ns and six times the floor for a resolution, no allocation anywhere.

#[path = "shared/counting.rs"]
mod counting;

use arc_swap::ArcSwap;
use fallway::backend::{Attempt, BackendError, backend_fn};
use fallway::facts::Price;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::registry::{Alias, Catalog, Keys, ModelVersion, Placement, Publication, Registry, State};
use fallway::router::Builder;
use fallway::time::Clock;
use fallway::{CallOptions, Facts, Profile, Router};
use rustc_hash::FxHashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

const MODELS: usize = 600;
const ROUNDS: usize = 20;
const CALLS: usize = 100_000;

fn catalog(price: u64) -> Catalog {
    let mut catalog = Catalog::new();
    for n in 0..MODELS {
        let version =
            |state| ModelVersion::new(state).context(131_072).price(Price::pico(1_000_000 + price, 1_000_000));
        catalog = catalog
            .version(format!("provider/model-{n}"), "1", version(State::Live))
            .version(format!("provider/model-{n}"), "2", version(State::Canary))
            .alias(
                format!("alias-{n}"),
                Alias::split([(format!("provider/model-{n}@2"), 500), (format!("provider/model-{n}@1"), 9_500)]),
            );
        for (version, region) in [(1, "eu"), (1, "us"), (2, "eu")] {
            let placement = Placement::new(format!("provider/model-{n}@{version}"), "p", region, format!("e{n}"));
            catalog = catalog.placement(format!("{region}-{version}-{n}"), placement);
        }
    }
    catalog
}

/// Nanoseconds of a call, the fastest of several rounds, and allocations of all of them.
fn measure(mut call: impl FnMut(usize)) -> (f64, u64) {
    (0..CALLS).for_each(&mut call);
    let before = counting::allocations();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..CALLS).for_each(&mut call);
        best = best.min(start.elapsed().as_nanos() as f64 / CALLS as f64);
    }
    (best, counting::allocations() - before)
}

/// A decision of the usual stack over eight backends of each version of a model.
fn decisions(model: &str, registry: Option<Registry>) -> (f64, u64) {
    let mut builder = Router::<str, ()>::builder(predicted_ttft().fail_safe(FailSafe::default()));
    for version in ["provider/model-7@1", "provider/model-7@2"] {
        for n in 0..8 {
            let backend = backend_fn(|_: &str, _: &Attempt| async { Ok::<_, BackendError>(()) });
            builder = builder.backend(Profile::new(format!("{version}-{n}")).model(version), backend);
        }
    }
    let builder = registry.map(Arc::new).into_iter().fold(builder, Builder::registry);
    let router = builder.build().expect("the bench's fleet is valid");
    let facts = Facts::model(model).prompt_tokens(100).session("session-1");
    let mut decision = router.explain(&CallOptions::new(facts));
    measure(|n| {
        router.decide(&mut decision, Clock.now(), n as u64);
        black_box(decision.next());
    })
}

fn main() {
    let now = SystemTime::UNIX_EPOCH;
    let registry = Registry::builder().open(now);
    registry.publish(&Publication::from(catalog(0)), now).expect("the bench's catalogue is valid");
    let names: Vec<String> = (0..MODELS).map(|n| format!("alias-{n}")).collect();

    let map: FxHashMap<Box<str>, u64> = (0..).zip(&names).map(|(n, name)| (name.as_str().into(), n)).collect();
    let map = ArcSwap::new(Arc::new(map));
    let floor = measure(|n| {
        black_box(map.load().get(names[n % MODELS].as_str()));
    });
    let resolve = |n: usize| {
        let found = registry.resolve(&names[n % MODELS], Keys::seed(n as u64).session("session-1"));
        let found = found.expect("every alias is there");
        black_box((found.version().len(), found.placements().len()));
    };
    let rest = measure(resolve);

    let (done, mut swaps) = (AtomicBool::new(false), 0u32);
    let moving = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            // Pinning swaps the whole view and publishes nothing.
            let mut swaps = 0;
            while !done.load(Ordering::Relaxed) {
                let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1 + u64::from(swaps));
                registry.pin("alias-0", "provider/model-0@1", until, now).expect("it is there");
                swaps += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            swaps
        });
        let moving = measure(resolve);
        done.store(true, Ordering::Relaxed);
        swaps += swapper.join().expect("it does not panic");
        moving
    });

    let by_name = decisions("provider/model-7@1", None);
    let by_alias = decisions("alias-7", Some(registry));

    println!("{MODELS} models, {ROUNDS} rounds of {CALLS}");
    println!("| | ns | allocations |\n| --- | ---: | ---: |");
    for (name, (nanos, allocations)) in [
        ("load and look up (floor)", floor),
        ("resolve", rest),
        ("resolve, with swaps", moving),
        ("decide among eight, by the version's name", by_name),
        ("decide among eight, by an alias of the registry", by_alias),
    ] {
        println!("| {name} | {nanos:.1} | {allocations} |");
    }
    println!("{swaps} swaps; {:.1} and {:.1} times the floor", rest.0 / floor.0, moving.0 / floor.0);
    let quick = [rest, moving].iter().all(|(nanos, _)| *nanos <= 150.0 && *nanos <= 6.0 * floor.0);
    let lean = [rest, moving, by_name, by_alias].iter().all(|(_, allocations)| *allocations == 0);
    if !(quick && lean) {
        println!("a promise was missed: 150 ns, six times the floor, no allocation");
        std::process::exit(1);
    }
}
