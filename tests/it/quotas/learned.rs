//! What a provider says of its quota is believed.

use super::{PLAIN, Play, a, ask, builder, left, scripted};
use crate::support::{World, ms, plain, secs, tokens, within};
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, FailureKind, Profile};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After one answer with these headers.
fn after(profile: Profile, headers: &'static [(&'static str, &'static str)]) -> (Option<u64>, Option<u64>) {
    let world = World::new();
    let (backend, _) = scripted(world.timer(), move |_| Play { headers, ..super::used(10, 10) });
    let router = builder(&world, ordered()).backend(profile, backend).build().unwrap();
    let options = CallOptions::within(secs(5)).facts(tokens(10, 10));
    ask(&world, &router, options).unwrap();
    let quota = router.quota("a").unwrap();
    assert_eq!(left(&router), (quota.requests.remaining, quota.tokens.remaining));
    (
        quota.requests.limit.zip(quota.requests.remaining).map(|(limit, left)| limit * 1_000 + left),
        quota.tokens.remaining,
    )
}

#[test]
fn a_limit_that_nobody_configured_is_learned_from_the_first_answer() {
    let headers = &[
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "40"),
        ("x-ratelimit-limit-tokens", "9000"),
        ("x-ratelimit-remaining-tokens", "500"),
    ];
    assert_eq!(after(a(), headers), (Some(60_040), Some(500)));
    // Less than the host said, and less than is left by the router's own books.
    assert_eq!(after(a().requests_per_minute(100).tokens_per_minute(90_000), headers), (Some(60_040), Some(500)));
    // What the host said is this router's part: neither the limit nor what is left for all is for it alone.
    assert_eq!(after(a().requests_per_minute(30).tokens_per_minute(300), headers), (Some(30_029), Some(280)));
}

#[test]
fn what_says_nothing_changes_nothing() {
    let profile = || a().requests_per_minute(100);
    for headers in [
        &[("x-ratelimit-limit-requests", "0")][..],
        &[("x-ratelimit-limit-requests", "-5"), ("x-ratelimit-remaining-requests", "NaN")],
        &[("x-ratelimit-remaining-requests", "99"), ("x-ratelimit-limit-requests", "100")],
        // The quota of a day.
        &[
            ("x-ratelimit-limit-requests", "50"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "5h"),
        ],
    ] {
        assert_eq!(after(profile(), headers).0, Some(100_099), "{headers:?}");
    }
    // No limit is known, so what is left of it means nothing.
    assert_eq!(after(a(), &[("x-ratelimit-remaining-requests", "0")]).0, None);
}

#[test]
fn one_odd_limit_locks_nobody_out() {
    let odd = &[("x-ratelimit-limit-tokens", "1")];
    for next in [&[][..], &[("x-ratelimit-limit-tokens", "90000")]] {
        let world = World::new();
        let headers = move |call| if call == 0 { &odd[..] } else { next };
        let (backend, _) = scripted(world.timer(), move |call| Play { headers: headers(call), ..super::used(500, 10) });
        let router = builder(&world, ordered().fail_safe(FailSafe::default()));
        let router = router.backend(a(), backend).build().unwrap();
        let options = || CallOptions::within(secs(70)).facts(tokens(500, 10));
        ask(&world, &router, options()).unwrap();
        // What it said is more than it is asked for, so it is tried when all of it is there: after a minute.
        ask(&world, &router, options()).unwrap();
        let (second, took) = world.timed(|| ask(&world, &router, options()));
        second.unwrap();
        // It says something else then; or it says nothing any more, and a limit that nobody repeats is forgotten.
        assert_eq!(took > secs(50), next.is_empty(), "{took:?}");
        world.run_for(secs(600));
        for _ in 0..20 {
            let (answered, took) = world.timed(|| ask(&world, &router, options()));
            assert_eq!((answered.is_ok(), took), (true, ms(20)));
        }
    }
}

#[test]
fn a_window_that_is_no_minute_is_not_taken_for_one() {
    // So many requests a second, as bare headers say it; a tenth of a second between two.
    for told in [None, Some(1_200)] {
        let world = World::new();
        let (backend, calls) = scripted(world.timer(), move |_| Play {
            headers: &[("x-ratelimit-limit", "10"), ("x-ratelimit-remaining", "9"), ("x-ratelimit-reset", "1")],
            ..PLAIN
        });
        let profile = told.into_iter().fold(a(), Profile::requests_per_minute);
        let router = builder(&world, ordered()).backend(profile, backend).build().unwrap();
        for _ in 0..600 {
            let _ = ask(&world, &router, within(ms(50)));
            world.run_for(ms(80));
        }
        assert_eq!((calls.load(Ordering::SeqCst), router.quota("a").unwrap().requests.limit), (600, told));
    }
}

#[test]
fn a_new_key_and_another_model_have_quotas_of_their_own() {
    let headers = &[("x-ratelimit-limit-requests", "5"), ("x-ratelimit-remaining-requests", "0")];
    let profile = || a().model("m@1").credential("old").requests_per_minute(10);
    for (next, same) in
        [(profile().weight(2.0), true), (profile().credential("new"), false), (profile().model("m@2"), false)]
    {
        let world = World::new();
        let (backend, _) = scripted(world.timer(), move |_| Play { headers, ..PLAIN });
        let router = builder(&world, ordered()).backend(profile(), backend).build().unwrap();
        ask(&world, &router, within(secs(5))).unwrap();
        let before = router.quota("a").unwrap().requests;
        assert_eq!((before.limit, before.remaining), (Some(5), Some(0)));
        router.update(|fleet| fleet.reprofile(next)).unwrap();
        let after = router.quota("a").unwrap().requests;
        let expected = if same { (Some(5), Some(0)) } else { (Some(10), Some(10)) };
        assert_eq!((after.limit, after.remaining), expected);
    }
}

#[test]
fn the_learned_limit_holds_for_the_next_request_and_survives_updates() {
    let world = World::new();
    let headers = |call| match call {
        0 => &[("x-ratelimit-limit-requests", "2"), ("x-ratelimit-remaining-requests", "1")],
        _ => &[("x-ratelimit-limit-requests", "2"), ("x-ratelimit-remaining-requests", "0")],
    };
    let (backend, calls) = scripted(world.timer(), move |call| Play { headers: headers(call), ..PLAIN });
    let (other, _) = scripted(world.timer(), |_| PLAIN);
    let router = builder(&world, ordered().fail_safe(FailSafe::default()));
    let router = router.backend(a(), backend).backend(Profile::new("b"), other).build().unwrap();
    for _ in 0..2 {
        ask(&world, &router, within(secs(5))).unwrap();
    }
    router.update(|fleet| fleet.reprofile(a().weight(2.0))).unwrap();
    assert_eq!(router.quota("a").unwrap().requests.limit, Some(2));
    let decision = router.explain(&within(secs(5)));
    assert!(matches!(decision.candidates().next().unwrap().rejected(), Some(Reason::OverQuota { .. })), "{decision}");
    ask(&world, &router, within(secs(5))).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_refusal_with_a_hint_empties_the_mirror_until_then() {
    let world = World::new();
    let hint = Some((FailureKind::RateLimited, Some(secs(6))));
    let (backend, calls) = scripted(world.timer(), move |call| Play { fails: hint.filter(|_| call == 0), ..PLAIN });
    let router = builder(&world, ordered().fail_safe(FailSafe::default()));
    let router = router.backend(a().requests_per_minute(60), backend).build().unwrap();
    let start = world.now();
    let answered = ask(&world, &router, within(secs(30))).unwrap();
    drop(answered);
    assert_eq!((world.now() - start, calls.load(Ordering::SeqCst)), (secs(6) + ms(40), 2));
    // Not a burst of sixty after the rest, but one a second.
    let (requests, _) = left(&router);
    assert_eq!(requests, Some(0));
    world.run_for(secs(10));
    assert_eq!(left(&router).0, Some(10));
}

#[test]
fn a_refusal_without_a_hint_says_that_less_is_left_than_was_asked_for() {
    let world = World::new();
    let fails = Some((FailureKind::RateLimited, None));
    let (backend, _) = scripted(world.timer(), move |_| Play { fails, ..PLAIN });
    let router = builder(&world, ordered());
    let router = router.backend(a().requests_per_minute(600).tokens_per_minute(1_000), backend).build().unwrap();
    ask(&world, &router, CallOptions::within(secs(5)).facts(plain().prompt_tokens(100))).unwrap_err();
    // 250 tokens of 1,000 are nearer to the end than one request of 600: less than 250 are left.
    assert_eq!(left(&router), (Some(600), Some(249)));
}

#[test]
fn a_provider_that_holds_less_than_the_host_said_is_learned_within_a_window() {
    // A provider of 30 requests a minute, of which the host said 300: a bucket of its own, full at first.
    let world = World::new();
    let timer = world.timer().clone();
    let level = std::sync::Arc::new(std::sync::Mutex::new((30.0f64, fallway::time::Timer::now(&timer))));
    let refusals = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = refusals.clone();
    let backend = fallway::backend::backend_fn(move |_: &str, attempt: &fallway::backend::Attempt| {
        let now = fallway::time::Timer::now(&timer);
        let mut bucket = level.lock().unwrap();
        bucket.0 = (bucket.0 + (now - bucket.1).as_secs_f64() / 2.0).min(30.0);
        bucket.1 = now;
        let enough = bucket.0 >= 1.0 - 1e-6;
        bucket.0 -= f64::from(u8::from(enough));
        let remaining = format!("{}", (bucket.0 + 1e-6).floor());
        let header = |name: &str| match name {
            "x-ratelimit-limit-requests" => Some("30"),
            "x-ratelimit-remaining-requests" => Some(remaining.as_str()),
            _ => None,
        };
        attempt.quota(&fallway::signal::QuotaReport::from_headers(header, std::time::SystemTime::now()));
        counted.fetch_add(u64::from(!enough), Ordering::SeqCst);
        let hint = Duration::from_secs_f64(((1.0 - bucket.0) * 2.0).max(0.0));
        async move {
            if enough {
                Ok("answer")
            } else {
                Err(fallway::BackendError::new(FailureKind::RateLimited).retry_after(hint))
            }
        }
    });
    let router = builder(&world, ordered().fail_safe(FailSafe::default())).longest_wait(secs(300));
    let router = router.backend(a().requests_per_minute(300), backend).build().unwrap();
    let calls: Vec<_> = (0..90u32)
        .map(|n| {
            let (router, timer) = (router.clone(), world.timer().clone());
            let at = world.now() + ms(100) * n;
            world.spawn(async move {
                fallway::time::Timer::sleep_until(&timer, at).await;
                router.call("ask", within(secs(300))).await.is_ok()
            })
        })
        .collect();
    let start = world.now();
    world.run();
    assert!(calls.into_iter().all(|call| call.take()));
    // The first answer said it: nothing was refused, and the sixty that had to wait came one by one.
    assert_eq!((refusals.load(Ordering::SeqCst), router.quota("a").unwrap().requests.limit), (0, Some(30)));
    let took = world.now() - start;
    assert!((secs(118)..secs(122)).contains(&took), "{took:?}");
}
