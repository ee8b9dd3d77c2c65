//! [`Flows`]: what each tenant has waiting in each band, whose turn it is, and who has too much.

use super::call_time::CallTime;
use super::order::{BANDS, PlaceId, Standing};
use crate::facts::Priority;
use crate::time::Instant;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub(super) type FlowId = u64;
/// The order in which requests came.
type Age = (Instant, PlaceId);
/// How many wait, divided by the weight; among equals, whose newest is newer.
type Crowd = (u64, Age);

/// Flows take turns: each is served as often in a row as its weight says and goes to the end. A flow is forgotten with
/// the last of its requests, so there are never more than wait.
#[derive(Debug, Default)]
pub(super) struct Flows {
    weights: HashMap<Arc<str>, u32>,
    /// Numbers flows and turns.
    last_number: u64,
    flows: FxHashMap<FlowId, Flow>,
    /// By a hash that nobody outside can foresee: callers choose the names of tenants.
    ids: HashMap<(Priority, Option<Arc<str>>), FlowId>,
    /// The flows of each band, the most crowded last.
    crowds: [BTreeSet<(Crowd, FlowId)>; BANDS],
}

#[derive(Debug)]
struct Flow {
    key: (Priority, Option<Arc<str>>),
    weight: u32,
    /// Whose turn is lowest is next.
    turn: u64,
    /// How many more of it are served before it goes to the end.
    left: u32,
    ages: BTreeSet<Age>,
    call_time: Option<Arc<CallTime>>,
}

impl Flows {
    /// Tenants that are not among `weights` have a weight of 1.
    pub(super) fn new(weights: HashMap<Arc<str>, u32>) -> Self {
        Self { weights, ..Self::default() }
    }

    pub(super) fn find(&self, standing: &Standing) -> Option<FlowId> {
        self.ids.get(&(standing.priority, standing.tenant.clone())).copied()
    }

    /// Counts one more request. A flow that comes anew goes to the end; `left`: what it had left of its turn, where that was
    /// interrupted.
    pub(super) fn join(&mut self, standing: &Standing, place: PlaceId, left: Option<u32>) -> FlowId {
        let id = self.find(standing).unwrap_or_else(|| {
            let (id, turn) = (self.last_number + 1, self.last_number + 2);
            self.last_number = turn;
            let (key, weight) = ((standing.priority, standing.tenant.clone()), self.weight(standing));
            self.ids.insert(key.clone(), id);
            let left = left.unwrap_or(weight);
            self.flows.insert(id, Flow { key, weight, turn, left, ages: BTreeSet::new(), call_time: None });
            id
        });
        self.recount(id, |ages| ages.insert((standing.arrival, place)));
        id
    }

    /// What is known of its calls: what `before` knew, where it came anew.
    pub(super) fn call_time(&mut self, id: FlowId, before: Option<&Arc<CallTime>>) -> Arc<CallTime> {
        let flow = self.flows.get_mut(&id).expect("a flow stays while anything of it waits");
        let time = flow.call_time.get_or_insert_with(|| before.cloned().unwrap_or_default());
        // A newcomer may have been there before those who know it.
        before.into_iter().for_each(|before| time.learn_from(before));
        time.clone()
    }

    pub(super) fn known_of(&self, id: FlowId) -> Option<&CallTime> {
        self.flows[&id].call_time.as_deref()
    }

    /// Counts one less.
    pub(super) fn leave(&mut self, id: FlowId, standing: &Standing, place: PlaceId) {
        self.recount(id, |ages| ages.remove(&(standing.arrival, place)));
    }

    fn recount(&mut self, id: FlowId, change: impl FnOnce(&mut BTreeSet<Age>) -> bool) {
        let flow = self.flows.get_mut(&id).expect("a flow stays while anything of it waits");
        let crowds = &mut self.crowds[flow.key.0 as usize];
        if let Some(crowd) = flow.crowd() {
            crowds.remove(&(crowd, id));
        }
        change(&mut flow.ages);
        if let Some(crowd) = flow.crowd() {
            crowds.insert((crowd, id));
        } else {
            let flow = self.flows.remove(&id).expect("it was here a moment ago");
            self.ids.remove(&flow.key);
        }
    }

    /// Whose turn is lower is before.
    pub(super) fn turn(&self, id: FlowId) -> u64 {
        self.flows[&id].turn
    }

    /// In which round of turns the request with so many of its flow before it is served, and where in the round.
    pub(super) fn round(&self, id: FlowId, before: u64) -> (u64, u64) {
        let Flow { weight, left, turn, .. } = self.flows[&id];
        ((before + u64::from(weight.saturating_sub(left))) / u64::from(weight), turn)
    }

    /// How many more of it are served before it goes to the end.
    pub(super) fn left(&self, id: FlowId) -> u32 {
        self.flows[&id].left
    }

    /// One of it is served.
    pub(super) fn serve(&mut self, id: FlowId) {
        let flow = self.flows.get_mut(&id).expect("a flow stays while anything of it waits");
        flow.left -= 1;
        if flow.left == 0 {
            self.last_number += 1;
            (flow.turn, flow.left) = (self.last_number, flow.weight);
        }
    }

    /// A request whose turn it was could not use it: its flow may have another.
    pub(super) fn give_back(&mut self, standing: &Standing) {
        if let Some(flow) = self.find(standing).and_then(|id| self.flows.get_mut(&id)) {
            flow.left += 1;
        }
    }

    /// Who goes, so that a newcomer has a place: of the lowest band the tenant that has most waiting for its weight, and of
    /// that the newest. `None`: the newcomer itself.
    pub(super) fn surplus(&self, newcomer: &Standing) -> Option<PlaceId> {
        let mut bands = Priority::ALL.into_iter().zip(&self.crowds).take_while(|(band, _)| *band <= newcomer.priority);
        let (band, (most, id)) = bands.find_map(|(band, crowds)| Some((band, *crowds.last()?)))?;
        let (_, (_, last)) = most;
        if band < newcomer.priority {
            return Some(last);
        }
        // Its own flow as it would be. A request that failed elsewhere first is not the newest of its tenant.
        let own = self.find(newcomer);
        let ages = own.map(|own| &self.flows[&own].ages);
        let after = crowd(ages.map_or(0, BTreeSet::len) + 1, self.weight(newcomer));
        let newest = ages.and_then(BTreeSet::last).copied().max(Some((newcomer.arrival, PlaceId::MAX)));
        if own != Some(id) && (after, newest) < (most.0, Some(most.1)) {
            return Some(last);
        }
        newest.map(|(_, place)| place).filter(|place| *place != PlaceId::MAX)
    }

    fn weight(&self, standing: &Standing) -> u32 {
        standing.tenant.as_ref().and_then(|tenant| self.weights.get(tenant)).copied().unwrap_or(1)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.flows.clear();
        self.ids.clear();
        self.crowds.iter_mut().for_each(BTreeSet::clear);
    }

    /// How much is kept, all together.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.flows.len() + self.ids.len() + self.crowds.iter().map(BTreeSet::len).sum::<usize>()
    }
}

impl Flow {
    fn crowd(&self) -> Option<Crowd> {
        Some((crowd(self.ages.len(), self.weight), *self.ages.last()?))
    }
}

/// How crowded a flow is, in 2⁻²⁰ of a request of weight 1.
const fn crowd(len: usize, weight: u32) -> u64 {
    ((len as u64) << 20) / weight as u64
}
