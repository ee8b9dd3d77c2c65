//! What a change of the fleet may look at, and what it keeps.

use crate::support::{ANSWER, Act, Task, World, always, ms, secs, within};
use fallway::Profile;
use fallway::backend::BackendId;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use std::sync::mpsc;
use std::thread;

#[test]
fn a_new_profile_does_not_end_a_drain() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, [a, b]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let ask = || assert!(world.call(&router, within(secs(5))).is_ok());
    router.update(|fleet| fleet.drain("a")).unwrap();
    for weight in [2.0, 3.0] {
        router.update(|fleet| fleet.reprofile(Profile::new("a").weight(weight).drained(false))).unwrap();
        ask();
    }
    assert_eq!((a.calls(), b.calls()), (0, 2));
    // What the profile said otherwise counts.
    let weights = |id: &str| {
        let decision = router.explain(&within(secs(5)));
        decision.candidates().find(|it| it.name() == id).unwrap().profile().relative_weight()
    };
    assert_eq!((weights("a"), weights("b")), (3.0, 1.0));
    router.update(|fleet| fleet.restore("a")).unwrap();
    ask();
    assert_eq!(a.calls(), 1);
    // A profile can begin a drain, though.
    router.update(|fleet| fleet.reprofile(Profile::new("a").drained(true))).unwrap();
    ask();
    assert_eq!((a.calls(), b.calls()), (1, 3));
}

#[test]
fn a_change_may_look_at_the_router() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(3), always(Act::Answer(ms(100)))));
    let (router, _) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let calls = [(); 5].map(|()| world.ask(&router, within(secs(5))));
    world.settle();
    // On a thread of its own: what waits for itself is found out.
    let (sender, receiver) = mpsc::channel();
    let inside = router.clone();
    let update = thread::spawn(move || {
        let mut seen = (0, None, None, 0, false);
        let generation = inside.update(|fleet| {
            let known = inside.explain(&within(secs(5))).candidates().count() == fleet.profiles().count();
            let id = inside.backend_id("b").map(BackendId::slot);
            seen = (inside.total_in_flight(), inside.in_flight("a"), id, inside.generation(), known);
            fleet.drain("a");
        });
        sender.send((seen, generation)).unwrap();
    });
    let (seen, generation) = receiver.recv_timeout(secs(20)).expect("the update waits for itself");
    update.join().unwrap();
    assert_eq!((seen, generation), ((5, Some(3), Some(1), 1, true), Ok(2)));
    world.run();
    assert!(calls.into_iter().map(Task::take).all(|answer| answer.ok()));
}

#[test]
fn a_name_leads_to_the_backend_that_bears_it_now() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, _) = world.fleet(world.router(ordered()), members);
    let id = |name: &str| router.backend_id(name);
    let add = |name: &str| {
        let backend = world.backend(name, always(ANSWER));
        let profile = Profile::new(name);
        move |fleet: &mut fallway::router::Update<str, crate::support::Reply>| fleet.add(profile, backend)
    };
    assert_eq!((id("a"), id("b"), id("c")), (Some(BackendId::new(0, 0)), Some(BackendId::new(1, 0)), None));
    assert_eq!(world.call(&router, within(secs(5))).unwrap().attempts()[0].backend(), id("a").unwrap());
    // A new profile is the same backend.
    router.update(|fleet| fleet.reprofile(Profile::new("b").weight(2.0))).unwrap();
    let before = [id("a"), id("b")];
    assert_eq!(before[1], Some(BackendId::new(1, 0)));
    router.update(|fleet| fleet.remove("a")).unwrap();
    assert_eq!((id("a"), id("b")), (None, before[1]));
    router.update(add("a")).unwrap();
    let again = id("a");
    assert!(again.is_some() && again != before[0], "{again:?}");
    // In one step too.
    let join = add("a");
    router
        .update(|fleet| {
            fleet.remove("a");
            join(fleet);
        })
        .unwrap();
    let third = id("a");
    assert!(third.is_some() && third != again && third != before[0], "{third:?}");
    router.update(|fleet| fleet.remove("b")).unwrap();
    assert_eq!(world.call(&router, within(secs(5))).unwrap().attempts()[0].backend(), third.unwrap());
}
