//! A slot that is handed to a request which has no use for it any more goes to the next, at that moment.

use super::fleet;
use crate::support::{ANSWER, Act, Reply, Task, World, always, in_turn, ms, plain, scripted_panic, secs, within};
use fallway::FailureKind::ServerError;
use fallway::budget::Backoff;
use fallway::decision::Reason;
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, ordered, policy_fn};
use fallway::router::{RouteErrorKind, Step, Trip};
use fallway::time::Timer;
use fallway::{CallOptions, Facts, Profile};
use futures::future::abortable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

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

#[test]
fn a_reason_of_its_own_speaks_for_nobody_else() {
    // Both wait for `a` and `b`. Meanwhile `a` is closed for the tenant that is first in line.
    let world = World::new();
    let closed = Arc::new(AtomicBool::new(false));
    let lock = closed.clone();
    let policy = policy_fn("a is closed for x", move |cx, slate| {
        if lock.load(Ordering::Relaxed) && cx.facts().request_tenant() == Some("x") {
            slate.each(|candidate| {
                if candidate.profile().id() == "a" {
                    candidate.reject(Reason::Forbidden { text: "closed" });
                }
            });
        }
    });
    let builder = world.router(policy.fail_safe(FailSafe::default()));
    let members = [("a", HUNDRED), ("b", Act::Answer(secs(1)))];
    let members = members.map(|(id, act)| (Profile::new(id).concurrency(1), always(act)));
    let (router, _) = world.fleet(builder, members);
    let ask = |tenant: &str| {
        let call = world.ask(&router, within(secs(5)).facts(plain().tenant(tenant)));
        world.settle();
        call
    };
    let [holders @ .., x, y] = ["y", "y", "x", "y"].map(ask);
    closed.store(true, Ordering::Relaxed);
    world.run();
    assert!(holders.map(Task::take).iter().all(|answer| answer.ok()));
    assert_eq!((y.take().took, x.take().took), (ms(200), secs(2)));
}

#[test]
fn who_sleeps_before_a_retry_is_handed_nothing() {
    // It fails on `b`, waits for `a` for half of its time, and then sleeps for up to ten seconds before it tries `b` again.
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["b", "a"]).backoff(Backoff::new(secs(10), secs(10)));
    let members = [
        (Profile::new("a").model("a").concurrency(1), in_turn([Act::Answer(secs(12)), HUNDRED])),
        (Profile::new("b").model("b"), in_turn([Act::Fail(ServerError, ms(10)), HUNDRED])),
    ];
    let (router, [a, b]) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let start = world.now();
    let model = |name: &str, time| CallOptions::within(time).facts(Facts::model(name).replay_safe());
    let hold = world.ask(&router, model("a", secs(20)));
    world.settle();
    let sleeps = world.ask(&router, model("chat", secs(20)));
    world.settle();
    let waits = world.ask(&router, model("a", secs(60)));
    world.run();
    assert_eq!((hold.take().took, a.seen()[1].at - start), (secs(12), secs(12)));
    assert_eq!(waits.take().took, secs(12) + ms(100));
    // It did sleep beyond that moment.
    assert!(b.seen()[1].at - start > secs(12) && sleeps.take().ok());
}

/// An executor that is broken.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        scripted_panic();
    }
}

fn is_called(trip: &mut Trip<'_, str, Reply>, waker: &Waker) -> bool {
    trip.poll_called(&mut Context::from_waker(waker)) == Poll::Ready(())
}

#[test]
fn who_can_not_be_woken_is_no_loss_for_others() {
    let world = World::new();
    let one = |id| (Profile::new(id).concurrency(1), always(ANSWER));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).queue(3);
    let (router, _) = world.fleet(builder, [one("a")]);
    let (now, broken) = (world.now(), Waker::from(Arc::new(Broken)));
    let mut first = router.trip(within(secs(5)), now);
    assert!(matches!(first.next(now), Ok(Step::Call(_))));
    let counted = [(); 3].map(|()| Arc::new(Counted::default()));
    let wakers: [Waker; 3] = [broken.clone(), counted[1].clone().into(), counted[2].clone().into()];
    let mut waiting = [5, 6, 7].map(|total| router.trip(within(secs(total)), now));
    for (trip, waker) in waiting.iter_mut().zip(&wakers) {
        assert!(matches!(trip.next(now), Ok(Step::Wait { .. })) && !is_called(trip, waker));
    }
    let woken = || counted.each_ref().map(|counted| counted.0.load(Ordering::SeqCst));
    // All are called, the broken one first.
    router.update(|fleet| fleet.reprofile(Profile::new("a").concurrency(1).weight(2.0))).unwrap();
    assert_eq!(woken(), [0, 1, 1]);
    for (trip, waker) in waiting.iter_mut().zip(&wakers) {
        assert!(is_called(trip, waker) && matches!(trip.next(now), Ok(Step::Wait { .. })) && !is_called(trip, waker));
    }
    // One is called, and it is the broken one: it has the slot as soon as somebody looks after it.
    first.answered(1, now);
    first.finish(now);
    assert_eq!(woken(), [0, 1, 1]);
    let [mut held, second, third] = waiting;
    assert!(is_called(&mut held, &broken) && matches!(held.next(now), Ok(Step::Call(_))));
    // One is pushed out by who matters more.
    drop((second, third));
    let batch = || within(secs(9)).facts(plain().priority(Priority::Batch));
    let mut batches = [(); 3].map(|()| router.trip(batch(), now));
    for trip in &mut batches {
        assert!(matches!(trip.next(now), Ok(Step::Wait { .. })) && !is_called(trip, &broken));
    }
    let mut critical = router.trip(within(secs(5)).facts(plain().priority(Priority::Critical)), now);
    assert!(matches!(critical.next(now), Ok(Step::Wait { .. })));
    assert_eq!(
        batches.iter_mut().filter_map(|trip| is_called(trip, &broken).then(|| trip.next(now).is_err())).count(),
        1
    );
    drop((held, critical, batches));
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0));
}

#[derive(Default)]
struct Counted(AtomicU32);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
