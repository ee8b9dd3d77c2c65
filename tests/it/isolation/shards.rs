//! Shuffle sharding: a tenant has a few backends of its own, and harms no more than those.

use super::{flood, of};
use crate::support::{ANSWER, Act, World, always, fail, guard, ms, plain, secs};
use fallway::backend::FailureKind;
use fallway::decision::{Class, Reason};
use fallway::facts::Capabilities;
use fallway::policy::{FailSafe, PolicyExt, Regions, predicted_ttft, sticky};
use fallway::router::BuildError;
use fallway::{CallOptions, Facts, Profile, Router, RoutingPolicy};
use std::collections::{BTreeMap, BTreeSet};

fn router(world: &World, size: u32, backends: impl IntoIterator<Item = usize>) -> crate::support::TestRouter {
    let mut builder = world.router(predicted_ttft().shuffle_shards(size).fail_safe(FailSafe::default()));
    for n in backends {
        builder = builder.backend(Profile::new(format!("b{n}")), world.backend(&format!("b{n}"), always(ANSWER)));
    }
    builder.build().unwrap()
}

/// The shard of a tenant.
fn shard(router: &crate::support::TestRouter, facts: Facts) -> BTreeSet<String> {
    let decision = router.explain(&CallOptions::within(secs(5)).facts(facts));
    assert!(router.replay(&decision).same_choice(&decision));
    decision.ranked().iter().map(|candidate| candidate.name().to_owned()).collect()
}

fn tenant(n: usize) -> Facts {
    plain().tenant(format!("tenant-{n}"))
}

#[test]
fn shards_overlap_as_lots_do() {
    let world = World::new();
    let router = router(&world, 4, 0..20);
    let shards: Vec<_> = (0..400).map(|n| shard(&router, tenant(n))).collect();
    assert!(shards.iter().all(|shard| shard.len() == 4));
    // Of pairs, by how many backends they share: hypergeometric, 4 of 20 drawn twice.
    let mut pairs = [0u32; 5];
    for (n, one) in shards.iter().enumerate() {
        shards[..n].iter().for_each(|other| pairs[one.intersection(other).count()] += 1);
    }
    let all = 400.0 * 399.0 / 2.0;
    for (shared, expected) in [(0, 0.3756), (1, 0.4623), (2, 0.1486), (3, 0.0132), (4, 0.0002)] {
        let share = f64::from(pairs[shared]) / all;
        assert!((share - expected).abs() < 0.02, "{shared}: {share}, expected {expected}");
    }
    // Every backend serves a fifth of the tenants, give or take.
    let mut tenants: BTreeMap<&str, u32> = BTreeMap::new();
    shards.iter().flatten().for_each(|name| *tenants.entry(name).or_default() += 1);
    assert!(tenants.len() == 20 && tenants.values().all(|count| (55..=105).contains(count)), "{tenants:?}");
}

#[test]
fn a_backend_that_comes_or_goes_concerns_who_wins_or_held_it() {
    let world = World::new();
    let (before, less, more) =
        (router(&world, 4, 0..20), router(&world, 4, (0..20).filter(|n| *n != 7)), router(&world, 4, 0..21));
    let (mut held, mut won) = (0, 0);
    for n in 0..400 {
        let was = shard(&before, tenant(n));
        let (without, with) = (shard(&less, tenant(n)), shard(&more, tenant(n)));
        if was.contains("b7") {
            held += 1;
            assert_eq!(was.intersection(&without).count(), 3, "the other three stay");
        } else {
            assert_eq!(was, without);
        }
        if with.contains("b20") {
            won += 1;
            assert_eq!(was.intersection(&with).count(), 3);
        } else {
            assert_eq!(was, with);
        }
    }
    assert!((55..=105).contains(&held) && (50..=105).contains(&won), "{held}, {won}");
}

#[test]
fn a_poison_tenant_harms_its_shard_and_nobody_else() {
    let world = World::new();
    // A request of "poison" takes down where it is served, for good.
    let mut builder = world.router(predicted_ttft().shuffle_shards(4).fail_safe(FailSafe::default().attempts(4)));
    let mut backends = Vec::new();
    for n in 0..20 {
        let ill = std::sync::atomic::AtomicBool::new(false);
        let script: crate::support::Script = Box::new(move |cue| {
            if cue.request == "poison" {
                ill.store(true, std::sync::atomic::Ordering::SeqCst);
            }
            if ill.load(std::sync::atomic::Ordering::SeqCst) { fail(FailureKind::ServerError) } else { ANSWER }
        });
        let backend = world.backend(&format!("b{n}"), script);
        builder = builder.backend(Profile::new(format!("b{n}")), backend.clone());
        backends.push(backend);
    }
    let router = builder.build().unwrap();
    let poison = router.clone();
    world.spawn(async move {
        for _ in 0..200 {
            let options = CallOptions::within(secs(5)).facts(plain().tenant("poison"));
            drop(poison.call("poison", options).await);
        }
    });
    world.run();
    let poisoned = backends.iter().filter(|it| it.seen().iter().any(|seen| seen.request == "poison")).count();
    assert_eq!(poisoned, 4, "all of its shard, and no more");
    let tasks: Vec<_> = (0..300).flat_map(|n| flood(&world, &router, &format!("tenant-{n}"), 1)).collect();
    world.run();
    let ok =
        tasks.into_iter().filter(|task| task.is_done()).map(|task| task.take()).filter(|answer| answer.ok()).count();
    // One tenant in 4,845 has the same shard.
    assert_eq!(ok, 300);
    // It is refused, and does not wait for what it will never get.
    let (answer, took) = world.timed(|| world.call(&router, of("poison")));
    assert!(answer.is_err() && took < ms(1), "{took:?}");
}

#[test]
fn a_shard_is_a_hard_line() {
    let world = World::new();
    let router = router(&world, 2, 0..5);
    let decision = router.explain(&of("t"));
    let outside: Vec<_> = decision.candidates().filter_map(|candidate| candidate.rejected()).collect();
    assert_eq!(outside, [Reason::OutsideShard { size: 2 }; 3]);
    assert_eq!(outside[0].class(), Class::Hard);
    assert!(decision.to_string().contains("outside the tenant's shard (of 2)"), "{decision}");
    // The shard of a small pool is all of it, and nobody without a name has one.
    assert_eq!(self::router(&world, 9, 0..5).explain(&of("t")).ranked().len(), 5);
    assert_eq!(router.explain(&CallOptions::within(secs(5)).facts(plain())).ranked().len(), 5);
}

#[test]
fn who_waits_waits_for_its_own_shard() {
    let world = World::new();
    let policy = predicted_ttft().shuffle_shards(1).fail_safe(FailSafe::default());
    let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(1), always(Act::Answer(ms(100)))));
    let (router, backends) = world.fleet(world.router(policy), members);
    let calls = flood(&world, &router, "t", 3);
    world.run();
    let took: Vec<_> = calls.into_iter().map(|task| task.take().took).collect();
    assert_eq!(took, [ms(100), ms(200), ms(300)]);
    assert_eq!(backends.iter().filter(|backend| backend.calls() > 0).count(), 1);
}

#[test]
fn who_could_never_serve_a_request_is_not_counted() {
    let world = World::new();
    let mut builder = world.router(predicted_ttft().shuffle_shards(2).fail_safe(FailSafe::default()));
    for n in 0..12 {
        let profile = Profile::new(format!("b{n}")).region(["eu", "us"][n % 2]);
        let profile =
            if n < 6 { profile.capabilities(Capabilities::TOOLS) } else { profile.capabilities(Capabilities::NONE) };
        let profile = if n % 3 == 0 { profile } else { profile.tokens_per_minute(1_000_000).token_burst(10_000) };
        builder = builder.backend(profile, world.backend("b", always(ANSWER)));
    }
    let router = builder.build().unwrap();
    for n in 0..50 {
        let all = shard(&router, tenant(n));
        let eu = shard(&router, tenant(n).residency(["eu"]));
        let tools = shard(&router, tenant(n).needs(Capabilities::TOOLS));
        let long = shard(&router, tenant(n).prompt_tokens(20_000));
        assert_eq!((all.len(), eu.len(), tools.len(), long.len()), (2, 2, 2, 2));
    }
    // Whoever is drained is replaced, and comes back.
    let before = shard(&router, tenant(1));
    let gone = before.first().unwrap().clone();
    router.update(|fleet| fleet.drain(&gone)).unwrap();
    let meanwhile = shard(&router, tenant(1));
    assert!(meanwhile.len() == 2 && !meanwhile.contains(&gone) && before.intersection(&meanwhile).count() == 1);
    router.update(|fleet| fleet.restore(&gone)).unwrap();
    assert_eq!(shard(&router, tenant(1)), before);
}

#[test]
fn in_a_large_pool_a_tenant_keeps_its_shard() {
    let world = World::new();
    let router = router(&world, 4, 0..1_000);
    let mut seen = BTreeSet::new();
    for n in 0..200 {
        let first = shard(&router, tenant(n));
        assert_eq!(first.len(), 4);
        assert!((0..5).all(|_| shard(&router, tenant(n)) == first), "another seed, the same shard");
        seen.extend(first);
    }
    assert!(seen.len() > 400, "{} backends serve somebody", seen.len());
}

#[test]
fn it_stands_around_a_leaf() {
    let world = World::new();
    let build = |policy: Box<dyn RoutingPolicy>| {
        let backend = world.backend("a", always(ANSWER));
        Router::builder(policy).backend(Profile::new("a").region("eu"), backend).build().err()
    };
    let named = |error: Option<BuildError>| match error {
        Some(BuildError::Policy(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        named(build(sticky().shuffle_shards(0).boxed())),
        "shuffle_shards: a shard of no backends serves nobody"
    );
    for (policy, name) in [
        (sticky().fail_safe(FailSafe::default()).shuffle_shards(1).boxed(), "fail_safe"),
        (guard(sticky().region_failover(Regions::new("eu")), |_, _| ()).shuffle_shards(1).boxed(), "region_failover"),
    ] {
        assert!(named(build(policy)).contains(name), "{name}");
    }
    let regions = sticky().shuffle_shards(1).region_failover(Regions::new("eu")).fail_safe(FailSafe::default());
    assert!(build(regions.boxed()).is_none());
}
