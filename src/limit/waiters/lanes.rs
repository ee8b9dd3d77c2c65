//! [`Lanes`]: those who wait for the same stand in one lane, so that a slot or a share costs a look at those lanes whose turn it
//! may be, however many there are.

use super::flows::{FlowId, Flows};
use super::order::{BANDS, Due, Lack, Passed, PlaceId, Spot, Want, lack_of};
use super::pace::Pace;
use super::ranked::Ranked;
use crate::backend::BackendId;
use crate::facts::Priority;
use crate::limit::shares::{Cells, Right, Shares};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

pub(super) type LaneId = u64;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    last: LaneId,
    lanes: FxHashMap<LaneId, Lane>,
    ids: FxHashMap<Arc<[Want]>, LaneId>,
    /// The lanes of each backend: there may be as many as shards.
    at: FxHashMap<BackendId, BTreeSet<Head>>,
    /// The lanes for shares: there may be as many as names.
    heads: BTreeSet<(Cells, Head)>,
    /// The first of each pair of cells, by the best right that it may have.
    firsts: BTreeSet<(Right, Head, Cells)>,
    /// How many cells and lanes were looked at.
    #[cfg(test)]
    pub(super) looks: usize,
}

/// A band of a lane among the others: the highest first, then by the first turn in it when the lane looked last.
type Head = (Reverse<Priority>, u64, LaneId);

#[derive(Debug)]
struct Lane {
    wants: Arc<[Want]>,
    /// Where it is a share.
    cells: Option<Cells>,
    bands: [Band; BANDS],
    /// Under which turns the backends list them, in the order of `wants`; one that is wanted for two reasons does so at the first. A
    /// backend learns late that a turn has moved on, as a lane does.
    listed: Box<[[Option<u64>; BANDS]]>,
    len: usize,
}

/// A flow may stand in several lanes and has one turn in all of them: a lane learns late that it moved on.
#[derive(Debug, Default)]
struct Band {
    /// By the turn that the flow had when the lane looked last. Turns only grow, so nobody is looked at too late.
    turns: BTreeSet<(u64, FlowId)>,
    /// Each with its turn in `turns`.
    lines: FxHashMap<FlowId, (u64, Line)>,
}

/// What a flow has waiting in a lane.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) due: Ranked<Due>,
    pub(super) pace: Pace,
}

/// Where a request stands among those who wait for something: who has a right to it, then the highest band, then whose turn
/// it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank(Right, Reverse<Priority>, u64, Due);

impl Rank {
    /// Whether nobody of that right and in this lane can be before it.
    fn is_before(&self, right: Right, (band, turn, _): Head) -> bool {
        (self.0, self.1, self.2) < (right, band, turn)
    }

    /// Where it stands by this right.
    pub(super) fn by(self, right: Option<Right>) -> Self {
        let Self(own, band, turn, due) = self;
        Self(right.unwrap_or(own), band, turn, due)
    }

    pub(super) const fn place(&self) -> PlaceId {
        self.3.2
    }
}

impl Lanes {
    /// Puts a request of `flow`, whose turn is `turn`, into the lane for `wants`, which are sorted.
    pub(super) fn enter(&mut self, wants: &[Want], (flow, turn): (FlowId, u64), priority: Priority, due: Due) -> Spot {
        let id = self.open(wants);
        self.change(id, priority, |lane| {
            lane.len += 1;
            let band = &mut lane.bands[priority as usize];
            let (_, line) = band.lines.entry(flow).or_insert_with(|| {
                band.turns.insert((turn, flow));
                (turn, Line::default())
            });
            line.due.insert(due);
        });
        Spot { lane: id, flow, due }
    }

    fn open(&mut self, wants: &[Want]) -> LaneId {
        if let Some(lane) = self.ids.get(wants) {
            return *lane;
        }
        self.last += 1;
        let (id, wants) = (self.last, Arc::<[Want]>::from(wants));
        let cells = wants.iter().find_map(Want::cells);
        let listed = wants.iter().filter(|_| cells.is_none()).map(|_| Default::default()).collect();
        self.ids.insert(wants.clone(), id);
        self.lanes.insert(id, Lane { wants, cells, bands: Default::default(), listed, len: 0 });
        id
    }

    pub(super) fn leave(&mut self, spot: &Spot, priority: Priority) {
        let left = self.change(spot.lane, priority, |lane| {
            let band = &mut lane.bands[priority as usize];
            let (turn, line) = band.lines.get_mut(&spot.flow).expect("a line stays while somebody stands in it");
            line.due.remove(&spot.due);
            if line.due.is_empty() {
                let seen = (*turn, spot.flow);
                band.turns.remove(&seen);
                band.lines.remove(&spot.flow);
            }
            lane.len -= 1;
            lane.len
        });
        if left == 0 {
            self.close(spot.lane);
        }
    }

    /// Changes this band of a lane, which keeps its place among the others.
    fn change<T>(&mut self, id: LaneId, priority: Priority, change: impl FnOnce(&mut Lane) -> T) -> T {
        let lane = self.lanes.get_mut(&id).expect("a lane stays while somebody stands in it");
        let before = lane.head(id, priority);
        let result = change(lane);
        let after = lane.head(id, priority);
        if before == after {
            return result;
        }
        let Some(cells) = lane.cells else {
            lane.list(id, priority, &mut self.at);
            return result;
        };
        let first = self.first(cells);
        move_key(&mut self.heads, [before, after], |head| (cells, head));
        let now = self.first(cells);
        move_key(&mut self.firsts, [first, now], |head| (cells.best_right(), head, cells));
        result
    }

    /// Which lane for a share of these cells is first, as far as they know.
    fn first(&self, cells: Cells) -> Option<Head> {
        self.after(cells, Bound::Included((cells, (Reverse(Priority::Critical), 0, 0))))
    }

    fn after(&self, cells: Cells, bound: Bound<(Cells, Head)>) -> Option<Head> {
        let (of, head) = self.heads.range((bound, Bound::Unbounded)).next()?;
        (*of == cells).then_some(*head)
    }

    fn close(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.remove(&id) {
            self.ids.remove(&lane.wants);
        }
    }

    /// Who is next for a slot of `backend`, of those who have not passed it on; those for whom its quota is `late`, or the
    /// others. Looks at those lanes only whose turn it may be.
    pub(super) fn next(&mut self, backend: BackendId, late: bool, flows: &Flows, passed: &Passed) -> Option<Rank> {
        let heads = self.at.get_mut(&backend)?;
        let (mut best, mut looked) = (None::<Rank>, Bound::Unbounded);
        while let Some(&head) = heads.range((looked, Bound::Unbounded)).next() {
            if best.is_some_and(|best| best.is_before(Right::Open, head)) {
                break;
            }
            looked = Bound::Excluded(head);
            let (band @ Reverse(priority), _, id) = head;
            if passed.classes.contains(&(id, priority)) {
                continue;
            }
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let lane = self.lanes.get_mut(&id).expect("a backend knows the lanes that there are");
            if (lack_of(&lane.wants, backend) == Some(Lack::Late)) != late {
                continue;
            }
            let first = lane.bands[priority as usize].first(flows, passed);
            lane.relist(head, backend, heads);
            let rank = first.map(|(turn, due)| Rank(Right::Open, band, turn, due));
            best = best.into_iter().chain(rank).min();
        }
        best
    }

    /// Who is next for a share, of those who have a right to one and have not passed it on. Looks at those cells only whose
    /// turn it may be, and that are not full.
    pub(super) fn next_share(&mut self, flows: &Flows, passed: &Passed, shares: &Shares) -> Option<Rank> {
        let (mut best, mut looked) = (None::<Rank>, Bound::Unbounded);
        while let Some(&entry) = self.firsts.range((looked, Bound::Unbounded)).next() {
            let (may, first, cells) = entry;
            looked = Bound::Excluded(entry);
            let is_late = |best: Rank| best.is_before(may, first);
            if best.is_some_and(is_late) || (may == Right::Open && !shares.are_open()) {
                break;
            }
            #[cfg(test)]
            {
                self.looks += 1;
            }
            if let Some(right) = shares.right(cells) {
                best = self.next_of(cells, right, best, (flows, passed));
            }
        }
        best
    }

    /// The first of these cells, or `best` where that is before.
    fn next_of(
        &mut self,
        cells: Cells,
        right: Right,
        mut best: Option<Rank>,
        (flows, passed): (&Flows, &Passed),
    ) -> Option<Rank> {
        let mut next = self.first(cells);
        while let Some(head) = next.filter(|head| best.is_none_or(|best| !best.is_before(right, *head))) {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            // Before it moves, which is to the back.
            next = self.after(cells, Bound::Excluded((cells, head)));
            let (band @ Reverse(priority), _, id) = head;
            if passed.classes.contains(&(id, priority)) {
                continue;
            }
            let first = self.change(id, priority, |lane| lane.bands[priority as usize].first(flows, passed));
            let rank = first.map(|(turn, due)| Rank(right, band, turn, due));
            best = best.into_iter().chain(rank).min();
        }
        best
    }

    /// What `flow` has waiting for `wants`.
    pub(super) fn line(&self, wants: &[Want], priority: Priority, flow: FlowId) -> Option<&Line> {
        let lane = &self.lanes[self.ids.get(wants)?];
        lane.bands[priority as usize].lines.get(&flow).map(|(_, line)| line)
    }

    /// The line in which a request stands.
    pub(super) fn line_at(&mut self, spot: &Spot, priority: Priority) -> &mut Line {
        let lane = self.lanes.get_mut(&spot.lane).expect("a lane stays while somebody stands in it");
        let line = lane.bands[priority as usize].lines.get_mut(&spot.flow);
        &mut line.expect("a line stays while somebody stands in it").1
    }

    pub(super) fn wants(&self, lane: LaneId) -> &[Want] {
        &self.lanes[&lane].wants
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.lanes.clear();
        self.ids.clear();
        self.at.clear();
        self.heads.clear();
        self.firsts.clear();
    }

    /// How much is kept, all together.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.lanes.len() + self.ids.len() + self.at.len() + self.heads.len() + self.firsts.len()
    }
}

fn move_key<K: Ord>(keys: &mut BTreeSet<K>, [before, after]: [Option<Head>; 2], key: impl Fn(Head) -> K) {
    if before != after {
        if let Some(head) = before {
            keys.remove(&key(head));
        }
        keys.extend(after.map(key));
    }
}

impl Lane {
    /// Tells the backends of this band, if its turn is before what they know, or it is new, or empty.
    fn list(&mut self, id: LaneId, priority: Priority, at: &mut FxHashMap<BackendId, BTreeSet<Head>>) {
        let head = self.head(id, priority);
        for index in 0..self.wants.len() {
            let backend = self.wants[index].backend;
            let listed = &mut self.listed[index][priority as usize];
            let is_known = match (head, *listed) {
                (Some((_, turn, _)), Some(known)) => known <= turn,
                (head, known) => head.is_some() == known.is_some(),
            };
            if is_known || (index > 0 && self.wants[index - 1].backend == backend) {
                continue;
            }
            let before = listed.map(|turn| (Reverse(priority), turn, id));
            *listed = head.map(|(_, turn, _)| turn);
            let heads = at.entry(backend).or_default();
            move_key(heads, [before, head], |head| head);
            if heads.is_empty() {
                at.remove(&backend);
            }
        }
    }

    /// The backend sees when it is the turn of what it lists as `before`.
    fn relist(&mut self, before: Head, backend: BackendId, heads: &mut BTreeSet<Head>) {
        let (Reverse(priority), _, id) = before;
        let now = self.head(id, priority);
        if now != Some(before) {
            move_key(heads, [Some(before), now], |head| head);
            let index = self.wants.partition_point(|want| want.backend < backend);
            self.listed[index][priority as usize] = now.map(|(_, turn, _)| turn);
        }
    }

    fn head(&self, id: LaneId, priority: Priority) -> Option<Head> {
        let (turn, _) = self.bands[priority as usize].turns.first()?;
        Some((Reverse(priority), *turn, id))
    }
}

impl Band {
    /// Whose turn it is here, and of that the first who has not passed.
    fn first(&mut self, flows: &Flows, passed: &Passed) -> Option<(u64, Due)> {
        let mut after = Bound::Unbounded;
        loop {
            let (seen, flow) = *self.turns.range((after, Bound::Unbounded)).next()?;
            let turn = flows.turn(flow);
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
