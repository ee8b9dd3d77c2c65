//! A slot that is handed to a request which has no use for it any more goes to the next, at that moment.

use super::fleet;
use crate::support::{ANSWER, Act, Task, World, always, in_turn, ms, plain, secs, within};
use fallway::FailureKind::ServerError;
use fallway::router::RouteErrorKind;
use fallway::time::Timer;
use fallway::{CallOptions, Facts, Profile};
use futures::future::abortable;

const HUNDRED: Act = Act::Answer(ms(100));

#[test]
fn who_is_refused_when_the_slot_comes_passes_it_on() {
    // The slot is freed in the moment of B's deadline: before that is found out, and after.
    for answers_at in [100, 50] {
        let world = World::new();
        let script = in_turn([Act::Answer(ms(answers_at)), Act::Answer(ms(20))]);
        let (router, [a]) = fleet(&world, [(Profile::new("a").concurrency(1), script)]);
        let start = world.now();
        let (first, timer) = (router.clone(), world.timer().clone());
        world.spawn(async move {
            let routed = first.call("ask", within(secs(5))).await.unwrap();
            timer.sleep_until(start + ms(100)).await;
            drop(routed);
        });
        world.settle();
        let b = world.ask(&router, within(ms(100)));
        world.settle();
        let c = world.ask(&router, within(secs(5)));
        world.run();
        let (b, c) = (b.take(), c.take());
        assert_eq!((b.refused, b.took), (Some(RouteErrorKind::DeadlineExceeded), ms(100)), "{answers_at}");
        assert_eq!((c.ok(), c.took), (true, ms(120)), "{answers_at}");
        assert_eq!((a.calls(), a.backstage().peak(), router.total_in_flight()), (2, 1, 0));
    }
}

#[test]
fn who_leaves_when_the_slot_comes_passes_it_on() {
    let world = World::new();
    let (router, [a]) = fleet(&world, [(Profile::new("a").concurrency(1), always(HUNDRED))]);
    let start = world.now();
    let first = world.ask(&router, within(secs(5)));
    world.settle();
    let waits = router.clone();
    let (b, caller) = abortable(async move { waits.call("ask", within(secs(5))).await });
    let b = world.spawn(b);
    world.settle();
    let c = world.ask(&router, within(secs(5)));
    // Runs between the end of the first call, which wakes B, and B.
    let (timer, seen) = (world.timer().clone(), a.clone());
    world.spawn(async move {
        timer.sleep_until(start + ms(100)).await;
        assert_eq!((seen.backstage().in_flight(), seen.calls()), (0, 1));
        caller.abort();
    });
    world.run();
    assert!(first.take().ok() && b.take().is_err());
    assert_eq!((c.take().took, a.seen()[1].at - start), (ms(200), ms(100)));
    assert_eq!((a.calls(), router.total_in_flight()), (2, 0));
}

#[test]
fn who_takes_another_backend_passes_the_slot_on() {
    // B waits for both and is woken for `x`; until it looks, `y` is free as well, and better.
    let world = World::new();
    let script = || in_turn([HUNDRED, Act::Answer(ms(20))]);
    let members = ["y", "x"].map(|id| (Profile::new(id).model(id).concurrency(1), script()));
    let (router, [y, x]) = fleet(&world, members);
    let start = world.now();
    let model = |model: &str| CallOptions::within(secs(5)).facts(Facts::model(model).replay_safe());
    let firsts = [model("x"), model("y")].map(|options| world.ask(&router, options));
    world.settle();
    let b = world.ask(&router, CallOptions::within(secs(5)).facts(plain()));
    world.settle();
    let c = world.ask(&router, model("x"));
    world.run();
    assert!(firsts.into_iter().map(Task::take).all(|answer| answer.ok()));
    let (b, c) = (b.take(), c.take());
    assert_eq!((b.backend.as_deref(), b.took), (Some("y"), ms(120)));
    assert_eq!((c.backend.as_deref(), c.took), (Some("x"), ms(120)));
    let second = |backend: &crate::support::Scripted| backend.seen()[1].at - start;
    assert_eq!((second(&y), second(&x), router.total_in_flight()), (ms(100), ms(100), 0));
}

#[test]
fn who_can_not_use_the_slot_passes_it_on() {
    // `a` is busy for a second. The second call fails on `b` while the third is next there; the fourth comes later.
    let world = World::new();
    let members = [
        (Profile::new("a").concurrency(1), always(Act::Answer(secs(1)))),
        (Profile::new("b").concurrency(1), in_turn([Act::Fail(ServerError, ms(10)), Act::Answer(ms(90)), ANSWER])),
    ];
    let (router, [_, b]) = fleet(&world, members);
    let early = [(); 3].map(|()| world.ask(&router, within(secs(5))));
    world.run_for(ms(50));
    let late = world.ask(&router, within(secs(5)));
    world.run();
    // The oldest that waits is the one that failed on `b`: it is handed the slot first.
    let late = late.take();
    assert_eq!((late.backend.as_deref(), late.took), (Some("b"), ms(70)));
    let took = early.map(|call| call.take().took);
    assert_eq!((took, b.calls()), ([secs(1), secs(2), ms(100)], 3));
}
