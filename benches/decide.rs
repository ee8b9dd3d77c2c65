//! What a decision costs: each leaf and the full stack, over 8 to 10,000 backends, on one and two threads, beside a
//! hand-written pick of the better of two as the floor.
//!
//! `cargo bench --bench decide` prints a table of nanoseconds per decision (the fastest of several rounds, which is
//! what a noisy machine can tell), the ratios that are promised, and allocations per decision. It exits with 1 when
//! a ratio is missed.

#[path = "shared/counting.rs"]
mod counting;

use fallway::backend::{BackendError, backend_fn};
use fallway::facts::Adaptive;
use fallway::policy::{
    Budgets, Capacity, FailSafe, PolicyExt, Regions, RoutingPolicy, cheapest, least_loaded, ordered, power_of_two,
    predicted_ttft, round_robin, sticky, weighted,
};
use fallway::signal::{LoadReport, LoadReports, Manual, Probes, Probing, SuccessRate};
use fallway::time::Clock;
use fallway::{CallOptions, Decision, Facts, Profile, Router};
use rand::RngExt;
use std::hint::{black_box, select_unpredictable};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const SIZES: [usize; 4] = [8, 64, 1_000, 10_000];

/// With `signals`, everything that can say something of a backend is connected and has said that all is well. With
/// `learned`, the backends' limits are.
fn router(policy: impl RoutingPolicy + 'static, signals: bool, learned: bool, backends: usize) -> Router<str, ()> {
    let mut builder = Router::<str, ()>::builder(policy);
    let probes = Arc::new(Probes::new(Probing::default()).expect("the default is valid"));
    let reports = Arc::new(LoadReports::default());
    if signals {
        builder = builder.signal(SuccessRate::default()).signal(probes.clone());
        builder = builder.load_reports(reports.clone()).signal(Manual::default());
    }
    for index in 0..backends {
        let profile = Profile::new(format!("backend-{index}"))
            .model("llama-70b@3")
            .region(["eu", "us", "ap"][index % 3])
            .concurrency(64)
            .weight(1.0 + (index % 3) as f64);
        let profile = if learned { profile.adaptive_concurrency(Adaptive::Aimd) } else { profile };
        builder = builder.backend(profile, backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) }));
    }
    let router = builder.build().expect("the bench's fleet is valid");
    // Let every backend be known, as in a running service.
    for _ in 0..backends * 4 {
        drop(futures::executor::block_on(router.call("", options())));
    }
    for index in (0..backends).filter(|_| signals) {
        let (id, now) = (router.backend_id(&format!("backend-{index}")).expect("it was added"), Clock.now());
        (0..5).for_each(|_| probes.report(id, Ok(()), now));
        reports.report(id, LoadReport::from_vllm("vllm:num_requests_waiting 3\nvllm:kv_cache_usage_perc 0.3"), now);
    }
    router
}

fn options() -> CallOptions {
    CallOptions::within(Duration::from_secs(8)).facts(Facts::model("llama-70b").prompt_tokens(900).session("s-1"))
}

/// Decides over and over, as requests arrive: time and seed move on. The records are kept, the last sixteen.
struct Decisions<'r> {
    router: &'r Router<str, ()>,
    kept: Vec<Decision>,
    count: u64,
    now: u64,
}

impl<'r> Decisions<'r> {
    fn new(router: &'r Router<str, ()>, options: &CallOptions) -> Self {
        let kept: Vec<_> = (0..16).map(|_| router.explain(options)).collect();
        let now = kept[0].time().as_nanos();
        Self { router, kept, count: 0, now }
    }

    fn next(&mut self) {
        self.count += 1;
        let decision = &mut self.kept[self.count as usize % 16];
        self.router.decide(decision, fallway::time::Instant::from_nanos(self.now + self.count), self.count);
        black_box(decision.chosen());
    }
}

/// Nanoseconds per call of `decide`, the fastest of several rounds.
fn nanos(mut decide: impl FnMut()) -> f64 {
    let mut calls = 64u32;
    loop {
        let started = Instant::now();
        for _ in 0..calls {
            decide();
        }
        if started.elapsed() > Duration::from_millis(4) {
            break;
        }
        calls *= 2;
    }
    let round = |_| {
        let started = Instant::now();
        for _ in 0..calls {
            decide();
        }
        started.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    (0..12).map(round).fold(f64::INFINITY, f64::min)
}

fn allocations(mut decide: impl FnMut()) -> f64 {
    decide();
    let before = counting::allocations();
    for _ in 0..1_000 {
        decide();
    }
    (counting::allocations() - before) as f64 / 1_000.0
}

/// Decisions per second of `threads` threads together, the best of several rounds.
fn throughput(router: &Router<str, ()>, threads: usize) -> f64 {
    let round = |_| {
        let barrier = Barrier::new(threads);
        let total = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut decisions = Decisions::new(router, &options());
                    barrier.wait();
                    let started = Instant::now();
                    let mut count = 0u64;
                    while started.elapsed() < Duration::from_millis(40) {
                        for _ in 0..256 {
                            decisions.next();
                        }
                        count += 256;
                    }
                    let rate = count as f64 / started.elapsed().as_secs_f64();
                    total.fetch_add(rate as u64, Ordering::Relaxed);
                });
            }
        });
        total.into_inner() as f64
    };
    (0..6).map(round).fold(0.0, f64::max)
}

/// What one backend's cost is made of, in the floor.
#[derive(Default)]
struct Books {
    in_flight: AtomicU32,
    oldest_wait: AtomicU64,
    peak: AtomicU64,
}

impl Books {
    /// The cost that `power_of_two` compares.
    fn cost(&self, now: u64) -> u64 {
        let oldest = self.oldest_wait.load(Ordering::Relaxed);
        let age = if oldest == 0 { 0 } else { now.saturating_sub(oldest) };
        let calls = u64::from(self.in_flight.load(Ordering::Relaxed)) + 1;
        self.peak.load(Ordering::Relaxed).max(age).saturating_mul(calls)
    }
}

/// What a service would write by hand: two distinct draws from the thread's generator, the better of two by `better`
/// as an index. No clock, no model lookup, no limits, no health, no record.
fn floor(better: impl Fn(&[Arc<Books>], usize, usize, u64) -> usize) -> f64 {
    let book = |index: u64| Books { peak: AtomicU64::new(1_000 + index * 7_919 % 13), ..Books::default() };
    let books: Vec<_> = (0..8).map(|index| Arc::new(book(index))).collect();
    let mut now = 0;
    nanos(|| {
        now += 1;
        let mut rng = rand::rng();
        let first = rng.random_range(0..books.len());
        let second = (first + rng.random_range(1..books.len())) % books.len();
        black_box(better(&books, first, second, now));
    })
}

/// By calls in flight alone.
fn fewer_calls(books: &[Arc<Books>], first: usize, second: usize, _: u64) -> usize {
    let load = |index: usize| books[index].in_flight.load(Ordering::Relaxed);
    select_unpredictable(load(first) <= load(second), first, second)
}

/// By the cost that `power_of_two` compares.
fn lower_cost(books: &[Arc<Books>], first: usize, second: usize, now: u64) -> usize {
    select_unpredictable(books[first].cost(now) <= books[second].cost(now), first, second)
}

fn main() {
    let (counters, floor) = (floor(fewer_calls), floor(lower_cost));
    println!(
        "Floor, the better of two out of 8 backends by hand, by the cost that `power_of_two` compares: {floor:.1} ns"
    );
    println!("(by calls in flight alone: {counters:.1} ns).\n");
    println!("Nanoseconds per decision; `explain` adds the clock, a seed and a new record.\n");
    println!(
        "| policy | 8 | 64 | 1,000 | 10,000 | 8: x floor | 10,000 / 64 | 2 threads / 1 | allocations | explain, 8 |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    type Make = fn() -> Box<dyn RoutingPolicy>;
    const WITHOUT: &str = "full stack";
    const WITH: &str = "full stack, regions, signals";
    const CAPACITY: &str = "full stack, capacity";
    let policies: [(&str, Make); 14] = [
        ("ordered", || ordered().boxed()),
        ("round_robin", || round_robin().boxed()),
        ("weighted", || weighted().boxed()),
        ("least_loaded", || least_loaded().boxed()),
        ("power_of_two", || power_of_two().boxed()),
        ("predicted_ttft", || predicted_ttft().boxed()),
        ("cheapest", || cheapest().boxed()),
        ("sticky", || sticky().boxed()),
        (WITHOUT, || predicted_ttft().fail_safe(FailSafe::default()).boxed()),
        ("full stack, regions", || {
            predicted_ttft().region_failover(Regions::new("eu").then("us")).fail_safe(FailSafe::default()).boxed()
        }),
        (WITH, || {
            predicted_ttft().region_failover(Regions::new("eu").then("us")).fail_safe(FailSafe::default()).boxed()
        }),
        (CAPACITY, || predicted_ttft().capacity_aware(Capacity::default()).fail_safe(FailSafe::default()).boxed()),
        ("full stack, budgeted", || {
            predicted_ttft().budgeted(Budgets::default()).fail_safe(FailSafe::default()).boxed()
        }),
        ("full stack, boxed twice", || predicted_ttft().boxed().fail_safe(FailSafe::default()).boxed()),
    ];
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut missed = Vec::new();
    let mut without = f64::INFINITY;
    for (name, make) in policies.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| name.contains(&**only)))
    {
        let options = options();
        let (mut costs, mut explained) = (Vec::new(), Vec::new());
        let mut allocated = 0f64;
        let mut scaling = 0.0;
        for size in SIZES {
            let router = router(make(), name == WITH || name == CAPACITY, name == CAPACITY, size);
            let mut decisions = Decisions::new(&router, &options);
            costs.push(nanos(|| decisions.next()));
            allocated = allocated.max(allocations(|| decisions.next()));
            explained.push(nanos(|| drop(black_box(router.explain(&options)))));
            allocated = allocated.max(allocations(|| drop(black_box(router.explain(&options)))));
            if size == 8 {
                scaling = throughput(&router, 2) / throughput(&router, 1);
            }
        }
        let (times_floor, growth) = (costs[0] / floor, costs[3] / costs[1]);
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {times_floor:.1} | {growth:.2} | {scaling:.2} | {allocated:.3} | {:.0} |",
            costs[0], costs[1], costs[2], costs[3], explained[0]
        );
        match name {
            WITHOUT => without = costs[0],
            WITH | CAPACITY if costs[0] > without * 1.4 => {
                missed.push(format!("{name}: {:.2} x the stack without, promised 1.4", costs[0] / without));
            }
            _ => {}
        }
        let limit = match name {
            "power_of_two" => 6.0,
            WITHOUT | "full stack, boxed twice" => 20.0,
            _ => f64::INFINITY,
        };
        for (what, bad) in [
            (format!("{times_floor:.1} x the floor, promised {limit}"), times_floor > limit),
            (format!("grows {growth:.2} x from 64 to 10,000, promised 3"), growth > 3.0),
            (format!("{scaling:.2} x with two threads, promised 1.6"), scaling < 1.6),
            (format!("{allocated} allocations, promised 0"), allocated > 0.0),
        ] {
            if bad {
                missed.push(format!("{name}: {what}"));
            }
        }
    }
    for miss in &missed {
        println!("MISSED {miss}");
    }
    std::process::exit(i32::from(!missed.is_empty()));
}
