//! What a decision and a call allocate, counted.

// A test may unwrap: that is how it fails.
#![allow(clippy::unwrap_used)]

#[path = "../benches/counting/mod.rs"]
mod counting;

use fallway::backend::{Attempt, Backend, BackendError, FailureKind, StreamItem};
use fallway::budget::Hedge;
use fallway::decision::Hedged;
use fallway::facts::{Prefix, Price};
use fallway::policy::{
    Budgets, Capacity, FailSafe, PolicyExt, RoutingPolicy, cheapest, least_loaded, ordered, power_of_two,
    predicted_ttft, round_robin, sticky, weighted,
};
use fallway::router::{Interrupted, Piece, Resume, Step};
use fallway::shape::{RateLimit, SpendLimit, Split};
use fallway::signal::{
    HealthSignal, HealthSignalExt, LoadReport, LoadReports, Manual, Probes, Probing, Quorum, Score, SuccessRate,
};
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Decision, Facts, Profile, Router};
use futures::executor::block_on;
use futures::{Stream, StreamExt};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Allocations of each of `rounds` rounds of work, together.
fn allocations(rounds: u32, mut work: impl FnMut()) -> u64 {
    let before = counting::allocations();
    (0..rounds).for_each(|_| work());
    counting::allocations() - before
}

/// A boxed backend that answers at once, or fails at once.
struct Nothing(Option<FailureKind>);

#[async_trait::async_trait]
impl Backend<str> for Nothing {
    type Response = ();

    async fn call(&self, _: &str, _: &Attempt) -> Result<(), BackendError> {
        self.0.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

fn router(policy: impl RoutingPolicy + 'static, backends: usize) -> Router<str, ()> {
    let mut builder = Router::<str, ()>::builder(policy);
    for n in 0..backends {
        let profile = Profile::new(format!("b{n}")).model("m@1").region(["eu", "us"][n % 2]).concurrency(64);
        let backend: Box<dyn Backend<str, Response = ()>> = Box::new(Nothing(None));
        builder = builder.backend(profile, backend);
    }
    builder.build().unwrap()
}

fn full_stack(backends: usize) -> Router<str, ()> {
    router(predicted_ttft().fail_safe(FailSafe::default().tiers("chat", ["m", "m@1"])), backends)
}

fn facts() -> Facts {
    Facts::model("chat").prompt_tokens(900).session("s").tenant("t").replay_safe()
}

/// Records that are kept, the last hundred.
const KEPT: usize = 100;

#[test]
fn a_decision_in_place_allocates_nothing() {
    for backends in [8, 64, 1_000] {
        let router = full_stack(backends);
        let options = CallOptions::within(Duration::from_secs(8)).facts(facts());
        (0..backends * 2).for_each(|_| drop(block_on(router.call("", options.clone()))));
        let mut kept: Vec<Decision> = (0..KEPT).map(|_| router.explain(&options)).collect();
        let start = kept[0].time().as_nanos();
        let mut seed = 0u64;
        let mut decide = || {
            seed += 1;
            let decision = &mut kept[seed as usize % KEPT];
            router.decide(decision, Instant::from_nanos(start + seed), seed);
            assert!(black_box(decision.chosen()).is_some());
        };
        allocations(KEPT as u32 * 2, &mut decide);
        let made = allocations(10_000, &mut decide);
        println!("decide over {backends} backends: {made} allocations in 10,000 decisions");
        assert_eq!(made, 0, "{backends} backends");
    }
}

#[test]
fn a_decision_over_quotas_allocates_nothing() {
    let mut builder = Router::<str, ()>::builder(cheapest().fail_safe(FailSafe::default()));
    for n in 0..8 {
        let profile =
            Profile::new(format!("b{n}")).requests_per_minute(600).tokens_per_minute(900 * 5 / 2 * (n % 2 + 1));
        builder = builder.backend(profile, Nothing(None));
    }
    let router = builder.build().unwrap();
    let options = CallOptions::within(Duration::from_secs(8)).facts(Facts::any().prompt_tokens(900).replay_safe());
    // Half of them are used up.
    (0..8).for_each(|_| drop(block_on(router.call("", options.clone()))));
    let mut decision = router.explain(&options);
    assert!(decision.to_string().contains("over quota"), "{decision}");
    let (start, mut seed) = (decision.time().as_nanos(), 0);
    let mut decide = || {
        seed += 1;
        router.decide(&mut decision, Instant::from_nanos(start + seed), seed);
        assert!(black_box(decision.chosen()).is_some());
    };
    allocations(100, &mut decide);
    assert_eq!(allocations(10_000, &mut decide), 0);
}

#[test]
fn a_decision_over_bounds_of_tokens_allocates_nothing() {
    let policy = least_loaded().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let mut builder = Router::<str, ()>::builder(policy);
    for n in 0..8 {
        // Half of them are full with one call.
        let profile = Profile::new(format!("b{n}")).max_prefill_tokens(1_000).max_total_tokens(2_500 * (n % 2 * 2 + 1));
        builder = builder.backend(profile, Nothing(None));
    }
    let router = builder.build().unwrap();
    let prompt = Facts::any().prompt_tokens(900).prefix(Prefix::of_hashes(100, [1, 2])).replay_safe();
    let options = CallOptions::within(Duration::from_secs(8)).facts(prompt);
    let _held: Vec<_> = (0..8).map(|_| block_on(router.call("", options.clone())).unwrap()).collect();
    let mut decision = router.explain(&options);
    assert!(decision.to_string().contains("kept for higher priorities"), "{decision}");
    let (start, mut seed) = (decision.time().as_nanos(), 0);
    let mut decide = || {
        seed += 1;
        router.decide(&mut decision, Instant::from_nanos(start + seed), seed);
        assert!(black_box(decision.chosen()).is_some());
    };
    allocations(100, &mut decide);
    assert_eq!(allocations(10_000, &mut decide), 0);
}

#[test]
fn a_decision_within_a_budget_allocates_nothing() {
    for backends in [8, 64, 1_000] {
        let budgets = Budgets::default().reserve(Duration::from_millis(500)).whole_answers();
        let fail_safe = FailSafe::default().tiers("chat", ["m", "m@1"]);
        let router = router(predicted_ttft().budgeted(budgets).fail_safe(fail_safe), backends);
        let within = |total| CallOptions::within(total).facts(facts().output_tokens(100));
        let ample = within(Duration::from_secs(8));
        (0..backends * 40).for_each(|_| drop(block_on(router.call("", ample.clone()))));
        // Enough for all, and for nobody: forecasts, the split, and what is done about too little time.
        for options in [ample, within(Duration::from_nanos(1))] {
            let mut kept: Vec<Decision> = (0..KEPT).map(|_| router.explain(&options)).collect();
            let start = kept[0].time().as_nanos();
            let mut decide = |seed: u64| {
                let decision = &mut kept[seed as usize % KEPT];
                router.decide(decision, Instant::from_nanos(start + seed), seed);
                assert!(black_box(decision.candidates().next().unwrap().spread()).is_some());
            };
            // Who is looked at depends on the seed, and so does how many: the second time each record has room for it.
            (1..=10_000).for_each(&mut decide);
            let mut seed = 0;
            let mut again = || {
                seed += 1;
                decide(seed);
            };
            assert_eq!(allocations(10_000, &mut again), 0, "{backends} backends");
        }
    }
}

#[test]
fn a_decision_about_prefixes_allocates_nothing() {
    for backends in [8, 64] {
        let router = full_stack(backends);
        let prefix = Prefix::of_hashes(512, 0..200);
        let options = CallOptions::within(Duration::from_secs(8)).facts(facts().prompt_tokens(200_000).prefix(prefix));
        (0..backends * 4).for_each(|_| drop(block_on(router.call("", options.clone()))));
        let mut kept: Vec<Decision> = (0..KEPT).map(|_| router.explain(&options)).collect();
        let start = kept[0].time().as_nanos();
        let mut seed = 0u64;
        let mut decide = || {
            seed += 1;
            let decision = &mut kept[seed as usize % KEPT];
            router.decide(decision, Instant::from_nanos(start + seed), seed);
            assert!(black_box(decision.chosen()).unwrap().cached_tokens().is_some());
        };
        allocations(KEPT as u32 * 2, &mut decide);
        assert_eq!(allocations(10_000, &mut decide), 0, "{backends} backends");
    }
}

#[test]
fn explain_allocates_nothing_once_its_records_are_made() {
    // A new record takes the place of the oldest, which comes back: nothing is allocated in the long run.
    for backends in [8, 64, 1_000] {
        let router = full_stack(backends);
        let options = CallOptions::within(Duration::from_secs(8)).facts(facts());
        let mut kept: Vec<Decision> = (0..KEPT).map(|_| router.explain(&options)).collect();
        let mut next = 0;
        let mut explain = || {
            next = (next + 1) % KEPT;
            kept[next] = black_box(router.explain(&options));
        };
        allocations(KEPT as u32 * 2, &mut explain);
        let made = allocations(10_000, &mut explain);
        println!("explain over {backends} backends: {made} allocations in 10,000 decisions");
        assert_eq!(made, 0, "{backends} backends");
    }
}

#[test]
fn no_leaf_allocates() {
    let leaves: [Box<dyn RoutingPolicy>; 8] = [
        ordered().boxed(),
        round_robin().boxed(),
        weighted().boxed(),
        least_loaded().boxed(),
        power_of_two().boxed(),
        predicted_ttft().boxed(),
        cheapest().boxed(),
        sticky().boxed(),
    ];
    for leaf in leaves {
        let name = leaf.name();
        let router = router(leaf, 64);
        let options = CallOptions::new(Facts::model("m").prompt_tokens(900).session("s"));
        let mut explain = || drop(black_box(router.explain(&options)));
        allocations(100, &mut explain);
        assert_eq!(allocations(1_000, &mut explain), 0, "{name}");
    }
}

#[test]
fn a_split_costs_no_allocation_either() {
    let ramp = |split: Split| split.ramp("m@1", "m", 4_000, Duration::from_secs(60), Clock.now());
    let config = FailSafe::default()
        .split(ramp(Split::new("inner", [("m@1", 5_000), ("m", 5_000)])))
        .split(Split::new("chat", [("inner", 9_000), ("m", 1_000)]).sticky_by_label("user"));
    let router = router(predicted_ttft().fail_safe(config), 64);
    let options = CallOptions::within(Duration::from_secs(8)).facts(facts().label("user", "ada"));
    let mut decision = router.explain(&options);
    let (start, mut seed) = (decision.time().as_nanos(), 0u64);
    let mut decide = || {
        seed += 1;
        router.decide(&mut decision, Instant::from_nanos(start + seed), seed);
        assert!(!black_box(decision.splits()).is_empty());
    };
    allocations(100, &mut decide);
    assert_eq!(allocations(1_000, &mut decide), 0);
    let mut explain = || drop(black_box(router.explain(&options)));
    allocations(100, &mut explain);
    assert_eq!(allocations(1_000, &mut explain), 0);
}

#[test]
fn a_rate_limit_costs_no_allocation_whoever_asks() {
    let limit = RateLimit::new("tenant", 60, Duration::from_secs(60)).by_tenant().by_label("route").burst(2);
    let limit = limit.key(["t1", "chat"], 600, 10);
    let build = |limit: Option<RateLimit>| {
        let backend: Box<dyn Backend<str, Response = ()>> = Box::new(Nothing(None));
        let builder = Router::<str, ()>::builder(ordered()).backend(Profile::new("a"), backend);
        limit.into_iter().fold(builder, fallway::router::Builder::rate_limit).build().unwrap()
    };
    let facts = |n: usize| Arc::new(Facts::any().tenant(format!("t{n}")).label("route", "chat"));
    let facts: Vec<_> = (0..1_000).map(facts).collect();
    let cost = |router: &Router<str, ()>| {
        let mut n = 0;
        let mut trip = || {
            n += 1;
            let at = Instant::from_nanos(1_000_000_000_000 + n as u64);
            let _ = black_box(router.trip(CallOptions::new(facts[n % 1_000].clone()), at));
        };
        allocations(100, &mut trip);
        allocations(10_000, &mut trip)
    };
    // Most of them are refused: a thousand tenants with two tokens each.
    assert_eq!(cost(&build(Some(limit))), cost(&build(None)));
}

#[test]
fn what_a_call_may_cost_costs_no_allocation() {
    let cost = |limits: u32, capped: bool, failure: Option<FailureKind>| {
        let price = Price::pico(10, 20).above(1_000, Price::pico(20, 40)).unwrap();
        let mut builder = Router::<str, ()>::builder(ordered().fail_safe(FailSafe::default())).seed(7);
        for id in ["a", "b"] {
            let backend: Box<dyn Backend<str, Response = ()>> = Box::new(Nothing(failure));
            builder = builder.backend(Profile::new(id).price(price.clone()), backend);
        }
        let limit = |_| SpendLimit::new("tenant", 1e6, Duration::from_secs(1)).by_tenant().burst(1e6);
        let router = (0..limits).map(limit).fold(builder, fallway::router::Builder::spend_limit).build().unwrap();
        let facts = Facts::any().tenant("t").prompt_tokens(10);
        let facts = Arc::new(if capped { facts.max_cost(1_000_000).max_output_tokens(100) } else { facts });
        let mut call = || {
            let options = CallOptions::within(Duration::from_secs(8)).facts(facts.clone());
            let _ = black_box(block_on(router.call("hi", options)));
        };
        allocations(200, &mut call);
        allocations(1_000, &mut call)
    };
    let plain = cost(0, false, None);
    assert_eq!((cost(4, false, None), cost(0, true, None), cost(4, true, None)), (plain, plain, plain));
    let failing = cost(0, false, Some(FailureKind::InvalidRequest));
    assert_eq!(cost(4, true, Some(FailureKind::InvalidRequest)), failing);
}

#[test]
fn a_hard_line_and_a_refusal_cost_no_allocation_either() {
    let router = full_stack(64);
    for facts in [facts().residency(["eu"]), facts().residency(["mars"]), Facts::model("nowhere"), facts().max_cost(1)]
    {
        let options = CallOptions::new(facts);
        let mut explain = || drop(black_box(router.explain(&options)));
        allocations(100, &mut explain);
        assert_eq!(allocations(1_000, &mut explain), 0, "{:?}", router.explain(&options));
    }
}

#[test]
fn a_resolution_allocates_nothing() {
    use fallway::registry::{Alias, Catalog, Keys, ModelVersion, Placement, Publication, Registry, State};
    let now = std::time::SystemTime::UNIX_EPOCH;
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
    let mut resolve = || {
        n += 1;
        let found = registry.resolve(&names[n % 600], Keys::seed(n as u64).session("s")).unwrap();
        assert_eq!(black_box(found.placements()).len() + found.fallback().count(), 2);
        assert!(registry.resolve("nobody", Keys::seed(0)).is_err());
    };
    allocations(1_000, &mut resolve);
    assert_eq!(allocations(10_000, &mut resolve), 0);
}

/// The registry's view is swapped between decisions, which still allocate nothing.
#[test]
fn a_decision_that_resolves_allocates_nothing() {
    use fallway::registry::{Alias, Catalog, ModelVersion, Placement, Publication, Registry, State};
    let now = std::time::SystemTime::UNIX_EPOCH;
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
    let mut builder = Router::<str, ()>::builder(predicted_ttft().fail_safe(FailSafe::default()));
    for model in ["m@1", "m@2"] {
        for n in 0..32 {
            builder = builder.backend(Profile::new(format!("{model}-{n}")).model(model), Nothing(None));
        }
    }
    let router = builder.registry(registry.clone()).build().unwrap();
    let facts = Facts::model("chat").prompt_tokens(100).max_output_tokens(10).max_cost(1_000_000);
    let mut decision = router.explain(&CallOptions::new(facts));
    for round in 0..3 {
        let mut decide = |seed| {
            router.decide(&mut decision, Instant::from_nanos(1_000_000_000), seed);
            assert!(decision.chosen().is_some());
        };
        (0..500).for_each(&mut decide);
        let mut seed = 500;
        let mut next = || {
            seed += 1;
            decide(seed);
        };
        assert_eq!(allocations(1_000, &mut next), 0, "round {round}");
        registry.set_canary("chat", "m@2", 1_000 * (round + 1), now).unwrap();
    }
}

#[test]
fn a_call_to_a_boxed_backend_allocates_three_times_at_most() {
    let hedges = router(hedged(), 8);
    let stacks = [("power_of_two", router(power_of_two(), 8)), ("full stack", full_stack(8)), ("hedged", hedges)];
    for (name, router) in stacks {
        let options = CallOptions::within(Duration::from_secs(8)).facts(facts().prompt_tokens(1));
        let options = if name != "power_of_two" { options } else { options.facts(Facts::model("m").prompt_tokens(1)) };
        teach(&router, &options);
        let mut call = || {
            let answer = black_box(block_on(router.call("hi", options.clone()))).unwrap();
            assert_eq!(matches!(answer.decision().hedged(), Hedged::Due { .. }), name == "hedged");
        };
        allocations(200, &mut call);
        let made = allocations(1_000, &mut call);
        println!("a call through {name}: {:.3} allocations", made as f64 / 1_000.0);
        assert!(made > 0, "{name}: nothing was counted");
        assert!(made <= 3_000, "{name}: {made} allocations in 1,000 calls");
    }
}

/// Answers when it is polled for the second time.
struct Later;

#[async_trait::async_trait]
impl Backend<str> for Later {
    type Response = ();

    async fn call(&self, _: &str, _: &Attempt) -> Result<(), BackendError> {
        let mut polled = false;
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(())
    }
}

#[test]
fn a_call_that_waits_allocates_six_times_more_than_the_bare_one_at_most() {
    // So late that it is prepared for and never sent.
    let hedge = Hedge::default().after(Duration::from_secs(50));
    let policy = predicted_ttft().budgeted(Budgets::default().hedge(hedge)).fail_safe(FailSafe::default());
    let router = Router::<str, ()>::builder(policy).backend(Profile::new("a"), Later).backend(Profile::new("b"), Later);
    let router = router.build().unwrap();
    let options = CallOptions::within(Duration::from_secs(55)).facts(Facts::any().replay_safe());
    let mut call = || {
        let answer = black_box(block_on(router.call("hi", options.clone()))).unwrap();
        assert!(matches!(answer.decision().hedged(), Hedged::Due { .. }));
    };
    allocations(200, &mut call);
    let made = allocations(1_000, &mut call);
    println!("a call that waits: {:.3} allocations", made as f64 / 1_000.0);
    // The bare call is the box of its future. The others are the tab, the attempts and two timers: its limit, the hedge.
    assert!((1_001..=7_000).contains(&made), "{made} allocations in 1,000 calls");
}

/// A boxed backend that answers with this many items, of which every second has to be waited for if it `waits`.
struct Streams {
    items: u32,
    waits: bool,
}

struct Items {
    left: u32,
    waits: bool,
    ready: bool,
}

struct Item {
    last: bool,
}

impl StreamItem for Item {
    fn content(&self) -> u64 {
        1
    }
    fn is_last(&self) -> bool {
        self.last
    }
    fn size(&self) -> usize {
        4
    }
}

impl Stream for Items {
    type Item = Result<Item, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.waits && !std::mem::replace(&mut self.ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = false;
        self.left -= 1;
        Poll::Ready(Some(Ok(Item { last: self.left == 0 })))
    }
}

#[async_trait::async_trait]
impl Backend<str> for Streams {
    type Response = Items;

    async fn call(&self, _: &str, _: &Attempt) -> Result<Items, BackendError> {
        Ok(Items { left: self.items, waits: self.waits, ready: false })
    }
}

/// Everything that a call can have around it: budgets, hedging, attempts elsewhere.
fn hedged() -> impl RoutingPolicy + 'static {
    let fail_safe = FailSafe::default().tiers("chat", ["m", "m@1"]);
    predicted_ttft().budgeted(Budgets::default().hedge(Hedge::default())).fail_safe(fail_safe)
}

/// Many calls at a time, after which it is known of every backend when to hedge.
fn teach<Res: Send + 'static>(router: &Router<str, Res>, options: &CallOptions) {
    let (now, first) = (Clock.now(), Clock.now() + Duration::from_millis(1));
    for _ in 0..10 {
        let mut trips: Vec<_> = (0..256).map(|_| router.trip(options.clone(), now)).collect();
        trips.iter_mut().for_each(|trip| assert!(matches!(trip.next(now), Ok(Step::Call(_)))));
        for mut trip in trips {
            trip.answered(1, first);
            trip.finish(first);
        }
    }
}

fn streaming(items: u32, waits: bool) -> Router<str, Items> {
    let mut builder = Router::<str, Items>::builder(hedged());
    for n in 0..8 {
        let backend: Box<dyn Backend<str, Response = Items>> = Box::new(Streams { items, waits });
        builder = builder.backend(Profile::new(format!("b{n}")).model("m@1"), backend);
    }
    builder.build().unwrap()
}

/// Notes what it is shown, and keeps nothing.
struct Notes(u64);

impl Resume<str, Item> for Notes {
    fn delivered(&mut self, _: &Item) {
        self.0 += 1;
    }
    fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
        None
    }
}

#[test]
fn an_item_of_a_stream_allocates_nothing() {
    for waits in [false, true] {
        let router = streaming(40_000, waits);
        let options = CallOptions::within(Duration::from_secs(60)).facts(facts());
        let mut stream = block_on(router.stream("hi", options.clone())).unwrap();
        let mut next = || assert!(black_box(block_on(stream.next())).unwrap().is_ok());
        allocations(100, &mut next);
        assert_eq!(allocations(10_000, &mut next), 0, "waits: {waits}");

        let mut stream = block_on(router.stream("hi", options)).unwrap().resume(Notes(0));
        let mut next = || assert!(matches!(black_box(block_on(stream.next())), Some(Ok(Piece::Item(_)))));
        allocations(100, &mut next);
        assert_eq!(allocations(10_000, &mut next), 0, "with a hook, waits: {waits}");
    }
}

#[test]
fn a_stream_allocates_once_more_than_a_call() {
    let router = streaming(3, false);
    let options = CallOptions::within(Duration::from_secs(8)).facts(facts());
    teach(&router, &options);
    let mut read = || {
        block_on(async {
            let mut stream = router.stream("hi", options.clone()).await.unwrap();
            assert!(matches!(stream.decision().hedged(), Hedged::Due { .. }));
            while let Some(item) = stream.next().await {
                assert!(black_box(item).is_ok());
            }
        });
    };
    allocations(200, &mut read);
    let made = allocations(1_000, &mut read);
    println!("a stream of three items: {:.3} allocations", made as f64 / 1_000.0);
    // The boxed call itself, and the tab and the attempts of every call; the queue of what came before the content.
    assert!((1..=4_000).contains(&made), "{made} allocations in 1,000 streams");
}

#[test]
fn signals_cost_no_allocation_in_good_times_and_in_bad() {
    let (probes, manual) = (Arc::new(Probes::new(Probing::default()).unwrap()), Arc::new(Manual::default()));
    let (rate, reports) = (Arc::new(SuccessRate::default()), Arc::new(LoadReports::default()));
    let mut builder = Router::<str, ()>::builder(predicted_ttft().fail_safe(FailSafe::default()))
        .signal(rate.clone().hysteresis(Score::from_permille(400), Score::from_permille(700)).unwrap())
        .signal(probes.clone())
        .signal(manual.worst_of(reports.clone()).fresh_for(Duration::from_secs(60)))
        .signal(Quorum::of(2, [rate.clone().shared(), probes.clone().shared()]).unwrap());
    for n in 0..64 {
        let backend: Box<dyn Backend<str, Response = ()>> = Box::new(Nothing(None));
        builder = builder.backend(Profile::new(format!("b{n}")), backend);
    }
    let router = builder.build().unwrap();
    let options = CallOptions::within(Duration::from_secs(8)).facts(Facts::any().prompt_tokens(900));
    let now = router.explain(&options).time();
    let ids = (0..64).map(|n| router.backend_id(&format!("b{n}")).unwrap());
    let down = BackendError::new(FailureKind::Unreachable);
    for (number, id) in ids.enumerate() {
        let ill = number % 8 == 0;
        reports.report(id, LoadReport::from_vllm("vllm:kv_cache_usage_perc 0.3"), now);
        probes.report(id, if ill { Err(&down) } else { Ok(()) }, now);
        let mut decision = router.explain(&options);
        let mut seed = 0u64;
        let mut decide = || {
            seed += 1;
            router.decide(&mut decision, Instant::from_nanos(now.as_nanos() + seed), seed);
            assert!(black_box(decision.chosen()).is_some());
        };
        allocations(100, &mut decide);
        assert_eq!(allocations(1_000, &mut decide), 0, "after {number}");
    }
    assert!(!probes.is_calm(now));
}
