//! Recovery.
//!
//! Elsewhere: full weight by a timer, in `constitution::evidence::recovery_is_by_evidence` and
//! `fail_safe::leaving::a_returning_backend_takes_its_share_slowly`; a cancelled probe that closes, in
//! `fail_safe::leaving::a_probe_that_is_dropped_frees_its_permit`.

use crate::support::{
    ANSWER, Act, Rival, Script, Scripted, TestRouter, World, always, dropped_after, fail, in_turn, ms, secs, within,
};
use fallway::FailureKind::{Overloaded, RateLimited, ServerError};
use fallway::Profile;
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use std::iter::repeat_n;
use std::time::Duration;

fn pair(world: &World, script: Script) -> (TestRouter, Scripted) {
    let members = [(Profile::new("a"), script), (Profile::new("b"), always(ANSWER))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    (router, a)
}

fn ask(world: &World, router: &TestRouter) {
    world.call(router, within(secs(600))).unwrap();
}

/// Why `a` is out, if it is.
fn out(router: &TestRouter) -> Option<Reason> {
    router.explain(&within(secs(5))).candidates().next().and_then(|a| a.rejected())
}

/// For how long `a` is out.
fn rest(world: &World, router: &TestRouter) -> Duration {
    out(router).and_then(|reason| reason.returns_at()).map_or(Duration::ZERO, |at| at - world.now())
}

#[test]
fn a_hung_probe_blocks_for_its_lease_and_no_longer() {
    let world = World::new();
    let (router, a) = pair(&world, in_turn([fail(Overloaded), Act::Hang, ANSWER]));
    ask(&world, &router);
    world.run_for(secs(20));
    let hung = world.spawn_call(&router, within(secs(86_400)));
    for (later, calls) in [(29, 2), (2, 3)] {
        world.run_for(secs(later));
        let other = world.spawn_call(&router, within(secs(5)));
        world.run_for(ms(20));
        assert_eq!((other.take().is_ok(), a.calls()), (true, calls));
    }
    assert_eq!((hung.is_done(), out(&router)), (false, None));
    world.run();
}

#[test]
fn two_requests_that_planned_the_same_probe_send_one() {
    let (world, rival) = (World::new(), Rival::default());
    let members =
        [(Profile::new("a"), in_turn([fail(Overloaded), Act::Answer(secs(1))])), (Profile::new("b"), always(ANSWER))];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(rival.clone());
    let (router, [a, _]) = world.fleet(builder, members);
    ask(&world, &router);
    world.run_for(secs(20));
    rival.lurk(&router);
    let routed = world.call(&router, within(secs(5))).unwrap();
    assert_eq!((routed.backend(), a.calls()), (Some("b"), 2));
    rival.leave();
    assert_eq!(out(&router), None);
}

#[test]
fn a_thousand_dropped_probes_leave_the_gate_half_open() {
    let world = World::new();
    let (router, a) =
        pair(&world, in_turn([fail(Overloaded)].into_iter().chain(repeat_n(Act::Hang, 1000)).chain([ANSWER])));
    ask(&world, &router);
    world.run_for(secs(20));
    for _ in 0..1000 {
        let router = router.clone();
        world.block_on(dropped_after(1, async move { drop(router.call("ask", within(secs(60))).await) }));
    }
    assert_eq!((a.calls(), out(&router)), (1001, None));
    ask(&world, &router);
    assert_eq!(a.calls(), 1002);
}

#[test]
fn a_later_hint_extends_an_earlier_one_and_never_shortens_it() {
    for (hints, expected) in [([2, 10], 10), ([10, 2], 10), ([5, 5], 5)] {
        let world = World::new();
        let acts = hints.map(|hint| Act::Hint(RateLimited, ms(1), secs(hint)));
        let (router, a) = pair(&world, in_turn(acts));
        // Both are on their way when the first is refused.
        let calls = [0, 1].map(|_| world.spawn_call(&router, within(secs(600))));
        world.run();
        assert!(calls.into_iter().all(|call| call.take().is_ok()));
        assert_eq!(a.calls(), 2);
        let rest = rest(&world, &router) + ms(20);
        assert_eq!(rest, secs(expected), "{hints:?}");
    }
}

/// Fails until it is ejected.
fn eject(world: &World, router: &TestRouter) {
    for _ in 0..5 {
        ask(world, router);
    }
    assert!(matches!(out(router), Some(Reason::Ejected { .. })), "{:?}", out(router));
}

#[test]
fn a_slow_start_without_failure_forgets_the_past() {
    let world = World::new();
    // Ejected, two failed probes, a good one; good for long; ejected again.
    let acts = repeat_n(fail(ServerError), 7).chain(repeat_n(ANSWER, 40)).chain(repeat_n(fail(ServerError), 5));
    let (router, a) = pair(&world, in_turn(acts));
    eject(&world, &router);
    for nominal in [10.0, 20.0, 40.0] {
        let rest = rest(&world, &router);
        assert!((0.75..1.75).contains(&(rest.as_secs_f64() / nominal)), "{rest:?} of {nominal}");
        world.run_for(rest);
        ask(&world, &router);
    }
    assert_eq!((a.calls(), out(&router)), (8, None));
    // One return too many is made up for by three good minutes.
    world.run_for(secs(181));
    while a.calls() < 47 {
        ask(&world, &router);
    }
    eject(&world, &router);
    let again = rest(&world, &router).as_secs_f64();
    assert!((7.5..17.5).contains(&again), "{again} s");
}

#[test]
fn a_backend_that_flaps_rests_longer_each_time() {
    let world = World::new();
    // Each probe succeeds, and what follows fails.
    let flap = [ANSWER].into_iter().chain(repeat_n(fail(ServerError), 5));
    let acts = repeat_n(fail(ServerError), 5).chain(std::iter::repeat_n(flap, 3).flatten());
    let (router, a) = pair(&world, in_turn(acts));
    eject(&world, &router);
    let mut rests = vec![rest(&world, &router).as_secs_f64()];
    for n in 1..=3 {
        world.run_for(rest(&world, &router));
        while a.calls() < 5 + n * 6 {
            ask(&world, &router);
        }
        rests.push(rest(&world, &router).as_secs_f64());
    }
    for (rest, nominal) in rests.iter().zip([10.0, 20.0, 40.0, 60.0]) {
        assert!((0.75..1.75).contains(&(rest / nominal)), "{rests:?}");
    }
}

#[test]
fn pools_of_any_size_eject_one_of_them() {
    for size in [2usize, 3, 4, 5, 9] {
        let world = World::new();
        let mut builder = world.router(ordered().fail_safe(FailSafe::default()));
        for n in 0..size {
            let id = n.to_string();
            builder = builder.backend(
                Profile::new(&id),
                world.backend(&id, always(if n == 0 { fail(ServerError) } else { ANSWER })),
            );
        }
        let router = builder.build().unwrap();
        eject(&world, &router);
        let ranked = router.explain(&within(secs(5))).ranked().len();
        assert_eq!(ranked, size - 1);
    }
}
