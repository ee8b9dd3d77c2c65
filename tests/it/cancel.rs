//! The caller goes away: after each poll, in every phase of a call. All that was taken comes back, and nobody is
//! blamed or praised.

use crate::support::{
    ANSWER, Act, LEAVES, Log, Reply, Scripted, Step, TestRouter, Told, World, always, dropped_after, fail, in_turn,
    leaf, ms, secs, within,
};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::budget::Hedge;
use fallway::policy::{Budgets, FailSafe, PolicyExt, RoutingPolicy, ordered, power_of_two, predicted_ttft};
use fallway::router::Builder;
use fallway::{CallOptions, Profile};
use futures::StreamExt;
use std::time::Duration;

/// Plays `prepare`'s scene once for each number of polls until the caller stays to the end, and checks after each
/// departure that no trace is left. Returns how many polls the whole call takes.
fn at_every_poll(scene: impl Fn(&World, Builder<str, Reply>) -> Scene) -> usize {
    at_every_poll_of(|| ordered().fail_safe(FailSafe::default()), scene)
}

fn at_every_poll_of<P: RoutingPolicy + 'static>(
    policy: impl Fn() -> P,
    scene: impl Fn(&World, Builder<str, Reply>) -> Scene,
) -> usize {
    for polls in 0..200 {
        let (world, log) = (World::new(), Log::default());
        let scene = scene(&world, world.router(policy()).observer(log.clone()));
        let ended = |log: &Log| log.count(|told| matches!(told, Told::Succeeded { .. }));
        let (router, options, reads) = (scene.router.clone(), scene.options.clone(), scene.reads);
        let before = ended(&log);
        let caller = world.spawn(dropped_after(polls, async move {
            if reads {
                let mut stream = router.stream("ask", options).await?;
                while stream.next().await.is_some() {}
            } else {
                drop(router.call("ask", options).await?);
            }
            Ok::<_, fallway::RouteError>(())
        }));
        // Others, if any, go on and end.
        world.run();
        if caller.take().is_some() {
            assert!(polls > 0, "a call takes a poll");
            return polls;
        }
        let successes = ended(&log) - before;
        assert_eq!(successes, scene.others, "{polls} polls: a call that was dropped counts as success");
        assert_eq!(scene.router.total_in_flight(), 0, "{polls} polls");
        assert!(scene.backends.iter().all(|backend| backend.backstage().in_flight() == 0), "{polls} polls");
        assert_eq!(world.timer().next_wake(), None, "{polls} polls: somebody still sleeps");
        // The slot is usable: the next caller gets what the scene promises.
        let next = world.call(&scene.router, within(secs(100)));
        assert!(next.is_ok(), "{polls} polls: {next:?}");
    }
    panic!("more than 200 polls");
}

struct Scene {
    router: TestRouter,
    backends: Vec<Scripted>,
    options: CallOptions,
    reads: bool,
    /// Successes of calls beside the one that is dropped.
    others: usize,
}

impl Scene {
    fn of<const N: usize>(world: &World, builder: Builder<str, Reply>, scripts: [crate::support::Script; N]) -> Self {
        let mut id = 0;
        let members = scripts.map(|script| {
            id += 1;
            (Profile::new(id.to_string()).concurrency(1), script)
        });
        let (router, backends) = world.fleet(builder, members);
        Self { router, backends: backends.into(), options: within(secs(100)), reads: false, others: 0 }
    }
}

#[test]
fn a_plain_call() {
    let polls = at_every_poll(|world, builder| Scene::of(world, builder, [always(ANSWER)]));
    assert_eq!(polls, 2);
}

#[test]
fn between_attempts() {
    let slow = |kind| always(Act::Fail(kind, ms(5)));
    let polls = at_every_poll(|world, builder| {
        Scene::of(world, builder, [slow(Overloaded), slow(ServerError), always(ANSWER)])
    });
    assert_eq!(polls, 4);
}

#[test]
fn in_a_back_off() {
    let polls = at_every_poll(|world, builder| {
        Scene::of(world, builder, [in_turn([Act::Fail(ServerError, ms(5)), fail(ServerError), ANSWER])])
    });
    assert!(polls >= 4, "{polls}");
}

#[test]
fn while_it_waits_for_a_slot() {
    let polls = at_every_poll(|world, builder| {
        let scene = Scene::of(world, builder, [always(Act::Answer(ms(50)))]);
        for _ in 0..3 {
            let router = scene.router.clone();
            world.spawn(async move { drop(router.call("other", within(secs(100))).await.unwrap()) });
        }
        world.settle();
        Scene { others: 3, ..scene }
    });
    assert!(polls >= 3, "{polls}");
}

#[test]
fn while_it_waits_for_a_return() {
    let polls = at_every_poll(|world, builder| {
        let hint = Act::Hint(fallway::FailureKind::RateLimited, ms(5), secs(2));
        Scene::of(world, builder, [in_turn([hint, ANSWER])])
    });
    assert!(polls >= 3, "{polls}");
}

#[test]
fn in_the_last_resort() {
    let polls = at_every_poll(|world, builder| {
        let builder = builder.last_resort(world.backend("last", always(ANSWER)));
        Scene::of(world, builder, [always(fail(Overloaded))])
    });
    assert_eq!(polls, 2);
}

#[test]
fn in_a_stream_before_and_after_each_item() {
    let items = (0..5).flat_map(|_| [Step::Pause(ms(10)), Step::Item]);
    let steps = [Step::Role, Step::Pause(ms(10)), Step::Role].into_iter().chain(items).collect::<Vec<_>>();
    let polls = at_every_poll(|world, builder| {
        let scene = Scene::of(world, builder, [always(Act::Stream(ms(20), steps.clone()))]);
        Scene { reads: true, ..scene }
    });
    assert!(polls >= 7, "{polls}");
}

/// As [`at_every_poll`], of a request that is hedged after 30 ms; it comes when two others have saved up for that.
fn hedged_at_every_poll(first: &Act, second: &Act, reads: bool) -> usize {
    let hedge = || Budgets::default().hedge(Hedge::of(0.5).unwrap().after(ms(30)));
    let policy = || ordered().budgeted(hedge()).fail_safe(FailSafe::default());
    at_every_poll_of(policy, |world, builder| {
        let at_once = || Act::Answer(Duration::ZERO);
        let first = in_turn([at_once(), at_once(), first.clone(), ANSWER]);
        let scene = Scene::of(world, builder, [first, in_turn([second.clone(), ANSWER]), always(ANSWER)]);
        (0..2).for_each(|_| drop(world.call(&scene.router, within(secs(100))).unwrap()));
        Scene { reads, ..scene }
    })
}

#[test]
fn beside_a_hedge() {
    let answers = |after| Act::Answer(ms(after));
    let fails = |after| Act::Fail(ServerError, ms(after));
    for (first, second, least) in [
        // The hedge wins; the first; the hedge fails, and then the first; the first, and then the hedge.
        (Act::Hang, answers(50), 3),
        (answers(60), answers(50), 3),
        (fails(60), fails(10), 4),
        (fails(60), fails(50), 4),
        (Act::PanicInDrop, answers(50), 3),
        (answers(60), Act::PanicInDrop, 3),
        (Act::Panic(ms(60)), Act::Panic(ms(10)), 4),
    ] {
        let polls = hedged_at_every_poll(&first, &second, false);
        assert!(polls >= least, "{first:?}, {second:?}: {polls}");
    }
}

#[test]
fn beside_a_hedged_stream() {
    let stream = |pause| {
        Act::Stream(ms(5), vec![Step::Role, Step::Pause(ms(pause)), Step::Item, Step::Pause(ms(9)), Step::Item])
    };
    for (first, second) in [(stream(500), stream(20)), (stream(40), stream(500)), (Act::Hang, stream(20))] {
        let polls = hedged_at_every_poll(&first, &second, true);
        assert!(polls >= 5, "{first:?}, {second:?}: {polls}");
    }
}

#[test]
fn a_caller_that_leaves_early_does_not_make_a_backend_look_fast() {
    for policy in [predicted_ttft().boxed(), power_of_two().boxed()] {
        let world = World::new();
        let members = [(Profile::new("hangs"), always(Act::Hang)), (Profile::new("works"), always(ANSWER))];
        let (router, [hangs, _]) = world.fleet(world.router(policy.fail_safe(FailSafe::default())), members);
        // Callers with two milliseconds of patience, until both backends were tried.
        for _ in 0..20 {
            let (call, caller) = futures::future::abortable({
                let router = router.clone();
                async move { drop(router.call("ask", within(secs(60))).await) }
            });
            world.spawn(call);
            world.run_for(ms(2));
            caller.abort();
            world.run();
        }
        // Nobody was ever waited for as long as an answer takes: nothing is known of either, and nothing looks fast.
        let decision = router.explain(&within(secs(5)));
        for candidate in decision.candidates() {
            let samples = candidate.latency().map_or(0, |latency| latency.samples);
            assert_eq!(samples, 0, "{decision}");
        }
        assert!(hangs.calls() <= 20);
    }
}

#[test]
fn a_thousand_departures_leave_a_usable_router() {
    for name in LEAVES {
        let (world, log) = (World::new(), Log::default());
        let builder = world.router(leaf(name).fail_safe(FailSafe::default())).observer(log.clone());
        let members = ["a", "b", "c"].map(|id| (Profile::new(id).concurrency(2), always(Act::Answer(ms(30)))));
        let (router, backends) = world.fleet(builder, members);
        for n in 0..1000usize {
            let (router, timer) = (router.clone(), world.timer().clone());
            let arrival = timer.sleep(ms(n as u64));
            world.spawn(async move {
                arrival.await;
                drop(dropped_after(1 + n % 3, async move { router.call("ask", within(ms(200))).await }).await);
            });
        }
        world.run();
        assert_eq!(router.total_in_flight(), 0, "{name}");
        assert_eq!(log.count(|told| matches!(told, Told::Left { .. })), 0, "{name}");
        let calls = (0..6).map(|_| world.spawn_call(&router, within(secs(1)))).collect::<Vec<_>>();
        let (_, took) = world.timed(|| world.run());
        assert!(calls.into_iter().all(|call| call.take().is_ok()), "{name}");
        assert!(took <= ms(60) && took > Duration::ZERO, "{name}: {took:?}");
        assert!(backends.iter().all(|backend| backend.backstage().peak() <= 2), "{name}");
    }
}
