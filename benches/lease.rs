//! What it costs to take a lease of a backend's limits and to give it back, on one thread and on two at one backend, beside one
//! atomic increment that the threads share; and what a request that is called costs in all beyond its decision.
//!
//! `cargo bench --bench lease` prints nanoseconds and whether what is promised holds; it exits
//! with 1 when it does not. Promised is the lease of what is in flight: a slot, the work that waits, the bounds of tokens. The
//! last rows are everything that a router does for an attempt: the request's budget, its ledger, permits, events.

use fallway::backend::{BackendError, backend_fn};
use fallway::facts::Adaptive;
use fallway::limit::bare::Bare;
use fallway::limit::{Bulkheads, Share};
use fallway::policy::ordered;
use fallway::recover::Ejection;
use fallway::router::Step;
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Facts, Profile, Router};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What to take a lease and to give it back may cost on one thread, in nanoseconds, and how much more on two at one backend.
const ALONE: f64 = 30.0;
const BESIDE: f64 = 3.0;

/// For so many of the limits.
const PROMISED: usize = 2;

/// A round takes so long, and looks at the time after so many calls.
const ROUND: Duration = Duration::from_millis(10);
const CALLS: u32 = 1_000;
const ROUNDS: usize = 25;

/// Nanoseconds per call of what `make` makes, on so many threads at once, by the slowest thread: of one thread the fastest
/// round. Of two the median, for in the fastest they missed each other.
fn nanos<F: FnMut(), M: Fn() -> F + Sync>(threads: usize, make: M) -> f64 {
    let round = |_| {
        let ready = AtomicUsize::new(0);
        let slowest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut call = make();
                    let mut calls = 0;
                    (0..CALLS).for_each(|_| call());
                    ready.fetch_add(1, Ordering::SeqCst);
                    // A thread that sleeps here is late.
                    while ready.load(Ordering::SeqCst) < threads {
                        std::hint::spin_loop();
                    }
                    let started = std::time::Instant::now();
                    let took = loop {
                        (0..CALLS).for_each(|_| call());
                        calls += u64::from(CALLS);
                        let took = started.elapsed();
                        if took >= ROUND {
                            break took;
                        }
                    };
                    slowest.fetch_max(took.as_nanos() as u64 * 1000 / calls, Ordering::Relaxed);
                });
            }
        });
        slowest.into_inner()
    };
    let mut rounds: Vec<_> = (0..ROUNDS).map(round).collect();
    rounds.sort_unstable();
    rounds[if threads == 1 { 0 } else { ROUNDS / 2 }] as f64 / 1000.0
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
    let slots = || Profile::new("a").concurrency(64);
    let bounded = || slots().max_prefill_tokens(100_000).max_total_tokens(400_000);
    let metered = || bounded().requests_per_minute(1_000_000_000).tokens_per_minute(1_000_000_000_000);
    let limits = [
        ("slot and work", slots(), None),
        ("slot and work, bounds of tokens", bounded(), None),
        ("the same and quotas", metered(), None),
        ("the same and a tenant's share", metered(), Some(Bulkheads::of(64, Share::at_most(64)))),
    ];
    let mut promises = Vec::new();
    for (number, (name, profile, tenants)) in limits.into_iter().enumerate() {
        let limits = Bare::new(&profile, tenants);
        let taken = [1, 2].map(|threads| {
            nanos(threads, || {
                let (mut time, limits, facts) = (Clock.now().as_nanos(), &limits, &facts);
                move || {
                    time += 1_000;
                    limits.give_back(black_box(limits.take(facts, Instant::from_nanos(time))), 900);
                }
            })
        });
        row(name, taken);
        if number < PROMISED {
            let [one, two] = taken;
            promises.push((format!("{name}: one thread, nanoseconds"), ALONE, one));
            promises.push((format!("{name}: two threads at one backend, x one"), BESIDE, two / one));
        }
    }
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
        row(&format!("beyond it: called and given up, limit {name}"), beyond(called(false)));
        row(&format!("beyond it: called, answered and learned from, limit {name}"), beyond(called(true)));
    }
    println!("\n| lease taken and given back | promised | measured | |");
    println!("| --- | ---: | ---: | --- |");
    let missed = |(_, limit, measured): &(String, f64, f64)| measured > limit;
    for promise in &promises {
        let (name, limit, measured) = promise;
        println!("| {name} | {limit:.0} | {measured:.1} | {} |", if missed(promise) { "MISSED" } else { "holds" });
    }
    std::process::exit(i32::from(promises.iter().any(missed)));
}
