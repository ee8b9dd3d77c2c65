//! Decisions, in place and with a record of their own.

use super::{Decisions, KEPT, Nothing, allocations, asking, call, facts, fleet, full_stack, is_chosen, router};
use fallway::backend::{BackendError, FailureKind};
use fallway::facts::Prefix;
use fallway::policy::{
    Budgets, Capacity, FailSafe, PolicyExt, RoutingPolicy, cheapest, least_loaded, ordered, power_of_two,
    predicted_ttft, round_robin, sticky, weighted,
};
use fallway::shape::Split;
use fallway::signal::{
    HealthSignal, HealthSignalExt, LoadReport, LoadReports, Manual, Probes, Probing, Quorum, Score, SuccessRate,
};
use fallway::time::Clock;
use fallway::{CallOptions, Decision, Facts, Profile};
use futures::executor::block_on;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_decision_in_place_allocates_nothing() {
    for backends in [8, 64, 1_000] {
        let router = full_stack(backends);
        let options = asking(facts());
        call(&router, &options, backends * 2);
        let made = Decisions::new(&router, &options, KEPT).allocations(10_000, is_chosen);
        println!("decide over {backends} backends: {made} allocations in 10,000 decisions");
        assert_eq!(made, 0, "{backends} backends");
    }
}

#[test]
fn a_decision_over_quotas_allocates_nothing() {
    let profile =
        |n: u64| Profile::new(format!("b{n}")).requests_per_minute(600).tokens_per_minute(900 * 5 / 2 * (n % 2 + 1));
    let policy = cheapest().fail_safe(FailSafe::default());
    let router = fleet(policy, (0..8).map(profile), || Nothing(None)).build().unwrap();
    let options = asking(Facts::any().prompt_tokens(900).replay_safe());
    // Half of them are used up.
    call(&router, &options, 8);
    let decision = router.explain(&options);
    assert!(decision.to_string().contains("over quota"), "{decision}");
    assert_eq!(Decisions::new(&router, &options, 1).allocations(10_000, is_chosen), 0);
}

#[test]
fn a_decision_over_bounds_of_tokens_allocates_nothing() {
    // Half of them are full with one call.
    let profile =
        |n: u64| Profile::new(format!("b{n}")).max_prefill_tokens(1_000).max_total_tokens(2_500 * (n % 2 * 2 + 1));
    let policy = least_loaded().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let router = fleet(policy, (0..8).map(profile), || Nothing(None)).build().unwrap();
    let options = asking(Facts::any().prompt_tokens(900).prefix(Prefix::of_hashes(100, [1, 2])).replay_safe());
    let _held: Vec<_> = (0..8).map(|_| block_on(router.call("", options.clone())).unwrap()).collect();
    let decision = router.explain(&options);
    assert!(decision.to_string().contains("kept for higher priorities"), "{decision}");
    assert_eq!(Decisions::new(&router, &options, 1).allocations(10_000, is_chosen), 0);
}

#[test]
fn a_decision_within_a_budget_allocates_nothing() {
    for backends in [8, 64, 1_000] {
        let budgets = Budgets::default().reserve(Duration::from_millis(500)).whole_answers();
        let fail_safe = FailSafe::default().tiers("chat", ["m", "m@1"]);
        let router = router(predicted_ttft().budgeted(budgets).fail_safe(fail_safe), backends);
        let within = |total| CallOptions::within(total).facts(facts().output_tokens(100));
        let ample = within(Duration::from_secs(8));
        call(&router, &ample, backends * 40);
        // Enough for all, and for nobody: forecasts, the split, and what is done about too little time.
        for options in [ample, within(Duration::from_nanos(1))] {
            let has_spread = |decision: &Decision| decision.candidates().next().unwrap().spread().is_some();
            let mut decisions = Decisions::new(&router, &options, KEPT);
            // Who is looked at depends on the seed, and so does how many: the second time each record has room for it.
            (0..10_000).for_each(|_| assert!(has_spread(decisions.next())));
            decisions.seed = 0;
            let made = allocations(0, 10_000, || assert!(has_spread(decisions.next())));
            assert_eq!(made, 0, "{backends} backends");
        }
    }
}

#[test]
fn a_decision_about_prefixes_allocates_nothing() {
    for backends in [8, 64] {
        let router = full_stack(backends);
        let options = asking(facts().prompt_tokens(200_000).prefix(Prefix::of_hashes(512, 0..200)));
        call(&router, &options, backends * 4);
        let knows_cached = |decision: &Decision| decision.chosen().unwrap().cached_tokens().is_some();
        let made = Decisions::new(&router, &options, KEPT).allocations(10_000, knows_cached);
        assert_eq!(made, 0, "{backends} backends");
    }
}

#[test]
fn explain_allocates_nothing_once_its_records_are_made() {
    // A new record takes the place of the oldest, which comes back: nothing is allocated in the long run.
    for backends in [8, 64, 1_000] {
        let router = full_stack(backends);
        let options = asking(facts());
        let mut kept: Vec<Decision> = (0..KEPT).map(|_| router.explain(&options)).collect();
        let mut next = 0;
        let made = allocations(KEPT as u32 * 2, 10_000, || {
            next = (next + 1) % KEPT;
            kept[next] = black_box(router.explain(&options));
        });
        println!("explain over {backends} backends: {made} allocations in 10,000 decisions");
        assert_eq!(made, 0, "{backends} backends");
    }
}

#[test]
fn no_leaf_allocates() {
    let leaves: [Box<dyn RoutingPolicy>; 8] = [
        ordered().boxed(),
        round_robin().boxed(),
        weighted().boxed(),
        least_loaded().boxed(),
        power_of_two().boxed(),
        predicted_ttft().boxed(),
        cheapest().boxed(),
        sticky().boxed(),
    ];
    for leaf in leaves {
        let name = leaf.name();
        let router = router(leaf, 64);
        let options = CallOptions::new(Facts::model("m").prompt_tokens(900).session("s"));
        assert_eq!(allocations(100, 1_000, || drop(black_box(router.explain(&options)))), 0, "{name}");
    }
}

#[test]
fn a_split_costs_no_allocation_either() {
    let ramp = |split: Split| split.ramp("m@1", "m", 4_000, Duration::from_secs(60), Clock.now());
    let config = FailSafe::default()
        .split(ramp(Split::new("inner", [("m@1", 5_000), ("m", 5_000)])))
        .split(Split::new("chat", [("inner", 9_000), ("m", 1_000)]).sticky_by_label("user"));
    let router = router(predicted_ttft().fail_safe(config), 64);
    let options = asking(facts().label("user", "ada"));
    let is_split = |decision: &Decision| !decision.splits().is_empty();
    assert_eq!(Decisions::new(&router, &options, 1).allocations(1_000, is_split), 0);
    assert_eq!(allocations(100, 1_000, || drop(black_box(router.explain(&options)))), 0);
}

#[test]
fn a_hard_line_and_a_refusal_cost_no_allocation_either() {
    let router = full_stack(64);
    for facts in [facts().residency(["eu"]), facts().residency(["mars"]), Facts::model("nowhere"), facts().max_cost(1)]
    {
        let options = CallOptions::new(facts);
        let made = allocations(100, 1_000, || drop(black_box(router.explain(&options))));
        assert_eq!(made, 0, "{:?}", router.explain(&options));
    }
}

#[test]
fn signals_cost_no_allocation_in_good_times_and_in_bad() {
    let (probes, manual) = (Arc::new(Probes::new(Probing::default()).unwrap()), Arc::new(Manual::default()));
    let (rate, reports) = (Arc::new(SuccessRate::default()), Arc::new(LoadReports::default()));
    let policy = predicted_ttft().fail_safe(FailSafe::default());
    let router = fleet(policy, (0..64).map(|n| Profile::new(format!("b{n}"))), || Nothing(None))
        .signal(rate.clone().hysteresis(Score::from_permille(400), Score::from_permille(700)).unwrap())
        .signal(probes.clone())
        .signal(manual.worst_of(reports.clone()).fresh_for(Duration::from_secs(60)))
        .load_reports(reports.clone())
        .signal(Quorum::of(2, [rate.clone().shared(), probes.clone().shared()]).unwrap())
        .build()
        .unwrap();
    let options = asking(Facts::any().prompt_tokens(900));
    let now = router.explain(&options).time();
    let ids = (0..64).map(|n| router.backend_id(&format!("b{n}")).unwrap());
    let down = BackendError::new(FailureKind::Unreachable);
    for (number, id) in ids.enumerate() {
        let ill = number % 8 == 0;
        let page = format!("sglang_token_usage 0.3\nsglang_num_waiting_uncached_tokens {number}000");
        reports.report(id, LoadReport::from_sglang(page), now);
        probes.report(id, if ill { Err(&down) } else { Ok(()) }, now);
        let made = Decisions::new(&router, &options, 1).allocations(1_000, is_chosen);
        assert_eq!(made, 0, "after {number}");
    }
    assert!(!probes.is_calm(now));
}
