//! Updates that are refused.

use super::{backend, one};
use crate::support::{ANSWER, World, always, ms, secs, within};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{BuildError, CallOptions, Facts, Profile};

#[test]
fn updates_that_name_an_unknown_backend() {
    let world = World::new();
    let (router, _) = one(&world);
    let unknown = Err(BuildError::UnknownBackend("b".into()));
    assert_eq!(router.update(|fleet| fleet.remove("b")), unknown);
    assert_eq!(router.update(|fleet| fleet.drain("b")), unknown);
    assert_eq!(router.update(|fleet| fleet.restore("b")), unknown);
    assert_eq!(router.update(|fleet| fleet.reprofile(Profile::new("b"))), unknown);
    assert_eq!(router.in_flight("b"), None);
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["m"]);
    let profile = || Profile::new("a").model("m");
    let (router, [a]) = world.fleet(world.router(ordered().fail_safe(config)), [(profile(), always(ANSWER))]);
    let b = || backend(&world, "b");
    let refused = [
        router.update(|fleet| fleet.remove("a")),
        router.update(|fleet| fleet.add(profile(), b())),
        router.update(|fleet| fleet.add(Profile::new(""), b())),
        router.update(|fleet| fleet.reprofile(profile().weight(f64::NAN))),
        router.update(|fleet| fleet.reprofile(profile().concurrency(0))),
        // The last backend of a model that a tier names.
        router.update(|fleet| {
            fleet.add(Profile::new("b").model("n"), b());
            fleet.remove("a");
        }),
        // One mistake spoils the whole step.
        router.update(|fleet| {
            fleet.drain("a");
            fleet.remove("nobody");
        }),
    ];
    let texts: Vec<_> = refused.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    assert!(texts[0].contains("at least one backend"), "{texts:?}");
    assert!(texts[5].contains("\"m\""), "{texts:?}");
    assert_eq!(router.generation(), 1);
    assert!(world.call(&router, CallOptions::within(secs(1)).facts(Facts::model("chat"))).is_ok());
    assert_eq!(a.calls(), 1);
}

#[test]
fn an_update_without_changes_is_a_generation() {
    let world = World::new();
    let (router, _) = one(&world);
    assert_eq!(router.update(|_| ()), Ok(2));
    assert!(world.call(&router, within(ms(100))).is_ok());
}
