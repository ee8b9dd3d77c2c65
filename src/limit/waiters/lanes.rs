//! [`Lanes`]: those who wait for the same stand in one lane, so that a slot costs a look at the lanes of its backend.

use super::flows::{FlowId, Flows};
use super::order::{BANDS, Due, Lack, PRIORITIES, Passed, PlaceId, Spot, Want};
use super::pace::Pace;
use super::ranked::Ranked;
use crate::backend::BackendId;
use crate::facts::Priority;
use crate::limit::shares::{Cells, Right};
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
    at: FxHashMap<BackendId, BTreeSet<LaneId>>,
}

#[derive(Debug)]
struct Lane {
    wants: Arc<[Want]>,
    bands: [Band; BANDS],
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
    pub(super) const fn place(&self) -> PlaceId {
        self.3.2
    }
}

impl Lanes {
    /// Puts a request of `flow`, whose turn is `turn`, into the lane for `wants`, which are sorted.
    pub(super) fn enter(&mut self, wants: &[Want], (flow, turn): (FlowId, u64), priority: Priority, due: Due) -> Spot {
        let id = self.open(wants);
        let lane = self.lanes.get_mut(&id).expect("it was opened");
        lane.len += 1;
        let band = &mut lane.bands[priority as usize];
        let (_, line) = band.lines.entry(flow).or_insert_with(|| {
            band.turns.insert((turn, flow));
            (turn, Line::default())
        });
        line.due.insert(due);
        Spot { lane: id, flow, due }
    }

    fn open(&mut self, wants: &[Want]) -> LaneId {
        if let Some(lane) = self.ids.get(wants) {
            return *lane;
        }
        self.last += 1;
        let (id, wants) = (self.last, Arc::<[Want]>::from(wants));
        for want in &*wants {
            self.at.entry(want.backend).or_default().insert(id);
        }
        self.ids.insert(wants.clone(), id);
        self.lanes.insert(id, Lane { wants, bands: Default::default(), len: 0 });
        id
    }

    pub(super) fn leave(&mut self, spot: &Spot, priority: Priority) {
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
            self.close(spot.lane);
        }
    }

    fn close(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        self.ids.remove(&lane.wants);
        for want in &*lane.wants {
            // A backend may be wanted for two reasons.
            if let Some(lanes) = self.at.get_mut(&want.backend) {
                lanes.remove(&id);
                if lanes.is_empty() {
                    self.at.remove(&want.backend);
                }
            }
        }
    }

    /// Who is next for a slot of `backend`, of those who have not passed it on, and of those who wait for a share instead
    /// who has the `right` to one.
    pub(super) fn next(
        &mut self,
        backend: BackendId,
        flows: &Flows,
        passed: &Passed,
        right: &dyn Fn(Cells) -> Option<Right>,
    ) -> Option<Rank> {
        let mut best: Option<Rank> = None;
        for id in self.at.get(&backend)? {
            let lane = self.lanes.get_mut(id).expect("a backend knows the lanes that there are");
            let right = match lane.wants[..] {
                [Want { lack: Lack::Share(cells, _), .. }] => right(cells),
                _ => Some(Right::Open),
            };
            let Some(right) = right else { continue };
            for (priority, band) in PRIORITIES.into_iter().zip(&mut lane.bands).rev() {
                if best
                    .is_some_and(|Rank(before, Reverse(best), ..)| (before, Reverse(best)) < (right, Reverse(priority)))
                {
                    break;
                }
                if band.lines.is_empty() || passed.classes.contains(&(*id, priority)) {
                    continue;
                }
                if let Some((turn, due)) = band.first(flows, passed) {
                    let rank = Rank(right, Reverse(priority), turn, due);
                    best = Some(best.map_or(rank, |best| best.min(rank)));
                }
            }
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
    }

    /// How much is kept, all together.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.lanes.len() + self.ids.len() + self.at.len()
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
