//! Where the registry sends requests, and what stays as it was when it moves on.

use super::fixtures::{at, catalog, registry};
use crate::support::{ANSWER, Act, Step, TestRouter, Token, World, always, fail, ms, secs, within};
use fallway::FailureKind::{Overloaded, Truncated};
use fallway::budget::Hedge;
use fallway::decision::{Next, Refusal};
use fallway::facts::{Capabilities, Price};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, cheapest, ordered, policy_fn};
use fallway::registry::{Alias, Catalog, ModelVersion, Placement, Publication, Registry, State};
use fallway::router::{Builder, Interrupted, Resume, RouteErrorKind};
use fallway::{CallOptions, Decision, Facts, Profile};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;

/// All versions of the catalogue, two backends of each of the large ones; `large` is what these do.
fn fleet(world: &World, registry: &Arc<Registry>, config: FailSafe, large: &Act) -> TestRouter {
    let builder = world.router(ordered().fail_safe(config)).registry(registry.clone());
    with_fleet(world, builder, large)
}

fn with_fleet(world: &World, builder: Builder<str, crate::support::Reply>, large: &Act) -> TestRouter {
    let member = |id: &str, model: &str, act: &Act| (Profile::new(id).model(model), always(act.clone()));
    let members = [
        member("eu-3", "llama-70b@3", large),
        member("us-3", "llama-70b@3", large),
        member("eu-4", "llama-70b@4", large),
        member("us-4", "llama-70b@4", large),
        member("eu-s", "llama-8b@1", &ANSWER),
    ];
    world.fleet(builder, members).0
}

/// A request for the alias, by a session that falls to the canary or not.
fn chat(canary: bool) -> Facts {
    let registry = registry();
    let falls = |session: &String| {
        let keys = fallway::registry::Keys::seed(0).session(session);
        (registry.resolve("chat", keys).unwrap().version() == "llama-70b@4") == canary
    };
    let session = (0..).map(|n| format!("s{n}")).find(falls).unwrap();
    Facts::model("chat").session(session).prompt_tokens(100).output_tokens(10).replay_safe()
}

fn explain(router: &TestRouter, facts: &Facts) -> Decision {
    router.explain(&CallOptions::new(facts.clone()))
}

fn chosen(decision: &Decision) -> &str {
    decision.chosen().unwrap().name()
}

#[test]
fn a_name_of_the_registry_leads_to_its_version_and_the_decision_says_how() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = fleet(&world, &registry, FailSafe::default(), &ANSWER);
    registry.tick(at(3));
    for (facts, backend, version) in [
        (chat(true), "eu-4", "llama-70b@4"),
        (chat(false), "eu-3", "llama-70b@3"),
        (Facts::model("small"), "eu-s", "llama-8b@1"),
    ] {
        let decision = explain(&router, &facts);
        let provenance = decision.provenance().unwrap();
        assert_eq!((chosen(&decision), provenance.version), (backend, Some(version)));
        assert_eq!(provenance.aliases, [facts.requested_model().unwrap()]);
        assert_eq!((provenance.generation, provenance.age), (1, secs(3)));
        assert_eq!(provenance.digest, registry.view().snapshot().digest());
        assert_eq!(provenance.bucket.is_some(), version.starts_with("llama-70b"), "one target is no draw");
        assert!(decision.to_string().contains(&format!("\n  {provenance}")), "{decision}");
    }
    let text = explain(&router, &chat(true)).to_string();
    assert!(
        text.contains("registry generation 1 (live, 3.0 s old, ") && text.contains("…): chat -> llama-70b@4, bucket "),
        "{text}"
    );
    // What the registry does not know is the name of a model, as ever.
    let bare = explain(&router, &Facts::model("llama-70b"));
    assert_eq!((bare.ranked().len(), bare.provenance().unwrap().version), (4, None));
    assert_eq!(explain(&router, &Facts::model("llama-70b@4")).ranked().len(), 2);
}

#[test]
fn json_has_where_the_answer_comes_from() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = fleet(&world, &registry, FailSafe::default(), &ANSWER);
    registry.pin("chat", "llama-70b@3", at(60), at(1)).unwrap();
    let json = serde_json::to_value(explain(&router, &chat(true))).unwrap();
    let told = &json["registry"];
    assert_eq!(
        (&told["version"], &told["aliases"][0], &told["pinned"]),
        (&"llama-70b@3".into(), &"chat".into(), &true.into())
    );
    assert_eq!(
        (&told["generation"], &told["source"], &told["bucket"]),
        (&2.into(), &"live".into(), &serde_json::Value::Null)
    );
    assert_eq!(told["digest"], registry.view().snapshot().digest().to_string());
    let without = fleet_without(&world);
    assert_eq!(
        serde_json::to_value(explain(&without, &Facts::model("llama-8b"))).unwrap()["registry"],
        serde_json::Value::Null
    );
    assert!(explain(&without, &Facts::model("llama-8b")).provenance().is_none());
}

fn fleet_without(world: &World) -> TestRouter {
    with_fleet(world, world.router(ordered().fail_safe(FailSafe::default())), &ANSWER)
}

/// The canary fails for as long as it takes to publish something else; the request stays with what it saw first.
#[test]
fn a_request_resolves_once_for_all_of_its_attempts() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let slow_failure = Act::Fail(Overloaded, ms(100));
    let router = fleet(&world, &registry, FailSafe::default().attempts(2), &slow_failure);
    let facts = chat(true);
    let call = world.spawn_call(&router, within(secs(5)).facts(facts.clone()));
    world.run_for(ms(50));
    registry.rollback(None, at(1)).unwrap_err();
    registry.set_canary("chat", "llama-70b@4", 0, at(1)).unwrap();
    assert_eq!(chosen(&explain(&router, &facts)), "eu-3", "whoever comes now goes elsewhere");
    world.run();
    let error = call.take().unwrap_err();
    let names: Vec<_> = error.attempts().iter().map(|attempt| attempt.name().to_owned()).collect();
    assert_eq!(names, ["eu-4", "us-4"]);
    let provenance = error.decision().provenance().unwrap();
    assert_eq!((provenance.generation, provenance.version), (1, Some("llama-70b@4")));
}

#[test]
fn a_decision_replays_when_the_registry_has_moved_on() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = fleet(&world, &registry, FailSafe::default(), &ANSWER);
    let decision = explain(&router, &chat(true));
    registry.roll_back_version("chat", "llama-70b@4", "for a test", at(1)).unwrap();
    let again = router.replay(&decision);
    assert!(decision.same_choice(&again), "{decision}\n{again}");
    assert_eq!(again.provenance(), decision.provenance());
    assert_eq!(chosen(&explain(&router, &chat(true))), "eu-3");
}

#[test]
fn those_stand_in_whom_the_alias_names_and_after_them_those_of_the_host() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = fleet(&world, &registry, FailSafe::default(), &fail(Overloaded));
    let reply = world.call(&router, within(secs(5)).facts(chat(true))).unwrap();
    assert_eq!(reply.backend(), Some("eu-s"), "{}", reply.decision());

    let registry = Arc::new(Registry::builder().open(at(0)));
    let alone = catalog().alias("chat", Alias::to("llama-70b@3"));
    registry.publish(&Publication::from(alone), at(0)).unwrap();
    let router = fleet(&world, &registry, FailSafe::default(), &fail(Overloaded));
    assert!(world.call(&router, within(secs(5)).facts(chat(true))).is_err(), "nobody stands in");
    for config in [FailSafe::default().tiers("chat", ["small"]), FailSafe::default().fallback(["small"])] {
        let router = fleet(&world, &registry, config, &fail(Overloaded));
        let reply = world.call(&router, within(secs(5)).facts(chat(true))).unwrap();
        assert_eq!(reply.backend(), Some("eu-s"), "{}", reply.decision());
    }
}

#[test]
fn a_version_that_is_not_served_is_refused_by_its_name() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = fleet(&world, &registry, FailSafe::default(), &ANSWER);
    registry.quarantine("llama-70b@4", at(1)).unwrap();
    let options = || within(secs(5)).facts(Facts::model("llama-70b@4"));
    let error = world.call(&router, options()).unwrap_err();
    let why = Refusal::NotServed { state: "quarantined" };
    assert_eq!((error.kind(), error.decision().next()), (RouteErrorKind::NotServed, Next::Refuse { why }));
    assert!(error.to_string().contains("llama-70b@4 is quarantined and not served"), "{error}");
    assert_eq!(error.decision().provenance().unwrap().generation, 2);
    // The alias goes on without it, and so does every tier.
    assert_eq!(chosen(&explain(&router, &chat(true))), "eu-3");
    let tiers = FailSafe::default().tiers("mine", ["llama-70b@4", "llama-8b@1"]);
    assert_eq!(chosen(&explain(&fleet(&world, &registry, tiers, &ANSWER), &Facts::model("mine"))), "eu-s");
    registry.release("llama-70b@4").unwrap();
    assert!(world.call(&router, options()).is_ok());
    // A policy without tiers says the same.
    registry.quarantine("llama-70b@4", at(1)).unwrap();
    let bare = with_fleet(&world, world.router(ordered()).registry(registry), &ANSWER);
    assert_eq!(explain(&bare, &Facts::model("llama-70b@4")).next(), Next::Refuse { why });
    assert_eq!(chosen(&explain(&bare, &chat(true))), "eu-3");
}

#[test]
fn a_registry_that_nobody_confirms_refuses_what_it_knows_where_it_was_told_to() {
    let (world, registry) = (World::new(), Arc::new(Registry::builder().refuse_when_expired().open(at(0))));
    registry.publish(&Publication::from(catalog()), at(0)).unwrap();
    let router = fleet(&world, &registry, FailSafe::default(), &ANSWER);
    registry.tick(at(0) + Registry::EXPIRED_AFTER);
    let error = world.call(&router, within(secs(5)).facts(chat(true))).unwrap_err();
    assert_eq!(error.kind(), RouteErrorKind::RegistryExpired);
    assert_eq!(error.decision().provenance().unwrap().age, Duration::from_secs(24 * 3600));
    assert!(world.call(&router, within(secs(5)).facts(Facts::model("llama-70b"))).is_ok(), "it never knew that");
}

#[test]
fn the_facts_of_a_version_hold_where_profiles_do_not_say() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let router = fleet(&world, &registry, FailSafe::default(), &ANSWER);
    let small = || Facts::model("small").prompt_tokens(100);
    let refused = |facts: Facts| explain(&router, &facts).candidates().next().unwrap().rejected().map(|it| it.label());
    assert_eq!(refused(small()), None);
    assert_eq!(refused(small().prompt_tokens(32_769)), Some("context too small"));
    assert_eq!(refused(small().needs(Capabilities::TOOLS)), Some("lacking a capability"));
    assert_eq!(refused(chat(false).needs(Capabilities::TOOLS)), None);
    // 100 tokens of a prompt and 10 of an answer at 50,000 and 80,000 pico-dollars.
    assert_eq!(refused(small().max_output_tokens(10).max_cost(5_800_000)), None);
    assert_eq!(refused(small().max_output_tokens(10).max_cost(5_799_999)), Some("over the price cap"));
    let reply = world.call(&router, within(secs(5)).facts(small().max_output_tokens(10))).unwrap();
    assert_eq!(reply.decision().bill().most(), Some(5_800_000), "{}", reply.decision());
    // What a profile says goes before.
    let own = Profile::new("own").model("llama-8b@1").context_window(40_000).price(Price::pico(1, 1));
    let builder = world.router(cheapest().fail_safe(FailSafe::default())).registry(registry.clone());
    let rest = Profile::new("rest").model("llama-8b@1");
    let (router, _) = world.fleet(builder, [(rest, always(ANSWER)), (own, always(ANSWER))]);
    let decision = explain(&router, &small());
    assert_eq!(decision.ranked().iter().map(|it| it.cost().unwrap()).collect::<Vec<_>>(), [250, 17_000_000]);
    assert_eq!(chosen(&explain(&router, &small().prompt_tokens(33_000))), "own");
}

#[test]
fn a_name_that_is_split_twice_is_refused_at_build() {
    use fallway::shape::Split;
    let (world, registry) = (World::new(), Arc::new(registry()));
    let split = Split::new("chat", [("llama-70b@3", 5_000), ("llama-70b@4", 5_000)]);
    let policy = ordered().fail_safe(FailSafe::default().split(split));
    let builder = world.router(policy).registry(registry);
    let error = builder.backend(Profile::new("a").model("llama-70b@3"), world.backend("a", always(ANSWER))).build();
    assert!(error.unwrap_err().to_string().contains("\"chat\" is split here, and is in the registry"));
}

/// What waits for a slot goes, when it is called, where it was going.
#[test]
fn who_waits_stays_with_what_it_saw() {
    let registry = Arc::new(Registry::builder().open(at(0)));
    let version = || ModelVersion::new(State::Live);
    let catalog = Catalog::new().version("m", "1", version()).version("m", "2", version());
    let placed = |id: &str| Placement::new(format!("m@{id}"), "acme", "eu", id.to_owned());
    let catalog = catalog.placement("one", placed("1")).placement("two", placed("2")).alias("x", Alias::to("m@1"));
    registry.publish(&Publication::from(catalog.clone()), at(0)).unwrap();
    let world = World::new();
    let member = |id: &str, model: &str| (Profile::new(id).model(model).concurrency(1), always(Act::Answer(ms(100))));
    let builder = world.router(ordered().fail_safe(FailSafe::default())).registry(registry.clone());
    let (router, _) = world.fleet(builder, [member("one", "m@1"), member("two", "m@2")]);
    // Who answers; the lease is given back at once.
    let call = || {
        let (router, options) = (router.clone(), within(secs(5)).facts(Facts::model("x").replay_safe()));
        world.spawn(async move { router.call("ask", options).await.unwrap().backend().map(str::to_owned) })
    };
    let calls = [call(), call()];
    world.run_for(ms(50));
    registry.publish(&Publication::from(catalog.alias("x", Alias::to("m@2"))), at(1)).unwrap();
    let late = call();
    world.run();
    assert_eq!(calls.map(|call| call.take().unwrap()), ["one", "one"]);
    assert_eq!(late.take().unwrap(), "two");
}

/// Another attempt beside the first, and the rest of a broken stream, go where the request was going.
#[test]
fn hedges_and_the_rest_of_a_stream_stay_with_what_the_request_saw() {
    let (world, registry) = (World::new(), Arc::new(registry()));
    let hedge = Hedge::of(0.5).unwrap().after(ms(50));
    let hedged = policy_fn("hedged", move |cx, slate| {
        slate.hedge(hedge);
        ordered().plan(cx, slate);
    });
    let builder = world.router(hedged.fail_safe(FailSafe::default())).registry(registry.clone());
    let router = with_fleet(&world, builder, &Act::Answer(ms(100)));
    let answer = |facts: Facts| {
        let (router, options) = (router.clone(), within(secs(5)).facts(facts));
        world.spawn(async move { router.call("ask", options).await.unwrap().decision().clone() })
    };
    // Two that answer at once save up for one hedge.
    for _ in 0..2 {
        world.call(&router, within(secs(5)).facts(Facts::model("small"))).unwrap();
    }
    let call = answer(chat(true));
    world.run_for(ms(25));
    registry.set_canary("chat", "llama-70b@4", 0, at(1)).unwrap();
    world.run();
    let decision = call.take();
    let hedges = decision.attempts().iter().map(|attempt| (attempt.name(), attempt.is_hedge()));
    assert_eq!(hedges.collect::<Vec<_>>(), [("us-4", true), ("eu-4", false)], "{decision}");

    let registry = Arc::new(super::fixtures::registry());
    let broken = Act::Stream(ms(10), vec![Step::Item, Step::Pause(ms(20)), Step::Break(Truncated)]);
    let router = fleet(&world, &registry, FailSafe::default().attempts(2), &broken);
    let stream = world.stream(&router, within(secs(5)).facts(chat(true))).unwrap();
    registry.set_canary("chat", "llama-70b@4", 0, at(1)).unwrap();
    let mut stream = stream.resume(Rest);
    let attempts = world.block_on(async move {
        while stream.next().await.is_some() {}
        stream.stream().attempts().iter().map(|attempt| attempt.name().to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(attempts, ["eu-4", "us-4"]);
}

/// Always asks for the rest.
struct Rest;

impl Resume<str, Token> for Rest {
    fn delivered(&mut self, _: &Token) {}
    fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
        Some("the rest".into())
    }
}
