//! One signal made of others.

use super::{ended, fresh, heard};
use crate::support::{Opinion, plain, secs};
use fallway::CallOptions;
use fallway::backend::{BackendError, BackendId, FailureKind};
use fallway::event::Event;
use fallway::signal::{
    HealthSignal, HealthSignalExt, InvalidSignal, LoadReports, Manual, Probes, Probing, Quorum, Reading, Score,
    SuccessRate,
};
use fallway::time::Instant;
use std::sync::Arc;

const A: BackendId = BackendId::new(0, 0);

fn at(second: u64) -> Instant {
    Instant::from_nanos(second * 1_000_000_000)
}

fn score(permille: u16) -> Score {
    Score::from_permille(permille)
}

fn good(permille: u16, second: u64) -> Reading<Score> {
    Reading::Fresh { value: score(permille), at: at(second) }
}

fn old(permille: u16, second: u64) -> Reading<Score> {
    Reading::Stale { value: score(permille), at: at(second) }
}

fn says(reading: Reading<Score>) -> Opinion {
    let opinion = Opinion::default();
    opinion.set(0, reading);
    opinion
}

#[test]
fn the_worst_of_two_whatever_their_order() {
    for (one, other, both) in [
        (good(900, 5), good(100, 4), good(100, 4)),
        (good(900, 5), good(900, 7), good(900, 7)),
        (good(900, 5), old(0, 1), good(900, 5)),
        (good(0, 5), old(1000, 1), good(0, 5)),
        (good(900, 5), Reading::Missing, good(900, 5)),
        (old(900, 5), old(100, 4), old(100, 4)),
        (old(900, 5), Reading::Missing, old(900, 5)),
        (Reading::Missing, Reading::Missing, Reading::Missing),
    ] {
        assert_eq!(says(one).worst_of(says(other)).read(A, at(9)), both);
        assert_eq!(says(other).worst_of(says(one)).read(A, at(9)), both);
    }
}

#[test]
fn a_quorum_needs_so_many_fresh_ones_that_agree() {
    let quorum = |needed, readings: &[Reading<Score>]| {
        let signals = readings.iter().map(|reading| says(*reading).shared());
        Quorum::of(needed, signals).unwrap().read(A, at(9))
    };
    let missing = Reading::Missing;
    assert_eq!(quorum(2, &[good(0, 3), good(900, 4), good(800, 5)]), good(800, 5));
    assert_eq!(quorum(2, &[good(0, 3), good(900, 4), good(100, 5)]), good(100, 5));
    assert_eq!(quorum(1, &[good(0, 3), good(900, 4), good(800, 5)]), good(0, 3));
    assert_eq!(quorum(2, &[good(0, 3), old(0, 1), old(0, 2)]), old(0, 2));
    assert_eq!(quorum(2, &[good(0, 3), missing, missing]), missing);
    assert_eq!(quorum(3, &[good(0, 3), old(700, 1), good(100, 2)]), old(700, 1));
    for (needed, of) in [(0, 2), (3, 2), (0, 0), (1, 0)] {
        let error = Quorum::of(needed, (0..of).map(|_| Opinion::default().shared())).unwrap_err();
        assert_eq!(error, InvalidSignal::ImpossibleQuorum { needed, of });
    }
    let many = Quorum::of(1, (0..17).map(|_| Opinion::default().shared())).unwrap_err();
    assert_eq!(many, InvalidSignal::TooManySignals { of: 17 });
}

#[test]
fn a_quorum_covers_where_enough_of_its_sources_do() {
    let covering = |needed, opinions: usize| {
        let opinions = (0..opinions).map(|_| Opinion::default().shared());
        let silent = (0..2).map(|_| SuccessRate::default().shared());
        Quorum::of(needed, opinions.chain(silent)).unwrap().covers(A)
    };
    assert_eq!([covering(1, 0), covering(1, 1), covering(2, 1), covering(2, 2)], [false, true, false, true]);
    assert!(!SuccessRate::default().worst_of(Manual::default()).covers(A));
    assert!(SuccessRate::default().worst_of(Opinion::default()).fresh_for(secs(1)).covers(A));
}

#[test]
fn hysteresis_holds_both_edges_as_decisions_saw_them() {
    let opinion = Opinion::default();
    let signal = Arc::new(opinion.clone().hysteresis(score(300), score(700)).unwrap());
    let (world, router, backends) = heard([signal.clone() as Arc<dyn HealthSignal>]);
    drop(backends);
    let a = router.backend_id("a").unwrap();
    let mut told = Vec::new();
    for permille in [600, 400, 299, 600, 699, 700, 400, 300, 299, 650] {
        opinion.fresh(a.slot(), permille, world.now());
        // A dry run leaves no trace, nor does reading.
        drop(router.explain(&CallOptions::new(plain())));
        told.push(fresh(signal.read(a, world.now())).unwrap() >= 500);
        drop(world.call(&router, CallOptions::new(plain())));
    }
    assert_eq!(told, [true, false, false, false, false, true, true, true, false, false]);
    // Silence changes nothing.
    opinion.set(a.slot(), Reading::Missing);
    drop(world.call(&router, CallOptions::new(plain())));
    assert_eq!(signal.read(a, world.now()), Reading::Missing);
    opinion.fresh(a.slot(), 650, world.now());
    assert_eq!(fresh(signal.read(a, world.now())), Some(499));
}

#[test]
fn crossed_thresholds_are_named() {
    let error = SuccessRate::default().hysteresis(score(700), score(300)).unwrap_err();
    assert_eq!(error, InvalidSignal::CrossedThresholds { down: score(700), up: score(300) });
    assert_eq!(error.to_string(), "down below 700, up from 300: the thresholds are crossed");
    assert!(SuccessRate::default().hysteresis(score(500), score(500)).is_ok());
}

#[test]
fn the_whole_stack_in_one_expression_reads_well_and_works() {
    let (probes, manual) = (Arc::new(Probes::new(Probing::default()).unwrap()), Arc::new(Manual::default()));
    let (rate, load) = (Arc::new(SuccessRate::default()), Arc::new(LoadReports::default()));
    let signal = rate
        .clone()
        .hysteresis(score(400), score(700))
        .unwrap()
        .worst_of(probes.clone())
        .worst_of(load)
        .worst_of(manual)
        .fresh_for(secs(300));
    let shown = format!("{signal:?}");
    for part in ["FreshFor", "WorstOf", "Hysteresis", "SuccessRate(120s", "Probes(", "LoadReports(", "Manual {}"] {
        assert!(shown.contains(part), "{shown} has no {part}");
    }
    let signal: Arc<dyn HealthSignal> = signal.shared();
    let (world, router, _) = heard([signal.clone()]);
    let a = router.backend_id("a").unwrap();
    assert_eq!(signal.read(a, world.now()), Reading::Missing);
    ended(&signal, a, None, world.now());
    assert_eq!(fresh(signal.read(a, world.now())), Some(1000));
    probes.report(a, Err(&BackendError::new(FailureKind::Unreachable)), world.now());
    assert_eq!(fresh(signal.read(a, world.now())), Some(0));
    signal.observe(&Event::Fleet { generation: 9, backends: &[] }, world.now());
    assert_eq!(signal.read(a, world.now()), Reading::Missing);
}
