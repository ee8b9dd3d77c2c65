//! [`WaitTurn`]: a request's own place in the queue.

use super::order::{Passed, PlaceId, Want};
use super::{Call, CallTime, Place, Queue, Sleeper, State, Waiters, Wished};
use crate::backend::BackendId;
use crate::bug;
use crate::time::Instant;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Who could not use what it was given so many times within [`AT_ONCE`] rests, and looks by itself then. What one can use may depend on
/// what others have in their hands: they would hand it round without end.
const MOST_DECLINED: u32 = 16;
const AT_ONCE: Duration = Duration::from_millis(10);

/// It rests until so long after the first of these times.
const RESTS: Duration = Duration::from_millis(20);

/// A place in the queue, until it is dropped. A slot that was handed to it and not fetched is dropped with it.
#[derive(Debug)]
pub(crate) struct WaitTurn<'a, S> {
    waiters: &'a Waiters<S>,
    place: PlaceId,
    /// How often it could not use what it was given, since when; and whether it is given nothing more before it has looked by itself.
    declined: (u32, Instant),
    rests: bool,
}

impl<'a, S> WaitTurn<'a, S> {
    pub(super) const fn new(waiters: &'a Waiters<S>, place: PlaceId) -> Self {
        Self { waiters, place, declined: (0, Instant::from_nanos(0)), rests: false }
    }

    /// From now on what is freed there may be handed to this place, unless it rests. Returns as well where something was kept for it that it
    /// does not want any more: that is for the next, whom nobody else tells.
    pub(crate) fn wish(&mut self, mut wants: Vec<Want>) -> (Wished, Vec<BackendId>) {
        let mut queue = self.waiters.queue.lock();
        let Queue { places, order, .. } = &mut *queue;
        let Some(place) = places.get_mut(&self.place) else { return (Wished::Known, Vec::new()) };
        match place.state {
            State::Called(Call::Shed) => return (Wished::Shed, Vec::new()),
            // It looks again as soon as it is polled.
            State::Called(_) => return (Wished::Known, Vec::new()),
            State::Awake | State::Asleep(_) => {}
        }
        let rests_until = self.rests.then(|| self.declined.1 + RESTS);
        if rests_until.is_some() {
            wants.clear();
        }
        // Where something is kept for it that it does not want now, it begins anew: it would keep that from others.
        let is_kept_in_vain = |backend: &BackendId| wants.iter().all(|want| want.backend != *backend);
        let adds_up = !place.kept_at.iter().any(is_kept_in_vain);
        if let Some(spot) = place.spot.as_ref().filter(|_| adds_up) {
            let known = order.wants(spot);
            if wants.iter().all(|want| known.binary_search(want).is_ok()) {
                return (Wished::Known, Vec::new());
            }
            // Who lacks a share lacks nothing else as yet, and who has found one lacks none.
            if !wants.iter().chain(known).any(Want::is_share) {
                wants.extend_from_slice(known);
            }
        }
        wants.sort_unstable();
        wants.dedup();
        let before = place.stood();
        let spot = order.enter(self.place, &place.standing, before, &wants);
        place.call_time = Some(order.call_time(&spot, place.call_time.as_ref()));
        place.spot = Some(spot);
        // What was kept for it is asked for again.
        (place.alarm, place.moved, place.decides) = (rests_until, false, rests_until.is_some());
        let mut kept_at = std::mem::take(&mut place.kept_at);
        kept_at.retain(|backend| wants.binary_search_by_key(backend, |want| want.backend).is_err());
        // Who waits for a moment only has nothing to look for.
        (if wants.is_empty() { Wished::Known } else { Wished::New }, kept_at)
    }

    /// It looks after what refills by itself then.
    pub(crate) fn looks_at(&self, at: Instant) {
        if let Some(place) = self.waiters.queue.lock().places.get_mut(&self.place) {
            // It is awake, and asks when that is before it sleeps.
            place.looks_at(at);
        }
    }

    /// When it is to look after what refills; that it is time for it is said once.
    pub(crate) fn alarm(&self, now: Instant) -> Option<Instant> {
        let mut queue = self.waiters.queue.lock();
        let place = queue.places.get_mut(&self.place)?;
        place.moved = false;
        place.alarm.take_if(|alarm| *alarm <= now).or(place.alarm)
    }

    /// Whether it is to decide when the alarm rings: it has stepped back somewhere, or rests. Said once; whoever rested has rested.
    pub(crate) fn decides(&mut self) -> bool {
        self.rests = false;
        let mut queue = self.waiters.queue.lock();
        queue.places.get_mut(&self.place).is_some_and(|place| std::mem::take(&mut place.decides))
    }

    /// Whether nothing is handed to it until its alarm rings.
    #[cfg(feature = "sim")]
    pub(crate) const fn rests(&self) -> bool {
        self.rests
    }

    /// What is known of the calls of its flow; nothing before it has said what it waits for.
    pub(crate) fn call_time(&self) -> Option<Arc<CallTime>> {
        self.waiters.queue.lock().places.get(&self.place)?.call_time.clone()
    }

    /// Notes, once, that it can not use what it was handed of this backend, if of any. `alike`: nor can those who wait for the same.
    pub(crate) fn pass(&mut self, passed: &mut Passed, backend: Option<BackendId>, alike: bool, now: Instant) {
        let mut queue = self.waiters.queue.lock();
        let Queue { places, order, .. } = &mut *queue;
        let Some(place) = places.get_mut(&self.place) else { return };
        place.passed_on = backend;
        let Some(class) = place.class.take() else { return };
        let (times, since) = &mut self.declined;
        if now < *since || now >= *since + AT_ONCE {
            (*times, *since) = (0, now);
        }
        *times += 1;
        self.rests = *times >= MOST_DECLINED && !bug::NO_REST;
        passed.add(self.place, alike.then_some(class));
        order.give_back(&place.standing);
    }

    /// Whether it was called since it was last asked, and with what; keeps the place, and wants nothing any more.
    pub(crate) fn called(&mut self) -> Option<Call<S>> {
        self.waiters.queue.lock().places.get_mut(&self.place).map_or(Some(Call::News), Place::answer)
    }

    /// As [`called`](Self::called); sleeps until it is.
    pub(crate) fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<Call<S>> {
        let mut queue = self.waiters.queue.lock();
        let Some(place) = queue.places.get_mut(&self.place) else { return Poll::Ready(Call::News) };
        if let Some(call) = place.answer() {
            return Poll::Ready(call);
        }
        if std::mem::take(&mut place.moved) {
            return Poll::Ready(Call::Alarm);
        }
        let stale = match &mut place.state {
            State::Asleep(Sleeper(waker)) if waker.will_wake(cx.waker()) => return Poll::Pending,
            state => std::mem::replace(state, State::Asleep(Sleeper(cx.waker().clone()))),
        };
        // Outside the lock: with its last waker goes a task, and whatever waits in it.
        drop(queue);
        drop(stale);
        Poll::Pending
    }
}

impl<S> Drop for WaitTurn<'_, S> {
    fn drop(&mut self) {
        let place = {
            let mut queue = self.waiters.queue.lock();
            let Queue { places, order, taken, .. } = &mut *queue;
            let Some(mut place) = places.remove(&self.place) else { return };
            if let Some(spot) = place.spot.take() {
                order.leave(&place.standing, &spot);
            }
            *taken -= usize::from(!matches!(place.state, State::Called(Call::Shed)));
            place
        };
        // Outside the lock: a slot that was not fetched goes to the next, who stands in the same queue.
        drop(place);
    }
}
