//! Requests that wait until a backend has room or returns.

use crate::backend::BackendId;
use crate::bug;
use crate::time::Instant;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};

/// A bounded queue of requests, in the order in which they arrived at the router, each with the backends that it
/// waits for.
///
/// What is freed is *handed over* (`S`, a slot) to the oldest that waits for it: a newcomer finds the backend as
/// full as before, so nobody overtakes, and one decision is made for each slot, however many wait. A backend's
/// return is news for all.
#[derive(Debug)]
pub(crate) struct Waiters<S> {
    bound: usize,
    queue: Mutex<Queue<S>>,
}

#[derive(Debug)]
struct Queue<S> {
    next: u64,
    /// By the arrival of the request, so that one that failed elsewhere first does not lose its place by that.
    places: BTreeMap<Key, Place<S>>,
}

/// When the request arrived; a number tells equals apart.
pub(crate) type Key = (Instant, u64);

#[derive(Debug)]
struct Place<S> {
    state: State<S>,
    wants: Vec<BackendId>,
}

#[derive(Debug)]
enum State<S> {
    /// Its owner is deciding.
    Awake,
    /// Its owner sleeps.
    Asleep(Waker),
    /// Something happened since its owner decided last: it has a slot now, or there is news.
    Called(Option<S>),
}

/// A place in the queue, until it is dropped. A slot that was handed to it and not fetched is dropped with it.
#[derive(Debug)]
pub(crate) struct WaitTurn<'a, S> {
    waiters: &'a Waiters<S>,
    place: Key,
}

impl<S> Waiters<S> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { bound, queue: Mutex::new(Queue { next: 0, places: BTreeMap::new() }) }
    }

    /// A place for a request that arrived at `arrival`; `None` when the queue is full.
    pub(crate) fn join(&self, arrival: Instant) -> Option<WaitTurn<'_, S>> {
        let mut queue = self.queue.lock();
        if queue.places.len() >= self.bound {
            return None;
        }
        let place = (arrival, queue.next);
        queue.next += 1;
        queue.places.insert(place, Place { state: State::Awake, wants: Vec::new() });
        Some(WaitTurn { waiters: self, place })
    }

    /// Hands what `slot` gives to the oldest that waits for `backend`, if somebody does who has not declined it.
    pub(crate) fn call_one(
        &self,
        backend: BackendId,
        declined: BTreeSet<Key>,
        slot: impl FnOnce(BTreeSet<Key>) -> Option<S>,
    ) {
        let called = {
            let mut queue = self.queue.lock();
            let mut places = queue.places.iter_mut();
            let waits = |(key, place): &(&Key, &mut Place<S>)| {
                !place.is_called() && place.wants.contains(&backend) && !declined.contains(key)
            };
            let place = places.find(waits).map(|(_, place)| place);
            place.and_then(|place| Some((place, slot(declined)?))).map(|(place, slot)| place.call(Some(slot)))
        };
        // Outside the lock: a waker may run anything.
        if let Some(Some(waker)) = called.filter(|_| !bug::LOST_WAKEUP) {
            waker.wake();
        }
    }

    /// Calls all: the situation changed.
    pub(crate) fn call_all(&self) {
        let wakers: Vec<_> = {
            let mut queue = self.queue.lock();
            let uncalled = queue.places.values_mut().filter(|place| !place.is_called());
            uncalled.filter_map(|place| place.call(None)).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<S> Place<S> {
    const fn is_called(&self) -> bool {
        matches!(self.state, State::Called(_))
    }

    /// Calls it, and returns whom to wake.
    fn call(&mut self, slot: Option<S>) -> Option<Waker> {
        match std::mem::replace(&mut self.state, State::Called(slot)) {
            State::Asleep(waker) => Some(waker),
            State::Awake | State::Called(_) => None,
        }
    }
}

impl<S> WaitTurn<'_, S> {
    /// Names the place.
    pub(crate) const fn key(&self) -> Key {
        self.place
    }

    /// From now on what is freed at `backend` may be handed to this place. Returns whether that is new: then look
    /// once more before sleeping.
    pub(crate) fn want(&mut self, backend: BackendId) -> bool {
        let mut queue = self.waiters.queue.lock();
        let Some(place) = queue.places.get_mut(&self.place) else { return false };
        let new = !place.wants.contains(&backend);
        if new {
            place.wants.push(backend);
        }
        new
    }

    /// Sleeps until called since this was last ready; keeps the place, and wants nothing any more.
    pub(crate) fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<Option<S>> {
        let mut queue = self.waiters.queue.lock();
        let Some(place) = queue.places.get_mut(&self.place) else { return Poll::Ready(None) };
        match &mut place.state {
            State::Called(slot) => {
                let slot = slot.take();
                place.state = State::Awake;
                place.wants.clear();
                Poll::Ready(slot)
            }
            State::Asleep(waker) if waker.will_wake(cx.waker()) => Poll::Pending,
            state => {
                *state = State::Asleep(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<S> Drop for WaitTurn<'_, S> {
    fn drop(&mut self) {
        let place = self.waiters.queue.lock().places.remove(&self.place);
        // Outside the lock: a slot that was not fetched goes to the next, who stands in the same queue.
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    const A: BackendId = BackendId::new(0, 0);
    const B: BackendId = BackendId::new(1, 0);

    fn called<S>(turn: &mut WaitTurn<'_, S>) -> Option<Option<S>> {
        match turn.poll_called(&mut Context::from_waker(&noop_waker())) {
            Poll::Ready(slot) => Some(slot),
            Poll::Pending => None,
        }
    }

    #[test]
    fn oldest_first_and_a_call_between_look_and_sleep_is_kept() {
        let waiters = Waiters::new(2);
        let mut first = waiters.join(Instant::default()).unwrap();
        let mut second = waiters.join(Instant::default()).unwrap();
        assert!(waiters.join(Instant::default()).is_none());
        assert!(first.want(A) && !first.want(A) && second.want(A));
        waiters.call_one(A, BTreeSet::new(), |_| Some(1));
        waiters.call_one(A, BTreeSet::new(), |_| Some(2));
        waiters.call_one(A, BTreeSet::new(), |_| panic!("nobody is left"));
        assert_eq!((called(&mut first), called(&mut second)), (Some(Some(1)), Some(Some(2))));
        assert_eq!((called(&mut first), called(&mut second)), (None, None));
    }

    #[test]
    fn a_slot_goes_to_one_who_wants_it() {
        let waiters = Waiters::new(3);
        let mut turns: Vec<_> = (0..3).map(|_| waiters.join(Instant::default()).unwrap()).collect();
        turns[0].want(A);
        turns[1].want(B);
        turns[2].want(A);
        waiters.call_one(B, BTreeSet::new(), |_| Some("slot"));
        assert_eq!(turns.iter_mut().map(called).collect::<Vec<_>>(), [None, Some(Some("slot")), None]);
        // News are for all, and take nobody's slot away.
        waiters.call_one(A, BTreeSet::new(), |_| Some("other"));
        waiters.call_all();
        assert_eq!(turns.iter_mut().map(called).collect::<Vec<_>>(), [Some(Some("other")), Some(None), Some(None)]);
        // Who was called wants nothing until it has looked.
        waiters.call_one(A, BTreeSet::new(), |_| panic!("nobody wants it"));
    }

    #[test]
    fn who_declined_is_not_asked_again() {
        let waiters = Waiters::new(2);
        let mut turns: Vec<_> = (0..2).map(|_| waiters.join(Instant::default()).unwrap()).collect();
        turns.iter_mut().for_each(|turn| assert!(turn.want(A)));
        waiters.call_one(A, BTreeSet::from([turns[0].key()]), |_| Some(()));
        assert_eq!(turns.iter_mut().map(called).collect::<Vec<_>>(), [None, Some(Some(()))]);
        waiters.call_one(A, BTreeSet::from([turns[0].key()]), |_| panic!("both know it"));
    }

    #[test]
    fn the_order_is_that_of_arrival() {
        let waiters = Waiters::new(2);
        let mut late = waiters.join(Instant::from_nanos(9)).unwrap();
        let mut early = waiters.join(Instant::from_nanos(3)).unwrap();
        late.want(A);
        early.want(A);
        waiters.call_one(A, BTreeSet::new(), |_| Some(()));
        assert_eq!((called(&mut late), called(&mut early)), (None, Some(Some(()))));
    }
}
