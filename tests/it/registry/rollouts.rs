//! Bad versions are taken back by what the router saw of them.

use super::fixtures::{at, registry};
use crate::support::{ANSWER, Act, Script, TestRouter, World, always, ms, secs, within};
use fallway::FailureKind::{
    ContentRejected, InvalidRequest, Overloaded, QuotaExhausted, RateLimited, ServerError, Timeout, Truncated,
    Unauthorized, Unreachable,
};
use fallway::backend::{BackendError, BackendId};
use fallway::decision::{Cost, Tokens};
use fallway::event::{Event, Observer, Outcome};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::registry::{Alias, Catalog, Code, Patch, Publication, Registry, RolledBack, Rollouts, State};
use fallway::time::Instant;
use fallway::{Facts, Profile};
use std::sync::Arc;
use std::time::Duration;

const CANARY: &str = "llama-70b@4";
const STABLE: &str = "llama-70b@3";

/// A registry with a canary of 10 %, and who watches it.
fn watched() -> (Arc<Registry>, Arc<Rollouts>) {
    let registry = Arc::new(registry());
    registry.set_canary("chat", CANARY, 1_000, at(0)).unwrap();
    (registry.clone(), Arc::new(Rollouts::new(registry)))
}

/// Traffic of twenty requests a second, for so many seconds at most, until something is rolled back; with the seconds until then.
fn traffic(
    registry: &Arc<Registry>,
    rollouts: &Arc<Rollouts>,
    ejection: Ejection,
    canary: Script,
    most: u64,
) -> (u64, Option<RolledBack>) {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).ejection(ejection);
    let builder = builder.registry(registry.clone()).observer(rollouts.clone());
    let members = [(STABLE, always(Act::Answer(ms(200)))), (CANARY, canary), ("llama-8b@1", always(ANSWER))];
    let (router, _): (TestRouter, _) =
        world.fleet(builder, members.map(|(model, script)| (Profile::new(model).model(model), script)));
    for second in 1..=most {
        for _ in 0..20 {
            let (router, options) = (router.clone(), within(secs(5)).facts(Facts::model("chat").replay_safe()));
            world.spawn(async move { router.call("ask", options).await.map(drop).ok() });
            world.run_for(ms(50));
        }
        if let Some(done) = rollouts.tick(world.now(), at(second)).pop() {
            return (second, Some(done));
        }
    }
    (most, None)
}

#[test]
fn a_canary_that_fails_is_taken_back_and_says_why() {
    let (registry, rollouts) = watched();
    let failing: Script =
        Box::new(|cue| if cue.call % 6 == 0 { Act::Fail(ServerError, ms(20)) } else { Act::Answer(ms(200)) });
    let (took, done) = traffic(&registry, &rollouts, Ejection::off(), failing, 60);
    let done = done.unwrap();
    assert!(took <= 30, "{took} s");
    assert_eq!((&*done.alias, &*done.version), ("chat", CANARY));
    assert!(done.evidence.canary.1 >= 50 && done.evidence.stable.0 == 0, "{done}");
    let text = done.to_string();
    assert!(text.starts_with(&format!("{CANARY} of chat is rolled back: {} of ", done.evidence.canary.0)), "{text}");
    let cause = registry.history().last().unwrap().cause().to_owned();
    assert_eq!(cause, format!("roll back {CANARY} of chat: {}", done.evidence));
    assert_eq!(registry.view().state_of(CANARY), Some(State::Quarantined));
    assert_eq!(format!("{rollouts:?}"), "[]");
}

/// The router takes its backend out after a few failures, and has it tried again and again, for nobody else runs the version.
#[test]
fn a_canary_that_always_fails_is_taken_back_though_it_is_ejected() {
    let (registry, rollouts) = watched();
    let (took, done) = traffic(&registry, &rollouts, Ejection::default(), always(Act::Fail(ServerError, ms(20))), 60);
    let evidence = done.unwrap().evidence;
    assert!(took <= 40 && evidence.canary.0 == evidence.canary.1, "{took} s: {evidence}");
}

#[test]
fn a_canary_that_is_slow_for_three_windows_is_taken_back() {
    let (registry, rollouts) = watched();
    registry.set_canary("chat", CANARY, 2_500, at(0)).unwrap();
    let (took, done) = traffic(&registry, &rollouts, Ejection::off(), always(Act::Answer(ms(400))), 60);
    assert!((30..=41).contains(&took), "{took} s");
    let (canary, stable) = done.unwrap().evidence.p95.unwrap();
    assert_eq!((canary, stable), (ms(400), ms(200)));
}

#[test]
fn a_canary_that_does_well_stays() {
    let (registry, rollouts) = watched();
    assert!(traffic(&registry, &rollouts, Ejection::off(), always(Act::Answer(ms(390))), 60).1.is_none());
    assert_eq!(registry.view().state_of(CANARY), Some(State::Canary));
}

/// Tells the observer of ends, without a router between.
struct Told {
    registry: Arc<Registry>,
    rollouts: Arc<Rollouts>,
    id: BackendId,
}

impl Told {
    fn new() -> Self {
        let (registry, rollouts) = watched();
        let world = World::new();
        let router = world.fleet(world.router(ordered()), [(Profile::new("a"), always(ANSWER))]).0;
        Self { registry, rollouts, id: router.backend_id("a").unwrap() }
    }

    fn end(&self, version: &str, outcome: Outcome<'_>, excused: bool, second: u64) {
        let began = matches!(outcome, Outcome::Success);
        if began {
            self.begin(version, second);
        }
        self.end_of(version, outcome, excused, began.then_some(ms(200)), second);
    }

    fn tell(&self, event: &Event<'_>, second: u64) {
        self.rollouts.on_event(event, Instant::from_nanos(second * 1_000_000_000));
    }

    fn begin(&self, version: &str, second: u64) {
        let profile = Profile::new("a").model(version);
        self.tell(&Event::FirstItem { backend: self.id, profile: &profile, elapsed: ms(200) }, second);
    }

    fn end_of(&self, version: &str, outcome: Outcome<'_>, excused: bool, first_item: Option<Duration>, second: u64) {
        let (tokens, cost) = (Tokens::default(), Cost::Unknown);
        let (backend, profile, elapsed) = (self.id, &Profile::new("a").model(version), secs(2));
        let (request, attempt) = (7, 1);
        let ended =
            Event::Ended { backend, profile, elapsed, first_item, outcome, excused, request, attempt, tokens, cost };
        self.tell(&ended, second);
    }

    fn ends(&self, version: &str, count: u32, outcome: Outcome<'_>) {
        (0..count).for_each(|_| self.end(version, outcome, false, 1));
    }

    fn tick(&self, second: u64) -> Vec<RolledBack> {
        self.rollouts.tick(Instant::from_nanos(second * 1_000_000_000), at(second))
    }
}

#[test]
fn what_callers_quotas_and_networks_did_says_nothing() {
    let told = Told::new();
    told.ends(STABLE, 500, Outcome::Success);
    for kind in [InvalidRequest, ContentRejected, RateLimited, QuotaExhausted, Unauthorized, Unreachable, Overloaded] {
        told.ends(CANARY, 100, Outcome::Failure(&BackendError::new(kind)));
    }
    told.ends(CANARY, 100, Outcome::Cancelled);
    (0..100).for_each(|_| told.end(CANARY, Outcome::Failure(&BackendError::new(Timeout)), true, 1));
    assert!(told.tick(2).is_empty());
    // Nor does it speak for anybody: fifty that say something are fifty.
    told.ends(CANARY, 49, Outcome::Failure(&BackendError::new(ServerError)));
    assert!(told.tick(2).is_empty());
    told.ends(CANARY, 1, Outcome::Failure(&BackendError::new(ServerError)));
    assert_eq!(told.tick(2)[0].evidence.canary, (50, 50));
}

#[test]
fn where_both_are_bad_going_back_would_mend_nothing() {
    let told = Told::new();
    let error = BackendError::new(ServerError);
    for (version, failed) in [(STABLE, 250), (CANARY, 100)] {
        told.ends(version, failed, Outcome::Failure(&error));
        told.ends(version, 100, Outcome::Success);
    }
    assert!(told.tick(2).is_empty());
}

#[test]
fn what_was_outrun_took_at_least_so_long() {
    let told = Told::new();
    for second in 10..45 {
        for _ in 0..3 {
            told.end(STABLE, Outcome::Success, false, second);
            told.end(CANARY, Outcome::Outrun, false, second);
        }
    }
    assert_eq!(told.tick(45)[0].evidence.p95, Some((secs(2), ms(200))));
}

#[test]
fn a_stream_that_breaks_is_one_request_that_failed() {
    let told = Told::new();
    told.ends(STABLE, 100, Outcome::Success);
    (0..60).for_each(|_| told.begin(CANARY, 1));
    assert!(told.tick(2).is_empty(), "sixty began, and none has failed");
    for _ in 0..20 {
        told.end_of(CANARY, Outcome::Failure(&BackendError::new(Truncated)), false, Some(ms(200)), 1);
    }
    assert_eq!(told.tick(2)[0].evidence.canary, (20, 60));
}

/// Long answers of a young version have not ended when its failures have.
#[test]
fn a_version_is_not_bad_because_its_answers_are_long() {
    let told = Told::new();
    told.ends(STABLE, 1_000, Outcome::Success);
    (0..2_940).for_each(|_| told.begin(CANARY, 1));
    told.ends(CANARY, 60, Outcome::Failure(&BackendError::new(ServerError)));
    assert!(told.tick(2).is_empty());
}

#[test]
fn evidence_stays_while_the_share_grows_and_goes_with_the_version() {
    let told = Told::new();
    told.ends(STABLE, 100, Outcome::Success);
    let error = BackendError::new(ServerError);
    told.ends(CANARY, 40, Outcome::Failure(&error));
    told.registry.set_canary("chat", CANARY, 3_000, at(1)).unwrap();
    assert!(told.tick(1).is_empty());
    // Mended, under another revision: nothing is held against it.
    let catalog = told.registry.view().snapshot().catalog().clone();
    let mended = catalog.find(CANARY).unwrap().clone().revision("b");
    let mended = Patch::new().put(Catalog::new().version("llama-70b", "4", mended));
    told.registry.publish(&Publication::from(mended), at(1)).unwrap();
    assert!(told.tick(1).is_empty());
    told.ends(CANARY, 10, Outcome::Failure(&error));
    assert!(told.tick(1).is_empty());
    told.registry.publish(&Publication::from(catalog), at(1)).unwrap();
    told.tick(1);
    told.ends(STABLE, 100, Outcome::Success);
    told.ends(CANARY, 40, Outcome::Failure(&error));
    told.registry.set_canary("chat", CANARY, 4_000, at(1)).unwrap();
    assert!(told.tick(1).is_empty());
    told.ends(CANARY, 10, Outcome::Failure(&error));
    assert_eq!(told.tick(1).len(), 1);
}

#[test]
fn a_version_that_is_bad_under_two_names_is_rolled_back_once() {
    let told = Told::new();
    let twin = Catalog::new().alias("twin", Alias::split([(CANARY, 1_000), ("chat", 9_000)]));
    told.registry.publish(&Publication::from(Patch::new().put(twin)), at(1)).unwrap();
    told.tick(1);
    told.ends(STABLE, 100, Outcome::Success);
    told.ends(CANARY, 100, Outcome::Failure(&BackendError::new(ServerError)));
    let done = told.tick(2);
    assert_eq!(done.iter().map(|it| &*it.alias).collect::<Vec<_>>(), ["chat"]);
    assert!(told.tick(3).is_empty());
}

#[test]
fn a_rollback_that_is_refused_is_told_once_and_tried_again_when_something_changed() {
    let told = Told::new();
    for n in 0..Registry::ROLLBACKS_PER_HOUR {
        told.registry.roll_back_version("chat", CANARY, "by hand", at(1)).unwrap();
        let next = super::fixtures::catalog();
        let mended = next.find(CANARY).unwrap().clone().revision(format!("r{n}"));
        told.registry.publish(&Publication::from(next.version("llama-70b", "4", mended)), at(1)).unwrap();
    }
    assert!(told.tick(1).is_empty());
    told.ends(STABLE, 100, Outcome::Success);
    told.ends(CANARY, 100, Outcome::Failure(&BackendError::new(ServerError)));
    let done = told.tick(2);
    assert!(done[0].done.as_ref().unwrap_err().has(Code::Frozen) && done[0].to_string().contains(", and is not: "));
    assert!(told.tick(3).is_empty());
    told.registry.thaw();
    assert!(told.tick(4)[0].done.is_ok());
}
