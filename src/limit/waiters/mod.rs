//! Requests that wait until a backend has room or returns.

mod order;
mod pace;
mod ranked;

pub(crate) use order::{Lack, Passed, PlaceId, Standing, Want};

use crate::backend::BackendId;
use crate::bug;
use crate::time::Instant;
use order::{Class, Order};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A bounded queue of requests, each with what it waits for.
///
/// What is freed is *handed over* (`S`, a slot) to the first in the [`Order`] that waits for it: a newcomer finds the
/// backend as full as before, so nobody overtakes, and one decision is made for each slot, however many wait. A
/// backend's return is news for all.
#[derive(Debug)]
pub(crate) struct Waiters<S> {
    bound: usize,
    queue: Mutex<Queue<S>>,
}

#[derive(Debug)]
struct Queue<S> {
    next: PlaceId,
    places: FxHashMap<PlaceId, Place<S>>,
    /// Of the places, those that were not pushed out.
    taken: usize,
    /// Those who sleep, or are about to.
    order: Order,
}

#[derive(Debug)]
struct Place<S> {
    standing: Standing,
    state: State<S>,
    /// Which class it was called out of, for the case that it passes its slot on.
    class: Option<Class>,
}

#[derive(Debug)]
enum State<S> {
    /// Its owner is deciding.
    Awake,
    /// Its owner sleeps.
    Asleep(Waker),
    /// Something happened since its owner decided last.
    Called(Call<S>),
}

/// What happened to who waits.
#[derive(Debug)]
pub(crate) enum Call<S> {
    /// This is yours.
    Slot(S),
    /// The situation changed.
    News,
    /// The place was needed for another.
    Shed,
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

/// A place in the queue, until it is dropped. A slot that was handed to it and not fetched is dropped with it.
#[derive(Debug)]
pub(crate) struct WaitTurn<'a, S> {
    waiters: &'a Waiters<S>,
    place: PlaceId,
}

impl<S> Waiters<S> {
    /// At most `bound` wait; tenants that are not among `weights` have a weight of 1.
    pub(crate) fn new(bound: usize, weights: HashMap<Arc<str>, u32>) -> Self {
        let queue = Queue { next: 0, places: FxHashMap::default(), taken: 0, order: Order::new(weights) };
        Self { bound, queue: Mutex::new(queue) }
    }

    /// A place for a request; `None` when the queue is full of others that are not to give way to it.
    pub(crate) fn join(&self, standing: Standing) -> Option<WaitTurn<'_, S>> {
        let (place, shed) = {
            let mut queue = self.queue.lock();
            let shed = if queue.taken >= self.bound {
                let surplus = queue.order.surplus(&standing)?;
                queue.order.leave(surplus);
                queue.taken -= 1;
                queue.places.get_mut(&surplus).and_then(|place| place.call(Call::Shed))
            } else {
                None
            };
            let place = queue.next;
            queue.next += 1;
            queue.taken += 1;
            queue.places.insert(place, Place { standing, state: State::Awake, class: None });
            (place, shed)
        };
        // Outside the lock: a waker may run anything.
        shed.into_iter().for_each(Waker::wake);
        Some(WaitTurn { waiters: self, place })
    }

    /// Hands what `slot` gives to the first that waits for `backend`, if somebody does who has not passed it on. `freed`:
    /// when the slot was.
    pub(crate) fn call_one(
        &self,
        backend: BackendId,
        passed: Passed,
        freed: Instant,
        slot: impl FnOnce(Passed) -> Option<S>,
    ) {
        let called = {
            let mut queue = self.queue.lock();
            let queue = &mut *queue;
            let first = queue.order.next(backend, &passed);
            first.and_then(|id| Some((id, slot(passed)?))).and_then(|(id, slot)| {
                let place = queue.places.get_mut(&id)?;
                place.class = queue.order.serve(id, freed);
                place.call(Call::Slot(slot))
            })
        };
        if let Some(waker) = called.filter(|_| !bug::LOST_WAKEUP) {
            waker.wake();
        }
    }

    /// Calls all, the first in the order first: the situation changed.
    pub(crate) fn call_all(&self) {
        let wakers: Vec<_> = {
            let mut queue = self.queue.lock();
            let Queue { order, places, .. } = &mut *queue;
            let sleepers = order.drain();
            let wakers =
                sleepers.into_iter().filter_map(|id| places.get_mut(&id).and_then(|place| place.call(Call::News)));
            let wakers = wakers.collect();
            // Who is deciding may have read what is not true any more.
            for place in places.values_mut().filter(|place| matches!(place.state, State::Awake)) {
                place.state = State::Called(Call::News);
            }
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many of its tenant would be before a request that is to join, and when its turn would come if it went on as it
    /// did lately; `None` where too little is known.
    pub(crate) fn predicted(&self, standing: &Standing, wants: &[Want]) -> Option<(usize, Instant)> {
        self.queue.lock().order.predicted(standing, wants)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().taken
    }
}

impl<S> Place<S> {
    /// Calls it, and returns whom to wake.
    fn call(&mut self, call: Call<S>) -> Option<Waker> {
        match std::mem::replace(&mut self.state, State::Called(call)) {
            State::Asleep(waker) => Some(waker),
            State::Awake | State::Called(_) => None,
        }
    }
}

impl<S> WaitTurn<'_, S> {
    /// From now on what is freed there may be handed to this place.
    pub(crate) fn wish(&mut self, mut wants: Vec<Want>) -> Wished {
        let mut queue = self.waiters.queue.lock();
        let Queue { places, order, .. } = &mut *queue;
        let Some(place) = places.get(&self.place) else { return Wished::Known };
        match place.state {
            State::Called(Call::Shed) => return Wished::Shed,
            // It looks again as soon as it is polled.
            State::Called(_) => return Wished::Known,
            State::Awake | State::Asleep(_) => {}
        }
        let known = order.wants(self.place);
        if known.is_some_and(|known| wants.iter().all(|want| known.contains(want))) {
            return Wished::Known;
        }
        wants.extend_from_slice(known.unwrap_or_default());
        wants.sort_unstable();
        wants.dedup();
        order.enter(self.place, &place.standing, &wants);
        // Who waits for a moment only has nothing to look for.
        if wants.is_empty() { Wished::Known } else { Wished::New }
    }

    /// Notes that it can not use what it was handed. `alike`: nor can those who wait for the same.
    pub(crate) fn pass(&self, passed: &mut Passed, alike: bool) {
        let mut queue = self.waiters.queue.lock();
        let Queue { places, order, .. } = &mut *queue;
        let Some(place) = places.get(&self.place) else { return };
        passed.add(self.place, place.class.filter(|_| alike));
        order.give_back(&place.standing);
    }

    /// Sleeps until called since this was last ready; keeps the place, and wants nothing any more.
    pub(crate) fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<Call<S>> {
        let mut queue = self.waiters.queue.lock();
        let Some(place) = queue.places.get_mut(&self.place) else { return Poll::Ready(Call::News) };
        match std::mem::replace(&mut place.state, State::Awake) {
            State::Called(Call::Shed) => {
                place.state = State::Called(Call::Shed);
                return Poll::Ready(Call::Shed);
            }
            State::Called(call) => return Poll::Ready(call),
            State::Asleep(waker) if waker.will_wake(cx.waker()) => place.state = State::Asleep(waker),
            State::Awake | State::Asleep(_) => place.state = State::Asleep(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<S> Drop for WaitTurn<'_, S> {
    fn drop(&mut self) {
        let place = {
            let mut queue = self.waiters.queue.lock();
            queue.order.leave(self.place);
            let place = queue.places.remove(&self.place);
            let shed = place.as_ref().is_some_and(|place| matches!(place.state, State::Called(Call::Shed)));
            queue.taken -= usize::from(!shed && place.is_some());
            place
        };
        // Outside the lock: a slot that was not fetched goes to the next, who stands in the same queue.
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Priority;
    use futures::task::noop_waker;
    use std::collections::{BTreeMap, VecDeque};

    const A: BackendId = BackendId::new(0, 0);
    const B: BackendId = BackendId::new(1, 0);
    const BANDS: [Priority; 4] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    const fn slot_of(backend: BackendId) -> Want {
        Want { backend, lack: Lack::Slot }
    }

    fn standing(priority: Priority, tenant: &str, arrival: u64, deadline: u64) -> Standing {
        let tenant = (!tenant.is_empty()).then(|| tenant.into());
        Standing { priority, tenant, arrival: at(arrival), deadline: at(deadline) }
    }

    fn queue<S>(bound: usize, weights: &[(&str, u32)]) -> Waiters<S> {
        Waiters::new(bound, weights.iter().map(|(tenant, weight)| ((*tenant).into(), *weight)).collect())
    }

    fn wait<'w, S>(waiters: &'w Waiters<S>, standing: Standing, wants: &[BackendId]) -> WaitTurn<'w, S> {
        let mut turn = waiters.join(standing).expect("there is a place");
        turn.wish(wants.iter().copied().map(slot_of).collect());
        turn
    }

    fn called<S>(turn: &mut WaitTurn<'_, S>) -> Option<Call<S>> {
        match turn.poll_called(&mut Context::from_waker(&noop_waker())) {
            Poll::Ready(call) => Some(call),
            Poll::Pending => None,
        }
    }

    fn fetched<S>(turn: &mut WaitTurn<'_, S>) -> Option<S> {
        match called(turn) {
            Some(Call::Slot(slot)) => Some(slot),
            _ => None,
        }
    }

    fn has_slot<S>(turn: &mut WaitTurn<'_, S>) -> bool {
        fetched(turn).is_some()
    }

    fn is_shed<S>(turn: &mut WaitTurn<'_, S>) -> bool {
        matches!(called(turn), Some(Call::Shed))
    }

    /// Frees a slot of `A`, and says which of the turns got it.
    fn serve(waiters: &Waiters<()>, turns: &mut BTreeMap<usize, WaitTurn<'_, ()>>) -> Option<usize> {
        waiters.call_one(A, Passed::default(), at(0), |_| Some(()));
        let who = turns.iter_mut().find_map(|(who, turn)| has_slot(turn).then_some(*who))?;
        turns.remove(&who);
        Some(who)
    }

    /// The order in which these are served.
    fn served(weights: &[(&str, u32)], standings: impl IntoIterator<Item = Standing>) -> Vec<usize> {
        let waiters = queue(usize::MAX, weights);
        let mut turns = standings.into_iter().map(|standing| wait(&waiters, standing, &[A])).enumerate().collect();
        std::iter::from_fn(|| serve(&waiters, &mut turns)).collect()
    }

    #[test]
    fn a_call_between_look_and_sleep_is_kept() {
        let waiters = queue(2, &[]);
        let mut turns = [0, 1].map(|n| waiters.join(standing(Priority::Standard, "", n, 9)).unwrap());
        assert!(waiters.join(standing(Priority::Standard, "", 2, 9)).is_none());
        let [first, second] = &mut turns;
        assert_eq!([first.wish(vec![slot_of(A)]), first.wish(vec![slot_of(A)])], [Wished::New, Wished::Known]);
        assert_eq!(second.wish(vec![slot_of(A)]), Wished::New);
        waiters.call_one(A, Passed::default(), at(0), |_| Some(1));
        waiters.call_one(A, Passed::default(), at(0), |_| Some(2));
        waiters.call_one(A, Passed::default(), at(0), |_| panic!("nobody is left"));
        assert_eq!((fetched(first), fetched(second)), (Some(1), Some(2)));
        assert_eq!((fetched(first), fetched(second)), (None, None));
    }

    #[test]
    fn a_slot_goes_to_one_who_wants_it_and_news_to_all() {
        let waiters = queue(4, &[]);
        let mut turns = [vec![A], vec![B], vec![A], vec![]]
            .map(|wants| wait(&waiters, standing(Priority::Standard, "", 0, 9), &wants));
        waiters.call_one(B, Passed::default(), at(0), |_| Some(()));
        assert_eq!(turns.each_mut().map(has_slot), [false, true, false, false]);
        // News take nobody's slot away, and reach who is deciding.
        waiters.call_one(A, Passed::default(), at(0), |_| Some(()));
        waiters.call_all();
        assert!(has_slot(&mut turns[0]));
        assert!(turns[1..].iter_mut().all(|turn| matches!(called(turn), Some(Call::News))));
        // Who was called wants nothing until it has looked.
        waiters.call_one(A, Passed::default(), at(0), |_| panic!("nobody wants it"));
    }

    #[test]
    fn higher_bands_first_and_the_earliest_deadline_inside() {
        let standings = [
            (Priority::Batch, 1),
            (Priority::Standard, 30),
            (Priority::Critical, 90),
            (Priority::Standard, 20),
            (Priority::Sheddable, 5),
            (Priority::Standard, 30),
        ];
        let standings = (0..).zip(standings).map(|(n, (priority, deadline))| standing(priority, "", n, deadline));
        assert_eq!(served(&[], standings), [2, 3, 1, 5, 4, 0]);
    }

    #[test]
    fn tenants_take_turns_by_weight() {
        // Thirty of one, then six of each of two others: the burst waits for itself.
        let burst = (0..30).map(|n| standing(Priority::Standard, "burst", n, 1));
        let others = (0..12).map(|n| standing(Priority::Standard, ["b", "c"][n % 2], 100, 1_000));
        let order = served(&[("b", 2)], burst.chain(others));
        let who = |n: &usize| if *n < 30 { 'a' } else { ['b', 'c'][*n % 2] };
        let order: String = order.iter().map(who).collect();
        assert_eq!(&order[..24], "abbcabbcabbcacacacaaaaaa");
    }

    #[test]
    fn a_tenant_that_asks_again_at_once_gets_no_more_than_its_turn() {
        let waiters = queue(usize::MAX, &[]);
        let many = |n| standing(Priority::Standard, "many", n, 1_000);
        let mut turns: BTreeMap<_, _> = (0..100).map(|n| (n as usize, wait(&waiters, many(n), &[A]))).collect();
        let mut order = String::new();
        for n in 100..150 {
            // Always just one, and always in more of a hurry.
            turns.entry(usize::MAX).or_insert_with(|| wait(&waiters, standing(Priority::Standard, "one", n, 1), &[A]));
            order.push(if serve(&waiters, &mut turns) == Some(usize::MAX) { '1' } else { '.' });
        }
        assert_eq!(order, ".1".repeat(25));
    }

    #[test]
    fn a_full_queue_sheds_the_newest_of_the_lowest_band_and_of_the_largest_crowd() {
        let waiters: Waiters<()> = queue(4, &[("big", 2)]);
        let join = |priority, tenant, arrival| {
            let mut turn = waiters.join(standing(priority, tenant, arrival, 9))?;
            turn.wish(vec![slot_of(A)]);
            Some(turn)
        };
        let mut standard: Vec<_> = (0..2).map(|n| join(Priority::Standard, "", n).unwrap()).collect();
        let mut batch: Vec<_> = (2..4).map(|n| join(Priority::Batch, "", n).unwrap()).collect();
        assert!(join(Priority::Batch, "", 4).is_none(), "it is the newest itself");
        // One that failed elsewhere first came before: it keeps its place, and the newest goes.
        let mut early = join(Priority::Batch, "", 1).unwrap();
        assert_eq!([is_shed(&mut batch[0]), is_shed(&mut batch[1]), is_shed(&mut early)], [false, true, false]);
        let critical = [5, 6].map(|n| join(Priority::Critical, "", n).unwrap());
        assert!(is_shed(&mut batch[0]) && is_shed(&mut early));
        // Only those are left that do not give way: two of one tenant, until another comes that has fewer.
        assert!(join(Priority::Standard, "", 7).is_none() && join(Priority::Sheddable, "x", 7).is_none());
        let x = join(Priority::Standard, "x", 8).unwrap();
        assert_eq!([is_shed(&mut standard[0]), is_shed(&mut standard[1])], [false, true]);
        assert!(join(Priority::Standard, "y", 9).is_none() && join(Priority::Standard, "x", 9).is_none());
        assert!(join(Priority::Standard, "big", 9).is_some(), "half as crowded as the others");
        assert!(waiters.len() <= 4);
        drop((standard, batch, early, critical, x));
        assert_eq!((waiters.len(), waiters.queue.lock().order.is_empty()), (0, true));
    }

    #[test]
    fn who_was_shed_while_it_decides_finds_out() {
        let waiters: Waiters<()> = queue(1, &[]);
        let mut low = wait(&waiters, standing(Priority::Batch, "", 0, 9), &[A]);
        let high = waiters.join(standing(Priority::Critical, "", 1, 9)).unwrap();
        assert_eq!(low.wish(vec![slot_of(B)]), Wished::Shed);
        assert!(is_shed(&mut low) && is_shed(&mut low));
        drop(high);
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn one_speaks_for_all_who_wait_for_the_same() {
        let waiters = queue(usize::MAX, &[]);
        let room = Want { backend: A, lack: Lack::Room };
        let mut turns: Vec<_> = (0..5)
            .map(|n| {
                let mut turn = waiters.join(standing(Priority::Standard, "", n, 9)).unwrap();
                turn.wish(if n < 3 { vec![room] } else { vec![slot_of(A)] });
                turn
            })
            .collect();
        let mut passed = Passed::default();
        let mut asked = Vec::new();
        for alike in [true, false, false] {
            waiters.call_one(A, passed.clone(), at(0), |_| Some(()));
            let Some(who) = turns.iter_mut().position(has_slot) else { break };
            turns[who].pass(&mut passed, alike);
            asked.push(who);
        }
        assert_eq!(asked, [0, 3, 4]);
        waiters.call_one(A, passed, at(0), |_: Passed| -> Option<()> { panic!("nobody is left to ask") });
    }

    #[test]
    fn tenants_without_end_leave_nothing_behind() {
        let waiters: Waiters<()> = queue(64, &[]);
        let mut turns = VecDeque::new();
        for n in 0..200_000u64 {
            if let Some(turn) = waiters.join(standing(BANDS[n as usize % 4], &n.to_string(), n, 9)) {
                turns.push_back(turn);
                turns.back_mut().unwrap().wish(vec![slot_of(A)]);
            }
            if n % 3 == 0 {
                waiters.call_one(A, Passed::default(), at(n), |_| Some(()));
                turns.retain_mut(|turn| called(turn).is_none());
            }
        }
        let queue = waiters.queue.lock();
        assert!(queue.order.size() <= 64 * 8 && queue.places.capacity() <= 512, "{}", queue.order.size());
        drop(queue);
        drop(turns);
        assert!(waiters.queue.lock().order.is_empty());
    }

    #[test]
    fn it_predicts_from_the_pace_of_the_own_line() {
        let waiters = queue(usize::MAX, &[]);
        let due = |deadline| standing(Priority::Standard, "", 0, deadline);
        let mut turns: BTreeMap<_, _> = (0..100).map(|n| (n as usize, wait(&waiters, due(1_000 + n), &[A]))).collect();
        for n in 0..9 {
            assert_eq!(waiters.predicted(&due(2_000), &[slot_of(A)]), None);
            waiters.call_one(A, Passed::default(), at(n * 10), |_| Some(()));
            turns.retain(|_, turn| !has_slot(turn));
        }
        assert_eq!(waiters.predicted(&due(2_000), &[slot_of(A)]), Some((91, at(80 + 920))));
        assert_eq!(waiters.predicted(&due(1_050), &[slot_of(A)]), Some((42, at(80 + 430))));
        // Those before it have no time left by then.
        for n in 100..200 {
            turns.insert(n, wait(&waiters, due(1_099), &[A]));
        }
        assert_eq!(waiters.predicted(&due(2_000), &[slot_of(A)]), Some((191, at(1_099 + 10))));
        // Others know nothing of it: another tenant, another band, other backends.
        let other = standing(Priority::Standard, "x", 0, 2_000);
        let lower = standing(Priority::Batch, "", 0, 2_000);
        assert_eq!(waiters.predicted(&other, &[slot_of(A)]), None);
        assert_eq!(waiters.predicted(&lower, &[slot_of(A)]), None);
        assert_eq!(waiters.predicted(&due(2_000), &[slot_of(B)]), None);
    }
}
