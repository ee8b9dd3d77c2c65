//! A policy that panics inside fail-safe costs the ranking, not the request.

use crate::support::{ANSWER, Act, Task, World, always, fail, in_turn, loaded_panic, ms, plain, secs, within};
use fallway::FailureKind::ServerError;
use fallway::policy::{FailSafe, FailSafePolicy, PolicyExt, policy_fn};
use fallway::{CallOptions, Facts, Profile, RoutingPolicy};

fn bomb() -> FailSafePolicy<impl RoutingPolicy> {
    policy_fn("bomb", |_, _| loaded_panic()).fail_safe(FailSafe::default())
}

#[test]
fn a_retry_goes_on_to_the_next_when_the_policy_panics() {
    for good in 0..3usize {
        let world = World::new();
        let members = ["a", "b", "c"].map(|id| {
            let works = id == ["a", "b", "c"][good];
            (Profile::new(id), always(if works { ANSWER } else { fail(ServerError) }))
        });
        let (router, _) = world.fleet(world.router(bomb()), members);
        for _ in 0..5 {
            let routed = world.call(&router, within(secs(5))).unwrap();
            assert!(routed.decision().policy_panicked());
            let tried: Vec<_> = routed.attempts().iter().map(|attempt| attempt.name()).collect();
            assert_eq!(tried, ["a", "b", "c"][..=good]);
        }
    }
}

#[test]
fn a_retry_waits_for_who_is_busy_when_the_policy_panics() {
    let world = World::new();
    let members = [
        (Profile::new("a"), always(fail(ServerError))),
        (Profile::new("b").model("b").concurrency(1), in_turn([Act::Answer(ms(100)), ANSWER])),
    ];
    let (router, [a, b]) = world.fleet(world.router(bomb()), members);
    let first = world.ask(&router, CallOptions::within(secs(5)).facts(Facts::model("b")));
    world.settle();
    let second = world.ask(&router, CallOptions::within(secs(5)).facts(plain()));
    world.run();
    let [first, second] = [first, second].map(Task::take);
    assert_eq!((first.took, second.took, second.attempts), (ms(100), ms(120), 2));
    assert_eq!((a.calls(), b.calls()), (1, 2));
}
