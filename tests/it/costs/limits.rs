//! Spend limits: held before an attempt, corrected at its end, asked on every hop.

use super::{MOST, asks, facts, pair, priced, tells};
use crate::support::{
    ANSWER, Act, Script, Step, TestRouter, World, always, dropped_after, fail, ms, scripted_panic, secs, within,
};
use fallway::FailureKind::{self, Overloaded, ServerError};
use fallway::backend::{BackendError, Billed, backend_fn};
use fallway::decision::{Next, Reason, Refusal};
use fallway::facts::Price;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Builder, RouteErrorKind};
use fallway::shape::SpendLimit;
use fallway::{Facts, Profile, RouteError};
use futures::StreamExt;
use std::time::Duration;

/// Half a cent at once, and a cent in so many seconds for each tenant.
fn limit(seconds: u64) -> SpendLimit {
    SpendLimit::new("tenant", 0.01, secs(seconds)).by_tenant().burst(0.005)
}

/// What a limit allows at once, when hardly anything comes back.
const BURST: u64 = 5_000_000_000;

fn forever() -> SpendLimit {
    limit(1_000_000_000)
}

fn limited(world: &World, a: Script, limit: SpendLimit) -> TestRouter {
    pair(world, a, |builder| builder.spend_limit(limit))
}

fn of(tenant: &str) -> Facts {
    facts().tenant(tenant)
}

fn refusal(error: &RouteError) -> Refusal {
    let Next::Refuse { why } = error.decision().next() else { panic!("{error}") };
    why
}

#[test]
fn a_tenant_spends_what_it_has_and_is_told_when_there_is_more() {
    let world = World::new();
    // 1,000 and 40 tokens cost 0.108 cents; a cent an hour comes back.
    let router = limited(&world, tells(1_000, 40, ANSWER), limit(3_600));
    let spent = 1_080_000_000;
    let mut calls = 0u64;
    let error = loop {
        match world.call(&router, asks(of("t"))) {
            Ok(_) => calls += 1,
            Err(error) => break error,
        }
    };
    // Three pay 0.324 cents; the fourth would leave less than the 0.2 that the next can cost.
    assert_eq!(calls, (BURST - MOST) / spent + 1);
    assert_eq!(error.kind(), RouteErrorKind::OverSpend);
    let Refusal::OverSpend { limit: "tenant", until: Some(until) } = refusal(&error) else { panic!("{error}") };
    assert_eq!(error.retry_after(), Some(until - world.now()));
    assert!(error.to_string().contains("over spend limit \"tenant\", there is enough money in"), "{error}");
    assert!(error.attempts().is_empty());
    // Nobody else is concerned.
    assert!(world.call(&router, asks(of("other"))).is_ok());
    // To the nanosecond.
    world.timer().set(until - ms(1));
    assert!(world.call(&router, asks(of("t"))).is_err());
    let wait = until - world.now();
    world.run_for(wait);
    assert!(world.call(&router, asks(of("t"))).is_ok());
}

#[test]
fn a_cheaper_candidate_that_still_fits_is_better_than_a_refusal() {
    let world = World::new();
    let cheap = Price::per_million(0.1, 0.2).unwrap();
    let members =
        [(priced("dear"), tells(1_000, 500, ANSWER)), (Profile::new("cheap").price(cheap), tells(1_000, 500, ANSWER))];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).spend_limit(forever());
    let (router, backends) = world.fleet(builder, members);
    // Two pay 0.2 cents; then there is a tenth of a cent, for five of the cheap at 0.02.
    let used: Vec<_> = (0..8)
        .map(|_| world.call(&router, asks(of("t"))).ok().and_then(|it| it.backend().map(str::to_owned)))
        .collect();
    let count = |name: &str| used.iter().flatten().filter(|used| *used == name).count();
    assert_eq!((count("dear"), count("cheap"), used[7].clone()), (2, 5, None));
    assert_eq!(backends.map(|it| it.calls()), [2, 5]);
}

#[test]
fn the_fallback_that_bills_is_asked_for_and_not_the_model_that_was() {
    let world = World::new();
    let cheap = Price::per_million(0.1, 0.1).unwrap();
    let members = [
        (Profile::new("a").model("small").price(cheap), always(fail(Overloaded))),
        (priced("b").model("big"), always(ANSWER)),
    ];
    let config = FailSafe::default().fallback(["big"]);
    let limit = SpendLimit::new("tenant", 0.01, secs(1_000_000_000)).by_tenant().burst(0.001);
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)).spend_limit(limit), members);
    let facts = Facts::model("small").prompt_tokens(1_000).max_output_tokens(500).tenant("t").replay_safe();
    let error = world.call(&router, asks(facts)).unwrap_err();
    assert_eq!(backends.map(|it| it.calls())[1], 0);
    let b = error.decision().candidates().find(|it| it.name() == "b").unwrap();
    assert_eq!(b.rejected(), Some(Reason::SpendLimitTooSmall { limit: "tenant", cost: MOST, most: 1_000_000_000 }));
}

#[test]
fn a_retry_needs_its_own_money() {
    let world = World::new();
    // The first attempt may have cost 0.2 cents, and 0.3 are left; then 0.1.
    let router = limited(&world, always(Act::Fail(ServerError, ms(1))), forever());
    let routed = world.call(&router, asks(of("t"))).unwrap();
    assert_eq!((routed.backend(), router.left_to_spend(&of("t"))), (Some("b"), Some(BURST - 2 * MOST)));
    drop(routed);
    let error = world.call(&router, asks(of("t"))).unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::OverSpend, 0));
}

#[test]
fn usage_that_makes_no_sense_takes_no_more_than_can_be_spent_at_once() {
    let world = World::new();
    // The most that is believed; of what is not, nobody knows more than what the attempt could cost.
    let router = limited(&world, tells((1 << 30) - 1, 1, ANSWER), limit(1_000));
    let beyond = limited(&world, tells(1 << 30, 1, ANSWER), limit(1_000));
    drop(world.call(&beyond, asks(of("t"))).unwrap());
    assert_eq!(beyond.left_to_spend(&of("t")), Some(BURST - MOST));
    drop(world.call(&router, asks(of("t"))).unwrap());
    assert_eq!(router.left_to_spend(&of("t")), Some(0));
    // A burst is half of what comes back in a thousand seconds.
    world.run_for(secs(500));
    assert_eq!(router.left_to_spend(&of("t")), Some(BURST));
}

#[test]
fn money_is_held_while_an_attempt_lasts() {
    let world = World::new();
    let router = limited(&world, tells(1_000, 40, Act::Answer(ms(500))), forever());
    let calls: Vec<_> = (0..3).map(|_| world.spawn_call(&router, asks(of("t")))).collect();
    world.settle();
    // Two hold 0.2 cents each, and the third finds 0.1.
    assert_eq!(router.left_to_spend(&of("t")), Some(BURST - 2 * MOST));
    let refused: Vec<_> = calls.iter().map(|call| call.is_done()).collect();
    assert_eq!(refused, [false, false, true]);
    world.run();
    assert!(calls.into_iter().map(|call| call.take()).filter_map(Result::ok).count() == 2);
    assert_eq!(router.left_to_spend(&of("t")), Some(BURST - 2 * 1_080_000_000));
}

/// What is gone of a tenant's money after one request whose only attempt does this, and whose caller goes away after so
/// many polls.
fn gone(script: Script, polls: usize, streamed: bool) -> u64 {
    let world = World::new();
    let limit = limit(1_000_000_000_000);
    let members = [(priced("a"), script)];
    let builder = world.router(ordered().fail_safe(FailSafe::default().attempts(1))).spend_limit(limit);
    let (router, _) = world.fleet(builder, members);
    let caller = router.clone();
    world.block_on(dropped_after(polls, async move {
        if streamed {
            if let Ok(mut stream) = caller.stream("ask", asks(of("t"))).await {
                while stream.next().await.is_some() {}
            }
        } else {
            drop(caller.call("ask", asks(of("t"))).await);
        }
    }));
    let left = router.left_to_spend(&of("t")).unwrap();
    assert_eq!(router.total_in_flight(), 0);
    // Held is nothing more: what is left can be spent, whole.
    BURST - left
}

#[test]
fn however_an_attempt_ends_it_pays_once_and_holds_nothing() {
    const EVER: usize = 1_000;
    let known = 1_080_000_000;
    assert_eq!(gone(tells(1_000, 40, ANSWER), EVER, false), known);
    assert_eq!(gone(tells(1_000, 400_000, ANSWER), EVER, false), 801_000_000_000.min(BURST), "more than it held");
    assert_eq!(gone(always(ANSWER), EVER, false), MOST);
    for kind in FailureKind::ALL {
        let expected = if kind.conduct().billed == Billed::No { 0 } else { MOST };
        assert_eq!(gone(always(fail(kind)), EVER, false), expected, "{kind}");
    }
    assert_eq!(gone(always(Act::Hang), EVER, false), MOST);
    assert_eq!(gone(Box::new(|_| scripted_panic()), EVER, false), MOST);
    let steps = |last: &[Step]| [&[Step::Role, Step::Item, Step::Pause(ms(5)), Step::Item], last].concat();
    let stream = |last: &[Step]| Act::Stream(ms(10), steps(last));
    assert_eq!(gone(tells(1_000, 40, stream(&[])), EVER, true), known);
    for last in [Step::Close, Step::Break(Overloaded), Step::Hang, Step::Panic] {
        assert_eq!(gone(tells(1_000, 40, stream(std::slice::from_ref(&last))), EVER, true), MOST, "{last:?}");
    }
    // A caller who goes away, at every poll there is.
    for polls in 1..8 {
        let gone = gone(tells(1_000, 40, stream(&[])), polls, true);
        assert!(gone == MOST || gone == known, "{gone} after {polls} polls");
    }
    assert_eq!(gone(always(Act::Hang), 1, false), MOST);
}

#[test]
fn several_limits_all_have_the_money_or_none_is_touched() {
    let world = World::new();
    let all = SpendLimit::new("all", 0.01, secs(1_000_000_000)).burst(0.003);
    let router = pair(&world, tells(1_000, 500, ANSWER), |builder| builder.spend_limit(forever()).spend_limit(all));
    assert!(world.call(&router, asks(of("one"))).is_ok());
    let error = world.call(&router, asks(of("two"))).unwrap_err();
    let Refusal::OverSpend { limit: "all", until: Some(_) } = refusal(&error) else { panic!("{error}") };
    // What `two` has of its own is all there; of what is for all, a tenth of a cent.
    assert_eq!(router.left_to_spend(&of("two")), Some(MOST / 2));
}

#[test]
fn a_named_key_has_a_sum_and_an_account_of_its_own() {
    let world = World::new();
    let limit = forever().key(["search"], 1.0, 0.5);
    let router = limited(&world, tells(1_000, 40, ANSWER), limit);
    assert_eq!(router.left_to_spend(&of("search")), Some(500_000_000_000));
    assert_eq!(router.left_to_spend(&of("other")), Some(BURST));
    // Who has no name is one of them.
    assert!(world.call(&router, asks(facts())).is_ok());
    assert_eq!(router.left_to_spend(&facts()), Some(BURST - 1_080_000_000));
    assert_eq!(pair(&world, always(ANSWER), |builder| builder).left_to_spend(&facts()), None);
}

#[test]
fn what_costs_more_than_a_limit_ever_allows_is_refused_for_good() {
    let world = World::new();
    let router = limited(&world, always(ANSWER), forever());
    let error = world.call(&router, asks(of("t").max_output_tokens(1_000_000))).unwrap_err();
    assert_eq!(refusal(&error), Refusal::OverSpend { limit: "tenant", until: None });
    assert_eq!((error.kind(), error.retry_after()), (RouteErrorKind::OverSpend, None));
    assert!(error.to_string().contains("which never allows so much at once"), "{error}");
}

#[test]
fn an_unknown_price_is_not_free() {
    let world = World::new();
    let members = [(Profile::new("a"), always(ANSWER)), (priced("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(ordered()).spend_limit(forever()), members);
    let decision = router.explain(&asks(of("t")));
    assert_eq!(decision.candidates().next().unwrap().rejected(), Some(Reason::PriceUnknown));
    assert_eq!(decision.chosen().unwrap().name(), "b");
}

#[test]
fn where_more_than_money_is_missing_the_refusal_says_so() {
    let world = World::new();
    let cheap = Price::per_million(0.1, 0.1).unwrap();
    let members = [
        (priced("dear"), always(ANSWER)),
        (Profile::new("full").price(cheap).concurrency(1), always(Act::Answer(secs(1)))),
    ];
    let limit = SpendLimit::new("tenant", 0.01, secs(1_000_000_000)).by_tenant().burst(0.001);
    let (router, _) = world.fleet(world.router(ordered()).spend_limit(limit), members);
    let first = world.spawn_call(&router, asks(of("t")));
    world.settle();
    let error = world.spawn_call(&router, asks(of("t")));
    world.settle();
    let error = error.take().unwrap_err();
    assert_eq!((error.kind(), error.decision().rejections().len()), (RouteErrorKind::NothingUsable, 2));
    world.run();
    assert!(first.take().is_ok());
}

#[test]
fn the_last_resort_costs_nothing_and_is_told_why() {
    let world = World::new();
    let last = world.backend("last", always(ANSWER));
    let router = pair(&world, always(ANSWER), |builder| builder.spend_limit(forever()).last_resort(last));
    let routed = world.call(&router, asks(of("t").max_output_tokens(1_000_000))).unwrap();
    assert!(routed.is_degraded());
    let why = Refusal::OverSpend { limit: "tenant", until: None };
    assert_eq!(routed.decision().next(), Next::LastResort { why });
    assert_eq!(router.left_to_spend(&of("t")), Some(BURST));
}

#[test]
fn a_decision_under_a_limit_replays() {
    let world = World::new();
    let router = limited(&world, tells(1_000, 500, ANSWER), forever());
    for _ in 0..4 {
        let answered = world.call(&router, asks(of("t")));
        let decision = answered.as_ref().map_or_else(|error| error.decision(), |routed| routed.decision());
        assert!(router.replay(decision).same_choice(decision), "{decision}");
    }
    assert!(
        router.explain(&asks(of("t"))).to_string().contains("over the spend limit (\"tenant\", $0.002), returns in")
    );
}

#[test]
fn limits_that_make_no_sense_are_named() {
    let backend = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let build = |limits: Vec<SpendLimit>| {
        let builder: Builder<str, ()> = fallway::Router::builder(ordered()).backend(priced("a"), backend());
        limits.into_iter().fold(builder, Builder::spend_limit).build().map(drop).unwrap_err().to_string()
    };
    for usd in [f64::NAN, -1.0, 0.0, f64::INFINITY, 1e-7, 1e7] {
        for limit in [SpendLimit::new("x", usd, secs(1)), SpendLimit::new("x", 1.0, secs(1)).burst(usd)] {
            assert!(build(vec![limit]).starts_with("spend limit \"x\": "), "{usd}");
        }
        assert!(build(vec![forever().key(["a"], usd, 1.0)]).contains("USD is not in"), "{usd}");
    }
    assert!(build(vec![SpendLimit::new("x", 1.0, Duration::ZERO)]).contains("a period of zero"));
    assert!(build(vec![forever().key(["a", "b"], 1.0, 1.0)]).contains("2 values for 1 parts"));
    assert!(build(vec![forever().key(["a"], 1.0, 1.0).key(["a"], 2.0, 1.0)]).contains("given twice"));
    assert!(build((0..5).map(|_| forever()).collect()).contains("4 spend limits at most"));
}

#[test]
fn who_has_no_money_left_speaks_for_nobody_else() {
    let world = World::new();
    let free = Price::per_million(0.0, 0.0).unwrap();
    let members = [
        (priced("x").model("m").concurrency(1), always(Act::Answer(secs(1)))),
        (Profile::new("gratis").price(free).model("m").concurrency(1), always(Act::Answer(secs(5)))),
        (priced("y").model("n"), always(Act::Answer(secs(20)))),
    ];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).spend_limit(forever());
    let (router, _) = world.fleet(builder, members);
    let ask = |tenant, model| {
        let facts = Facts::model(model).prompt_tokens(1_000).max_output_tokens(500).tenant(tenant);
        world.ask(&router, within(secs(60)).facts(facts))
    };
    let busy = [ask("c", "m"), ask("c", "m")];
    world.settle();
    // Both wait for either; what the poor one had is held by then.
    let poor = ask("a", "m");
    world.settle();
    let spends = [ask("a", "n"), ask("a", "n")];
    let rich = ask("b", "m");
    world.run();
    assert_eq!(
        rich.take().took,
        secs(2),
        "the slot of `x` was of no use to the first in the queue, and of use to the second"
    );
    assert_eq!(poor.take().took, secs(10), "it waits for the one that costs nothing");
    assert!(busy.into_iter().chain(spends).all(|task| task.take().ok()));
}
