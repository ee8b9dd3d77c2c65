//! A few rounds of the campaign, and its planted bugs.

use fallway::sim::campaign::{Campaign, Round};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn a_few_rounds_break_no_promise() {
    let (mut requests, mut harmed) = (0, 0);
    for round in Campaign::new(11).take(8) {
        if let Some(violation) = round.violation() {
            panic!("{violation}");
        }
        requests += round.requests();
        harmed += round.harmed();
    }
    assert!(requests > 4_000 && harmed > 200, "{requests} requests, {harmed} faults");
}

#[test]
fn a_round_repeats_exactly() {
    let [one, again] = [5, 5].map(Round::play);
    assert_eq!(one.plan().to_string(), again.plan().to_string());
    assert_eq!((one.requests(), one.harmed()), (again.requests(), again.harmed()));
}

#[test]
fn every_planted_bug_is_declared_and_documented() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let source = read("src/bug.rs");
    let planted: BTreeSet<_> =
        source.lines().filter_map(|line| line.trim().strip_suffix("\";")?.split_once("= \"")).map(|it| it.1).collect();
    assert!(planted.len() >= 8, "{planted:?}");
    let (docs, manifest) = (read("docs/simulator.md"), read("Cargo.toml"));
    for bug in planted {
        assert!(docs.contains(&format!("| `{bug}` |")), "docs/simulator.md does not list {bug}");
        assert!(manifest.contains(bug), "Cargo.toml does not declare {bug}");
    }
}
