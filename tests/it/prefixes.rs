//! Prefix affinity: what a backend probably has of a prompt is no work for it.

mod beliefs;
mod books;
mod homes;

use crate::support::{ANSWER, TestRouter, World, always};
use fallway::facts::Prefix;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::recover::Ejection;
use fallway::router::{Step, Trip};
use fallway::time::Instant;
use fallway::{CallOptions, Decision, Facts, Profile};

/// Tokens in a block.
const BLOCK: u32 = 256;

/// A prompt of a conversation, so many blocks long.
pub(super) fn prompt(conversation: u64, blocks: u64) -> Facts {
    let hashes = (0..blocks).map(|block| conversation << 32 | block);
    let facts = Facts::any().prompt_tokens(blocks * u64::from(BLOCK)).replay_safe();
    facts.prefix(Prefix::of_hashes(BLOCK, hashes))
}

/// Servers that are called by hand.
pub(super) fn router<const N: usize>(profiles: [Profile; N]) -> TestRouter {
    let world = World::new();
    let builder = world.router(predicted_ttft().fail_safe(FailSafe::default())).ejection(Ejection::default());
    world.fleet(builder, profiles.map(|profile| (profile, always(ANSWER)))).0
}

pub(super) fn pair() -> TestRouter {
    router([Profile::new("a"), Profile::new("b")])
}

/// What is believed of a prompt, by backend.
pub(super) fn believed(router: &TestRouter, facts: &Facts) -> Vec<u64> {
    cached(&router.explain(&facts.clone().into())).into_iter().map(Option::unwrap).collect()
}

pub(super) fn cached(decision: &Decision) -> Vec<Option<u64>> {
    decision.candidates().map(|candidate| candidate.cached_tokens()).collect()
}

/// Sends a request; says where it went.
pub(super) fn send<'r>(
    router: &'r TestRouter,
    facts: &Facts,
    now: Instant,
) -> (Trip<'r, str, crate::support::Reply>, usize) {
    let mut trip = router.trip(CallOptions::new(facts.clone()), now);
    match trip.next(now).unwrap() {
        Step::Call(attempt) => (trip, attempt.backend().slot()),
        other => panic!("{other:?}"),
    }
}
