//! A slot that is of no use to those who wait is left, not passed round among them.

use crate::support::{ANSWER, Act, Log, Task, Told, World, always, in_turn, ms, secs, within};
use fallway::FailureKind::{RateLimited, ServerError};
use fallway::Profile;
use fallway::policy::{FailSafe, PolicyExt, ordered};

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
