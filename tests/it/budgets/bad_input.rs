//! Settings and requests that make no sense.

use super::*;
use fallway::BuildError;
use fallway::RoutingPolicy;
use fallway::budget::Hedge;
use fallway::policy::Regions;
use fallway::router::RouteErrorKind;

fn mistake(policy: impl RoutingPolicy + 'static) -> String {
    let world = World::new();
    let backend = world.backend("a", always(Act::Answer(ms(1))));
    let built = world.router(policy).default_deadline(secs(10)).backend(member("a"), backend).build();
    match built {
        Err(BuildError::Policy(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => String::new(),
    }
}

#[test]
fn reserves_have_room_for_an_attempt() {
    let with =
        |reserve| mistake(ordered().budgeted(Budgets::default().reserve(reserve)).fail_safe(FailSafe::default()));
    assert_eq!(with(secs(9)), "");
    assert_eq!(with(secs(10)), "budgeted: a reserve of 10s is all of the default deadline of 10s");
    assert_eq!(with(Duration::MAX).split(" is all").nth(1), Some(" of the default deadline of 10s"));
    assert_eq!(with(secs(0)), "budgeted: a reserve of zero leaves nothing for the attempt that follows");
}

#[test]
fn fail_safe_stands_around_it() {
    let inside_out = ordered().fail_safe(FailSafe::default()).budgeted(Budgets::default());
    assert_eq!(mistake(inside_out), "budgeted: fail_safe stands inside of it; it belongs around it");
    // Mistakes of what is inside are found as well.
    let capacity = fallway::policy::Capacity::default().headroom(2.0, 1.0);
    let nested = ordered().capacity_aware(capacity).budgeted(Budgets::default());
    assert!(mistake(nested).starts_with("capacity_aware: "));
}

#[test]
fn one_budgeted_is_enough() {
    let inner = ordered().budgeted(Budgets::default().reserve(secs(1)));
    let nested = inner.region_failover(Regions::new("eu")).budgeted(Budgets::default().hedge(Hedge::default()));
    let told = mistake(nested.fail_safe(FailSafe::default()));
    assert_eq!(told, "budgeted: wraps another budgeted: the reserve and the hedge of one of them would not hold");
}

#[test]
fn a_deadline_in_the_past_is_answered_at_once() {
    let world = World::new();
    let (router, [a]) = world
        .fleet(stack(&world, Budgets::default(), FailSafe::default()), [(member("a"), always(Act::Answer(ms(1))))]);
    let (error, took) = world.timed(|| world.call(&router, ask("m", secs(0))).unwrap_err());
    assert_eq!((error.kind(), error.attempts().len(), took), (RouteErrorKind::ZeroDeadline, 0, secs(0)));
    assert_eq!(a.calls(), 0);
    // A nanosecond is not zero, and nothing is known yet that forbids it.
    assert_eq!(
        world.call(&router, ask("m", Duration::from_nanos(1))).unwrap_err().kind(),
        RouteErrorKind::DeadlineExceeded
    );
}

#[test]
fn absurd_requests_saturate() {
    let world = World::new();
    let (router, _) = world.fleet(
        stack(&world, Budgets::default().whole_answers(), FailSafe::default()),
        [(member("a"), always(Act::Answer(secs(1))))],
    );
    teach(&world, &router, ["m"]);
    let facts = plain().prompt_tokens(u64::MAX / 2).output_tokens(u64::MAX);
    let decision = router.explain(&CallOptions::within(secs(60)).facts(facts));
    assert!(missed(&decision, "a").is_some(), "{decision}");
    assert_eq!(chosen(&router.explain(&ask("m", Duration::MAX))), Some("a"));
}
