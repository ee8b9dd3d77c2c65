//! Calls as a whole, and what may stand around them.

use super::{Nothing, allocations, asking, boxed, facts, fleet, full_stack, hedged, router, teach};
use fallway::backend::{Attempt, Backend, BackendError, FailureKind};
use fallway::budget::Hedge;
use fallway::decision::Hedged;
use fallway::facts::Price;
use fallway::policy::{Budgets, FailSafe, PolicyExt, ordered, power_of_two, predicted_ttft};
use fallway::router::Builder;
use fallway::shape::{RateLimit, SpendLimit};
use fallway::time::Instant;
use fallway::{CallOptions, Facts, Profile, Router};
use futures::executor::block_on;
use std::hint::black_box;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

#[test]
fn a_rate_limit_costs_no_allocation_whoever_asks() {
    let limit = RateLimit::new("tenant", 60, Duration::from_secs(60)).by_tenant().by_label("route").burst(2);
    let limit = limit.key(["t1", "chat"], 600, 10);
    let build = |limit: Option<RateLimit>| {
        let builder = fleet(ordered(), [Profile::new("a")], || Nothing(None));
        limit.into_iter().fold(builder, Builder::rate_limit).build().unwrap()
    };
    let facts = |n: usize| Arc::new(Facts::any().tenant(format!("t{n}")).label("route", "chat"));
    let facts: Vec<_> = (0..1_000).map(facts).collect();
    let cost = |router: &Router<str, ()>| {
        let mut n = 0;
        allocations(100, 10_000, || {
            n += 1;
            let at = Instant::from_nanos(1_000_000_000_000 + n as u64);
            let _ = black_box(router.trip(CallOptions::new(facts[n % 1_000].clone()), at));
        })
    };
    // Most of them are refused: a thousand tenants with two tokens each.
    assert_eq!(cost(&build(Some(limit))), cost(&build(None)));
}

#[test]
fn what_a_call_may_cost_costs_no_allocation() {
    let cost = |limits: u32, capped: bool, failure: Option<FailureKind>| {
        let price = Price::pico(10, 20).above(1_000, Price::pico(20, 40)).unwrap();
        let profiles = ["a", "b"].map(|id| Profile::new(id).price(price.clone()));
        let builder = fleet(ordered().fail_safe(FailSafe::default()), profiles, || boxed(Nothing(failure))).seed(7);
        let limit = |_| SpendLimit::new("tenant", 1e6, Duration::from_secs(1)).by_tenant().burst(1e6);
        let router = (0..limits).map(limit).fold(builder, Builder::spend_limit).build().unwrap();
        let facts = Facts::any().tenant("t").prompt_tokens(10);
        let facts = Arc::new(if capped { facts.max_cost(1_000_000).max_output_tokens(100) } else { facts });
        allocations(200, 1_000, || {
            let _ = black_box(block_on(router.call("hi", asking(facts.clone()))));
        })
    };
    let plain = cost(0, false, None);
    assert_eq!((cost(4, false, None), cost(0, true, None), cost(4, true, None)), (plain, plain, plain));
    let failing = cost(0, false, Some(FailureKind::InvalidRequest));
    assert_eq!(cost(4, true, Some(FailureKind::InvalidRequest)), failing);
}

#[test]
fn a_call_to_a_boxed_backend_allocates_three_times_at_most() {
    let hedges = router(hedged(), 8);
    let stacks = [("power_of_two", router(power_of_two(), 8)), ("full stack", full_stack(8)), ("hedged", hedges)];
    for (name, router) in stacks {
        let facts = if name == "power_of_two" { Facts::model("m") } else { facts() };
        let options = asking(facts.prompt_tokens(1));
        teach(&router, &options);
        let made = allocations(200, 1_000, || {
            let answer = black_box(block_on(router.call("hi", options.clone()))).unwrap();
            assert_eq!(matches!(answer.decision().hedged(), Hedged::Due { .. }), name == "hedged");
        });
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
    let router = fleet(policy, ["a", "b"].map(Profile::new), || Later).build().unwrap();
    let options = CallOptions::within(Duration::from_secs(55)).facts(Facts::any().replay_safe());
    let made = allocations(200, 1_000, || {
        let answer = black_box(block_on(router.call("hi", options.clone()))).unwrap();
        assert!(matches!(answer.decision().hedged(), Hedged::Due { .. }));
    });
    println!("a call that waits: {:.3} allocations", made as f64 / 1_000.0);
    // The bare call is the box of its future. The others are the tab, the attempts and two timers: its limit, the hedge.
    assert!((1_001..=7_000).contains(&made), "{made} allocations in 1,000 calls");
}
