//! Several routers at one provider, which says with each answer what is left of its quota.

use super::{Quoted, a, ask, builder, left};
use crate::support::{World, secs, tokens};
use fallway::CallOptions;
use fallway::backend::{Attempt, BackendError, Usage, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::signal::QuotaReport;
use fallway::time::Timer;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

const LIMIT: u64 = 60_000;

/// Two routers, each told half of the quota as its rate, and as much at once as `burst`.
fn pair(world: &World, burst: Option<u64>) -> [Quoted; 2] {
    let timer = world.timer().clone();
    // A bucket that fills steadily.
    let level = Arc::new(Mutex::new((LIMIT as f64, timer.now())));
    let provider = move |_: &str, attempt: &Attempt| {
        let now = timer.now();
        let mut level = level.lock().unwrap();
        let refilled = level.0 + (now - level.1).as_secs_f64() * LIMIT as f64 / 60.0;
        *level = (refilled.min(LIMIT as f64) - 6_000.0, now);
        assert!(level.0 >= 0.0, "nobody is refused in this play");
        let remaining = level.0.to_string();
        let header = |name: &str| match name {
            "x-ratelimit-limit-tokens" => Some("60000"),
            "x-ratelimit-remaining-tokens" => Some(remaining.as_str()),
            _ => None,
        };
        attempt.quota(&QuotaReport::from_headers(header, SystemTime::now()));
        attempt.used(Usage::new(5_000, 1_000));
        async { Ok::<_, BackendError>("answer") }
    };
    let provider: Arc<dyn fallway::Backend<str, Response = &'static str>> = Arc::new(backend_fn(provider));
    [(); 2].map(|()| {
        let profile = a().tokens_per_minute(LIMIT / 2);
        let profile = burst.into_iter().fold(profile, fallway::Profile::token_burst);
        let router = builder(world, ordered().fail_safe(FailSafe::default()));
        router.backend(profile, provider.clone()).build().unwrap()
    })
}

/// Six thousand tokens.
fn options() -> CallOptions {
    CallOptions::within(secs(5)).facts(tokens(5_000, 1_000))
}

#[test]
fn one_hears_from_its_own_answers_what_others_took_and_left() {
    let world = World::new();
    let [one, other] = pair(&world, Some(LIMIT));
    let tokens = |router| left(router).1.unwrap();
    for taken in 1..=4 {
        ask(&world, &one, options()).unwrap();
        assert_eq!(tokens(&one), LIMIT - taken * 6_000);
    }
    // What it does not know of is there, until an answer says what is not.
    assert_eq!(tokens(&other), LIMIT);
    ask(&world, &other, options()).unwrap();
    assert_eq!(tokens(&other), LIMIT - 5 * 6_000);
    // In half a minute each gets a quarter of the quota by its own part, and hears that the other left its part.
    world.run_for(secs(30));
    assert_eq!((tokens(&one), tokens(&other)), (51_000, 45_000));
    ask(&world, &other, options()).unwrap();
    assert_eq!(tokens(&other), LIMIT - 6_000);
}

#[test]
fn who_has_a_part_and_no_more_stays_within_it() {
    let world = World::new();
    let [one, _] = pair(&world, None);
    for taken in 1..=5 {
        ask(&world, &one, options()).unwrap();
        assert_eq!(left(&one).1, Some(LIMIT / 2 - taken * 6_000));
    }
    assert!(ask(&world, &one, CallOptions::within(secs(1)).facts(tokens(5_000, 1_000))).is_err());
}
