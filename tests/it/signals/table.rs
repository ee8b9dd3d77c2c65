//! Every combination of two signals, through a router; `docs/guide/health.md` shows the same table.

use super::{ended, heard};
use crate::support::{plain, secs};
use fallway::backend::{BackendError, FailureKind};
use fallway::signal::{HealthSignal, HealthSignalExt, Probes, Probing, SuccessRate};
use fallway::{CallOptions, Decision};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Good,
    Bad,
    /// Too old; what was said then.
    Stale(bool),
    Missing,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Stale(_) => "stale",
            Self::Missing => "missing",
        }
    }
}

/// What becomes of `a`, whose peers are well by both signals.
fn decide(calls: State, checks: State, fused: bool) -> Decision {
    let (rate, probes) = (Arc::new(SuccessRate::default()), Arc::new(Probes::new(Probing::default()).unwrap()));
    let signals: Vec<Arc<dyn HealthSignal>> = match fused {
        false => vec![rate.clone(), probes.clone()],
        true => vec![rate.clone().worst_of(probes.clone()).shared()],
    };
    let (world, router, _) = heard(signals);
    let [a, b, c] = ["a", "b", "c"].map(|name| router.backend_id(name).unwrap());
    let call = |id, well: bool| {
        (0..10).for_each(|_| ended(&rate, id, (!well).then_some(FailureKind::ServerError), world.now()));
    };
    let down = BackendError::new(FailureKind::Unreachable);
    let check = |id, well: bool| probes.report(id, if well { Ok(()) } else { Err(&down) }, world.now());
    if let State::Stale(well) = calls {
        call(a, well);
    }
    if let State::Stale(well) = checks {
        check(a, well);
    }
    world.run_for(secs(200));
    for peer in [b, c] {
        call(peer, true);
        check(peer, true);
    }
    match calls {
        State::Good => call(a, true),
        State::Bad => call(a, false),
        State::Stale(_) | State::Missing => {}
    }
    match checks {
        State::Good => check(a, true),
        State::Bad => check(a, false),
        State::Stale(_) | State::Missing => {}
    }
    world.run_for(secs(1));
    let nothing_to_say = calls != State::Bad && checks == State::Good;
    assert_eq!(rate.is_calm(world.now()) && probes.is_calm(world.now()), nothing_to_say, "{calls:?} {checks:?}");
    router.explain(&CallOptions::new(plain()))
}

/// The fate of `a` in words, and what the decision says of it.
fn fate(decision: &Decision) -> (&'static str, String) {
    let a = decision.candidates().find(|candidate| candidate.name() == "a").unwrap();
    let said = a.rejected().or(a.note());
    let fate = match decision.chosen().unwrap().name() {
        "a" => "as any other",
        _ if a.rejected().is_some() => "out, softly",
        _ => "behind its peers",
    };
    (fate, said.map_or_else(|| "nothing".to_owned(), |said| a.explain(said, decision.time()).to_string()))
}

fn states() -> [State; 5] {
    [State::Good, State::Bad, State::Stale(true), State::Stale(false), State::Missing]
}

#[test]
fn the_guide_shows_what_happens() {
    let page = crate::docs::read("docs/guide/health.md");
    let told: Vec<Vec<String>> = crate::docs::table(&page, "calls (`SuccessRate`)")
        .into_iter()
        .map(|row| row.into_iter().map(str::to_owned).collect())
        .collect();
    assert_eq!(told.len(), 16);
    let mut rows = told.iter();
    for calls in states() {
        let mut of_calls = Vec::new();
        for checks in states() {
            let decision = decide(calls, checks, false);
            let (fate, said) = fate(&decision);
            let row = vec![calls.name().to_owned(), checks.name().to_owned(), fate.to_owned(), said];
            // What a stale reading once said makes no difference, so both are one row.
            if checks == State::Stale(false) {
                assert_eq!(of_calls.last(), Some(&row));
            } else {
                of_calls.push(row);
            }
        }
        if calls == State::Stale(false) {
            continue;
        }
        for row in of_calls {
            assert_eq!(rows.next(), Some(&row));
        }
    }
    assert_eq!(rows.next(), None);
}

#[test]
fn what_a_stale_verdict_on_calls_said_makes_no_difference() {
    for checks in states() {
        let [good, bad] = [true, false].map(|well| fate(&decide(State::Stale(well), checks, false)));
        assert_eq!(good, bad, "{checks:?}");
    }
}

#[test]
fn one_signal_made_of_both_has_the_same_fate() {
    for calls in states() {
        for checks in states() {
            let [apart, fused] = [false, true].map(|fused| fate(&decide(calls, checks, fused)).0);
            assert_eq!(apart, fused, "{calls:?} {checks:?}");
        }
    }
}

#[test]
fn where_a_source_is_gone_for_all_nobody_stands_behind() {
    let probes = Arc::new(Probes::new(Probing::default()).unwrap());
    let (world, router, _) = heard([probes.clone() as Arc<dyn HealthSignal>]);
    for name in ["a", "b", "c"] {
        probes.report(router.backend_id(name).unwrap(), Ok(()), world.now());
    }
    world.run_for(secs(60));
    let decision = router.explain(&CallOptions::new(plain()));
    assert_eq!(decision.chosen().unwrap().name(), "a");
    assert!(decision.candidates().all(|it| it.note().is_some() && it.rejected().is_none()), "{decision}");
}
