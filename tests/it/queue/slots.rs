//! A slot on its way to a waiting request is one slot: counted once, whatever happens to its backend meanwhile.

use super::fleet;
use crate::support::{
    ANSWER, Act, Answer, Reply, Scripted, Task, TestRouter, World, always, in_turn, ms, secs, within,
};
use fallway::Profile;
use fallway::router::Update;
use fallway::time::Timer;

type Change = fn(&mut Update<str, Reply>);

/// What the router has on its books is what the backends see, and no more than their limits.
fn balanced(router: &TestRouter, backends: &[Scripted; 2], limits: [u32; 2]) {
    for ((backend, id), limit) in backends.iter().zip(["a", "b"]).zip(limits) {
        let seen = backend.backstage().in_flight();
        assert!(seen <= limit, "{seen} in flight to {id}, of {limit}");
        assert!(router.in_flight(id).is_none_or(|booked| booked == seen), "{id}: {seen}, {:?}", router.in_flight(id));
    }
    let seen: u32 = backends.iter().map(|backend| backend.backstage().in_flight()).sum();
    assert_eq!(router.total_in_flight(), u64::from(seen));
}

#[test]
fn the_books_balance_while_the_fleet_changes_under_who_waits() {
    let changes: [(&str, Change, u32); 5] = [
        ("the same", |_| (), 4),
        ("lowered", |fleet| fleet.reprofile(Profile::new("a").concurrency(1)), 1),
        ("raised", |fleet| fleet.reprofile(Profile::new("a").concurrency(7)), 7),
        ("drained", |fleet| fleet.drain("a"), 0),
        ("removed", |fleet| fleet.remove("a"), 0),
    ];
    for (name, change, limit) in changes {
        let world = World::new();
        let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(4), always(ANSWER)));
        let (router, backends) = fleet(&world, members);
        let calls: Vec<_> = (0..80).map(|_| world.ask(&router, within(secs(60)))).collect();
        // In the middle of the third round of 20 ms; what is in flight then ends with it.
        for step in 1..=100 {
            world.run_for(ms(5));
            if step == 10 {
                router.update(change).unwrap();
                world.settle();
            }
            balanced(&router, &backends, [if step < 12 { limit.max(4) } else { limit }, 4]);
        }
        world.run();
        balanced(&router, &backends, [0, 0]);
        let ok = calls.into_iter().map(Task::take).filter(Answer::ok).count();
        let served = backends.each_ref().map(Scripted::calls);
        assert_eq!((ok, served.iter().sum::<u64>()), (80, 80), "{name}");
        // Three rounds of four began before the change.
        assert_eq!((served[0] == 12, backends[0].backstage().peak()), (limit == 0, limit.max(4)), "{name}: {served:?}");
    }
}

#[test]
fn a_slot_in_hand_is_given_up_when_its_backend_changes() {
    // Two calls of 100 and 150 ms at `a`, one of 200 ms at `b`. The fourth is handed the first slot of `a`, and
    // before it looks the fleet changes.
    let changes: [(Change, &str, u64); 4] = [
        (|_| (), "a", 100),
        (|fleet| fleet.reprofile(Profile::new("a").concurrency(1)), "a", 150),
        (|fleet| fleet.drain("a"), "b", 200),
        (|fleet| fleet.remove("a"), "b", 200),
    ];
    for (change, expected, at) in changes {
        let world = World::new();
        let times = |times: [u64; 3]| in_turn(times.map(|time| Act::Answer(ms(time))));
        let members = [
            (Profile::new("a").concurrency(2), times([100, 150, 20])),
            (Profile::new("b").concurrency(1), times([200, 20, 20])),
        ];
        let (router, backends) = fleet(&world, members);
        let start = world.now();
        let firsts = [(); 3].map(|()| world.ask(&router, within(secs(5))));
        world.settle();
        assert_eq!([router.in_flight("a"), router.in_flight("b")], [Some(2), Some(1)]);
        let fourth = world.ask(&router, within(secs(5)));
        world.settle();
        // Runs between the end of the first call, which wakes the fourth, and the fourth.
        let (updates, timer, seen) = (router.clone(), world.timer().clone(), backends.clone());
        world.spawn(async move {
            timer.sleep_until(start + ms(100)).await;
            assert_eq!((seen[0].backstage().in_flight(), updates.in_flight("a")), (1, Some(2)), "it is held");
            updates.update(change).unwrap();
        });
        world.run();
        assert!(firsts.into_iter().map(Task::take).all(|answer| answer.ok()));
        let fourth = fourth.take();
        assert_eq!((fourth.backend.as_deref(), fourth.took), (Some(expected), ms(at) + ms(20)));
        assert_eq!((router.total_in_flight(), backends[0].backstage().peak()), (0, 2));
        balanced(&router, &backends, [0, 0]);
    }
}
