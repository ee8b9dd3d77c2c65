//! What a request costs more through a router with budgets, hedging and a watched stream than straight to its backend, one
//! of eight that do nothing.
//!
//! `cargo bench --bench overhead` prints nanoseconds, the fastest of several rounds, and allocations, and whether what is
//! promised holds; it exits with 1 when it does not. The floor is the same backend as a boxed future, and a boxed stream.

#[path = "shared/counting.rs"]
mod counting;
#[path = "shared/item.rs"]
mod item;

use fallway::backend::{Attempt, Backend, BackendError};
use fallway::budget::Hedge;
use fallway::decision::Hedged;
use fallway::facts::Price;
use fallway::policy::{Budgets, FailSafe, PolicyExt, predicted_ttft};
use fallway::router::Step;
use fallway::time::Clock;
use fallway::{CallOptions, Facts, Profile, Router};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use item::Item;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What a call, and a stream to its second item, may cost more in nanoseconds and allocations; and what each further item may
/// in nanoseconds, for it may not allocate.
const CALL: f64 = 1_000.0;
const ALLOCATIONS_OF_A_CALL: f64 = 6.0;
const ITEM: f64 = 60.0;

const ITEMS: u32 = 1_000;
const ROUNDS: u32 = 24;
const WARM_UP: u32 = 10_000;

/// A backend that does nothing: the answer is there at the first poll or, if it `waits`, at the second; so is each item.
#[derive(Clone, Copy)]
struct Nothing {
    waits: bool,
    items: u32,
}

impl Nothing {
    async fn answer(self) {
        if self.waits {
            futures::pending!();
        }
    }

    fn items(self) -> BoxStream<'static, Result<Item, BackendError>> {
        Box::pin(Items { of: self, came: false })
    }
}

struct Items {
    of: Nothing,
    came: bool,
}

impl futures::Stream for Items {
    type Item = Result<Item, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.of.waits && !std::mem::replace(&mut self.came, true) {
            return Poll::Pending;
        }
        self.came = false;
        let Some(left) = self.of.items.checked_sub(1) else { return Poll::Ready(None) };
        self.of.items = left;
        Poll::Ready(Some(Ok(Item { last: left == 0 })))
    }
}

/// The floor: a boxed call behind a shared pointer, which any router over trait objects pays.
trait Bare: Send + Sync {
    fn call<'a>(&'a self, request: &'a str) -> BoxFuture<'a, ()>;
    fn stream<'a>(&'a self, request: &'a str) -> BoxFuture<'a, BoxStream<'static, Result<Item, BackendError>>>;
}

impl Bare for Nothing {
    fn call<'a>(&'a self, request: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            black_box(request);
            self.answer().await;
        })
    }
    fn stream<'a>(&'a self, request: &'a str) -> BoxFuture<'a, BoxStream<'static, Result<Item, BackendError>>> {
        Box::pin(async move {
            black_box(request);
            self.items()
        })
    }
}

struct Calls(Nothing);
struct Streams(Nothing);

#[async_trait::async_trait]
impl Backend<str> for Calls {
    type Response = ();
    async fn call(&self, request: &str, _: &Attempt) -> Result<(), BackendError> {
        black_box(request);
        self.0.answer().await;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Backend<str> for Streams {
    type Response = BoxStream<'static, Result<Item, BackendError>>;
    async fn call(&self, request: &str, _: &Attempt) -> Result<Self::Response, BackendError> {
        black_box(request);
        Ok(self.0.items())
    }
}

/// Polls until it is done. Nobody sleeps, so nobody is woken. The future stays where it was made, as one that is awaited.
fn run<T>(mut future: Pin<&mut impl Future<Output = T>>) -> T {
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

fn router<B: Backend<str>>(hedge: Hedge, backend: impl Fn() -> B) -> Router<str, B::Response> {
    let stack = predicted_ttft().budgeted(Budgets::default().hedge(hedge)).fail_safe(FailSafe::default());
    let mut builder = Router::builder(stack);
    for index in 0..8 {
        let profile = Profile::new(format!("b{index}")).model("m").concurrency(64).price(Price::pico(10, 20));
        builder = builder.backend(profile, backend());
    }
    builder.build().expect("the bench's fleet is valid")
}

/// When nobody is hedged, but prepared for it: who waits here waits for no time at all.
fn late() -> Hedge {
    Hedge::default().after(Duration::from_secs(2))
}

/// Many calls at a time, so that something is known of every backend's slowest answers.
fn teach<Res: Send + 'static>(router: &Router<str, Res>, options: &dyn Fn() -> CallOptions) {
    for _ in 0..10 {
        let (now, first) = (Clock.now(), Clock.now() + Duration::from_millis(1));
        let mut trips: Vec<_> = (0..256).map(|_| router.trip(options(), now)).collect();
        trips.iter_mut().for_each(|trip| assert!(matches!(trip.next(now), Ok(Step::Call(_)))));
        for mut trip in trips {
            trip.answered(1, first);
            trip.finish(first);
        }
    }
}

/// What one round of some work costs.
#[derive(Clone, Copy)]
struct Cost {
    nanos: f64,
    allocations: f64,
}

impl Cost {
    fn beyond(self, floor: Self) -> Self {
        Self { nanos: self.nanos - floor.nanos, allocations: self.allocations - floor.allocations }
    }

    /// Of a stream of many items, beside that of a stream of two: each of the others.
    fn per_item(self, of_two: Self) -> Self {
        let (beyond, items) = (self.beyond(of_two), f64::from(ITEMS - 2));
        Self { nanos: beyond.nanos / items, allocations: beyond.allocations / items }
    }
}

/// What each kind of `work` costs, the fastest of several rounds. They take turns, so that a noisy moment meets them all.
fn costs<const N: usize>(calls: u32, mut work: [&mut dyn FnMut(); N]) -> [Cost; N] {
    let mut costs = [Cost { nanos: f64::INFINITY, allocations: f64::INFINITY }; N];
    for _ in 0..ROUNDS {
        for (cost, work) in costs.iter_mut().zip(&mut work) {
            let (before, started) = (counting::allocations(), Instant::now());
            (0..calls).for_each(|_| work());
            let nanos = started.elapsed().as_nanos() as f64 / f64::from(calls);
            let allocations = (counting::allocations() - before) as f64 / f64::from(calls);
            *cost = Cost { nanos: cost.nanos.min(nanos), allocations: cost.allocations.min(allocations) };
        }
    }
    costs
}

/// A call straight to the backend, and through the router.
fn call(hedge: Hedge, waits: bool, options: &dyn Fn() -> CallOptions) -> [Cost; 2] {
    let nothing = Nothing { waits, items: 0 };
    let bare: Arc<dyn Bare> = black_box(Arc::new(nothing));
    let router = router(hedge, || Calls(nothing));
    teach(&router, options);
    (0..WARM_UP).for_each(|_| drop(run(pin!(router.call("hi", options())))));
    costs(
        10_000,
        [&mut || run(pin!(bare.call("hi"))), &mut || {
            let answer = run(pin!(router.call("hi", options()))).expect("nothing fails");
            assert!(
                matches!(answer.decision().hedged(), Hedged::Due { .. }),
                "hedging is not armed: {:?}",
                answer.decision().hedged()
            );
            drop(black_box(answer));
        }],
    )
}

/// A stream of so many items, read to its end, straight from the backend and through the router.
fn stream(waits: bool, items: u32, options: &dyn Fn() -> CallOptions) -> [Cost; 2] {
    let nothing = Nothing { waits, items };
    let bare: Arc<dyn Bare> = black_box(Arc::new(nothing));
    let router = router(if waits { late() } else { Hedge::default() }, || Streams(nothing));
    teach(&router, options);
    let mut read = || {
        run(pin!(async {
            let mut answer = router.stream("hi", options()).await.expect("nothing fails");
            assert!(
                matches!(answer.decision().hedged(), Hedged::Due { .. }),
                "hedging is not armed: {:?}",
                answer.decision().hedged()
            );
            while let Some(item) = answer.next().await {
                assert!(black_box(item).is_ok());
            }
        }));
    };
    (0..WARM_UP / items).for_each(|_| read());
    costs(
        10_000 / items,
        [
            &mut || {
                run(pin!(async {
                    let mut answer = bare.stream("hi").await;
                    while let Some(item) = answer.next().await {
                        assert!(black_box(item).is_ok());
                    }
                }));
            },
            &mut read,
        ],
    )
}

fn main() {
    let facts = || Facts::model("m").prompt_tokens(900).max_output_tokens(100).replay_safe();
    let (plain, capped) = (Arc::new(facts()), Arc::new(facts().max_cost(1_000_000)));
    let options = || CallOptions::within(Duration::from_secs(8)).facts(plain.clone());
    let capped = || CallOptions::within(Duration::from_secs(8)).facts(capped.clone());
    println!("Nanoseconds, and allocations behind the semicolon.\n");
    println!("| | straight | routed | more |");
    println!("| --- | ---: | ---: | ---: |");
    let row = |name: &str, [bare, routed]: [Cost; 2]| {
        let more = routed.beyond(bare);
        let cell = |cost: Cost| format!("{:.1}; {:.2}", cost.nanos, cost.allocations);
        println!("| {name} | {} | {} | {} |", cell(bare), cell(routed), cell(more));
        more
    };
    let mut promises = Vec::new();
    let mut promise = |name: &str, more: Cost, nanos: f64, allocations: f64| {
        promises.push((format!("{name}, nanoseconds"), nanos, more.nanos));
        promises.push((format!("{name}, allocations"), allocations, more.allocations));
    };
    let more = row("a call", call(Hedge::default(), false, &options));
    promise("a call", more, CALL, ALLOCATIONS_OF_A_CALL);
    row("a call whose cost is capped", call(Hedge::default(), false, &capped));
    row("a call that waits once, with its timers", call(late(), true, &options));
    for (waits, how) in [(false, ""), (true, " that waits for each")] {
        let (two, many) = (stream(waits, 2, &options), stream(waits, ITEMS, &options));
        let more = row(&format!("a stream of two items{how}"), two);
        if !waits {
            promise("a stream of two items", more, CALL, ALLOCATIONS_OF_A_CALL);
        }
        let name = format!("an item of a stream{how}");
        let more = row(&name, [0, 1].map(|which| many[which].per_item(two[which])));
        promise(&name, more, ITEM, 0.0);
    }
    println!("\n| more than straight | promised | measured | |");
    println!("| --- | ---: | ---: | --- |");
    let missed = |(_, limit, measured): &(String, f64, f64)| measured > limit;
    for promise in &promises {
        let (name, limit, measured) = promise;
        println!("| {name} | {limit:.0} | {measured:.2} | {} |", if missed(promise) { "MISSED" } else { "holds" });
    }
    std::process::exit(i32::from(promises.iter().any(missed)));
}
