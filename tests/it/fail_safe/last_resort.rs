//! The last resort is asked in time, and whatever else is in short supply.

use crate::support::{Act, Scripted, TestRouter, World, always, fail, ms, secs, within};
use fallway::FailureKind::{ContentRejected, Overloaded};
use fallway::Profile;
use fallway::decision::{Next, Refusal};
use fallway::policy::{FailSafe, PolicyExt, ordered};

/// Backends that do the same, each for one call at a time; a queue of one place; a last resort that answers in 1 ms.
fn fleet<const N: usize>(world: &World, names: [&str; N], act: &Act) -> (TestRouter, [Scripted; N], Scripted) {
    let last = world.backend("static", always(Act::Answer(ms(1))));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).queue(1).last_resort(last.clone());
    let members = names.map(|id| (Profile::new(id).concurrency(1), always(act.clone())));
    let (router, backends) = world.fleet(builder, members);
    (router, backends, last)
}

#[test]
fn backends_that_hang_leave_time_for_it() {
    // An eighth of the second is kept for it; a quarter of a second where there is more.
    for (total, kept) in [(secs(1), ms(125)), (secs(60), ms(250))] {
        let world = World::new();
        let (router, [a], last) = fleet(&world, ["a"], &Act::Hang);
        let (answered, took) = world.timed(|| world.call(&router, within(total)));
        let routed = answered.unwrap();
        assert_eq!((routed.is_degraded(), took), (true, total - kept + ms(1)));
        assert_eq!((a.calls(), a.backstage().in_flight(), last.seen()[0].time_limit), (1, 0, kept));
    }
    for count in [2, 3] {
        let world = World::new();
        let (router, backends, _) = fleet(&world, ["a", "b", "c"], &Act::Hang);
        router.update(|fleet| ["a", "b", "c"][count..].iter().for_each(|id| fleet.remove(id))).unwrap();
        let (answered, took) = world.timed(|| world.call(&router, within(secs(1))));
        let routed = answered.unwrap();
        assert!(routed.is_degraded() && took < secs(1), "{took:?}");
        let calls: u64 = backends.iter().map(Scripted::calls).sum();
        assert_eq!((routed.attempts().len(), calls), (count, count as u64));
    }
}

#[test]
fn it_answers_who_finds_the_queue_full() {
    let world = World::new();
    let (router, [a], last) = fleet(&world, ["a"], &Act::Answer(ms(100)));
    let [first, second] = [(); 2].map(|()| world.ask(&router, within(secs(5))));
    world.settle();
    let third = world.spawn_call(&router, within(secs(5)));
    world.run_for(ms(1));
    let routed = third.take().unwrap();
    assert_eq!(routed.decision().next(), Next::LastResort { why: Refusal::QueueFull });
    assert!(routed.is_degraded());
    world.run();
    assert_eq!((first.take().took, second.take().took), (ms(100), ms(200)));
    assert_eq!((a.calls(), last.calls()), (2, 1));
}

#[test]
fn it_is_not_asked_what_the_caller_is_to_blame_for() {
    let world = World::new();
    let (router, _, last) = fleet(&world, ["a", "b"], &fail(ContentRejected));
    assert!(world.call(&router, within(secs(5))).is_err());
    assert_eq!(last.calls(), 0);
    let (router, _, last) = fleet(&world, ["a", "b"], &fail(Overloaded));
    assert!(world.call(&router, within(secs(5))).unwrap().is_degraded());
    assert_eq!(last.calls(), 1);
}

#[test]
fn it_answers_who_waited_for_a_slot_in_vain() {
    let world = World::new();
    let (router, [_], last) = fleet(&world, ["a"], &Act::Answer(secs(10)));
    let first = world.ask(&router, within(secs(60)));
    world.settle();
    let start = world.now();
    let waits = world.ask(&router, within(secs(1)));
    world.run();
    assert_eq!((first.take().took, waits.take().took), (secs(10), ms(876)));
    assert_eq!(last.seen()[0].at - start, ms(875));
}
