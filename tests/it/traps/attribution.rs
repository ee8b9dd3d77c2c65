//! Failure attribution.

use crate::support::{
    ANSWER, Act, Cue, Load, Log, Script, Step, Told, World, always, fail, ms, ok_share, secs, within,
};
use fallway::FailureKind::{self, InvalidRequest, QuotaExhausted, ServerError, Truncated};
use fallway::backend::{BackendError, BackendId, Cools, Fault};
use fallway::event::{Event, Outcome};
use fallway::policy::{FailSafe, PolicyExt, ordered, predicted_ttft};
use fallway::signal::{HealthSignal, Reading, Score};
use fallway::time::Instant;
use fallway::{CallOptions, Facts, Profile};
use futures::StreamExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

#[test]
fn a_callers_tiny_timeout_benches_nobody() {
    for warm in [false, true] {
        let (world, log) = (World::new(), Log::default());
        let members = ["a", "b"].map(|id| (Profile::new(id), always(Act::Answer(ms(200)))));
        let builder = world.router(predicted_ttft().fail_safe(FailSafe::default())).observer(log.clone());
        let (router, _) = world.fleet(builder, members);
        for _ in 0..(if warm { 20 } else { 0 }) {
            world.call(&router, within(secs(5))).unwrap();
        }
        let hasty = Load { per_second: 50, lasts: secs(4), seed: 1 }.spawn(&world, &router, &within(ms(5)));
        let patient = Load { per_second: 50, lasts: secs(4), seed: 2 }.spawn(&world, &router, &within(secs(5)));
        world.run();
        let hasty: Vec<_> = hasty.into_iter().map(crate::support::Task::take).collect();
        let patient: Vec<_> = patient.into_iter().map(crate::support::Task::take).collect();
        assert_eq!((ok_share(&hasty), ok_share(&patient)), (0.0, 1.0), "warm: {warm}");
        assert_eq!(log.count(|told| matches!(told, Told::Left { .. })), 0, "warm: {warm}");
    }
}

/// How many backends left the rotation, of two whose streams pause so long, when callers come who wait for so long.
fn benched(pause: Duration, host: Duration, callers: Duration) -> usize {
    let (world, log) = (World::new(), Log::default());
    let drip = || always(Act::Stream(ms(20), vec![Step::Item, Step::Pause(pause), Step::Item]));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).idle_limit(host).observer(log.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), drip()), (Profile::new("b"), drip())]);
    for _ in 0..12 {
        let mut stream = world.stream(&router, within(secs(60)).idle_limit(callers)).unwrap();
        world.block_on(async move { while stream.next().await.is_some() {} });
    }
    let left = |name: &&str| log.count(|told| matches!(told, Told::Left { backend, .. } if backend == name)) > 0;
    ["a", "b"].into_iter().filter(left).count()
}

#[test]
fn a_callers_tiny_idle_limit_benches_nobody() {
    for callers in [Duration::ZERO, ms(1), ms(999)] {
        assert_eq!(benched(secs(5), secs(30), callers), 0, "{callers:?}");
    }
    // A second of silence is no matter of patience, and what the host says is its judgement.
    assert_eq!(benched(secs(5), secs(30), secs(1)), 2);
    assert_eq!(benched(secs(5), ms(100), ms(100)), 2);
}

#[test]
fn a_400_stays_the_callers_fault() {
    let (world, log) = (World::new(), Log::default());
    let members = ["a", "b"].map(|id| (Profile::new(id), always(fail(InvalidRequest))));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
    let (router, [a, b]) = world.fleet(builder, members);
    for _ in 0..100 {
        assert_eq!(world.call(&router, within(secs(5))).unwrap_err().attempts().len(), 1);
    }
    assert_eq!((a.calls(), b.calls()), (100, 0));
    assert_eq!(log.count(|told| matches!(told, Told::Left { .. })), 0);
    // What the provider writes beside a status does not change whose fault it is.
    let kind = |status| BackendError::from_http(status, |_| None, "some text of theirs", SystemTime::UNIX_EPOCH).kind();
    let own = [400, 405, 406, 409, 411, 415, 417, 421, 422, 426, 428, 431, 451];
    assert!(own.into_iter().all(|status| kind(status) == InvalidRequest));
    for status in 400..500 {
        let backends = kind(status).conduct().fault == Fault::Backend;
        assert_eq!(backends, [408, 425].contains(&status), "{status}");
    }
}

#[test]
fn no_failure_of_a_backend_is_exempt_from_cooling() {
    for kind in FailureKind::ALL.into_iter().filter(|kind| kind.conduct().cools != Cools::Nothing) {
        let world = World::new();
        let members = [
            (Profile::new("a").model("m"), always(Act::Fail(kind, ms(1)))),
            (Profile::new("b").model("m"), always(ANSWER)),
        ];
        let (router, [a, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
        let load = Load { per_second: 50, lasts: secs(8), seed: 1 };
        let options = CallOptions::within(secs(5)).facts(Facts::model("m").replay_safe());
        let answers = load.run(&world, &router, &options);
        assert_eq!(ok_share(&answers), 1.0, "{kind}");
        assert!((1..=8).contains(&a.calls()), "{kind}: {} of {} requests tried it", a.calls(), answers.len());
    }
}

#[test]
fn out_of_credit_cools_the_credential_for_five_minutes() {
    let world = World::new();
    let members = [
        (Profile::new("a").credential("x"), always(fail(QuotaExhausted))),
        (Profile::new("b").credential("x"), always(fail(QuotaExhausted))),
        (Profile::new("c"), always(ANSWER)),
    ];
    let (router, [a, b, _]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    for _ in 0..299 {
        world.call(&router, within(secs(5))).unwrap();
        world.run_for(secs(1) - ms(20));
    }
    assert_eq!((a.calls(), b.calls()), (1, 0));
    world.run_for(secs(2));
    world.call(&router, within(secs(5))).unwrap();
    assert_eq!((a.calls(), b.calls()), (2, 0));
}

/// A signal that keeps what it is told, without names and times.
#[derive(Clone, Debug, Default)]
struct Ear(Arc<Mutex<Vec<&'static str>>>);

impl HealthSignal for Ear {
    fn name(&self) -> &'static str {
        "ear"
    }

    fn read(&self, _: BackendId, now: Instant) -> Reading<Score> {
        Reading::Fresh { value: Score::WELL, at: now }
    }

    fn observe(&self, event: &Event<'_>, _: Instant) {
        let heard = match event {
            Event::Started { .. } => "started",
            Event::FirstItem { .. } => "first item",
            Event::Ended { outcome: Outcome::Success, .. } => "success",
            Event::Ended { outcome: Outcome::Failure(_), .. } => "failure",
            Event::Ended { outcome: Outcome::Cancelled | Outcome::Outrun, .. } => "cancelled",
            _ => return,
        };
        self.0.lock().unwrap().push(heard);
    }
}

/// What a signal hears of one request to a backend with this script.
fn heard(script: Script, reads: bool) -> Vec<&'static str> {
    let (world, ear) = (World::new(), Ear::default());
    let (router, _) = world.fleet(world.router(ordered()).signal(ear.clone()), [(Profile::new("a"), script)]);
    world.block_on(async move {
        if !reads {
            drop(router.call("ask", within(secs(5))).await);
        } else if let Ok(mut stream) = router.stream("ask", within(secs(5))).await {
            while stream.next().await.is_some() {}
        }
    });
    ear.0.lock().unwrap().clone()
}

#[test]
fn every_path_feeds_the_signals() {
    let stream = |last: Option<Step>| -> Script {
        let steps: Vec<_> = [Step::Item, Step::Pause(ms(5)), Step::Item].into_iter().chain(last).collect();
        Box::new(move |_: &Cue<'_>| Act::Stream(ms(5), steps.clone()))
    };
    let (answered, broke) = (["started", "first item", "success"], ["started", "first item", "failure"]);
    assert_eq!(heard(always(ANSWER), false), answered);
    assert_eq!(heard(stream(None), true), answered);
    assert_eq!(heard(stream(Some(Step::Break(Truncated))), true), broke);
    assert_eq!(heard(stream(Some(Step::Panic)), true), broke);
    assert_eq!(heard(always(Act::Fail(ServerError, Duration::ZERO)), false), ["started", "failure"]);
    assert_eq!(heard(always(Act::PanicInCall), false), ["started", "failure"]);
    assert_eq!(heard(always(Act::Hang), false), ["started", "failure"]);
}
