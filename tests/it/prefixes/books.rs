//! The numbers on the books, in decisions and in their replays.

use super::{believed, cached, pair, prompt, router, send};
use crate::support::{at, drawn};
use fallway::facts::Prefix;
use fallway::{Facts, FailureKind, Profile};
use proptest::prelude::*;

#[test]
fn an_explanation_says_what_is_cached() {
    let router = router([Profile::new("a")]);
    let facts = Facts::any().prompt_tokens(4_000).prefix(Prefix::of_hashes(512, [1, 2, 3]));
    let (mut trip, _) = send(&router, &facts, at(1));
    trip.answered(1, at(20));
    let decision = router.explain(&facts.into());
    let text = decision.to_string();
    assert!(text.contains(", 1,536 of 4,000 prompt tokens probably cached"), "{text}");
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json["candidates"][0]["cached_tokens"], 1_536);
    assert_eq!(json["facts"]["prefix"]["block_tokens"], 512);
    assert_eq!(json["facts"]["prefix"]["hashes"].as_array().unwrap().len(), 3);
    assert!(router.explain(&Facts::any().into()).to_string().find("cached").is_none());
}

#[test]
fn absurd_prefixes_are_cut_to_the_prompt() {
    let router = router([Profile::new("a")]);
    let facts = Facts::any().prompt_tokens(10).prefix(Prefix::of_hashes(u32::MAX, 0..));
    let none = Facts::any().prefix(Prefix::of_hashes(u32::MAX, 0..));
    for now in 1..50 {
        let (mut trip, _) = send(&router, if now % 2 == 0 { &facts } else { &none }, at(now * 10));
        let waiting = router.explain(&Facts::any().into()).candidates().next().unwrap().load().unwrap().waiting_tokens;
        assert!(waiting <= 10, "{waiting}");
        trip.answered(1, at(now * 10 + 5));
    }
    assert_eq!(believed(&router, &facts), [10]);
    assert_eq!(believed(&router, &none), [0]);
    let empty = Facts::any().prompt_tokens(10).prefix(Prefix::of_hashes(0, 0..));
    assert_eq!(believed(&router, &empty), [0]);
}

#[test]
fn a_policy_that_does_not_look_is_charged_the_same() {
    let world = crate::support::World::new();
    let builder = world.router(fallway::policy::round_robin());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), crate::support::always(crate::support::ANSWER))]);
    let (mut trip, _) = send(&router, &prompt(1, 10), at(1));
    trip.answered(1, at(10));
    let (trip, _) = send(&router, &prompt(1, 12), at(20));
    assert_eq!(trip.decision().chosen().unwrap().cached_tokens(), Some(2_560));
    assert!(router.replay(trip.decision()).same_choice(trip.decision()));
}

proptest! {
    #![proptest_config(drawn(64))]

    /// Whatever happens in whatever order: what waits is the sum of what the decisions counted, to the token, and every
    /// decision replays.
    #[test]
    fn what_waits_is_what_was_decided(
        events in prop::collection::vec((0u8..6, 0u64..4, 1u64..30, any::<prop::sample::Index>()), 1..120),
    ) {
        let router = pair();
        let mut flying = Vec::new();
        let mut kept = Vec::new();
        for (time, (event, of, blocks, which)) in (1u64..).zip(events) {
            let now = at(time * 7);
            match event {
                0..=2 => {
                    let facts = prompt(of, blocks);
                    let mut trip = router.trip(facts.clone().into(), now);
                    if trip.next(now).is_ok()
                        && let Some(chosen) = trip.decision().chosen()
                    {
                        let charge = facts.input_tokens() - chosen.cached_tokens().unwrap();
                        kept.push(trip.decision().clone());
                        flying.push((chosen.id().slot(), charge, trip, true));
                    }
                }
                _ if flying.is_empty() => {}
                3 => {
                    let index = which.index(flying.len());
                    let (_, _, trip, waits) = &mut flying[index];
                    trip.answered(1, now);
                    *waits = false;
                }
                4 => drop(flying.remove(which.index(flying.len()))),
                _ => {
                    let (_, _, mut trip, waits) = flying.remove(which.index(flying.len()));
                    if waits {
                        trip.fail(1, FailureKind::ServerError.into(), false, now);
                    } else {
                        trip.finish(now);
                    }
                }
            }
            for candidate in router.explain(&prompt(9, 1).into()).candidates() {
                let Some(load) = candidate.load() else { continue };
                let there = flying.iter().filter(|(slot, _, _, waits)| *waits && *slot == candidate.id().slot());
                prop_assert_eq!(load.waiting_tokens, there.map(|(_, charge, ..)| charge).sum::<u64>());
            }
        }
        drop(flying);
        for decision in kept {
            let again = router.replay(&decision);
            prop_assert!(again.same_choice(&decision), "{decision}\n{again}");
            prop_assert_eq!(cached(&again), cached(&decision));
        }
        for candidate in router.explain(&prompt(9, 1).into()).candidates() {
            prop_assert_eq!(candidate.load().map_or(0, |load| load.waiting_tokens), 0);
        }
    }
}
