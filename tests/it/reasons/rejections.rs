//! Why a candidate is out.

use super::{pair, rejected};
use crate::support::{
    ANSWER, Act, Log, Opinion, Rival, Script, TestRouter, World, always, fail, hint, in_turn, ms, plain, secs, within,
};
use fallway::Decision;
use fallway::FailureKind::{self, ContextTooLong, Overloaded, RateLimited, ServerError};
use fallway::budget::Hedge;
use fallway::decision::Reason;
use fallway::facts::{Capabilities, Price, Priority};
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{Budgets, Capacity, FailSafe, PolicyExt, Regions, ordered, policy_fn, round_robin};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::shape::SpendLimit;
use fallway::{CallOptions, Facts, Profile};
use std::time::Duration;

fn a() -> Profile {
    Profile::new("a")
}

/// Why `a` is out for these facts, before any call.
fn before(profile: Profile, facts: Facts) -> Option<Reason> {
    let world = World::new();
    rejected(&pair(&world, profile, always(ANSWER)), facts)
}

/// Why `a` is out after one call that it answered so, and the world and router.
fn after(profile: Profile, act: Act) -> (World, TestRouter) {
    let world = World::new();
    let router = pair(&world, profile, in_turn([act, Act::Hang]));
    world.call(&router, within(secs(60))).unwrap();
    (world, router)
}

#[test]
fn drained() {
    assert_eq!(before(a().drained(true), plain()), Some(Reason::Drained));
}

#[test]
fn outside_residency() {
    assert_eq!(before(a().region("us"), plain().residency(["eu"])), Some(Reason::OutsideResidency));
    // No region is no place where data may go.
    assert_eq!(before(a(), plain().residency(["eu"])), Some(Reason::OutsideResidency));
}

#[test]
fn tenant_forbidden() {
    assert_eq!(before(a().only_tenants(["x"]), plain().tenant("y")), Some(Reason::TenantForbidden));
    assert_eq!(before(a().only_tenants(["x"]), plain()), Some(Reason::TenantForbidden));
    assert_eq!(before(a().only_tenants(["x"]), plain().tenant("x")), None);
}

#[test]
fn missing_capabilities() {
    let needs = plain().needs(Capabilities::VISION | Capabilities::TOOLS);
    let missing = Capabilities::VISION;
    assert_eq!(before(a().capabilities(Capabilities::TOOLS), needs), Some(Reason::MissingCapabilities { missing }));
}

#[test]
fn context_too_long() {
    let facts = |prompt| plain().prompt_tokens(prompt).output_tokens(100);
    assert_eq!(before(a().context_window(1_000), facts(901)), Some(Reason::ContextTooLong { tokens: 1_001 }));
    assert_eq!(before(a().context_window(1_000), facts(900)), None);
}

#[test]
fn over_price_cap() {
    let price = Price::per_million(1.0, 2.0).unwrap();
    let facts = plain().prompt_tokens(10).output_tokens(20);
    let cost = 50_000_000;
    assert_eq!(
        before(a().price(price.clone()), facts.clone().max_cost(cost - 1)),
        Some(Reason::OverPriceCap { spent: 0, cost })
    );
    assert_eq!(before(a().price(price), facts.max_cost(cost)), None);
}

/// A router whose tenants may spend a ten-thousandth of a dollar at once, and two hundredths of that in ten seconds.
fn thrifty(world: &World) -> TestRouter {
    let profile = a().price(Price::per_million(1.0, 2.0).unwrap());
    let limit = SpendLimit::new("tenant", 0.000_002, secs(10)).by_tenant().burst(0.000_1);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).spend_limit(limit);
    world.fleet(builder, [(profile, always(ANSWER))]).0
}

#[test]
fn over_spend_limit() {
    let world = World::new();
    let router = thrifty(&world);
    let facts = plain().prompt_tokens(10).max_output_tokens(40);
    assert!(world.call(&router, within(secs(5)).facts(facts.clone())).is_ok());
    // 90 of 100 millionths were spent, and a fifth of one comes back in a second.
    let cost = 90_000_000;
    let until = world.now() + secs(400);
    assert_eq!(rejected(&router, facts), Some(Reason::OverSpendLimit { limit: "tenant", cost, until }));
}

#[test]
fn spend_limit_too_small() {
    let (cost, most) = (110_000_000, 100_000_000);
    let facts = plain().prompt_tokens(10).max_output_tokens(50);
    let reason = Reason::SpendLimitTooSmall { limit: "tenant", cost, most };
    assert_eq!(rejected(&thrifty(&World::new()), facts), Some(reason));
}

#[test]
fn price_unknown() {
    assert_eq!(before(a(), plain().max_cost(u64::MAX)), Some(Reason::PriceUnknown));
}

#[test]
fn rate_limited() {
    let (world, router) = after(a(), hint(RateLimited, secs(9)));
    assert_eq!(rejected(&router, plain()), Some(Reason::RateLimited { until: world.now() - ms(20) + secs(9) }));
}

#[test]
fn asked_to_wait() {
    let (world, router) = after(a(), hint(Overloaded, secs(9)));
    assert_eq!(rejected(&router, plain()), Some(Reason::AskedToWait { until: world.now() - ms(20) + secs(9) }));
}

#[test]
fn quota_exhausted() {
    let (world, router) = after(a(), fail(FailureKind::QuotaExhausted));
    assert_eq!(rejected(&router, plain()), Some(Reason::QuotaExhausted { until: world.now() - ms(20) + secs(300) }));
}

#[test]
fn unauthorized() {
    let (world, router) = after(a(), fail(FailureKind::Unauthorized));
    assert_eq!(rejected(&router, plain()), Some(Reason::Unauthorized { until: world.now() - ms(20) + secs(60) }));
}

#[test]
fn model_unavailable() {
    let (world, router) = after(a(), fail(FailureKind::ModelUnavailable));
    assert_eq!(rejected(&router, plain()), Some(Reason::ModelUnavailable { until: world.now() - ms(20) + secs(60) }));
}

#[test]
fn at_capacity() {
    let world = World::new();
    let router = pair(&world, a().concurrency(2), always(Act::Answer(secs(1))));
    let calls = [(); 2].map(|()| world.spawn_call(&router, within(secs(5))));
    world.settle();
    assert_eq!(rejected(&router, plain()), Some(Reason::AtCapacity { in_flight: 2, limit: 2 }));
    world.run();
    drop(calls);
}

#[test]
fn over_quota() {
    let world = World::new();
    let router = pair(&world, a().requests_per_minute(6), always(ANSWER));
    for _ in 0..6 {
        world.call(&router, within(secs(5))).unwrap();
    }
    // Each takes 20 ms, and the first is back ten seconds after it was sent.
    assert_eq!(rejected(&router, plain()), Some(Reason::OverQuota { until: world.now() - ms(120) + secs(10) }));
}

#[test]
fn quota_kept() {
    let world = World::new();
    let router = pair(&world, a().model("m").tokens_per_minute(6_000), always(ANSWER));
    let of = |prompt| Facts::model("m").prompt_tokens(prompt).output_tokens(0).replay_safe();
    let ask = |prompt| world.ask(&router, CallOptions::within(secs(50)).facts(of(prompt)));
    let (_full, _large) = (ask(6_000), ask(2_000));
    world.run_for(secs(5));
    // The first waits for as much as refills in 20 s; a quarter of that is there.
    let kept = Some(Reason::QuotaKept { until: world.now() + secs(15) });
    assert_eq!(rejected(&router, of(100)), kept);
    assert_eq!(rejected(&router, of(100).priority(Priority::Batch)), kept);
    assert_eq!(rejected(&router, of(100).priority(Priority::Critical)), None);
    assert_eq!(rejected(&router, of(600)), Some(Reason::OverQuota { until: world.now() + secs(1) }));
    world.run_for(secs(15));
    // It has started, and taken all.
    assert_eq!(rejected(&router, of(100)), Some(Reason::OverQuota { until: world.now() + secs(1) }));
}

#[test]
fn quota_too_small() {
    let facts = |prompt| plain().prompt_tokens(prompt).output_tokens(100);
    let too_small = Some(Reason::QuotaTooSmall { tokens: 1_001, limit: 1_000 });
    assert_eq!(before(a().tokens_per_minute(1_000), facts(901)), too_small);
    assert_eq!(before(a().tokens_per_minute(9_000).token_burst(1_000), facts(901)), too_small);
    assert_eq!(before(a().tokens_per_minute(1_000), facts(900)), None);
    assert_eq!(before(a().tokens_per_minute(100).token_burst(1_000), facts(900)), None);
}

#[test]
fn prefill_full() {
    let world = World::new();
    let router = pair(&world, a().max_prefill_tokens(50), always(Act::Answer(secs(1))));
    let call = world.spawn_call(&router, within(secs(5)));
    world.settle();
    assert_eq!(rejected(&router, plain().prompt_tokens(31)), Some(Reason::PrefillFull { asked: 31, free: 30 }));
    world.run();
    drop(call);
}

#[test]
fn tokens_full() {
    let world = World::new();
    let router = pair(&world, a().max_total_tokens(100), always(Act::Answer(secs(1))));
    // 20 tokens of the prompt, and 30 that are expected of the answer.
    let call = world.spawn_call(&router, within(secs(5)));
    world.settle();
    let facts = plain().output_tokens(31);
    assert_eq!(rejected(&router, facts), Some(Reason::TokensFull { asked: 51, free: 50 }));
    world.run();
    drop(call);
}

#[test]
fn token_bound_too_small() {
    let too_small = |tokens, limit| Some(Reason::TokenBoundTooSmall { tokens, limit });
    assert_eq!(before(a().max_prefill_tokens(100), plain().prompt_tokens(101)), too_small(101, 100));
    let facts = plain().prompt_tokens(60);
    assert_eq!(before(a().max_total_tokens(100), facts.clone().output_tokens(41)), too_small(101, 100));
    assert_eq!(before(a().max_total_tokens(100), facts), None);
}

#[test]
fn tenant_full() {
    let world = World::new();
    let policy = ordered().fail_safe(FailSafe::default());
    let builder = world.router(policy).tenant_bulkheads(Bulkheads::of(4, Share::at_most(2)));
    let (router, _) = world.fleet(builder, [(a(), always(Act::Answer(secs(1))))]);
    let calls = [(); 2].map(|()| world.spawn_call(&router, within(secs(5))));
    world.settle();
    assert_eq!(rejected(&router, plain()), Some(Reason::TenantFull { in_flight: 2, most: 2 }));
    assert_eq!(rejected(&router, plain().tenant("another")), None);
    world.run();
    drop(calls);
}

#[test]
fn route_full() {
    let world = World::new();
    // Its maximum is three, and of four two are kept for another.
    let routes = Bulkheads::of(4, Share::at_most(3)).share("other", Share::at_least(2));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).route_bulkheads(routes);
    let (router, _) = world.fleet(builder, [(a(), always(Act::Answer(secs(1))))]);
    let calls = [(); 2].map(|()| world.spawn_call(&router, within(secs(5))));
    world.settle();
    assert_eq!(rejected(&router, plain()), Some(Reason::RouteFull { in_flight: 2, most: 2 }));
    world.run();
    drop(calls);
}

#[test]
fn no_share() {
    let world = World::new();
    // All four are kept for one.
    let tenants = Bulkheads::of(4, Share::at_most(2)).share("a", Share::at_least(4));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).tenant_bulkheads(tenants);
    let (router, _) = world.fleet(builder, [(a(), always(ANSWER))]);
    assert_eq!(rejected(&router, plain()), Some(Reason::NoShare));
    assert_eq!(rejected(&router, plain().tenant("a")), None);
    // At once: it would wait for ever.
    let before = world.now();
    let refused = world.call(&router, within(secs(5))).unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (RouteErrorKind::NothingUsable, None));
    assert_eq!(world.now(), before);
}

#[test]
fn outside_shard() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, _) = world.fleet(world.router(ordered().shuffle_shards(1)), members);
    let rejected = |n| rejected(&router, plain().tenant(format!("t{n}")));
    assert_eq!((0..9).find_map(rejected), Some(Reason::OutsideShard { size: 1 }));
}

#[test]
fn region_full() {
    let world = World::new();
    let policy = ordered().region_failover(Regions::new("near")).fail_safe(FailSafe::default());
    let profile = a().region("near").concurrency(2);
    let (router, _) = world.fleet(world.router(policy), [(profile, always(Act::Answer(secs(1))))]);
    let calls = [(); 2].map(|()| world.spawn_call(&router, within(secs(5))));
    world.settle();
    assert_eq!(rejected(&router, plain()), Some(Reason::RegionFull { in_flight: 2, room: 2 }));
    world.run();
    drop(calls);
}

#[test]
fn reserved() {
    let world = World::new();
    let policy = ordered().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let (router, _) = world.fleet(world.router(policy), [(a().concurrency(4), always(Act::Answer(secs(1))))]);
    let calls = [(); 3].map(|()| world.spawn_call(&router, within(secs(5))));
    world.settle();
    let reserved = Reason::Reserved { full: 750, ceiling: 850, until: None };
    assert_eq!(rejected(&router, plain()), Some(reserved));
    world.run();
    drop(calls);
}

#[test]
fn throttled() {
    let world = World::new();
    let policy = ordered().capacity_aware(Capacity::default().throttle()).fail_safe(FailSafe::default());
    let members = [(a(), always(fail(Overloaded))), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(policy).ejection(Ejection::off()), members);
    (0..40).for_each(|_| drop(world.call(&router, within(secs(5)))));
    let reasons: Vec<_> = (0..40).filter_map(|_| rejected(&router, plain())).collect();
    assert!(reasons.iter().all(|reason| matches!(reason, Reason::Throttled { share: 750..=900 })), "{reasons:?}");
    assert!(reasons.len() > 20);
}

#[test]
fn probe_in_flight() {
    let (world, router) = after(a(), hint(RateLimited, secs(1)));
    world.run_for(secs(2));
    let probe = world.spawn_call(&router, within(secs(60)));
    world.settle();
    assert_eq!(rejected(&router, plain()), Some(Reason::ProbeInFlight { until: world.now() + secs(30) }));
    world.run();
    drop(probe);
}

#[test]
fn ejected() {
    let world = World::new();
    let router = pair(&world, a(), always(fail(ServerError)));
    for _ in 0..5 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert!(matches!(rejected(&router, plain()), Some(Reason::Ejected { failures: 5, .. })));
}

#[test]
fn fails_often() {
    let world = World::new();
    let acts = [3, 2].map(|failures| std::iter::repeat_n(fail(ServerError), failures));
    let [first, then] = acts;
    let router = pair(&world, a(), in_turn(first.chain([ANSWER]).chain(then)));
    for _ in 0..5 {
        world.call(&router, within(secs(5))).unwrap();
    }
    let Some(Reason::FailsOften { failures: 4, samples: 5, .. }) = rejected(&router, plain()) else { panic!() };
}

/// Ten backends with a policy that asks all of them, `a` first; the router after so many requests.
fn after_turns(ejection: Ejection, script: fn(bool) -> Script, requests: usize) -> TestRouter {
    let world = World::new();
    let members = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|id| (Profile::new(id), script(id == "a")));
    let builder = world.router(round_robin().fail_safe(FailSafe::default())).ejection(ejection);
    let (router, _) = world.fleet(builder, members);
    for _ in 0..requests {
        drop(world.call(&router, within(secs(5))).unwrap());
    }
    router
}

#[test]
fn slower_than_peers() {
    let script = |slow| always(Act::Answer(ms(if slow { 500 } else { 20 })));
    let router = after_turns(Ejection::default().slower_than_peers(3.0), script, 150);
    let Some(Reason::SlowerThanPeers { usual, median, .. }) = rejected(&router, plain()) else { panic!() };
    assert_eq!((usual, median), (500_000_000, 20_000_000));
}

#[test]
fn fails_more_than_peers() {
    let script = |ill| -> Script {
        Box::new(move |cue| if ill && cue.call % 2 == 1 { fail(ServerError) } else { Act::Answer(ms(2)) })
    };
    let router = after_turns(Ejection::default(), script, 600);
    let Some(Reason::FailsMoreThanPeers { rate, mean, .. }) = rejected(&router, plain()) else { panic!() };
    assert!(rate.abs_diff(500) < 30 && mean > 940, "{rate} and {mean} of 1000");
}

#[test]
fn domain_out() {
    let world = World::new();
    let unreachable = || always(fail(FailureKind::Unreachable));
    let members = [
        (a().region("eu"), unreachable()),
        (Profile::new("b").region("us"), always(ANSWER)),
        (Profile::new("c").region("eu"), unreachable()),
    ];
    let (router, _) = world.fleet(world.router(round_robin().fail_safe(FailSafe::default())), members);
    for _ in 0..5 {
        drop(world.call(&router, within(secs(5))).unwrap());
    }
    let reason = rejected(&router, plain());
    assert!(matches!(reason, Some(Reason::DomainOut { failing: 2, members: 2, .. })), "{reason:?}");
}

#[test]
fn cooling_down() {
    let (_, router) = after(a(), fail(Overloaded));
    assert!(matches!(rejected(&router, plain()), Some(Reason::CoolingDown { failures: 1, .. })));
}

#[test]
fn on_probation() {
    let (world, router) = after(a(), fail(Overloaded));
    world.run_for(secs(20));
    let probe = world.spawn_call(&router, within(secs(60)));
    world.settle();
    assert_eq!(rejected(&router, plain()), Some(Reason::OnProbation { until: world.now() + secs(30) }));
    world.run();
    drop(probe);
}

#[test]
fn unhealthy() {
    let (world, opinion) = (World::new(), Opinion::default());
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, _) = world.fleet(world.router(ordered()).signal(opinion.clone()), members);
    (0..3).for_each(|slot| opinion.fresh(slot, if slot == 0 { 499 } else { 1000 }, world.now()));
    assert_eq!(rejected(&router, plain()), Some(Reason::Unhealthy { signal: 0, score: 499, at: world.now() }));
}

/// The reason for which `a` is out in the decision about a second attempt, after the first failed so.
fn second_attempt(kind: FailureKind, of: &str) -> Option<Reason> {
    let (world, log) = (World::new(), Log::default());
    let members = ["a", "b", "c"].map(|id| (Profile::new(id).context_window(1_000), always(fail(kind))));
    let (router, _) =
        world.fleet(world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()), members);
    let _ = world.call(&router, within(ms(1)));
    let decision = log.decisions().into_iter().nth(1).unwrap();
    let candidate = decision.candidates().find(|it| it.name() == of).unwrap();
    candidate.rejected()
}

#[test]
fn failed_here() {
    assert_eq!(second_attempt(ServerError, "a"), Some(Reason::FailedHere { attempt: 1, kind: ServerError }));
}

#[test]
fn quota_in_doubt() {
    let (world, log) = (World::new(), Log::default());
    let limited = || always(hint(RateLimited, secs(1)));
    let members = [(a(), limited()), (Profile::new("b"), limited()), (Profile::new("c"), always(ANSWER))];
    let (router, _) =
        world.fleet(world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()), members);
    for _ in 0..2 {
        assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("c"));
        world.run_for(secs(4));
    }
    // Both should be back; `a` was asked and was not.
    let decisions = log.decisions();
    let b = decisions.last().and_then(|last| last.candidates().nth(1)).unwrap();
    assert_eq!(b.rejected(), Some(Reason::QuotaInDoubt));
}

#[test]
fn would_repeat() {
    assert_eq!(second_attempt(ContextTooLong, "b"), Some(Reason::WouldRepeat { kind: ContextTooLong }));
}

#[test]
fn lost_race() {
    let (world, rival) = (World::new(), Rival::default());
    let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(1), always(ANSWER)));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(rival.clone());
    let (router, _) = world.fleet(builder, members);
    rival.lurk(&router);
    let routed = world.call(&router, within(secs(5))).unwrap();
    assert_eq!((routed.backend(), routed.attempts().len()), (Some("b"), 1));
    assert_eq!(routed.decision().candidates().next().and_then(|a| a.rejected()), Some(Reason::LostRace));
    drop(routed);
    rival.leave();
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn forbidden() {
    let world = World::new();
    let strict = policy_fn("strict", |_, slate| {
        slate.each(|candidate| {
            if candidate.profile().id() == "a" {
                candidate.reject(Reason::Forbidden { text: "not on Sundays" });
            }
        });
    });
    let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, _) = world.fleet(world.router(strict), members);
    assert_eq!(rejected(&router, plain()), Some(Reason::Forbidden { text: "not on Sundays" }));
}

#[test]
fn custom() {
    let world = World::new();
    let picky = policy_fn("picky", |_, slate| {
        slate.each(|candidate| {
            if candidate.profile().id() == "a" {
                candidate.reject(Reason::Custom { text: "smells" });
            }
        });
    });
    let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, _) = world.fleet(world.router(picky), members);
    assert_eq!(rejected(&router, plain()), Some(Reason::Custom { text: "smells" }));
    assert_eq!(router.explain(&CallOptions::new(plain())).rejections(), [("smells", 1)]);
}

#[test]
fn too_slow() {
    let world = World::new();
    let stack = ordered().fail_safe(FailSafe::default().attempt_limit(ms(1_000)));
    let a = in_turn([fail(FailureKind::ServerError), Act::Hang]);
    let b = always(Act::Answer(ms(800)));
    let members = [("a", a), ("b", b)].map(|(id, script)| (Profile::new(id).region("eu"), script));
    let (router, _) = world.fleet(world.router(stack), members);
    let ask = || world.call(&router, CallOptions::new(Facts::any().replay_safe()));
    assert_eq!(ask().unwrap().backend(), Some("b"));
    // Its peer takes 800 of 1000 ms: where one attempt timed out, another would hardly do better.
    let error = ask().unwrap_err();
    assert_eq!(error.attempts().len(), 1);
    let reasons: Vec<_> = error.decision().candidates().filter_map(|candidate| candidate.rejected()).collect();
    assert!(reasons.contains(&Reason::TooSlow { predicted: 800_000_000 }), "{reasons:?}");
}

#[test]
fn misses_deadline() {
    let world = World::new();
    let policy = ordered().budgeted(Budgets::default()).fail_safe(FailSafe::default());
    let members = [(a(), always(Act::Answer(secs(1)))), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(policy), members);
    (0..30).for_each(|_| drop(world.call(&router, within(secs(5)))));
    let decision = router.explain(&within(ms(100)));
    let reason = decision.candidates().next().unwrap().rejected();
    assert!(matches!(reason, Some(Reason::MissesDeadline { left: 100_000_000, .. })), "{decision}");
    assert_eq!(decision.chosen().unwrap().name(), "b");
}

/// The decision of a hedge beside `a`, at this moment and after what `before` did.
fn hedge<const N: usize>(profiles: [Profile; N], at: Duration, before: impl FnOnce(&TestRouter)) -> Decision {
    let world = World::new();
    let hedge = Hedge::of(0.5).unwrap().after(ms(10));
    let policy = ordered().budgeted(Budgets::default().hedge(hedge)).fail_safe(FailSafe::default());
    let members = profiles.map(|profile| (profile, always(ANSWER)));
    let router = world.fleet(world.router(policy), members).0;
    let start = world.now();
    // Two requests pay for one hedge.
    let mut trips = [0; 2].map(|_| router.trip(within(secs(60)), start));
    trips.iter_mut().for_each(|trip| drop(trip.next(start).unwrap()));
    before(&router);
    let [mut trip, _] = trips;
    let hedge = trip.hedge(start + at).unwrap();
    trip.answered(hedge.number(), start + at);
    assert!(router.replay(trip.decision()).same_choice(trip.decision()));
    trip.decision().clone()
}

/// What this decision says of the backend of this name.
fn of(decision: &Decision, name: &str) -> Option<Reason> {
    let candidate = decision.candidates().find(|candidate| candidate.name() == name).unwrap();
    assert!(candidate.rejected().is_none_or(|reason| decision.to_string().contains(reason.label())), "{decision}");
    candidate.rejected()
}

#[test]
fn asked_already() {
    let decision = hedge([a(), Profile::new("b")], ms(10), |_| {});
    assert_eq!(of(&decision, "a"), Some(Reason::AskedAlready { attempt: 1 }));
}

#[test]
fn domain_asked() {
    let rack = |name, rack| Profile::new(name).failure_domain(rack);
    let decision = hedge([rack("a", "1"), rack("b", "1"), rack("c", "2")], ms(10), |_| {});
    assert_eq!(of(&decision, "b"), Some(Reason::DomainAsked { attempt: 1 }));
    assert_eq!((of(&decision, "c"), decision.chosen().unwrap().name()), (None, "c"));
}

#[test]
fn not_for_hedges() {
    // It could not be reached, and whoever finds out whether it can be again is due in half a minute.
    let gone = |router: &TestRouter| {
        router.update(|fleet| fleet.drain("a")).unwrap();
        let now = World::new().now();
        let mut trip = router.trip(within(secs(60)), now);
        trip.next(now).unwrap();
        trip.fail(1, FailureKind::Unreachable.into(), false, now);
        router.update(|fleet| fleet.restore("a")).unwrap();
    };
    let decision = hedge([a(), Profile::new("b"), Profile::new("c")], secs(30), gone);
    assert_eq!(of(&decision, "b"), Some(Reason::NotForHedges));
}
