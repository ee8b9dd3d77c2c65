//! Which region serves.

mod by_hand;
mod odd;
mod residency;
mod return_;
mod room;
mod spill;

use crate::support::{ANSWER, Opinion, Scripted, TestRouter, World, always, ms, plain};
use fallway::policy::{FailSafe, PolicyExt, Regions, round_robin};
use fallway::{CallOptions, Facts, Profile};
use std::collections::BTreeMap;

/// Backends in these regions, in this order, all well.
fn fleet<const N: usize>(
    world: &World,
    regions: Regions,
    opinion: Option<&Opinion>,
    members: [&str; N],
) -> (TestRouter, [Scripted; N]) {
    let mut number = 0;
    let members = members.map(|region| {
        number += 1;
        (Profile::new(format!("{region}-{number}")).region(region), always(ANSWER))
    });
    let mut builder = world.router(round_robin().region_failover(regions).fail_safe(FailSafe::default()));
    if let Some(opinion) = opinion {
        for slot in 0..N {
            opinion.fresh(slot, 1000, world.now());
        }
        builder = builder.signal(opinion.clone());
    }
    world.fleet(builder, members)
}

/// How many of a thousand decisions go to each region; what goes nowhere stands under "".
fn shares(world: &World, router: &TestRouter, facts: Facts) -> BTreeMap<String, u32> {
    let mut decision = router.explain(&CallOptions::new(facts));
    let mut shares = BTreeMap::new();
    for seed in 0..20_000 {
        router.decide(&mut decision, world.now(), seed);
        let region = decision.chosen().map_or("", |chosen| chosen.profile().region_name().unwrap());
        *shares.entry(region.to_owned()).or_default() += 1;
    }
    shares.values_mut().for_each(|share| *share = (*share + 10) / 20);
    shares
}

/// Whether the shares are these, to one in a hundred.
fn close(shares: &BTreeMap<String, u32>, expected: &[(&str, u32)]) -> bool {
    let near = |(region, share): &(&str, u32)| shares.get(*region).is_some_and(|found| found.abs_diff(*share) <= 10);
    shares.len() == expected.len() && expected.iter().all(near)
}

#[test]
fn the_first_region_serves_while_it_is_well() {
    let world = World::new();
    let regions = || Regions::new("eu-west").then("eu-north");
    let (router, _) = fleet(&world, regions(), None, ["us", "eu-west", "eu-north", "eu-west"]);
    assert_eq!(shares(&world, &router, plain()), BTreeMap::from([("eu-west".to_owned(), 1000)]));
    let decision = router.explain(&CallOptions::new(plain()));
    let regions: Vec<_> = decision.regions().map(|it| (it.name(), it.rank(), it.health(), it.granted())).collect();
    let row = |name, rank, granted| (Some(name), Some(rank), 1000, granted);
    assert_eq!(regions, [row("eu-west", 0, 1000), row("eu-north", 1, 0), row("us", 2, 0)]);
    assert_eq!(decision.ranked().len(), 4, "the others stand behind, for retries");
    let text = decision.to_string();
    let line = "\n  region eu-west: 100 % healthy, gets 100 %, 0 in flight, never called";
    assert!(text.contains(line), "{text}");
}

#[test]
fn regions_of_one_rank_share_by_what_they_can_take() {
    let world = World::new();
    let members = [("a", "x", 30), ("b", "y", 10)]
        .map(|(id, region, limit)| (Profile::new(id).region(region).concurrency(limit), always(ANSWER)));
    let policy = round_robin().region_failover(Regions::new("z").then_any(["x", "y"]));
    let z = [(Profile::new("c").region("z").concurrency(10).drained(true), always(ANSWER))];
    let [a, b] = members;
    let [c] = z;
    let (router, _) = world.fleet(world.router(policy), [a, b, c]);
    let shares = shares(&world, &router, plain());
    assert!(close(&shares, &[("x", 750), ("y", 250)]), "{shares:?}");
    assert!(router.explain(&CallOptions::default()).to_string().contains("region z: no backend that may serve"));
}

#[test]
fn the_residency_set_holds_whatever_is_left() {
    let world = World::new();
    let opinion = Opinion::default();
    let regions = Regions::new("eu").then("us").residency(["eu"]);
    let (router, [eu, us, ..]) = fleet(&world, regions, Some(&opinion), ["eu", "us", "us"]);
    opinion.fresh(0, 0, world.now());
    for _ in 0..50 {
        let _ = world.call(&router, crate::support::within(ms(200)));
        world.run_for(ms(100));
    }
    assert!(eu.calls() > 0, "panic mode tries what is left");
    assert_eq!(us.calls(), 0);
    let decision = router.explain(&CallOptions::new(plain()));
    let text = decision.to_string();
    assert!(text.contains("us-2, rejected: outside residency (us is not in the set of the policy)"), "{text}");
    assert!(text.contains("region us: outside the residency set"), "{text}");
}

#[test]
fn a_session_stays_in_its_region_through_a_failover() {
    let world = World::new();
    let opinion = Opinion::default();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), ["a", "a", "a", "a", "b", "b"]);
    let region = |session: u32| {
        let facts = plain().session(format!("s{session}"));
        let mut decision = router.explain(&CallOptions::new(facts));
        let regions: Vec<_> = (0..8)
            .map(|seed| {
                router.decide(&mut decision, world.now(), seed);
                decision.chosen().unwrap().profile().region_name().unwrap().to_owned()
            })
            .collect();
        assert!(regions.iter().all(|region| *region == regions[0]), "{regions:?}");
        regions[0].clone()
    };
    let before: Vec<_> = (0..200).map(region).collect();
    assert!(before.iter().all(|region| region == "a"));
    // Half of it is ill: 1.4 times the other half keeps 70 %.
    opinion.fresh(0, 0, world.now());
    opinion.fresh(1, 0, world.now());
    let after: Vec<_> = (0..200).map(region).collect();
    let moved = after.iter().filter(|region| *region == "b").count();
    assert!((45..76).contains(&moved), "{moved} of 200");
}

#[test]
fn a_request_that_failed_in_a_region_goes_to_the_next() {
    let world = World::new();
    let members = [("a1", "a"), ("a2", "a"), ("b1", "b")].map(|(id, region)| {
        let act = if region == "a" { crate::support::fail(fallway::FailureKind::Unreachable) } else { ANSWER };
        (Profile::new(id).region(region), always(act))
    });
    let policy = round_robin().region_failover(Regions::new("a").then("b")).fail_safe(FailSafe::default());
    let (router, _) = world.fleet(world.router(policy), members);
    let reply = world.call(&router, crate::support::within(crate::support::secs(5))).unwrap();
    assert_eq!((reply.attempts().len(), reply.backend()), (2, Some("b1")));
    let text = reply.decision().to_string();
    assert!(text.contains("region a") && text.contains("failed for this request"), "{text}");
}

#[test]
fn decisions_about_regions_replay() {
    let world = World::new();
    let opinion = Opinion::default();
    let (router, _) = fleet(&world, Regions::new("a").then("b"), Some(&opinion), ["a", "a", "b", "c"]);
    for round in 0..100u64 {
        opinion.fresh((round % 4) as usize, if round % 3 == 0 { 0 } else { 1000 }, world.now());
        let Ok(reply) = world.call(&router, crate::support::within(ms(500))) else { continue };
        let again = router.replay(reply.decision());
        assert!(again.same_choice(reply.decision()), "{}\n{again}", reply.decision());
        let rows = |decision: &fallway::Decision| -> Vec<_> {
            decision.regions().map(|it| (it.name().map(str::to_owned), it.phase(), it.wish(), it.granted())).collect()
        };
        assert_eq!(rows(&again), rows(reply.decision()));
        world.run_for(ms(700));
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_named() {
    use fallway::policy::Spill;
    let eu = || Regions::new("eu");
    let proportional = |overprovisioning| eu().spill(Spill::Proportional { overprovisioning });
    let secs = crate::support::secs;
    for (regions, says) in [
        (Regions::new("mars"), "the preference names region \"mars\", where no backend stands"),
        (eu().then("mars"), "the preference names region \"mars\", where no backend stands"),
        (eu().then("eu"), "region \"eu\" stands in the preference twice"),
        (eu().then_any(["us", "eu"]), "region \"eu\" stands in the preference twice"),
        (eu().then_any([""; 0]), "a tier of the preference names no region"),
        (eu().residency(["eu", "mars"]), "the residency set names region \"mars\", where no backend stands"),
        (eu().residency([""; 0]), "an empty residency set would refuse every request"),
        (proportional(0.9), "an overprovisioning factor of 0.9 is not in 1..=1000"),
        (proportional(f64::NAN), "an overprovisioning factor of NaN is not in 1..=1000"),
        (proportional(f64::INFINITY), "an overprovisioning factor of inf is not in 1..=1000"),
        (eu().thresholds(0.8, 0.5), "the threshold for down, 0.8, is above that for up, 0.5"),
        (eu().thresholds(-0.1, 0.5), "thresholds of -0.1 and 0.5 are not in 0..=1"),
        (eu().thresholds(0.1, f64::NAN), "thresholds of 0.1 and NaN are not in 0..=1"),
        (eu().headroom(0.0, 0.5), "a headroom of 0 is not above 0 and at most 1"),
        (eu().headroom(0.5, 1.1), "a headroom of 1.1 is not above 0 and at most 1"),
        (eu().hold(secs(60), secs(30)), "a hold of 60s is longer than its maximum, 30s"),
        (eu().exercise(0.2), "an exercise share of 0.2 is not in 0..=0.1"),
    ] {
        let world = World::new();
        let members = ["eu", "us"].map(|region| (Profile::new(region).region(region), always(ANSWER)));
        let mut builder = world.router(round_robin().region_failover(regions));
        for (profile, script) in members {
            builder = builder.backend(profile.clone(), world.backend(profile.id(), script));
        }
        assert_eq!(builder.build().unwrap_err().to_string(), format!("region_failover: {says}"));
    }
}
