//! No request leaves its residency set, whatever goes wrong.

use crate::support::{ANSWER, Opinion, World, always, fail, ms, plain, within};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, Regions, Spill, predicted_ttft, round_robin};
use fallway::rng::Rng;
use fallway::{CallOptions, FailureKind, Profile};
use std::collections::BTreeSet;

const REGIONS: [&str; 4] = ["a", "b", "c", "d"];

/// Some of the regions, at least one.
fn some(rng: &mut Rng) -> BTreeSet<&'static str> {
    let mut chosen: BTreeSet<_> = REGIONS.into_iter().filter(|_| rng.below(2) == 0).collect();
    chosen.insert(REGIONS[rng.below(4)]);
    chosen
}

/// One fleet in trouble, and many requests. Returns how many went somewhere.
fn play(seed: u64, decisions: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let (world, opinion) = (World::new(), Opinion::default());
    // The first four stand in all regions, so that any set names one.
    let profile = |number: usize, rng: &mut Rng| {
        let region = if number < 4 { REGIONS[number] } else { REGIONS[rng.below(4)] };
        let profile = Profile::new(format!("{region}{number}")).region(region).drained(rng.below(8) == 0);
        if rng.below(3) == 0 { profile.concurrency(1 + rng.below(3) as u32) } else { profile }
    };
    let members = std::array::from_fn::<_, 8, _>(|number| {
        let act = match rng.below(4) {
            0 => fail(FailureKind::Unreachable),
            1 => fail(FailureKind::ServerError),
            _ => ANSWER,
        };
        (profile(number, &mut rng), always(act))
    });
    let allowed = (rng.below(2) == 0).then(|| some(&mut rng));
    let mut regions = Regions::new("a").then_any(["b", "c"]);
    if rng.below(3) == 0 {
        regions = regions.spill(Spill::Switch).exercise(0.03);
    }
    if let Some(allowed) = &allowed {
        regions = regions.residency(allowed.iter().copied());
    }
    let builder = if rng.below(2) == 0 {
        world.router(predicted_ttft().region_failover(regions).fail_safe(FailSafe::default()))
    } else {
        world.router(round_robin().region_failover(regions).fail_safe(FailSafe::default()))
    };
    let (router, _) = world.fleet(builder.signal(opinion.clone()), members);
    let mut served = 0;
    for _ in 0..8 {
        for slot in 0..8 {
            if rng.below(2) == 0 {
                opinion.fresh(slot, [0, 400, 1000][rng.below(3)], world.now());
            }
        }
        let residency = (rng.below(2) == 0).then(|| some(&mut rng));
        let priority = [Priority::Batch, Priority::Standard, Priority::Critical][rng.below(3)];
        let mut facts = plain().priority(priority);
        if let Some(residency) = &residency {
            facts = facts.residency(residency.iter().copied());
        }
        let may = |region: &str| {
            allowed.as_ref().is_none_or(|set| set.contains(region))
                && residency.as_ref().is_none_or(|set| set.contains(region))
        };
        for _ in 0..4 {
            let reply = world.call(&router, CallOptions::within(ms(300)).facts(facts.clone()));
            let attempts = match &reply {
                Ok(reply) => reply.attempts().to_vec(),
                Err(error) => error.decision().attempts().to_vec(),
            };
            assert!(attempts.iter().all(|attempt| may(&attempt.name()[..1])), "seed {seed}: {attempts:?}");
        }
        let mut decision = router.explain(&within(ms(300)).facts(facts));
        for seed in 0..decisions / 8 {
            router.decide(&mut decision, world.now(), seed);
            for candidate in decision.candidates().filter(|candidate| candidate.rejected().is_none()) {
                assert!(may(&candidate.name()[..1]), "seed {seed}: {decision}");
            }
            served += u64::from(decision.chosen().is_some());
        }
        world.run_for(ms(700));
    }
    served
}

#[test]
fn no_decision_crosses_the_residency_set() {
    let served: u64 = (0..125).map(|seed| play(seed, 2_000)).sum();
    assert!(served > 125_000, "{served} of 250000 decisions found somebody");
}
