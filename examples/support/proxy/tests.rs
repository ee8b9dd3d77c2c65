//! What needs no server: how the command line becomes a router.

use std::collections::BTreeMap;

use fallway::router::Step;
use fallway::time::Clock;
use fallway::{CallOptions, Facts};
use hyper::StatusCode;

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
fn a_request_that_never_fits_is_the_callers_fault_and_nobody_asks_again() {
    let backend = |id: &str, limit: &str| ["--backend".to_owned(), format!("id={id},url=http://h,model=m,{limit}")];
    let refused = |limits: [&str; 2], tokens: u64| {
        let flags = ["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        let flags = flags.into_iter().chain(backend("a", limits[0])).chain(backend("b", limits[1]));
        let router = crate::build(Args::parse(flags).expect("flags")).expect("a router");
        let ask = |tokens| router.trip(CallOptions::new(Facts::model("m").prompt_tokens(tokens)), Clock.now());
        let error = ask(tokens).next(Clock.now()).err()?;
        Some((crate::refusal(&error), error.to_string()))
    };
    let (answer, message) = refused(["tpm=1000", "tpm=2000"], 3_000).expect("a refusal");
    assert_eq!((answer.status(), answer.headers().get("retry-after")), (StatusCode::BAD_REQUEST, None));
    assert!(message.contains("3000 tokens") && message.contains("2000"), "{message}");
    assert!(refused(["tpm=1000", "tpm=4000"], 3_000).is_none());
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
