//! The ledger as text and as JSON.

use super::{asks, facts, pair, priced, tells};
use crate::support::{ANSWER, Act, Step, TestRouter, World, always, fail, ms, secs};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, Decision};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// One that hangs for this long, one that is overloaded, and one that answers.
fn three(world: &World, limit: Duration) -> TestRouter {
    let members = [
        (priced("eu-a"), always(Act::Hang)),
        (priced("eu-b"), always(Act::Fail(Overloaded, limit / 4))),
        (priced("us-small"), tells(1_000, 40, Act::Answer(limit))),
    ];
    world.fleet(world.router(ordered().fail_safe(FailSafe::default().attempt_limit(limit))), members).0
}

/// The lines of the ledger.
fn ledger(decision: &Decision) -> Vec<String> {
    let text = decision.to_string();
    let lines = text.lines().skip(1);
    // Up to the candidates.
    let own = |line: &&str| !line.starts_with("  1. ") && !line.starts_with("   - ");
    lines.take_while(own).map(str::to_owned).collect()
}

fn within(deadline: Duration, limit: Duration) -> Vec<String> {
    let world = World::new();
    let options = CallOptions::within(deadline).facts(facts().max_cost(9_000_000_000));
    ledger(world.call(&three(&world, limit), options).unwrap().decision())
}

#[test]
fn three_attempts_stand_where_they_were_in_the_time_of_the_request() {
    assert_eq!(
        within(secs(8), secs(2)),
        [
            "  attempts within 8.00 s",
            "    1. eu-a     |----------x                             |   0.0 µs +   2.00 s: failed with timeout, about 1,000 in 0 out, up to $0.002",
            "    2. eu-b     |          --x                           |   2.00 s + 500.0 ms: failed with overloaded, nothing",
            "    3. us-small |            ----------*                 |   2.50 s +   2.00 s: answered, 1,000 in 40 out, $0.00108",
            "  in all $0.00108, and up to $0.002 more; wasted up to $0.002",
            "  of $0.009 that it may cost",
        ]
    );
}

#[test]
fn a_deadline_far_away_does_not_press_everything_to_the_edge() {
    let lines = within(secs(60), ms(100));
    assert_eq!(lines[0], "  attempts within 225.0 ms of 60.00 s");
    assert!(lines[1].contains("|-----------------x                      |   0.0 µs + 100.0 ms"), "{lines:?}");
    assert!(lines[3].contains("|                      -----------------*| 125.0 ms + 100.0 ms"), "{lines:?}");
    // And a near one is no other.
    let lines = within(ms(20), ms(5));
    assert_eq!(lines[0], "  attempts within 20.0 ms");
    assert!(lines[3].contains("|            ----------*                 |   6.2 ms +   5.0 ms"), "{lines:?}");
}

#[test]
fn without_attempts_there_is_no_ledger_and_one_needs_no_sum() {
    let world = World::new();
    let router = pair(&world, tells(1_000, 40, ANSWER), |builder| builder);
    assert_eq!(ledger(&router.explain(&asks(facts()))), [""; 0]);
    let one = ledger(world.call(&router, asks(facts())).unwrap().decision());
    assert_eq!(
        one,
        [
            "  attempts within 20.0 ms of 8.00 s",
            "    1. a |---------------------------------------*|   0.0 µs +  20.0 ms: answered, 1,000 in 40 out, $0.00108",
        ]
    );
}

#[test]
fn a_wait_is_a_gap() {
    let world = World::new();
    let script = crate::support::in_turn([Act::Hint(Overloaded, ms(0), secs(4)), ANSWER]);
    let members = [(priced("a"), script)];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let lines = ledger(world.call(&router, asks(facts())).unwrap().decision());
    assert!(lines[1].starts_with("    1. a |x                                       |"), "{lines:?}");
    assert!(lines[2].starts_with("    2. a |                    *                   |   4.00 s"), "{lines:?}");
}

#[test]
fn a_stream_shows_when_it_began_and_how_it_ended() {
    let world = World::new();
    let act = Act::Stream(secs(1), vec![Step::Item, Step::Pause(secs(2)), Step::Item, Step::Close]);
    let router = pair(&world, always(act), |builder| builder);
    let (before, after) = world.block_on(async move {
        let mut stream = router.stream("ask", asks(facts())).await.unwrap();
        let before = ledger(stream.decision());
        while stream.next().await.is_some() {}
        (before, ledger(stream.decision()))
    });
    assert!(
        before[1].contains("|----->                                  |   0.0 µs +   1.00 s: answers"),
        "{before:?}"
    );
    let text =
        "|-----==========x                        |   0.0 µs +   3.00 s: failed with truncated, about 1,000 in 2 out";
    assert!(after[1].contains(text), "{after:?}");
}

#[test]
fn json_has_the_ledger_and_its_sums() {
    let world = World::new();
    let error = world.call(&pair(&world, always(fail(ServerError)), |builder| builder), asks(facts())).unwrap();
    let json: Value = serde_json::to_value(error.decision()).unwrap();
    let tokens = json!({"input": 1_000, "cached": 0, "output": 0, "told": false});
    let first = &json["attempts"][0];
    assert_eq!((&first["tokens"], &first["failure"]), (&tokens, &json!("server_error")));
    assert_eq!(first["cost"], json!({"code": "possible", "pico_usd": 2_000_000_000}));
    assert_eq!((&first["first_item_ns"], &first["elapsed_ns"]), (&Value::Null, &json!(0)));
    assert_eq!(first["ending"], json!({"code": "failed", "kind": "server_error"}));
    assert_eq!(json["attempts"][1]["ending"], json!({"code": "answered"}));
    assert_eq!(json["bill"], json!({"known": 0, "possible": 4_000_000_000u64, "unknown": 0}));
    assert_eq!(json["wasted"], json!({"known": 0, "possible": 2_000_000_000, "unknown": 0}));
    assert_eq!(json["arrival_ns"].as_u64(), Some(error.decision().arrival().as_nanos()));
}
