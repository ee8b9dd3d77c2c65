//! What changes without a word to those who wait.

use super::{ask, facts};
use crate::support::{Act, Script, World, always, in_turn, ms, secs};
use fallway::backend::{FailureKind, Usage};
use fallway::decision::Next;
use fallway::facts::Price;
use fallway::policy::{Budgets, FailSafe, PolicyExt, ordered, predicted_ttft};
use fallway::shape::SpendLimit;
use fallway::time::Timer;
use fallway::{CallOptions, Facts, Profile};

/// One of the same tenant holds its money, and costs hardly anything: the one that waits for another backend may go there then.
#[test]
fn money_that_comes_back_is_for_who_waits() {
    let world = World::new();
    let limit = SpendLimit::new("tenant", 0.01, secs(1_000_000_000)).by_tenant().burst(0.005);
    let price = |dollars| Price::per_million(dollars, dollars).unwrap();
    let a = Profile::new("a").concurrency(1).price(price(0.01));
    let b = Profile::new("b").price(price(2.0));
    let of_b: Script = Box::new(|cue| {
        cue.attempt.used(Usage::new(10, 10));
        Act::Answer(secs(1))
    });
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(300)).spend_limit(limit);
    let (router, [_, b]) = world.fleet(builder, [(a, always(Act::Answer(secs(60)))), (b, of_b)]);
    let start = world.now();
    // Somebody else is at `a`; the first of `t` holds 0.4 of 0.5 cents for a second, and costs next to nothing.
    let _busy = ask(&world, &router, facts("x", 2_000), secs(200));
    let _holds = ask(&world, &router, facts("t", 2_000), secs(200));
    let waits = ask(&world, &router, facts("t", 2_000), secs(200));
    world.run_for(secs(10));
    let newcomer = router.explain(&CallOptions::within(secs(190)).facts(facts("t", 2_000)));
    assert!(matches!(newcomer.next(), Next::Call { .. }), "{newcomer}");
    world.run();
    let end = waits.take().expect("it is answered");
    assert!(end - start < secs(5), "it was answered after {:?}; {} calls at b", end - start, b.calls());
}

/// As above, but the money refills, and the decision says when.
#[test]
fn money_that_refills_is_for_who_waits() {
    let world = World::new();
    // 0.5 cents at once, a hundredth of a cent a second.
    let limit = SpendLimit::new("tenant", 0.0001, secs(1)).by_tenant().burst(0.005);
    let price = |dollars| Price::per_million(dollars, dollars).unwrap();
    let a = Profile::new("a").concurrency(1).price(price(0.01));
    let b = Profile::new("b").price(price(2.0));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(400)).spend_limit(limit);
    let backends = [(a, always(Act::Answer(secs(300)))), (b, always(Act::Answer(secs(1))))];
    let (router, [_, b]) = world.fleet(builder, backends);
    let start = world.now();
    let _busy = ask(&world, &router, facts("x", 2_000), secs(900));
    // Costs 0.4 cents: the next may go there in 30 seconds.
    let _spends = ask(&world, &router, facts("t", 2_000), secs(900));
    world.run_for(secs(2));
    let waits = ask(&world, &router, facts("t", 2_000), secs(900));
    world.run_for(secs(60));
    let newcomer = router.explain(&CallOptions::within(secs(800)).facts(facts("t", 2_000)));
    assert!(waits.is_done() || matches!(newcomer.next(), Next::Call { .. }), "{newcomer}");
    world.run();
    let end = waits.take().expect("it is answered");
    assert!(end - start < secs(40), "it was answered after {:?}; {} calls at b", end - start, b.calls());
}

/// A backend rests until a moment that the decision names, and the other is busy.
#[test]
fn who_waits_for_a_slot_looks_when_another_backend_is_to_be_tried_again() {
    for kind in [FailureKind::ModelUnavailable, FailureKind::Unauthorized, FailureKind::QuotaExhausted] {
        let world = World::new();
        let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(2_000));
        let of_a = in_turn([Act::Answer(ms(1)), Act::Answer(secs(1_500))]);
        let of_b = in_turn([Act::Fail(kind, ms(1)), Act::Answer(secs(1))]);
        let backends = [(Profile::new("b"), of_b), (Profile::new("a").concurrency(1), of_a)];
        let (router, _) = world.fleet(builder, backends);
        let _fails = ask(&world, &router, facts("t", 10).replay_safe(), secs(2_000));
        world.run_for(ms(100));
        let _busy = ask(&world, &router, facts("t", 10), secs(2_000));
        let waits = ask(&world, &router, facts("t", 10), secs(2_000));
        world.run_for(secs(1_000));
        let newcomer = router.explain(&CallOptions::within(secs(900)).facts(facts("t", 10)));
        assert!(waits.is_done() || !matches!(newcomer.next(), Next::Call { .. }), "{kind:?}: {newcomer}");
    }
}

/// A backend is too slow for a request because of the work that stands before it; then that is gone.
#[test]
fn who_waits_for_a_slot_finds_out_that_the_work_before_it_elsewhere_is_gone() {
    let world = World::new();
    let policy = predicted_ttft().budgeted(Budgets::default()).fail_safe(FailSafe::default());
    let a = Profile::new("a").concurrency(1).only_tenants(["t"]);
    // A millisecond for each token of the prompt; and a second for the large one, which it knows.
    let of_b: Script = Box::new(|cue| {
        let tokens: u64 = cue.request.parse().unwrap();
        Act::Answer(ms(if tokens > 10_000 { 1_000 } else { tokens }))
    });
    let of_a = in_turn([Act::Answer(secs(500))]);
    let builder = world.router(policy).longest_wait(secs(2_000));
    let (router, _) = world.fleet(builder, [(a, of_a), (Profile::new("b"), of_b)]);
    let call = |tenant: &str, tokens: u64, within| {
        let facts = Facts::any().tenant(tenant).prompt_tokens(tokens).output_tokens(10);
        let (router, timer, text) = (router.clone(), world.timer().clone(), tokens.to_string());
        let options = CallOptions::within(within).facts(facts);
        let task = world.spawn(async move { router.call(&*text, options).await.ok().map(|_| timer.now()) });
        world.settle();
        task
    };
    // `b` is known, `a` is busy.
    for n in 0..200 {
        drop(call("z", 100 + n * 37 % 3_000, secs(60)));
        world.run_for(secs(4));
    }
    let _large = call("z", 60_000, secs(900));
    let _busy = call("t", 20, secs(900));
    assert_eq!((router.in_flight("a"), router.in_flight("b")), (Some(1), Some(1)));
    let start = world.now();
    let waits = call("t", 100, secs(20));
    assert_eq!(router.waiting(), 1);
    world.run_for(secs(25));
    assert!(waits.take().is_some_and(|end| end - start < secs(5)));
}
