//! Fleets and requests that are not like the others.

use super::shares;
use crate::support::{ANSWER, Opinion, TestRouter, World, always, plain, scripted_panic, secs};
use fallway::decision::Reason;
use fallway::facts::Capabilities;
use fallway::policy::{FailSafe, PlanContext, PolicyExt, Regions, RoutingPolicy, Slate, round_robin};
use fallway::{CallOptions, Facts, Profile};

fn of_many(world: &World, policy: impl RoutingPolicy + 'static, profiles: impl Iterator<Item = Profile>) -> TestRouter {
    let mut builder = world.router(policy);
    for profile in profiles {
        let backend = world.backend(profile.id(), always(ANSWER));
        builder = builder.backend(profile, backend);
    }
    builder.build().unwrap()
}

#[test]
fn sixty_four_regions_of_one_rank_share_alike() {
    let world = World::new();
    let name = |n| format!("r{n:02}");
    let profiles = (0..64).map(|n| Profile::new(name(n)).region(name(n)).drained(n == 0));
    let policy = round_robin().region_failover(Regions::new(name(0)).then_any((1..64).map(name)));
    let router = of_many(&world, policy, profiles);
    let granted: Vec<_> = router.explain(&CallOptions::new(plain())).regions().map(|it| it.granted()).collect();
    assert_eq!(granted[0], 0);
    assert!(granted[1..].iter().all(|share| (15..=16).contains(share)), "{granted:?}");
    assert_eq!(granted.iter().sum::<u16>(), 1000);
}

#[test]
fn a_rare_need_takes_no_region_down_for_the_others() {
    let (world, opinion) = (World::new(), Opinion::default());
    let policy = round_robin().region_failover(Regions::new("a").then("b")).fail_safe(FailSafe::default());
    let members = [("a1", true), ("a2", false), ("a3", false), ("a4", false), ("b1", true), ("b2", true)];
    let members = members.map(|(id, sees)| {
        let can = if sees { Capabilities::VISION } else { Capabilities::NONE };
        (Profile::new(id).region(&id[..1]).capabilities(can), always(ANSWER))
    });
    for slot in 0..6 {
        opinion.fresh(slot, if slot == 0 { 0 } else { 1000 }, world.now());
    }
    let (router, _) = world.fleet(world.router(policy).signal(opinion.clone()), members);
    let call = |facts: Facts| world.call(&router, CallOptions::within(secs(5)).facts(facts)).unwrap();
    let seeing = call(plain().needs(Capabilities::VISION));
    assert!(seeing.backend().unwrap().starts_with('b'), "moves at once");
    assert_eq!(shares(&world, &router, plain())["a"], 1000);
    // Most of it is ill: down, and what was not looked at brings it back for nobody.
    opinion.fresh(1, 0, world.now());
    opinion.fresh(2, 0, world.now());
    call(plain());
    call(plain().needs(Capabilities::VISION));
    let decision = router.explain(&CallOptions::new(plain()));
    assert_eq!(decision.regions().next().unwrap().phase().label(), "down");
}

#[derive(Debug)]
struct Panics;

impl RoutingPolicy for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn plan(&self, _: &PlanContext<'_>, _: &mut Slate<'_>) {
        scripted_panic()
    }
}

#[test]
fn the_preference_outlives_a_panic_of_the_policy_inside() {
    let world = World::new();
    let profiles = ["us", "eu"].into_iter().map(|region| Profile::new(region).region(region));
    let policy = Panics.region_failover(Regions::new("eu").then("us")).fail_safe(FailSafe::default());
    let router = of_many(&world, policy, profiles);
    assert_eq!(shares(&world, &router, plain())["eu"], 1000);
}

#[test]
fn fail_safe_inside_is_refused_for_its_tiers_would_leave_the_residency_set() {
    let world = World::new();
    let policy = round_robin().fail_safe(FailSafe::default()).region_failover(Regions::new("eu"));
    let backend = world.backend("eu", always(ANSWER));
    let built = world.router(policy).backend(Profile::new("eu").region("eu"), backend).build();
    let error = "region_failover: fail_safe stands inside of it; it belongs around it";
    assert_eq!(built.unwrap_err().to_string(), error);
}

/// Two hundred backends in the US and four in the EU.
fn far_more_in_the_us() -> impl Iterator<Item = Profile> {
    let us = (0..200).map(|n| Profile::new(format!("us{n}")).region("us"));
    us.chain((0..4).map(|n| Profile::new(format!("eu{n}")).region("eu")))
}

#[test]
fn a_small_region_of_a_large_fleet_serves_all_that_is_bound_to_it() {
    let world = World::new();
    for regions in [Regions::new("eu").residency(["eu"]), Regions::new("eu").then("us")] {
        let policy = round_robin().region_failover(regions).fail_safe(FailSafe::default());
        let router = of_many(&world, policy, far_more_in_the_us());
        assert_eq!(shares(&world, &router, plain())["eu"], 1000);
    }
}

#[test]
fn regions_of_one_rank_share_by_what_they_have_and_not_by_what_is_looked_at() {
    let world = World::new();
    let policy = round_robin().region_failover(Regions::new("none").then_any(["us", "eu"]));
    let profiles = far_more_in_the_us().chain([Profile::new("none").region("none").drained(true)]);
    let router = of_many(&world, policy, profiles);
    let eu = shares(&world, &router, plain())["eu"];
    assert!((10..30).contains(&eu), "4 of 204 are 20 in a thousand: {eu}");
}

#[test]
fn chance_takes_no_large_region_down() {
    let (world, opinion) = (World::new(), Opinion::default());
    let policy = round_robin().region_failover(Regions::new("us").then("eu")).fail_safe(FailSafe::default());
    let members = far_more_in_the_us().map(|profile| (profile, always(ANSWER)));
    let mut builder = world.router(policy).signal(opinion.clone());
    for (profile, act) in members {
        let backend = world.backend(profile.id(), act);
        builder = builder.backend(profile, backend);
    }
    let router = builder.build().unwrap();
    let phase_when = |ill: usize| {
        for slot in 0..200 {
            opinion.fresh(slot, if slot < ill { 0 } else { 1000 }, world.now());
        }
        for _ in 0..2000 {
            world.call(&router, CallOptions::within(secs(5)).facts(plain())).unwrap();
        }
        let decision = router.explain(&CallOptions::new(plain()));
        decision.regions().next().unwrap().phase().label()
    };
    assert_eq!(phase_when(80), "up", "60 % are well, above the threshold of a half");
    assert_eq!(phase_when(180), "down", "10 % are well");
}

#[test]
fn the_policys_residency_holds_for_every_model_that_stands_in() {
    let world = World::new();
    let small = |id: &str, region: &str| Profile::new(id).region(region).model("small");
    let large = |id: &str, region: &str| Profile::new(id).region(region).model("large");
    let members = [large("eu-l", "eu").drained(true), large("us-l", "us"), small("us-s", "us"), small("eu-s", "eu")];
    let regions = Regions::new("eu").residency(["eu"]);
    let config = FailSafe::default().fallback(["small"]);
    let router = of_many(&world, round_robin().region_failover(regions).fail_safe(config), members.into_iter());
    let decision = router.explain(&CallOptions::new(Facts::model("large")));
    assert_eq!(decision.chosen().unwrap().name(), "eu-s");
    let barred = decision.candidates().filter(|it| it.rejected() == Some(Reason::OutsideResidency));
    assert_eq!(barred.map(|it| it.name().to_owned()).collect::<Vec<_>>(), ["us-l", "us-s"]);
}
