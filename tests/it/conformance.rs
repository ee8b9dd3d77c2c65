//! Everything of this crate through the public conformance suites.

use crate::support::{ANSWER, Act, LEAVES, Opinion, Scripted, Step, always, fail, leaf, ms, secs};
use fallway::FailureKind;
use fallway::backend::{BackendError, BackendExt, BackendId, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, describe, policy_fn};
use fallway::signal::{
    HealthSignal, HealthSignalExt, LoadReports, Manual, Probes, Probing, Quorum, Reading, Score, SuccessRate,
};
use fallway::sim::{Executor, conformance};
use fallway::time::Instant;
use std::sync::Arc;

#[test]
fn every_kind_of_backend() {
    let scripted = |act: Act| move |executor: &Executor| Scripted::new(executor.clock(), "a", always(act.clone()));
    for act in
        [ANSWER, fail(FailureKind::ServerError), Act::Hang, Act::Panic(ms(1)), Act::PanicInCall, Act::PanicInDrop]
    {
        conformance::backend("ask", scripted(act));
    }
    let steps = vec![Step::Item, Step::Pause(ms(5)), Step::Item];
    let streams =
        move |executor: &Executor| Scripted::new(executor.clock(), "a", always(Act::Stream(ms(5), steps.clone())));
    conformance::backend("ask", streams);
    conformance::backend("ask", |executor| Arc::new(Scripted::new(executor.clock(), "a", always(ANSWER))));
    conformance::backend("ask", |executor| Box::new(Scripted::new(executor.clock(), "a", always(ANSWER))));
    conformance::backend("ask", |executor| {
        Scripted::new(executor.clock(), "a", always(ANSWER)).map_response(|reply| reply.backend().len())
    });
    conformance::backend("ask", |_| {
        backend_fn(|request: &str, _: &_| {
            let answer = request.len();
            async move { Ok::<_, BackendError>(answer) }
        })
    });
}

#[test]
fn every_leaf() {
    for name in LEAVES {
        conformance::policy(|| leaf(name));
    }
}

#[test]
fn every_leaf_in_fail_safe() {
    for name in LEAVES {
        conformance::policy(|| leaf(name).fail_safe(FailSafe::default()).boxed());
    }
}

#[test]
fn closures() {
    conformance::policy(|| {
        policy_fn("by_name", |_, slate| slate.rank(|candidate| candidate.id().slot() as u64)).boxed()
    });
    conformance::policy(|| policy_fn("silent", |_, _| ()).boxed());
}

#[test]
fn every_signal() {
    conformance::signal(|| Box::new(Opinion::default()));
    conformance::signal(|| Box::new(Opinion::default().fresh_for(secs(2))));
    conformance::signal(|| Box::new(Arc::new(Opinion::default())));
    conformance::signal(|| Box::new(Arc::new(Opinion::default()).fresh_for(secs(2)).fresh_for(secs(1))));
    conformance::signal(|| Box::new(SuccessRate::default()));
    conformance::signal(|| Box::new(SuccessRate::over(secs(1)).unwrap()));
    conformance::signal(|| Box::new(Probes::new(Probing::default()).unwrap()));
    conformance::signal(|| Box::new(LoadReports::default()));
    conformance::signal(|| Box::new(Manual::default()));
    let score = Score::from_permille;
    conformance::signal(|| Box::new(Opinion::default().worst_of(SuccessRate::default())));
    conformance::signal(move || Box::new(SuccessRate::default().hysteresis(score(400), score(700)).unwrap()));
    conformance::signal(|| {
        Box::new(Quorum::of(2, [Opinion::default().shared(), SuccessRate::default().shared()]).unwrap())
    });
}

#[test]
fn a_reading_ages_into_stale() {
    let (opinion, now) = (Opinion::default(), Instant::from_nanos(1_000_000_000_000));
    opinion.fresh(0, 900, now);
    let signal = opinion.fresh_for(secs(2));
    let value = Score::from_permille(900);
    assert_eq!(signal.read(BackendId::new(0, 0), now + secs(2)), Reading::Fresh { value, at: now });
    assert_eq!(signal.read(BackendId::new(0, 0), now + ms(2001)), Reading::Stale { value, at: now });
    assert_eq!(signal.read(BackendId::new(1, 0), now), Reading::Missing);
}

#[test]
fn pointers_are_what_they_point_to() {
    for name in LEAVES {
        let make = || leaf(name);
        let through: [Box<dyn RoutingPolicy>; 3] = [make().boxed(), Box::new(Arc::new(make())), make().boxed().boxed()];
        for policy in through {
            assert_eq!((describe(&policy), policy.window()), (describe(&make()), make().window()));
        }
    }
}

#[test]
#[should_panic(expected = "it does not replay")]
fn a_policy_that_remembers_is_found_out() {
    conformance::policy(|| {
        let count = std::sync::atomic::AtomicU64::new(0);
        policy_fn("moody", move |_, slate| {
            let turn = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            slate.rank(|candidate| (candidate.id().slot() as u64 + turn) % 3);
        })
        .boxed()
    });
}

#[test]
#[should_panic(expected = "it still sleeps")]
fn a_backend_that_leaves_something_behind_is_found_out() {
    conformance::backend("ask", |executor| {
        let clock = executor.clock().clone();
        backend_fn(move |_: &str, _: &_| {
            // A sleep that outlives the call.
            let mut sleep = clock.sleep(secs(60));
            let _ = futures::FutureExt::now_or_never(&mut sleep);
            std::mem::forget(sleep);
            async { Ok::<_, BackendError>(()) }
        })
    });
}

#[test]
#[should_panic(expected = "a backend that nobody spoke of")]
fn a_signal_that_knows_everybody_is_found_out() {
    #[derive(Debug)]
    struct Optimist;
    impl HealthSignal for Optimist {
        fn name(&self) -> &'static str {
            "optimist"
        }
        fn read(&self, _: BackendId, now: Instant) -> Reading<Score> {
            Reading::Fresh { value: Score::WELL, at: now }
        }
        fn observe(&self, _: &fallway::event::Event<'_>, _: Instant) {}
    }
    conformance::signal(|| Box::new(Optimist));
}
