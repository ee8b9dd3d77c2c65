//! Rooms of regions, beside quotas and slow starts.

use crate::support::{Act, Log, Script, Told, World, fail, ms, secs};
use fallway::FailureKind::{Overloaded, ServerError};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, Regions, ordered};
use fallway::rng::Rng;
use fallway::{CallOptions, Facts, Profile};
use std::collections::HashMap;

fn named(n: usize) -> Facts {
    [Facts::any(), Facts::model("m"), Facts::model("chat")][n].clone()
}

fn decisions(log: &Log) -> usize {
    log.count(|told| matches!(told, Told::Decided(_)))
}

/// Requests wait for slots, for room in a region, and for quotas that are used up meanwhile. The most decisions in a tenth of a second, and of one
/// request at one moment.
fn play(seed: u64) -> [usize; 2] {
    let (mut rng, world, log) = (Rng::new(seed), World::new(), Log::default());
    let regions = Regions::new("eu").then("us").headroom(0.5, 0.5).hold(secs(3), secs(20)).ramp(secs(4));
    let policy = ordered().region_failover(regions).fail_safe(FailSafe::default().tiers("chat", ["n", "m"]));
    let mut builder = world.router(policy).observer(log.clone());
    for (n, id) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let mut profile = Profile::new(id).region(["eu", "eu", "us", "us", "eu"][n]).model(["m", "n"][n / 4]);
        profile = profile.concurrency(1 + rng.below(4) as u32);
        if rng.below(2) == 0 {
            profile = profile.tokens_per_minute(6_000 + 3_000 * rng.below(3) as u64);
        }
        if rng.below(2) == 0 {
            profile = profile.requests_per_minute(30 + 30 * rng.below(2) as u64).request_burst(1 + rng.below(3) as u64);
        }
        let script: Script =
            Box::new(move |cue| match Rng::new(seed ^ (n as u64 + 1) << 40 ^ cue.call << 20).below(8) as u64 {
                0 => fail(ServerError),
                1 => fail(Overloaded),
                n => Act::Answer(ms(300 * n)),
            });
        builder = builder.backend(profile, world.backend(id, script));
    }
    let router = builder.build().unwrap();
    let bands = [Priority::Standard, Priority::Standard, Priority::Standard, Priority::Critical];
    let (mut most, mut calls) = (0, Vec::new());
    for _ in 0..150 {
        let before = decisions(&log);
        for _ in 0..rng.below(3) {
            let size = [40, 200, 600, 1_200][rng.below(4)];
            let facts = named(rng.below(3))
                .prompt_tokens(size)
                .output_tokens(size / 2)
                .replay_safe()
                .max_output_tokens(size / 2)
                .tenant(["t", "u", "v"][rng.below(3)]);
            let options =
                CallOptions::within(secs(5 + rng.below(20) as u64)).facts(facts.priority(bands[rng.below(4)]));
            calls.push(world.ask(&router, options));
        }
        world.settle();
        most = most.max(decisions(&log) - before);
        let before = decisions(&log);
        world.run_for(ms(97));
        most = most.max(decisions(&log) - before);
    }
    world.run();
    let mut looks: HashMap<_, usize> = HashMap::new();
    log.decisions().iter().for_each(|it| *looks.entry((it.seed(), it.time())).or_default() += 1);
    [most, looks.into_values().max().unwrap()]
}

#[test]
fn whose_quota_is_short_now_and_then_do_not_ask_without_end() {
    for seed in 0..25 {
        let [in_all, of_one] = play(seed);
        assert!(in_all < 500 && of_one < 50, "seed {seed}: {in_all} decisions, {of_one} of one request");
    }
}
