//! Conformance suites: what every backend, policy and signal must do, for implementations of your own.
//!
//! Call them in a test. They panic at the first rule that is broken and say which.
//!
//! ```
//! use fallway::policy::{PolicyExt, policy_fn};
//! use fallway::sim::conformance;
//! conformance::policy(|| policy_fn("by_name", |_, slate| slate.rank(|it| it.id().slot() as u64)).boxed());
//! ```

use super::{Executor, secs};
use crate::backend::{Attempt, Backend, BackendError, BackendId, FailureKind, backend_fn};
use crate::decision::{Cost, Next, Tokens};
use crate::event::{Event, Outcome};
use crate::facts::{Capabilities, Facts, Price, Profile};
use crate::policy::{RoutingPolicy, Window, describe, ordered};
use crate::recover::Ejection;
use crate::router::{CallOptions, Router};
use crate::signal::{HealthSignal, Reading};
use crate::time::{Instant, Timer};
use async_trait::async_trait;
use futures::future::{Either, select};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// A policy decides over any fleet and any facts without a panic, equally for equal inputs; its decisions replay to the
/// same choice, call nobody that is rejected, look at a bounded number of candidates, and a dry run leaves no trace.
///
/// `make` is called several times and must make equal policies.
///
/// # Panics
///
/// When a rule is broken.
pub fn policy(make: impl Fn() -> Box<dyn RoutingPolicy>) {
    let name = make().name();
    assert!(!name.is_empty() && describe(&make()).starts_with(name), "a policy has a name");
    for size in [1usize, 2, 3, 64, 65, 200] {
        let (one, twin) = (Bench::new(make(), size), Bench::new(make(), size));
        for (number, facts) in any_facts().into_iter().enumerate() {
            let case = format!("{name}, {size} backends, facts number {number}");
            let options = CallOptions::within(secs(5)).facts(facts);
            let (decision, again) = (one.router.explain(&options), twin.router.explain(&options));
            assert!(!decision.policy_panicked(), "{case}: it panics: {decision}");
            assert!(decision.same_choice(&again), "{case}: equal inputs, other choices:\n{decision}\n{again}");
            let replayed = one.router.replay(&decision);
            assert!(replayed.same_choice(&decision), "{case}: it does not replay:\n{decision}\n{replayed}");
            let chosen = decision.chosen();
            match decision.next() {
                Next::Call { .. } => {
                    let chosen = chosen.unwrap_or_else(|| panic!("{case}: it calls nobody: {decision}"));
                    assert_eq!(chosen.rejected(), None, "{case}: it calls one that is rejected");
                }
                _ => assert!(chosen.is_none(), "{case}: it chooses and does not call"),
            }
            assert!(decision.candidates().count() <= Window::SIZE * 2, "{case}: it looks at too many");
            assert_eq!(one.router.total_in_flight(), 0, "{case}: a dry run takes a slot");
            assert_eq!(one.call(&options), twin.call(&options), "{case}: equal inputs, other backends");
        }
    }
}

/// A router over some backends of every sort; each fourth is overloaded.
struct Bench {
    executor: Executor,
    router: Router<str, ()>,
}

impl Bench {
    fn new(policy: Box<dyn RoutingPolicy>, size: usize) -> Self {
        let executor = Executor::new();
        let mut builder = Router::<str, ()>::builder(policy).timer(executor.clock().clone()).seed(7);
        for number in 0..size {
            let clock = executor.clock().clone();
            let backend = backend_fn(move |_: &str, _: &Attempt| {
                let clock = clock.clone();
                async move {
                    clock.sleep_until(clock.now() + secs(0.02)).await;
                    if number % 4 == 1 { Err(FailureKind::Overloaded.into()) } else { Ok(()) }
                }
            });
            builder = builder.backend(any_profile(number), backend);
        }
        Self { executor, router: builder.build().unwrap_or_else(|error| panic!("the policy refuses a fleet: {error}")) }
    }

    /// Who answers.
    fn call(&self, options: &CallOptions) -> Option<String> {
        let (router, options) = (self.router.clone(), options.clone());
        self.executor.block_on(async move {
            router.call("ask", options).await.ok().and_then(|answer| answer.backend().map(str::to_owned))
        })
    }
}

fn any_profile(number: usize) -> Profile {
    let profile = Profile::new(format!("b{number}")).model(["m@1", "m@2", "n"][number % 3]);
    let profile = profile.weight(0.5 + number as f64).region(["eu", "us"][number % 2]);
    let profile = profile.concurrency(1 + number as u32);
    match number % 5 {
        0 => match Price::per_million(number as f64, 1.0) {
            Ok(price) => profile.price(price),
            Err(_) => profile,
        },
        1 => profile.capabilities(Capabilities::TOOLS),
        2 => profile.drained(number % 2 == 1),
        _ => profile,
    }
}

fn any_facts() -> [Facts; 11] {
    let plain = || Facts::model("m").prompt_tokens(100);
    [
        Facts::any(),
        plain(),
        plain().session("s").tenant("t"),
        plain().residency(["us"]),
        plain().residency(["mars"]),
        plain().prompt_tokens(u64::MAX).output_tokens(u64::MAX),
        plain().prompt_tokens(0).output_tokens(0),
        plain().needs(Capabilities::TOOLS).max_cost(0),
        Facts::model("m").replay_safe(),
        Facts::model("m@2").replay_safe().session(""),
        Facts::model("nowhere"),
    ]
}

/// A backend can be called many times at once and dropped at any poll; through a router each call is one attempt,
/// whatever becomes of it, and nothing stays in flight. It must live on the executor's clock, or answer without one.
///
/// # Panics
///
/// When a rule is broken, or when a call neither ends nor can be given up.
pub fn backend<Req, B>(request: &'static Req, make: impl Fn(&Executor) -> B)
where
    Req: ?Sized + Sync + 'static,
    B: Backend<Req>,
    B::Response: 'static,
{
    let executor = Executor::new();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let spy = Spy { backend: make(&executor), attempts: attempts.clone() };
    let router = Router::<Req, B::Response>::builder(ordered())
        .timer(executor.clock().clone())
        .ejection(Ejection::off())
        .backend(Profile::new("a"), spy)
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let options = || CallOptions::within(secs(5));
    for polls in 0..5 {
        let router = router.clone();
        executor.block_on(dropped_after(polls, async move { drop(router.call(request, options()).await) }));
        assert_eq!(executor.clock().next_wake(), None, "dropped after {polls} polls, it still sleeps");
    }
    for _ in 0..10 {
        let router = router.clone();
        executor.spawn(async move {
            let attempts = match router.call(request, options()).await {
                Ok(answer) => answer.attempts().len(),
                Err(error) => error.attempts().len(),
            };
            assert_eq!(attempts, 1, "a call is one attempt");
        });
    }
    executor.run();
    for attempt in attempts.lock().iter() {
        assert_eq!((attempt.number(), attempt.backend()), (1, BackendId::new(0, 0)));
        assert!(attempt.time_limit() <= attempt.time_left() && attempt.time_left() <= secs(5));
    }
    assert_eq!(router.total_in_flight(), 0, "something stays in flight");
    assert_eq!(executor.clock().next_wake(), None, "a dropped call still sleeps");
}

/// Notes the attempts of a backend.
struct Spy<B> {
    backend: B,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

#[async_trait]
impl<Req: ?Sized + Sync + 'static, B: Backend<Req>> Backend<Req> for Spy<B> {
    type Response = B::Response;

    async fn call(&self, request: &Req, attempt: &Attempt) -> Result<B::Response, BackendError> {
        self.attempts.lock().push(attempt.clone());
        self.backend.call(request, attempt).await
    }
}

/// Polls a future so many times and drops it.
async fn dropped_after(polls: usize, future: impl Future<Output = ()>) {
    let mut left = polls;
    let enough = poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    match select(pin!(enough), pin!(future)).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

/// A signal answers for any backend at any time, also for those that it never heard of, of which it says nothing;
/// reading changes nothing; it takes any event in any order; no reading comes from the future; and while it is calm it
/// has nothing to say.
///
/// # Panics
///
/// When a rule is broken.
pub fn signal(make: impl Fn() -> Box<dyn HealthSignal>) {
    let signal = make();
    assert!(!signal.name().is_empty(), "a signal has a name");
    let times = [0, 1, 1_000_000_000_000, u64::MAX].map(Instant::from_nanos);
    let ids = [BackendId::new(0, 0), BackendId::new(3, 9), BackendId::new(u32::MAX, u32::MAX)];
    for now in times {
        for id in ids {
            let first = signal.read(id, now);
            assert!((0..10).all(|_| signal.read(id, now) == first), "reading changes what is read");
            if let Reading::Fresh { at, .. } | Reading::Stale { at, .. } = first {
                assert!(at <= now, "a reading comes from the future");
            }
        }
        assert_eq!(signal.read(ids[2], now), Reading::Missing, "it knows a backend that nobody spoke of");
    }
    let profile = Arc::new(Profile::new("a"));
    let error = BackendError::new(FailureKind::ServerError);
    let elapsed = secs(0.001);
    for (now, id) in times.into_iter().rev().zip(ids.iter().cycle()) {
        let ended = |outcome, excused| Event::Ended {
            backend: *id,
            profile: &profile,
            elapsed,
            first_item: None,
            outcome,
            excused,
            request: 7,
            attempt: 1,
            tokens: Tokens::default(),
            cost: Cost::Unknown,
        };
        for outcome in [Outcome::Cancelled, Outcome::Outrun, Outcome::Failure(&error), Outcome::Success] {
            signal.observe(&ended(outcome, false), now);
        }
        signal.observe(&Event::Started { backend: *id, profile: &profile, attempt: 1, hedge: false }, now);
        signal.observe(&Event::FirstItem { backend: *id, profile: &profile, elapsed }, now);
        signal.observe(&Event::Panicked { name: "x" }, now);
        // The same fleet again and again, another backend each time; what it says of one that is gone is its own.
        signal.observe(&Event::Fleet { generation: 1, backends: &[(*id, profile.clone())] }, now);
        signal.observe(&ended(Outcome::Success, true), now);
        let first = signal.read(*id, now);
        assert!((0..10).all(|_| signal.read(*id, now) == first), "reading changes what is read");
        let ill = matches!(first, Reading::Fresh { value, .. } if !value.is_healthy());
        let silent = !matches!(first, Reading::Fresh { .. }) && signal.covers(*id);
        assert!(!(signal.is_calm(now) && (ill || silent)), "it is calm and has something to say");
    }
    let executor = Executor::new();
    let mut builder = Router::<str, ()>::builder(ordered()).timer(executor.clock().clone()).signal(make());
    for name in ["a", "b"] {
        builder = builder.backend(Profile::new(name), backend_fn(|_: &str, _: &Attempt| async { Ok(()) }));
    }
    let router = builder.build().unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..10 {
        let decision = router.explain(&CallOptions::default());
        assert!(router.replay(&decision).same_choice(&decision), "decisions do not live with it");
        let router = router.clone();
        executor.block_on(async move { drop(router.call("ask", CallOptions::default()).await) });
    }
}
