//! Retries and money.
//!
//! Elsewhere: cyclic fallbacks, in `bad_input::cyclic_fallbacks` and `fail_safe::tiers::no_tier_is_visited_twice`; a
//! `Retry-After` longer than the deadline, in `fail_safe::retries::a_retry_after_that_does_not_fit_is_passed_on_at_once`;
//! retries without jitter, in `fail_safe::retries::back_off_is_jittered_over_its_whole_range`; a ratio that is
//! truncated, and a throttled extra attempt that hangs, in
//! `fail_safe::retries::a_total_outage_is_amplified_by_the_budget_and_no_more`.

use crate::support::{ANSWER, Act, World, always, fail, hint, ms, plain, secs, within};
use fallway::FailureKind::{ContextTooLong, Overloaded, RateLimited};
use fallway::decision::Reason;
use fallway::facts::{Capabilities, Price};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Facts, Profile};

#[test]
fn a_fallback_does_not_reset_the_attempts() {
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["m0", "m1", "m2"]);
    let mut builder = world.router(ordered().fail_safe(config));
    let backends: Vec<_> = (0..12)
        .map(|n| {
            let id = format!("b{n}");
            (Profile::new(&id).model(format!("m{}", n / 4)), world.backend(&id, always(fail(Overloaded))))
        })
        .collect();
    for (profile, backend) in &backends {
        builder = builder.backend(profile.clone(), backend.clone());
    }
    let router = builder.build().unwrap();
    let options = || CallOptions::within(secs(5)).facts(Facts::model("chat").replay_safe());
    // Three models of four backends are three attempts, not twelve. While some rest, the next request crosses tiers.
    for n in 1..=4 {
        let error = world.call(&router, options()).unwrap_err();
        assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::AttemptsExhausted, 3));
        assert_eq!(backends.iter().map(|(_, backend)| backend.calls()).sum::<u64>(), n * 3);
    }
}

#[test]
fn nobody_sleeps_on_a_hint_while_another_is_ready() {
    let world = World::new();
    let members = [
        (Profile::new("a"), always(hint(RateLimited, secs(47)))),
        (Profile::new("b"), always(hint(Overloaded, secs(47)))),
        (Profile::new("c"), always(ANSWER)),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(600))));
    assert_eq!((answered.unwrap().attempts().len(), took), (3, ms(20)));
}

#[test]
fn a_burst_of_429_does_not_move_to_the_backup() {
    let world = World::new();
    let members = [
        (Profile::new("a"), always(Act::Hint(RateLimited, ms(1), secs(30)))),
        (Profile::new("backup"), always(ANSWER)),
    ];
    let (router, [a, backup]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let calls: Vec<_> = (0..1000).map(|_| world.spawn_call(&router, within(secs(5)))).collect();
    world.run();
    let refused = calls.into_iter().filter_map(|call| call.take().err()).collect::<Vec<_>>();
    assert!(refused.iter().all(|error| error.kind() == RouteErrorKind::RetryBudgetEmpty));
    // 20 % of a thousand, and ten a second for ten seconds.
    assert_eq!((a.calls(), backup.calls(), refused.len()), (1000, 300, 700));
}

#[test]
fn the_price_cap_holds_for_the_fallback_that_bills() {
    let world = World::new();
    let cheap = Price::per_million(0.1, 0.1).unwrap();
    let dear = Price::per_million(60.0, 60.0).unwrap();
    let members = [
        (Profile::new("a").model("small").price(cheap), always(fail(Overloaded))),
        (Profile::new("b").model("big").price(dear), always(ANSWER)),
        (Profile::new("c").model("free"), always(ANSWER)),
    ];
    let config = FailSafe::default().fallback(["big", "free"]);
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let facts = Facts::model("small").prompt_tokens(1_000).output_tokens(1_000).replay_safe();
    // Two thousand tokens cost 0.0002 or 0.12 dollars; one cent is allowed.
    let capped = CallOptions::within(ms(1)).facts(facts.clone().max_cost(10_000_000_000));
    let error = world.call(&router, capped).unwrap_err();
    assert_eq!(backends.each_ref().map(|backend| backend.calls()), [1, 0, 0]);
    let reasons: Vec<_> = error.decision().candidates().filter_map(|it| it.rejected()).collect();
    assert!(reasons.contains(&Reason::OverPriceCap { spent: 0, cost: 120_000_000_000 }), "{reasons:?}");
    assert!(reasons.contains(&Reason::PriceUnknown), "{reasons:?}");
    // Without the cap it is the way out.
    assert_eq!(world.call(&router, CallOptions::within(secs(1)).facts(facts)).unwrap().backend(), Some("b"));
}

#[test]
fn a_fallback_can_hold_the_context_and_the_modality() {
    let world = World::new();
    let members = [
        (Profile::new("a").model("big"), always(fail(Overloaded))),
        (Profile::new("short").model("short").context_window(500), always(ANSWER)),
        (Profile::new("blind").model("blind").capabilities(Capabilities::TOOLS), always(ANSWER)),
        (Profile::new("fits").model("fits").context_window(2_000), always(ANSWER)),
    ];
    let config = FailSafe::default().fallback(["short", "blind", "fits"]);
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let facts = Facts::model("big").prompt_tokens(1_000).needs(Capabilities::VISION).replay_safe();
    let routed = world.call(&router, CallOptions::within(secs(1)).facts(facts)).unwrap();
    assert_eq!((routed.backend(), routed.attempts().len()), (Some("fits"), 2));
    assert_eq!(backends.map(|backend| backend.calls()), [1, 0, 0, 1]);
}

#[test]
fn a_prompt_that_is_too_long_everywhere_is_tried_once_per_window() {
    let world = World::new();
    let members = ["a", "b", "c", "d"].map(|id| (Profile::new(id).context_window(1_000), always(fail(ContextTooLong))));
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let error = world.call(&router, CallOptions::within(secs(60)).facts(plain())).unwrap_err();
    assert_eq!(backends.map(|backend| backend.calls()), [1, 0, 0, 0]);
    assert_eq!(error.decision().rejections(), [("would fail the same way", 3), ("failed in this request", 1)]);
}
