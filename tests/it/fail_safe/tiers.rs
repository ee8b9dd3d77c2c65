//! Which tier a failure leads to.

use crate::support::{ANSWER, Answered, TestRouter, World, always, fail, secs};
use fallway::FailureKind::{self, *};
use fallway::backend::Replay;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Facts, Profile};

fn chat() -> Facts {
    Facts::model("chat").prompt_tokens(20).replay_safe()
}

fn options(facts: Facts) -> CallOptions {
    CallOptions::within(secs(5)).facts(facts)
}

/// Tiers for every failure kind; the first model fails with `kind`, the others answer.
fn tiers(world: &World, kind: FailureKind) -> TestRouter {
    let config = FailSafe::default()
        .tiers("chat", ["big", "small"])
        .on_context_too_long("chat", ["huge"])
        .on_content_rejected("chat", ["lenient"]);
    let model = |name: &str, window| Profile::new(name).model(name).context_window(window);
    let members = [
        (model("big", 1_000), always(fail(kind))),
        (model("small", 1_000), always(ANSWER)),
        (model("huge", 10_000), always(ANSWER)),
        (model("lenient", 1_000), always(ANSWER)),
    ];
    world.fleet(world.router(ordered().fail_safe(config)), members).0
}

fn answering(answered: &Answered) -> Option<&str> {
    answered.as_ref().ok().and_then(|routed| routed.backend())
}

#[test]
fn each_kind_leads_to_its_tier() {
    for kind in FailureKind::ALL {
        let world = World::new();
        let answered = world.call(&tiers(&world, kind), options(chat()));
        let expected = match kind {
            ContextTooLong => Some("huge"),
            ContentRejected => Some("lenient"),
            InvalidRequest => None,
            _ => Some("small"),
        };
        assert_eq!(answering(&answered), expected, "{kind}");
        match answered {
            Ok(routed) => assert_eq!(routed.attempts().len(), 2, "{kind}"),
            Err(error) => {
                assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::NotRetryable, 1), "{kind}");
                assert_eq!(error.last_failure(), Some(kind));
            }
        }
    }
}

#[test]
fn an_uncertain_failure_is_not_repeated_for_a_request_that_may_not_be_sent_twice() {
    for kind in FailureKind::ALL {
        let world = World::new();
        let facts = Facts::model("chat").prompt_tokens(20);
        let answered = world.call(&tiers(&world, kind), options(facts));
        let repeated = kind.conduct().replay == Replay::Safe && kind != InvalidRequest;
        assert_eq!(answered.is_ok(), repeated, "{kind}");
        if let Err(error) = answered {
            assert_eq!((error.kind(), error.attempts().len()), (RouteErrorKind::NotRetryable, 1), "{kind}");
        }
    }
}

#[test]
fn rejected_content_goes_nowhere_unless_configured() {
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["big", "small"]);
    let members = [
        (Profile::new("a").model("big"), always(fail(ContentRejected))),
        (Profile::new("b").model("big"), always(ANSWER)),
        (Profile::new("c").model("small"), always(ANSWER)),
    ];
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let error = world.call(&router, options(chat())).unwrap_err();
    assert_eq!(error.attempts().len(), 1);
    assert_eq!(backends.map(|backend| backend.calls()), [1, 0, 0]);
}

#[test]
fn a_prompt_that_was_too_long_goes_to_larger_windows_only() {
    let world = World::new();
    let members = [
        (Profile::new("a").context_window(1_000), always(fail(ContextTooLong))),
        (Profile::new("same").context_window(1_000), always(ANSWER)),
        (Profile::new("unknown"), always(ANSWER)),
        (Profile::new("larger").context_window(2_000), always(ANSWER)),
    ];
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let answered = world.call(&router, options(Facts::any().prompt_tokens(20)));
    assert_eq!(answering(&answered), Some("larger"));
    assert_eq!(backends.map(|backend| backend.calls()), [1, 0, 0, 1]);
}

#[test]
fn a_tier_is_left_only_when_nothing_of_it_is_usable() {
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["big", "small"]).fallback(["tiny"]).attempts(4);
    let members = [
        (Profile::new("t").model("tiny"), always(ANSWER)),
        (Profile::new("s").model("small"), always(fail(Overloaded))),
        (Profile::new("b1").model("big"), always(fail(Overloaded))),
        (Profile::new("b2").model("big"), always(fail(Overloaded))),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let routed = world.call(&router, options(chat())).unwrap();
    let order: Vec<_> = routed.attempts().iter().map(|attempt| attempt.name().to_owned()).collect();
    assert_eq!(order, ["b1", "b2", "s", "t"]);
}

#[test]
fn no_tier_is_visited_twice() {
    let world = World::new();
    // `main` is reached by three paths.
    let config = FailSafe::default()
        .tiers("chat", ["main", "spare"])
        .tiers("spare", ["main", "last"])
        .fallback(["main", "last"])
        .attempts(5);
    let members = [
        (Profile::new("m").model("main"), always(fail(Overloaded))),
        (Profile::new("l").model("last"), always(fail(Overloaded))),
    ];
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let decision = router.explain(&options(chat()));
    assert_eq!(decision.models().collect::<Vec<_>>(), [Some("main")]);
    let error = world.call(&router, options(chat())).unwrap_err();
    assert_eq!(error.decision().models().collect::<Vec<_>>(), [Some("main"), Some("last")]);
    let firsts: Vec<_> = error.attempts()[..2].iter().map(|attempt| attempt.name()).collect();
    assert_eq!(firsts, ["m", "l"]);
    assert!(backends.iter().all(|backend| backend.calls() > 0));
}

#[test]
fn the_version_of_a_model_is_a_tier_of_its_own() {
    let world = World::new();
    let config = FailSafe::default().tiers("chat", ["llama@2", "llama@1"]);
    let members = [
        (Profile::new("old").model("llama@1"), always(ANSWER)),
        (Profile::new("new").model("llama@2"), always(fail(Unreachable))),
    ];
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let routed = world.call(&router, options(chat())).unwrap();
    assert_eq!((routed.backend(), routed.attempts().len()), (Some("old"), 2));
    assert!(world.call(&router, options(Facts::model("llama").replay_safe())).is_ok());
    let error = world.call(&router, options(Facts::model("llama@3"))).unwrap_err();
    assert_eq!(error.kind(), RouteErrorKind::UnknownModel);
}
