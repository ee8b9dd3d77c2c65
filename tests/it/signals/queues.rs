//! Queues that servers report, in requests and in tokens, and what of them stands before a request.

use crate::support::{ANSWER, Reply, TestRouter, World, always, ms, secs};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::router::{Step, Trip};
use fallway::signal::{LoadReport, LoadReports, Unreadable};
use fallway::{CallOptions, Decision, Facts, Profile};
use std::sync::Arc;
use std::time::Duration;

struct Scene {
    router: TestRouter,
    reports: Arc<LoadReports>,
    world: World,
}

/// A report of a queue.
fn queue(requests: u64, tokens: Option<u64>) -> Result<LoadReport, Unreadable> {
    let mut report = LoadReport::default();
    (report.waiting, report.waiting_tokens) = (Some(requests), tokens);
    Ok(report)
}

fn prompt(tokens: u64) -> CallOptions {
    CallOptions::new(Facts::any().prompt_tokens(tokens).replay_safe())
}

impl Scene {
    /// `a` and `b`, which take 1 ms for a token, as the router knows.
    fn new() -> Self {
        let (world, reports) = (World::new(), Arc::new(LoadReports::default()));
        let builder =
            world.router(predicted_ttft().fail_safe(FailSafe::default())).load_reports(reports.clone()).seed(7);
        let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
        let (router, _) = world.fleet(builder, members);
        world.run_for(secs(100));
        let scene = Self { router, reports, world };
        for _ in 0..20 {
            let (mut trip, attempt) = scene.send(1_000);
            scene.pass(secs(1));
            trip.answered(attempt, scene.world.now());
            trip.finish(scene.world.now());
        }
        scene
    }

    fn pass(&self, time: Duration) {
        self.world.run_for(time);
    }

    fn report(&self, id: &str, report: Result<LoadReport, Unreadable>) {
        self.reports.report(self.router.backend_id(id).unwrap(), report, self.world.now());
    }

    /// Sends a prompt, with the number of its attempt.
    fn send(&self, tokens: u64) -> (Trip<'_, str, Reply>, u32) {
        let mut trip = self.router.trip(prompt(tokens), self.world.now());
        match trip.next(self.world.now()).unwrap() {
            Step::Call(attempt) => (trip, attempt.number()),
            other => panic!("{other:?}"),
        }
    }

    fn decision(&self) -> Decision {
        self.router.explain(&prompt(1_000))
    }
}

/// What waits at a backend by the books of the router, and of others.
fn waiting(decision: &Decision, id: &str) -> (u64, u64) {
    let candidate = decision.candidates().find(|candidate| candidate.name() == id).unwrap();
    let load = candidate.load().unwrap();
    (load.waiting_tokens, load.others_tokens)
}

#[test]
fn tokens_say_more_than_requests() {
    let scene = Scene::new();
    // Two long prompts are more than nine short ones.
    scene.report("a", queue(9, None));
    scene.report("b", queue(2, None));
    assert_eq!(scene.decision().chosen().unwrap().name(), "b");
    scene.report("a", queue(9, Some(900)));
    scene.report("b", queue(2, Some(60_000)));
    let decision = scene.decision();
    assert_eq!(decision.chosen().unwrap().name(), "a");
    // To the unit in which they are kept.
    assert_eq!((waiting(&decision, "a"), waiting(&decision, "b")), ((0, 960), (0, 60_032)));
    // Requests without tokens again.
    scene.report("a", queue(9, None));
    assert_eq!(waiting(&scene.decision(), "a"), (0, 9_000));
}

#[test]
fn nothing_waits_where_a_server_says_so() {
    let scene = Scene::new();
    scene.report("a", queue(3, Some(0)));
    assert_eq!(waiting(&scene.decision(), "a"), (0, 0));
}

#[test]
fn what_was_sent_since_a_report_is_behind_it() {
    let scene = Scene::new();
    scene.report("a", queue(1, Some(6_400)));
    scene.report("b", queue(1, Some(64_000)));
    // Goes to `a`, behind what is there.
    let (first, _) = scene.send(640);
    assert_eq!(first.decision().chosen().unwrap().name(), "a");
    assert_eq!(waiting(&scene.decision(), "a"), (640, 6_400));
    // The next report has it.
    scene.pass(ms(50));
    scene.report("a", queue(2, Some(7_040)));
    scene.report("b", queue(1, Some(64_000)));
    assert_eq!(waiting(&scene.decision(), "a"), (640, 6_400));
    // It works.
    scene.pass(ms(50));
    scene.report("a", queue(2, Some(1_280)));
    assert_eq!(waiting(&scene.decision(), "a"), (640, 640));
    let (second, _) = scene.send(1_280);
    assert_eq!(second.decision().chosen().unwrap().name(), "a");
    assert_eq!(waiting(&scene.decision(), "a"), (1_920, 640));
}

#[test]
fn a_router_knows_best_what_it_sent_itself() {
    let scene = Scene::new();
    let (sent, _) = scene.send(5_000);
    let id = sent.decision().chosen().unwrap().name().to_owned();
    scene.pass(ms(50));
    // It has not got there yet.
    scene.report(&id, queue(0, Some(0)));
    assert_eq!(waiting(&scene.decision(), &id), (5_000, 0));
}

#[test]
fn tokens_of_a_stale_report_do_not_wait() {
    let scene = Scene::new();
    scene.report("a", queue(1, Some(6_400)));
    scene.pass(ms(1_999));
    assert_eq!(waiting(&scene.decision(), "a"), (0, 6_400));
    scene.pass(ms(2));
    assert_eq!(waiting(&scene.decision(), "a"), (0, 0));
    scene.report("a", queue(1, Some(6_400)));
    scene.report("a", Err(Unreadable::Nothing));
    assert_eq!(waiting(&scene.decision(), "a"), (0, 0));
}

#[test]
fn reported_tokens_are_work_that_is_learned_from() {
    let scene = Scene::new();
    for _ in 0..40 {
        // Behind as much of others again, twice the time: the time for a token stays what it is.
        for id in ["a", "b"] {
            scene.report(id, queue(1, Some(1_024)));
        }
        let (mut trip, attempt) = scene.send(1_024);
        scene.pass(ms(2_048));
        trip.answered(attempt, scene.world.now());
        trip.finish(scene.world.now());
    }
    let decision = scene.decision();
    for candidate in decision.candidates() {
        let predicted = candidate.latency().unwrap().predict(1_000);
        assert!((800_000_000..1_200_000_000).contains(&predicted), "{predicted}");
    }
}

#[test]
fn a_decision_by_tokens_replays_when_they_have_changed() {
    let scene = Scene::new();
    scene.report("a", queue(1, Some(640)));
    scene.report("b", queue(1, Some(64_000)));
    let decision = scene.decision();
    scene.report("a", queue(1, Some(640_000)));
    let again = scene.router.replay(&decision);
    assert!(again.same_choice(&decision) && again.to_string() == decision.to_string());
    assert_eq!(scene.decision().chosen().unwrap().name(), "b");
}
