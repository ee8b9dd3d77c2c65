//! Bounds of tokens in flight: never over, exact to the token, and who is next where sizes differ.

use super::PRIORITIES;
use crate::support::{Act, Task, TestRouter, World, always, ms, secs, tokens};
use fallway::backend::FailureKind;
use fallway::decision::Reason;
use fallway::facts::{Prefix, Priority};
use fallway::policy::{Capacity, FailSafe, PolicyExt, least_loaded, ordered};
use fallway::rng::Rng;
use fallway::router::{RouteErrorKind, Step};
use fallway::time::{Instant, Timer};
use fallway::{CallOptions, Decision, Facts, Profile, RoutingPolicy};
use std::time::Duration;

fn a() -> Profile {
    Profile::new("a")
}

/// Backends whose answers begin after ten milliseconds.
fn fleet<const N: usize>(world: &World, policy: impl RoutingPolicy + 'static, members: [Profile; N]) -> TestRouter {
    world.fleet(world.router(policy).queue(10_000), members.map(|profile| (profile, always(Act::Answer(ms(10)))))).0
}

fn in_order() -> impl RoutingPolicy + 'static {
    ordered().fail_safe(FailSafe::default())
}

/// Reads the books.
fn by_load() -> impl RoutingPolicy + 'static {
    least_loaded().fail_safe(FailSafe::default())
}

/// What became of a call: who answered, and when; or the refusal.
type Answer = Result<(String, Duration), RouteErrorKind>;

/// A call whose answer takes so long after it began.
fn call(world: &World, router: &TestRouter, facts: Facts, lasts: Duration, deadline: Duration) -> Task<Answer> {
    let (router, timer, start) = (router.clone(), world.timer().clone(), world.now());
    let options = CallOptions::within(deadline).facts(facts);
    let task = world.spawn(async move {
        let routed = router.call("ask", options).await.map_err(|error| error.kind())?;
        let answered = timer.now();
        timer.sleep_until(answered + lasts).await;
        Ok((routed.response().backend().to_owned(), answered - start))
    });
    world.settle();
    task
}

fn rejected(decision: &Decision) -> Vec<Option<Reason>> {
    decision.candidates().map(|candidate| candidate.rejected()).collect()
}

fn explain(router: &TestRouter, facts: Facts) -> Decision {
    let decision = router.explain(&facts.into());
    assert!(router.replay(&decision).same_choice(&decision), "{decision}");
    decision
}

/// Tokens of prompts that wait at `a`, and of all of its calls.
fn books(router: &TestRouter) -> (u64, u64) {
    let decision = router.explain(&Facts::any().into());
    let waiting = decision.candidates().next().unwrap().load().unwrap().waiting_tokens;
    (waiting, router.tokens_in_flight("a").unwrap())
}

#[test]
fn a_prompt_counts_until_the_first_item_and_all_of_it_to_the_end() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_prefill_tokens(1_000).max_total_tokens(3_000)]);
    let first = call(&world, &router, tokens(800, 400), ms(90), secs(5));
    assert_eq!(books(&router), (800, 1_200));
    let asked = explain(&router, tokens(201, 100));
    assert_eq!(rejected(&asked), [Some(Reason::PrefillFull { asked: 201, free: 200 })]);
    assert!(asked.to_string().contains("a, rejected: full of prompts (201 tokens, 200 free)"), "{asked}");
    assert_eq!(rejected(&explain(&router, tokens(200, 100))), [None]);
    world.run_for(ms(50));
    assert_eq!(books(&router), (0, 1_200));
    let asked = explain(&router, tokens(1_000, 801));
    assert_eq!(rejected(&asked), [Some(Reason::TokensFull { asked: 1_801, free: 1_800 })]);
    assert!(asked.to_string().contains("a, rejected: full of tokens (1801 tokens, 1800 free)"), "{asked}");
    assert_eq!(rejected(&explain(&router, tokens(1_000, 800))), [None]);
    world.run();
    assert!(first.take().is_ok());
    assert_eq!(books(&router), (0, 0));
}

#[test]
fn what_is_too_large_for_ever_is_refused_at_once_with_the_number() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_prefill_tokens(1_000).max_total_tokens(3_000)]);
    for (facts, tokens, limit) in [(tokens(1_001, 1), 1_001, 1_000), (tokens(1_000, 2_001), 3_001, 3_000)] {
        let asked = explain(&router, facts.clone());
        assert_eq!(rejected(&asked), [Some(Reason::TokenBoundTooSmall { tokens, limit })]);
        let refused = call(&world, &router, facts, ms(0), secs(50));
        assert_eq!(refused.take(), Err(RouteErrorKind::NothingUsable));
    }
    // A guess refuses nobody: 1.5 × the prompt is more than there may be, so it takes all that there is.
    let guessed = Facts::any().prompt_tokens(1_000).replay_safe();
    let tight = fleet(&world, by_load(), [a().max_total_tokens(2_000)]);
    let call = call(&world, &tight, guessed, ms(50), secs(5));
    assert_eq!(tight.tokens_in_flight("a"), Some(2_000));
    world.run();
    assert!(call.take().is_ok());
    assert_eq!((tight.tokens_in_flight("a"), router.tokens_in_flight("a")), (Some(0), Some(0)));
}

#[test]
fn who_does_not_fit_goes_elsewhere_and_waits_only_where_all_are_full() {
    let world = World::new();
    let members = [a().max_total_tokens(1_000), Profile::new("b").max_total_tokens(500)];
    let router = fleet(&world, in_order(), members);
    let sizes = [700, 300, 500, 100];
    let calls = sizes.map(|size| call(&world, &router, tokens(size, 0), ms(990), secs(5)));
    assert_eq!(["a", "b"].map(|id| router.tokens_in_flight(id).unwrap()), [1_000, 500]);
    assert_eq!(router.waiting(), 1);
    world.run();
    let went = calls.map(|call| call.take().unwrap());
    let expected = [("a", 10), ("a", 10), ("b", 10), ("a", 1_010)].map(|(id, at)| (id.to_owned(), ms(at)));
    assert_eq!(went, expected);
}

#[test]
fn as_many_start_as_fit_when_tokens_are_free_again() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_prefill_tokens(900).max_total_tokens(2_000)]);
    // One prompt that fills the prefill share, and gives it back with its first item.
    let large = call(&world, &router, tokens(900, 100), ms(90), secs(5));
    let small = [(); 5].map(|()| call(&world, &router, tokens(300, 0), ms(990), secs(5)));
    assert_eq!(router.waiting(), 5);
    world.run_for(ms(10));
    // Three of them fit beside each other, and of the total as well: 1,000 + 900.
    assert_eq!((router.waiting(), books(&router)), (2, (900, 1_900)));
    world.run_for(ms(10));
    // Their first items free the prefill share. But of the total nothing is free until the large one ends.
    assert_eq!((router.waiting(), books(&router)), (2, (0, 1_900)));
    world.run();
    let starts = small.map(|call| call.take().unwrap().1);
    assert_eq!(starts, [ms(20), ms(20), ms(20), ms(110), ms(110)]);
    assert!(large.take().is_ok());
    assert_eq!((books(&router), router.total_in_flight()), ((0, 0), 0));
}

#[test]
fn the_large_are_not_overtaken_by_whoever_comes_after_them() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_total_tokens(1_000)]);
    let running = [100, 300, 500].map(|lasts| call(&world, &router, tokens(300, 0), ms(lasts - 10), secs(5)));
    let large = call(&world, &router, tokens(800, 0), ms(90), secs(5));
    world.run_for(ms(150));
    // 400 are free, and kept for the large one: who is small and comes later waits behind it.
    let small = call(&world, &router, tokens(50, 0), ms(90), secs(5));
    let asked = explain(&router, tokens(50, 0));
    assert_eq!(rejected(&asked), [Some(Reason::TokensFull { asked: 50, free: 0 })]);
    assert_eq!(router.waiting(), 2);
    // Who matters more comes first anyway.
    let critical = call(&world, &router, tokens(50, 0).priority(Priority::Critical), ms(90), secs(5));
    world.run();
    assert_eq!(critical.take().unwrap().1, ms(10));
    assert_eq!(large.take().unwrap().1, ms(510));
    assert_eq!(small.take().unwrap().1, ms(500 - 150 + 10));
    assert!(running.into_iter().all(|call| call.take().is_ok()));
    assert_eq!(router.tokens_in_flight("a"), Some(0));
}

#[test]
fn what_was_kept_for_one_who_leaves_goes_to_the_next_at_once() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_total_tokens(1_000)]);
    let running = [100, 900].map(|lasts| call(&world, &router, tokens(450, 0), ms(lasts - 10), secs(5)));
    let large = call(&world, &router, tokens(800, 0), ms(90), ms(400));
    let small = [(); 2].map(|()| call(&world, &router, tokens(250, 0), ms(90), secs(5)));
    world.run();
    assert_eq!(large.take(), Err(RouteErrorKind::DeadlineExceeded));
    assert_eq!(small.map(|call| call.take().unwrap().1), [ms(410), ms(410)]);
    assert!(running.into_iter().all(|call| call.take().is_ok()));
    // Nothing is kept for nobody.
    assert_eq!(rejected(&explain(&router, tokens(1_000, 0))), [None]);
}

#[test]
fn below_a_ceiling_the_large_are_not_overtaken_either() {
    let world = World::new();
    let policy = least_loaded().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let router = fleet(&world, policy, [a().max_total_tokens(1_000)]);
    let critical =
        |lasts: u64| call(&world, &router, tokens(200, 0).priority(Priority::Critical), ms(lasts - 10), secs(5));
    let running = [100, 300, 500].map(critical);
    let large = call(&world, &router, tokens(500, 0), ms(90), secs(5));
    world.run_for(ms(150));
    // With it 90 % would be in use, and 85 % are for such as it.
    let small = call(&world, &router, tokens(50, 0), ms(90), secs(5));
    assert_eq!(router.waiting(), 2);
    world.run();
    assert_eq!((large.take().unwrap().1, small.take().unwrap().1), (ms(310), ms(160)));
    assert!(running.into_iter().all(|call| call.take().is_ok()));
}

#[test]
fn what_a_cache_saves_is_for_the_next_at_once() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_prefill_tokens(1_000)]);
    let known = || tokens(1_000, 0).prefix(Prefix::of_hashes(400, [1, 2]));
    let before = call(&world, &router, known(), ms(0), secs(5));
    world.run();
    let first = call(&world, &router, tokens(1_000, 0), ms(0), secs(5));
    // Of the first of them the backend has 800 tokens: both fit beside each other.
    let next = [known(), tokens(700, 0)].map(|facts| call(&world, &router, facts, ms(0), secs(5)));
    assert_eq!(router.waiting(), 2);
    world.run();
    assert_eq!(next.map(|call| call.take().unwrap().1), [ms(20), ms(20)]);
    assert!(before.take().is_ok() && first.take().is_ok());
}

#[test]
fn one_who_waits_for_a_quota_keeps_nobody_from_tokens() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_total_tokens(1_000).tokens_per_minute(1_500)]);
    let before = call(&world, &router, tokens(950, 0), ms(0), secs(5));
    world.run();
    assert!(before.take().is_ok());
    // There is room for it, and too little of the quota for half a minute.
    let first = call(&world, &router, tokens(200, 0), ms(490), secs(50));
    let thirsty = call(&world, &router, tokens(700, 0), ms(90), secs(50));
    let others =
        [(100, 90), (150, 490)].map(|(size, lasts)| call(&world, &router, tokens(size, 0), ms(lasts), secs(5)));
    world.run_for(ms(150));
    // Meanwhile there is no room for it either, and a call has ended.
    let small = call(&world, &router, tokens(100, 0), ms(90), secs(5));
    assert_eq!(router.waiting(), 1);
    world.run();
    assert_eq!(small.take().unwrap().1, ms(10));
    assert!(thirsty.take().unwrap().1 > secs(10));
    assert!([first].into_iter().chain(others).all(|call| call.take().is_ok()));
}

#[test]
fn headroom_and_reserves_count_tokens() {
    let world = World::new();
    let policy = ordered().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let members = [a().max_total_tokens(1_000), Profile::new("b").max_total_tokens(1_000)];
    let router = fleet(&world, policy, members);
    let load = || ["a", "b"].map(|id| router.tokens_in_flight(id).unwrap());
    let send = |priority, size, calls: usize| {
        (0..calls).for_each(|_| {
            call(&world, &router, tokens(size, 0).priority(priority), secs(9), secs(600));
        });
    };
    send(Priority::Standard, 50, 17);
    assert_eq!(load(), [850, 0]);
    let next = explain(&router, tokens(50, 0));
    assert_eq!(
        next.candidates().next().unwrap().rejected(),
        Some(Reason::Reserved { full: 900, ceiling: 850, until: None })
    );
    send(Priority::Standard, 50, 17);
    assert_eq!((load(), router.waiting()), ([850, 850], 0));
    send(Priority::Standard, 50, 1);
    assert_eq!((load(), router.waiting()), ([850, 850], 1));
    // What can be shed waits for nobody, and the critical use the reserve to the last token.
    let shed = call(&world, &router, tokens(10, 0).priority(Priority::Sheddable), secs(1), secs(600));
    assert_eq!(shed.take(), Err(RouteErrorKind::NothingUsable));
    send(Priority::Critical, 150, 2);
    assert_eq!(load(), [1_000, 1_000]);
    world.run();
    assert_eq!((load(), router.total_in_flight()), ([0, 0], 0));
    // One call is for everybody, however large it is.
    send(Priority::Batch, 1_000, 1);
    assert_eq!(load(), [1_000, 0]);
}

#[test]
fn who_is_behind_a_busy_one_spills_by_tokens() {
    let world = World::new();
    let policy = ordered().capacity_aware(Capacity::default().headroom(0.5, 0.5)).fail_safe(FailSafe::default());
    let router = fleet(&world, policy, [a().max_prefill_tokens(1_000), Profile::new("b").max_prefill_tokens(1_000)]);
    let _running = call(&world, &router, tokens(400, 0), secs(1), secs(5));
    let asked = explain(&router, tokens(200, 0));
    let notes: Vec<_> = asked.candidates().map(|candidate| candidate.note()).collect();
    assert_eq!(notes, [Some(Reason::Busy { full: 600, headroom: 500 }), None]);
    assert_eq!(asked.chosen().unwrap().name(), "b");
    assert_eq!(explain(&router, tokens(100, 0)).chosen().unwrap().name(), "a");
    world.run();
}

#[test]
fn what_a_backend_has_of_a_prompt_is_no_work_and_takes_its_place() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_prefill_tokens(2_000).max_total_tokens(9_000)]);
    let facts = |hashes| tokens(2_000, 0).prefix(Prefix::of_hashes(500, hashes));
    call(&world, &router, facts([1, 2, 3]), ms(10), secs(5));
    world.run();
    let again = call(&world, &router, facts([1, 2, 3]), ms(90), secs(5));
    assert_eq!(books(&router), (500, 2_000));
    // One that is longer than the bound, of which the backend has most.
    let longer = tokens(3_000, 0).prefix(Prefix::of_hashes(500, [1, 2, 3]));
    assert_eq!(rejected(&explain(&router, longer)), [None]);
    assert_eq!(
        rejected(&explain(&router, tokens(3_000, 0))),
        [Some(Reason::TokenBoundTooSmall { tokens: 3_000, limit: 2_000 })]
    );
    world.run();
    assert!(again.take().is_ok());
    assert_eq!(books(&router), (0, 0));
}

#[test]
fn bounds_that_change_under_way_leave_nothing_behind() {
    let world = World::new();
    let router = fleet(&world, by_load(), [a().max_total_tokens(1_000)]);
    let before = call(&world, &router, tokens(700, 0), ms(990), secs(50));
    router.update(|fleet| fleet.reprofile(a().max_total_tokens(600))).unwrap();
    assert_eq!(rejected(&explain(&router, tokens(100, 0))), [Some(Reason::TokensFull { asked: 100, free: 0 })]);
    let waits = call(&world, &router, tokens(100, 0), ms(10), secs(50));
    router.update(|fleet| fleet.reprofile(a())).unwrap();
    world.settle();
    // No bound, nothing to wait for, and nothing is counted; but what was taken comes back.
    let free = call(&world, &router, tokens(5_000, 0), ms(990), secs(50));
    assert_eq!((router.waiting(), router.tokens_in_flight("a")), (0, Some(700)));
    router.update(|fleet| fleet.reprofile(a().max_total_tokens(750))).unwrap();
    let counted = call(&world, &router, tokens(50, 0), ms(990), secs(50));
    assert_eq!(router.tokens_in_flight("a"), Some(750));
    world.run();
    for call in [before, waits, free, counted] {
        assert!(call.take().is_ok());
    }
    assert_eq!((books(&router), router.total_in_flight()), ((0, 0), 0));
}

/// Requests that come, are answered, fail, are given up or panic at random, and bounds that move meanwhile.
#[test]
fn whatever_happens_no_bound_is_exceeded_and_nothing_is_left() {
    const BOUNDS: [(u64, u64); 3] = [(1_000, 4_000), (700, 3_000), (1_000, 4_000)];
    let world = World::new();
    let policy = least_loaded().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let bounded = |(prefill, total)| a().concurrency(30).max_prefill_tokens(prefill).max_total_tokens(total);
    let router = fleet(&world, policy, [bounded(BOUNDS[0])]);
    let mut rng = Rng::new(5);
    let mut flying = Vec::new();
    let (mut sent, mut full) = (0u32, [0u32; 3]);
    for round in 1..=20_000u64 {
        let now = Instant::from_nanos(round * 1_000_000);
        if round % 500 == 0 {
            let bounds = BOUNDS[round as usize / 500 % 3];
            router.update(|fleet| fleet.reprofile(bounded(bounds))).unwrap();
        }
        let facts = tokens(rng.below(500) as u64, rng.below(900) as u64).priority(PRIORITIES[rng.below(4)]);
        let options = CallOptions::within(secs(3_600)).facts(facts);
        match router.explain(&options).candidates().next().unwrap().rejected() {
            Some(Reason::Reserved { .. }) => full[0] += 1,
            Some(Reason::PrefillFull { .. }) => full[1] += 1,
            Some(Reason::TokensFull { .. }) => full[2] += 1,
            _ => {}
        }
        let mut trip = router.trip(options, now);
        if matches!(trip.next(now), Ok(Step::Call(_))) {
            sent += 1;
            flying.push((false, trip));
        }
        while flying.len() > rng.below(12) {
            let at = rng.below(flying.len());
            if rng.below(2) == 0 {
                let (answered, trip) = &mut flying[at];
                *answered = true;
                trip.answered(1, now);
                continue;
            }
            let (answered, mut trip) = flying.swap_remove(at);
            match rng.below(6) {
                0 if !answered => trip.fail(1, FailureKind::InvalidRequest.into(), false, now),
                1 => {
                    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let _trip = trip;
                        crate::support::scripted_panic();
                    }));
                    assert!(panicked.is_err());
                }
                2 => drop(trip),
                _ => {
                    trip.answered(1, now);
                    trip.finish(now);
                }
            }
        }
        let (prefill, total) = books(&router);
        assert!(prefill <= 1_000 && total <= 4_000, "{prefill} {total}");
    }
    drop(flying);
    assert!(sent > 5_000 && full.iter().all(|full| *full > 100), "{sent} {full:?}");
    assert_eq!((books(&router), router.total_in_flight()), ((0, 0), 0));
}

/// Callers of all sizes who wait, give up and are answered: all who are patient are served, and by what the callers saw
/// themselves no backend ever had more than it takes.
#[test]
fn a_crowd_of_all_sizes_is_served_and_never_too_much_at_once() {
    let world = World::new();
    let bounded = |id| Profile::new(id).concurrency(8).max_prefill_tokens(1_000).max_total_tokens(2_000);
    let router = fleet(&world, by_load(), ["a", "b"].map(bounded));
    let (mut rng, mut calls, origin) = (Rng::new(9), Vec::new(), world.now());
    for _ in 0..2_000 {
        let (prompt, output, lasts) = (1 + rng.below(999) as u64, rng.below(1_000) as u64, ms(rng.below(200) as u64));
        let patience = if rng.below(2) == 0 { ms(200) } else { secs(3_000) };
        let answer = call(&world, &router, tokens(prompt, output), lasts, patience);
        calls.push((world.now() - origin, prompt, output, lasts, patience, answer));
        world.run_for(ms(rng.below(20) as u64));
    }
    world.run();
    // When tokens of prompts and of all are taken, and given back.
    let mut moves = Vec::new();
    let (mut served, mut gave_up) = (0, 0);
    for (came, prompt, output, lasts, patience, answer) in calls {
        let (prompt, all) = (i64::try_from(prompt).unwrap(), i64::try_from(prompt + output).unwrap());
        match answer.take() {
            Ok((backend, took)) => {
                served += 1;
                let answered = came + took;
                moves.push((answered - ms(10), backend.clone(), prompt, all));
                moves.push((answered, backend.clone(), -prompt, 0));
                moves.push((answered + lasts, backend, 0, -all));
            }
            Err(RouteErrorKind::DeadlineExceeded | RouteErrorKind::TooLate) if patience < secs(1) => gave_up += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(served > 1_200 && gave_up > 100, "{served} {gave_up}");
    // Of what happens in one moment, what is given back comes first.
    moves.sort_by_key(|(at, _, prompt, all)| (*at, prompt + all));
    for id in ["a", "b"] {
        let (mut prefill, mut total, mut most) = (0, 0, (0, 0));
        for (at, _, prompt, all) in moves.iter().filter(|(_, backend, ..)| backend == id) {
            (prefill, total) = (prefill + prompt, total + all);
            most = most.max((prefill, total));
            assert!(prefill <= 1_000 && total <= 2_000, "{prefill} {total} at {id} after {at:?}");
        }
        assert!(most.0 > 900 && (prefill, total) == (0, 0), "{most:?}");
    }
    assert_eq!((books(&router), router.total_in_flight(), router.waiting()), ((0, 0), 0, 0));
}
