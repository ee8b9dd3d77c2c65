//! Where routers that know nothing of each other send what none of them sent before.

use super::{BLOCK, cached, prompt, send};
use crate::support::{Act, TestRouter, World, always, ms, within};
use fallway::facts::Prefix;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::{Decision, Facts, Profile};
use std::collections::BTreeMap;

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// A router over eight servers that were called and are alike, and its world.
fn fleet(seed: u64, profile: impl Fn(&str) -> Profile, mut names: [&str; 8]) -> (World, TestRouter) {
    if seed.is_multiple_of(2) {
        names.reverse();
    }
    let world = World::new();
    let builder = world.router(predicted_ttft().fail_safe(FailSafe::default())).seed(seed);
    let (router, _) = world.fleet(builder, names.map(|name| (profile(name), always(Act::Answer(ms(100))))));
    (0..80).for_each(|_| assert!(world.call(&router, within(ms(5_000))).is_ok()));
    (world, router)
}

fn plain(seed: u64) -> (World, TestRouter) {
    fleet(seed, |name| Profile::new(name), NAMES)
}

fn chosen(router: &TestRouter, facts: &Facts) -> String {
    router.explain(&facts.clone().into()).chosen().unwrap().name().to_owned()
}

fn supposed(decision: &Decision) -> Vec<Option<u64>> {
    decision.candidates().map(|candidate| candidate.supposed_tokens()).collect()
}

#[test]
fn routers_agree_on_where_a_prompt_goes_and_spread_prompts_evenly() {
    let ((_, one), (_, other)) = (plain(1), plain(2));
    let (mut served, mut apart) = (BTreeMap::<_, usize>::new(), 0);
    for of in 0..400 {
        let home = chosen(&one, &prompt(of, 20));
        // Later turns of a conversation belong where the first does.
        let homes = [20, 30, 40].map(|blocks| chosen(&other, &prompt(of, blocks)));
        apart += usize::from(homes.iter().any(|other| *other != home));
        *served.entry(home).or_default() += 1;
    }
    // Two draws may differ by less than a token.
    assert!(apart <= 6, "{apart} of 400");
    assert!(served.len() == 8 && served.values().all(|count| (25..85).contains(count)), "{served:?}");
    let unknown = Facts::any().prompt_tokens(5_120);
    let agree = |_: &u64| chosen(&one, &unknown) == chosen(&other, &unknown);
    assert!((0..400).filter(agree).count() < 120, "without a prefix the seeds choose");
}

#[test]
fn a_backend_that_leaves_moves_its_prompts_only() {
    let (_, router) = plain(1);
    let homes: Vec<_> = (0..200).map(|of| chosen(&router, &prompt(of, 20))).collect();
    router.update(|fleet| fleet.remove("c")).unwrap();
    for (of, home) in (0..).zip(homes) {
        let now = chosen(&router, &prompt(of, 20));
        assert_eq!(now == home, home != "c", "prompt {of} went from {home} to {now}");
    }
}

#[test]
fn nobody_waits_for_a_chance() {
    let (world, router) = plain(1);
    let facts = prompt(1, 20);
    let home = chosen(&router, &facts);
    // As much as the prompt itself is before it.
    let (trip, _) = send(&router, &prompt(1, 20), world.now());
    assert_eq!(trip.decision().chosen().unwrap().name(), home);
    let decision = router.explain(&prompt(2, 20).into());
    for candidate in decision.candidates() {
        let supposed = candidate.supposed_tokens().unwrap();
        assert!(supposed <= 20 * u64::from(BLOCK) / 8, "{supposed}");
    }
    // Another with the same home goes to the next.
    let same = (2..200).map(|of| prompt(of, 20)).find(|facts| chosen(&plain(1).1, facts) == home).unwrap();
    assert_ne!(chosen(&router, &same), home);
}

#[test]
fn nothing_is_supposed_of_who_keeps_nothing_nor_of_what_is_known() {
    let cacheless = |name: &str| if name == "c" { Profile::new(name).prefix_cache(0) } else { Profile::new(name) };
    let (world, router) = fleet(1, cacheless, NAMES);
    for of in 0..100 {
        let decision = router.explain(&prompt(of, 20).into());
        assert_ne!(decision.chosen().unwrap().name(), "c", "prompt {of}");
        for candidate in decision.candidates() {
            assert!(candidate.name() != "c" || candidate.supposed_tokens() == Some(0));
        }
    }
    let (mut trip, _) = send(&router, &prompt(1, 20), world.now());
    trip.answered(1, world.now() + ms(100));
    drop(trip);
    assert_eq!(supposed(&router.explain(&prompt(1, 20).into())), [Some(0); 8]);
    assert!(supposed(&router.explain(&prompt(1, 40).into())).iter().any(|tokens| *tokens > Some(0)));
    assert_eq!(supposed(&router.explain(&Facts::any().prompt_tokens(5_120).into())), [None; 8]);
}

#[test]
fn an_explanation_says_what_is_supposed_and_a_replay_supposes_the_same() {
    let (_, router) = plain(1);
    let decision = router.explain(&prompt(3, 20).into());
    let tokens = decision.chosen().unwrap().supposed_tokens().unwrap();
    assert!(tokens > 0 && cached(&decision) == [Some(0); 8]);
    let text = decision.to_string();
    assert!(text.contains(&format!(", {tokens} prompt tokens supposed to be sent there by others")), "{text}");
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json["candidates"][0]["supposed_tokens"], tokens, "the best comes first");
    let again = router.replay(&decision);
    assert!(again.same_choice(&decision) && supposed(&again) == supposed(&decision));
    let costs = |decision: &Decision| decision.candidates().map(|it| it.cost()).collect::<Vec<_>>();
    assert_eq!(costs(&again), costs(&decision));
}

/// A host that says of a prompt that it is shorter than its blocks.
#[test]
fn what_is_known_does_not_give_way_to_more_than_there_is() {
    let (world, router) = plain(1);
    let facts = Facts::any().prompt_tokens(1_000).prefix(Prefix::of_hashes(BLOCK, 0..64));
    let (mut trip, slot) = send(&router, &facts, world.now());
    trip.answered(1, world.now() + ms(100));
    drop(trip);
    let decision = router.explain(&facts.into());
    assert_eq!(decision.chosen().unwrap().id().slot(), slot, "{decision}");
    assert_eq!(supposed(&decision), [Some(0); 8]);
}

#[test]
fn absurd_prompts_are_no_danger() {
    let (_, router) = plain(1);
    for prefix in [Prefix::of_hashes(u32::MAX, 0..), Prefix::of_hashes(0, 0..), Prefix::of_hashes(1, [])] {
        for tokens in [0, 1, u64::MAX] {
            let facts = Facts::any().prompt_tokens(tokens).prefix(prefix.clone());
            assert!(router.explain(&facts.into()).chosen().is_some());
        }
    }
}
