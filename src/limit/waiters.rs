//! Requests that wait until a backend has room or returns.

use crate::time::Instant;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::task::{Context, Poll, Waker};

/// A bounded queue of wakers, in the order in which the requests arrived at the router.
///
/// A free slot wakes the oldest waiter, which decides again; should a newcomer have taken the slot, it keeps its
/// place. A backend's return wakes all.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Kept beside the lock so that returning a lease costs one load while nobody waits.
    len: AtomicUsize,
    bound: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// By the arrival of the request, so that one that failed elsewhere first does not lose its place by that.
    places: BTreeMap<Key, Place>,
}

/// When the request arrived; a number tells equals apart.
type Key = (Instant, u64);

#[derive(Debug)]
enum Place {
    /// Its owner is deciding.
    Awake,
    /// Its owner sleeps.
    Asleep(Waker),
    /// Something was freed since its owner decided last; a slot for one, or news for all.
    Called(Call),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    One,
    All,
}

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitTurn<'a> {
    waiters: &'a Waiters,
    place: Key,
    /// It was called for one slot and has not used it.
    owes: bool,
}

impl Waiters {
    pub(crate) fn new(bound: usize) -> Self {
        Self { len: AtomicUsize::new(0), bound, queue: Mutex::default() }
    }

    /// A place for a request that arrived at `arrival`; `None` when the queue is full. Take it *before* looking for room: whatever is freed
    /// after this call is announced to the place.
    pub(crate) fn join(&self, arrival: Instant) -> Option<WaitTurn<'_>> {
        let mut queue = self.queue.lock();
        if queue.places.len() >= self.bound {
            return None;
        }
        let place = (arrival, queue.next);
        queue.next += 1;
        queue.places.insert(place, Place::Awake);
        self.len.store(queue.places.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Some(WaitTurn { waiters: self, place, owes: false })
    }

    /// Calls the oldest that was not called yet: one slot is free.
    pub(crate) fn wake_one(&self) {
        self.wake((Instant::default(), 0), 1, Call::One);
    }

    /// Calls all: the situation changed.
    pub(crate) fn wake_all(&self) {
        self.wake((Instant::default(), 0), usize::MAX, Call::All);
    }

    /// Calls those from place `from` on.
    fn wake(&self, from: Key, most: usize, call: Call) {
        // Pairs with the fence in `join`: either this sees the waiter, or the waiter sees what was freed before.
        fence(Ordering::SeqCst);
        if self.len.load(Ordering::SeqCst) == 0 {
            return;
        }
        let places: Vec<Place> = {
            let mut queue = self.queue.lock();
            let places = queue.places.range_mut(from..).map(|(_, place)| place);
            let uncalled = places.filter(|place| !matches!(place, Place::Called(_)));
            uncalled.take(most).map(|place| std::mem::replace(place, Place::Called(call))).collect()
        };
        // Outside the lock: a waker may run anything.
        for place in places {
            if let Place::Asleep(waker) = place {
                waker.wake();
            }
        }
    }
}

impl WaitTurn<'_> {
    /// The owner decided again and must go on waiting: what it was called for is of use to somebody behind it,
    /// perhaps, who waits for another model.
    pub(crate) fn pass_on(&mut self) {
        if std::mem::take(&mut self.owes) {
            self.waiters.wake((self.place.0, self.place.1 + 1), 1, Call::One);
        }
    }

    /// Sleeps until something was freed since this was last ready; keeps the place.
    pub(crate) fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.waiters.queue.lock();
        match queue.places.get_mut(&self.place) {
            Some(place @ Place::Called(_)) => {
                self.owes = matches!(place, Place::Called(Call::One));
                *place = Place::Awake;
                Poll::Ready(())
            }
            Some(Place::Asleep(waker)) if waker.will_wake(cx.waker()) => Poll::Pending,
            Some(place) => {
                *place = Place::Asleep(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for WaitTurn<'_> {
    fn drop(&mut self) {
        let place = {
            let mut queue = self.waiters.queue.lock();
            let place = queue.places.remove(&self.place);
            self.waiters.len.store(queue.places.len(), Ordering::SeqCst);
            place
        };
        // Called and gone without looking: what was freed for it is the next one's.
        if matches!(place, Some(Place::Called(Call::One))) {
            self.waiters.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    fn called(turn: &mut WaitTurn<'_>) -> bool {
        turn.poll_called(&mut Context::from_waker(&noop_waker())).is_ready()
    }

    #[test]
    fn oldest_first_and_a_call_between_look_and_sleep_is_kept() {
        let waiters = Waiters::new(2);
        let mut first = waiters.join(Instant::default()).unwrap();
        let mut second = waiters.join(Instant::default()).unwrap();
        assert!(waiters.join(Instant::default()).is_none());
        waiters.wake_one();
        assert!(called(&mut first) && !called(&mut first));
        assert!(!called(&mut second));
        waiters.wake_one();
        assert!(called(&mut first) && !called(&mut second));
    }

    #[test]
    fn who_can_not_use_a_slot_passes_it_on() {
        let waiters = Waiters::new(3);
        let mut turns: Vec<_> = (0..3).map(|_| waiters.join(Instant::default()).unwrap()).collect();
        waiters.wake_one();
        assert!(called(&mut turns[0]));
        turns[0].pass_on();
        assert!(called(&mut turns[1]) && !called(&mut turns[2]));
        turns[1].pass_on();
        assert!(!called(&mut turns[0]) && called(&mut turns[2]));
        // News for all are not passed on, or each of many waiters would wake all behind it.
        waiters.wake_all();
        assert!(called(&mut turns[0]) && called(&mut turns[1]) && called(&mut turns[2]));
        turns[0].pass_on();
        assert!(!called(&mut turns[1]));
    }

    #[test]
    fn a_call_to_one_who_left_passes_to_the_next() {
        let waiters = Waiters::new(2);
        let first = waiters.join(Instant::default()).unwrap();
        let mut second = waiters.join(Instant::default()).unwrap();
        waiters.wake_one();
        drop(first);
        assert!(called(&mut second));
        waiters.wake_all();
        assert!(called(&mut second));
    }
}
