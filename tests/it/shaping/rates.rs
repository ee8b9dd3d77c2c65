//! Requests that come too fast.

use crate::support::{ANSWER, Log, TestRouter, Told, World, always, fail, ms, secs};
use fallway::FailureKind::Overloaded;
use fallway::budget::RetryBudget;
use fallway::decision::{Next, Refusal};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Builder, RouteErrorKind, Step};
use fallway::shape::RateLimit;
use fallway::time::Instant;
use fallway::{CallOptions, Facts, Profile};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn router(world: &World, limits: impl IntoIterator<Item = RateLimit>) -> TestRouter {
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let builder = limits.into_iter().fold(builder, Builder::rate_limit);
    world.fleet(builder, [(Profile::new("a"), always(ANSWER))]).0
}

fn of(tenant: &str) -> Facts {
    Facts::any().tenant(tenant).replay_safe()
}

/// Whether a request of these facts gets in at this time; by what it is refused if not.
fn asks(router: &TestRouter, facts: Facts, at: Instant) -> Result<(), (&'static str, Instant)> {
    match router.trip(CallOptions::new(facts), at).next(at) {
        Ok(Step::Call(_)) => Ok(()),
        Ok(step) => panic!("{step:?}"),
        Err(error) => match error.decision().next() {
            Next::Refuse { why: Refusal::OverRate { limit, until } } => {
                assert_eq!(error.retry_after(), Some(until - at));
                Err((limit, until))
            }
            _ => panic!("{error}"),
        },
    }
}

#[test]
fn the_grant_ratio_is_exact_from_one_percent_to_all() {
    // A hundred requests a second for a thousand seconds, of which so many in a hundred are granted.
    for percent in [1, 2, 3, 7, 10, 33, 50, 75, 99, 100] {
        let world = World::new();
        let router = router(&world, [RateLimit::new("tenant", percent, secs(1)).by_tenant().burst(2)]);
        let start = world.now();
        let asked = 100_000u32;
        let granted = (0..asked).filter(|n| asks(&router, of("t"), start + ms(10) * *n).is_ok()).count();
        let expected = f64::from(asked * percent) / 100.0;
        assert!((granted as f64 / expected - 1.0).abs() <= 0.01, "{percent} %: {granted} of {expected}");
    }
}

#[test]
fn no_window_has_more_than_the_rate_and_one_burst() {
    let world = World::new();
    let minute = secs(60);
    let router = router(&world, [RateLimit::new("tenant", 100, minute).by_tenant().burst(10)]);
    let mut granted: Vec<Instant> = Vec::new();
    let mut rng = fallway::rng::Rng::new(3);
    let mut at = world.now();
    while granted.len() < 2_000 {
        if rng.below(20) == 0 {
            at = at + ms(rng.below(20_000) as u64);
        }
        if asks(&router, of("t"), at).is_ok() {
            granted.push(at);
        }
    }
    for (index, at) in granted.iter().enumerate() {
        let within = granted[index..].iter().take_while(|other| **other - *at < minute).count();
        assert!(within <= 110, "{within}");
    }
    assert!(granted.iter().zip(&granted[9..]).any(|(one, tenth)| one == tenth), "the burst was used");
}

#[test]
fn eight_threads_get_no_more_than_one() {
    let world = World::new();
    let router = router(&world, [RateLimit::new("tenant", 100, secs(60)).by_tenant().burst(10)]);
    let start = world.now();
    // All see one clock, each at its own pace: a minute in steps of a millisecond.
    let clock = AtomicU32::new(0);
    let tick = || Some(clock.fetch_add(1, Ordering::SeqCst)).filter(|tick| *tick < 60_000);
    let ask = || std::iter::from_fn(tick).filter(|tick| asks(&router, of("t"), start + ms(1) * *tick).is_ok()).count();
    let granted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((109..=110).contains(&granted), "{granted}");
}

#[test]
fn a_refused_request_is_told_when_to_come_back_and_may_then() {
    let world = World::new();
    let rates = [(3, secs(1)), (7, secs(60)), (1, secs(86_400)), (1_000_003, secs(1)), (1, Duration::from_nanos(7))];
    // A process that has just begun, and some that have been up for a year and for ten.
    for (requests, period) in rates.into_iter().chain([(754_793, secs(86_400)), (4_001, secs(60))]) {
        for up in [0, 31_557_600, 315_576_000].map(secs) {
            let router = router(&world, [RateLimit::new("tenant", requests, period).by_tenant().burst(1)]);
            let mut at = world.now() + ms(17) + up;
            for n in 0..200 {
                assert_eq!(asks(&router, of("t"), at), Ok(()), "{requests} in {period:?}, up for {up:?}, the {n}th");
                let (limit, until) = asks(&router, of("t"), at).unwrap_err();
                let pause = period.as_secs_f64() / f64::from(requests);
                let rounding = 3e-9 + up.as_secs_f64() * 4.0 * f64::EPSILON;
                let off = ((until - at).as_secs_f64() - pause).abs();
                assert!(limit == "tenant" && off <= pause / 60.0 + rounding, "{until:?}");
                at = until;
            }
        }
    }
}

#[test]
fn keys_are_what_the_limit_says() {
    let world = World::new();
    let minute = |name| RateLimit::new(name, 60, secs(60)).burst(1);
    let with = |tenant: &str, route: &str| of(tenant).label("route", route);
    for (limit, same, other) in [
        (minute("all"), Some(with("b", "y")), None),
        (minute("tenant").by_tenant(), Some(with("a", "y")), Some(with("b", "x"))),
        (minute("route").by_label("route"), Some(with("b", "x")), Some(with("a", "y"))),
        (minute("both").by_tenant().by_label("route"), Some(with("a", "x")), Some(with("a", "y"))),
        (minute("both").by_tenant().by_label("route"), None, Some(with("b", "x"))),
        (minute("both").by_label("route").by_tenant(), None, Some(with("x", "a"))),
        (minute("tenant").by_tenant(), None, Some(Facts::any())),
        (minute("tenant").by_tenant(), None, Some(of(""))),
    ] {
        let router = router(&world, [limit]);
        asks(&router, with("a", "x"), world.now()).unwrap();
        asks(&router, with("a", "x"), world.now()).unwrap_err();
        same.into_iter().for_each(|facts| assert!(asks(&router, facts, world.now()).is_err()));
        other.into_iter().for_each(|facts| asks(&router, facts, world.now()).unwrap());
    }
    // No tenant is one tenant.
    let router = router(&world, [minute("tenant").by_tenant()]);
    asks(&router, Facts::any(), world.now()).unwrap();
    asks(&router, Facts::any(), world.now()).unwrap_err();
    asks(&router, of(""), world.now()).unwrap();
}

#[test]
fn of_several_limits_all_are_taken_or_none() {
    let world = World::new();
    let minute = |name| RateLimit::new(name, 60, secs(60));
    let limits = || [minute("tenant").by_tenant().burst(5), minute("all").burst(3)];
    let router = router(&world, limits());
    let now = world.now();
    let asked: Vec<_> = (0..4).map(|_| asks(&router, of("a"), now).map_err(|(limit, _)| limit)).collect();
    assert_eq!(asked, [Ok(()), Ok(()), Ok(()), Err("all")]);
    // The tenant has its two others still.
    (0..50).for_each(|_| assert!(asks(&router, of("a"), now).is_err()));
    let later = now + secs(2);
    assert_eq!((0..2).filter(|_| asks(&router, of("a"), later).is_ok()).count(), 2);
    assert_eq!(asks(&router, of("a"), later).map_err(|(limit, _)| limit), Err("all"));
}

#[test]
fn of_several_limits_the_one_that_has_a_token_last_says_when_to_come_back() {
    let world = World::new();
    let limit = |name, requests| RateLimit::new(name, requests, secs(60)).burst(1);
    for limits in [[limit("soon", 60), limit("late", 6)], [limit("late", 6), limit("soon", 60)]] {
        let router = router(&world, limits);
        let now = world.now();
        asks(&router, of("t"), now).unwrap();
        let (limit, until) = asks(&router, of("t"), now).unwrap_err();
        assert_eq!(limit, "late");
        world.timer().set(now + ms(5));
        let told = router.explain(&CallOptions::new(of("t"))).next();
        assert!(matches!(told, Next::Refuse { why: Refusal::OverRate { limit: "late", .. } }), "{told:?}");
        assert_eq!(asks(&router, of("t"), until), Ok(()));
    }
}

#[test]
fn a_named_key_has_a_bucket_that_a_flood_of_strangers_does_not_touch() {
    let world = World::new();
    let limit = RateLimit::new("tenant", 60, secs(60)).by_tenant().burst(1).key(["search"], 600, 20);
    let router = router(&world, [limit]);
    let now = world.now();
    let granted = (0..300_000).filter(|n| asks(&router, of(&format!("stranger {n}")), now).is_ok()).count();
    assert_eq!(granted, RateLimit::BUCKETS, "as many as there are buckets");
    assert!(asks(&router, of("newcomer"), now).is_err(), "who comes late shares");
    let granted = (0..30).filter(|_| asks(&router, of("search"), now).is_ok()).count();
    assert_eq!(granted, 20);
    let (_, until) = asks(&router, of("search"), now).unwrap_err();
    assert!(until - now <= ms(101));
    // As soon as buckets are full again they are anybody's.
    let newcomers = (0..1_000).filter(|n| asks(&router, of(&format!("newcomer {n}")), now + secs(2)).is_ok()).count();
    assert_eq!(newcomers, 1_000);
}

#[test]
fn a_thousand_tenants_do_not_disturb_each_other() {
    let world = World::new();
    let router = router(&world, [RateLimit::new("tenant", 60, secs(60)).by_tenant().burst(3)]);
    let now = world.now();
    for tenant in 0..10_000 {
        let facts = || of(&format!("t{tenant}"));
        assert_eq!((0..5).filter(|_| asks(&router, facts(), now).is_ok()).count(), 3, "{tenant}");
    }
}

#[test]
fn a_refused_request_reaches_nobody_and_pays_for_nothing() {
    let world = World::new();
    let log = Log::default();
    let limit = RateLimit::new("tenant", 1, secs(3)).by_tenant().burst(2);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()).rate_limit(limit);
    let builder = builder.retry_budget(RetryBudget::new(0.3, 0).unwrap());
    let builder = builder.last_resort(world.backend("last", always(ANSWER)));
    let members = [("a", fail(Overloaded)), ("b", ANSWER)].map(|(id, act)| (Profile::new(id), always(act)));
    let (router, [a, b]) = world.fleet(builder, members);
    let call = || world.call(&router, CallOptions::new(of("t")));
    // A third of a retry is not one.
    assert!(call().unwrap().is_degraded());
    assert_eq!((a.calls(), b.calls()), (1, 0));
    assert_eq!(call().unwrap().backend(), Some("b"));
    for _ in 0..20 {
        let error = call().unwrap_err();
        assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::OverRate, 0));
        let told = error.to_string();
        assert!(told.contains("any model refused: over rate limit \"tenant\", there is room in 2.9"), "{told}");
        assert_eq!(error.decision().generation(), 1);
        assert!(router.replay(error.decision()).same_choice(error.decision()));
    }
    assert_eq!((a.calls(), b.calls()), (1, 1));
    assert_eq!(log.count(|told| matches!(told, Told::Refused { why: Refusal::OverRate { limit: "tenant", .. } })), 20);
    assert_eq!(
        log.count(|told| matches!(told, Told::Decided(_))),
        3,
        "nothing was planned for those that were refused"
    );
    // Three requests have paid for nine tenths of a retry.
    world.run_for(secs(3));
    assert!(call().unwrap().is_degraded());
    assert_eq!((a.calls(), b.calls()), (2, 1));
}

#[test]
fn a_dry_run_says_so_and_takes_nothing() {
    let world = World::new();
    let router = router(&world, [RateLimit::new("tenant", 60, secs(60)).by_tenant().burst(1)]);
    let options = CallOptions::new(of("t"));
    for _ in 0..10 {
        assert!(router.explain(&options).chosen().is_some());
    }
    let mut decision = router.explain(&options);
    asks(&router, of("t"), world.now()).unwrap();
    let refused = router.explain(&options);
    let Next::Refuse { why: Refusal::OverRate { limit: "tenant", until } } = refused.next() else {
        panic!("{refused}")
    };
    assert_eq!((refused.chosen().is_none(), refused.candidates().count()), (true, 1));
    assert!(router.replay(&refused).same_choice(&refused));
    router.decide(&mut decision, world.now(), 1);
    assert!(decision.chosen().is_none());
    router.decide(&mut decision, until, 1);
    assert!(decision.chosen().is_some());
}

#[test]
fn a_limit_that_cannot_be_meant_has_a_name() {
    let world = World::new();
    let minute = |requests| RateLimit::new("tenant", requests, secs(60)).by_tenant();
    for (limit, words) in [
        (minute(0), "a rate of zero"),
        (RateLimit::new("tenant", 1, Duration::ZERO), "a period of zero"),
        (RateLimit::new("tenant", 11, Duration::from_nanos(10)), "more than one request in a nanosecond"),
        (minute(1).burst(0), "a burst of zero"),
        (minute(1).key(["a"], 0, 1), "a rate of zero"),
        (minute(1).key(["a"], 1, 0), "a burst of zero"),
        (minute(1).key(["a", "b"], 1, 1), "key [\"a\", \"b\"] has 2 values for 1 parts"),
        (RateLimit::new("tenant", 1, secs(1)).key([""; 0], 1, 1), "key [] has 0 values for 0 parts"),
        (minute(1).key(["a"], 1, 1).key(["a"], 2, 1), "key [\"a\"] is given twice"),
    ] {
        let builder = world.router(ordered()).backend(Profile::new("a"), world.backend("a", always(ANSWER)));
        let told = builder.rate_limit(limit).build().unwrap_err().to_string();
        assert!(told.starts_with("rate limit \"tenant\": ") && told.contains(words), "{told}");
    }
}
