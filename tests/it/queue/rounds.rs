//! A slot that is of no use to those who wait is left, not passed round among them.

use crate::support::{ANSWER, Act, Log, Task, Told, World, always, in_turn, ms, plain, secs, within};
use fallway::FailureKind::{Overloaded, RateLimited, ServerError};
use fallway::Profile;
use fallway::budget::RetryBudget;
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, Regions, ordered};
use fallway::recover::Ejection;

fn decisions(log: &Log) -> usize {
    log.count(|told| matches!(told, Told::Decided(_)))
}

#[test]
fn where_all_who_wait_have_failed() {
    // Two fail on `b` and wait for `a`. While one has the slot of `b` in hand, the other finds `b` full.
    let (world, log) = (World::new(), Log::default());
    let members = [
        (Profile::new("a").concurrency(1), always(Act::Answer(secs(1)))),
        (Profile::new("b").concurrency(1), always(Act::Fail(ServerError, ms(10)))),
    ];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let (router, [_, b]) = world.fleet(builder, members);
    let calls = [(); 3].map(|()| world.ask(&router, within(secs(5))));
    world.run_for(ms(100));
    assert!(decisions(&log) <= 15 && b.calls() == 2, "{} decisions", decisions(&log));
    world.run();
    assert_eq!(calls.map(|call| call.take().took), [secs(1), secs(2), secs(3)]);
}

#[test]
fn where_those_who_failed_are_the_first_in_line() {
    // Each fails on `b` and then waits for `a`. All of them came before those who still wait for `b`.
    let (world, log) = (World::new(), Log::default());
    let members = [
        (Profile::new("a").concurrency(1), always(Act::Answer(secs(20)))),
        (Profile::new("b").concurrency(1), always(Act::Fail(Overloaded, ms(10)))),
    ];
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let builder = builder.retry_budget(RetryBudget::unlimited()).ejection(Ejection::off());
    let (router, [_, b]) = world.fleet(builder, members);
    let calls: Vec<_> = (0..41).map(|_| world.ask(&router, within(secs(60)))).collect();
    world.settle();
    let before = decisions(&log);
    world.run_for(ms(500));
    // One to start at `b`, one that finds no other, one before it sleeps.
    let each = (decisions(&log) - before) as f64 / 40.0;
    assert!(b.calls() == 40 && each <= 3.0, "{each} decisions for each of {} calls", b.calls());
    drop(calls);
}

#[test]
fn where_a_slot_is_kept_for_others() {
    // The region takes 17 of 20 calls that are not critical, and is full of critical ones.
    let (world, log) = (World::new(), Log::default());
    let policy = ordered().region_failover(Regions::new("eu").headroom(0.85, 0.6)).fail_safe(FailSafe::default());
    let builder = world.router(policy).observer(log.clone());
    let long_ago = |n: u64| Act::Answer(ms(100) * n as u32);
    let script = in_turn((1..=20).map(long_ago));
    let (router, [a]) = world.fleet(builder, [(Profile::new("a").region("eu").concurrency(20), script)]);
    let level = |priority| within(secs(60)).facts(plain().priority(priority));
    let critical: Vec<_> = (0..20).map(|_| world.ask(&router, level(Priority::Critical))).collect();
    world.settle();
    let waiting: Vec<_> = (0..100).map(|_| world.ask(&router, level(Priority::Standard))).collect();
    world.settle();
    let before = decisions(&log);
    world.run_for(ms(350));
    // Three have ended, and one of those who wait has looked at each slot for all.
    assert_eq!((a.calls(), router.waiting()), (20, 100));
    assert!(decisions(&log) - before <= 6, "{} decisions", decisions(&log) - before);
    world.run_for(ms(100));
    assert_eq!((a.calls(), router.waiting()), (21, 99));
    drop((critical, waiting));
}

#[test]
fn where_all_who_wait_do_so_for_a_probe() {
    // No limit at all: what they wait for is whether the quota is back, and another call that ends does not say.
    let (world, log) = (World::new(), Log::default());
    let script = in_turn([Act::Answer(secs(3)), Act::Hint(RateLimited, ms(1), secs(1)), Act::Answer(secs(5)), ANSWER]);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let (router, [a]) = world.fleet(builder, [(Profile::new("a"), script)]);
    let long = world.ask(&router, within(secs(10)));
    world.settle();
    let throttled = world.ask(&router, within(ms(500)));
    world.run_for(secs(2));
    let probe = world.ask(&router, within(secs(10)));
    world.settle();
    let waiting = [(); 2].map(|()| world.ask(&router, within(secs(10))));
    world.run_for(secs(2));
    assert!(decisions(&log) <= 12 && a.calls() == 3, "{} decisions", decisions(&log));
    world.run();
    assert!(!throttled.take().ok() && [long, probe].map(Task::take).iter().all(|answer| answer.ok()));
    assert_eq!(waiting.map(|call| call.take().took), [secs(5) + ms(20); 2]);
}
