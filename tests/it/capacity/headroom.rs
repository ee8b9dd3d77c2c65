//! Backends that are filled one after the other, and their last slots.

use super::{PRIORITIES, fleet, load, of, send, stack};
use crate::support::{Act, Cue, LEAVES, World, fail, leaf, secs};
use fallway::FailureKind::ServerError;
use fallway::Profile;
use fallway::decision::{Next, Refusal};
use fallway::facts::Priority;
use fallway::policy::{Capacity, FailSafe, PolicyExt, Regions, cheapest, ordered};
use fallway::recover::Ejection;

#[test]
fn a_leaf_that_looks_at_no_load_fills_the_first_to_its_headroom_and_then_the_next() {
    let world = World::new();
    let router = fleet(&world, world.router(stack(ordered(), Capacity::default())), [("a", 20), ("b", 20)]);
    let steps = [17, 17, 4].map(|calls| {
        send(&world, &router, Priority::Standard, calls);
        load(&router, ["a", "b"])
    });
    // Of those that find both at 85 %, all wait: a slot there is not for them.
    assert_eq!(steps, [[17, 0], [17, 17], [17, 17]]);
    // The critical use the reserve, the first one first.
    send(&world, &router, Priority::Critical, 4);
    assert_eq!(load(&router, ["a", "b"]), [20, 18]);
    world.run();
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn what_is_far_is_left_earlier() {
    let world = World::new();
    let capacity = Capacity::default().local("b");
    let router = fleet(&world, world.router(stack(ordered(), capacity)), [("a", 20), ("b", 20)]);
    let steps = [12, 17, 5, 1].map(|calls| {
        send(&world, &router, Priority::Standard, calls);
        load(&router, ["a", "b"])
    });
    // 60 % of what is far, 85 % of what is near, and then all that is far has for standard requests.
    assert_eq!(steps, [[12, 0], [12, 17], [17, 17], [17, 17]]);
    world.run();
}

#[test]
fn without_it_the_first_is_filled_to_the_brim() {
    let world = World::new();
    let router = fleet(&world, world.router(ordered().fail_safe(FailSafe::default())), [("a", 20), ("b", 20)]);
    send(&world, &router, Priority::Standard, 20);
    assert_eq!(load(&router, ["a", "b"]), [20, 0]);
    world.run();
}

#[test]
fn no_leaf_waits_for_one_backend_while_another_has_room() {
    for name in LEAVES {
        let world = World::new();
        let router =
            fleet(&world, world.router(stack(leaf(name), Capacity::default())), [("a", 10), ("b", 4), ("c", 1)]);
        send(&world, &router, Priority::Standard, 13);
        assert_eq!(load(&router, ["a", "b", "c"]), [9, 3, 1], "{name}");
        let decision = router.explain(&of(Priority::Standard));
        assert!(matches!(decision.next(), Next::Wait { .. }), "{name}: {decision}");
        send(&world, &router, Priority::Critical, 2);
        assert_eq!(load(&router, ["a", "b", "c"]), [10, 4, 1], "{name}");
        world.run();
        assert_eq!(router.total_in_flight(), 0);
    }
}

#[test]
fn each_priority_has_its_ceiling() {
    let world = World::new();
    let filled = PRIORITIES.map(|priority| {
        let router = fleet(&world, world.router(stack(ordered(), Capacity::default())), [("a", 20)]);
        send(&world, &router, priority, 20);
        let filled = load(&router, ["a"])[0];
        let decision = router.explain(&of(priority));
        let refused = decision.next() == Next::Refuse { why: Refusal::NothingUsable };
        (filled, refused)
    });
    assert_eq!(filled, [(10, true), (14, true), (17, false), (20, false)]);
    world.run();
}

#[test]
fn one_slot_is_for_everybody() {
    for priority in PRIORITIES {
        let world = World::new();
        let router = fleet(&world, world.router(stack(cheapest(), Capacity::default())), [("a", 1)]);
        send(&world, &router, priority, 1);
        assert_eq!(load(&router, ["a"]), [1], "{priority:?}");
        world.run();
    }
}

#[test]
fn the_reserve_can_be_given_up() {
    let world = World::new();
    let capacity = Capacity::default().ceilings(1.0, 1.0, 1.0).headroom(1.0, 1.0);
    let router = fleet(&world, world.router(stack(ordered(), capacity)), [("a", 20), ("b", 20)]);
    send(&world, &router, Priority::Batch, 30);
    assert_eq!(load(&router, ["a", "b"]), [20, 10]);
    world.run();
}

#[test]
fn inside_regions_the_same_slots_are_kept_and_not_twice_as_many() {
    let world = World::new();
    let regions = Regions::new("a").then("b");
    let policy = ordered().capacity_aware(Capacity::default()).region_failover(regions).fail_safe(FailSafe::default());
    let router = fleet(&world, world.router(policy), [("a", 20), ("b", 20)]);
    let steps = [17, 12, 5, 1].map(|calls| {
        send(&world, &router, Priority::Standard, calls);
        load(&router, ["a", "b"])
    });
    // 85 % at home, 60 % abroad, and then 85 % everywhere: as the regions do without it.
    assert_eq!(steps, [[17, 0], [17, 12], [17, 17], [17, 17]]);
    // What can be shed stops inside the region, at a ceiling of its own.
    assert!(matches!(router.explain(&of(Priority::Sheddable)).next(), Next::Refuse { .. }));
    send(&world, &router, Priority::Critical, 6);
    assert_eq!(load(&router, ["a", "b"]), [20, 20]);
    world.run();
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn what_is_called_later_than_decided_finds_the_reserve_kept() {
    let world = World::new();
    let script = |cue: &Cue<'_>| if cue.call == 0 { fail(ServerError) } else { Act::Answer(secs(10)) };
    let builder = world.router(stack(ordered(), Capacity::default())).ejection(Ejection::off());
    let (router, [a]) = world.fleet(builder, [(Profile::new("a").concurrency(20), Box::new(script))]);
    // Fails, and is to be tried again there after a back-off; others come meanwhile.
    send(&world, &router, Priority::Standard, 18);
    assert_eq!((load(&router, ["a"]), router.waiting()), ([17], 0));
    world.run_for(secs(5));
    assert_eq!((load(&router, ["a"]), router.waiting()), ([17], 1));
    world.run();
    assert_eq!(a.calls(), 19);
}

#[test]
fn a_ceiling_is_explained_with_its_numbers() {
    let world = World::new();
    let router = fleet(&world, world.router(stack(ordered(), Capacity::default().local("b"))), [("a", 20), ("b", 20)]);
    send(&world, &router, Priority::Standard, 29);
    let standard = router.explain(&of(Priority::Standard)).to_string();
    assert!(
        standard.contains("a, 12 in flight (240 prompt tokens waiting), cost 0, busy (60 % full, headroom from 60 %)"),
        "{standard}"
    );
    assert!(standard.contains("kept for higher priorities (85 % full, 85 % for this priority)"), "{standard}");
    let batch = router.explain(&of(Priority::Batch)).to_string();
    assert!(batch.contains("any model refused: 0 of 2 usable: 2 kept for higher priorities"), "{batch}");
    world.run();
}
