//! Why a request got no backend.

use crate::support::{ANSWER, Act, TestRouter, World, always, fail, ms, plain, secs, within};
use fallway::FailureKind::{InvalidRequest, Overloaded, ServerError};
use fallway::budget::RetryBudget;
use fallway::decision::{Next, Refusal};
use fallway::facts::{Price, Priority};
use fallway::policy::{Budgets, FailSafe, PolicyExt, ordered};
use fallway::registry::{self, Registry};
use fallway::router::{Builder, RouteErrorKind};
use fallway::shape::{RateLimit, SpendLimit};
use fallway::{CallOptions, Facts, Profile};
use std::sync::Arc;
use std::time::SystemTime;

/// The refusal of one call, and its kind.
fn refused(world: &World, router: &TestRouter, options: CallOptions) -> (Refusal, RouteErrorKind) {
    let error = world.call(router, options).unwrap_err();
    let Next::Refuse { why } = error.decision().next() else { panic!("{error}") };
    assert!(error.to_string().contains("refused: "), "{error}");
    (why, error.kind())
}

fn trio(
    world: &World,
    act: &Act,
    configure: impl FnOnce(Builder<str, crate::support::Reply>) -> Builder<str, crate::support::Reply>,
) -> TestRouter {
    let members = ["a", "b", "c"].map(|id| (Profile::new(id).model("m"), always(act.clone())));
    world.fleet(configure(world.router(ordered().fail_safe(FailSafe::default()))), members).0
}

#[test]
fn nothing_usable() {
    let world = World::new();
    let router = trio(&world, &ANSWER, |builder| builder);
    let options = within(secs(5)).facts(plain().residency(["mars"]));
    assert_eq!(refused(&world, &router, options), (Refusal::NothingUsable, RouteErrorKind::NothingUsable));
}

#[test]
fn unknown_model() {
    let world = World::new();
    let router = trio(&world, &ANSWER, |builder| builder);
    let options = within(secs(5)).facts(Facts::model("n"));
    assert_eq!(refused(&world, &router, options), (Refusal::UnknownModel, RouteErrorKind::UnknownModel));
}

/// A router whose registry has `m@1`, which it does not serve.
fn unserved(world: &World, registry: registry::Builder) -> TestRouter {
    let registry = Arc::new(registry.refuse_when_expired().open(SystemTime::UNIX_EPOCH));
    let catalog = registry::Catalog::new().version("m", "1", registry::ModelVersion::new(registry::State::Retired));
    registry.publish(&catalog.into(), SystemTime::UNIX_EPOCH).unwrap();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).registry(registry.clone());
    let router = world.fleet(builder, [(Profile::new("a").model("m@1"), always(ANSWER))]).0;
    let options = within(secs(5)).facts(Facts::model("m@1"));
    let expected = (Refusal::NotServed { state: "retired" }, RouteErrorKind::NotServed);
    assert_eq!(refused(world, &router, options), expected);
    registry.tick(SystemTime::UNIX_EPOCH + Registry::EXPIRED_AFTER);
    router
}

#[test]
fn not_served() {
    let world = World::new();
    let router = unserved(&world, Registry::builder());
    // Expired or not, whoever asks the router by another name is none of the registry's.
    let decision = router.explain(&within(secs(5)).facts(Facts::model("m")));
    assert!(!matches!(decision.next(), Next::Refuse { why: Refusal::NotServed { .. } }), "{decision}");
}

#[test]
fn registry_expired() {
    let world = World::new();
    let router = unserved(&world, Registry::builder());
    let options = within(secs(5)).facts(Facts::model("m@1"));
    assert_eq!(refused(&world, &router, options), (Refusal::RegistryExpired, RouteErrorKind::RegistryExpired));
}

#[test]
fn attempts_exhausted() {
    let world = World::new();
    let router = trio(&world, &fail(Overloaded), |builder| builder);
    let expected = (Refusal::AttemptsExhausted { attempts: 3 }, RouteErrorKind::AttemptsExhausted);
    assert_eq!(refused(&world, &router, within(secs(5))), expected);
}

#[test]
fn retry_budget_empty() {
    let world = World::new();
    let router = trio(&world, &fail(Overloaded), |builder| builder.retry_budget(RetryBudget::new(0.0, 0).unwrap()));
    let expected = (Refusal::RetryBudgetEmpty, RouteErrorKind::RetryBudgetEmpty);
    assert_eq!(refused(&world, &router, within(secs(5))), expected);
}

#[test]
fn not_retryable() {
    for (kind, facts) in [(InvalidRequest, plain()), (ServerError, Facts::any())] {
        let world = World::new();
        let router = trio(&world, &fail(kind), |builder| builder);
        let expected = (Refusal::NotRetryable { kind }, RouteErrorKind::NotRetryable);
        assert_eq!(refused(&world, &router, within(secs(5)).facts(facts)), expected);
    }
}

#[test]
fn deadline_exceeded() {
    let world = World::new();
    let router = trio(&world, &Act::Hang, |builder| builder);
    let expected = (Refusal::DeadlineExceeded, RouteErrorKind::DeadlineExceeded);
    assert_eq!(refused(&world, &router, within(secs(5))), expected);
}

#[test]
fn zero_deadline() {
    let world = World::new();
    let router = trio(&world, &ANSWER, |builder| builder);
    let expected = (Refusal::ZeroDeadline, RouteErrorKind::ZeroDeadline);
    assert_eq!(refused(&world, &router, within(secs(0))), expected);
}

#[test]
fn queue_full() {
    let world = World::new();
    let (router, _) = world.fleet(
        world.router(ordered().fail_safe(FailSafe::default())).queue(0),
        [(Profile::new("a").concurrency(1), always(Act::Answer(ms(500))))],
    );
    let first = world.spawn_call(&router, within(secs(5)));
    world.settle();
    let expected = (Refusal::QueueFull, RouteErrorKind::QueueFull);
    assert_eq!(refused(&world, &router, within(secs(5))), expected);
    assert!(first.take().is_ok());
}

/// One slot that is taken for half a second, and a queue.
fn busy(
    world: &World,
    configure: impl FnOnce(Builder<str, crate::support::Reply>) -> Builder<str, crate::support::Reply>,
) -> TestRouter {
    let builder = configure(world.router(ordered().fail_safe(FailSafe::default())));
    let router = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Answer(ms(500))))]).0;
    drop(world.ask(&router, within(secs(5))));
    world.settle();
    router
}

#[test]
fn shed() {
    let world = World::new();
    let router = busy(&world, |builder| builder.queue(1));
    let critical = router.clone();
    let timer = world.timer().clone();
    world.spawn(async move {
        timer.sleep(ms(100)).await;
        let facts = plain().priority(Priority::Critical);
        drop(critical.call("ask", within(secs(5)).facts(facts)).await);
    });
    let expected = (Refusal::Shed, RouteErrorKind::Shed);
    assert_eq!(refused(&world, &router, within(secs(5)).facts(plain().priority(Priority::Batch))), expected);
}

#[test]
fn too_late() {
    let world = World::new();
    let router = busy(&world, |builder| builder);
    let crowd: Vec<_> = (0..20).map(|_| world.ask(&router, within(secs(10)))).collect();
    world.run_for(secs(5));
    let error = world.spawn_call(&router, within(secs(5)));
    world.settle();
    let error = error.take().unwrap_err();
    let Next::Refuse { why: Refusal::TooLate { ahead, .. } } = error.decision().next() else { panic!("{error}") };
    assert_eq!((ahead, error.kind()), (10, RouteErrorKind::TooLate));
    drop(crowd);
}

#[test]
fn would_be_cut_short() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let router = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Answer(secs(4))))]).0;
    // The second is done after eight seconds. The third has two left then, and the fourth would have one after it.
    let [.., fourth] = [60, 9, 10, 11].map(|time| {
        let call = world.spawn_call(&router, within(secs(time)));
        world.settle();
        call
    });
    world.run();
    let error = fourth.take().unwrap_err();
    let expected = Refusal::WouldBeCutShort { left: 1_000_000_000, needed: 3_000_000_000 };
    assert_eq!((error.decision().next(), error.kind()), (Next::Refuse { why: expected }, RouteErrorKind::TooLate));
    let words = "it has 1.00 s left, and with less than 3.00 s calls of its tenant were cut short";
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn waited_too_long() {
    let world = World::new();
    let router = busy(&world, |builder| builder.longest_wait(ms(200)));
    let expected = (Refusal::WaitedTooLong { waited: 200_000_000 }, RouteErrorKind::WaitedTooLong);
    assert_eq!(refused(&world, &router, within(secs(5))), expected);
}

#[test]
fn over_spend() {
    let world = World::new();
    let price = Price::per_million(1.0, 2.0).unwrap();
    let limit = SpendLimit::new("tenant", 0.000_001, secs(60)).by_tenant();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).spend_limit(limit);
    let router = world.fleet(builder, [(Profile::new("a").price(price), always(ANSWER))]).0;
    let expected = Refusal::OverSpend { limit: "tenant", until: None };
    assert_eq!(refused(&world, &router, within(secs(5))), (expected, RouteErrorKind::OverSpend));
}

#[test]
fn over_rate() {
    let world = World::new();
    let limit = RateLimit::new("tenant", 1, secs(10)).by_tenant();
    let router = trio(&world, &ANSWER, |builder| builder.rate_limit(limit));
    let first = world.now();
    assert!(world.call(&router, within(secs(5))).is_ok());
    let (why, kind) = refused(&world, &router, within(secs(5)));
    let Refusal::OverRate { limit: "tenant", until } = why else { panic!("{why:?}") };
    assert!(until >= first + secs(10) && until <= first + secs(10) + ms(1), "{until:?}");
    assert_eq!(kind, RouteErrorKind::OverRate);
}

#[test]
fn infeasible() {
    let world = World::new();
    let policy = ordered().budgeted(Budgets::default()).fail_safe(FailSafe::default());
    let (router, _) = world.fleet(world.router(policy), [(Profile::new("a"), always(Act::Answer(secs(1))))]);
    (0..30).for_each(|_| drop(world.call(&router, within(secs(5)))));
    let (why, kind) = refused(&world, &router, within(ms(100)));
    assert!(matches!(why, Refusal::Infeasible { left: 100_000_000, .. }), "{why:?}");
    assert_eq!(kind, RouteErrorKind::Infeasible);
}
