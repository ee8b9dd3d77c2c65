//! Placements become backends.

use super::fixtures::{at, catalog, registry};
use crate::support::{ANSWER, Act, Reply, Scripted, TestRouter, World, always, ms, secs, within};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::registry::{Catalog, ModelVersion, Patch, Place, Placement, Publication, Registry, State, View};
use fallway::router::{BuildError, Update};
use fallway::{CallOptions, Facts, Profile};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A host that knows every endpoint but those that begin with `x`, and allows two calls to each.
fn follow<'w>(world: &'w World, view: &'w View, act: &'w Act) -> impl FnOnce(&mut Update<str, Reply>) + 'w {
    move |fleet| {
        fleet.sync(view, |place: &Place, profile: Profile| -> Option<(Profile, Scripted)> {
            let endpoint = place.placement().endpoint();
            let backend = || world.backend(endpoint, always(act.clone()));
            (!endpoint.starts_with('x')).then(|| (profile.concurrency(2), backend()))
        });
    }
}

fn router(world: &World, registry: &Arc<Registry>, act: &Act) -> TestRouter {
    let builder = world.router(ordered().fail_safe(FailSafe::default())).registry(registry.clone());
    builder.fleet(follow(world, &registry.view(), act)).build().unwrap()
}

fn synced(world: &World, router: &TestRouter, registry: &Registry) -> Result<u64, BuildError> {
    router.update(follow(world, &registry.view(), &ANSWER))
}

fn publish(registry: &Registry, patch: Patch) {
    registry.publish(&Publication::from(patch).force("a test"), at(1)).unwrap();
}

fn put(id: &str, placement: Placement) -> Patch {
    Patch::new().put(Catalog::new().placement(id, placement))
}

/// Who would take a request of any kind, and who would not, in the order of the fleet.
fn standing(router: &TestRouter) -> Vec<(String, Option<&'static str>)> {
    let decision = router.explain(&CallOptions::new(Facts::any()));
    decision.candidates().map(|it| (it.name().to_owned(), it.rejected().map(|reason| reason.label()))).collect()
}

fn names(router: &TestRouter) -> Vec<String> {
    standing(router).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_placement_joins_with_what_the_registry_says_of_it() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let quota =
        Placement::new("llama-70b@3", "other", "us-east", "us-b").quota(Some(60), Some(9_000)).weight(250).priority(2);
    publish(&registry, put("us-b", quota));
    publish(&registry, put("unknown", Placement::new("llama-70b@3", "other", "us-east", "x-1")));
    let router = router(&world, &registry, &ANSWER);
    assert_eq!(names(&router), ["eu-3", "eu-4", "eu-s", "us-3", "us-b"], "by rank, and then by version");
    let decision = router.explain(&CallOptions::new(Facts::any()));
    let profile = decision.candidates().find(|it| it.name() == "us-b").unwrap().profile().clone();
    let version = registry.view();
    let version = version.snapshot().catalog().find("llama-70b@3").unwrap();
    assert_eq!(
        (profile.full_model(), profile.region_name(), profile.provider_name()),
        (Some("llama-70b@3"), Some("us-east"), Some("other"))
    );
    assert_eq!(
        (profile.known_capabilities(), profile.context_limit()),
        (Some(version.known_capabilities()), Some(131_072))
    );
    assert_eq!((profile.known_price(), profile.relative_weight()), (version.known_price(), 2.5));
    assert_eq!(
        (profile.request_quota(), profile.token_quota(), profile.concurrency_limit()),
        (Some(60), Some(9_000), Some(2))
    );
}

#[test]
fn what_was_learned_of_a_placement_stays_until_it_runs_something_else() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = router(&world, &registry, &ANSWER);
    let id = || router.backend_id("eu-s").unwrap();
    let (before, endpoint) = (id(), |endpoint: &str| Placement::new("llama-8b@1", "acme", "eu-west", endpoint));
    publish(&registry, put("eu-s", endpoint("eu-c").weight(10)));
    synced(&world, &router, &registry).unwrap();
    assert_eq!(id(), before);
    let weight = |name: &str| {
        router.explain(&CallOptions::new(Facts::model(name))).chosen().unwrap().profile().relative_weight()
    };
    assert_eq!(weight("small"), 0.1);
    publish(&registry, put("eu-s", endpoint("eu-d")));
    synced(&world, &router, &registry).unwrap();
    assert_ne!(id(), before, "at another endpoint it is another backend");
    let moved = id();
    let both = Catalog::new()
        .placement("eu-t", endpoint("eu-t"))
        .placement("eu-s", Placement::new("llama-70b@3", "acme", "eu-west", "eu-d"));
    publish(&registry, Patch::new().put(both));
    synced(&world, &router, &registry).unwrap();
    assert_ne!(id(), moved, "and as another version too");
}

#[test]
fn weight_zero_a_quarantine_and_a_hand_stop_requests_each_by_itself() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = router(&world, &registry, &ANSWER);
    let drained = |name: &str| standing(&router).contains(&(name.to_owned(), Some("drained")));
    let placed = |weight| Placement::new("llama-70b@3", "acme", "eu-west", "eu-a").weight(weight);
    publish(&registry, put("eu-3", placed(0)));
    assert!(!drained("eu-3"), "not before the host says so");
    synced(&world, &router, &registry).unwrap();
    assert!(drained("eu-3") && !drained("us-3"));
    router.update(|fleet| fleet.drain("eu-3")).unwrap();
    publish(&registry, put("eu-3", placed(100)));
    synced(&world, &router, &registry).unwrap();
    assert!(drained("eu-3"), "whoever drained it by hand lets it back");
    router.update(|fleet| fleet.restore("eu-3")).unwrap();
    assert!(!drained("eu-3"));

    registry.quarantine("llama-70b@4", at(2)).unwrap();
    synced(&world, &router, &registry).unwrap();
    assert!(drained("eu-4"), "a request for llama-70b would find it");
    registry.release("llama-70b@4").unwrap();
    synced(&world, &router, &registry).unwrap();
    assert!(!drained("eu-4"));
    // Cold ones have no weight until they are warm.
    let cold = put("new", Placement::new("llama-70b@3", "acme", "eu-west", "eu-n"));
    registry.publish(&Publication::from(cold).force("a test").cold(["new"]), at(3)).unwrap();
    synced(&world, &router, &registry).unwrap();
    assert!(drained("new"));
    registry.warmed("new");
    synced(&world, &router, &registry).unwrap();
    assert!(!drained("new"));
}

#[test]
fn a_placement_that_is_gone_takes_nothing_and_leaves_when_its_calls_are_done() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = router(&world, &registry, &Act::Answer(ms(100)));
    let call = {
        let (router, options) = (router.clone(), within(secs(5)).facts(Facts::model("small")));
        world.spawn(async move { router.call("ask", options).await.unwrap().backend().map(str::to_owned) })
    };
    world.run_for(ms(10));
    let other = Placement::new("llama-8b@1", "acme", "us-east", "us-c");
    publish(&registry, put("us-s", other).remove_placement("eu-s").remove_placement("us-3"));
    synced(&world, &router, &registry).unwrap();
    assert_eq!(names(&router), ["eu-3", "eu-4", "eu-s", "us-s"], "who is idle is gone at once");
    assert!(standing(&router).contains(&("eu-s".to_owned(), Some("drained"))));
    world.run();
    assert_eq!(call.take().unwrap(), "eu-s");
    synced(&world, &router, &registry).unwrap();
    assert_eq!(names(&router), ["eu-3", "eu-4", "us-s"]);
}

#[test]
fn what_the_host_added_stays_and_what_does_not_fit_changes_nothing() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let own = |id: &str| (Profile::new(id).model("own"), world.backend(id, always(ANSWER)));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).registry(registry.clone());
    let (profile, backend) = own("mine");
    let router = builder.backend(profile, backend).build().unwrap();
    synced(&world, &router, &registry).unwrap();
    assert_eq!(names(&router), ["mine", "eu-3", "eu-4", "eu-s", "us-3"]);
    let before = router.generation();
    publish(&registry, put("mine", Placement::new("llama-8b@1", "acme", "eu-west", "eu-m")).remove_placement("us-3"));
    assert_eq!(synced(&world, &router, &registry).unwrap_err(), BuildError::DuplicateId("mine".into()));
    assert_eq!((router.generation(), names(&router).len()), (before, 5));
    // The registry allows an @ in the name of a model; a profile does not.
    let odd = Catalog::new().version("a@b", "1", ModelVersion::new(State::Live));
    let odd = odd.placement("odd", Placement::new("a@b@1", "acme", "eu-west", "eu-o"));
    publish(&registry, Patch::new().put(odd).remove_placement("mine"));
    let error = synced(&world, &router, &registry).unwrap_err().to_string();
    assert!(error.contains("\"odd\"") && error.contains("more than one version"), "{error}");
    assert_eq!(names(&router).len(), 5);
    // Removed by hand, it comes back with the next call; what the host does not know of goes.
    publish(&registry, Patch::new().remove_placement("odd"));
    router.update(|fleet| fleet.remove("eu-s")).unwrap();
    synced(&world, &router, &registry).unwrap();
    assert_eq!(names(&router), ["mine", "eu-3", "eu-4", "eu-s"]);
    let nobody = |_: &Place, _: Profile| None::<(Profile, Scripted)>;
    router.update(|fleet| fleet.sync(&registry.view(), nobody)).unwrap();
    assert_eq!(names(&router), ["mine"]);
}

#[test]
fn all_that_an_alias_has_left_is_in_use_and_regions_are_those_of_a_tag() {
    // As a start may find it; no publication and no quarantine brings it about.
    let document = catalog().version("llama-8b", "1", ModelVersion::new(State::Quarantined)).to_bytes();
    let registry = Arc::new(Registry::builder().bootstrap(document).open(at(0)));
    let world = World::new();
    let router = router(&world, &registry, &ANSWER);
    // Better ill than nothing.
    let reply = world.call(&router, within(secs(5)).facts(Facts::model("small"))).unwrap();
    assert_eq!(reply.backend(), Some("eu-s"), "{}", reply.decision());
    let registry = super::fixtures::registry();
    assert_eq!(registry.view().regions("eu"), BTreeSet::from(["eu-west"]));
    assert_eq!(registry.view().regions("us"), BTreeSet::from(["us-east"]));
    publish(&registry, put("eu-x", Placement::new("llama-70b@3", "acme", "eu-west", "eu-x")));
    assert_eq!(registry.view().regions("eu"), BTreeSet::new(), "one without the tag is enough");
}
