//! A small world in virtual time: a clock that jumps, an executor, scripted backends, and watchers.

mod backend;
mod load;
mod policies;
mod watch;
mod world;

pub(crate) use backend::{
    Act, Cue, Reply, Script, Scripted, Step, Token, always, in_turn, loaded_panic, scripted_panic,
};
pub(crate) use fallway::sim::Clock as VirtualTimer;
pub(crate) use load::{Answer, Load, ok_share, percentile, tries};
pub(crate) use policies::{LEAVES, guard, leaf};
pub(crate) use watch::{Log, Opinion, Rival, Told};
pub(crate) use world::{Task, World, dropped_after};

use fallway::router::Streamed;
use fallway::time::Instant;
use fallway::{CallOptions, Decision, Facts, FailureKind, RouteError, Routed, Router};
use std::time::Duration;

pub(crate) type TestRouter = Router<str, Reply>;
pub(crate) type Answered = Result<Routed<Reply>, RouteError>;
pub(crate) type Begun = Result<Streamed<str, Reply>, RouteError>;

/// Fails at once.
pub(crate) const fn fail(kind: FailureKind) -> Act {
    Act::Fail(kind, Duration::ZERO)
}

/// Fails at once and hints when to come back.
pub(crate) const fn hint(kind: FailureKind, after: Duration) -> Act {
    Act::Hint(kind, Duration::ZERO, after)
}

/// Answers after 20 ms.
pub(crate) const ANSWER: Act = Act::Answer(ms(20));

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The moment so many milliseconds after the beginning.
pub(crate) const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// The usual request: a small prompt that may be sent twice.
pub(crate) fn plain() -> Facts {
    Facts::any().prompt_tokens(20).replay_safe()
}

/// A request of so many tokens, prompt and expected answer, that may be sent twice.
pub(crate) fn tokens(prompt: u64, output: u64) -> Facts {
    Facts::any().prompt_tokens(prompt).output_tokens(output).replay_safe()
}

pub(crate) fn within(total: Duration) -> CallOptions {
    CallOptions::within(total).facts(plain())
}

/// How a property test draws its cases: equal in every run, unless `FALLWAY_SEED` says otherwise.
pub(crate) fn drawn(cases: u32) -> proptest::test_runner::Config {
    let seed = std::env::var("FALLWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2);
    proptest::test_runner::Config {
        cases,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed),
        ..Default::default()
    }
}

/// How many of so many dry runs of this request, each with a seed of its own, are as `is` says.
pub(crate) fn count_of(router: &TestRouter, options: &CallOptions, runs: u64, is: impl Fn(&Decision) -> bool) -> usize {
    let mut decision = router.explain(options);
    let now = decision.time();
    let mut run = |seed: u64| {
        router.decide(&mut decision, now, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        is(&decision)
    };
    (0..runs).filter(|seed| run(*seed)).count()
}
