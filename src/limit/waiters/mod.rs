//! Requests that wait until a backend has room or returns.

mod call_time;
mod flows;
mod lanes;
#[cfg(test)]
mod model;
#[cfg(all(test, fallway_loom))]
mod models;
mod order;
mod pace;
mod place;
mod ranked;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use call_time::CallTime;
pub(crate) use order::{Kind, Lack, Passed, PlaceId, Standing, Want};
pub(crate) use turn::WaitTurn;

use crate::backend::BackendId;
use crate::bug;
use crate::limit::gauge::{Gauge, Hold, Promise, Short};
use crate::limit::quota::{Claim, Quotas};
use crate::limit::shares::{Shares, Stake, Taken};
use crate::limit::slots;
use crate::sync::{AtomicU32, Mutex, Ordering};
use crate::time::Instant;
use order::Order;
use place::{Place, Sleeper, State};
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Whoever is not told of what it waits for looks when it has waited for twice as long, and for this at least: what may change without
/// a word, and a quota that is kept for another, who may never be polled again.
pub(crate) const LOOKS_AFTER: Duration = Duration::from_secs(1);

/// So many for whom a quota is late are asked whether a call has given enough of it back for them.
const MOST_LATE: usize = 8;

/// A bounded queue of requests, each with what it waits for.
///
/// What is freed is *handed over* (`S`, a slot) to the first in the [`Order`] that waits for it: a newcomer finds the
/// backend as full as before, so nobody overtakes, and one decision is made for each slot, however many wait. A
/// backend's return is news for all.
#[derive(Debug)]
pub(crate) struct Waiters<S> {
    bound: usize,
    /// How often all were called.
    round: AtomicU32,
    queue: Mutex<Queue<S>>,
}

#[derive(Debug)]
struct Queue<S> {
    next: PlaceId,
    places: FxHashMap<PlaceId, Place<S>>,
    /// Of the places, those that were not pushed out.
    taken: usize,
    /// Of those who sleep, or are about to.
    order: Order,
}

/// What happened to who waits.
#[derive(Debug)]
pub(crate) enum Call<S> {
    /// This is yours.
    Slot(S),
    /// The situation changed.
    News,
    /// What refills is kept for you: there is a time to look after it.
    Alarm,
    /// The place was needed for another.
    Shed,
}

/// What is handed over: a slot of the backend that was named, or a share alone, for whoever finds a slot by itself. Either
/// way with what the call takes of the shares.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) held: Option<Held>,
    pub(crate) stake: Stake,
    pub(crate) passed: Passed,
}

/// What is kept at a backend for somebody who may start there.
#[derive(Debug)]
pub(crate) struct Held {
    /// A slot, and tokens where these are bounded.
    pub(crate) hold: Hold,
    /// Its part of the quotas, unless they have too little and it does not know as yet.
    pub(crate) claim: Option<Claim>,
}

/// A backend where something is free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freed<'m> {
    pub(crate) backend: BackendId,
    pub(crate) gauge: &'m Gauge,
    pub(crate) quotas: &'m Quotas,
    /// Nothing was freed: it is about what is left of the quotas.
    pub(crate) asked: bool,
}

/// What became of what was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handed {
    /// Nobody waits who can use it.
    Nobody,
    /// Somebody has the slot.
    Slot,
    /// Somebody has the slot who waits for a probe: what that will be is to be seen before another looks.
    Probe,
    /// Somebody has the share; the slot is still there.
    Share,
    /// The slot was taken by another meanwhile.
    Gone,
    /// There are too few tokens for the first that waits, or too little is left of a quota: it gets them when there are enough.
    Promised,
}

/// What came of a wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wished {
    /// Something of it is new: look once more before sleeping.
    New,
    /// All of it was wished for already.
    Known,
    /// The place was needed for another.
    Shed,
}

impl<S> Waiters<S> {
    /// At most `bound` wait; tenants that are not among `weights` have a weight of 1.
    pub(crate) fn new(bound: usize, weights: HashMap<Arc<str>, u32>) -> Self {
        let queue = Queue { next: 0, places: FxHashMap::default(), taken: 0, order: Order::new(weights) };
        Self { bound, round: AtomicU32::new(0), queue: Mutex::new(queue) }
    }

    /// What was promised to those who wait holds in the round in which it was: nobody is first after all were called.
    pub(crate) fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    /// A place for a request; `None` when the queue is full of others that are not to give way to it.
    pub(crate) fn join(&self, standing: Standing) -> Option<WaitTurn<'_, S>> {
        let (place, shed) = {
            let mut queue = self.queue.lock();
            let shed = if queue.taken >= self.bound { queue.shed(&standing)? } else { None };
            let place = queue.next;
            queue.next += 1;
            queue.taken += 1;
            queue.places.insert(place, Place::new(standing));
            (place, shed)
        };
        let turn = WaitTurn::new(self, place);
        // Outside the lock: a waker may run anything.
        shed.into_iter().for_each(Sleeper::wake);
        Some(turn)
    }

    /// Hands what `give` makes of it to the first that can start with what is free at this backend, or, where `shares` may have
    /// been freed, with one of these; of those who have not passed it on. `freed`: when that was.
    pub(crate) fn call_one(
        &self,
        at: Option<Freed<'_>>,
        (shares, mut are_free): (&Shares, bool),
        had_it: &Passed,
        freed: Instant,
        give: impl FnOnce(Given) -> S,
    ) -> Handed {
        let mut passed = Cow::Borrowed(had_it);
        let (mut late, mut all_looked) = (Vec::new(), at.is_none() || had_it.len() == 0);
        let (handed, called) = 'called: {
            let mut queue = self.queue.lock();
            let Queue { order, places, .. } = &mut *queue;
            let named = at.map(|at| at.backend);
            let (id, handed, stake, held) = loop {
                let cells = |id| places.get(&id).map(|place| place.standing.cells);
                let Some((id, is_share)) = order.next(named, are_free.then_some(shares), &passed, cells) else {
                    // Whoever is left has passed it on; but who was given something else since saw this one taken.
                    if !std::mem::replace(&mut all_looked, true) {
                        let look = |(_, place): &(_, &Place<S>)| place.passed_on != named;
                        let again = had_it.places().filter_map(|id| Some((id, places.get(&id)?))).filter(look);
                        again.for_each(|(id, place)| passed.to_mut().forget(id, place.class()));
                        continue;
                    }
                    if let Some(Freed { gauge, .. }) = at {
                        gauge.promise(None);
                    }
                    break 'called (Handed::Nobody, None);
                };
                let Some(place) = places.get_mut(&id) else { break 'called (Handed::Nobody, None) };
                let Standing { priority, deadline, cells, kind, need, kept, .. } = place.standing;
                let at = at.filter(|_| !is_share);
                let lack = at.zip(place.spot.as_ref()).and_then(|(at, spot)| order.lacks(spot, at.backend));
                let is_for_quota = matches!(lack, Some(Lack::Quota | Lack::Late));
                if at.is_some_and(|at| at.asked) && !is_for_quota {
                    // It waits for something else there, and was asked when that changed last.
                    break 'called (Handed::Gone, None);
                }
                let promise = |until| Some(Promise { priority, round: self.round(), until });
                if let Some(Freed { backend, gauge, quotas, .. }) = at.filter(|_| is_for_quota) {
                    let until = quotas.returns_at(need, freed);
                    if lack == Some(Lack::Late) {
                        if until > freed {
                            // A smaller one may be behind it, but not many are looked at.
                            let class = place.class().filter(|_| passed.len() >= MOST_LATE);
                            passed.to_mut().add(id, class);
                            continue;
                        }
                    } else if until >= deadline {
                        late.extend(place.step_back_at(backend, id, order, freed));
                        continue;
                    } else if until > freed {
                        gauge.promise(promise(Some(until)));
                        place.keep_at(backend);
                        break 'called (Handed::Promised, place.looks_at(until));
                    }
                }
                let Taken { stake, disturbed } = shares.take(cells);
                // Who looked meanwhile found it missing.
                are_free |= disturbed;
                let Some(stake) = stake else {
                    // It has waited for a slot, and meanwhile its share was used up: that is what it waits for now. (Or the
                    // share was taken this moment, and the next look shows that.)
                    if !is_share {
                        place.enter(id, order, &[Want::share(cells, kind)]);
                    }
                    continue;
                };
                let Some(Freed { backend, gauge, quotas, .. }) = at else { break (id, Handed::Share, stake, None) };
                let share = 1000 - kept;
                match gauge.hold(slots(gauge.limit(), share), share, need) {
                    Ok(hold) => {
                        let claim = quotas.take(need, freed);
                        if claim.is_none() && matches!(lack, Some(Lack::Slot | Lack::Room)) {
                            gauge.release(hold);
                            shares.give_back(stake);
                            let until = quotas.returns_at(need, freed);
                            if bug::CALLED_FOR_A_QUOTA {
                                gauge.promise(promise(Some(until)));
                                place.spot.take().into_iter().for_each(|spot| order.leave(&place.standing, &spot));
                                break 'called (Handed::Promised, place.call(Call::News));
                            }
                            if until >= deadline {
                                late.extend(place.step_back_at(backend, id, order, freed));
                                continue;
                            }
                            // It has waited for a slot, and meanwhile its quota was used up: it waits for that as well now.
                            let mut wants = [place.wants(order), &[Want { backend, lack: Lack::Quota }]].concat();
                            wants.sort_unstable();
                            place.enter(id, order, &wants);
                            gauge.promise(promise(Some(until)));
                            place.keep_at(backend);
                            break 'called (Handed::Promised, place.looks_at(until));
                        }
                        let handed = if lack == Some(Lack::Probe) { Handed::Probe } else { Handed::Slot };
                        break (id, handed, stake, Some(Held { hold, claim }));
                    }
                    Err(short) => {
                        shares.give_back(stake);
                        match short {
                            // What is free is for those who matter more.
                            Short::Slots if gauge.in_flight() < gauge.limit() => {
                                passed.to_mut().add(id, place.class());
                            }
                            Short::Slots => break 'called (Handed::Gone, None),
                            Short::Tokens if lack != Some(Lack::Probe) => {
                                gauge.promise(promise(None));
                                place.keep_at(backend);
                                break 'called (Handed::Promised, None);
                            }
                            // It waits for something else there, and keeps nobody from tokens.
                            Short::Tokens => passed.to_mut().add(id, None),
                        }
                    }
                }
            };
            let place = places.get_mut(&id).expect("it is locked");
            if held.is_some() {
                // That is what was kept for it there, and it passes it on itself.
                place.kept_at.retain(|backend| Some(*backend) != named);
            }
            let slot = give(Given { held, stake, passed: passed.into_owned() });
            place.class = place.spot.take().map(|spot| order.serve(&place.standing, &spot, freed));
            (handed, place.call(Call::Slot(slot)))
        };
        let called = called.filter(|_| !bug::LOST_WAKEUP);
        late.into_iter().chain(called).for_each(Sleeper::wake);
        handed
    }

    /// Calls all, the first in the order first: the situation changed.
    pub(crate) fn call_all(&self) {
        let sleepers: Vec<_> = {
            let mut queue = self.queue.lock();
            self.round.store(self.round().wrapping_add(1), Ordering::Relaxed);
            let Queue { order, places, .. } = &mut *queue;
            let spot = |place: &mut Place<S>| {
                let spot = place.spot.take()?;
                place.left = Some(order.left(&spot));
                Some((place.standing.priority, spot))
            };
            let spots = places.values_mut().filter_map(spot).collect();
            let first_to_last = order.drain(spots);
            // Who is deciding may have read what is not true any more.
            let deciding = places.values_mut().filter(|place| matches!(place.state, State::Awake));
            deciding.for_each(|place| place.state = State::Called(Call::News));
            let called = first_to_last.into_iter().filter_map(|id| places.get_mut(&id)?.call(Call::News));
            called.collect()
        };
        sleepers.into_iter().for_each(Sleeper::wake);
    }

    /// How many of its tenant would be before a request that is to join, and when its turn would come if it went on as it
    /// did lately; `None` where too little is known.
    pub(crate) fn predicted(&self, standing: &Standing, wants: &[Want]) -> Option<(usize, Instant)> {
        self.queue.lock().order.predicted(standing, wants)
    }

    /// When this request is to start at the latest, by what calls of its flow took that had waited.
    pub(crate) fn latest(&self, standing: &Standing) -> Instant {
        self.queue.lock().order.latest(standing)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().taken
    }
}

impl<S> Queue<S> {
    /// Makes a place for a newcomer, and returns whom to wake; `None` when nobody gives way to it.
    fn shed(&mut self, newcomer: &Standing) -> Option<Option<Sleeper>> {
        let place = self.places.get_mut(&self.order.surplus(newcomer)?)?;
        if let Some(spot) = place.spot.take() {
            self.order.leave(&place.standing, &spot);
        }
        self.taken -= 1;
        Some(place.call(Call::Shed))
    }
}
