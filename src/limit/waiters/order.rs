//! [`Order`]: who is next, and who goes when there are too many. No locks, no wakers: plain data.
//!
//! ```text
//! Want set ──► Lane ──► Band ──► Line of a flow ──► requests, earliest deadline first
//! ```
//!
//! A *flow* is what one tenant has waiting in one band. Flows take turns: each is served as often in a row as its weight
//! says and goes to the end. Requests that wait for the same backends, for the same reason, stand in one *lane*: so a
//! slot costs a look at the lanes of its backend and not at the requests, however many there are. A flow may stand in
//! several lanes and has one turn in all of them; lanes learn late that it moved on, when they look at it.

use super::pace::Pace;
use super::ranked::Ranked;
use crate::backend::BackendId;
use crate::facts::Priority;
use crate::time::Instant;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// Names a request in the queue; never used again.
pub(crate) type PlaceId = u64;
type FlowId = u64;
type LaneId = u64;

/// What decides about the turn of a request.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) priority: Priority,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Want {
    pub(crate) backend: BackendId,
    pub(crate) lack: Lack,
}

/// What it lacks there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Lack {
    Slot,
    /// Slots may be free, and are kept for others.
    Room,
    /// What a probe will show.
    Probe,
}

/// Requests of which one speaks for all: they wait for the same things, and matter as much.
pub(super) type Class = (LaneId, Priority);

/// Who had a slot and could not use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    places: BTreeSet<PlaceId>,
    classes: BTreeSet<Class>,
}

#[derive(Debug, Default)]
pub(super) struct Order {
    weights: HashMap<Arc<str>, u32>,
    /// Numbers flows, lanes and turns.
    last_number: u64,
    spots: FxHashMap<PlaceId, Spot>,
    flows: FxHashMap<FlowId, Flow>,
    /// By a hash that nobody outside can foresee: callers choose the names of tenants.
    flow_of: HashMap<(Priority, Option<Arc<str>>), FlowId>,
    /// The flows of each band, the most crowded last.
    crowds: [BTreeSet<(Crowd, FlowId)>; BANDS],
    lanes: FxHashMap<LaneId, Lane>,
    lane_of: FxHashMap<Arc<[Want]>, LaneId>,
    lanes_at: FxHashMap<BackendId, BTreeSet<LaneId>>,
}

const BANDS: usize = Priority::Critical as usize + 1;

/// Where a request stands.
#[derive(Clone, Copy, Debug)]
struct Spot {
    lane: LaneId,
    flow: FlowId,
    due: Due,
    age: Age,
}

/// The order within a line: deadline, then arrival.
type Due = (Instant, Instant, PlaceId);
/// The order in which requests came.
type Age = (Instant, PlaceId);
/// How many wait, divided by the weight; among equals, whose newest is newer.
type Crowd = (u64, Age);

#[derive(Debug)]
struct Flow {
    key: (Priority, Option<Arc<str>>),
    weight: u32,
    /// Whose turn is lowest is next.
    turn: u64,
    /// How many more of it are served before it goes to the end.
    left: u32,
    ages: Ranked<Age>,
}

#[derive(Debug)]
struct Lane {
    wants: Arc<[Want]>,
    bands: [Band; BANDS],
    len: usize,
}

#[derive(Debug, Default)]
struct Band {
    /// By the turn that the flow had when the lane looked last. Turns only grow, so nobody is looked at too late.
    turns: BTreeSet<(u64, FlowId)>,
    /// Each with its turn in `turns`.
    lines: FxHashMap<FlowId, (u64, Line)>,
}

#[derive(Debug, Default)]
struct Line {
    due: Ranked<Due>,
    pace: Pace,
}

impl Order {
    pub(super) fn new(weights: HashMap<Arc<str>, u32>) -> Self {
        Self { weights, ..Self::default() }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Puts a request into the line for `wants`, which are sorted. One that stands elsewhere moves, and its flow keeps its
    /// turn.
    pub(super) fn enter(&mut self, place: PlaceId, standing: &Standing, wants: &[Want]) {
        let age = (standing.arrival, place);
        let flow = match self.leave_line(place) {
            Some(spot) => spot.flow,
            None => {
                let flow = self.open_flow(standing);
                self.recount(flow, |flow| flow.ages.insert(age));
                flow
            }
        };
        let (lane, turn) = (self.open_lane(wants), self.flows[&flow].turn);
        let due = (standing.deadline, standing.arrival, place);
        let row = self.lanes.get_mut(&lane).expect("it was opened");
        row.len += 1;
        let band = &mut row.bands[standing.priority as usize];
        let (_, line) = band.lines.entry(flow).or_insert_with(|| {
            band.turns.insert((turn, flow));
            (turn, Line::default())
        });
        line.due.insert(due);
        self.spots.insert(place, Spot { lane, flow, due, age });
    }

    fn open_flow(&mut self, standing: &Standing) -> FlowId {
        let key = (standing.priority, standing.tenant.clone());
        if let Some(flow) = self.flow_of.get(&key) {
            return *flow;
        }
        let (id, turn) = (self.next_number(), self.next_number());
        let weight = self.weight(&standing.tenant);
        self.flow_of.insert(key.clone(), id);
        self.flows.insert(id, Flow { key, weight, turn, left: weight, ages: Ranked::default() });
        id
    }

    fn open_lane(&mut self, wants: &[Want]) -> LaneId {
        if let Some(lane) = self.lane_of.get(wants) {
            return *lane;
        }
        let (id, wants) = (self.next_number(), Arc::<[Want]>::from(wants));
        for want in &*wants {
            self.lanes_at.entry(want.backend).or_default().insert(id);
        }
        self.lane_of.insert(wants.clone(), id);
        self.lanes.insert(id, Lane { wants, bands: Default::default(), len: 0 });
        id
    }

    /// Takes a request out, wherever it stands.
    pub(super) fn leave(&mut self, place: PlaceId) {
        if let Some(Spot { flow, age, .. }) = self.leave_line(place) {
            self.recount(flow, |flow| {
                flow.ages.remove(&age);
            });
        }
    }

    fn leave_line(&mut self, place: PlaceId) -> Option<Spot> {
        let spot = self.spots.remove(&place)?;
        let priority = self.flows[&spot.flow].key.0;
        let lane = self.lanes.get_mut(&spot.lane).expect("a lane stays while somebody stands in it");
        let band = &mut lane.bands[priority as usize];
        let (turn, line) = band.lines.get_mut(&spot.flow).expect("a line stays while somebody stands in it");
        line.due.remove(&spot.due);
        if line.due.is_empty() {
            let seen = (*turn, spot.flow);
            band.turns.remove(&seen);
            band.lines.remove(&spot.flow);
        }
        lane.len -= 1;
        if lane.len == 0 {
            self.close_lane(spot.lane);
        }
        Some(spot)
    }

    fn close_lane(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        self.lane_of.remove(&lane.wants);
        for want in &*lane.wants {
            // A backend may be wanted for two reasons.
            if let Some(lanes) = self.lanes_at.get_mut(&want.backend) {
                lanes.remove(&id);
                if lanes.is_empty() {
                    self.lanes_at.remove(&want.backend);
                }
            }
        }
    }

    /// Changes how many of a flow wait. It is forgotten with the last: there is never more than what waits.
    fn recount(&mut self, id: FlowId, change: impl FnOnce(&mut Flow)) {
        let flow = self.flows.get_mut(&id).expect("a flow stays while anything of it waits");
        let crowds = &mut self.crowds[flow.key.0 as usize];
        if let Some(crowd) = flow.crowd() {
            crowds.remove(&(crowd, id));
        }
        change(flow);
        match flow.crowd() {
            Some(crowd) => {
                crowds.insert((crowd, id));
            }
            None => {
                let flow = self.flows.remove(&id).expect("it was here a moment ago");
                self.flow_of.remove(&flow.key);
            }
        }
    }

    /// Who is next for a slot of `backend`, of those who have not passed it on.
    pub(super) fn next(&mut self, backend: BackendId, passed: &Passed) -> Option<PlaceId> {
        let mut best: Option<(Reverse<Priority>, u64, Due)> = None;
        for id in self.lanes_at.get(&backend)? {
            let lane = self.lanes.get_mut(id).expect("a backend knows the lanes that there are");
            for (priority, band) in PRIORITIES.into_iter().zip(&mut lane.bands).rev() {
                if best.is_some_and(|(Reverse(best), ..)| best > priority) {
                    break;
                }
                if band.lines.is_empty() || passed.classes.contains(&(*id, priority)) {
                    continue;
                }
                if let Some((turn, due)) = band.first(&self.flows, passed) {
                    let key = (Reverse(priority), turn, due);
                    best = Some(best.map_or(key, |best| best.min(key)));
                }
            }
        }
        best.map(|(_, _, (.., place))| place)
    }

    /// Its turn has come: takes it out, and its flow moves on. Returns its class.
    pub(super) fn serve(&mut self, place: PlaceId, freed: Instant) -> Option<Class> {
        let spot = self.spots.get(&place)?;
        let (lane, id) = (spot.lane, spot.flow);
        self.last_number += 1;
        let flow = self.flows.get_mut(&id)?;
        let priority = flow.key.0;
        flow.left -= 1;
        if flow.left == 0 {
            (flow.turn, flow.left) = (self.last_number, flow.weight);
        }
        let line = self.lanes.get_mut(&lane)?.bands[priority as usize].lines.get_mut(&id);
        if let Some((_, line)) = line {
            line.pace.handed(freed);
        }
        self.leave(place);
        Some((lane, priority))
    }

    /// A request whose turn it was could not use it: its flow may have another.
    pub(super) fn give_back(&mut self, standing: &Standing) {
        let flow = self.flow_of.get(&(standing.priority, standing.tenant.clone()));
        if let Some(flow) = flow.and_then(|flow| self.flows.get_mut(flow)) {
            flow.left += 1;
        }
    }

    /// Who goes, so that a newcomer has a place: of the lowest band the tenant that has most waiting for its weight, and of
    /// that the newest. `None`: the newcomer itself.
    pub(super) fn surplus(&self, newcomer: &Standing) -> Option<PlaceId> {
        let mut bands = PRIORITIES.into_iter().zip(&self.crowds).take_while(|(band, _)| *band <= newcomer.priority);
        let (band, (most, id)) = bands.find_map(|(band, crowds)| Some((band, *crowds.last()?)))?;
        let (_, (_, last)) = most;
        if band < newcomer.priority {
            return Some(last);
        }
        // Its own flow as it would be. A request that failed elsewhere first is not the newest of its tenant.
        let own = self.flow_of.get(&(newcomer.priority, newcomer.tenant.clone()));
        let ages = own.map(|own| &self.flows[own].ages);
        let after = crowd(ages.map_or(0, Ranked::len) + 1, self.weight(&newcomer.tenant));
        let newest = ages.and_then(Ranked::last).max(Some((newcomer.arrival, PlaceId::MAX)));
        if own != Some(&id) && (after, newest) < (most.0, Some(most.1)) {
            return Some(last);
        }
        newest.map(|(_, place)| place).filter(|place| *place != PlaceId::MAX)
    }

    fn weight(&self, tenant: &Option<Arc<str>>) -> u32 {
        tenant.as_ref().and_then(|tenant| self.weights.get(tenant)).copied().unwrap_or(1)
    }

    /// How many of its tenant would be before a request that is to enter, and when it would start if it went on as it did
    /// lately: after all of them, one gap each; or one gap after the last of them has no more time, where they do not get
    /// so far.
    pub(super) fn predicted(&self, standing: &Standing, wants: &[Want]) -> Option<(usize, Instant)> {
        let flow = self.flow_of.get(&(standing.priority, standing.tenant.clone()))?;
        let lane = &self.lanes[self.lane_of.get(wants)?];
        let (_, line) = lane.bands[standing.priority as usize].lines.get(flow)?;
        let ahead = line.due.rank(&(standing.deadline, standing.arrival, PlaceId::MAX));
        let gap = line.pace.gap()?;
        let in_turn = line.pace.last()?.plus_nanos(gap.saturating_mul(ahead as u64 + 1));
        let last = ahead.checked_sub(1).and_then(|last| line.due.nth(last));
        Some((ahead, last.map_or(in_turn, |(deadline, ..)| in_turn.min(deadline.plus_nanos(gap)))))
    }

    /// What a request waits for; `None` where it stands nowhere.
    pub(super) fn wants(&self, place: PlaceId) -> Option<&[Want]> {
        self.spots.get(&place).map(|spot| &*self.lanes[&spot.lane].wants)
    }

    /// Takes all out, the first to be asked first: by band, then one of each flow after the other.
    pub(super) fn drain(&mut self) -> Vec<PlaceId> {
        let mut spots: Vec<_> = self.spots.values().map(|spot| (spot.due, spot.flow)).collect();
        spots.sort_unstable();
        let mut seen = BTreeMap::<FlowId, u64>::new();
        let place = |(due, id): (Due, FlowId)| {
            let flow = &self.flows[&id];
            let before = seen.entry(id).or_default();
            *before += 1;
            // In which round of turns it is served.
            let round = (*before - 1) / u64::from(flow.weight);
            (Reverse(flow.key.0), round, flow.turn, due)
        };
        let mut places: Vec<_> = spots.into_iter().map(place).collect();
        places.sort_unstable();
        let places: Vec<_> = places.into_iter().map(|(.., (.., place))| place).collect();
        places.iter().for_each(|place| self.leave(*place));
        places
    }

    /// How much is kept, all together.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let of_flows = self.flows.len() + self.flow_of.len() + self.crowds.iter().map(BTreeSet::len).sum::<usize>();
        self.spots.len() + of_flows + self.lanes.len() + self.lane_of.len() + self.lanes_at.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.size() == 0
    }
}

/// The bands, the lowest first.
const PRIORITIES: [Priority; BANDS] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];

/// How crowded a flow is, in 2⁻²⁰ of a request of weight 1.
const fn crowd(len: usize, weight: u32) -> u64 {
    ((len as u64) << 20) / weight as u64
}

impl Flow {
    fn crowd(&self) -> Option<Crowd> {
        Some((crowd(self.ages.len(), self.weight), self.ages.last()?))
    }
}

impl Band {
    /// Whose turn it is here, and of that the first who has not passed.
    fn first(&mut self, flows: &FxHashMap<FlowId, Flow>, passed: &Passed) -> Option<(u64, Due)> {
        let mut after = Bound::Unbounded;
        loop {
            let (seen, flow) = *self.turns.range((after, Bound::Unbounded)).next()?;
            let turn = flows[&flow].turn;
            let (known, line) = self.lines.get_mut(&flow).expect("each line has its turn");
            if turn != seen {
                *known = turn;
                self.turns.remove(&(seen, flow));
                self.turns.insert((turn, flow));
                continue;
            }
            let mut due = (0..=passed.places.len()).map_while(|rank| line.due.nth(rank));
            if let Some(due) = due.find(|(.., place)| !passed.places.contains(place)) {
                return Some((turn, due));
            }
            after = Bound::Excluded((seen, flow));
        }
    }
}

impl Passed {
    /// `class`: those who would pass it on as well.
    pub(super) fn add(&mut self, place: PlaceId, class: Option<Class>) {
        self.places.insert(place);
        self.classes.extend(class);
    }
}

#[cfg(test)]
mod tests {
    //! The queue against a plain list that is searched from end to end.

    use super::super::{Call, WaitTurn, Waiters};
    use super::*;
    use crate::rng::Rng;
    use futures::task::noop_waker;
    use std::task::{Context, Poll};

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn called(turn: &mut WaitTurn<'_, ()>) -> Option<Call<()>> {
        match turn.poll_called(&mut Context::from_waker(&noop_waker())) {
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
            let turn = |row: &Row| self.flows.iter().find(|(key, ..)| *key == row.key()).unwrap().1;
            let speaks = |row: &Row| {
                passed.iter().zip(alike).any(|(other, alike)| {
                    *alike && other.wants == row.wants && other.standing.priority == row.standing.priority
                })
            };
            let wants = |row: &&Row| row.sleeps && row.wants.iter().any(|want| want.backend == backend) && !speaks(row);
            let key = |row: &&Row| (std::cmp::Reverse(row.standing.priority), turn(row), row.due());
            self.rows.iter().filter(wants).min_by_key(key).cloned()
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
                    let priority = PRIORITIES[rng.below(bands)];
                    let deadline = at(arrival + [20, 20, 5, 90][rng.below(4)]);
                    let standing =
                        Standing { priority, tenant: Some(tenant.as_str().into()), arrival: at(arrival), deadline };
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
                        waiters.call_one(backend, passed.clone(), at(clock), |_| {
                            given = true;
                            Some(())
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
                        turn.pass(&mut passed, speaks);
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
                    plain.tidy();
                    for row in plain.rows.clone() {
                        turns.get_mut(&row.id).unwrap().wish(row.wants.clone());
                        plain.sleep(row.id, row.wants);
                    }
                }
                _ => {}
            }
            assert_eq!(waiters.len(), turns.len(), "seed {seed}");
            assert!(turns.len() <= bound, "seed {seed}");
        }
        drop(turns);
        assert_eq!((waiters.len(), waiters.queue.lock().order.is_empty()), (0, true), "seed {seed}");
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
}
