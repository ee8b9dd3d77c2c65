//! Deadlines.
//!
//! Elsewhere: no total timeout, in `fail_safe::retries::there_is_always_a_deadline_of_sixty_seconds_at_most`.

use crate::support::{ANSWER, Act, Reply, Script, Step, World, always, fail, in_turn, ms, secs, within};
use fallway::FailureKind::{RateLimited, ServerError};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::Builder;
use fallway::{CallOptions, Facts, Profile};
use futures::StreamExt;
use std::time::Duration;

#[test]
fn a_chain_of_tiers_ends_at_the_deadline() {
    let world = World::new();
    let members = ["m0", "m1", "m2", "m3"].map(|id| (Profile::new(id).model(id), always(Act::Hang)));
    let config = FailSafe::default().tiers("chat", ["m0", "m1", "m2", "m3"]).attempts(4);
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let options = CallOptions::within(secs(2)).facts(Facts::model("chat").replay_safe());
    let (answered, took) = world.timed(|| world.call(&router, options));
    assert_eq!((answered.unwrap_err().attempts().len(), took), (4, secs(2)));
    assert!(backends.iter().all(|backend| backend.calls() == 1));
}

/// How long a request with two seconds takes over a backend with this script, read to its end.
fn takes(script: Script, configure: impl FnOnce(&World, Builder<str, Reply>) -> Builder<str, Reply>) -> Duration {
    let world = World::new();
    let builder = configure(&world, world.router(ordered().fail_safe(FailSafe::default())));
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), script)]);
    let ((), took) = world.timed(|| {
        world.block_on(async move {
            if let Ok(mut stream) = router.stream("ask", within(secs(2))).await {
                while stream.next().await.is_some() {}
            }
        });
    });
    took
}

#[test]
fn the_deadline_holds_on_every_path() {
    let plain = |_: &World, builder| builder;
    let stream = |steps: Vec<Step>| always(Act::Stream(ms(10), steps));
    let drip: Vec<_> = (0..1000).flat_map(|_| [Step::Pause(ms(300)), Step::Item]).collect();
    for (path, took) in [
        ("call", takes(always(Act::Hang), plain)),
        ("before the first item", takes(stream(vec![Step::Hang]), plain)),
        ("after the role", takes(stream(vec![Step::Role, Step::Hang]), plain)),
        ("after an item", takes(stream(vec![Step::Item, Step::Hang]), plain)),
        ("between items", takes(stream(drip), plain)),
        (
            "last resort",
            takes(always(fail(ServerError)), |world, builder| {
                builder.last_resort(world.backend("last", always(Act::Hang)))
            }),
        ),
    ] {
        assert_eq!(took, secs(2), "{path}");
    }
    for (path, took) in [
        ("wait for a return", takes(always(Act::Hint(RateLimited, ms(500), ms(1400))), plain)),
        ("back-off", takes(always(Act::Fail(ServerError, ms(600))), plain)),
    ] {
        assert!(took > secs(1) && took <= secs(2), "{path}: {took:?}");
    }
}

#[test]
fn the_deadline_holds_in_the_queue() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default()));
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(Act::Hang))]);
    let start = world.now();
    let calls: Vec<_> = (1..=5).map(|n| world.spawn_call(&router, within(secs(n)))).collect();
    for (n, call) in (1..).zip(calls) {
        world.run_for(start + secs(n) - world.now());
        assert!(call.is_done(), "a caller with {n} s waits longer");
    }
    world.run();
}

#[test]
fn a_fallback_loses_no_time_to_back_off() {
    let world = World::new();
    let members = [
        (Profile::new("a").model("m"), in_turn([fail(ServerError)])),
        (Profile::new("b").model("spare"), always(ANSWER)),
    ];
    let config = FailSafe::default().fallback(["spare"]);
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let options = CallOptions::within(ms(25)).facts(Facts::model("m").replay_safe());
    let (answered, took) = world.timed(|| world.call(&router, options));
    assert_eq!((answered.unwrap().backend(), took), (Some("b"), ms(20)));
}
