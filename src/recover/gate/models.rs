//! Every interleaving of what threads do to a gate, tried by loom (docs/contributing.md says how to run it).

use super::*;
use std::time::Duration;

const EJECTED: u8 = 1;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// Tries every interleaving with at most two preemptions, which is where such mistakes are found.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(check);
}

/// A gate whose time is over, and its epoch.
fn half_open() -> (Arc<Gate>, u64) {
    let gate = Gate::new(Arc::default());
    gate.shut(0, EJECTED, at(0), false, false, |_| at(10)).unwrap();
    let epoch = gate.epoch();
    (Arc::new(gate), epoch)
}

fn spawn<T: 'static>(gate: &Arc<Gate>, act: impl FnOnce(&Gate) -> T + 'static) -> loom::thread::JoinHandle<T> {
    let gate = gate.clone();
    loom::thread::spawn(move || act(&gate))
}

fn racing_claims(claim: fn(&Gate, u64) -> bool) {
    model(move || {
        let (gate, epoch) = half_open();
        let others = [(); 2].map(|()| spawn(&gate, move |gate| claim(gate, epoch)));
        let own = claim(&gate, epoch);
        let won = others.into_iter().map(|other| other.join().unwrap()).filter(|won| *won).count();
        assert_eq!(won + usize::from(own), 1);
    });
}

#[test]
fn one_of_racing_claims_gets_the_permit() {
    racing_claims(|gate, epoch| gate.claim(epoch, at(20)).is_some());
}

#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn a_claim_without_the_lock_would_be_found() {
    racing_claims(|gate, _| {
        let free = gate.permit_until(at(20)).is_none();
        gate.permit_until.store(at(30_000).as_nanos(), Ordering::Release);
        free
    });
}

#[test]
fn a_dropped_probe_frees_its_permit_and_leaves_the_gate_half_open() {
    model(|| {
        let (gate, epoch) = half_open();
        let probe = gate.claim(epoch, at(20)).unwrap();
        let rival = spawn(&gate, move |gate| gate.claim(epoch, at(20)).map(|permit| gate.give_back(permit)).is_some());
        gate.give_back(probe);
        rival.join().unwrap();
        assert_eq!((gate.epoch(), gate.view().map(|view| view.cause)), (epoch, Some(EJECTED)));
        assert!(gate.claim(epoch, at(20)).is_some());
    });
}

#[test]
fn a_late_result_changes_nothing() {
    model(|| {
        let gate = Arc::new(Gate::new(Arc::default()));
        let late = gate.epoch();
        gate.shut(late, EJECTED, at(0), false, false, |_| at(10)).unwrap();
        let epoch = gate.epoch();
        let good = spawn(&gate, move |gate| gate.open(late, None, at(20)));
        let bad = spawn(&gate, move |gate| gate.shut(late, EJECTED, at(20), false, false, |_| at(999)).is_some());
        let (end, trips) = gate.shut(epoch, EJECTED, at(20), false, false, |_| at(40)).unwrap();
        assert!(!good.join().unwrap() && !bad.join().unwrap());
        assert_eq!((end, trips, gate.view().unwrap().moment), (at(40), 2, at(40)));
    });
}

#[test]
fn a_claim_never_outlives_the_half_open_state_that_it_was_made_for() {
    model(|| {
        let (gate, epoch) = half_open();
        let probe = gate.claim(epoch, at(20)).unwrap();
        let rival = spawn(&gate, move |gate| gate.claim(epoch, at(20)).is_some());
        gate.shut(epoch, EJECTED, at(20), false, false, |_| at(40)).unwrap();
        gate.give_back(probe);
        assert!(!rival.join().unwrap(), "the gate is shut, and a probe is out");
        assert_eq!(gate.permit_until(at(20)), None);
    });
}

#[test]
fn an_expired_permit_that_comes_back_frees_nothing() {
    model(|| {
        let (gate, epoch) = half_open();
        let hung = gate.claim(epoch, at(20)).unwrap();
        let expired = at(20) + Ejection::PROBE_LEASE + Duration::from_nanos(1);
        let next = spawn(&gate, move |gate| gate.claim(epoch, expired).is_some());
        gate.give_back(hung);
        assert!(next.join().unwrap());
        assert!(gate.claim(epoch, expired).is_none(), "the second probe is out");
    });
}

#[test]
fn the_alarm_is_silent_when_every_gate_is_open() {
    model(|| {
        let alarm = Arc::new(Alarm::default());
        let gate = Arc::new(Gate::new(alarm.clone()));
        gate.shut(0, EJECTED, at(0), false, false, |_| at(10)).unwrap();
        let epoch = gate.epoch();
        let back = spawn(&gate, move |gate| gate.open(epoch, None, at(20)));
        let out = gate.shut(epoch, EJECTED, at(20), false, false, |_| at(40)).is_some();
        let back = back.join().unwrap();
        assert!(out != back, "evidence of one epoch decides once");
        assert_eq!(alarm.is_silent(), back);
        drop(gate);
        assert!(alarm.is_silent());
    });
}
