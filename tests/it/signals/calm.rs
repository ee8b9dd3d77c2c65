//! In good times a decision asks no signal about each backend; and whenever there is something to say, it does.

use super::{ended, heard};
use crate::support::{ms, plain, secs};
use fallway::CallOptions;
use fallway::backend::{BackendError, BackendId, FailureKind};
use fallway::decision::Reason;
use fallway::event::Event;
use fallway::rng::Rng;
use fallway::signal::{
    HealthSignal, HealthSignalExt, LoadReport, LoadReports, Manual, Probes, Probing, Quorum, Reading, Scope, Score,
    SuccessRate,
};
use fallway::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts how often it is read.
#[derive(Debug)]
struct Spy<S>(S, AtomicU64);

impl<S: HealthSignal> HealthSignal for Spy<S> {
    fn name(&self) -> &'static str {
        "spy"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read(backend, now)
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        self.0.observe(event, now);
    }

    fn covers(&self, backend: BackendId) -> bool {
        self.0.covers(backend)
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.0.is_calm(now)
    }
}

#[test]
fn in_good_times_nobody_is_asked_and_in_bad_ones_only_who_has_something_to_say() {
    let (rate, probes) = (Arc::new(SuccessRate::default()), Arc::new(Probes::new(Probing::default()).unwrap()));
    let spies = [
        Arc::new(Spy(rate.clone().shared(), AtomicU64::new(0))),
        Arc::new(Spy(probes.clone().shared(), AtomicU64::new(0))),
    ];
    let (world, router, _) = heard(spies.clone().map(|spy| spy as Arc<dyn HealthSignal>));
    let reads = || {
        let before = spies.each_ref().map(|spy| spy.1.load(Ordering::Relaxed));
        let decision = router.explain(&CallOptions::new(plain()));
        let after = spies.each_ref().map(|spy| spy.1.load(Ordering::Relaxed));
        ([after[0] - before[0], after[1] - before[1]], decision.chosen().unwrap().name().to_owned())
    };
    let ids = ["a", "b", "c"].map(|name| router.backend_id(name).unwrap());
    // Nothing is known, and the prober should know. So all are asked whether anybody praises it, or a peer.
    assert_eq!(reads().0, [6, 6]);
    ids.into_iter().for_each(|id| probes.report(id, Ok(()), world.now()));
    assert_eq!(reads(), ([0, 0], "a".to_owned()));
    (0..3).for_each(|_| ended(&rate, ids[0], Some(FailureKind::ServerError), world.now()));
    assert_eq!(reads(), ([3, 0], "b".to_owned()));
    ended(&rate, ids[0], None, world.now());
    ended(&rate, ids[0], None, world.now());
    assert_eq!(reads(), ([0, 0], "a".to_owned()));
    // Verdicts that are too old end the calm by themselves.
    world.run_for(secs(13));
    assert_eq!(reads().0, [0, 0]);
    world.run_for(secs(2));
    assert!(reads().0[1] > 0);
    // One silent, and praised by a signal that is calm.
    ids[1..].iter().for_each(|id| probes.report(*id, Ok(()), world.now()));
    let decision = router.explain(&CallOptions::new(plain()));
    let chosen = decision.chosen().unwrap();
    assert!(
        matches!((chosen.name(), chosen.note()), ("a", Some(Reason::PartlyUnproven { signal: 1, .. }))),
        "{decision}"
    );
}

/// Whether a signal has something to say, by asking about each backend.
fn has_something_to_say(signal: &dyn HealthSignal, ids: &[BackendId], now: Instant) -> bool {
    ids.iter().any(|id| match signal.read(*id, now) {
        Reading::Fresh { value, .. } => !value.is_healthy(),
        Reading::Stale { .. } | Reading::Missing => signal.covers(*id),
    })
}

#[test]
fn who_is_calm_has_nothing_to_say_whatever_happened() {
    let (rate, reports, manual) =
        (Arc::new(SuccessRate::over(secs(20)).unwrap()), Arc::new(LoadReports::default()), Arc::new(Manual::default()));
    let probes = || Arc::new(Probes::new(Probing::default().unhealthy_after(2)).unwrap());
    let (probes, others) = (probes(), probes());
    let score = Score::from_permille;
    let signals: [Arc<dyn HealthSignal>; 8] = [
        rate.clone(),
        reports.clone(),
        manual.clone(),
        probes.clone(),
        rate.clone().worst_of(probes.clone()).worst_of(reports.clone()).shared(),
        Arc::new(rate.clone().hysteresis(score(300), score(700)).unwrap()),
        Arc::new(Quorum::of(2, [probes.clone().shared(), others.clone().shared(), rate.clone().shared()]).unwrap()),
        Arc::new(probes.clone().fresh_for(secs(3))),
    ];
    let (world, router, _) = heard(signals.clone());
    let ids = ["a", "b", "c"].map(|name| router.backend_id(name).unwrap());
    let (mut rng, mut calm, mut tight) = (Rng::new(3), [0u32; 8], [0u32; 8]);
    for round in 0..20_000 {
        // Good times and bad ones take turns.
        let fails = rng.below(100) < if round / 500 % 2 == 0 { 2 } else { 60 };
        let (id, now) = (ids[rng.below(3)], world.now());
        let error = BackendError::new([FailureKind::ServerError, FailureKind::Unauthorized][rng.below(2)]);
        match rng.below(10) {
            0..3 => ended(&rate, id, fails.then_some(error.kind()), now),
            3..6 => probes.report(id, if fails { Err(&error) } else { Ok(()) }, now),
            6 => others.report(id, if fails { Err(&error) } else { Ok(()) }, now),
            7 => {
                let full = if fails { "0.99" } else { "0.3" };
                reports.report(id, LoadReport::from_vllm(format!("vllm:kv_cache_usage_perc {full}")), now);
            }
            8 if rng.below(20) == 0 => {
                manual.say(Scope::Backend("b".into()), score(rng.below(1000) as u16), now, secs(5));
            }
            _ => drop(world.call(&router, CallOptions::new(plain()))),
        }
        let pause = if rng.below(200) == 0 { secs(rng.below(40) as u64) } else { ms(rng.below(400) as u64) };
        world.run_for(pause);
        let now = world.now();
        for (index, signal) in signals.iter().enumerate() {
            let something = has_something_to_say(&**signal, &ids, now);
            let is_calm = signal.is_calm(now);
            assert!(!(is_calm && something), "round {round}: {signal:?} is calm and has something to say");
            calm[index] += u32::from(is_calm);
            tight[index] += u32::from(!something);
        }
    }
    // And it is no empty promise: where there is nothing to say they mostly know it.
    for index in [0, 1, 2, 3, 4, 5] {
        assert!(calm[index] * 10 > tight[index] * 7 && tight[index] > 1_000, "{index}: {calm:?} of {tight:?}");
    }
    assert_eq!(calm[7], 0);
}

#[test]
fn no_alarm_is_lost_between_threads() {
    let rate = Arc::new(SuccessRate::default());
    let (world, router, _) = heard([rate.clone() as Arc<dyn HealthSignal>]);
    let ids = ["a", "b", "c"].map(|name| router.backend_id(name).unwrap());
    for round in 0..200u64 {
        let now = world.now() + secs(200 * (round + 1));
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let (rate, ids) = (&rate, &ids);
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 3 + thread);
                    for _ in 0..200 {
                        let failure = (rng.below(2) == 0).then_some(FailureKind::ServerError);
                        ended(rate, ids[rng.below(3)], failure, now);
                    }
                });
            }
        });
        let ill =
            ids.iter().any(|id| matches!(rate.read(*id, now), Reading::Fresh { value, .. } if !value.is_healthy()));
        assert!(!(ill && rate.is_calm(now)), "round {round}");
    }
}
