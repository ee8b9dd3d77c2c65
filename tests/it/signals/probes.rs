//! Active checks, in virtual time.

use super::fresh;
use crate::support::{ANSWER, Log, TestRouter, Told, World, always, loaded_panic, ms, plain, secs};
use fallway::backend::{BackendError, FailureKind};
use fallway::decision::Reason;
use fallway::policy::ordered;
use fallway::recover::Ejection;
use fallway::router::probe_fn;
use fallway::signal::{HealthSignal, InvalidSignal, Probes, Probing, Reading};
use fallway::time::{Instant, Timer};
use fallway::{CallOptions, Profile};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a check of a backend does now.
#[derive(Clone, Copy, Debug)]
enum Check {
    Pass,
    Fail(FailureKind),
    Hang,
    Panic,
}

/// The servers as their checks find them, and what was asked of them.
#[derive(Default)]
struct Ward {
    checks: BTreeMap<String, Check>,
    asked: Vec<(Instant, String)>,
    in_flight: BTreeMap<String, u32>,
    dropped: u32,
}

struct Bed {
    world: World,
    router: TestRouter,
    probes: Arc<Probes>,
    ward: Arc<Mutex<Ward>>,
    log: Log,
}

/// A check on its way.
struct Visit(Arc<Mutex<Ward>>, String, bool);

impl Drop for Visit {
    fn drop(&mut self) {
        let mut ward = self.0.lock().unwrap();
        *ward.in_flight.get_mut(&self.1).unwrap() -= 1;
        ward.dropped += u32::from(!self.2);
    }
}

fn bed(probing: Probing) -> Bed {
    let (world, log, ward) = (World::new(), Log::default(), Arc::new(Mutex::new(Ward::default())));
    let probes = Arc::new(Probes::new(probing).unwrap());
    let builder = world.router(ordered()).ejection(Ejection::off()).signal(probes.clone()).observer(log.clone());
    let (router, _) = world.fleet(builder, ["a", "b"].map(|id| (Profile::new(id), always(ANSWER))));
    Bed { world, router, probes, ward, log }
}

impl Bed {
    fn set(&self, name: &str, check: Check) {
        self.ward.lock().unwrap().checks.insert(name.to_owned(), check);
    }

    /// The prober; a check takes 10 ms.
    fn prober(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let (ward, timer) = (self.ward.clone(), self.world.timer().clone());
        let probe = probe_fn(move |_, profile: &Profile| {
            let (name, ward, timer) = (profile.id().to_owned(), ward.clone(), timer.clone());
            async move {
                let (check, mut visit) = {
                    let mut all = ward.lock().unwrap();
                    all.asked.push((timer.now(), name.clone()));
                    let in_flight = all.in_flight.entry(name.clone()).or_default();
                    *in_flight += 1;
                    assert_eq!(*in_flight, 1, "two checks of {name} at a time");
                    (all.checks.get(&name).copied().unwrap_or(Check::Pass), Visit(ward.clone(), name, false))
                };
                timer.sleep_until(timer.now() + ms(10)).await;
                let result = match check {
                    Check::Pass => Ok(()),
                    Check::Fail(kind) => Err(BackendError::new(kind)),
                    Check::Hang => std::future::pending().await,
                    Check::Panic => loaded_panic(),
                };
                visit.2 = true;
                result
            }
        });
        self.router.probe(self.probes.clone(), probe)
    }

    fn read(&self, name: &str) -> Reading<fallway::signal::Score> {
        self.probes.read(self.router.backend_id(name).unwrap(), self.world.now())
    }

    fn well(&self, name: &str) -> Option<bool> {
        fresh(self.read(name)).map(|score| score >= 500)
    }

    fn asked(&self, name: &str) -> Vec<Instant> {
        let ward = self.ward.lock().unwrap();
        ward.asked.iter().filter(|(_, asked)| asked == name).map(|(at, _)| *at).collect()
    }
}

fn steady() -> Probing {
    Probing::default().jitter(0.0)
}

#[test]
fn the_first_verdict_counts_at_once_and_after_that_it_takes_several() {
    let bed = bed(steady());
    bed.set("b", Check::Fail(FailureKind::Unreachable));
    drop(bed.world.spawn(bed.prober()));
    assert_eq!((bed.read("a"), bed.read("b")), (Reading::Missing, Reading::Missing));
    bed.world.run_for(ms(100));
    assert_eq!((bed.well("a"), bed.well("b")), (Some(true), Some(false)));
    assert_eq!(bed.router.explain(&CallOptions::new(plain())).chosen().unwrap().name(), "a");

    // Down after three in a row, up after two.
    bed.set("a", Check::Fail(FailureKind::ServerError));
    bed.set("b", Check::Pass);
    let mut seen = Vec::new();
    for _ in 0..4 {
        bed.world.run_for(secs(5));
        seen.push((bed.well("a").unwrap(), bed.well("b").unwrap()));
    }
    assert_eq!(seen, [(true, false), (true, true), (false, true), (false, true)]);
    // One that passes in between starts the count again.
    bed.set("a", Check::Pass);
    bed.world.run_for(secs(5));
    bed.set("a", Check::Fail(FailureKind::ServerError));
    bed.world.run_for(secs(5));
    bed.set("a", Check::Pass);
    bed.world.run_for(secs(5));
    assert_eq!(bed.well("a"), Some(false));
    bed.world.run_for(secs(5));
    assert_eq!(bed.well("a"), Some(true));
}

#[test]
fn a_check_that_hangs_fails_at_its_limit_and_is_never_doubled() {
    let bed = bed(steady().every(secs(2)).limit(secs(1)));
    bed.set("a", Check::Hang);
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(ms(999));
    assert_eq!(bed.well("a"), None);
    bed.world.run_for(ms(2));
    assert_eq!(bed.well("a"), Some(false));
    bed.world.run_for(secs(59));
    let asked = bed.asked("a");
    assert_eq!(asked.len(), 31);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] == secs(2)), "{asked:?}");
    assert_eq!(bed.ward.lock().unwrap().dropped, 30);
}

#[test]
fn intervals_are_jittered_each_by_itself() {
    let bed = bed(Probing::default().every(secs(10)).jitter(0.2));
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(secs(1000));
    let pauses = |name: &str| -> Vec<Duration> { bed.asked(name).windows(2).map(|pair| pair[1] - pair[0]).collect() };
    let (a, b) = (pauses("a"), pauses("b"));
    assert!(a.iter().chain(&b).all(|pause| (secs(8)..=secs(12)).contains(pause)), "{a:?}");
    assert!((90..=110).contains(&a.len()) && a[..50] != b[..50]);
    assert!(a.iter().any(|pause| *pause < ms(8_500)) && a.iter().any(|pause| *pause > ms(11_500)));
}

#[test]
fn backends_that_join_are_checked_at_once_and_those_that_leave_no_more() {
    let bed = bed(steady());
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(secs(2));
    let router = &bed.router;
    router.update(|fleet| fleet.add(Profile::new("c"), bed.world.backend("c", always(ANSWER)))).unwrap();
    router.update(|fleet| fleet.remove("b")).unwrap();
    bed.world.run_for(ms(20));
    assert_eq!((bed.well("c"), bed.asked("c").len()), (Some(true), 1));
    bed.world.run_for(secs(60));
    assert_eq!((bed.asked("b").len(), bed.asked("c").len()), (1, 13));
    // It hears of new profiles, and keeps what it knows.
    router.update(|fleet| fleet.reprofile(Profile::new("a").region("us"))).unwrap();
    assert_eq!(bed.well("a"), Some(true));
}

#[test]
fn one_that_leaves_while_it_is_checked_is_not_missed() {
    let bed = bed(steady());
    bed.set("b", Check::Hang);
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(ms(500));
    bed.router.update(|fleet| fleet.remove("b")).unwrap();
    bed.world.run_for(secs(60));
    assert_eq!((bed.asked("b").len(), bed.asked("a").len()), (1, 13));
}

#[test]
fn a_panic_is_contained_told_and_no_verdict() {
    let bed = bed(steady());
    bed.set("a", Check::Panic);
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(secs(11));
    assert_eq!((bed.read("a"), bed.well("b")), (Reading::Missing, Some(true)));
    assert_eq!(bed.log.count(|told| matches!(told, Told::Panicked { name } if name == "probe")), 3);
    assert_eq!(bed.ward.lock().unwrap().in_flight["a"], 0);
    bed.set("a", Check::Pass);
    bed.world.run_for(secs(5));
    assert_eq!(bed.well("a"), Some(true));
}

#[test]
fn the_fault_of_the_prober_is_no_verdict_and_nobody_stands_behind_for_it() {
    let bed = bed(steady());
    let order = || {
        let decision = bed.router.explain(&CallOptions::new(plain()));
        let first = decision.chosen().unwrap();
        (first.name().to_owned(), decision.candidates().find(|it| it.name() == "a").unwrap().note())
    };
    // A provider without a health page, or with one that wants another key.
    bed.set("a", Check::Fail(FailureKind::Unauthorized));
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(secs(30));
    assert_eq!(bed.read("a"), Reading::Missing);
    assert_eq!(order(), ("a".to_owned(), None));
    // Where there was a verdict, silence is news.
    bed.set("a", Check::Pass);
    bed.world.run_for(secs(6));
    let at = match bed.read("a") {
        Reading::Fresh { at, .. } => at,
        other => panic!("{other:?}"),
    };
    bed.set("a", Check::Fail(FailureKind::ModelUnavailable));
    bed.world.run_for(secs(30));
    assert_eq!(order(), ("b".to_owned(), Some(Reason::Unproven { signal: 0, at: Some(at) })));
}

#[test]
fn a_strict_check_fails_on_429() {
    let bed = bed(steady());
    bed.set("a", Check::Fail(FailureKind::RateLimited));
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(ms(100));
    assert_eq!(bed.well("a"), Some(false));
}

#[test]
fn dropping_the_prober_stops_it_and_another_goes_on() {
    let bed = bed(steady());
    bed.set("a", Check::Hang);
    let mut prober = Box::pin(bed.prober());
    assert!(futures::FutureExt::now_or_never(&mut prober).is_none());
    assert_eq!(bed.ward.lock().unwrap().in_flight["a"], 1);
    drop(prober);
    assert_eq!(bed.ward.lock().unwrap().in_flight, [("a".to_owned(), 0), ("b".to_owned(), 0)].into());
    assert_eq!(bed.world.timer().next_wake(), None, "it still sleeps");
    assert_eq!((bed.read("a"), bed.read("b")), (Reading::Missing, Reading::Missing), "a dropped check says nothing");
    bed.set("a", Check::Pass);
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(ms(100));
    assert_eq!(bed.well("a"), Some(true));
}

#[test]
fn readings_of_a_prober_that_stopped_grow_stale() {
    let bed = bed(steady());
    let mut prober = Box::pin(bed.prober());
    let timer = bed.world.timer().clone();
    let stop = async move {
        futures::future::select(&mut prober, timer.sleep_until(timer.now() + secs(1))).await;
    };
    bed.world.block_on(stop);
    assert_eq!(bed.well("a"), Some(true));
    // Two rounds of five seconds and one for a check.
    bed.world.run_for(secs(11));
    assert_eq!(bed.well("a"), Some(true));
    bed.world.run_for(secs(1));
    assert!(matches!(bed.read("a"), Reading::Stale { .. }));
}

#[test]
fn two_probers_of_one_router_do_not_check_twice_at_a_time() {
    let bed = bed(steady());
    drop(bed.world.spawn(bed.prober()));
    drop(bed.world.spawn(bed.prober()));
    bed.world.run_for(secs(60));
    assert_eq!(bed.well("a"), Some(true));
}

#[test]
fn it_ends_with_its_router() {
    let bed = bed(steady());
    let task = bed.world.spawn(bed.prober());
    bed.world.run_for(secs(7));
    assert!(!task.is_done());
    let Bed { world, router, .. } = bed;
    drop(router);
    world.run_for(secs(6));
    assert!(task.is_done());
}

#[test]
fn nonsense_is_named() {
    let refused = |probing: Probing| Probes::new(probing).unwrap_err();
    let it = Probing::default;
    assert_eq!(refused(it().every(ms(0))), InvalidSignal::ZeroInterval);
    assert_eq!(refused(it().limit(ms(0))), InvalidSignal::ZeroLimit);
    let (limit, interval) = (secs(2), secs(1));
    assert_eq!(refused(it().every(interval).limit(limit)), InvalidSignal::LimitOverInterval { limit, interval });
    assert_eq!(refused(it().unhealthy_after(0)), InvalidSignal::ZeroThreshold("unhealthy_after"));
    assert_eq!(refused(it().healthy_after(0)), InvalidSignal::ZeroThreshold("healthy_after"));
    for jitter in [-0.1, 1.0, f64::INFINITY] {
        assert_eq!(refused(it().jitter(jitter)), InvalidSignal::InvalidJitter(jitter));
    }
    assert!(matches!(refused(it().jitter(f64::NAN)), InvalidSignal::InvalidJitter(jitter) if jitter.is_nan()));
    assert_eq!(refused(it().every(ms(0))).to_string(), "a probe interval of zero would probe without a pause");
}
