//! Backends that say how full they are.

use super::{of, stack};
use crate::support::{ANSWER, Scripted, TestRouter, World, always, ms, secs};
use fallway::Profile;
use fallway::decision::{Next, Reason};
use fallway::facts::Priority;
use fallway::policy::{Capacity, ordered};
use fallway::signal::{LoadReport, LoadReports};
use std::sync::Arc;

struct Scene {
    world: World,
    router: TestRouter,
    reports: Arc<LoadReports>,
    backends: [Scripted; 2],
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let reports = Arc::new(LoadReports::default());
        let policy = stack(ordered(), Capacity::default());
        // Told by the host, and connected to no signal: what they say of saturation is not asked for here.
        let builder = world.router(policy).load_reports(reports.clone());
        let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
        let (router, backends) = world.fleet(builder, members);
        Self { world, router, reports, backends }
    }

    fn report(&self, id: &str, text: &str) {
        self.reports.report(self.router.backend_id(id).unwrap(), LoadReport::from_vllm(text), self.world.now());
    }

    /// Why a backend is out for this priority, and what is noted of it.
    fn says(&self, id: &str, priority: Priority) -> (Option<Reason>, Option<Reason>) {
        let decision = self.router.explain(&of(priority));
        let candidate = decision.candidates().find(|candidate| candidate.name() == id).unwrap();
        (candidate.rejected(), candidate.note())
    }
}

#[test]
fn a_cache_in_use_makes_a_backend_fuller() {
    let scene = Scene::new();
    scene.report("a", "vllm:kv_cache_usage_perc 0.72");
    assert_eq!(scene.says("a", Priority::Standard), (None, None));
    let until = |scene: &Scene| match scene.says("a", Priority::Sheddable).0 {
        Some(Reason::Reserved { full: 720, ceiling: 700, until: Some(until) }) => until,
        other => panic!("{other:?}"),
    };
    // To the unit in which the time of a report is kept.
    let exact = scene.world.now() + secs(2);
    assert!(exact - until(&scene) < ms(1) && until(&scene) <= exact);
    assert_eq!(scene.router.explain(&of(Priority::Sheddable)).chosen().unwrap().name(), "b");
    scene.report("a", "vllm:kv_cache_usage_perc 0.9");
    assert_eq!(scene.router.explain(&of(Priority::Standard)).chosen().unwrap().name(), "b");
    // Behind the other, and not out.
    assert_eq!(scene.says("a", Priority::Critical), (None, Some(Reason::Busy { full: 900, headroom: 850 })));
    assert_eq!(scene.router.explain(&of(Priority::Critical)).chosen().unwrap().name(), "b");
}

#[test]
fn a_stale_report_says_nothing() {
    let scene = Scene::new();
    scene.report("a", "vllm:kv_cache_usage_perc 0.9");
    scene.world.run_for(ms(2_001));
    assert_eq!(scene.says("a", Priority::Batch), (None, None));
    // Nor does one that is missing.
    scene.report("a", "vllm:kv_cache_usage_perc 0.9");
    scene.report("b", "vllm:num_requests_waiting 900");
    assert!(scene.says("a", Priority::Batch).0.is_some());
    assert_eq!(scene.says("b", Priority::Batch), (None, None));
    scene.report("a", "vllm:kv_cache_usage_perc NaN");
    assert_eq!(scene.says("a", Priority::Batch), (None, None));
}

#[test]
fn a_server_without_a_free_block_is_the_last_of_the_critical_and_not_refused_to_them() {
    let scene = Scene::new();
    for id in ["a", "b"] {
        scene.report(id, "vllm:kv_cache_usage_perc 1");
    }
    let decision = scene.router.explain(&of(Priority::Critical));
    assert_eq!(decision.chosen().unwrap().name(), "a");
    assert!(matches!(scene.router.explain(&of(Priority::Batch)).next(), Next::Refuse { .. }));
}

#[test]
fn who_waits_for_a_report_to_change_looks_again_when_it_is_stale() {
    let scene = Scene::new();
    for id in ["a", "b"] {
        scene.report(id, "vllm:kv_cache_usage_perc 0.93");
    }
    let (answered, took) =
        scene.world.timed(|| scene.world.call(&scene.router, of(Priority::Standard)).map(drop).is_ok());
    assert!(answered && took >= ms(1_900) && took <= ms(2_100), "{took:?}");
    assert_eq!(scene.backends.iter().map(Scripted::calls).sum::<u64>(), 1);
}

#[test]
fn a_decision_by_a_report_replays_when_the_report_has_changed() {
    let scene = Scene::new();
    scene.report("a", "vllm:kv_cache_usage_perc 0.9");
    let decision = scene.router.explain(&of(Priority::Standard));
    scene.report("a", "vllm:kv_cache_usage_perc 0");
    let again = scene.router.replay(&decision);
    assert!(again.same_choice(&decision));
    assert_eq!(again.to_string(), decision.to_string());
}
