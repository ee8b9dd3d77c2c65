//! Probes: one at a time, on real threads too; late results; clocks and numbers at their edges.

use super::{Scene, answers, named};
use crate::support::{ANSWER, Act, Cue, Script, fail, in_turn, ms, secs, within};
use fallway::FailureKind::{Overloaded, RateLimited, ServerError};
use fallway::backend::{BackendError, backend_fn};
use fallway::decision::Reason;
use fallway::event::Cause;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::sim::Clock;
use fallway::time::Instant;
use fallway::{Profile, Router};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

#[test]
fn of_a_thousand_calls_at_the_end_of_the_open_time_one_is_admitted() {
    // On real threads. The probe is under way until all others were served elsewhere.
    const THREADS: u32 = 1_000;
    let (clock, probes, served) = (Clock::new(), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (calls, done) = (probes.clone(), served.clone());
    let ill = backend_fn(move |_: &str, _: &_| {
        let (call, calls, done) = (calls.fetch_add(1, Ordering::SeqCst), calls.clone(), done.clone());
        async move {
            if call == 0 {
                return Err(BackendError::new(Overloaded));
            }
            while done.load(Ordering::SeqCst) < THREADS && calls.load(Ordering::SeqCst) == 2 {
                std::thread::yield_now();
            }
            Ok(())
        }
    });
    let done = served.clone();
    let well = backend_fn(move |_: &str, _: &_| {
        done.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, BackendError>(()) }
    });
    let router = Router::builder(ordered().fail_safe(FailSafe::default()))
        .timer(clock.clone())
        .backend(Profile::new("a"), ill)
        .backend(Profile::new("b"), well)
        .build()
        .unwrap();
    let call = || drop(futures::executor::block_on(router.call("ask", within(secs(60)))).unwrap());
    call();
    clock.advance(secs(20));
    let start = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                call();
            });
        }
    });
    let [probes, served] = [probes, served].map(|count| count.load(Ordering::SeqCst));
    assert_eq!((probes, served), (2, THREADS), "the failure and one probe; everybody else elsewhere");
}

#[test]
fn a_late_result_of_the_generation_before_changes_nothing() {
    // Two calls are on their way when five others fail: what comes of them decides nothing, good or bad.
    for late in [Act::Answer(secs(2)), Act::Fail(ServerError, secs(2)), Act::Fail(Overloaded, secs(2))] {
        let acts = [late.clone(), late.clone()].into_iter().chain(std::iter::repeat_n(fail(ServerError), 5));
        let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
        let calls = [(); 4].map(|()| scene.world.spawn_call(&scene.router, within(secs(60))));
        scene.world.settle();
        while scene.backends[0].calls() < 7 {
            let call = scene.world.spawn_call(&scene.router, within(secs(60)));
            scene.world.run_for(ms(10));
            drop(call.take().unwrap());
        }
        let before = (scene.out(), scene.turns.all());
        assert_eq!((before.0.len(), before.1.len()), (1, 1), "{before:?}");
        assert_eq!(before.1[0].cause, Cause::Streak { failures: 5 });
        scene.world.run();
        assert!(calls.into_iter().all(|call| call.take().is_ok()));
        assert_eq!(before.1, scene.turns.all(), "{late:?}");
        assert_eq!(before.0[0].1.returns_at(), scene.out()[0].1.returns_at());
    }
}

#[test]
fn a_clock_that_jumps_neither_panics_nor_frees_anybody_early() {
    for jump in [0u64, 1, 999_999_999_999, 1 << 40, 1 << 62, u64::MAX - 1, u64::MAX] {
        let acts = std::iter::repeat_n(fail(ServerError), 5).chain([ANSWER]);
        let scene = Scene::new(Ejection::default(), [(named("a"), in_turn(acts)), (named("b"), answers(1))]);
        scene.ask(12);
        let out = scene.out();
        let [(_, Reason::Ejected { until, .. })] = out[..] else { panic!("{out:?}") };
        for at in [jump, 0, jump / 2, u64::MAX, jump] {
            scene.world.timer().set(Instant::from_nanos(at));
            let due = scene.names_out().is_empty();
            assert_eq!(due, Instant::from_nanos(at) >= until, "at {at}");
            assert!(!scene.router.explain(&within(ms(1))).to_string().is_empty());
        }
    }
}

#[test]
fn who_is_gone_before_it_could_answer_is_no_probe() {
    let script = |cue: &Cue<'_>| match cue.call {
        30 => Act::Hint(RateLimited, ms(1), secs(1)),
        _ => Act::Answer(ms(100)),
    };
    let scene = Scene::new(Ejection::default(), [(named("a"), Box::new(script) as Script)]);
    scene.ask(30);
    drop(scene.world.call(&scene.router, within(ms(500))));
    scene.world.run_for(secs(3));
    // It is to be tried again, and answers in 100 ms.
    let error = scene.world.call(&scene.router, within(ms(20))).unwrap_err();
    let why: Vec<_> = error.decision().candidates().filter_map(|it| it.rejected()).collect();
    assert!(matches!(why[..], [Reason::MissesDeadline { left: 20_000_000, .. }]), "{}", error.decision());
    assert_eq!(scene.backends[0].calls(), 31);
    // Nobody lost anything by that.
    assert!(scene.world.call(&scene.router, within(ms(500))).is_ok());
}
