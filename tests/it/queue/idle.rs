//! Nobody waits for long beside a backend that would take a newcomer, and nobody asks without end, whatever is short: slots, tokens,
//! quotas, shares, money.

use crate::support::{Act, Script, Task, World, guard, ms, secs, tokens};
use fallway::decision::{Next, Reason};
use fallway::facts::{Price, Priority};
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{Capacity, Contender, FailSafe, PlanContext, PolicyExt, least_loaded, ordered};
use fallway::rng::Rng;
use fallway::shape::SpendLimit;
use fallway::{CallOptions, Facts, Profile};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BANDS: [Priority; 4] = [Priority::Batch, Priority::Standard, Priority::Standard, Priority::Critical];
const STEP: Duration = ms(97);
/// For so many steps a newcomer may be taken: who waits looks by itself when it has waited for twice as long at the latest.
const PATIENCE: u32 = 60;

/// Who was called, by the text of its request.
type Called = Arc<Mutex<HashSet<String>>>;

struct Caller {
    name: String,
    facts: Facts,
    answered: Task<bool>,
    /// For how many steps a newcomer like it would have been called.
    passed: u32,
}

fn one_in(rng: &mut Rng, n: usize) -> bool {
    rng.below(n) == 0
}

/// A backend where some of this is short.
fn backend(rng: &mut Rng, id: &str, called: &Called) -> (Profile, Script) {
    let model = if id == "c" && one_in(rng, 3) { "n" } else { "m" };
    let dollars = [0.01, 1.0, 2.0][rng.below(3)];
    let mut profile = Profile::new(id).model(model).price(Price::per_million(dollars, 1.0).unwrap());
    if !one_in(rng, 4) {
        profile = profile.concurrency(1 + rng.below(2) as u32);
    }
    if !one_in(rng, 3) {
        profile = profile.requests_per_minute(20 + 20 * rng.below(3) as u64).request_burst(1 + rng.below(2) as u64);
    }
    if one_in(rng, 3) {
        profile = profile.tokens_per_minute(6_000);
    }
    if one_in(rng, 3) {
        profile = profile.max_total_tokens(2_500);
    }
    if one_in(rng, 5) {
        profile = profile.only_tenants(["t"]);
    }
    let (time, called) = ([ms(20), ms(700), secs(3)][rng.below(3)], called.clone());
    let script: Script = Box::new(move |cue| {
        called.lock().unwrap().insert(cue.request.to_owned());
        Act::Answer(time)
    });
    (profile, script)
}

/// Lets requests come for fifteen seconds, and looks after them for thirty.
fn play(seed: u64) {
    let (mut rng, world, called) = (Rng::new(seed), World::new(), Called::default());
    let (begin, rests) = (world.now(), one_in(&mut rng, 2));
    // One of them is out for a third of the time, and says until when.
    let line = move |cx: &PlanContext<'_>, candidate: &mut Contender<'_>| {
        let third = (cx.now() - begin).as_millis() as u64 / 1_700;
        if rests && candidate.profile().id() == "b" && third % 3 == 1 {
            candidate.reject(Reason::RateLimited { until: begin + ms(1_700 * (third + 1)) });
        }
    };
    let mut builder = if one_in(&mut rng, 3) {
        world.router(guard(least_loaded().capacity_aware(Capacity::default()), line).fail_safe(FailSafe::default()))
    } else {
        world.router(guard(ordered(), line).fail_safe(FailSafe::default()))
    };
    builder = builder.longest_wait(secs(1_000));
    if one_in(&mut rng, 2) {
        let burst = 0.004 + 0.002 * rng.below(4) as f64;
        builder = builder.spend_limit(SpendLimit::new("tenant", 0.01, secs(1_000_000_000)).by_tenant().burst(burst));
    }
    if one_in(&mut rng, 3) {
        builder = builder.tenant_bulkheads(Bulkheads::of(3, Share::at_most(2)).share("t", Share::at_least(1)));
    }
    let (router, _) = world.fleet(builder, ["a", "b", "c"].map(|id| backend(&mut rng, id, &called)));
    let mut callers: Vec<Caller> = Vec::new();
    for step in 0..300 {
        let come = if step < 150 && one_in(&mut rng, 4) { 1 + rng.below(3) } else { 0 };
        for _ in 0..come {
            let size = [100, 600, 1_200][rng.below(3)];
            let facts = tokens(size, size / 2).max_output_tokens(size / 2).tenant(["t", "u", "v"][rng.below(3)]);
            let facts = facts.priority(BANDS[rng.below(4)]);
            let (name, asked) = (format!("{step}-{}", callers.len()), router.clone());
            let (text, options) = (name.clone(), CallOptions::within(secs(900)).facts(facts.clone()));
            let answered = world.spawn(async move { asked.call(&*text, options).await.is_ok() });
            callers.push(Caller { name, facts, answered, passed: 0 });
            world.settle();
        }
        world.run_for(STEP);
        for caller in &mut callers {
            let waits = !caller.answered.is_done() && !called.lock().unwrap().contains(&caller.name);
            let newcomer = CallOptions::within(secs(800)).facts(caller.facts.clone());
            let decision = waits.then(|| router.explain(&newcomer));
            let is_passed =
                decision.as_ref().is_some_and(|it| matches!(it.next(), Next::Call { at } if at <= world.now()));
            caller.passed = if is_passed { caller.passed + 1 } else { 0 };
            assert!(caller.passed < PATIENCE, "seed {seed}, step {step}: {} waits, and: {decision:?}", caller.name);
        }
    }
    world.run();
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0), "seed {seed}");
}

#[test]
fn nobody_waits_beside_a_backend_that_takes_newcomers() {
    (0..200).for_each(play);
}
