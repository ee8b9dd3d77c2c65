//! Whose turn it is depends on nothing but the requests for the same model.

use crate::support::{ANSWER, Scripted, World, always, fail, secs};
use fallway::FailureKind::ServerError;
use fallway::policy::{FailSafe, PolicyExt, round_robin};
use fallway::recover::Ejection;
use fallway::{CallOptions, Facts, Profile};

fn asks(model: &str) -> CallOptions {
    CallOptions::within(secs(5)).facts(Facts::model(model).replay_safe())
}

#[test]
fn each_model_takes_its_own_turns() {
    for safe in [false, true] {
        let world = World::new();
        let policy = if safe { round_robin().fail_safe(FailSafe::default()).boxed() } else { round_robin().boxed() };
        let members = ["a1", "a2", "b1", "b2"].map(|id| (Profile::new(id).model(&id[..1]), always(ANSWER)));
        let (router, backends) = world.fleet(world.router(policy), members);
        for n in 0..100 {
            world.call(&router, asks(if n % 2 == 0 { "a" } else { "b" })).unwrap();
        }
        assert_eq!(backends.map(|backend| backend.calls()), [25; 4], "fail-safe: {safe}");
    }
}

#[test]
fn a_retry_takes_nobodys_turn() {
    let world = World::new();
    let members = [(Profile::new("a").model("m"), fail(ServerError)), (Profile::new("b").model("m"), ANSWER)];
    let builder = world
        .router(round_robin().fail_safe(FailSafe::default()))
        // It stays in the running, whatever it does.
        .ejection(Ejection::default().consecutive(u32::MAX).failure_rate(None));
    let (router, backends) = world.fleet(builder, members.map(|(profile, act)| (profile, always(act))));
    let firsts: Vec<_> =
        (0..100).map(|_| world.call(&router, asks("m")).unwrap().attempts()[0].name().to_owned()).collect();
    assert!(firsts.windows(2).all(|pair| pair[0] != pair[1]), "{firsts:?}");
    assert_eq!(backends.each_ref().map(Scripted::calls), [50, 100]);
}
