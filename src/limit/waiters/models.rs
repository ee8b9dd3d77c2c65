//! Every interleaving of who begins to wait, who gives up, and who gives back what they wait for.

use super::*;
use crate::facts::{Need, Priority, Profile};
use crate::limit::gauge::Ticket;
use crate::limit::shares::Cells;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

const A: BackendId = BackendId::new(0, 0);

fn now() -> Instant {
    Instant::from_nanos(1)
}

/// A backend and its queue.
struct House {
    gauge: Gauge,
    quotas: Quotas,
    shares: Shares,
    waiters: Waiters<Slot>,
}

/// A slot of it in somebody's hands.
struct Slot(Arc<House>, Option<Hold>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.gauge.release(self.1.take().expect("it is dropped once"));
        House::hand_over(&self.0);
    }
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl House {
    /// One with room for as many calls as are under way.
    fn with(calls: u32) -> (Arc<Self>, Vec<Ticket>) {
        let house = Self {
            gauge: Gauge::default(),
            quotas: Quotas::default(),
            shares: Shares::new(None, None, 0),
            waiters: Waiters::new(9, HashMap::new()),
        };
        house.gauge.set_limit(calls, false);
        let enter = |_| house.gauge.enter(calls, 1000, Need::default(), now()).expect("there is room");
        let tickets = (0..calls).map(enter).collect();
        (Arc::new(house), tickets)
    }

    fn leave(self: &Arc<Self>, ticket: Ticket) {
        self.gauge.leave(ticket);
        self.hand_over();
    }

    /// As the router does.
    fn hand_over(self: &Arc<Self>) {
        if self.gauge.is_wanted() {
            let at = Freed { backend: A, gauge: &self.gauge, quotas: &self.quotas, asked: false };
            self.waiters.call_one(Some(at), (&self.shares, true), &Passed::default(), now(), |given| {
                Slot(self.clone(), given.held.map(|held| held.hold))
            });
        }
    }

    fn wait(&self) -> WaitTurn<'_, Slot> {
        self.wait_for(Lack::Slot)
    }

    fn wait_for(&self, lack: Lack) -> WaitTurn<'_, Slot> {
        let standing = Standing {
            priority: Priority::Standard,
            tenant: None,
            arrival: now(),
            deadline: Instant::from_nanos(u64::MAX),
            cells: Cells::default(),
            kind: Kind::default(),
            need: Need::default(),
            kept: 0,
        };
        let mut turn = self.waiters.join(standing).expect("there is a place");
        self.gauge.want();
        assert_eq!(turn.wish(vec![Want { backend: A, lack }]).0, Wished::New);
        turn
    }
}

fn slot(turn: &mut WaitTurn<'_, Slot>, waker: &Waker) -> Option<Slot> {
    match turn.poll_called(&mut Context::from_waker(waker)) {
        Poll::Ready(Call::Slot(slot)) => Some(slot),
        Poll::Ready(_) => panic!("there is no news"),
        Poll::Pending => None,
    }
}

/// One call ends while somebody begins to wait: it finds the slot, or is given it, and is woken where it slept.
#[test]
fn who_begins_to_wait_is_not_missed() {
    loom::model(|| {
        let (house, tickets) = House::with(1);
        let ending = house.clone();
        let call = loom::thread::spawn(move || tickets.into_iter().for_each(|ticket| ending.leave(ticket)));
        let mut turn = house.wait();
        let found = house.gauge.in_flight() == 0;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let at_once = if found { None } else { slot(&mut turn, &waker) };
        let sleeps = !found && at_once.is_none();
        call.join().unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), u32::from(sleeps));
        assert!(found || at_once.is_some() || slot(&mut turn, &waker).is_some());
        drop((at_once, turn));
        assert_eq!(house.gauge.in_flight(), 0);
    });
}

/// Two calls end while one of two that wait gives up: nothing is lost, and who stays is called.
#[test]
fn what_was_handed_to_one_that_left_is_not_lost() {
    loom::model(|| {
        let (house, tickets) = House::with(2);
        let (mut first, mut second) = (house.wait(), house.wait());
        assert!(slot(&mut first, Waker::noop()).is_none() && slot(&mut second, Waker::noop()).is_none());
        let calls: Vec<_> = tickets
            .into_iter()
            .map(|ticket| {
                let house = house.clone();
                loom::thread::spawn(move || house.leave(ticket))
            })
            .collect();
        drop(first);
        calls.into_iter().for_each(|call| call.join().unwrap());
        let slot = slot(&mut second, Waker::noop());
        assert!(slot.is_some() && house.gauge.in_flight() == 1);
        drop((slot, second));
        assert_eq!((house.gauge.in_flight(), house.waiters.len()), (0, 0));
    });
}

/// One begins to sleep while what refills is kept for it: it knows by when it is to look, and is woken where it slept.
#[test]
fn who_begins_to_sleep_hears_of_its_alarm() {
    loom::model(|| {
        let (house, _) = House::with(0);
        house.gauge.set_limit(1, false);
        house.quotas.tell(&Profile::new("a").requests_per_minute(60).request_burst(1));
        let spent = house.quotas.take(Need::default(), now()).expect("there is one");
        let mut turn = house.wait_for(Lack::Quota);
        let other = house.clone();
        let call = loom::thread::spawn(move || other.hand_over());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let heard = turn.poll_called(&mut Context::from_waker(&waker));
        call.join().unwrap();
        assert!(matches!(heard, Poll::Pending | Poll::Ready(Call::Alarm)));
        assert_eq!(woken.0.load(Ordering::SeqCst), u32::from(heard.is_pending()));
        assert!(turn.alarm(now()).is_some_and(|alarm| alarm > now()));
        drop((turn, spent));
    });
}
