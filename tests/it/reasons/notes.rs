//! What is noted of a candidate that is in.

use super::{first, pair};
use crate::support::{
    ANSWER, Act, Log, Opinion, World, always, count_of, fail, hint, in_turn, ms, plain, secs, within,
};
use fallway::FailureKind::{Overloaded, RateLimited, ServerError};
use fallway::decision::Reason;
use fallway::policy::{Budgets, Capacity, FailSafe, PolicyExt, Regions, ordered, predicted_ttft, sticky};
use fallway::signal::{Reading, Score};
use fallway::{CallOptions, Decision, Facts, Profile};

fn a() -> Profile {
    Profile::new("a")
}

#[test]
fn probe() {
    let world = World::new();
    let router = pair(&world, a(), in_turn([fail(Overloaded), ANSWER]));
    world.call(&router, within(secs(5))).unwrap();
    world.run_for(secs(20));
    assert_eq!(first(&router, plain()), (None, Some(Reason::Probe)));
}

#[test]
fn quota_probe() {
    let world = World::new();
    let router = pair(&world, a(), in_turn([hint(RateLimited, secs(1)), ANSWER]));
    world.call(&router, within(secs(5))).unwrap();
    world.run_for(secs(2));
    assert_eq!(first(&router, plain()), (None, Some(Reason::QuotaProbe)));
}

#[test]
fn same_domain() {
    let (world, log) = (World::new(), Log::default());
    let members = [("a", "x"), ("b", "x"), ("c", "y")].map(|(id, domain)| {
        (Profile::new(id).failure_domain(domain), always(if id == "a" { fail(Overloaded) } else { ANSWER }))
    });
    let (router, _) =
        world.fleet(world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()), members);
    assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("c"));
    let decisions = log.decisions();
    let b = decisions[1].candidates().nth(1).unwrap();
    assert_eq!((b.rejected(), b.note()), (None, Some(Reason::SameDomain { attempt: 1 })));
}

#[test]
fn other_region() {
    let world = World::new();
    let members = [("a", "far"), ("b", "near")].map(|(id, region)| (Profile::new(id).region(region), always(ANSWER)));
    let policy = ordered().region_failover(Regions::new("near").then("far"));
    let (router, _) = world.fleet(world.router(policy), members);
    assert_eq!(first(&router, plain()), (None, Some(Reason::OtherRegion)));
}

#[test]
fn trial() {
    let world = World::new();
    let (router, _) =
        world.fleet(world.router(ordered().fail_safe(FailSafe::default())), [(a(), always(fail(Overloaded)))]);
    assert!(world.call(&router, within(ms(1))).is_err());
    world.run_for(ms(400));
    assert_eq!(first(&router, plain()), (None, Some(Reason::Trial)));
}

#[test]
fn canary() {
    let world = World::new();
    let members = [(a(), always(ANSWER)), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(predicted_ttft()), members);
    assert_eq!(first(&router, plain()), (None, Some(Reason::Canary)));
}

#[test]
fn ramping_up() {
    let world = World::new();
    let router = pair(&world, a(), in_turn([fail(Overloaded), ANSWER]));
    world.call(&router, within(secs(5))).unwrap();
    world.run_for(secs(20));
    world.call(&router, within(secs(5))).unwrap();
    world.run_for(secs(30));
    assert_eq!(first(&router, plain()).1, Some(Reason::RampingUp { share: 500 }));
    // Half of the requests treat it as any other, and it is first in the order.
    let chosen = |decision: &Decision| decision.chosen().is_some_and(|it| it.name() == "a");
    let share = count_of(&router, &CallOptions::new(plain()), 200, chosen);
    assert!((70..130).contains(&share), "{share} of 200");
}

#[test]
fn unproven() {
    let (world, opinion) = (World::new(), Opinion::default());
    let members = [(a(), always(ANSWER)), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(ordered()).signal(opinion.clone()), members);
    opinion.set(0, Reading::Stale { value: Score::WELL, at: world.now() });
    opinion.fresh(1, 1000, world.now());
    assert_eq!(first(&router, plain()), (None, Some(Reason::Unproven { signal: 0, at: Some(world.now()) })));
}

#[test]
fn partly_unproven() {
    let (world, first_opinion, second_opinion) = (World::new(), Opinion::default(), Opinion::default());
    let members = [(a(), always(ANSWER)), (Profile::new("b"), always(ANSWER))];
    let builder = world.router(ordered()).signal(first_opinion.clone()).signal(second_opinion.clone());
    let (router, _) = world.fleet(builder, members);
    (0..2).for_each(|slot| first_opinion.fresh(slot, 1000, world.now()));
    second_opinion.fresh(1, 1000, world.now());
    let decision = router.explain(&CallOptions::new(plain()));
    let chosen = decision.chosen().unwrap();
    assert_eq!((chosen.name(), chosen.note()), ("a", Some(Reason::PartlyUnproven { signal: 1, at: None })));
}

#[test]
fn readmitted() {
    let (world, opinion) = (World::new(), Opinion::default());
    let members = [(a(), always(ANSWER)), (Profile::new("b"), always(ANSWER))];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).signal(opinion.clone());
    let (router, _) = world.fleet(builder, members);
    (0..2).for_each(|slot| opinion.fresh(slot, 0, world.now()));
    assert_eq!(first(&router, plain()), (None, Some(Reason::Readmitted)));
}

#[test]
fn retried_here() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, [backend]) = world.fleet(builder, [(a(), in_turn([fail(ServerError), ANSWER]))]);
    let routed = world.call(&router, within(secs(5))).unwrap();
    let note = routed.decision().chosen().unwrap().note();
    let at = backend.seen()[1].at;
    assert_eq!(note, Some(Reason::RetriedHere { at }));
}

#[test]
fn busy() {
    let world = World::new();
    let policy = ordered().capacity_aware(Capacity::default().local("here"));
    let members = [a().region("there").concurrency(5), Profile::new("b").region("here")];
    let members = members.map(|profile| (profile, always(Act::Answer(secs(1)))));
    let (router, _) = world.fleet(world.router(policy), members);
    let calls = [(); 3].map(|()| world.spawn_call(&router, within(secs(5))));
    world.settle();
    assert_eq!(first(&router, plain()), (None, Some(Reason::Busy { full: 600, headroom: 600 })));
    world.run();
    drop(calls);
}

#[test]
fn over_bound() {
    let world = World::new();
    let members = [(a(), always(Act::Answer(secs(1)))), (Profile::new("b"), always(Act::Answer(secs(1))))];
    let (router, _) = world.fleet(world.router(sticky()), members);
    // A session whose home is `a`.
    let home = |session: &String| {
        let options = within(secs(5)).facts(plain().session(session.as_str()));
        router.explain(&options).chosen().unwrap().name() == "a"
    };
    let session = (0..100).map(|n| format!("s{n}")).find(home).unwrap();
    let facts = || plain().session(session.as_str());
    assert_eq!(first(&router, facts()), (None, None));
    // ceil(1.25 · 3 / 2) = 2 calls are what one of two may have of three.
    let calls = [(); 2].map(|()| world.spawn_call(&router, within(secs(5)).facts(facts())));
    world.settle();
    assert_eq!(first(&router, facts()), (None, Some(Reason::OverBound { in_flight: 2 })));
    world.run();
    drop(calls);
}

/// A slow `big` and a `small` of another model, both well known, and what is noted of `name` where so much time is left.
fn hurried(name: &str, model: &str, left: std::time::Duration) -> Option<Reason> {
    let world = World::new();
    let fail_safe = FailSafe::default().tiers("chat", ["big", "small"]);
    let members = [("big", secs(1)), ("small", ms(100))];
    let members = members.map(|(id, takes)| (Profile::new(id).model(id), always(Act::Answer(takes))));
    let builder = world.router(ordered().budgeted(Budgets::default()).fail_safe(fail_safe));
    let (router, _) = world.fleet(builder, members);
    let ask = |model: &str, total| within(total).facts(Facts::model(model).prompt_tokens(20));
    (0..30).for_each(|_| ["big", "small"].iter().for_each(|model| drop(world.call(&router, ask(model, secs(5))))));
    let decision = router.explain(&ask(model, left));
    let chosen = decision.chosen().unwrap();
    assert_eq!(chosen.name(), name, "{decision}");
    chosen.note()
}

#[test]
fn brownout() {
    let note = hurried("small", "chat", ms(500));
    assert!(matches!(note, Some(Reason::Brownout { left: 500_000_000, .. })), "{note:?}");
}

#[test]
fn may_be_late() {
    let note = hurried("big", "big", ms(1_150));
    assert!(matches!(note, Some(Reason::MayBeLate { left: 1_150_000_000, .. })), "{note:?}");
}
