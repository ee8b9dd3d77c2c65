//! How much of its traffic a region keeps when a part of it is ill.

use super::{close, fleet, shares};
use crate::support::{ANSWER, Opinion, World, always, plain};
use fallway::policy::{PolicyExt, Regions, Spill, round_robin};
use fallway::rng::Rng;
use fallway::sim::{EnvoyExact, Priority};
use fallway::{CallOptions, Profile};

/// Of each region, in order of preference: how many of how many backends are well.
fn play(regions: &[(u32, u32)]) -> Vec<u32> {
    let world = World::new();
    let opinion = Opinion::default();
    let names = ["a", "b", "c"];
    let members: Vec<_> = regions.iter().zip(names).flat_map(|((_, all), name)| vec![name; *all as usize]).collect();
    let order = Regions::new("a").then("b");
    let order = if regions.len() > 2 { order.then("c") } else { order };
    let router = match members.len() {
        4 => fleet(&world, order, Some(&opinion), <[&str; 4]>::try_from(members).unwrap()).0,
        6 => fleet(&world, order, Some(&opinion), <[&str; 6]>::try_from(members).unwrap()).0,
        8 => fleet(&world, order, Some(&opinion), <[&str; 8]>::try_from(members).unwrap()).0,
        12 => fleet(&world, order, Some(&opinion), <[&str; 12]>::try_from(members).unwrap()).0,
        15 => fleet(&world, order, Some(&opinion), <[&str; 15]>::try_from(members).unwrap()).0,
        other => panic!("{other} backends"),
    };
    let mut slot = 0;
    for (well, all) in regions {
        for number in 0..*all {
            opinion.fresh(slot, if number < *well { 1000 } else { 0 }, world.now());
            slot += 1;
        }
    }
    let shares = shares(&world, &router, plain());
    names[..regions.len()].iter().map(|name| shares.get(*name).copied().unwrap_or(0)).collect()
}

#[test]
fn a_region_keeps_what_its_spare_capacity_allows() {
    for (regions, expected) in [
        (&[(2, 2), (2, 2)][..], [1000, 0, 0]),
        (&[(1, 2), (2, 2)], [700, 300, 0]),
        (&[(1, 4), (2, 2)], [350, 650, 0]),
        (&[(0, 5), (0, 5), (5, 5)], [0, 0, 1000]),
        // 71 % of a region carry all of its traffic.
        (&[(3, 4), (4, 4)], [1000, 0, 0]),
        (&[(4, 6), (6, 6)], [933, 67, 0]),
    ] {
        let found = play(regions);
        let close = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 10);
        assert!(close, "{regions:?}: {found:?}, not {expected:?}");
    }
}

#[test]
fn a_switch_moves_all_or_nothing() {
    let world = World::new();
    let opinion = Opinion::default();
    let regions = Regions::new("a").then("b").spill(Spill::Switch).thresholds(0.5, 0.75);
    let (router, _) = fleet(&world, regions, Some(&opinion), ["a", "a", "a", "a", "b", "b", "b", "b"]);
    opinion.fresh(0, 0, world.now());
    opinion.fresh(1, 0, world.now());
    assert!(close(&shares(&world, &router, plain()), &[("a", 1000)]));
    opinion.fresh(2, 0, world.now());
    assert!(close(&shares(&world, &router, plain()), &[("b", 1000)]));
}

#[test]
fn what_is_left_of_all_regions_carries_all() {
    // Both offer 35 %: together less than all, so that each takes half.
    let world = World::new();
    let opinion = Opinion::default();
    let members = ["a", "a", "a", "a", "b", "b", "b", "b"];
    let (router, _) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), members);
    for slot in [0, 1, 2, 4, 5, 6] {
        opinion.fresh(slot, 0, world.now());
    }
    let shares = shares(&world, &router, plain());
    assert!(close(&shares, &[("a", 500), ("b", 500)]), "{shares:?}");
}

#[test]
fn fallbacks_are_exercised_where_the_host_wants_it() {
    let world = World::new();
    let regions = Regions::new("a").then("b").then("c").exercise(0.03);
    let (router, _) = fleet(&world, regions, None, ["a", "b", "c"]);
    let shares = shares(&world, &router, plain());
    assert!(close(&shares, &[("a", 940), ("b", 30), ("c", 30)]), "{shares:?}");
}

#[test]
fn shares_are_envoys_to_what_envoy_rounds_off() {
    let mut rng = Rng::new(20);
    for _ in 0..400 {
        let regions: Vec<_> = (0..2 + rng.below(2)).map(|_| 1 + rng.below(12) as u32).collect();
        let regions: Vec<_> = regions.into_iter().map(|all| (rng.below(all as usize + 1) as u32, all)).collect();
        if regions.iter().all(|(well, _)| *well == 0) {
            continue;
        }
        let levels: Vec<_> = regions.iter().map(|(well, all)| Priority::new(*all, *well)).collect();
        let envoy = EnvoyExact::default().panic_threshold(0).loads(&levels);
        let (world, opinion) = (World::new(), Opinion::default());
        let names = ["a", "b", "c"];
        let order = regions.iter().zip(names).skip(1).fold(Regions::new("a"), |order, (_, name)| order.then(name));
        let mut builder = world.router(round_robin().region_failover(order)).signal(opinion.clone());
        let mut slot = 0;
        for ((well, all), name) in regions.iter().zip(names) {
            for number in 0..*all {
                opinion.fresh(slot, if number < *well { 1000 } else { 0 }, world.now());
                let id = format!("{name}{number}");
                builder = builder.backend(Profile::new(&id).region(name), world.backend(&id, always(ANSWER)));
                slot += 1;
            }
        }
        let decision = builder.build().unwrap().explain(&CallOptions::new(plain()));
        for (found, envoy) in decision.regions().zip(&envoy) {
            let (found, envoy) = (u32::from(found.granted()), envoy.healthy * 10);
            assert!(found.abs_diff(envoy) <= 20, "{regions:?}: {found} for {envoy} of 1000 in\n{decision}");
        }
    }
}
