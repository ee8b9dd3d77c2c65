//! Limits that are learned.

use super::takes;
use crate::support::{Answer, Load, Scripted, World, ok_share, percentile, secs, within};
use fallway::facts::Adaptive;
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::{Profile, RoutingPolicy};

fn stack() -> impl RoutingPolicy + 'static {
    predicted_ttft().fail_safe(FailSafe::default())
}

/// The gateway's line: limits of 2, 4 and 16, and 55 % of what they take.
fn line(seed: u64, seconds: u64, profile: fn(Profile, u32) -> Profile) -> (Vec<Answer>, [Scripted; 3]) {
    let world = World::new();
    let members = [("a", 2), ("b", 4), ("c", 16)].map(|(id, limit)| (profile(Profile::new(id), limit), takes(limit)));
    let (router, backends) = world.fleet(world.router(stack()).seed(seed), members);
    let load = Load { per_second: 121, lasts: secs(seconds), seed };
    (load.run(&world, &router, &within(secs(60))), backends)
}

#[test]
fn explore() {
    for (name, profile) in [
        ("known", (|profile, limit| profile.concurrency(limit)) as fn(Profile, u32) -> Profile),
        ("unknown", |profile, _| profile),
        ("aimd", |profile, _| profile.adaptive_concurrency(Adaptive::Aimd)),
        ("gradient", |profile, _| profile.adaptive_concurrency(Adaptive::Gradient)),
    ] {
        for seconds in [8, 60] {
            for seed in 1..=4 {
                let (answers, backends) = line(seed, seconds, profile);
                let calls: u64 = backends.iter().map(Scripted::calls).sum();
                let refused = answers.iter().map(|answer| answer.attempts).sum::<usize>() as f64;
                println!(
                    "{name:9} {seconds:3} s: ok {:.4}, attempts/request {:.3}, calls {calls}, p50 {:?} p99 {:?} peaks {:?} by {:?}",
                    ok_share(&answers),
                    refused / answers.len() as f64,
                    percentile(&answers, 0.5),
                    percentile(&answers, 0.99),
                    backends.each_ref().map(|backend| backend.backstage().peak()),
                    backends.each_ref().map(Scripted::calls),
                );
            }
        }
    }
}
