//! Updates that are refused.

use super::{backend, one};
use crate::support::{ANSWER, World, always, ms, scripted_panic, secs, within};
use fallway::backend::{Attempt, Backend, BackendError, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, Regions, ordered};
use fallway::{BuildError, CallOptions, Facts, Profile, Router};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

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
        // One mistake spoils the whole step.
        router.update(|fleet| {
            fleet.drain("a");
            fleet.remove("nobody");
        }),
    ];
    let texts: Vec<_> = refused.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    assert!(texts[0].contains("at least one backend"), "{texts:?}");
    assert_eq!(router.generation(), 1);
    assert!(world.call(&router, CallOptions::within(secs(1)).facts(Facts::model("chat"))).is_ok());
    assert_eq!(a.calls(), 1);
}

#[test]
fn models_and_regions_that_a_policy_names_may_be_scaled_to_nothing_and_back() {
    let world = World::new();
    let policy = ordered().region_failover(Regions::new("eu").then("us"));
    let policy = policy.fail_safe(FailSafe::default().tiers("chat", ["m", "n"]));
    let member = |id: &str, model: &str, region: &str| (Profile::new(id).model(model).region(region), always(ANSWER));
    let (router, [_, b]) = world.fleet(world.router(policy), [member("a", "m", "eu"), member("b", "n", "us")]);
    let chat = || world.call(&router, CallOptions::within(secs(1)).facts(Facts::model("chat")));
    router.update(|fleet| fleet.remove("a")).unwrap();
    assert_eq!(chat().unwrap().backend(), Some("b"));
    router.update(|fleet| fleet.add(Profile::new("c").model("m").region("eu"), backend(&world, "c"))).unwrap();
    assert_eq!(chat().unwrap().backend(), Some("c"));
    assert_eq!(b.calls(), 1);
}

#[test]
fn an_update_without_changes_is_a_generation() {
    let world = World::new();
    let (router, _) = one(&world);
    assert_eq!(router.update(|_| ()), Ok(2));
    assert!(world.call(&router, within(ms(100))).is_ok());
}

#[test]
fn an_update_inside_an_update() {
    let world = World::new();
    let (router, a) = one(&world);
    // On a thread of its own: what waits for itself is found out.
    let (sender, receiver) = mpsc::channel();
    let nests = router.clone();
    let update = thread::spawn(move || {
        let mut inner = Vec::new();
        let outer = nests.update(|fleet| {
            inner.extend([(); 2].map(|()| nests.clone().update(|fleet| fleet.drain("a"))));
            fleet.reprofile(Profile::new("a").weight(3.0));
        });
        sender.send((inner, outer, nests.update(|_| ()))).unwrap();
    });
    let (inner, outer, after) = receiver.recv_timeout(secs(20)).expect("the update waits for itself");
    update.join().unwrap();
    assert_eq!(inner, [Err(BuildError::NestedUpdate), Err(BuildError::NestedUpdate)]);
    // Nothing of the inner ones happened, and all of the outer.
    assert_eq!((outer, after, router.generation()), (Ok(2), Ok(3), 3));
    let decision = router.explain(&within(secs(1)));
    assert_eq!(decision.chosen().map(|chosen| chosen.profile().relative_weight()), Some(3.0));
    assert!(world.call(&router, within(secs(1))).is_ok());
    assert_eq!(a.calls(), 1);
}

#[test]
fn an_update_that_panics_changes_nothing_and_is_over() {
    let world = World::new();
    let (router, a) = one(&world);
    for nested in [false, true] {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            router.update(|fleet| {
                fleet.drain("a");
                assert!(!nested || router.update(|_| ()).is_err());
                scripted_panic()
            })
        }));
        assert!(panic.is_err());
        assert!(world.call(&router, within(secs(1))).is_ok());
    }
    assert_eq!((router.generation(), a.calls()), (1, 2));
    assert_eq!(router.update(|fleet| fleet.drain("a")), Ok(2));
    assert!(world.call(&router, within(secs(1))).is_err());
}

/// Looks at the router when it is dropped.
struct Looks(Arc<OnceLock<Router<str, ()>>>, mpsc::Sender<u64>);

#[async_trait::async_trait]
impl Backend<str> for Looks {
    type Response = ();
    async fn call(&self, _: &str, _: &Attempt) -> Result<(), BackendError> {
        Ok(())
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        if let Some(router) = self.0.get() {
            let _ = self.1.send(router.total_in_flight());
        }
    }
}

#[test]
fn a_backend_of_an_update_that_is_refused_may_look_at_the_router_when_it_is_dropped() {
    let (shared, (sender, receiver)) = (Arc::new(OnceLock::new()), mpsc::channel());
    let model = backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let router = Router::builder(ordered()).backend(Profile::new("a"), model).build().unwrap();
    assert!(shared.set(router.clone()).is_ok());
    // On a thread of its own: what waits for itself is found out.
    let update = thread::spawn(move || router.update(|fleet| fleet.add(Profile::new("a"), Looks(shared, sender))));
    assert_eq!(receiver.recv_timeout(secs(20)), Ok(0), "the update waits for itself");
    assert_eq!(update.join().unwrap(), Err(BuildError::DuplicateId("a".into())));
}
