//! What attempts used and cost, and that the record of each is final when it ends.

use super::{End, Ends, MOST, asks, facts, pair, price, priced, tells};
use crate::support::{
    ANSWER, Act, Step, TestRouter, Token, World, always, dropped_after, fail, in_turn, ms, scripted_panic, secs,
};
use fallway::FailureKind;
use fallway::backend::{Billed, Usage};
use fallway::decision::{AttemptRecord, Bill, Cost, Ending, Tokens};
use fallway::facts::Price;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Interrupted, Resume};
use fallway::{CallOptions, Profile};
use futures::StreamExt;

const TOLD: Tokens = Tokens { input: 1_000, cached: 0, output: 40, told: true };

#[test]
fn an_answer_costs_what_its_backend_told() {
    let (world, ends) = (World::new(), Ends::default());
    let router = pair(&world, tells(1_000, 40, ANSWER), |builder| builder.observer(ends.clone()));
    let before = world.now();
    let routed = world.call(&router, asks(facts())).unwrap();
    let [attempt] = routed.attempts() else { panic!("{routed:?}") };
    assert_eq!((attempt.ending(), attempt.tokens()), (Ending::Answered, TOLD));
    assert_eq!(attempt.cost(), Cost::Known(1_080_000_000));
    assert_eq!((attempt.first_item(), attempt.ended()), (Some(before + ms(20)), before + ms(20)));
    assert_eq!(routed.decision().bill(), Bill { known: 1_080_000_000, ..Bill::default() });
    assert_eq!(routed.decision().wasted(), Bill::default());
    let (request, cost) = (routed.decision().seed(), attempt.cost());
    drop(routed);
    assert_eq!(ends.all(), [End { request, attempt: 1, tokens: TOLD, cost }]);
}

#[test]
fn cached_tokens_and_long_prompts_have_prices_of_their_own() {
    let dear = Price::per_million(2.0, 4.0).unwrap().cached(0.2).unwrap();
    let price = price().cached(0.1).unwrap().above(100_000, dear).unwrap();
    for (prompt, cached, cost) in [(1_000, 800, 200 * 10 + 800 + 400), (100_001, 1_000, 99_001 * 20 + 2_000 + 800)] {
        let world = World::new();
        let script: crate::support::Script = Box::new(move |cue| {
            cue.attempt.used(Usage::new(prompt, 20).cached(cached));
            ANSWER
        });
        let members = [(Profile::new("a").price(price.clone()), script)];
        let (router, _) = world.fleet(world.router(ordered()), members);
        let routed = world.call(&router, asks(facts())).unwrap();
        assert_eq!(routed.attempts()[0].cost(), Cost::Known(cost * 100_000), "{prompt}");
        assert_eq!(routed.attempts()[0].tokens().cached, cached as u64);
    }
}

#[test]
fn nobody_told_is_not_nothing() {
    let world = World::new();
    let router = pair(&world, always(ANSWER), |builder| builder);
    let routed = world.call(&router, asks(facts())).unwrap();
    let estimate = Tokens { input: 1_000, cached: 0, output: 500, told: false };
    assert_eq!((routed.attempts()[0].tokens(), routed.attempts()[0].cost()), (estimate, Cost::Possible(MOST)));
    // Without a longest answer, what was expected is the most that anybody knows.
    let routed = world.call(&router, asks(crate::support::plain().prompt_tokens(1_000).output_tokens(100))).unwrap();
    assert_eq!(routed.attempts()[0].cost(), Cost::Possible(1_200_000_000));
    // And usage that can not be is none.
    let router = pair(&world, tells(-1, 40, ANSWER), |builder| builder);
    assert_eq!(world.call(&router, asks(facts())).unwrap().attempts()[0].cost(), Cost::Possible(MOST));
}

#[test]
fn an_unknown_price_is_never_zero() {
    let world = World::new();
    let members = [(Profile::new("a"), tells(1_000, 40, ANSWER))];
    let (router, _) = world.fleet(world.router(ordered()), members);
    let routed = world.call(&router, asks(facts())).unwrap();
    assert_eq!((routed.attempts()[0].tokens(), routed.attempts()[0].cost()), (TOLD, Cost::Unknown));
    assert_eq!(routed.decision().bill(), Bill { unknown: 1, ..Bill::default() });
    assert_eq!(routed.decision().bill().most(), None);
}

#[test]
fn a_failure_costs_what_its_kind_says() {
    for kind in FailureKind::ALL {
        let (world, ends) = (World::new(), Ends::default());
        let router = pair(&world, always(fail(kind)), |builder| builder.observer(ends.clone()));
        let answered = world.call(&router, asks(facts()));
        let attempts = answered.as_ref().map_or_else(|error| error.attempts(), |routed| routed.attempts());
        let expected = if kind.conduct().billed == Billed::No { Cost::Nothing } else { Cost::Possible(MOST) };
        assert_eq!((attempts[0].ending(), attempts[0].cost()), (Ending::Failed { kind }, expected));
        assert_eq!(ends.all()[0].cost, expected, "{kind}");
    }
}

#[test]
fn what_was_wasted_is_all_but_the_answer() {
    let world = World::new();
    let config = FailSafe::default().attempt_limit(ms(100));
    let members = [
        (priced("a"), always(Act::Hang)),
        (priced("b"), always(fail(FailureKind::Overloaded))),
        (priced("c"), tells(1_000, 40, ANSWER)),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let routed = world.call(&router, asks(facts())).unwrap();
    let costs: Vec<_> = routed.attempts().iter().map(AttemptRecord::cost).collect();
    assert_eq!(costs, [Cost::Possible(MOST), Cost::Nothing, Cost::Known(1_080_000_000)]);
    let decision = routed.decision();
    assert_eq!(decision.bill(), Bill { known: 1_080_000_000, possible: MOST, unknown: 0 });
    assert_eq!(decision.wasted(), Bill { possible: MOST, ..Bill::default() });
    assert_eq!(routed.attempts()[0].elapsed(), ms(100));
}

#[test]
fn who_goes_away_leaves_a_bill_with_the_observers() {
    let (world, ends) = (World::new(), Ends::default());
    let router = pair(&world, always(Act::Hang), |builder| builder.observer(ends.clone()));
    let caller = router.clone();
    let options = CallOptions::within(secs(8)).facts(facts());
    assert!(world.block_on(dropped_after(1, async move { caller.call("ask", options).await.is_ok() })).is_none());
    let [end] = ends.all()[..] else { panic!("{ends:?}") };
    assert_eq!((end.attempt, end.cost), (1, Cost::Possible(MOST)));
    assert_eq!(end.tokens, Tokens { input: 1_000, ..Tokens::default() });
}

/// A stream of `a` with these steps, read to its end; then the attempts, and what the observers were told.
fn streamed(steps: &[Step], usage: Option<Usage>) -> (Vec<AttemptRecord>, Vec<End>) {
    let (world, ends) = (World::new(), Ends::default());
    let act = Act::Stream(ms(10), steps.to_vec());
    let script: crate::support::Script = Box::new(move |cue| {
        usage.iter().for_each(|usage| cue.attempt.used(*usage));
        act.clone()
    });
    let members = [(priced("a"), script)];
    let (router, _) = world.fleet(world.router(ordered()).observer(ends.clone()), members);
    let attempts = world.block_on(async move {
        let mut stream = router.stream("ask", asks(facts())).await.unwrap();
        let begun = &stream.attempts()[0];
        assert_eq!((begun.ending(), begun.cost()), (Ending::Answering, Cost::Possible(MOST)), "it goes on");
        while stream.next().await.is_some() {}
        stream.attempts().to_vec()
    });
    (attempts, ends.all())
}

const TWO: [Step; 5] = [Step::Role, Step::Pause(ms(5)), Step::Item, Step::Pause(ms(30)), Step::Item];

#[test]
fn what_is_under_way_is_not_wasted_yet() {
    let world = World::new();
    let router = pair(&world, always(Act::Stream(ms(5), vec![Step::Item, Step::Hang])), |builder| builder);
    let stream = world.stream(&router, asks(facts())).unwrap();
    assert_eq!((stream.decision().wasted(), stream.decision().bill().possible), (Bill::default(), MOST));
}

#[test]
fn the_record_of_a_stream_is_final_when_it_ends() {
    let (attempts, ends) = streamed(&TWO, Some(Usage::new(1_000, 40)));
    let [attempt] = &attempts[..] else { panic!("{attempts:?}") };
    assert_eq!((attempt.ending(), attempt.tokens()), (Ending::Answered, TOLD));
    assert_eq!(attempt.cost(), Cost::Known(1_080_000_000));
    assert_eq!((attempt.first_item(), attempt.elapsed()), (Some(attempt.started() + ms(15)), ms(45)));
    assert_eq!(ends[0].cost, attempt.cost());
    // Where nobody tells, the content was counted.
    let (attempts, _) = streamed(&TWO, None);
    let counted = Tokens { input: 1_000, cached: 0, output: 2, told: false };
    assert_eq!((attempts[0].tokens(), attempts[0].cost()), (counted, Cost::Possible(MOST)));
}

#[test]
fn a_stream_that_breaks_may_have_cost_all_of_it() {
    let breaks = |kind| [&TWO[..], &[Step::Break(kind)]].concat();
    // Also where the backend says in the middle of an answer what is free before it.
    for kind in [FailureKind::Truncated, FailureKind::Overloaded, FailureKind::Protocol] {
        for usage in [None, Some(Usage::new(1_000, 1))] {
            let (attempts, ends) = streamed(&breaks(kind), usage);
            assert_eq!((attempts[0].ending(), attempts[0].cost()), (Ending::Failed { kind }, Cost::Possible(MOST)));
            assert_eq!(ends[0].cost, Cost::Possible(MOST), "{kind}");
            assert_eq!(attempts[0].elapsed(), ms(45), "not when it began");
        }
    }
    // More than anybody expected was seen.
    let many: Vec<_> = (0..600).map(|_| Step::Item).chain([Step::Close]).collect();
    let (attempts, _) = streamed(&many, None);
    assert_eq!((attempts[0].tokens().output, attempts[0].cost()), (600, Cost::Possible(2_200_000_000)));
}

/// Asks for the rest.
struct Rest;

impl Resume<str, Token> for Rest {
    fn delivered(&mut self, _: &Token) {}
    fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
        Some("ask after 2".into())
    }
}

#[test]
fn who_goes_on_sends_along_what_was_delivered() {
    let world = World::new();
    let broken = Act::Stream(ms(10), [&TWO[..], &[Step::Close]].concat());
    let whole = Act::Stream(ms(10), vec![Step::Item]);
    let members = [(priced("a"), always(broken)), (priced("b"), always(whole))];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let attempts = world.block_on(async move {
        let mut stream = router.stream("ask", asks(facts())).await.unwrap().resume(Rest);
        while stream.next().await.is_some() {}
        stream.stream().attempts().to_vec()
    });
    let endings: Vec<_> = attempts.iter().map(AttemptRecord::ending).collect();
    assert_eq!(endings, [Ending::Failed { kind: FailureKind::Truncated }, Ending::Answered]);
    // Two tokens more of the prompt.
    assert_eq!(attempts[1].tokens(), Tokens { input: 1_002, cached: 0, output: 1, told: false });
    assert_eq!(attempts[1].cost(), Cost::Possible(MOST + 2_000_000));
}

#[test]
fn a_trip_keeps_the_same_ledger() {
    let world = World::new();
    let (router, _): (TestRouter, _) = world.fleet(
        world.router(ordered().fail_safe(FailSafe::default())),
        [(priced("a"), in_turn([ANSWER])), (priced("b"), in_turn([ANSWER]))],
    );
    let (mut trip, now) = (router.trip(asks(facts()), world.now()), world.now());
    let fallway::router::Step::Call(_) = trip.next(now).unwrap() else { panic!() };
    trip.fail(1, FailureKind::Timeout.into(), true, now + ms(100));
    let fallway::router::Step::Call(attempt) = trip.next(now + ms(100)).unwrap() else { panic!() };
    trip.answered(2, now + ms(150));
    trip.received(3);
    assert_eq!(trip.decision().attempts()[1].ending(), Ending::Answering);
    attempt.used(Usage::new(1_000, 40));
    trip.finish(now + ms(200));
    let [failed, answered] = trip.decision().attempts() else { panic!() };
    assert_eq!((failed.cost(), answered.cost()), (Cost::Possible(MOST), Cost::Known(1_080_000_000)));
    assert_eq!((answered.first_item(), answered.ended()), (Some(now + ms(150)), now + ms(200)));
}

#[test]
fn a_panic_in_a_backend_is_billed_as_its_kind_says() {
    let world = World::new();
    let script: crate::support::Script = Box::new(|cue| if cue.call == 0 { scripted_panic() } else { ANSWER });
    let router = pair(&world, script, |builder| builder);
    let routed = world.call(&router, asks(facts())).unwrap();
    assert_eq!(routed.attempts()[0].cost(), Cost::Possible(MOST));
}
