//! The queue against a plain list that is searched from end to end.

use super::order::{Passed, Standing};
use super::tests::call_one;
use super::{Call, Handed, Kind, Lack, WaitTurn, Waiters, Want};
use crate::backend::BackendId;
use crate::facts::{Facts, Need, Priority};
use crate::limit::shares::{Cells, Right, Shares, Stake};
use crate::limit::{Bulkheads, Share};
use crate::rng::Rng;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

const fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn called<S>(turn: &mut WaitTurn<'_, S>) -> Option<Call<S>> {
    match turn.poll_called(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(call) => Some(call),
        Poll::Pending => None,
    }
}

/// The same queue as a list, by the words of the documentation.
#[derive(Default)]
struct Plain {
    rows: Vec<Row>,
    /// Whose turn is when, and how many it has left in a row.
    flows: Vec<((Priority, String), u64, u32)>,
    turns: u64,
}

#[derive(Clone)]
struct Row {
    id: u64,
    standing: Standing,
    wants: Vec<Want>,
    /// It waits, and was not called.
    sleeps: bool,
}

impl Row {
    fn key(&self) -> (Priority, String) {
        (self.standing.priority, self.standing.tenant.as_deref().unwrap_or_default().to_owned())
    }

    fn due(&self) -> (Instant, Instant, u64) {
        (self.standing.deadline, self.standing.arrival, self.id)
    }

    fn age(&self) -> (Instant, u64) {
        (self.standing.arrival, self.id)
    }
}

fn weight(tenant: &str) -> u32 {
    if tenant == "t0" { 3 } else { 1 }
}

impl Plain {
    fn sleep(&mut self, id: u64, wants: Vec<Want>) {
        let row = self.rows.iter_mut().find(|row| row.id == id).unwrap();
        (row.wants, row.sleeps) = (wants, true);
        let key = row.key();
        if self.flows.iter().all(|(flow, ..)| *flow != key) {
            self.turns += 1;
            let weight = weight(&key.1);
            self.flows.push((key, self.turns, weight));
        }
    }

    /// Flows of which nothing sleeps are forgotten.
    fn tidy(&mut self) {
        let rows = &self.rows;
        self.flows.retain(|(key, ..)| rows.iter().any(|row| row.sleeps && row.key() == *key));
    }

    fn next(&self, backend: BackendId, passed: &[Row], alike: &[bool]) -> Option<Row> {
        let wants = |row: &Row| row.wants.iter().any(|want| want.backend == backend);
        self.first(passed, alike, |row| wants(row).then_some(Right::Open))
    }

    fn first(&self, passed: &[Row], alike: &[bool], right: impl Fn(&Row) -> Option<Right>) -> Option<Row> {
        let turn = |row: &Row| self.flows.iter().find(|(key, ..)| *key == row.key()).unwrap().1;
        let speaks = |row: &Row| {
            passed.iter().zip(alike).any(|(other, alike)| {
                *alike && other.wants == row.wants && other.standing.priority == row.standing.priority
            })
        };
        let may = |row: &&Row| row.sleeps && right(row).is_some() && !speaks(row);
        let key = |row: &&Row| (right(row), std::cmp::Reverse(row.standing.priority), turn(row), row.due());
        self.rows.iter().filter(may).min_by_key(key).cloned()
    }

    fn serve(&mut self, id: u64) {
        let row = self.rows.iter_mut().find(|row| row.id == id).unwrap();
        row.sleeps = false;
        let key = row.key();
        let (_, turn, left) = self.flows.iter_mut().find(|(flow, ..)| *flow == key).unwrap();
        *left -= 1;
        if *left == 0 {
            self.turns += 1;
            (*turn, *left) = (self.turns, weight(&key.1));
        }
        self.tidy();
    }

    fn give_back(&mut self, row: &Row) {
        if let Some((_, _, left)) = self.flows.iter_mut().find(|(key, ..)| *key == row.key()) {
            *left += 1;
        }
    }

    /// Who goes when one more comes: of those who sleep and itself.
    fn surplus(&self, newcomer: &Row) -> u64 {
        let all = || self.rows.iter().filter(|row| row.sleeps).chain([newcomer]);
        let lowest = all().map(|row| row.standing.priority).min().unwrap();
        let crowd = |row: &Row| {
            let len = all().filter(|other| other.key() == row.key()).count();
            (len << 20) / weight(&row.key().1) as usize
        };
        let newest_of_its = |row: &Row| all().filter(|other| other.key() == row.key()).map(Row::age).max().unwrap();
        let band = all().filter(|row| row.standing.priority == lowest);
        band.max_by_key(|row| (crowd(row), newest_of_its(row), row.age())).unwrap().id
    }
}

/// One random sequence of events over both. Returns how many slots were handed over.
fn compare(seed: u64, events: usize) -> usize {
    let mut rng = Rng::new(seed);
    let bound = [1, 3, 8, 1_000][rng.below(4)];
    let (bands, tenants, backends) = (1 + rng.below(4), 1 + rng.below(3), 1 + rng.below(3));
    let waiters = Waiters::<()>::new(bound, [("t0".into(), 3)].into());
    let mut turns: BTreeMap<u64, WaitTurn<'_, ()>> = BTreeMap::new();
    let mut plain = Plain::default();
    let mut handed = 0;
    let (mut clock, mut next) = (100, 0);
    for _ in 0..events {
        clock += rng.below(3) as u64;
        let backend = BackendId::new(rng.below(backends) as u32, 0);
        let wants = |rng: &mut Rng| {
            let lack = if rng.below(4) == 0 { Lack::Room } else { Lack::Slot };
            let mask = rng.below(1 << backends);
            let some = (0..backends as u32).filter(|n| mask >> n & 1 == 1);
            some.map(|n| Want { backend: BackendId::new(n, 0), lack }).collect::<Vec<_>>()
        };
        match rng.below(8) {
            0..=3 => {
                let tenant = format!("t{}", rng.below(tenants));
                let arrival = clock - if rng.below(4) == 0 { rng.below(50) as u64 } else { 0 };
                let priority = Priority::ALL[rng.below(bands)];
                let deadline = at(arrival + [20, 20, 5, 90][rng.below(4)]);
                let standing = Standing {
                    priority,
                    tenant: Some(tenant.as_str().into()),
                    arrival: at(arrival),
                    deadline,
                    cells: Cells::default(),
                    kind: Kind::default(),
                    need: Need::default(),
                    kept: 0,
                };
                let row = Row { id: next, standing: standing.clone(), wants: wants(&mut rng), sleeps: true };
                let goes = (turns.len() >= bound).then(|| plain.surplus(&row));
                let mut turn = waiters.join(standing);
                assert_eq!(turn.is_none(), goes == Some(next), "seed {seed}: who goes is {goes:?}");
                if let Some(goes) = goes.filter(|goes| *goes != next) {
                    assert!(matches!(called(&mut turns.remove(&goes).unwrap()), Some(Call::Shed)), "seed {seed}");
                    plain.rows.retain(|row| row.id != goes);
                    plain.tidy();
                }
                if let Some(mut turn) = turn.take() {
                    turn.wish(row.wants.clone());
                    let (id, wants) = (row.id, row.wants.clone());
                    plain.rows.push(row);
                    plain.sleep(id, wants);
                    turns.insert(id, turn);
                    next += 1;
                }
            }
            4..=5 => {
                let (mut passed, mut rows, mut alike) = (Passed::default(), Vec::new(), Vec::new());
                loop {
                    let expected = plain.next(backend, &rows, &alike);
                    let mut given = false;
                    call_one(&waiters, backend, &passed, at(clock), |_| {
                        given = true;
                    });
                    assert_eq!(given, expected.is_some(), "seed {seed}");
                    let Some(row) = expected else { break };
                    let higher = |other: &Row| {
                        other.sleeps
                            && other.standing.priority > row.standing.priority
                            && other.wants.iter().any(|want| want.backend == backend)
                    };
                    assert!(!rows.is_empty() || !plain.rows.iter().any(higher), "seed {seed}: an inversion");
                    handed += 1;
                    plain.serve(row.id);
                    let turn = turns.get_mut(&row.id).unwrap();
                    assert!(matches!(called(turn), Some(Call::Slot(()))), "seed {seed}: {} should have it", row.id);
                    if rng.below(3) > 0 {
                        turns.remove(&row.id);
                        plain.rows.retain(|other| other.id != row.id);
                        break;
                    }
                    let speaks = rng.below(2) == 0;
                    // So seldom that nobody rests.
                    turn.pass(&mut passed, Some(backend), speaks, at(handed as u64 * 1_000_000_000));
                    plain.give_back(&row);
                    rows.push(row);
                    alike.push(speaks);
                }
                for row in rows {
                    if let Some(turn) = turns.get_mut(&row.id) {
                        let wants = wants(&mut rng);
                        turn.wish(wants.clone());
                        plain.sleep(row.id, wants);
                    }
                }
            }
            6 if !plain.rows.is_empty() => {
                let id = plain.rows.remove(rng.below(plain.rows.len())).id;
                plain.tidy();
                turns.remove(&id);
            }
            7 if rng.below(8) == 0 => {
                waiters.call_all();
                for (id, turn) in &mut turns {
                    assert!(matches!(called(turn), Some(Call::News)), "seed {seed}: {id} was not told");
                }
                for row in &mut plain.rows {
                    row.sleeps = false;
                }
                let before = std::mem::take(&mut plain.flows);
                for row in plain.rows.clone() {
                    turns.get_mut(&row.id).unwrap().wish(row.wants.clone());
                    plain.sleep(row.id, row.wants);
                }
                // A turn goes on where it was.
                for (key, _, left) in before {
                    plain.flows.iter_mut().filter(|(flow, ..)| *flow == key).for_each(|flow| flow.2 = left);
                }
            }
            _ => {}
        }
        assert_eq!(waiters.len(), turns.len(), "seed {seed}");
        assert!(turns.len() <= bound, "seed {seed}");
    }
    drop(turns);
    assert_eq!((waiters.len(), waiters.queue.lock().order.size()), (0, 0), "seed {seed}");
    handed
}

#[test]
fn it_does_what_a_plain_list_does() {
    // FALLWAY_CASES=1000000 plays ten times as many.
    let cases = std::env::var("FALLWAY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let offset = std::env::var("FALLWAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0u64) << 32;
    let handed: usize = (0..cases).map(|case| compare(offset + case, 8 + case as usize % 24)).sum();
    assert!(handed as u64 > cases, "{handed} slots in {cases} sequences");
}

/// As [`compare`], of shares. Returns how many were handed over.
fn compare_shares(seed: u64, events: usize) -> usize {
    let mut rng = Rng::new(seed);
    let tenants = Bulkheads::of(2 + rng.below(5) as u32, Share::at_most(1 + rng.below(3) as u32));
    let tenants =
        if rng.below(2) == 0 { tenants.share("t1", Share::at_least(2).lends(rng.below(3) as u32)) } else { tenants };
    let routes = Bulkheads::of(4, Share::at_most(1 + rng.below(4) as u32)).share("r0", Share::at_least(1));
    let shares = Shares::new(Some(tenants), (rng.below(2) == 0).then_some(routes), seed);
    let waiters = Waiters::<(Stake, Passed)>::new(usize::MAX, [("t0".into(), 3)].into());
    let mut turns: BTreeMap<u64, WaitTurn<'_, (Stake, Passed)>> = BTreeMap::new();
    let (mut plain, mut flying) = (Plain::default(), Vec::new());
    let (mut handed, mut clock, mut next) = (0, 100, 0);
    for _ in 0..events {
        clock += rng.below(3) as u64;
        match rng.below(8) {
            0..=4 => {
                let (tenant, route) = (format!("t{}", rng.below(5)), format!("r{}", rng.below(3)));
                let cells = shares.cells(&Facts::model(route.as_str()).tenant(tenant.as_str()));
                if let Some(stake) = shares.take(cells).stake {
                    flying.push(stake);
                    continue;
                }
                let kind = Kind::of(&Facts::model(route.as_str()).tenant(tenant.as_str()), rng.below(2) as u64);
                let standing = Standing {
                    priority: Priority::ALL[rng.below(2)],
                    tenant: Some(tenant.as_str().into()),
                    arrival: at(clock),
                    deadline: at(clock + [20, 5, 90][rng.below(3)]),
                    cells,
                    kind,
                    need: Need::default(),
                    kept: 0,
                };
                let mut turn = waiters.join(standing.clone()).unwrap();
                let wants = vec![Want::share(cells, kind)];
                turn.wish(wants.clone());
                plain.rows.push(Row { id: next, standing, wants: wants.clone(), sleeps: true });
                plain.sleep(next, wants);
                turns.insert(next, turn);
                next += 1;
            }
            5..=6 if !flying.is_empty() => {
                shares.give_back(flying.swap_remove(rng.below(flying.len())));
                let (mut passed, mut rows, mut alike) = (Passed::default(), Vec::new(), Vec::new());
                loop {
                    let expected = plain.first(&rows, &alike, |row| shares.right(row.standing.cells));
                    let said = waiters.call_one(None, (&shares, true), &passed, at(clock), |it| (it.stake, it.passed));
                    assert_eq!(said == Handed::Share, expected.is_some(), "seed {seed}");
                    let Some(row) = expected else { break };
                    handed += 1;
                    plain.serve(row.id);
                    let turn = turns.get_mut(&row.id).unwrap();
                    let Some(Call::Slot((stake, who))) = called(turn) else {
                        panic!("seed {seed}: {} should have it", row.id);
                    };
                    if rng.below(3) == 0 {
                        flying.push(stake);
                        turns.remove(&row.id);
                        plain.rows.retain(|other| other.id != row.id);
                        continue;
                    }
                    shares.give_back(stake);
                    passed = who;
                    let speaks = rng.below(2) == 0;
                    // So seldom that nobody rests.
                    turn.pass(&mut passed, None, speaks, at(handed as u64 * 1_000_000_000));
                    plain.give_back(&row);
                    rows.push(row);
                    alike.push(speaks);
                }
                for row in rows {
                    turns.get_mut(&row.id).unwrap().wish(row.wants.clone());
                    plain.sleep(row.id, row.wants);
                }
            }
            7 if !plain.rows.is_empty() => {
                let id = plain.rows.remove(rng.below(plain.rows.len())).id;
                plain.tidy();
                turns.remove(&id);
            }
            _ => {}
        }
    }
    drop(turns);
    assert_eq!((waiters.len(), waiters.queue.lock().order.size()), (0, 0), "seed {seed}");
    handed
}

#[test]
fn shares_go_as_by_a_plain_list() {
    let handed: usize = (0..4_000).map(|seed| compare_shares(seed, 20 + seed as usize % 100)).sum();
    assert!(handed > 16_000, "{handed} shares");
}
