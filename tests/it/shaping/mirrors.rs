//! Copies of requests, and callers that never notice.

use crate::support::{ANSWER, Act, Log, Reply, Script, Scripted, Step, TestRouter, World, always, fail, ms, secs};
use crate::support::{dropped_after, in_turn, loaded_panic, plain, within};
use fallway::FailureKind::{self, Overloaded};
use fallway::backend::{BackendError, BackendExt, backend_fn};
use fallway::event::{Event, Observer, Outcome};
use fallway::facts::{Adaptive, Capabilities};
use fallway::policy::{FailSafe, PolicyExt, Regions, RoutingPolicy, ordered};
use fallway::router::BuildError;
use fallway::shape::{Mirror, MirrorCounts};
use fallway::time::Instant;
use fallway::{CallOptions, Profile, Router};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A copy that ended: whose it was, after what time, and how it failed.
type Ended = (String, Duration, Option<FailureKind>);

/// What became of copies, as observers are told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<Ended>>>);

impl Observer for Told {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Mirrored { profile, elapsed, outcome, facts } = event {
            assert_eq!(facts.requested_model(), None);
            let failure = match outcome {
                Outcome::Failure(error) => Some(error.kind()),
                Outcome::Success => None,
                Outcome::Cancelled | Outcome::Outrun => panic!("an abandoned copy tells nothing"),
            };
            self.0.lock().unwrap().push((profile.id().to_owned(), *elapsed, failure));
        }
    }
}

fn candidate() -> Profile {
    Profile::new("candidate").concurrency(2).attempt_limit(secs(1))
}

fn options() -> CallOptions {
    within(secs(5))
}

/// A router over one backend that answers in 20 ms, its mirror, and the shadow's backend.
struct Bed {
    world: World,
    router: TestRouter,
    mirror: Arc<Mirror<str>>,
    shadow: Scripted,
    told: Told,
    log: Log,
}

fn bed(mirror: Mirror<str>, shadow: Script) -> Bed {
    let (world, told, log) = (World::new(), Told::default(), Log::default());
    let mirror = Arc::new(mirror);
    let builder = world.router(ordered().fail_safe(FailSafe::default())).observer(told.clone()).observer(log.clone());
    let (router, _) = world.fleet(builder.mirror(mirror.clone()), [(Profile::new("a").region("eu"), always(ANSWER))]);
    let shadow = world.backend("candidate", shadow);
    Bed { world, router, mirror, shadow, told, log }
}

impl Bed {
    /// Has the copies sent from now on.
    fn drive(&self) {
        self.world.spawn(self.router.shadow(self.mirror.clone(), self.shadow.clone()));
        self.world.settle();
    }

    /// So many calls, one every 10 ms; when each was answered.
    fn calls(&self, calls: u32) -> Vec<Instant> {
        let tasks: Vec<_> = (0..calls)
            .map(|_| {
                let task = self.world.ask(&self.router, options());
                self.world.run_for(ms(10));
                task
            })
            .collect();
        self.world.run_for(ms(20));
        let answered = |answer: crate::support::Answer| {
            assert!(answer.ok() && answer.took == ms(20) && answer.attempts == 1);
            answer.ended()
        };
        tasks.into_iter().map(|task| answered(task.take())).collect()
    }

    /// The counts when all copies have ended: they balance.
    fn balance(self) -> MirrorCounts {
        let Self { world, router, mirror, shadow, .. } = self;
        assert_eq!(router.total_in_flight(), 0);
        drop(router);
        world.run();
        let counts = mirror.counts();
        assert_eq!((counts.waiting, counts.in_flight), (0, 0));
        assert_eq!(counts.sampled, counts.dropped + counts.answered + counts.failed + counts.abandoned);
        assert_eq!(shadow.calls(), counts.answered + counts.failed + counts.abandoned);
        assert_eq!(shadow.backstage().in_flight(), 0);
        counts
    }
}

#[test]
fn a_caller_never_notices_what_the_shadow_does() {
    let plain = bed(Mirror::new(candidate(), 10_000), always(ANSWER));
    let expected = plain.calls(50);
    let undriven = plain.balance();
    assert_eq!((undriven.sampled, undriven.dropped), (50, 50), "nobody sends the copies");
    let slow = always(Act::Answer(ms(900)));
    for (name, script) in [
        ("answers", always(ANSWER)),
        ("slow", slow),
        ("fails", always(fail(Overloaded))),
        ("hangs", always(Act::Hang)),
        ("panics", always(Act::Panic(ms(5)))),
        ("panics in the call", always(Act::PanicInCall)),
        ("panics in its drop", always(Act::PanicInDrop)),
        (
            "all of it",
            in_turn([ANSWER, Act::Hang, Act::Panic(ms(1)), Act::PanicInCall, Act::PanicInDrop, fail(Overloaded)]),
        ),
    ] {
        let bed = bed(Mirror::new(candidate(), 10_000), script);
        bed.drive();
        assert_eq!(bed.calls(50), expected, "{name}");
        // The router has learned nothing: one decision for each call, all at the one backend.
        let started =
            bed.log.count(|told| matches!(told, crate::support::Told::Started { backend, .. } if backend == "a"));
        let all = bed.log.count(|told| matches!(told, crate::support::Told::Started { .. }));
        assert_eq!((started, all, bed.log.decisions().len()), (50, 50, 50), "{name}");
        let (peak, told) = (bed.shadow.backstage().peak(), bed.told.clone());
        let counts = bed.balance();
        assert!(peak <= 2 && counts.sampled == 50, "{name}: {peak} at once, {counts:?}");
        assert_eq!(told.0.lock().unwrap().len() as u64, counts.answered + counts.failed, "{name}");
        match name {
            "answers" => assert_eq!((counts.answered, counts.dropped), (50, 0)),
            "fails" | "panics in the call" => assert_eq!((counts.failed, counts.dropped), (50, 0), "{name}"),
            _ => assert!(counts.failed + counts.dropped > 0, "{name}: {counts:?}"),
        }
    }
}

#[test]
fn outcomes_and_times_are_told() {
    let script = in_turn([Act::Answer(ms(30)), Act::Fail(Overloaded, ms(40)), Act::Hang, Act::Panic(ms(7))]);
    let bed = bed(Mirror::new(candidate().concurrency(1), 10_000), script);
    bed.drive();
    for _ in 0..4 {
        bed.calls(1);
        bed.world.run_for(secs(2));
    }
    let named = |elapsed, failure| ("candidate".to_owned(), elapsed, failure);
    let expected = [
        named(ms(30), None),
        named(ms(40), Some(Overloaded)),
        named(secs(1), Some(FailureKind::Timeout)),
        named(ms(7), Some(FailureKind::Panicked)),
    ];
    assert_eq!(*bed.told.0.lock().unwrap(), expected);
    let counts = bed.balance();
    assert_eq!((counts.answered, counts.failed), (1, 3));
}

#[test]
fn the_share_is_sampled_and_the_same_requests_every_time() {
    let sampled = |share| {
        let bed = bed(Mirror::new(candidate(), share), always(ANSWER));
        let mut sampled = Vec::new();
        for call in 0..4_000 {
            bed.calls(1);
            if bed.mirror.counts().sampled as usize > sampled.len() {
                sampled.push(call);
            }
        }
        sampled
    };
    let tenth = sampled(1_000);
    // Five standard deviations.
    assert!((305..=495).contains(&tenth.len()), "{}", tenth.len());
    assert_eq!(tenth, sampled(1_000));
    assert_eq!(sampled(10_000).len(), 4_000);
}

#[test]
fn no_more_are_in_flight_and_no_more_wait_than_the_profile_says() {
    let bed = bed(Mirror::new(candidate().concurrency(3), 10_000), always(Act::Hang));
    bed.drive();
    bed.calls(20);
    let counts = bed.mirror.counts();
    assert_eq!((counts.in_flight, counts.waiting, counts.dropped), (3, 3, 14));
    assert_eq!(bed.shadow.backstage().in_flight(), 3);
    bed.balance();
}

#[test]
fn a_copy_that_waited_for_as_long_as_it_may_be_served_is_not_sent() {
    let bed = bed(Mirror::new(candidate(), 10_000), always(Act::Hang));
    bed.drive();
    for _ in 0..2 {
        (0..2).for_each(|_| drop(bed.world.ask(&bed.router, options())));
        bed.world.settle();
    }
    let counts = bed.mirror.counts();
    assert_eq!((counts.in_flight, counts.waiting, counts.dropped), (2, 2, 0));
    bed.world.run_for(secs(2));
    let counts = bed.balance();
    assert_eq!((counts.failed, counts.dropped), (2, 2));
}

#[test]
fn a_copy_that_waited_has_the_rest_of_its_time() {
    let bed = bed(Mirror::new(candidate().concurrency(1), 10_000), always(Act::Answer(ms(600))));
    bed.drive();
    bed.calls(2);
    bed.world.run_for(secs(2));
    let seen = bed.shadow.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].time_limit, secs(1));
    assert!(seen[1].time_limit > ms(400) && seen[1].time_limit < ms(500), "{:?}", seen[1].time_limit);
    let counts = bed.balance();
    assert_eq!((counts.answered, counts.failed), (1, 1));
}

/// A request that counts its copies, and may panic at them.
struct Parcel(Arc<AtomicU32>, bool);

impl Clone for Parcel {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        if self.1 {
            loaded_panic();
        }
        Self(self.0.clone(), self.1)
    }
}

#[test]
fn what_finds_no_place_is_not_copied_and_a_panic_in_the_copy_is_contained() {
    for panics in [false, true] {
        let (world, copies) = (World::new(), Arc::new(AtomicU32::new(0)));
        let nothing = || backend_fn(|_: &Parcel, _: &_| async { Ok::<_, BackendError>(()) });
        let mirror = Arc::new(Mirror::new(candidate(), 10_000));
        let router: Router<Parcel, ()> = Router::builder(ordered())
            .timer(world.timer().clone())
            .backend(Profile::new("a"), nothing())
            .mirror(mirror.clone())
            .build()
            .unwrap();
        let call = || {
            let (router, parcel) = (router.clone(), Parcel(copies.clone(), panics));
            let task = world.spawn(async move { router.call(&parcel, CallOptions::default()).await.is_ok() });
            world.settle();
            assert!(task.take());
        };
        call();
        assert_eq!(copies.load(Ordering::SeqCst), 0, "nobody sends it");
        let hang = backend_fn(|_: &Parcel, _: &_| std::future::pending::<Result<(), BackendError>>());
        world.spawn(router.shadow(mirror.clone(), hang));
        world.settle();
        (0..10).for_each(|_| call());
        let counts = mirror.counts();
        let made = copies.load(Ordering::SeqCst);
        if panics {
            assert_eq!((made, counts.dropped, counts.in_flight, counts.waiting), (10, 11, 0, 0));
        } else {
            assert_eq!((made, counts.dropped, counts.in_flight, counts.waiting), (4, 7, 2, 2));
        }
    }
}

#[test]
fn a_hard_line_is_drawn_for_copies_too() {
    let profile = || {
        let profile = candidate().region("eu").only_tenants(["t"]).capabilities(Capabilities::TOOLS);
        profile.context_window(1_000)
    };
    let may = || plain().tenant("t");
    let bed = bed(Mirror::new(profile(), 10_000).only(|facts| facts.label_value("skip").is_none()), always(ANSWER));
    bed.drive();
    for (facts, sampled) in [
        (may(), 1),
        (may().residency(["eu"]), 1),
        (may().residency(["us"]), 0),
        (may().residency(["eu", "us"]).needs(Capabilities::TOOLS), 1),
        (may().needs(Capabilities::VISION), 0),
        (may().prompt_tokens(1_001), 0),
        (plain(), 0),
        (plain().tenant("other"), 0),
        (may().label("skip", "yes"), 0),
    ] {
        let before = bed.mirror.counts().sampled;
        let world = &bed.world;
        world.ask(&bed.router, CallOptions::within(secs(5)).facts(facts.clone()));
        world.run_for(secs(1));
        assert_eq!(bed.mirror.counts().sampled - before, sampled, "{facts:?}");
    }
    // A backend of no region is in no residency set.
    let nowhere = self::bed(Mirror::new(candidate(), 10_000), always(ANSWER));
    nowhere.drive();
    nowhere.world.ask(&nowhere.router, options().facts(plain().residency(["eu"])));
    nowhere.world.run_for(secs(1));
    assert_eq!(nowhere.mirror.counts().sampled, 0);
}

#[test]
fn a_filter_that_panics_copies_nothing() {
    let bed = bed(Mirror::new(candidate(), 10_000).only(|_| loaded_panic()), always(ANSWER));
    bed.drive();
    bed.calls(3);
    assert_eq!(bed.balance(), MirrorCounts::default());
}

#[test]
fn a_retry_is_not_copied_again_and_neither_is_who_finds_nobody() {
    let world = World::new();
    let mirror = Arc::new(Mirror::new(candidate(), 10_000));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).mirror(mirror.clone());
    let members = [("a", fail(Overloaded)), ("b", fail(Overloaded)), ("c", ANSWER)];
    let (router, _) = world.fleet(builder, members.map(|(id, act)| (Profile::new(id), always(act))));
    assert_eq!(world.call(&router, options()).unwrap().attempts().len(), 3);
    assert_eq!(mirror.counts().sampled, 1);
    assert!(world.call(&router, options().facts(plain().residency(["mars"]))).is_err());
    assert_eq!(mirror.counts().sampled, 1);
    assert!(router.explain(&options()).chosen().is_some());
    assert_eq!(mirror.counts().sampled, 1);
}

#[test]
fn a_caller_that_goes_away_does_not_take_its_copy_along() {
    let bed = bed(Mirror::new(candidate(), 10_000), always(Act::Answer(ms(500))));
    bed.drive();
    let router = bed.router.clone();
    let gone = bed.world.spawn(async move { dropped_after(1, router.call("ask", options())).await.is_none() });
    bed.world.run_for(secs(1));
    assert!(gone.take());
    let counts = bed.balance();
    assert_eq!((counts.sampled, counts.answered), (1, 1));
}

#[test]
fn one_future_at_a_time_sends_copies_and_what_it_drops_is_counted() {
    let bed = bed(Mirror::new(candidate(), 10_000), always(Act::Answer(ms(500))));
    let first = Box::pin(bed.router.shadow(bed.mirror.clone(), bed.shadow.clone()));
    let mut first = dropped_after(2, first);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut first).poll(&mut cx).is_pending());
    // The second ends at once.
    let second = bed.world.spawn(bed.router.shadow(bed.mirror.clone(), bed.shadow.clone()));
    bed.world.settle();
    second.take();
    bed.calls(3);
    assert!(std::pin::Pin::new(&mut first).poll(&mut cx).is_ready());
    assert_eq!(bed.mirror.counts().abandoned, 2);
    assert_eq!((bed.mirror.counts().waiting, bed.mirror.counts().dropped), (0, 1));
    // Another may take its place.
    bed.drive();
    bed.calls(1);
    bed.world.run_for(secs(1));
    assert_eq!(bed.balance().answered, 1);
}

#[test]
fn counts_balance_when_threads_call_while_another_sends_copies() {
    let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let mirror = Arc::new(Mirror::new(candidate().concurrency(4), 10_000));
    let router: Router<str, ()> =
        Router::builder(ordered()).backend(Profile::new("a"), model()).mirror(mirror.clone()).build().unwrap();
    let shadow = router.shadow(mirror.clone(), model());
    let sender = std::thread::spawn(move || futures::executor::block_on(shadow));
    let call = |router: Router<str, ()>| {
        move || (0..5_000).for_each(|_| drop(futures::executor::block_on(router.call("ask", options())).unwrap()))
    };
    let callers: Vec<_> = (0..4).map(|_| std::thread::spawn(call(router.clone()))).collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    // With the last clone of the router the sender ends: no wake-up was lost.
    drop(router);
    sender.join().unwrap();
    let counts = mirror.counts();
    assert_eq!((counts.sampled, counts.waiting, counts.in_flight), (20_000, 0, 0));
    assert_eq!(counts.sampled, counts.dropped + counts.answered);
    assert!(counts.answered > 0);
}

#[test]
fn an_overload_comes_before_copies() {
    let world = World::new();
    let mirror = Arc::new(Mirror::new(candidate(), 10_000));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).mirror(mirror.clone());
    let member = |id: &str| (Profile::new(id).attempt_limit(secs(1)), always(Act::Hang));
    let (router, _) = world.fleet(builder, [member("a"), member("b")]);
    let shadow = world.backend("candidate", always(ANSWER));
    world.spawn(router.shadow(mirror.clone(), shadow.clone()));
    for _ in 0..20 {
        world.ask(&router, options());
        world.run_for(secs(6));
    }
    let counts = mirror.counts();
    assert_eq!((counts.sampled, counts.answered + counts.dropped), (20, 20));
    assert!(counts.dropped >= 12 && counts.answered >= 2, "{counts:?}");
}

#[test]
fn a_drained_stream_ends_with_its_last_item() {
    let world = World::new();
    let mirror = Arc::new(Mirror::new(candidate(), 10_000));
    let told = Told::default();
    let builder = world.router(ordered()).observer(told.clone()).mirror(mirror.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(ANSWER))]);
    let stream = |steps: Vec<Step>| Act::Stream(ms(50), steps);
    let whole = stream(vec![Step::Item, Step::Pause(ms(100)), Step::Item]);
    let broken = stream(vec![Step::Item, Step::Break(FailureKind::Truncated)]);
    let endless = stream(vec![Step::Item, Step::Hang]);
    let shadow = world.backend("candidate", in_turn([whole, broken, endless, stream(vec![Step::Panic])]));
    let shadow = BackendExt::<str>::map_response(shadow, |reply: Reply| reply);
    world.spawn(router.shadow(mirror.clone(), shadow.drained()));
    for _ in 0..4 {
        world.ask(&router, options());
        world.run_for(secs(2));
    }
    let told: Vec<_> = told.0.lock().unwrap().iter().map(|(_, elapsed, failure)| (*elapsed, *failure)).collect();
    let expected = [
        (ms(150), None),
        (ms(50), Some(FailureKind::Truncated)),
        (secs(1), Some(FailureKind::Timeout)),
        (ms(50), Some(FailureKind::Panicked)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_mirror_that_cannot_be_meant_has_a_name() {
    let world = World::new();
    let error = |policy: Box<dyn RoutingPolicy>, mirror: Mirror<str>| {
        let builder = world.router(policy).backend(Profile::new("a").region("eu"), world.backend("a", always(ANSWER)));
        builder.mirror(Arc::new(mirror)).build().unwrap_err()
    };
    let plain = |mirror| error(ordered().boxed(), mirror);
    for (share, words) in
        [(0, "mirror \"candidate\": a share of zero"), (10_001, "a share of 10001 is more than 10000")]
    {
        let told = plain(Mirror::new(candidate(), share));
        assert!(matches!(&told, BuildError::Mirror(_)) && told.to_string().contains(words), "{told}");
    }
    for (profile, words) in [
        (candidate().requests_per_minute(60), "mirror \"candidate\": its profile has a quota"),
        (candidate().tokens_per_minute(60), "has a quota"),
        (candidate().max_prefill_tokens(60), "mirror \"candidate\": its profile bounds tokens"),
        (
            candidate().adaptive_concurrency(Adaptive::Aimd),
            "mirror \"candidate\": its profile has a limit that is learned",
        ),
    ] {
        let told = plain(Mirror::new(profile, 1));
        assert!(matches!(&told, BuildError::Mirror(_)) && told.to_string().contains(words), "{told}");
    }
    assert!(matches!(plain(Mirror::new(candidate().concurrency(0), 1)), BuildError::ZeroLimit { .. }));
    assert!(matches!(plain(Mirror::new(candidate().attempt_limit(secs(0)), 1)), BuildError::ZeroLimit { .. }));
    assert!(matches!(plain(Mirror::new(Profile::new(" "), 1)), BuildError::EmptyId { .. }));
    let builder = world.router(ordered()).backend(Profile::new("a"), world.backend("a", always(ANSWER)));
    let twice = builder.mirror(Arc::new(Mirror::new(candidate(), 1))).mirror(Arc::new(Mirror::new(candidate(), 2)));
    assert_eq!(twice.build().unwrap_err(), BuildError::DuplicateId("candidate".into()));
    let eu = || ordered().region_failover(Regions::new("eu").residency(["eu"])).boxed();
    let told = error(eu(), Mirror::new(candidate().region("us"), 1));
    assert!(told.to_string().contains("outside the regions of the policy"), "{told}");
}
