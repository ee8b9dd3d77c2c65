//! Shares: who gets how much, against the derived probability.

mod turns;

use crate::support::{ANSWER, Act, TestRouter, World, always, fail, in_turn, leaf, ms, plain, secs, within};
use fallway::FailureKind::Overloaded;
use fallway::decision::Reason;
use fallway::policy::{
    FailSafe, PolicyExt, RoutingPolicy, ordered, policy_fn, power_of_two, round_robin, sticky, weighted,
};
use fallway::{CallOptions, Profile};
use std::collections::BTreeMap;

const PICKS: u64 = 50_000;

fn fleet(world: &World, policy: impl RoutingPolicy + 'static, profiles: Vec<Profile>) -> TestRouter {
    let mut builder = world.router(policy);
    for profile in profiles {
        let backend = world.backend(profile.id(), always(Act::Answer(ms(0))));
        builder = builder.backend(profile, backend);
    }
    builder.build().unwrap()
}

fn equals(count: usize) -> Vec<Profile> {
    (0..count).map(|n| Profile::new(n.to_string())).collect()
}

/// Decides so many times, each with a seed of its own, and counts who is chosen, by slot.
fn picks(router: &TestRouter, backends: usize, count: u64) -> Vec<u64> {
    let options = &within(secs(5));
    let mut decision = router.explain(options);
    let now = decision.time();
    let mut counts = vec![0; backends];
    for seed in 0..count {
        router.decide(&mut decision, now, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        counts[decision.chosen().unwrap().id().slot()] += 1;
    }
    counts
}

/// How far `count` of `n` may be from probability `p`: six standard deviations, one in 500 million.
fn bound(n: u64, p: f64) -> f64 {
    6.0 * (n as f64 * p * (1.0 - p)).sqrt()
}

fn assert_share(count: u64, n: u64, p: f64, what: &str) {
    let off = (count as f64 - n as f64 * p).abs();
    assert!(off <= bound(n, p), "{what}: {count} of {n} is {off:.0} off {p}, bound {:.0}", bound(n, p));
}

/// Calls so many times and counts who answers.
fn calls(world: &World, router: &TestRouter, count: usize) -> Vec<String> {
    (0..count).map(|_| world.call(router, within(secs(5))).unwrap().backend().unwrap().to_owned()).collect()
}

fn tally(names: &[String]) -> BTreeMap<&str, u64> {
    let mut tally = BTreeMap::new();
    for name in names {
        *tally.entry(name.as_str()).or_default() += 1;
    }
    tally
}

#[test]
fn round_robin_is_exact() {
    let world = World::new();
    let router = fleet(&world, round_robin(), equals(7));
    let names = calls(&world, &router, 105_000);
    assert!(tally(&names).values().all(|count| *count == 15_000));
    // Any seven in a row are all of them.
    assert!(names.windows(7).all(|window| tally(window).len() == 7));
}

#[test]
fn round_robin_passes_over_who_is_behind_without_giving_two_turns() {
    let world = World::new();
    let mut profiles = equals(5);
    profiles[2] = Profile::new("2").drained(true);
    let router = fleet(&world, round_robin(), profiles);
    let names = calls(&world, &router, 4_000);
    assert_eq!(tally(&names).into_values().collect::<Vec<_>>(), [1_000; 4]);
    assert!(names.windows(4).all(|window| tally(window).len() == 4));
}

#[test]
fn weighted_is_smooth_at_every_length() {
    let weights = [5.0, 3.0, 1.5, 0.5];
    let world = World::new();
    let profiles = (0..).zip(weights).map(|(n, weight): (u32, _)| Profile::new(n.to_string()).weight(weight)).collect();
    let router = fleet(&world, weighted(), profiles);
    let mut counts = [0.0; 4];
    let total = 100_000;
    for n in 1..=total {
        let routed = world.call(&router, within(secs(5))).unwrap();
        counts[routed.backend().unwrap().parse::<usize>().unwrap()] += 1.0;
        for (count, weight) in counts.iter().zip(weights) {
            let off: f64 = count - f64::from(n) * weight / 10.0;
            // Independent draws would be off by 150 at the end; a Weyl sequence by O(log n).
            assert!(off.abs() < 3.0 + f64::from(n).ln() / 2.0, "{off} after {n}");
        }
    }
    assert_eq!(counts.map(|count: f64| (count / f64::from(total) * 1000.0).round()), [500.0, 300.0, 150.0, 50.0]);
}

#[test]
fn weighted_shares_among_those_that_are_left() {
    let world = World::new();
    let profiles =
        vec![Profile::new("a").weight(8.0).drained(true), Profile::new("b").weight(3.0), Profile::new("c").weight(1.0)];
    let router = fleet(&world, weighted(), profiles);
    let names = calls(&world, &router, 4_000);
    let b = tally(&names)["b"];
    assert!((2_995..=3_005).contains(&b), "{b}");
}

/// Which pairs `power_of_two` draws of so many backends, and how often.
fn pairs(policy: impl RoutingPolicy + 'static, count: usize, warm: bool) -> BTreeMap<Vec<usize>, u64> {
    let world = World::new();
    let router = fleet(&world, policy, equals(count));
    calls(&world, &router, if warm { count * 20 } else { 0 });
    let mut decision = router.explain(&within(secs(5)));
    let now = decision.time();
    let mut pairs: BTreeMap<Vec<usize>, u64> = BTreeMap::new();
    for seed in 0..PICKS {
        router.decide(&mut decision, now, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Who was drawn was read.
        let drawn = decision.candidates().filter(|it| it.latency().is_some());
        let mut pair: Vec<_> = drawn.map(|it| it.id().slot()).collect();
        pair.sort_unstable();
        *pairs.entry(pair).or_default() += 1;
    }
    pairs
}

fn assert_pairs(warm: bool) {
    for count in [2, 3, 5, 30] {
        // Alone it draws from the fleet, and in a wrapper from what that leaves.
        let wrapped = power_of_two().fail_safe(FailSafe::default());
        for pairs in [pairs(power_of_two(), count, warm), pairs(wrapped, count, warm)] {
            let possible = count * (count - 1) / 2;
            let distinct = pairs.keys().filter(|pair| pair.len() == 2 && pair[0] != pair[1]).count();
            assert_eq!((distinct, pairs.len()), (possible, possible), "{count}");
            if possible > 1 {
                pairs.values().for_each(|drawn| assert_share(*drawn, PICKS, 1.0 / possible as f64, "a pair"));
            }
        }
    }
}

#[test]
fn power_of_two_draws_two_distinct_backends_uniformly() {
    assert_pairs(true);
}

#[test]
fn power_of_two_draws_two_before_anything_is_known() {
    assert_pairs(false);
}

#[test]
fn equals_share_equally() {
    for name in ["least_loaded", "cheapest", "power_of_two"] {
        for count in [2, 3, 10, 64] {
            let world = World::new();
            let router = fleet(&world, leaf(name), equals(count));
            for (slot, picks) in picks(&router, count, PICKS / 2).into_iter().enumerate() {
                assert_share(picks, PICKS / 2, 1.0 / count as f64, &format!("{name}, {slot} of {count}"));
            }
        }
    }
}

#[test]
fn predictions_within_a_quarter_are_equal() {
    let world = World::new();
    let members = [20, 22, 24, 40].map(|millis| (Profile::new(millis.to_string()), always(Act::Answer(ms(millis)))));
    let (router, _) = world.fleet(world.router(leaf("predicted_ttft")), members);
    for _ in 0..200 {
        world.call(&router, within(secs(5))).unwrap();
    }
    // The fourth is known too: it was a canary once.
    let picks = picks(&router, 4, PICKS);
    for picks in &picks[..3] {
        assert_share(*picks, PICKS, 1.0 / 3.0, "one of three alike");
    }
    assert_eq!(picks[3], 0);
}

#[test]
fn candidates_that_no_policy_ranks_share_equally() {
    let world = World::new();
    let router = fleet(&world, policy_fn("silent", |_, slate| slate.each(|_| ())), equals(5));
    for count in picks(&router, 5, PICKS) {
        assert_share(count, PICKS, 0.2, "unranked");
    }
}

#[test]
fn sessions_spread_evenly_and_stay() {
    let world = World::new();
    let router = fleet(&world, sticky(), equals(10));
    let home = |session: u32| {
        let options = CallOptions::within(secs(5)).facts(plain().session(format!("s{session}")));
        router.explain(&options).chosen().unwrap().id().slot()
    };
    let mut counts = [0; 10];
    for session in 0..20_000 {
        counts[home(session)] += 1;
    }
    counts.into_iter().for_each(|count| assert_share(count, 20_000, 0.1, "sessions"));
    for session in 0..100 {
        let first = home(session);
        assert!((0..50).all(|_| home(session) == first));
    }
}

#[test]
fn a_hot_session_never_overruns_its_backend() {
    let world = World::new();
    let members = ["a", "b", "c", "d"].map(|id| (Profile::new(id), always(Act::Answer(secs(10)))));
    let (router, backends) = world.fleet(world.router(sticky()), members);
    let options = || CallOptions::within(secs(60)).facts(plain().session("hot"));
    let mut calls = Vec::new();
    for n in 1..=100u64 {
        calls.push(world.spawn_call(&router, options()));
        world.settle();
        // Never more than 1.25 times the mean, rounded up.
        let bound = (5 * n).div_ceil(4 * 4);
        let most = backends.iter().map(|backend| u64::from(backend.backstage().in_flight())).max().unwrap();
        assert!(most <= bound, "{most} of {n}, bound {bound}");
    }
    let decision = router.explain(&options());
    let over = |reason| matches!(reason, Some(Reason::OverBound { .. }));
    assert!(decision.candidates().any(|candidate| over(candidate.note())));
    world.run();
}

#[test]
fn a_slow_start_takes_the_share_of_its_age() {
    let world = World::new();
    let members = [(Profile::new("a"), in_turn([fail(Overloaded), ANSWER])), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    world.call(&router, within(secs(5))).unwrap();
    world.run_for(secs(20));
    world.call(&router, within(secs(5))).unwrap();
    assert_eq!(a.calls(), 2);
    // Out for 20 s: the ramp is the full minute, and never below a tenth.
    let start = world.now();
    for (age, share) in [(1, 0.1), (6, 0.1), (12, 0.2), (30, 0.5), (54, 0.9), (60, 1.0), (3_600, 1.0)] {
        world.timer().set(start + secs(age));
        let n = 20_000;
        let ahead = picks(&router, 2, n)[0];
        if share < 1.0 {
            assert_share(ahead, n, share, &format!("{age} s"));
        } else {
            assert_eq!(ahead, n, "{age} s");
        }
    }
}

#[test]
fn equal_seeds_decide_equally_and_others_do_not() {
    let choices = |seed: u64| -> Vec<usize> {
        let world = World::new();
        let mut builder = world.router(power_of_two().fail_safe(FailSafe::default())).seed(seed);
        for n in 0..20 {
            let id = n.to_string();
            builder = builder.backend(Profile::new(&id), world.backend(&id, always(ANSWER)));
        }
        let router = builder.build().unwrap();
        (0..100).map(|_| router.explain(&within(secs(1))).chosen().unwrap().id().slot()).collect()
    };
    assert_eq!(choices(1), choices(1));
    let differ = choices(1).iter().zip(choices(2)).filter(|(a, b)| **a != *b).count();
    assert!(differ > 80, "{differ}");
}

#[test]
fn a_dry_run_foretells_and_changes_nothing() {
    let names = |explains: bool| -> Vec<String> {
        let world = World::new();
        let router = fleet(&world, power_of_two(), equals(7));
        let call = |_| {
            let foretold = explains.then(|| router.explain(&within(secs(5))));
            let name = world.call(&router, within(secs(5))).unwrap().backend().unwrap().to_owned();
            if let Some(decision) = foretold {
                assert_eq!(decision.chosen().unwrap().name(), name);
            }
            name
        };
        (0..100).map(call).collect()
    };
    assert_eq!(names(true), names(false));
}
