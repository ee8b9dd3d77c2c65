//! [`Order`]: who is next, and who goes when there are too many. No locks, no wakers: plain data.
//!
//! ```text
//! wants ──► lane ──► band ──► line of a flow ──► requests, earliest deadline first
//! ```
//!
//! A *flow* is what one tenant has waiting in one band. [`Flows`] knows whose turn it is, [`Lanes`] who waits for what.

use super::call_time::CallTime;
use super::flows::{FlowId, Flows};
use super::lanes::{LaneId, Lanes, Rank};
use crate::backend::BackendId;
use crate::facts::{Facts, Need, Priority};
use crate::limit::shares::{Cells, Shares};
use crate::rng::{hash_keyed, mix};
use crate::time::Instant;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Names a request in the queue; never used again.
pub(crate) type PlaceId = u64;

/// What decides about the turn of a request.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) priority: Priority,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
    /// Of whose shares its call will be.
    pub(crate) cells: Cells,
    pub(crate) kind: Kind,
    /// The tokens that its call will take, as if nothing of its prompt were known anywhere.
    pub(crate) need: Need,
    /// What of each limit is for others, in thousandths.
    pub(crate) kept: u32,
}

/// A hash of what decides whom a request may ask at all, whatever its length: where one of a kind finds no slot, the others
/// find none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Kind(u64);

impl Kind {
    /// `salt`: what callers do not know, so that they can not be taken for one another.
    pub(crate) fn of(facts: &Facts, salt: u64) -> Self {
        let names = [facts.requested_model(), facts.request_tenant()].into_iter();
        let regions = facts.allowed_regions();
        let key = mix(salt, u64::from(facts.needed_capabilities().bits()) << 1 | u64::from(regions.is_some()));
        let regions = regions.unwrap_or_default().iter().map(|region| Some(&**region));
        Self(names.chain(regions).fold(key, hash_keyed))
    }
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
    /// A slot, or the tokens that go with it.
    Slot,
    /// Slots may be free, and are kept for others.
    Room,
    /// What a probe will show.
    Probe,
    /// What a call may give back of a quota.
    Quota,
    /// That too, and nothing else: by itself the quota refills too late.
    Late,
    /// A call of its tenant's share and its route's: more than backends can give, and lacking before they are looked at.
    Share(Cells, Kind),
}

/// Stands for the backend where a share is waited for: no backend has this id.
const SHARES: BackendId = BackendId::new(u32::MAX, 0);

impl Want {
    pub(crate) const fn share(cells: Cells, kind: Kind) -> Self {
        Self { backend: SHARES, lack: Lack::Share(cells, kind) }
    }

    pub(crate) const fn is_share(&self) -> bool {
        self.cells().is_some()
    }

    /// Of whose share it is, where it is one.
    pub(super) const fn cells(&self) -> Option<Cells> {
        match self.lack {
            Lack::Share(cells, _) => Some(cells),
            _ => None,
        }
    }
}

/// Requests of which one speaks for all: they wait for the same things, and matter as much.
pub(super) type Class = (LaneId, Priority);

/// Who had a slot and could not use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// How many slots and shares had been given back to nobody by then.
    freed: u64,
    pub(super) places: BTreeSet<PlaceId>,
    pub(super) classes: BTreeSet<Class>,
}

/// Where a request stands.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) lane: LaneId,
    pub(super) flow: FlowId,
    pub(super) due: Due,
}

/// Where a request stood that enters.
#[derive(Debug)]
pub(super) enum Before {
    At(Spot),
    Nowhere {
        /// What its flow had left of its turn when all were called, if it stood somewhere then.
        left: Option<u32>,
    },
}

/// The order within a line: deadline, then arrival.
pub(super) type Due = (Instant, Instant, PlaceId);

#[derive(Debug)]
pub(super) struct Order {
    flows: Flows,
    lanes: Lanes,
}

pub(super) const BANDS: usize = Priority::ALL.len();

impl Order {
    pub(super) fn new(weights: HashMap<Arc<str>, u32>) -> Self {
        Self { flows: Flows::new(weights), lanes: Lanes::default() }
    }

    /// Puts a request into the line for `wants`, which are sorted. One that stands elsewhere moves, and its flow keeps its
    /// turn.
    pub(super) fn enter(&mut self, place: PlaceId, standing: &Standing, before: Before, wants: &[Want]) -> Spot {
        let flow = match before {
            Before::At(spot) => {
                self.lanes.leave(&spot, standing.priority);
                spot.flow
            }
            Before::Nowhere { left } => self.flows.join(standing, place, left),
        };
        let due = (standing.deadline, standing.arrival, place);
        self.lanes.enter(wants, (flow, self.flows.turn(flow)), standing.priority, due)
    }

    /// What is left of the turn of who stands here.
    pub(super) fn left(&self, spot: &Spot) -> u32 {
        self.flows.left(spot.flow)
    }

    /// What is known of the calls of a flow: `before`, where nothing of it waited meanwhile.
    pub(super) fn call_time(&mut self, spot: &Spot, before: Option<&Arc<CallTime>>) -> Arc<CallTime> {
        self.flows.call_time(spot.flow, before)
    }

    /// When a request is to start at the latest that is to enter.
    pub(super) fn latest(&self, standing: &Standing) -> Instant {
        let time = self.flows.find(standing).and_then(|flow| self.flows.known_of(flow));
        time.map_or(standing.deadline, |time| time.latest(standing.arrival, standing.deadline))
    }

    /// Takes a request out.
    pub(super) fn leave(&mut self, standing: &Standing, spot: &Spot) {
        self.lanes.leave(spot, standing.priority);
        self.flows.leave(spot.flow, standing, spot.place());
    }

    /// Who is next for a slot of `backend`, or, where `shares` may be free, for one that it has the right to; of those who have not passed
    /// it on. Returns whether it waits for a share. `cells`: of whose shares a call is.
    pub(super) fn next(
        &mut self,
        backend: Option<BackendId>,
        shares: Option<&Shares>,
        passed: &Passed,
        cells: impl Fn(PlaceId) -> Option<Cells>,
    ) -> Option<(PlaceId, bool)> {
        let slot = backend.and_then(|id| self.lanes.next(id, false, &self.flows, passed));
        let share = shares.and_then(|shares| self.lanes.next_share(&self.flows, passed, shares));
        // Who waits for a slot may have a right to its share as well.
        let right = |slot: Rank| shares?.right(cells(slot.place())?);
        let slot = slot.map(|slot| if share.is_some() { slot.by(right(slot)) } else { slot });
        match (slot, share) {
            (Some(slot), Some(share)) => Some(if share < slot { (share.place(), true) } else { (slot.place(), false) }),
            (Some(slot), None) => Some((slot.place(), false)),
            (None, Some(share)) => Some((share.place(), true)),
            (None, None) => Some((self.lanes.next(backend?, true, &self.flows, passed)?.place(), false)),
        }
    }

    /// Its turn has come: takes it out, and its flow moves on. Returns its class.
    pub(super) fn serve(&mut self, standing: &Standing, spot: &Spot, freed: Instant) -> Class {
        self.flows.serve(spot.flow);
        self.lanes.line_at(spot, standing.priority).pace.handed(freed);
        self.leave(standing, spot);
        (spot.lane, standing.priority)
    }

    /// A request whose turn it was could not use it: its flow may have another.
    pub(super) fn give_back(&mut self, standing: &Standing) {
        self.flows.give_back(standing);
    }

    /// Who goes, so that a newcomer has a place; `None`: the newcomer itself.
    pub(super) fn surplus(&self, newcomer: &Standing) -> Option<PlaceId> {
        self.flows.surplus(newcomer)
    }

    /// How many of its tenant would be before a request that is to enter, and when it would start if it went on as it did
    /// lately: after all of them, one gap each; or one gap after the last of them has no more time, where they do not get
    /// so far.
    pub(super) fn predicted(&self, standing: &Standing, wants: &[Want]) -> Option<(usize, Instant)> {
        let line = self.lanes.line(wants, standing.priority, self.flows.find(standing)?)?;
        let (gap, last) = (line.pace.gap()?, line.pace.last()?);
        let ahead = line.due.rank(&(standing.deadline, standing.arrival, PlaceId::MAX));
        let in_turn = last.plus_nanos(gap.saturating_mul(ahead as u64 + 1));
        let before = ahead.checked_sub(1).and_then(|before| line.due.nth(before));
        Some((ahead, before.map_or(in_turn, |(deadline, ..)| in_turn.min(deadline.plus_nanos(gap)))))
    }

    /// What a request waits for, sorted.
    pub(super) fn wants(&self, spot: &Spot) -> &[Want] {
        self.lanes.wants(spot.lane)
    }

    /// Forgets all, who stood at `spots`, and returns them in order: by band, then one of each flow after the other.
    pub(super) fn drain(&mut self, mut spots: Vec<(Priority, Spot)>) -> Vec<PlaceId> {
        spots.sort_unstable_by_key(|(_, spot)| spot.due);
        let mut seen = FxHashMap::<FlowId, u64>::default();
        let key = |(priority, spot): (Priority, Spot)| {
            let before = seen.entry(spot.flow).or_default();
            let round = self.flows.round(spot.flow, *before);
            *before += 1;
            (Reverse(priority), round, spot.due)
        };
        let mut keys: Vec<_> = spots.into_iter().map(key).collect();
        keys.sort_unstable();
        self.flows.clear();
        self.lanes.clear();
        keys.into_iter().map(|(.., (.., place))| place).collect()
    }

    /// What a request that stands here waits for at `backend`: a quota, where it has found out that it lacks that as well.
    pub(super) fn lacks(&self, spot: &Spot, backend: BackendId) -> Option<Lack> {
        lack_of(self.wants(spot), backend)
    }

    /// How many cells and lanes were looked at.
    #[cfg(test)]
    pub(super) const fn looks(&self) -> usize {
        self.lanes.looks
    }

    /// How much is kept, all together.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.flows.size() + self.lanes.size()
    }
}

/// What of these wants counts at this backend.
pub(super) fn lack_of(wants: &[Want], backend: BackendId) -> Option<Lack> {
    let mut here = wants.iter().filter(|want| want.backend == backend).map(|want| want.lack);
    here.clone().find(|lack| *lack == Lack::Quota).or_else(|| here.next())
}

impl Spot {
    const fn place(&self) -> PlaceId {
        self.due.2
    }
}

impl Passed {
    /// Forgets who could not use it, where something else is free since: now they may.
    pub(crate) fn see(&mut self, freed: u64) {
        if self.freed != freed {
            *self = Self { freed, ..Self::default() };
        }
    }

    /// Who passed it on.
    pub(super) fn places(&self) -> impl Iterator<Item = PlaceId> {
        self.places.iter().copied()
    }

    /// This one may look once more, whoever spoke for it.
    pub(super) fn forget(&mut self, place: PlaceId, class: Option<Class>) {
        self.places.remove(&place);
        class.iter().for_each(|class| {
            self.classes.remove(class);
        });
    }

    /// How many passed it on.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// `class`: those who would pass it on as well.
    pub(super) fn add(&mut self, place: PlaceId, class: Option<Class>) {
        self.places.insert(place);
        self.classes.extend(class);
    }
}
