//! What the request itself is to blame for stays true of it, whatever the next attempt fails with.

use crate::support::{ANSWER, Act, Answered, Scripted, World, always, fail, ms, plain, secs};
use fallway::FailureKind::{ContentRejected, ContextTooLong, Overloaded, ServerError, Unreachable};
use fallway::decision::{Next, Refusal};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Facts, Profile};

/// One call for `chat` under this configuration, to backends that serve the model after which they are named; a
/// digit at the end does not count. Who was tried, in order, and the answer.
fn tried<const N: usize>(config: FailSafe, members: [(&str, Option<u64>, Act); N]) -> (Vec<String>, Answered) {
    let world = World::new();
    let members = members.map(|(id, window, act)| {
        let profile = Profile::new(id).model(id.trim_end_matches(|c: char| c.is_ascii_digit()));
        (window.map_or(profile.clone(), |window| profile.context_window(window)), always(act))
    });
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let facts = Facts::model("chat").prompt_tokens(20).replay_safe();
    let answered = world.call(&router, CallOptions::within(secs(5)).facts(facts));
    let attempts = answered.as_ref().map_or_else(|error| error.attempts(), |routed| routed.attempts());
    (attempts.iter().map(|attempt| attempt.name().to_owned()).collect(), answered)
}

#[test]
fn rejected_content_without_a_model_is_sent_nowhere_else() {
    for last_resort in [false, true] {
        let world = World::new();
        let mut builder = world.router(ordered().fail_safe(FailSafe::default()));
        let spare = world.backend("static", always(ANSWER));
        if last_resort {
            builder = builder.last_resort(spare.clone());
        }
        let members = [("a", fail(ContentRejected)), ("b", ANSWER), ("c", ANSWER)]
            .map(|(id, act)| (Profile::new(id), always(act)));
        let (router, backends) = world.fleet(builder, members);
        let (answered, took) = world.timed(|| world.call(&router, CallOptions::within(secs(5)).facts(plain())));
        let error = answered.unwrap_err();
        assert_eq!((error.kind(), took), (RouteErrorKind::NotRetryable, ms(0)));
        assert_eq!((backends.map(|backend| backend.calls()), spare.calls()), ([1, 0, 0], 0));
    }
}

#[test]
fn rejected_content_without_a_tier_for_it_says_what_happened() {
    for config in [FailSafe::default(), FailSafe::default().tiers("chat", ["big", "small"]).fallback(["tiny"])] {
        let members = ["chat", "big", "small", "tiny"]
            .map(|id| (id, None, if matches!(id, "chat" | "big") { fail(ContentRejected) } else { ANSWER }));
        let (names, answered) = tried(config, members);
        let (error, kind) = (answered.unwrap_err(), ContentRejected);
        assert_eq!((names.len(), error.kind()), (1, RouteErrorKind::NotRetryable));
        assert_eq!(error.decision().next(), Next::Refuse { why: Refusal::NotRetryable { kind } });
        let text = error.to_string();
        assert!(text.contains("content_rejected is not retried") && !text.contains("no backend serves"), "{text}");
    }
}

#[test]
fn rejected_content_returns_to_no_general_tier() {
    for kind in [Overloaded, ServerError, Unreachable] {
        let config = FailSafe::default()
            .tiers("chat", ["big", "small"])
            .fallback(["tiny"])
            .on_content_rejected("chat", ["lenient"])
            .attempts(5);
        let members = [
            ("big1", None, fail(ContentRejected)),
            ("big2", None, ANSWER),
            ("small", None, ANSWER),
            ("tiny", None, ANSWER),
            ("lenient1", None, fail(kind)),
            ("lenient2", None, fail(kind)),
        ];
        let (names, answered) = tried(config, members);
        assert_eq!(names[..3], ["big1", "lenient1", "lenient2"], "{kind}");
        assert!(names[3..].iter().all(|name| name.starts_with("lenient")), "{kind}: {names:?}");
        assert!(answered.is_err(), "{kind}");
    }
}

#[test]
fn a_prompt_that_was_too_long_returns_to_no_window_of_that_size() {
    const SMALL: Option<u64> = Some(8_000);
    const LARGE: Option<u64> = Some(32_000);
    // The other larger window is in the same tier, in the next, among the tiers of all, or in the model's own tier.
    for larger in ["huge2", "giant", "tiny", "small3"] {
        let config = FailSafe::default()
            .tiers("chat", ["small"])
            .fallback(["tiny"])
            .on_context_too_long("chat", ["huge", "giant"])
            .attempts(5);
        let members = [
            ("small1", SMALL, fail(ContextTooLong)),
            ("small2", SMALL, ANSWER),
            ("giant0", SMALL, ANSWER),
            ("tiny0", SMALL, ANSWER),
            ("huge1", LARGE, fail(Overloaded)),
            (larger, LARGE, ANSWER),
        ];
        let (names, answered) = tried(config, members);
        let expected = if larger == "small3" { vec!["small1", larger] } else { vec!["small1", "huge1", larger] };
        assert_eq!((names, answered.is_ok()), (expected.into_iter().map(ToOwned::to_owned).collect(), true));
    }
}

#[test]
fn a_tier_for_long_prompts_needs_no_windows() {
    for window in [None, Some(8_000)] {
        let config = FailSafe::default().tiers("chat", ["small"]).on_context_too_long("chat", ["huge"]);
        let members = [
            ("small1", window, fail(ContextTooLong)),
            ("small2", window, ANSWER),
            ("huge1", None, fail(Overloaded)),
            ("huge2", None, ANSWER),
        ];
        let (names, answered) = tried(config, members);
        assert_eq!((names.join(" "), answered.is_ok()), ("small1 huge1 huge2".to_owned(), true), "{window:?}");
    }
}

#[test]
fn a_prompt_that_is_too_long_for_every_window_is_not_repeated() {
    let world = World::new();
    let members = ["a", "b"].map(|id| (Profile::new(id).context_window(8_000), always(fail(ContextTooLong))));
    let (router, backends) = world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members);
    let (answered, took) = world.timed(|| world.call(&router, CallOptions::within(secs(5)).facts(plain())));
    assert_eq!((answered.unwrap_err().kind(), took), (RouteErrorKind::NothingUsable, ms(0)));
    assert_eq!(backends.each_ref().map(Scripted::calls), [1, 0]);
}
