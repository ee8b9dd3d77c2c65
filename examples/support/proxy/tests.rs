//! What needs no server: how the command line becomes a router.

use std::collections::BTreeMap;

use fallway::router::Step;
use fallway::time::Clock;
use fallway::{CallOptions, Facts};

use super::args::{Args, USAGE};

/// Where 1,000 requests for `m` go, one after the other, all of which succeed.
fn shares(backends: &[&str]) -> BTreeMap<String, u32> {
    let flags = backends.iter().flat_map(|backend| ["--backend".to_owned(), format!("{backend},url=http://h,model=m")]);
    let args = Args::parse(["--listen".to_owned(), "127.0.0.1:0".to_owned()].into_iter().chain(flags)).expect("flags");
    let router = crate::build(args).expect("a router");
    let names: Vec<String> = backends.iter().map(|text| text[3..4].to_owned()).collect();
    let mut counts = BTreeMap::new();
    for _ in 0..1_000 {
        let now = Clock.now();
        let mut trip = router.trip(CallOptions::new(Facts::model("m").prompt_tokens(20)), now);
        let Ok(Step::Call(attempt)) = trip.next(now) else { panic!("nothing to call") };
        *counts.entry(names[attempt.backend().slot()].clone()).or_default() += 1;
        trip.answered(1, now);
        trip.finish(now);
    }
    counts
}

#[test]
fn weights_that_differ_are_shares() {
    for (backends, of_a) in [
        (["id=a,weight=9", "id=b,weight=1"], 900),
        // One that says nothing weighs 1.
        (["id=a", "id=b,weight=3"], 250),
    ] {
        let shares = shares(&backends);
        assert!(shares["a"].abs_diff(of_a) <= 5 && shares["b"].abs_diff(1_000 - of_a) <= 5, "{backends:?}: {shares:?}");
    }
}

#[test]
fn equal_weights_leave_the_choice_to_latency() {
    let leaf = |weights: [&str; 2]| {
        let backend = |id: &str, weight| format!("id={id},url=http://h,model=m{weight}");
        let (a, b) = (backend("a", weights[0]), backend("b", weights[1]));
        let flags = ["--listen", "127.0.0.1:0", "--backend", &a, "--backend", &b].map(str::to_owned);
        Args::parse(flags.into_iter()).expect("flags").leaf().name()
    };
    assert_eq!(leaf(["", ""]), "predicted_ttft");
    assert_eq!(leaf([",weight=2", ",weight=2"]), "predicted_ttft");
    assert_eq!(leaf(["", ",weight=1.5"]), "weighted");
    assert!(USAGE.contains("weight=9 beside weight=1"));
}
