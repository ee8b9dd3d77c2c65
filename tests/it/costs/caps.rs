//! The cap of a request: over all of its attempts, whoever bills them.

use super::{MOST, asks, facts, pair, price, priced, tells};
use crate::support::{ANSWER, Act, Script, Step, Token, World, always, fail, ms};
use fallway::FailureKind::{Overloaded, Truncated};
use fallway::decision::Reason;
use fallway::facts::Price;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Interrupted, Resume, RouteErrorKind};
use fallway::{Facts, Profile, RouteError};
use futures::StreamExt;

/// Where a request with this cap ends whose first attempt does this, and why `b` is out in the end.
fn capped(cap: u64, first: Script) -> (Result<String, RouteErrorKind>, Option<Reason>) {
    let world = World::new();
    let router = pair(&world, first, |builder| builder);
    match world.call(&router, asks(facts().max_cost(cap))) {
        Ok(routed) => (Ok(routed.backend().unwrap().to_owned()), None),
        Err(error) => (Err(error.kind()), rejected(&error, "b")),
    }
}

fn rejected(error: &RouteError, backend: &str) -> Option<Reason> {
    error.decision().candidates().find(|it| it.name() == backend).unwrap().rejected()
}

#[test]
fn what_an_attempt_may_have_cost_counts_for_those_after_it() {
    let limited = || -> Script { Box::new(|_| Act::Fail(fallway::FailureKind::ServerError, ms(1))) };
    // Two attempts are two tenths of a cent each.
    assert_eq!(capped(2 * MOST, limited()), (Ok("b".into()), None));
    let over = Reason::OverPriceCap { spent: MOST, cost: MOST };
    let (ended, why) = capped(2 * MOST - 1, limited());
    assert_eq!((ended.is_err(), why), (true, Some(over)));
    // What was refused before it cost anything leaves all of it.
    assert_eq!(capped(MOST, always(fail(Overloaded))), (Ok("b".into()), None));
    assert_eq!(capped(MOST - 1, always(ANSWER)).1, Some(Reason::OverPriceCap { spent: 0, cost: MOST }));
}

#[test]
fn a_cheaper_candidate_that_still_fits_is_taken() {
    let world = World::new();
    let cheap = Price::per_million(0.1, 0.2).unwrap();
    let members = [
        (priced("a").model("big"), always(fail(fallway::FailureKind::ServerError))),
        (priced("b").model("big"), always(ANSWER)),
        (Profile::new("c").model("small").price(cheap), always(ANSWER)),
    ];
    let config = FailSafe::default().fallback(["small"]);
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let facts = Facts::model("big").prompt_tokens(1_000).max_output_tokens(500).replay_safe().max_cost(MOST + MOST / 2);
    let routed = world.call(&router, asks(facts)).unwrap();
    assert_eq!((routed.backend(), backends.map(|it| it.calls())), (Some("c"), [1, 0, 1]));
}

#[test]
fn usage_that_was_told_does_not_make_a_failure_cheaper() {
    // It had told of one token, and broke: nobody knows what was billed.
    let script = tells(1_000, 1, Act::Fail(fallway::FailureKind::ServerError, ms(1)));
    assert_eq!(capped(2 * MOST - 1, script).1, Some(Reason::OverPriceCap { spent: MOST, cost: MOST }));
}

#[test]
fn without_a_longest_answer_the_expected_one_counts() {
    let world = World::new();
    let router = pair(&world, always(ANSWER), |builder| builder);
    let facts = || crate::support::plain().prompt_tokens(1_000).output_tokens(100);
    let cost = price().of(1_000, 100);
    assert!(world.call(&router, asks(facts().max_cost(cost))).is_ok());
    assert!(world.call(&router, asks(facts().max_cost(cost - 1))).is_err());
    // An answer is no longer than it may be, whatever was expected.
    assert_eq!(facts().max_output_tokens(7).expected_output_tokens(), 7);
    assert!(world.call(&router, asks(facts().max_output_tokens(7).max_cost(price().of(1_000, 7)))).is_ok());
}

struct Rest;

impl Resume<str, Token> for Rest {
    fn delivered(&mut self, _: &Token) {}
    fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
        Some("ask after 1".into())
    }
}

#[test]
fn who_goes_on_with_a_broken_stream_pays_out_of_the_same_purse() {
    // A token of the answer goes along: a millionth of a dollar more.
    for (cap, goes_on) in [(2 * MOST + 1_000_000, true), (2 * MOST + 999_999, false)] {
        let world = World::new();
        let broken = Act::Stream(ms(10), vec![Step::Item, Step::Break(Truncated)]);
        let members = [(priced("a"), always(broken)), (priced("b"), always(Act::Stream(ms(10), vec![Step::Item])))];
        let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
        let error = world.block_on(async move {
            let stream = router.stream("ask", asks(facts().max_cost(cap))).await.unwrap();
            let mut stream = stream.resume(Rest);
            let mut error = None;
            while let Some(piece) = stream.next().await {
                error = piece.err();
            }
            error
        });
        assert_eq!((error.is_none(), backends[1].calls()), (goes_on, u64::from(goes_on)), "{cap}");
        if let Some(error) = error {
            let why = rejected(error.not_resumed().unwrap(), "b");
            assert_eq!(why, Some(Reason::OverPriceCap { spent: MOST, cost: MOST + 1_000_000 }));
        }
    }
}

#[test]
fn a_decision_under_a_cap_replays() {
    let world = World::new();
    let router = pair(&world, always(fail(fallway::FailureKind::ServerError)), |builder| builder);
    let error = world.call(&router, asks(facts().max_cost(MOST))).unwrap_err();
    assert!(router.replay(error.decision()).same_choice(error.decision()));
    assert!(error.decision().to_string().contains("over the price cap ($0.002 after $0.002 over $0.002)"));
}
