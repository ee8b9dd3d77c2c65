//! What every backend, policy and signal must do, as functions that any implementation can be put through.

use crate::support::{ANSWER, Act, LEAVES, Opinion, Step, World, always, fail, leaf, ms, plain, secs, within};
use fallway::backend::{Attempt, Backend, BackendError, BackendExt, BackendId, backend_fn};
use fallway::decision::Next;
use fallway::event::{Event, Outcome};
use fallway::facts::{Capabilities, Price};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, Window, describe, policy_fn};
use fallway::recover::Ejection;
use fallway::signal::{HealthSignal, HealthSignalExt, Reading, Score};
use fallway::time::Instant;
use fallway::{CallOptions, Facts, FailureKind, Profile, Router};
use std::sync::{Arc, Mutex};

/// A backend takes a borrowed request, can be called many times at once, and can be dropped at any poll. Through a
/// router it counts as one attempt per call, whatever becomes of it.
fn backend_conforms<B>(make: impl Fn(&World) -> B)
where
    B: Backend<str>,
    B::Response: 'static,
{
    let world = World::new();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let spy = Spy { backend: Arc::new(make(&world)), attempts: attempts.clone() };
    let router = Router::<str, B::Response>::builder(leaf("ordered"))
        .timer(world.timer().clone())
        // Nobody leaves, however it fails.
        .ejection(Ejection::default().consecutive(u32::MAX))
        .backend(Profile::new("a"), spy)
        .build()
        .unwrap();
    for polls in 0..5 {
        let router = router.clone();
        world.block_on(crate::support::dropped_after(polls, async move {
            drop(router.call("ask", within(secs(5))).await);
        }));
        assert_eq!(world.timer().next_wake(), None, "{polls} polls: a dropped call still sleeps");
    }
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let router = router.clone();
            world.spawn(async move {
                match router.call("ask", within(secs(5))).await {
                    Ok(routed) => routed.attempts().len(),
                    Err(error) => error.attempts().len(),
                }
            })
        })
        .collect();
    world.run();
    assert!(calls.into_iter().all(|call| call.take() == 1));
    let attempts = attempts.lock().unwrap();
    for attempt in attempts.iter() {
        assert_eq!((attempt.number(), attempt.backend()), (1, BackendId::new(0, 0)));
        assert!(attempt.time_limit() <= attempt.time_left() && attempt.time_left() <= secs(5));
    }
    assert_eq!(router.total_in_flight(), 0);
    assert_eq!(world.timer().next_wake(), None, "a dropped call still sleeps");
}

/// Notes the attempts of a backend.
struct Spy<B> {
    backend: Arc<B>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

#[async_trait::async_trait]
impl<B: Backend<str>> Backend<str> for Spy<B> {
    type Response = B::Response;

    async fn call(&self, request: &str, attempt: &Attempt) -> Result<B::Response, BackendError> {
        self.attempts.lock().unwrap().push(attempt.clone());
        self.backend.call(request, attempt).await
    }
}

/// A policy decides over any fleet and any facts without a panic, replays to the same choice, decides equally for
/// equal inputs, calls nobody that is rejected, and leaves no trace of a dry run.
fn policy_conforms(make: impl Fn() -> Box<dyn RoutingPolicy>) {
    let name = make().name();
    assert!(!name.is_empty() && describe(&make()).starts_with(name));
    for size in [1usize, 2, 3, 64, 65, 200] {
        let build = || {
            let world = World::new();
            let mut builder = world.router(make());
            for n in 0..size {
                let id = format!("b{n}");
                builder = builder.backend(
                    any_profile(n, &id),
                    world.backend(&id, always(if n % 4 == 1 { fail(FailureKind::Overloaded) } else { ANSWER })),
                );
            }
            (world, builder.build().unwrap())
        };
        let ((world, router), (twin_world, twin)) = (build(), build());
        for (n, facts) in any_facts().into_iter().enumerate() {
            let options = CallOptions::within(secs(5)).facts(facts);
            let (decision, again) = (router.explain(&options), twin.explain(&options));
            assert!(!decision.policy_panicked(), "{name}: {decision}");
            assert!(decision.same_choice(&again), "{name}, {size}, {n}:\n{decision}\n{again}");
            assert!(router.replay(&decision).same_choice(&decision), "{name}, {size}, {n}:\n{decision}");
            match (decision.next(), decision.chosen()) {
                (Next::Call { .. }, Some(chosen)) => assert_eq!(chosen.rejected(), None, "{name}"),
                (Next::Call { .. }, None) => panic!("{name}: {decision}"),
                (_, chosen) => assert!(chosen.is_none(), "{name}"),
            }
            assert!(decision.candidates().count() <= Window::SIZE * 2, "{name}");
            assert_eq!((router.total_in_flight(), world.timer().next_wake()), (0, None));
            let outcome = |world: &World, router| {
                world.call(router, options.clone()).map(|it| it.backend().map(str::to_owned)).ok()
            };
            assert_eq!(outcome(&world, &router), outcome(&twin_world, &twin), "{name}, {size}, {n}");
        }
    }
    // The same through every pointer.
    let through: [Box<dyn RoutingPolicy>; 3] = [make().boxed(), Box::new(Arc::new(make())), make().boxed().boxed()];
    for policy in through {
        assert_eq!((describe(&policy), policy.window()), (describe(&make()), make().window()));
    }
}

fn any_profile(n: usize, id: &str) -> Profile {
    let profile = Profile::new(id).model(["m@1", "m@2", "n"][n % 3]).weight(0.5 + n as f64);
    let profile = profile.region(["eu", "us"][n % 2]).concurrency(1 + n as u32);
    match n % 5 {
        0 => profile.price(Price::per_million(n as f64, 1.0).unwrap()),
        1 => profile.capabilities(Capabilities::TOOLS),
        2 => profile.drained(n % 2 == 1),
        _ => profile,
    }
}

fn any_facts() -> Vec<Facts> {
    vec![
        Facts::any(),
        plain(),
        plain().session("s").tenant("t"),
        plain().residency(["us"]),
        plain().residency(["mars"]),
        plain().prompt_tokens(u64::MAX).output_tokens(u64::MAX),
        plain().prompt_tokens(0).output_tokens(0),
        plain().needs(Capabilities::TOOLS).max_cost(0),
        Facts::model("m").replay_safe(),
        Facts::model("m@2").replay_safe().session(""),
        Facts::model("nowhere"),
    ]
}

/// A signal answers for any backend at any time, also for those that it never heard of; reading changes nothing; it
/// takes any event in any order; and what it says of nobody is nothing.
fn signal_conforms(make: impl Fn() -> Box<dyn HealthSignal>) {
    let signal = make();
    assert!(!signal.name().is_empty());
    let times = [0, 1, 1_000_000_000_000, u64::MAX].map(Instant::from_nanos);
    let ids = [BackendId::new(0, 0), BackendId::new(3, 9), BackendId::new(u32::MAX, u32::MAX)];
    for now in times {
        for id in ids {
            let first = signal.read(id, now);
            assert!((0..10).all(|_| signal.read(id, now) == first), "reading changes what is read");
            if let Reading::Fresh { at, .. } | Reading::Stale { at, .. } = first {
                assert!(at <= now, "a reading of the future");
            }
        }
        assert_eq!(signal.read(ids[2], now), Reading::Missing, "a backend that nobody spoke of");
    }
    let profile = Profile::new("a");
    let error = BackendError::new(FailureKind::ServerError);
    for (now, id) in times.into_iter().rev().zip(ids.iter().cycle()) {
        for outcome in [Outcome::Cancelled, Outcome::Failure(&error), Outcome::Success] {
            signal.observe(&Event::Ended { backend: *id, profile: &profile, elapsed: ms(1), outcome }, now);
        }
        signal.observe(&Event::Started { backend: *id, profile: &profile, attempt: 1 }, now);
        signal.observe(&Event::FirstItem { backend: *id, profile: &profile, elapsed: ms(1) }, now);
        signal.observe(&Event::Panicked { name: "x" }, now);
    }
    // In a router it sees the events of all attempts, and decisions live with whatever it says.
    let world = World::new();
    let builder = world.router(leaf("ordered").fail_safe(FailSafe::default())).signal(Boxed(make()));
    let members = ["a", "b"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, _) = world.fleet(builder, members);
    for _ in 0..10 {
        assert!(world.call(&router, within(secs(5))).is_ok());
    }
}

#[derive(Debug)]
struct Boxed(Box<dyn HealthSignal>);

impl HealthSignal for Boxed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        self.0.read(backend, now)
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        self.0.observe(event, now);
    }
}

#[test]
fn every_kind_of_backend() {
    let scripted = |act: Act| move |world: &World| world.backend("a", always(act.clone()));
    for act in
        [ANSWER, fail(FailureKind::ServerError), Act::Hang, Act::Panic(ms(1)), Act::PanicInCall, Act::PanicInDrop]
    {
        backend_conforms(scripted(act));
    }
    let steps = vec![Step::Item, Step::Pause(ms(5)), Step::Item];
    let streams = move |world: &World| world.backend("a", always(Act::Stream(ms(5), steps.clone())));
    backend_conforms(streams.clone());
    backend_conforms(move |world| streams(world).commit_on_first_item());
    backend_conforms(|world| Arc::new(world.backend("a", always(ANSWER))));
    backend_conforms(|world| Box::new(world.backend("a", always(ANSWER))));
    backend_conforms(|world| world.backend("a", always(ANSWER)).map_response(|reply| reply.backend().len()));
    backend_conforms(|_| {
        backend_fn(|request: &str, _: &_| {
            let answer = request.len();
            async move { Ok::<_, BackendError>(answer) }
        })
    });
}

#[test]
fn every_leaf() {
    for name in LEAVES {
        policy_conforms(|| leaf(name));
    }
}

#[test]
fn every_leaf_in_fail_safe() {
    for name in LEAVES {
        policy_conforms(|| leaf(name).fail_safe(FailSafe::default()).boxed());
    }
}

#[test]
fn closures() {
    policy_conforms(|| policy_fn("by_name", |_, slate| slate.rank(|candidate| candidate.id().slot() as u64)).boxed());
    policy_conforms(|| policy_fn("silent", |_, _| ()).boxed());
}

#[test]
fn every_signal() {
    signal_conforms(|| Box::new(Opinion::default()));
    signal_conforms(|| Box::new(Opinion::default().fresh_for(secs(2))));
    signal_conforms(|| Box::new(Arc::new(Opinion::default())));
    signal_conforms(|| Box::new(Arc::new(Opinion::default()).fresh_for(secs(2)).fresh_for(secs(1))));
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
