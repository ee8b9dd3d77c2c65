//! Add, remove, drain, restore and reprofile under traffic.

use crate::support::{
    ANSWER, Act, Load, Scripted, Step, TestRouter, World, always, fail, in_turn, ms, ok_share, plain, secs, within,
};
use fallway::FailureKind::{ServerError, Unauthorized};
use fallway::backend::{BackendError, BackendId, backend_fn};
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered, predicted_ttft, round_robin};
use fallway::{CallOptions, Profile, Router};
use futures::StreamExt;
use std::sync::atomic::{AtomicBool, Ordering};

fn trio(world: &World) -> (TestRouter, [Scripted; 3]) {
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(Act::Answer(ms(100)))));
    world.fleet(world.router(round_robin().fail_safe(FailSafe::default())), members)
}

/// The slot ids of the fleet, by name.
fn ids(router: &TestRouter) -> Vec<(String, BackendId)> {
    router.explain(&within(secs(1))).candidates().map(|it| (it.name().to_owned(), it.id())).collect()
}

#[test]
fn changes_under_traffic_lose_nothing() {
    let world = World::new();
    let (router, _) = {
        let members = ["a", "b", "c"].map(|id| (Profile::new(id).concurrency(20), always(Act::Answer(ms(100)))));
        world.fleet(world.router(predicted_ttft().fail_safe(FailSafe::default())), members)
    };
    let load = Load { per_second: 200, lasts: secs(10), seed: 1 }.spawn(&world, &router, &within(secs(5)));
    let fresh = |id: &str| world.backend(id, always(Act::Answer(ms(100))));
    for n in 0..50 {
        world.run_for(ms(200));
        let id = format!("n{n}");
        router
            .update(|fleet| match n % 5 {
                0 => fleet.add(Profile::new(&id).concurrency(20), fresh(&id)),
                1 => fleet.drain("a"),
                2 => fleet.restore("a"),
                3 => fleet.reprofile(Profile::new("b").concurrency(10 + n)),
                _ => fleet.remove(&format!("n{}", n - 4)),
            })
            .unwrap();
    }
    world.run();
    let answers: Vec<_> = load.into_iter().map(crate::support::Task::take).collect();
    assert_eq!((answers.len(), ok_share(&answers)), (2000, 1.0));
    assert_eq!((router.generation(), router.total_in_flight(), ids(&router).len()), (51, 0, 3));
    assert!(answers.iter().filter(|it| it.backend.as_ref().is_some_and(|id| id.starts_with('n'))).count() > 20);
}

#[test]
fn a_removed_backend_finishes_what_it_began() {
    let world = World::new();
    let (router, [a, ..]) = trio(&world);
    let flying: Vec<_> = (0..30).map(|_| world.spawn_call(&router, within(secs(5)))).collect();
    world.settle();
    assert_eq!(router.in_flight("a"), Some(10));
    router.update(|fleet| fleet.remove("a")).unwrap();
    assert_eq!((router.in_flight("a"), router.total_in_flight()), (None, 30));
    world.run();
    assert_eq!(flying.into_iter().map(|call| call.take()).filter(Result::is_ok).count(), 30);
    for _ in 0..30 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert_eq!((a.calls(), router.total_in_flight()), (10, 0));
}

#[test]
fn a_drained_backend_empties_and_comes_back_with_what_was_learned() {
    let world = World::new();
    let (router, [a, ..]) = trio(&world);
    for _ in 0..9 {
        world.call(&router, within(secs(5))).unwrap();
    }
    let id = ids(&router)[0].1;
    router.update(|fleet| fleet.drain("a")).unwrap();
    for _ in 0..30 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert_eq!(a.calls(), 3);
    let decision = router.explain(&within(secs(1)));
    assert_eq!(decision.candidates().next().unwrap().rejected(), Some(Reason::Drained));
    router.update(|fleet| fleet.restore("a")).unwrap();
    for _ in 0..30 {
        world.call(&router, within(secs(5))).unwrap();
    }
    // Its full share at once: it was away, not cold.
    assert_eq!((a.calls(), ids(&router)[0].1), (13, id));
}

#[test]
fn a_reprofiled_backend_keeps_its_history_and_its_calls() {
    let world = World::new();
    let members = [(Profile::new("a"), always(fail(ServerError))), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    for _ in 0..4 {
        world.call(&router, within(secs(5))).unwrap();
    }
    router.update(|fleet| fleet.reprofile(Profile::new("a").weight(2.0))).unwrap();
    world.call(&router, within(secs(5))).unwrap();
    let decision = router.explain(&within(secs(1)));
    let reason = decision.candidates().next().unwrap().rejected();
    assert!(matches!(reason, Some(Reason::Ejected { failures: 5, .. })), "{reason:?}");
    assert_eq!(a.calls(), 5);
}

#[test]
fn a_lower_limit_holds_from_the_next_call_on() {
    let world = World::new();
    let members = [(Profile::new("a").concurrency(10), always(Act::Answer(ms(100))))];
    let (router, [a]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let first: Vec<_> = (0..10).map(|_| world.spawn_call(&router, within(secs(60)))).collect();
    world.settle();
    router.update(|fleet| fleet.reprofile(Profile::new("a").concurrency(2))).unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let router = router.clone();
            world.spawn(async move { router.call("ask", within(secs(60))).await.is_ok() })
        })
        .collect();
    world.run_for(ms(50));
    assert_eq!(a.calls(), 10);
    world.run_for(ms(51));
    first.into_iter().for_each(|call| drop(call.take()));
    let (_, took) = world.timed(|| world.run());
    assert!(calls.into_iter().all(crate::support::Task::take));
    // Ten calls, two at a time.
    assert_eq!((a.calls(), took > ms(390)), (20, true), "{took:?}");
}

#[test]
fn a_new_credential_is_not_benched_for_the_old_one() {
    let world = World::new();
    let members = [
        (Profile::new("a").credential("old"), in_turn([fail(Unauthorized), ANSWER])),
        (Profile::new("b").credential("other"), always(ANSWER)),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    world.call(&router, within(secs(5))).unwrap();
    assert_eq!(router.explain(&within(secs(5))).rejections(), [("credential refused", 1)]);
    // The operator rotates the key.
    router.update(|fleet| fleet.reprofile(Profile::new("a").credential("new"))).unwrap();
    assert_eq!(router.explain(&within(secs(5))).rejections(), []);
    assert_eq!(world.call(&router, within(secs(5))).unwrap().backend(), Some("a"));
}

#[test]
fn a_slot_is_not_reused_while_a_lease_lives() {
    let world = World::new();
    let (router, [a, ..]) = {
        let stream = always(Act::Stream(ms(1), vec![Step::Item, Step::Pause(secs(100)), Step::Item]));
        let members =
            [(Profile::new("a"), stream), (Profile::new("b"), always(ANSWER)), (Profile::new("c"), always(ANSWER))];
        world.fleet(world.router(ordered()), members)
    };
    let reader = router.clone();
    let reading = world.spawn(async move {
        let mut stream = reader.stream("ask", within(secs(600)).idle_limit(secs(600))).await.unwrap();
        let mut items = 0;
        while stream.next().await.is_some_and(|item| item.is_ok()) {
            items += 1;
        }
        items
    });
    world.run_for(ms(10));
    let old = ids(&router)[0].1;
    router.update(|fleet| fleet.remove("a")).unwrap();
    let added = |name: &str| {
        router.update(|fleet| fleet.add(Profile::new(name), world.backend(name, always(ANSWER)))).unwrap();
        ids(&router).into_iter().find(|(id, _)| id == name).unwrap().1
    };
    // Its stream is still being read: a newcomer gets another slot.
    let second = added("d");
    assert_ne!(second.slot(), old.slot());
    world.run();
    assert_eq!((reading.take(), a.backstage().in_flight(), router.total_in_flight()), (3, 0, 0));
    // Nothing refers to it any more: the slot is used again, in another epoch.
    router.update(|_| ()).unwrap();
    let third = added("e");
    assert_eq!((third.slot(), third.epoch()), (old.slot(), old.epoch() + 1));
    assert_ne!(third, old);
}

#[test]
fn churn_does_not_grow_the_slots() {
    let world = World::new();
    let (router, _) = trio(&world);
    for n in 0..1_000 {
        let id = format!("n{n}");
        router.update(|fleet| fleet.add(Profile::new(&id), world.backend(&id, always(ANSWER)))).unwrap();
        router.update(|fleet| fleet.remove(&id)).unwrap();
    }
    let most = ids(&router).iter().map(|(_, id)| id.slot()).max().unwrap();
    router.update(|fleet| fleet.add(Profile::new("last"), world.backend("last", always(ANSWER)))).unwrap();
    let last = ids(&router).pop().unwrap().1;
    assert!(most < 4 && last.slot() < 6, "{last:?}");
    assert_eq!(router.generation(), 2_002);
}

#[test]
fn a_backend_removed_and_added_again_is_a_stranger() {
    let world = World::new();
    let members = [(Profile::new("a"), always(fail(ServerError))), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    for _ in 0..5 {
        world.call(&router, within(secs(5))).unwrap();
    }
    assert_eq!(router.explain(&within(secs(1))).rejections(), [("ejected", 1)]);
    router
        .update(|fleet| {
            fleet.remove("a");
            fleet.add(Profile::new("a"), world.backend("a", always(ANSWER)));
        })
        .unwrap();
    assert_eq!(router.explain(&within(secs(1))).rejections(), []);
}

#[test]
fn a_request_that_waits_sees_a_restored_backend() {
    let world = World::new();
    let members =
        [(Profile::new("a").concurrency(1), always(Act::Hang)), (Profile::new("b").drained(true), always(ANSWER))];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let hangs = world.spawn_call(&router, within(secs(10)));
    world.settle();
    let waits = world.spawn_call(&router, within(secs(10)));
    world.run_for(secs(1));
    assert!(!waits.is_done());
    router.update(|fleet| fleet.restore("b")).unwrap();
    world.run_for(ms(20));
    assert_eq!(waits.take().unwrap().backend(), Some("b"));
    world.run();
    drop(hangs);
}

#[test]
fn a_decision_names_its_generation() {
    let world = World::new();
    let (router, _) = trio(&world);
    let flying = world.spawn_call(&router, within(secs(5)));
    world.settle();
    router.update(|fleet| fleet.drain("b")).unwrap();
    world.run();
    assert_eq!(flying.take().unwrap().decision().generation(), 1);
    assert_eq!(world.call(&router, within(secs(5))).unwrap().decision().generation(), 2);
}

#[test]
fn a_decision_sees_all_of_an_update_or_nothing() {
    // Real threads; what is asserted does not depend on their timing.
    let echo = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let profile =
        |id: &str, version: u32| Profile::new(id).model(format!("m@{version}")).weight(f64::from(version + 1));
    let builder = Router::<str, ()>::builder(ordered()).backend(profile("a", 0), echo());
    let router = builder.backend(profile("b", 0), echo()).build().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut torn, mut seen) = (0, 0);
                    while !done.load(Ordering::Relaxed) || seen == 0 {
                        let decision = router.explain(&CallOptions::new(plain()));
                        let versions: Vec<_> = decision
                            .candidates()
                            .map(|it| {
                                (
                                    it.profile().model_version().unwrap().parse::<u64>().unwrap() + 1,
                                    it.profile().relative_weight() as u64,
                                )
                            })
                            .collect();
                        let whole = versions.len() == 2
                            && versions.iter().all(|it| *it == (decision.generation(), decision.generation()));
                        torn += u64::from(!whole);
                        seen += 1;
                    }
                    torn
                })
            })
            .collect();
        for version in 1..2_000 {
            router
                .update(|fleet| {
                    fleet.reprofile(profile("a", version));
                    fleet.reprofile(profile("b", version));
                })
                .unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>(), 0);
    });
}

#[test]
fn concurrent_updates_are_all_made() {
    let echo = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let router = Router::<str, ()>::builder(ordered()).backend(Profile::new("a"), echo()).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let router = &router;
            scope.spawn(move || {
                for n in 0..50 {
                    router.update(|fleet| fleet.add(Profile::new(format!("{thread}-{n}")), echo())).unwrap();
                }
            });
        }
    });
    let mut slots: Vec<_> = {
        let decision = router.explain(&CallOptions::new(plain().session("s")));
        decision.candidates().map(|it| it.id()).collect()
    };
    slots.dedup();
    assert_eq!((router.generation(), slots.len()), (201, 64));
    let mut count = 0;
    router.update(|fleet| count = fleet.profiles().count()).unwrap();
    assert_eq!(count, 201);
}
