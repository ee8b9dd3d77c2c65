//! Fleets and requests that are not like the others.

use super::shares;
use crate::support::{ANSWER, Opinion, TestRouter, World, always, plain, scripted_panic, secs};
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
