//! What refills of a quota goes to the first in the queue, as what calls give back does.

use super::fleet;
use crate::support::{ANSWER, Act, Cue, Log, Script, Task, TestRouter, Told, World, always, guard, ms, secs, tokens};
use fallway::backend::FailureKind;
use fallway::decision::Reason;
use fallway::facts::{Price, Priority};
use fallway::policy::{Capacity, FailSafe, PolicyExt, ordered};
use fallway::shape::SpendLimit;
use fallway::time::{Instant, Timer};
use fallway::{CallOptions, Facts, Profile};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// When a request of these facts was answered, from now on; `None` where it was refused.
fn ask(world: &World, router: &TestRouter, facts: Facts, within: Duration) -> Task<Option<Instant>> {
    let (router, timer) = (router.clone(), world.timer().clone());
    let options = CallOptions::within(within).facts(facts);
    world.spawn(async move { router.call("ask", options).await.ok().map(|_| timer.now()) })
}

/// In which order they were answered, by their numbers.
fn order<const N: usize>(calls: [Task<Option<Instant>>; N]) -> Vec<usize> {
    let mut ends: Vec<_> = calls.into_iter().map(|call| call.take().expect("it is answered")).zip(0..).collect();
    ends.sort_unstable();
    ends.into_iter().map(|(_, number)| number).collect()
}

fn level(priority: Priority) -> Facts {
    tokens(10, 10).priority(priority)
}

#[test]
fn the_highest_priority_first_and_then_the_earliest_deadline() {
    let world = World::new();
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let (router, [_]) = fleet(&world, [(profile, always(ANSWER))]);
    let calls = [
        (Priority::Standard, 60),
        (Priority::Batch, 50),
        (Priority::Standard, 59),
        (Priority::Critical, 58),
        (Priority::Standard, 57),
        (Priority::Critical, 56),
    ]
    .map(|(priority, within)| {
        let call = ask(&world, &router, level(priority), secs(within));
        world.run_for(ms(1));
        call
    });
    world.run();
    // The first found the bucket full.
    assert_eq!(order(calls), [0, 5, 3, 4, 2, 1]);
}

#[test]
fn tenants_in_turn() {
    let world = World::new();
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let (router, [_]) = fleet(&world, [(profile, always(ANSWER))]);
    let calls =
        ["a", "a", "a", "a", "b", "b"].map(|tenant| ask(&world, &router, tokens(10, 10).tenant(tenant), secs(60)));
    world.run();
    assert_eq!(order(calls), [0, 1, 4, 2, 5, 3]);
}

#[test]
fn one_decision_for_each_that_starts_and_no_more() {
    // A hundred wait for a request a second.
    let (world, log) = (World::new(), Log::default());
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(200)).observer(log.clone());
    let (router, [_]) = world.fleet(builder, [(profile, always(ANSWER))]);
    let calls: Vec<_> = (0..101).map(|_| ask(&world, &router, tokens(10, 10), secs(200))).collect();
    world.run_for(ms(500));
    let decisions = || log.count(|told| matches!(told, Told::Decided(_)));
    let before = decisions();
    world.run();
    assert!(calls.into_iter().all(|call| call.take().is_some()));
    assert!(decisions() - before <= 200, "{} decisions for 100 requests", decisions() - before);
}

#[test]
fn nobody_is_woken_in_vain_for_long() {
    // Two hundred wait for a request a second: each is told of its turn, and looks by itself now and then, ever more rarely.
    let (world, polls) = (World::new(), Rc::new(Cell::new(0)));
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(300));
    let (router, [_]) = world.fleet(builder, [(profile, always(ANSWER))]);
    let calls: Vec<_> = (0..201)
        .map(|_| {
            let (router, polls) = (router.clone(), polls.clone());
            world.spawn(async move {
                let mut call = pin!(router.call("ask", CallOptions::within(secs(300)).facts(tokens(10, 10))));
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    call.as_mut().poll(cx)
                })
                .await
                .is_ok()
            })
        })
        .collect();
    world.run();
    assert!(calls.into_iter().all(Task::take));
    // One for each, and twenty thousand, if everybody looked whenever there is enough for one.
    assert!(polls.get() <= 200 * 14, "{} polls", polls.get());
}

#[test]
fn who_is_never_polled_again_holds_up_nobody_for_long() {
    let world = World::new();
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(300));
    let (router, [a]) = world.fleet(builder, [(profile, always(ANSWER))]);
    let (start, first) = (world.now(), ask(&world, &router, tokens(10, 10), secs(300)));
    world.settle();
    // What refills is kept for this one.
    let mut stuck = pin!(router.call("ask", CallOptions::within(secs(60)).facts(tokens(10, 10))));
    assert!(stuck.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let others = [(); 3].map(|()| ask(&world, &router, tokens(10, 10), secs(300)));
    world.run();
    assert!(first.take().is_some());
    let ends = others.map(|other| other.take().expect("it is answered") - start);
    assert!(ends.iter().all(|end| *end < secs(5)), "{ends:?}");
    assert_eq!(a.calls(), 4);
}

#[test]
fn who_is_never_polled_again_holds_up_nobody_who_waited_for_a_slot() {
    let world = World::new();
    let profile = Profile::new("a").concurrency(2).tokens_per_minute(6_000).token_burst(300);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(300));
    let takes = |cue: &Cue<'_>| Act::Answer(if cue.call < 2 { ms(200) } else { ms(1) });
    let (router, [a]) = world.fleet(builder, [(profile, Box::new(takes))]);
    let start = world.now();
    let _two = [(); 2].map(|()| ask(&world, &router, tokens(50, 50), secs(300)));
    world.settle();
    // They have found no slot; when there is one for the second, the first has used up the quota.
    let first = ask(&world, &router, tokens(50, 50), secs(300));
    let waits = ask(&world, &router, tokens(50, 50), secs(300));
    world.run_for(ms(500));
    let facts = tokens(200, 50).priority(Priority::Critical);
    // What refills is kept for this one.
    let mut stuck = pin!(router.call("ask", CallOptions::within(secs(60)).facts(facts)));
    assert!(stuck.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    world.run();
    let ends = [first, waits].map(|it| it.take().expect("it is answered") - start);
    assert!(ends[0] == ms(201) && ends[1] < secs(5), "{ends:?}");
    assert_eq!(a.calls(), 4);
}

#[test]
fn the_large_are_not_overtaken() {
    // A thousand tokens at once, ten in 600 ms.
    let world = World::new();
    let profile = Profile::new("a").tokens_per_minute(1_000);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(200));
    let (router, [_]) = world.fleet(builder, [(profile, always(ANSWER))]);
    let small = |priority| tokens(10, 10).priority(priority);
    let (start, _all) = (world.now(), ask(&world, &router, tokens(500, 500), secs(5)));
    world.settle();
    let large = ask(&world, &router, tokens(300, 300), secs(60));
    world.run_for(ms(1));
    // Those that are there, and those that come, for all the time; but whoever matters more.
    let mut others = Vec::new();
    let mut critical = None;
    for second in 0..30 {
        others.push(ask(&world, &router, small(Priority::Standard), secs(200)));
        others.push(ask(&world, &router, small(Priority::Batch), secs(200)));
        if second == 10 {
            critical = Some(ask(&world, &router, small(Priority::Critical), secs(200)));
        }
        world.run_for(secs(1));
    }
    world.run();
    let large = large.take().expect("it is answered");
    let critical = critical.and_then(Task::take).expect("it is answered");
    assert!(critical < large, "{critical:?} {large:?}");
    // 620 tokens with the critical one's.
    assert!(large - start < secs(40), "{large:?}");
    assert!(others.into_iter().all(|other| other.take().is_some_and(|end| end > large)));
}

#[test]
fn what_one_that_left_was_given_goes_to_the_next() {
    let world = World::new();
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let (router, [a]) = fleet(&world, [(profile, always(ANSWER))]);
    let first = ask(&world, &router, tokens(10, 10), secs(60));
    world.settle();
    // The first in line has no more time before its turn comes; then it is the second's.
    let gone = ask(&world, &router, tokens(10, 10), ms(950));
    let calls = [(); 2].map(|()| ask(&world, &router, tokens(10, 10), secs(60)));
    world.run_for(ms(1_100));
    assert!(gone.take().is_none() && a.calls() == 2);
    world.run();
    assert!(first.take().is_some() && calls.into_iter().all(|call| call.take().is_some()));
    assert_eq!((a.calls(), router.waiting()), (3, 0));
}

/// When others end who stand behind one for which a quota is kept, and which has no money for that backend any more. `rests`: it
/// is told when another backend returns, and decides again then; otherwise it is called for what is kept.
fn behind_one_without_money(rests: bool) -> [Option<Duration>; 3] {
    let world = World::new();
    let limit = SpendLimit::new("tenant", 0.01, secs(1_000_000_000)).by_tenant().burst(0.005);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(300)).spend_limit(limit);
    let price = |dollars| Price::per_million(dollars, dollars).unwrap();
    // A request costs 0.4 cents at `b` and `d` at most, hardly anything at `a`, and 0.2 cents at `c`, which is of another model.
    let a = Profile::new("a").model("m").concurrency(1).price(price(0.01));
    let b = Profile::new("b").model("m").concurrency(1).requests_per_minute(20).request_burst(1).price(price(2.0));
    let c = Profile::new("c").model("n").price(price(1.0));
    let d = Profile::new("d").model("m").only_tenants(["h"]).price(price(2.0));
    let [of_a, of_b, of_c] = [secs(60), ms(20), secs(100)].map(|time| always(Act::Answer(time)));
    let of_d = always(Act::Hint(FailureKind::RateLimited, ms(1), ms(500)));
    let (router, [_, b, _, d]) = world.fleet(builder, [(a, of_a), (b, of_b), (c, of_c), (d, of_d)]);
    let call = |model: &str, tenant: &str, priority, within| {
        let facts =
            Facts::model(model).tenant(tenant).prompt_tokens(1_000).output_tokens(1_000).max_output_tokens(1_000);
        let task = ask(&world, &router, facts.replay_safe().priority(priority), within);
        world.settle();
        task
    };
    let _busy = ["x", "y"].map(|tenant| call("m", tenant, Priority::Standard, secs(300)));
    let _told = call("m", "h", Priority::Standard, ms(5));
    world.run_for(ms(10));
    assert_eq!((b.calls(), d.calls()), (1, 1));
    if !rests {
        router.update(|update| update.drain("d")).expect("it is there");
    }
    let _first = call("m", "h", Priority::Critical, secs(200));
    let others = ["v", "w", "z"].map(|tenant| call("m", tenant, Priority::Standard, secs(100)));
    world.run_for(ms(100));
    let _spends = call("n", "h", Priority::Standard, secs(300));
    let start = world.now();
    world.run();
    others.map(|other| other.take().map(|end| end - start))
}

#[test]
fn what_is_kept_for_one_that_looks_elsewhere_is_for_the_next() {
    for rests in [false, true] {
        let ends = behind_one_without_money(rests);
        assert!(ends.iter().all(|end| end.is_some_and(|end| end < secs(15))), "rests: {rests}, {ends:?}");
    }
}

/// When a large request of the highest priority is answered that waits for a quota, and then for tokens in flight.
fn large_among_small(quota: bool) -> Duration {
    let world = World::new();
    let profile = Profile::new("a").max_total_tokens(1_000);
    let profile = if quota { profile.requests_per_minute(60).request_burst(1) } else { profile };
    let builder = world.router(ordered().fail_safe(FailSafe::default())).longest_wait(secs(200));
    let (router, [_]) = world.fleet(builder, [(profile, always(Act::Answer(secs(5))))]);
    let call = |count, priority| {
        let facts = tokens(count, count).max_output_tokens(count).priority(priority);
        let task = ask(&world, &router, facts, secs(200));
        world.run_for(ms(1));
        task
    };
    let start = world.now();
    let _busy = [call(100, Priority::Standard), call(300, Priority::Critical)];
    let large = call(350, Priority::Critical);
    for _ in 0..60 {
        drop(call(100, Priority::Batch));
        world.run_for(secs(1));
    }
    world.run();
    large.take().expect("it is answered") - start
}

#[test]
fn who_waited_for_a_quota_has_its_turn_for_tokens() {
    let (without, with) = (large_among_small(false), large_among_small(true));
    assert!(with < without + secs(5), "{with:?} with a quota, {without:?} without");
}

/// Two of the lowest priority at a backend of which the last slot is for others; the quota has enough for the small one.
#[test]
fn two_that_lack_room_and_a_quota_do_not_ask_without_end() {
    for sizes in [[1_000, 100], [100, 1_000]] {
        let world = World::new();
        let policy = ordered().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
        let a = Profile::new("a").concurrency(2).tokens_per_minute(6_000);
        let of_a: Script = Box::new(|cue| Act::Answer(if cue.call == 0 { secs(10) } else { secs(1) }));
        let of_b = always(Act::Answer(secs(100)));
        let backends = [(a, of_a), (Profile::new("b").concurrency(1), of_b)];
        let (router, [_, _]) = world.fleet(world.router(policy).longest_wait(secs(100)), backends);
        let call = |count, tenant, priority| {
            let facts = tokens(count, count).max_output_tokens(count).tenant(tenant).priority(priority);
            let task = ask(&world, &router, facts, secs(60));
            world.settle();
            task
        };
        let _busy = [2_000, 700, 10].map(|count| call(count, "x", Priority::Standard));
        let waiting = [("t", sizes[0]), ("u", sizes[1])].map(|(tenant, count)| call(count, tenant, Priority::Batch));
        world.run();
        assert!(waiting.into_iter().all(|call| call.take().is_some()), "{sizes:?}");
    }
}

/// A host may keep quotas that the router is not told of.
#[test]
fn a_policy_that_says_when_its_own_quota_returns_is_asked_then() {
    let world = World::new();
    let until = world.now() + secs(1);
    let policy = guard(ordered(), move |cx, candidate| {
        if cx.now() < until {
            candidate.reject(Reason::OverQuota { until });
        }
    });
    let builder = world.router(policy.fail_safe(FailSafe::default()));
    let (router, [_]) = world.fleet(builder, [(Profile::new("a"), always(ANSWER))]);
    let call = ask(&world, &router, tokens(10, 10), secs(10));
    world.run();
    let end = call.take().expect("it is answered");
    assert!(end >= until && end < until + secs(1), "{end:?}");
}
