//! What an attempt may use of the time that is left.

use super::*;
use crate::support::in_turn;
use fallway::FailureKind::ServerError;
use std::sync::{Arc, Mutex};

fn limits(backend: &crate::support::Scripted) -> Vec<Duration> {
    backend.seen().iter().map(|seen| seen.time_limit).collect()
}

#[test]
fn the_first_try_leaves_the_reserve_and_the_fallback_runs_in_it() {
    let world = World::new();
    let members =
        [(member("a"), always(Act::Fail(ServerError, ms(6_400)))), (member("b"), always(Act::Answer(ms(1_500))))];
    let (router, [a, b]) =
        world.fleet(stack(&world, Budgets::default().reserve(ms(1_500)), FailSafe::default()), members);
    let routed = world.call(&router, ask("m", secs(8))).unwrap();
    assert_eq!((limits(&a), limits(&b)), (vec![ms(6_500)], vec![ms(1_600)]));
    assert_eq!(routed.backend(), Some("b"));
}

#[test]
fn a_backend_is_told_what_is_left_of_the_request() {
    let world = World::new();
    let (start, told) = (world.now(), Arc::new(Mutex::new(Vec::new())));
    let note = |act: Act| -> Script {
        let told = told.clone();
        Box::new(move |cue| {
            told.lock().unwrap().push((cue.attempt.time_left(), cue.attempt.deadline() - start));
            act.clone()
        })
    };
    let members = [(member("a"), note(Act::Fail(ServerError, ms(6_400)))), (member("b"), note(Act::Answer(ms(1_500))))];
    let (router, _) = world.fleet(stack(&world, Budgets::default().reserve(ms(1_500)), FailSafe::default()), members);
    drop(world.call(&router, ask("m", secs(8))).unwrap());
    // More than the attempt may use: others may need it, and what is behind the backend has to know when all is over.
    assert_eq!(*told.lock().unwrap(), [(secs(8), secs(8)), (ms(1_600), secs(8))]);
}

#[test]
fn a_reserve_is_what_half_of_the_answers_behind_take() {
    let world = World::new();
    let members = [(member("a"), always(Act::Hang)), (member("b"), always(Act::Answer(ms(2_000))))];
    let (router, [a, b]) = world.fleet(stack(&world, Budgets::default(), FailSafe::default()), members);
    teach(&world, &router, ["m@b"]);
    let routed = world.call(&router, ask("m", secs(8))).unwrap();
    assert_eq!(routed.backend(), Some("b"));
    let first = limits(&a)[0];
    assert!(first.abs_diff(secs(6)) < ms(200), "{first:?}");
    assert_eq!(*limits(&b).last().unwrap(), secs(8) - first);
}

#[test]
fn an_attempt_gets_what_it_is_predicted_to_take_before_others_get_a_reserve() {
    let world = World::new();
    let members = [(member("a"), always(Act::Answer(secs(1)))), (member("b"), always(Act::Answer(ms(1_500))))];
    let (router, [a, _]) =
        world.fleet(stack(&world, Budgets::default().reserve(secs(3)), FailSafe::default()), members);
    teach(&world, &router, ["m@a", "m@b"]);
    // 3 s of 3.5 are kept for the other, but half a second would be a lost attempt.
    world.call(&router, ask("m", ms(3_500))).unwrap();
    let limit = *limits(&a).last().unwrap();
    assert!((ms(1_300)..ms(2_200)).contains(&limit), "{limit:?}");
}

#[test]
fn a_cap_is_a_cap() {
    let world = World::new();
    let members = [(member("a"), always(Act::Hang)), (member("b"), always(Act::Answer(ms(100))))];
    let fail_safe = FailSafe::default().attempt_limit(secs(2));
    let (router, [a, _]) = world.fleet(stack(&world, Budgets::default().reserve(secs(1)), fail_safe), members);
    world.call(&router, ask("m", secs(8))).unwrap();
    assert_eq!(limits(&a), [secs(2)]);
}

#[test]
fn a_reserve_above_the_deadline_of_a_request_leaves_it_half() {
    let world = World::new();
    let members = [(member("a"), always(Act::Hang)), (member("b"), always(Act::Answer(ms(100))))];
    let (router, [a, b]) =
        world.fleet(stack(&world, Budgets::default().reserve(secs(30)), FailSafe::default()), members);
    let routed = world.call(&router, ask("m", secs(1))).unwrap();
    assert_eq!((limits(&a), limits(&b), routed.backend()), (vec![ms(500)], vec![ms(500)], Some("b")));
}

#[test]
fn tiers_behind_are_left_a_reserve_too() {
    let world = World::new();
    let members = [
        (Profile::new("big").model("big"), always(Act::Hang)),
        (Profile::new("small").model("small"), always(Act::Answer(ms(100)))),
    ];
    let fail_safe = FailSafe::default().tiers("chat", ["big", "small"]);
    let (router, [big, _]) = world.fleet(stack(&world, Budgets::default().reserve(secs(2)), fail_safe), members);
    assert_eq!(world.call(&router, ask("chat", secs(8))).unwrap().backend(), Some("small"));
    assert_eq!(limits(&big), [secs(6)]);
}

#[test]
fn a_back_off_that_eats_the_reserve_is_skipped() {
    // One backend, so a retry comes after a back-off of up to 50 ms, and takes as long as the first try.
    let attempts = |total| {
        let world = World::new();
        let fails = in_turn([Act::Fail(ServerError, ms(900)), Act::Answer(ms(100))]);
        let (router, [a]) = world
            .fleet(stack(&world, Budgets::default().reserve(ms(400)), FailSafe::default()), [(member("a"), fails)]);
        let answered = world.call(&router, ask("m", total)).is_ok();
        (answered, a.calls())
    };
    assert_eq!(attempts(ms(2_000)), (true, 2));
    assert_eq!(attempts(ms(1_250)), (false, 1));
}

#[test]
fn without_budgets_the_split_is_as_it_was() {
    let world = World::new();
    let members = [(member("a"), always(Act::Hang)), (member("b"), always(Act::Answer(ms(100))))];
    let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    world.call(&router, ask("m", secs(8))).unwrap();
    assert_eq!(limits(&a), [secs(7)]);
}
