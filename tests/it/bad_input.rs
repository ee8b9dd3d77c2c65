//! Nonsense is refused with an error that names the offender. Nothing panics, nothing hangs.

mod updates;

use crate::support::{ANSWER, Reply, Scripted, TestRouter, World, always, fail, plain, secs, within};
use fallway::FailureKind::Overloaded;
use fallway::budget::RetryBudget;
use fallway::decision::Refusal;
use fallway::facts::{Capabilities, Price};
use fallway::policy::{FailSafe, PlanContext, PolicyExt, RoutingPolicy, Slate, ordered};
use fallway::recover::Ejection;
use fallway::router::{Builder, RouteErrorKind};
use fallway::signal::Score;
use fallway::{BuildError, CallOptions, Facts, Profile};
use std::time::Duration;

fn backend(world: &World, id: &str) -> Scripted {
    world.backend(id, always(ANSWER))
}

/// What `build` says of these profiles.
fn refusal_of<const N: usize>(profiles: [Profile; N]) -> BuildError {
    let world = World::new();
    let mut builder = world.router(ordered());
    for profile in profiles {
        let id = profile.id().to_owned();
        builder = builder.backend(profile, backend(&world, &id));
    }
    builder.build().unwrap_err()
}

/// What `build` says of a configuration over one backend `a` of model `m`.
fn refusal_with(configure: impl FnOnce(&World) -> Builder<str, Reply>) -> BuildError {
    let world = World::new();
    configure(&world).backend(Profile::new("a").model("m"), backend(&world, "a")).build().unwrap_err()
}

fn refusal_of_fail_safe(config: FailSafe) -> String {
    let error = refusal_with(|world| world.router(ordered().fail_safe(config)));
    let BuildError::Policy(policy) = &error else { panic!("{error}") };
    assert_eq!(policy.policy(), "fail_safe");
    error.to_string()
}

/// A router over one backend `a` of model `m` in region `eu`.
fn one(world: &World) -> (TestRouter, Scripted) {
    let profile = Profile::new("a").model("m").region("eu").context_window(1_000);
    let members = [(profile, always(ANSWER))];
    let (router, [a]) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    (router, a)
}

#[test]
fn no_backend() {
    assert_eq!(refusal_of([]), BuildError::NoBackend);
}

#[test]
fn duplicate_and_empty_ids() {
    let duplicate = refusal_of([Profile::new("a"), Profile::new("b"), Profile::new("a")]);
    assert_eq!(duplicate, BuildError::DuplicateId("a".into()));
    assert!(duplicate.to_string().contains("\"a\""), "{duplicate}");
    for id in ["", " ", "\t\n"] {
        assert_eq!(refusal_of([Profile::new("a"), Profile::new(id)]), BuildError::EmptyId { position: 2 });
    }
}

#[test]
fn weights_that_are_no_positive_number() {
    for weight in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = refusal_of([Profile::new("a"), Profile::new("b").weight(weight)]);
        assert!(matches!(&error, BuildError::InvalidWeight { id, .. } if id == "b"), "{weight}: {error}");
        assert!(error.to_string().contains(&weight.to_string()), "{error}");
    }
}

#[test]
fn limits_of_zero() {
    let a = || Profile::new("a");
    for (profile, offender) in [
        (a().concurrency(0), "the concurrency limit"),
        (a().max_prefill_tokens(0), "the bound of prefill tokens"),
        (a().max_total_tokens(0), "the bound of tokens in flight"),
        (a().context_window(0), "the context window"),
        (a().attempt_limit(Duration::ZERO), "the attempt limit"),
    ] {
        assert_eq!(refusal_of([profile]), BuildError::ZeroLimit { id: "a".into(), limit: offender });
    }
}

#[test]
fn more_tokens_of_prompts_than_of_all() {
    let profile = |prefill| Profile::new("a").max_prefill_tokens(prefill).max_total_tokens(1_000);
    let error = refusal_of([profile(1_001)]);
    assert_eq!(error, BuildError::PrefillAboveTotal { id: "a".into(), prefill: 1_001, total: 1_000 });
    let says = "backend \"a\": a bound of 1001 prefill tokens is above that of 1000 tokens in flight";
    assert_eq!(error.to_string(), says);
}

#[test]
fn names_that_are_given_but_empty() {
    let a = || Profile::new("a");
    for (profile, offender) in [
        (a().model(""), "the model"),
        (a().model("@3"), "the model"),
        (a().model("m@"), "the model's version"),
        (a().region(" "), "the region"),
        (a().credential(""), "the credential"),
    ] {
        assert_eq!(refusal_of([profile]), BuildError::EmptyName { id: "a".into(), name: offender });
    }
}

#[test]
fn tiers_that_name_an_unknown_model() {
    let config = FailSafe::default;
    for config in [
        config().tiers("chat", ["m", "nowhere"]),
        config().on_context_too_long("m", ["nowhere"]),
        config().on_content_rejected("m", ["nowhere"]),
        config().fallback(["nowhere"]),
        config().tiers("m", ["m@nowhere"]),
    ] {
        let text = refusal_of_fail_safe(config);
        assert!(text.contains("nowhere"), "{text}");
    }
    let text = refusal_of_fail_safe(config().tiers("chat", [""; 0]));
    assert!(text.contains("\"chat\""), "{text}");
}

#[test]
fn cyclic_fallbacks() {
    let config = FailSafe::default;
    for (config, path) in [
        (config().tiers("x", ["x"]), "x -> x"),
        (config().tiers("x", ["m", "y"]).tiers("y", ["x"]), "x -> y -> x"),
        (config().tiers("x", ["y"]).tiers("y", ["m", "z"]).tiers("z", ["x"]), "x -> y -> z -> x"),
        (config().tiers("x", ["m"]).on_context_too_long("x", ["y"]).tiers("y", ["x"]), "x -> y -> x"),
        (config().tiers("x", ["m"]).on_content_rejected("x", ["x"]), "x -> x"),
    ] {
        let text = refusal_of_fail_safe(config);
        assert!(text.contains("cyclic") && text.contains(path), "{text}");
    }
    // A long way round is a cycle too, and found without walking every path.
    let mut long = config();
    for n in 0..200 {
        long = long.tiers(format!("x{n}"), (1..=3).map(|step| format!("x{}", (n + step) % 200)));
    }
    let text = refusal_of_fail_safe(long);
    assert!(text.contains("cyclic"), "{text}");
}

#[test]
fn a_long_chain_of_aliases_is_refused_when_built_or_served() {
    let world = World::new();
    let mut config = FailSafe::default().tiers("x0", ["m"]);
    for n in 1..=20 {
        config = config.tiers(format!("x{n}"), [format!("x{}", n - 1)]);
    }
    let builder = world.router(ordered().fail_safe(config)).backend(Profile::new("a").model("m"), backend(&world, "a"));
    let Ok(router) = builder.build() else { return };
    let unserved = (0..=20).filter(|n| {
        let facts = Facts::model(format!("x{n}")).replay_safe();
        world.call(&router, CallOptions::within(secs(1)).facts(facts)).is_err()
    });
    assert_eq!(unserved.collect::<Vec<u32>>(), Vec::<u32>::new(), "accepted when built, and served by nobody");
}

#[test]
fn numbers_of_fail_safe_out_of_range() {
    let config = FailSafe::default;
    for (config, offender) in [
        (config().attempts(0), "0 attempts"),
        (config().panic_threshold(f64::NAN), "NaN"),
        (config().panic_threshold(1.5), "1.5"),
        (config().panic_threshold(-0.1), "-0.1"),
        (config().attempt_limit(Duration::ZERO), "attempt limit of zero"),
    ] {
        let text = refusal_of_fail_safe(config);
        assert!(text.contains(offender), "{text}");
    }
}

/// A wrapper of the host's own.
#[derive(Debug)]
struct Wrapper<P>(P);

impl<P: RoutingPolicy> RoutingPolicy for Wrapper<P> {
    fn name(&self) -> &'static str {
        "wrapper"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        self.0.plan(cx, slate);
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.0)
    }
}

#[test]
fn nested_fail_safe() {
    let inner = || ordered().fail_safe(FailSafe::default());
    let outer = FailSafe::default;
    let stacks: [Box<dyn RoutingPolicy>; 4] = [
        inner().fail_safe(outer()).boxed(),
        inner().boxed().fail_safe(outer()).boxed(),
        Wrapper(inner()).fail_safe(outer()).boxed(),
        Wrapper(Wrapper(inner()).boxed()).fail_safe(outer()).boxed(),
    ];
    for stack in stacks {
        let error = refusal_with(|world| world.router(stack));
        assert!(matches!(&error, BuildError::Policy(policy) if policy.policy() == "fail_safe"), "{error}");
        assert!(error.to_string().contains("wraps another fail_safe"), "{error}");
    }
}

#[test]
fn ejections_that_make_no_sense() {
    let base = Ejection::default;
    for ejection in [
        base().consecutive(0),
        base().eject_for(Duration::ZERO, secs(1)),
        base().eject_for(secs(2), secs(1)),
        base().rest_overloaded(Duration::ZERO, Duration::ZERO),
        base().rest_unreachable(secs(2), secs(1)),
        base().aggression(0.0),
        base().aggression(f64::NAN),
        base().failure_rate(0.0),
        base().failure_rate(1.1),
        base().failure_rate(f64::NAN),
        base().slower_than_peers(1.0),
        base().slower_than_peers(f64::INFINITY),
        base().fails_more_than_peers(0.0),
        base().fails_more_than_peers(f64::NAN),
        base().max_outliers(-0.1),
        base().max_outliers(f64::NAN),
    ] {
        let error = refusal_with(|world| world.router(ordered()).ejection(ejection));
        assert!(matches!(error, BuildError::Ejection(_)), "{error}");
    }
}

#[test]
fn constructors_refuse_what_is_no_number_of_theirs() {
    for ratio in [f64::NAN, -0.1, 10.5, f64::INFINITY] {
        let error = RetryBudget::new(ratio, 1).unwrap_err();
        assert!(error.to_string().contains(&ratio.to_string()), "{error}");
    }
    for usd in [f64::NAN, -1.0, f64::INFINITY, 2e6] {
        assert!(Price::per_million(usd, 1.0).is_err() && Price::per_million(1.0, usd).is_err(), "{usd}");
    }
    assert_eq!(Score::from_fraction(f64::NAN), None);
}

#[test]
fn an_idle_limit_of_zero() {
    let error = refusal_with(|world| world.router(ordered()).idle_limit(Duration::ZERO));
    assert_eq!(error, BuildError::ZeroIdleLimit);
    assert!(error.to_string().contains("idle limit of zero"), "{error}");
    let world = World::new();
    let shortest = world.router(ordered()).idle_limit(Duration::from_nanos(1));
    assert!(shortest.backend(Profile::new("a"), backend(&world, "a")).build().is_ok());
}

#[test]
fn zero_deadlines() {
    let error = refusal_with(|world| world.router(ordered()).default_deadline(Duration::ZERO));
    assert_eq!(error, BuildError::ZeroDeadline);
    let world = World::new();
    let (router, a) = one(&world);
    let (answered, took) = world.timed(|| world.call(&router, within(Duration::ZERO)));
    let error = answered.unwrap_err();
    assert_eq!((error.kind(), took, a.calls()), (RouteErrorKind::ZeroDeadline, Duration::ZERO, 0));
}

#[test]
fn a_residency_set_that_no_backend_satisfies() {
    let world = World::new();
    let (router, a) = one(&world);
    let options = CallOptions::within(secs(5)).facts(plain().residency(["mars", "venus"]));
    let (answered, took) = world.timed(|| world.call(&router, options));
    let error = answered.unwrap_err();
    assert_eq!((error.kind(), took, a.calls()), (RouteErrorKind::NothingUsable, Duration::ZERO, 0));
    assert_eq!(error.decision().rejections(), [("outside residency", 1)]);
    let text = error.decision().to_string();
    assert!(text.contains("rejected: outside residency (eu is not in [mars, venus])"), "{text}");
}

#[test]
fn an_empty_residency_set_is_a_line_that_nobody_satisfies() {
    let world = World::new();
    let (router, a) = one(&world);
    let lookup_found_nothing: [&str; 0] = [];
    let options = CallOptions::within(secs(5)).facts(plain().residency(lookup_found_nothing));
    let (answered, took) = world.timed(|| world.call(&router, options));
    let error = answered.unwrap_err();
    assert_eq!((error.kind(), took, a.calls()), (RouteErrorKind::NothingUsable, Duration::ZERO, 0));
    assert_eq!(error.decision().rejections(), [("outside residency", 1)]);
    assert!(error.to_string().contains("1 outside residency"), "{error}");
    // Not saying anything is something else.
    assert!(world.call(&router, within(secs(5))).is_ok());
}

#[test]
fn requests_that_nobody_can_serve() {
    let world = World::new();
    let (router, a) = one(&world);
    for (facts, kind, named) in [
        (Facts::model("nowhere"), RouteErrorKind::UnknownModel, "nowhere"),
        (Facts::model(""), RouteErrorKind::UnknownModel, "no backend serves"),
        (Facts::model("m@9"), RouteErrorKind::UnknownModel, "m@9"),
        (Facts::model("m").prompt_tokens(u64::MAX), RouteErrorKind::NothingUsable, "1 context too small"),
        (Facts::model("m").max_cost(0), RouteErrorKind::NothingUsable, "1 of unknown price"),
    ] {
        let (answered, took) = world.timed(|| world.call(&router, CallOptions::within(secs(5)).facts(facts)));
        let error = answered.unwrap_err();
        assert_eq!((error.kind(), took), (kind, Duration::ZERO), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(a.calls(), 0);
    // What a profile does not say is not known, and nobody is refused for it.
    assert!(world.call(&router, CallOptions::new(plain().needs(Capabilities::VISION))).is_ok());
}

#[test]
fn absurd_but_valid_numbers_are_served() {
    let world = World::new();
    let members = [(Profile::new("a").weight(1e-300).concurrency(u32::MAX), always(ANSWER))];
    let builder = world
        .router(ordered().fail_safe(FailSafe::default().attempts(u32::MAX).attempt_limit(Duration::MAX)))
        .default_deadline(Duration::MAX)
        .idle_limit(Duration::MAX)
        .queue(usize::MAX)
        .ejection(Ejection::default().consecutive(u32::MAX).failure_rate(None).slow_start(Duration::MAX));
    let (router, _) = world.fleet(builder, members);
    let facts = plain().prompt_tokens(u64::MAX).output_tokens(u64::MAX).session("").tenant("").label("", "");
    for options in [CallOptions::new(facts.clone()), CallOptions::within(Duration::MAX).facts(facts)] {
        let routed = world.call(&router, options).unwrap();
        assert_eq!((routed.backend(), routed.decision().policy_panicked()), (Some("a"), false));
    }
    assert_eq!(router.total_in_flight(), 0);
}

#[test]
fn an_empty_queue_and_no_budget_still_answer() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(1), always(fail(Overloaded))));
    let builder =
        world.router(ordered().fail_safe(FailSafe::default())).queue(0).retry_budget(RetryBudget::new(0.0, 0).unwrap());
    let (router, backends) = world.fleet(builder, members);
    let error = world.call(&router, within(secs(5))).unwrap_err();
    assert_eq!(error.kind(), RouteErrorKind::RetryBudgetEmpty);
    assert_eq!(error.decision().next(), fallway::decision::Next::Refuse { why: Refusal::RetryBudgetEmpty });
    assert_eq!(backends.map(|backend| backend.calls()), [1, 0]);
}

#[test]
fn a_longest_wait_of_zero() {
    let error = refusal_with(|world| world.router(ordered()).longest_wait(Duration::ZERO));
    assert_eq!(error, BuildError::ZeroLongestWait);
    assert!(error.to_string().contains("longest wait of zero"), "{error}");
}

#[test]
fn weights_that_starve_somebody() {
    for weight in [0, 1_001, u32::MAX] {
        let error = refusal_with(|world| world.router(ordered()).tenant_weight("t", weight));
        assert_eq!(error, BuildError::InvalidTenantWeight { tenant: "t".into(), weight });
        assert!(error.to_string().contains(&format!("a weight of {weight} is not between 1 and 1000")), "{error}");
    }
    let world = World::new();
    let builder = world.router(ordered()).tenant_weight("t", 1).tenant_weight("t", 1_000);
    assert!(builder.backend(Profile::new("a"), backend(&world, "a")).build().is_ok());
}
