//! Rooms of regions, beside what else may be short.

use crate::support::{Act, Script, World, always, at, fail, ms, secs, within};
use fallway::FailureKind::ServerError;
use fallway::Profile;
use fallway::policy::{FailSafe, PolicyExt, Regions, ordered};
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn who_waits_for_room_has_it_when_a_slow_start_makes_it() {
    // After a rest the region takes a tenth of its eight calls, and in the course of a minute all of them.
    let (world, answers) = (World::new(), AtomicU32::new(0));
    let regions = Regions::new("eu").hold(ms(0), ms(0)).ramp(ms(0));
    let script: Script = Box::new(move |cue| match cue.now {
        now if now < at(1_005_000) => fail(ServerError),
        _ if answers.fetch_add(1, Ordering::SeqCst) < 3 => Act::Answer(ms(5)),
        _ => Act::Answer(secs(300)),
    });
    let a = Profile::new("a").region("eu").concurrency(8);
    let b = Profile::new("b").region("eu").concurrency(8).only_tenants(["nobody"]);
    let builder = world.router(ordered().region_failover(regions).fail_safe(FailSafe::default()));
    let (router, _) = world.fleet(builder.longest_wait(secs(1_000)), [(a, script), (b, always(Act::Hang))]);
    (0..5).for_each(|_| drop(world.call(&router, within(secs(1)))));
    world.run_for(secs(30));
    (0..3).for_each(|_| assert!(world.call(&router, within(secs(1))).is_ok()));
    // One call that lasts, and one that waits: there is room for it in a third of the minute.
    let _calls = [(); 2].map(|()| world.ask(&router, within(secs(600))));
    world.settle();
    assert_eq!((router.total_in_flight(), router.waiting()), (1, 1));
    world.run_for(secs(40));
    assert_eq!((router.total_in_flight(), router.waiting()), (2, 0));
}
