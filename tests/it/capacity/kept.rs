//! Tokens that are kept for one that waits: for nobody who has gone elsewhere, and never for long.

use crate::support::{Act, Log, Task, TestRouter, Told, World, always, hint, in_turn, ms, secs, tokens};
use fallway::backend::FailureKind;
use fallway::decision::Reason;
use fallway::facts::Priority;
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{FailSafe, PolicyExt, least_loaded, ordered};
use fallway::router::RouteErrorKind;
use fallway::time::Timer;
use fallway::{CallOptions, Facts, Profile, RoutingPolicy};
use std::time::Duration;

fn a() -> Profile {
    Profile::new("a")
}

fn in_order() -> impl RoutingPolicy + 'static {
    ordered().fail_safe(FailSafe::default())
}

/// When it was answered, from now on; or why it was not.
fn ask(world: &World, router: &TestRouter, facts: Facts) -> Task<Result<Duration, RouteErrorKind>> {
    let (router, timer, start) = (router.clone(), world.timer().clone(), world.now());
    let options = CallOptions::within(secs(60)).facts(facts);
    let task = world.spawn(async move {
        let routed = router.call("ask", options).await.map_err(|error| error.kind());
        routed.map(|_| timer.now() - start)
    });
    world.settle();
    task
}

fn rejected(router: &TestRouter, facts: Facts) -> Option<Reason> {
    router.explain(&facts.into()).candidates().next().unwrap().rejected()
}

fn is_empty(router: &TestRouter) -> bool {
    (router.waiting(), router.total_in_flight(), router.tokens_in_flight("a")) == (0, 0, Some(0))
}

#[test]
fn who_waits_for_a_probe_is_offered_room_once() {
    for waiting in [2, 7] {
        let (world, log) = (World::new(), Log::default());
        // One call goes on while another is refused; the probe after its rest takes a second.
        let script = in_turn([Act::Answer(ms(1_500)), hint(FailureKind::RateLimited, secs(1)), Act::Answer(secs(2))]);
        let builder = world.router(in_order()).observer(log.clone());
        let (router, [a]) = world.fleet(builder, [(a().max_total_tokens(10_000), script)]);
        let mut calls = vec![ask(&world, &router, tokens(10, 10)), ask(&world, &router, tokens(10, 10))];
        world.run_for(ms(1_100));
        let levels = [Priority::Standard, Priority::Critical, Priority::Batch];
        calls.extend((0..waiting).map(|number| ask(&world, &router, tokens(10, 10).priority(levels[number % 3]))));
        let why = rejected(&router, tokens(10, 10));
        assert!(matches!(why, Some(Reason::ProbeInFlight { .. })), "{why:?}");
        let decisions = || log.count(|told| matches!(told, Told::Decided(_)));
        let before = decisions();
        // The first call ends: there is room, and nobody who may use it.
        world.run_for(ms(1_000));
        assert_eq!(a.calls(), 3);
        assert!(decisions() - before <= 4 * waiting, "{} decisions for {waiting}", decisions() - before);
        world.run();
        assert!(calls.into_iter().all(|call| call.take().is_ok()) && is_empty(&router));
    }
}

#[test]
fn nothing_is_kept_where_the_backend_went_out() {
    let world = World::new();
    let script =
        in_turn([Act::Answer(ms(50)), Act::Hint(FailureKind::RateLimited, ms(100), secs(1)), Act::Answer(ms(50))]);
    let (router, [a]) = world.fleet(world.router(in_order()), [(a().max_total_tokens(1_000), script)]);
    let [first, refused, large] = [100, 600, 900].map(|size| ask(&world, &router, tokens(size, 0)));
    // What the first gave back is kept for the large one, and then all is free and the backend rests.
    world.run_for(ms(60));
    assert_eq!(rejected(&router, tokens(10, 0)), Some(Reason::TokensFull { asked: 10, free: 0 }));
    world.run_for(ms(1_000));
    let small = ask(&world, &router, tokens(10, 0));
    world.run();
    // After the one that was refused, which is the probe.
    assert_eq!((first.take(), refused.take(), large.take()), (Ok(ms(50)), Ok(ms(1_150)), Ok(ms(1_200))));
    assert!(small.take().is_ok() && a.calls() == 5 && is_empty(&router));
    assert_eq!(rejected(&router, tokens(1_000, 0)), None);
}

#[test]
fn nothing_is_kept_where_the_bound_moved() {
    let world = World::new();
    let script = in_turn([Act::Answer(ms(50)), Act::Answer(secs(5)), Act::Answer(ms(50))]);
    let (router, [_]) = world.fleet(world.router(in_order()), [(a().max_total_tokens(1_000), script)]);
    let [_first, _long, large] = [100, 600, 900].map(|size| ask(&world, &router, tokens(size, 0)));
    world.run_for(ms(100));
    assert_eq!(router.waiting(), 1);
    router.update(|fleet| fleet.reprofile(a().max_total_tokens(2_000))).unwrap();
    world.run_for(ms(100));
    assert_eq!(large.take(), Ok(ms(150)));
    world.run();
    assert!(is_empty(&router));
}

#[test]
fn what_never_fits_is_refused_also_while_all_slots_are_taken() {
    let world = World::new();
    for bounded in [a().max_total_tokens(1_000), a().max_prefill_tokens(1_000), a().tokens_per_minute(1_000)] {
        let script = always(Act::Answer(ms(500)));
        let (router, [a]) = world.fleet(world.router(in_order()), [(bounded.concurrency(1), script)]);
        let first = ask(&world, &router, tokens(100, 0));
        let larger = ask(&world, &router, tokens(2_000, 0));
        assert_eq!(larger.take(), Err(RouteErrorKind::NothingUsable));
        let next = ask(&world, &router, tokens(100, 0));
        world.run();
        assert_eq!((first.take(), next.take(), a.calls()), (Ok(ms(500)), Ok(ms(1_000)), 2));
    }
}

#[test]
fn one_that_is_too_large_now_speaks_for_no_smaller_one() {
    let world = World::new();
    let script = in_turn([Act::Answer(secs(5)), Act::Answer(ms(100)), Act::Answer(ms(50))]);
    let shares = Bulkheads::of(8, Share::at_most(8)).share("t", Share::at_most(1));
    let builder = world.router(in_order()).tenant_bulkheads(shares);
    let (router, [_]) = world.fleet(builder, [(a().max_total_tokens(1_000), script)]);
    let _other = ask(&world, &router, tokens(600, 0).tenant("u"));
    let of_t = |size| ask(&world, &router, tokens(size, 0).tenant("t"));
    let [first, large, small] = [100, 900, 50].map(of_t);
    assert_eq!(router.waiting(), 2);
    world.run();
    // The share that the first gave back is of no use to the large one yet.
    assert_eq!((first.take(), small.take(), large.take()), (Ok(ms(100)), Ok(ms(150)), Ok(ms(5_050))));
    assert!(is_empty(&router));
}

#[test]
fn what_is_held_for_a_request_is_no_load_before_it() {
    let (world, log) = (World::new(), Log::default());
    let policy = least_loaded().fail_safe(FailSafe::default());
    let members = ["a", "b"]
        .map(|id| (Profile::new(id).max_prefill_tokens(1_000), in_turn([Act::Answer(ms(100)), Act::Answer(ms(300))])));
    let (router, [a, b]) = world.fleet(world.router(policy).observer(log.clone()), members);
    let first = [900, 900].map(|size| ask(&world, &router, tokens(size, 0)));
    let waits = [800, 800].map(|size| ask(&world, &router, tokens(size, 0)));
    world.run();
    for call in first.into_iter().chain(waits) {
        assert!(call.take().is_ok());
    }
    assert_eq!((a.calls(), b.calls()), (2, 2));
    // Called with room in its hands, each found its backend idle.
    let decisions = log.decisions();
    let called: Vec<_> = decisions.iter().rev().take(2).collect();
    for decision in called {
        let chosen = decision.chosen().unwrap();
        let load = decision.candidates().find(|it| it.id() == chosen.id()).unwrap().load().unwrap();
        assert_eq!((load.in_flight, load.waiting_tokens), (0, 0), "{decision}");
    }
}
