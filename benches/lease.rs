//! What it costs to take a backend's slot and to give it back, on one thread and on two at one backend, beside one
//! atomic increment that the threads share.
//!
//! `cargo bench --bench lease` prints nanoseconds, the fastest of several rounds, and whether what is promised holds; it exits
//! with 1 when it does not. A lease is taken with a decision, so it is measured as what a request that is called and given up
//! costs more than its decision alone: that includes the request's budget, its attempt and its ledger.

use fallway::backend::{BackendError, backend_fn};
use fallway::facts::Adaptive;
use fallway::policy::ordered;
use fallway::recover::Ejection;
use fallway::router::Step;
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Facts, Profile, Router};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

/// What to take a lease and to give it back may cost on one thread, in nanoseconds, and how much more on two at one backend.
const ALONE: f64 = 30.0;
const BESIDE: f64 = 3.0;

const CALLS: u32 = 20_000;
const ROUNDS: u32 = 24;

/// Nanoseconds per call of what `make` makes, on so many threads at once: the fastest round of the slowest thread.
fn nanos<F: FnMut(), M: Fn() -> F + Sync>(threads: usize, make: M) -> f64 {
    let round = |_| {
        let barrier = Barrier::new(threads);
        let slowest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut call = make();
                    (0..CALLS / 10).for_each(|_| call());
                    barrier.wait();
                    let started = std::time::Instant::now();
                    (0..CALLS).for_each(|_| call());
                    slowest.fetch_max(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
                });
            }
        });
        slowest.into_inner() as f64 / f64::from(CALLS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn router(adaptive: bool) -> Router<str, ()> {
    let profile = Profile::new("a").concurrency(64);
    let profile = if adaptive { profile.adaptive_concurrency(Adaptive::Aimd) } else { profile };
    let backend = backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let builder = Router::builder(ordered()).backend(profile, backend).seed(1).ejection(Ejection::off());
    builder.build().expect("the bench's fleet is valid")
}

fn main() {
    let facts = Arc::new(Facts::any().prompt_tokens(900));
    let options = || CallOptions::new(facts.clone());
    println!("Nanoseconds; two threads share one backend.\n");
    println!("| | 1 thread | 2 threads | 2 / 1 |");
    println!("| --- | ---: | ---: | ---: |");
    let row = |name: &str, [one, two]: [f64; 2]| println!("| {name} | {one:.0} | {two:.0} | {:.1} |", two / one);
    let counter = AtomicU64::new(0);
    let increment = [1, 2].map(|threads| {
        nanos(threads, || {
            || {
                black_box(counter.fetch_add(1, Ordering::Relaxed));
            }
        })
    });
    row("one shared atomic increment", increment);
    let mut promises = Vec::new();
    for (name, adaptive) in [("given", false), ("learned", true)] {
        let router = router(adaptive);
        let now = Clock.now();
        let decided = [1, 2].map(|threads| nanos(threads, || || drop(black_box(router.explain(&options())))));
        let called = |finish: bool| {
            [1, 2].map(|threads| {
                nanos(threads, || {
                    let mut time = now.as_nanos();
                    let (router, options) = (&router, &options);
                    move || {
                        time += 1_000;
                        let now = Instant::from_nanos(time);
                        let mut trip = router.trip(options(), now);
                        assert!(matches!(trip.next(now), Ok(Step::Call(_))));
                        if finish {
                            trip.answered(1, now);
                            trip.finish(now);
                        }
                        drop(black_box(trip));
                    }
                })
            })
        };
        let beyond = |called: [f64; 2]| [called[0] - decided[0], called[1] - decided[1]];
        row(&format!("a decision, limit {name}"), decided);
        let [one, two] = beyond(called(false));
        row(&format!("lease taken and given up, limit {name}"), [one, two]);
        row(&format!("lease taken, answered and learned from, limit {name}"), beyond(called(true)));
        promises.push((format!("one thread, limit {name}, in nanoseconds"), ALONE, one));
        promises.push((format!("two threads at one backend, limit {name}, x one"), BESIDE, two / one));
        promises.push((format!("one thread, limit {name}, x an increment"), f64::INFINITY, one / increment[0]));
    }
    println!("\n| lease taken and given up | promised | measured | |");
    println!("| --- | ---: | ---: | --- |");
    let missed = |(_, limit, measured): &(String, f64, f64)| measured > limit;
    for promise in &promises {
        let (name, limit, measured) = promise;
        let verdict = if missed(promise) { "MISSED" } else { "holds" };
        match limit.is_finite() {
            true => println!("| {name} | {limit:.0} | {measured:.1} | {verdict} |"),
            false => println!("| {name} | | {measured:.1} | |"),
        }
    }
    std::process::exit(i32::from(promises.iter().any(missed)));
}
