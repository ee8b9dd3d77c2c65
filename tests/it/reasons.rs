//! Every reason and every refusal that a decision can carry, produced once by a small scenario of its own name.

mod notes;
mod refusals;
mod rejections;

use crate::support::{ANSWER, Script, TestRouter, World, always};
use fallway::decision::Reason;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, Facts, Profile};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A router with `fail_safe` over `ordered`, in front of a backend `a` with this script and one that answers.
fn pair(world: &World, profile: Profile, script: Script) -> TestRouter {
    let members = [(profile, script), (Profile::new("b"), always(ANSWER))];
    world.fleet(world.router(ordered().fail_safe(FailSafe::default())), members).0
}

/// Why `a` is out for a request with these facts.
fn rejected(router: &TestRouter, facts: Facts) -> Option<Reason> {
    first(router, facts).0
}

/// Why `a` is out, and what is noted of it.
fn first(router: &TestRouter, facts: Facts) -> (Option<Reason>, Option<Reason>) {
    let decision = router.explain(&CallOptions::new(facts));
    let a = decision.candidates().next().unwrap();
    assert_eq!(a.name(), "a");
    let reasons = (a.rejected(), a.note());
    for reason in [a.rejected(), a.note()].into_iter().flatten() {
        // Whatever it is, it has words, and the decision prints them.
        assert!(!reason.label().is_empty() && decision.to_string().contains(reason.label()), "{decision}");
    }
    reasons
}

/// The variants of an enum, read from the text of its source.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.map(|line| line.trim_end_matches([',', ' ', '{']).to_owned()).collect()
}

/// The names of the tests of a file that mention the variant of their own name.
fn produced(source: &str, name: &str) -> BTreeSet<String> {
    let tests = source.split("#[test]\nfn ").skip(1);
    let variant = |test: &str| -> String {
        let words = test.split('(').next().unwrap().split('_');
        words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
    };
    tests.filter(|test| test.contains(&format!("{name}::{}", variant(test)))).map(variant).collect()
}

#[test]
fn none_is_missing() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let reasons = variants(&read("src/decision/reason.rs"), "Reason");
    let refusals = variants(&read("src/decision/next.rs"), "Refusal");
    assert!(reasons.len() >= 30 && refusals.len() >= 7, "{} and {}", reasons.len(), refusals.len());
    let mut tested = produced(&read("tests/it/reasons/rejections.rs"), "Reason");
    tested.extend(produced(&read("tests/it/reasons/notes.rs"), "Reason"));
    assert_eq!(tested, reasons);
    assert_eq!(produced(&read("tests/it/reasons/refusals.rs"), "Refusal"), refusals);
}

#[test]
fn what_is_no_refusal_is_not_tested_as_one() {
    // The reader of the sources reads what it should.
    let source = "pub enum Refusal {\n    /// Why.\n    One,\n    Two {\n        /// How many.\n        count: u32,\n    },\n}\n";
    assert_eq!(variants(source, "Refusal"), ["One", "Two"].map(str::to_owned).into());
    let tests = "#[test]\nfn one() {\n Refusal::One }\n#[test]\nfn two() {\n Refusal::One }\n";
    assert_eq!(produced(tests, "Refusal"), ["One".to_owned()].into());
}
