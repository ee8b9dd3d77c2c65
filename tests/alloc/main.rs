//! What decisions, calls and streams allocate, counted.

// A test may unwrap: that is how it fails.
#![allow(clippy::unwrap_used)]

mod calls;
#[path = "../../benches/shared/counting.rs"]
mod counting;
mod decisions;
#[path = "../../benches/shared/item.rs"]
mod item;
mod registry;
mod streams;

use fallway::backend::{Attempt, Backend, BackendError, FailureKind};
use fallway::budget::Hedge;
use fallway::policy::{Budgets, FailSafe, PolicyExt, RoutingPolicy, predicted_ttft};
use fallway::router::{Builder, Step};
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Decision, Facts, Profile, Router};
use futures::executor::block_on;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Allocations of so many rounds of work, together, after so many others.
fn allocations(warm_up: u32, rounds: u32, mut work: impl FnMut()) -> u64 {
    (0..warm_up).for_each(|_| work());
    let before = counting::allocations();
    (0..rounds).for_each(|_| work());
    counting::allocations() - before
}

/// Decides over and over, as requests arrive: time and seed move on. The last records are kept, so many as there are.
struct Decisions<'r> {
    router: &'r Router<str, ()>,
    kept: Vec<Decision>,
    start: u64,
    seed: u64,
}

/// Records that are kept where there is more than one.
const KEPT: usize = 100;

impl<'r> Decisions<'r> {
    fn new(router: &'r Router<str, ()>, options: &CallOptions, kept: usize) -> Self {
        let kept: Vec<_> = (0..kept).map(|_| router.explain(options)).collect();
        Self { router, start: kept[0].time().as_nanos(), kept, seed: 0 }
    }

    fn next(&mut self) -> &Decision {
        self.seed += 1;
        let number = self.seed as usize % self.kept.len();
        let decision = &mut self.kept[number];
        self.router.decide(decision, Instant::from_nanos(self.start + self.seed), self.seed);
        black_box(decision)
    }

    /// Allocations of so many decisions, each of which must be as `is` says, after two of each record or more.
    fn allocations(&mut self, rounds: u32, is: impl Fn(&Decision) -> bool) -> u64 {
        let warm_up = (2 * self.kept.len() as u32).max(100);
        allocations(warm_up, rounds, || assert!(is(self.next())))
    }
}

fn is_chosen(decision: &Decision) -> bool {
    decision.chosen().is_some()
}

/// A backend that answers at once, or fails at once.
struct Nothing(Option<FailureKind>);

#[async_trait::async_trait]
impl Backend<str> for Nothing {
    type Response = ();

    async fn call(&self, _: &str, _: &Attempt) -> Result<(), BackendError> {
        self.0.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

/// What a router calls that does not know the types of its backends.
fn boxed<Res>(backend: impl Backend<str, Response = Res>) -> Box<dyn Backend<str, Response = Res>> {
    Box::new(backend)
}

/// A router over backends with these profiles.
fn fleet<B: Backend<str>>(
    policy: impl RoutingPolicy + 'static,
    profiles: impl IntoIterator<Item = Profile>,
    backend: impl Fn() -> B,
) -> Builder<str, B::Response> {
    profiles.into_iter().fold(Router::builder(policy), |builder, profile| builder.backend(profile, backend()))
}

fn router(policy: impl RoutingPolicy + 'static, backends: usize) -> Router<str, ()> {
    let profile = |n| Profile::new(format!("b{n}")).model("m@1").region(["eu", "us"][n % 2]).concurrency(64);
    fleet(policy, (0..backends).map(profile), || boxed(Nothing(None))).build().unwrap()
}

fn full_stack(backends: usize) -> Router<str, ()> {
    router(predicted_ttft().fail_safe(FailSafe::default().tiers("chat", ["m", "m@1"])), backends)
}

/// Everything that a call can have around it: budgets, hedging, attempts elsewhere.
fn hedged() -> impl RoutingPolicy + 'static {
    let fail_safe = FailSafe::default().tiers("chat", ["m", "m@1"]);
    predicted_ttft().budgeted(Budgets::default().hedge(Hedge::default())).fail_safe(fail_safe)
}

fn facts() -> Facts {
    Facts::model("chat").prompt_tokens(900).session("s").tenant("t").replay_safe()
}

/// With eight seconds.
fn asking(facts: impl Into<Arc<Facts>>) -> CallOptions {
    CallOptions::within(Duration::from_secs(8)).facts(facts)
}

/// So many calls, one after the other.
fn call(router: &Router<str, ()>, options: &CallOptions, times: usize) {
    (0..times).for_each(|_| drop(block_on(router.call("", options.clone()))));
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
