//! Two attempts at once: both are billed, and both are paid for before they are made.

use super::{MOST, asks, facts, priced, tells};
use crate::support::{Act, Script, TestRouter, World, in_turn, ms};
use fallway::budget::Hedge;
use fallway::decision::{Bill, Cost, Ending, Hedged, Unhedged};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, ordered, policy_fn};
use fallway::shape::SpendLimit;
use fallway::{Facts, Routed};
use std::time::Duration;

/// `a` is slow from its third call on, `b` answers in 30 ms, and who waits for 100 ms is hedged. Two requests have saved up
/// for it.
fn scene(limit: Option<SpendLimit>) -> (World, TestRouter) {
    let world = World::new();
    let hedge = Hedge::of(0.5).unwrap().after(ms(100));
    let policy = policy_fn("hedged", move |cx, slate| {
        slate.hedge(hedge);
        ordered().plan(cx, slate);
    });
    let slow: Script = in_turn([Act::Answer(Duration::ZERO), Act::Answer(Duration::ZERO), Act::Answer(ms(500))]);
    let members = [(priced("a"), slow), (priced("b"), tells(1_000, 40, Act::Answer(ms(30))))];
    let builder = world.router(policy.fail_safe(FailSafe::default()));
    let (router, _) = world.fleet(limit.into_iter().fold(builder, fallway::router::Builder::spend_limit), members);
    for tenant in ["one", "two"] {
        world.call(&router, asks(facts().tenant(tenant))).unwrap();
    }
    (world, router)
}

fn ask(world: &World, router: &TestRouter, facts: Facts) -> Routed<crate::support::Reply> {
    world.call(router, asks(facts.tenant("t"))).unwrap()
}

#[test]
fn who_is_outrun_may_have_cost_all_of_it_and_is_wasted() {
    let (world, router) = scene(None);
    let routed = ask(&world, &router, facts());
    let [loser, winner] = routed.attempts() else { panic!("{routed:?}") };
    assert_eq!((loser.ending(), loser.cost()), (Ending::Outrun, Cost::Possible(MOST)));
    assert_eq!((winner.ending(), winner.cost()), (Ending::Answered, Cost::Known(1_080_000_000)));
    assert_eq!(routed.decision().wasted(), Bill { possible: MOST, ..Bill::default() });
    let lines: Vec<_> = routed.decision().to_string().lines().skip(1).take(4).map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "  attempts within 130.0 ms of 8.00 s",
            "    1. a |---------------------------------------~|   0.0 µs + 130.0 ms: outrun, about 1,000 in 0 out, up to $0.002",
            "    2. b |                              ---------*| 100.0 ms +  30.0 ms: a hedge, answered, 1,000 in 40 out, $0.00108",
            "  in all $0.00108, and up to $0.002 more; wasted up to $0.002",
        ]
    );
}

#[test]
fn a_cap_counts_what_runs_beside_it() {
    for (cap, hedged) in [(2 * MOST, true), (2 * MOST - 1, false)] {
        let (world, router) = scene(None);
        let routed = ask(&world, &router, facts().max_cost(cap));
        assert_eq!((routed.backend(), routed.attempts().len()), if hedged { (Some("b"), 2) } else { (Some("a"), 1) });
        let withheld = routed.decision().hedged() == Hedged::Withheld { why: Unhedged::NobodyElse };
        assert_eq!(withheld, !hedged, "{cap}");
    }
}

#[test]
fn a_hedge_holds_its_own_money() {
    for (usd, hedged) in [(0.004, true), (0.003_999_999, false)] {
        let limit = SpendLimit::new("tenant", usd, Duration::from_secs(1_000_000_000)).by_tenant().burst(usd);
        let (world, router) = scene(Some(limit));
        let before = router.left_to_spend(&facts().tenant("t")).unwrap();
        let routed = ask(&world, &router, facts());
        assert_eq!(routed.attempts().len(), if hedged { 2 } else { 1 }, "{usd}");
        drop(routed);
        let spent = before - router.left_to_spend(&facts().tenant("t")).unwrap();
        // Who was outrun may be billed in full; or the first alone, which told nothing.
        assert_eq!(spent, if hedged { MOST + 1_080_000_000 } else { MOST });
    }
}
