//! What an observer is told, and what an attempt is told.

use crate::support::{
    ANSWER, Act, Cue, Log, Step, Told, World, always, dropped_after, fail, in_turn, loaded_panic, ms, secs, within,
};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::Profile;
use fallway::backend::BackendId;
use fallway::decision::Reason;
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::signal::{HealthSignal, Reading, Score};
use fallway::time::Instant;
use futures::StreamExt;

/// The story that a log tells, a line for each event.
fn story(log: &Log) -> Vec<String> {
    let line = |(_, told)| match told {
        Told::Decided(decision) => format!("decided {}", decision.chosen().map_or("nobody", |it| it.name())),
        Told::Started { backend, attempt, .. } => format!("{backend} started, attempt {attempt}"),
        Told::FirstItem { backend, elapsed } => format!("{backend} first item after {elapsed:?}"),
        Told::Succeeded { backend } => format!("{backend} succeeded"),
        Told::Failed { backend, kind } => format!("{backend} failed: {kind}"),
        Told::Cancelled { backend } => format!("{backend} cancelled"),
        Told::Outrun { backend } => format!("{backend} outrun"),
        Told::Unhedged { backend, why } => format!("{backend} not hedged: {why}"),
        Told::Left { backend, why } => format!("{backend} left: {}", why.label()),
        Told::Returned { backend } => format!("{backend} returned"),
        Told::Refused { why } => format!("refused: {why:?}"),
        Told::Panicked { name } => format!("{name} panicked"),
        Told::Region { region, from, to } => format!("{region} {from} -> {to}"),
    };
    log.told().into_iter().map(line).collect()
}

#[test]
fn a_retry_is_told_from_beginning_to_end() {
    let (world, log) = (World::new(), Log::default());
    let members = [(Profile::new("a"), always(Act::Fail(Overloaded, ms(3)))), (Profile::new("b"), always(ANSWER))];
    let (router, _) =
        world.fleet(world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone()), members);
    drop(world.call(&router, within(secs(5))).unwrap());
    let expected = [
        "decided a",
        "a started, attempt 1",
        "a failed: overloaded",
        "a left: cooling down",
        "decided b",
        "b started, attempt 2",
        "b first item after 20ms",
        "b succeeded",
    ];
    assert_eq!(story(&log), expected);
}

#[test]
fn a_return_is_told_once() {
    let (world, log) = (World::new(), Log::default());
    let (router, _) = world.fleet(
        world.router(ordered()).observer(log.clone()),
        [(Profile::new("a"), in_turn([fail(Overloaded), ANSWER]))],
    );
    assert!(world.call(&router, within(secs(5))).is_err());
    world.run_for(secs(20));
    for _ in 0..3 {
        world.call(&router, within(secs(5))).unwrap();
    }
    let turns = story(&log).into_iter().filter(|line| line.contains("left") || line.contains("returned"));
    assert_eq!(turns.collect::<Vec<_>>(), ["a left: cooling down", "a returned"]);
}

#[test]
fn a_caller_that_leaves_is_told_as_cancelled() {
    let (world, log) = (World::new(), Log::default());
    let stream = Act::Stream(ms(1), vec![Step::Item, Step::Pause(ms(1)), Step::Item]);
    let (router, _) = world.fleet(world.router(ordered()).observer(log.clone()), [(Profile::new("a"), always(stream))]);
    world.block_on(async move {
        let call = router.call("ask", within(secs(5)));
        assert!(dropped_after(1, call).await.is_none());
        let mut stream = router.stream("ask", within(secs(5))).await.unwrap();
        stream.next().await.unwrap().unwrap();
    });
    let ends: Vec<_> = story(&log).into_iter().filter(|line| !line.starts_with("decided")).collect();
    let expected =
        ["a started, attempt 1", "a cancelled", "a started, attempt 1", "a first item after 1ms", "a cancelled"];
    assert_eq!(ends, expected);
}

/// An observer and a signal that panic whenever they are told something.
#[derive(Debug)]
struct Nervous;

impl Observer for Nervous {
    fn on_event(&self, _: &Event<'_>, _: Instant) {
        loaded_panic();
    }
}

impl HealthSignal for Nervous {
    fn name(&self) -> &'static str {
        "nervous"
    }

    fn read(&self, _: BackendId, _: Instant) -> Reading<Score> {
        loaded_panic();
    }

    fn observe(&self, _: &Event<'_>, _: Instant) {
        loaded_panic();
    }
}

#[test]
fn a_panic_of_one_is_told_to_the_others_by_name() {
    let (world, log) = (World::new(), Log::default());
    let builder = world.router(ordered()).observer(Nervous).signal(Nervous).observer(log.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(ANSWER))]);
    let decision = router.explain(&within(secs(5)));
    assert_eq!(decision.candidates().next().unwrap().note(), Some(Reason::Unproven { signal: 0, at: None }));
    drop(world.call(&router, within(secs(5))).unwrap());
    let story = story(&log);
    let panics = |name: &str| story.iter().filter(|line| **line == format!("{name} panicked")).count();
    // Each of the five events was told, the fleet first, and each was too much for both.
    assert_eq!((panics("nervous"), panics("observer"), story.len()), (5, 5, 14), "{story:?}");
}

#[test]
fn all_attempts_of_a_request_share_its_id_and_its_deadline() {
    let world = World::new();
    let first_fails = |cue: &Cue<'_>| {
        assert_eq!(cue.request, "ask");
        if cue.attempt.number() == 1 { fail(ServerError) } else { ANSWER }
    };
    let members = ["a", "b"].map(|id| (Profile::new(id), Box::new(first_fails) as crate::support::Script));
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let deadlines: Vec<_> = (0..3)
        .map(|_| {
            let deadline = world.now() + secs(5);
            assert_eq!(world.call(&router, within(secs(5))).unwrap().attempts().len(), 2);
            deadline
        })
        .collect();
    let [a, b] = backends.map(|backend| backend.seen());
    for ((a, b), deadline) in a.iter().zip(&b).zip(&deadlines) {
        assert_eq!((a.request_id, a.deadline, a.number), (b.request_id, *deadline, 1));
        assert_eq!((b.deadline, b.number), (*deadline, 2));
    }
    let mut ids: Vec<_> = a.iter().map(|seen| seen.request_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}
