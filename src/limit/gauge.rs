//! Calls in flight and their work, per backend.

use super::learned::Learned;
use crate::bug;
use crate::decision::Load;
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Counts what is in flight to one backend. Decisions read it without a lock.
///
/// Every [`Ticket`] that [`enter`](Gauge::enter) hands out comes back exactly once, with exactly what it took.
#[derive(Debug)]
pub(crate) struct Gauge {
    in_flight: AtomicU32,
    /// Requests that wait for a slot here.
    wanted: AtomicU32,
    /// The limit of the current generation, for those who hand a slot on. Decisions read it in their generation.
    limit: AtomicU32,
    /// What is learned of the limit counts.
    adaptive: AtomicBool,
    learned: Learned,
    waiting_tokens: AtomicU64,
    /// Calls that wait for their first item.
    waiting_calls: AtomicU32,
    /// When the oldest call without a first item was sent; `NOBODY` when all have theirs.
    oldest_wait: AtomicU64,
    last_called: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// What a call took of a gauge.
#[derive(Debug)]
#[must_use = "a ticket that is not given back stays in flight for ever"]
pub(crate) struct Ticket {
    /// Calls in flight when it came, itself included.
    pub(crate) among: u32,
    tokens: u64,
    place: Option<usize>,
}

/// The calls that wait for their first item, oldest first: a doubly linked list in a slab, so that any of them can
/// leave in constant time.
#[derive(Debug, Default)]
struct Waiting {
    links: Vec<Link>,
    free: Vec<usize>,
    first: Option<usize>,
    last: Option<usize>,
}

#[derive(Debug)]
struct Link {
    since: Instant,
    before: Option<usize>,
    after: Option<usize>,
}

const NOBODY: u64 = 0;

impl Default for Gauge {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            adaptive: AtomicBool::new(false),
            learned: Learned::default(),
            waiting_tokens: AtomicU64::new(0),
            waiting_calls: AtomicU32::new(0),
            oldest_wait: AtomicU64::new(0),
            last_called: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }
}

impl Gauge {
    /// Takes a slot and puts `tokens` of prefill work on the books, unless `limit` calls are in flight.
    pub(crate) fn enter(&self, limit: u32, tokens: u64, now: Instant) -> Option<Ticket> {
        let free = |count: u32| (count < limit).then(|| count + 1);
        let before = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).ok()?;
        Some(self.book(tokens, before + 1, now))
    }

    /// Takes a slot for somebody who may enter with it later; `false` when there is none.
    pub(crate) fn hold(&self, limit: u32) -> bool {
        let free = |count: u32| (count < limit).then(|| count + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).is_ok()
    }

    /// Gives back a slot that nobody entered with.
    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Puts `tokens` of prefill work on the books of a slot that is held.
    pub(crate) fn enter_held(&self, tokens: u64, now: Instant) -> Ticket {
        self.book(tokens, self.in_flight(), now)
    }

    fn book(&self, tokens: u64, among: u32, now: Instant) -> Ticket {
        // The books must balance whatever a host claims: the sum can not wrap below the sum of its parts.
        let tokens = tokens.min(MAX_TOKENS);
        let mut waiting = self.waiting.lock();
        // Under the lock nobody else writes these, and plain stores cost a fraction of a locked addition.
        self.waiting_tokens.store(self.waiting_tokens.load(Ordering::Relaxed) + tokens, Ordering::Relaxed);
        let place = waiting.push(now);
        self.publish(&waiting);
        self.last_called.store(self.last_called.load(Ordering::Relaxed).max(now.as_nanos()), Ordering::Relaxed);
        Ticket { among, tokens, place: Some(place) }
    }

    /// The first item arrived: the prefill work is done, the slot stays taken.
    pub(crate) fn first_item(&self, ticket: &mut Ticket) {
        if let Some(place) = ticket.place.take() {
            let mut waiting = self.waiting.lock();
            let lost = if bug::CHARGE_NOT_REFUND { ticket.tokens / 8 } else { 0 };
            let tokens = self.waiting_tokens.load(Ordering::Relaxed) - (ticket.tokens - lost);
            self.waiting_tokens.store(tokens, Ordering::Relaxed);
            waiting.remove(place);
            self.publish(&waiting);
        }
    }

    /// The call is over. The slot is free when this returns.
    pub(crate) fn leave(&self, mut ticket: Ticket) {
        self.first_item(&mut ticket);
        self.release();
    }

    /// Somebody waits for a slot here, or for what a call here will show. Whoever wants must look once more before
    /// sleeping: either it sees the slot that was freed, or the one who freed it sees the wish.
    pub(crate) fn want(&self) {
        self.wanted.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a wish back.
    pub(crate) fn unwant(&self) {
        self.wanted.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > 0
    }

    /// The limit of the newest generation, or what was learned if that is less.
    pub(crate) fn limit(&self) -> u32 {
        let learned = if self.adaptive.load(Ordering::Relaxed) { self.learned.read() } else { u32::MAX };
        self.limit.load(Ordering::Relaxed).min(learned)
    }

    pub(crate) fn set_limit(&self, limit: u32, adaptive: bool) {
        self.limit.store(limit, Ordering::Relaxed);
        if self.adaptive.swap(adaptive, Ordering::Relaxed) && !adaptive {
            self.learned.forget();
        }
    }

    /// What is learned of how many calls it takes.
    pub(crate) const fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// When it was called last; the origin of time for never.
    pub(crate) fn last_called(&self) -> Instant {
        Instant::from_nanos(self.last_called.load(Ordering::Relaxed))
    }

    /// Calls that wait for their first item.
    pub(crate) fn waiting_calls(&self) -> u32 {
        self.waiting_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> Load {
        Load {
            in_flight: self.in_flight(),
            waiting_tokens: self.waiting_tokens.load(Ordering::Relaxed),
            oldest_wait: Instant::from_nanos(self.oldest_wait.load(Ordering::Relaxed)),
            last_called: Instant::from_nanos(self.last_called.load(Ordering::Relaxed)),
            others_tokens: 0,
            learned_limit: None,
            canary_out: false,
            stale: false,
        }
    }

    fn publish(&self, waiting: &Waiting) {
        let oldest = waiting.first.map_or(NOBODY, |first| waiting.links[first].since.as_nanos().max(1));
        self.oldest_wait.store(oldest, Ordering::Relaxed);
        let calls = waiting.links.len() - waiting.free.len();
        self.waiting_calls.store(u32::try_from(calls).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// What one call may claim: 2³² tokens is beyond any context window, and 2³¹ of such calls do not overflow.
const MAX_TOKENS: u64 = u32::MAX as u64;

impl Waiting {
    fn push(&mut self, since: Instant) -> usize {
        let link = Link { since, before: self.last, after: None };
        let place = match self.free.pop() {
            Some(place) => {
                self.links[place] = link;
                place
            }
            None => {
                self.links.push(link);
                self.links.len() - 1
            }
        };
        match self.last.replace(place) {
            Some(last) => self.links[last].after = Some(place),
            None => self.first = Some(place),
        }
        place
    }

    fn remove(&mut self, place: usize) {
        let Link { before, after, .. } = self.links[place];
        match before {
            Some(before) => self.links[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.links[after].before = before,
            None => self.last = before,
        }
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn the_limit_holds_and_zero_is_nothing() {
        let gauge = Gauge::default();
        let ticket = gauge.enter(1, 10, at(5)).unwrap();
        assert!(gauge.enter(1, 10, at(6)).is_none());
        assert!(gauge.enter(0, 10, at(6)).is_none());
        gauge.leave(ticket);
        assert_eq!(gauge.read(), Load { last_called: at(5), ..Load::default() });
    }

    proptest! {
        /// Against a plain list: whatever the order of events, the books show exactly what is in flight.
        #[test]
        fn the_books_balance(events in prop::collection::vec((0u8..3, any::<prop::sample::Index>(), any::<u64>()), 1..200)) {
            let gauge = Gauge::default();
            let mut flying: Vec<(u64, Ticket, bool)> = Vec::new();
            for (time, (event, which, tokens)) in (1u64..).zip(events) {
                match event {
                    0 => if let Some(ticket) = gauge.enter(20, tokens, at(time)) {
                        flying.push((time, ticket, true));
                    },
                    _ if flying.is_empty() => {}
                    1 => {
                        let index = which.index(flying.len());
                        let (_, ticket, waits) = &mut flying[index];
                        gauge.first_item(ticket);
                        *waits = false;
                    }
                    _ => {
                        let index = which.index(flying.len());
                        gauge.leave(flying.remove(index).1);
                    }
                }
                let load = gauge.read();
                prop_assert_eq!(load.in_flight as usize, flying.len());
                let waiting = || flying.iter().filter(|(_, _, waits)| *waits);
                prop_assert_eq!(load.waiting_tokens, waiting().map(|(_, ticket, _)| ticket.tokens).sum::<u64>());
                prop_assert_eq!(load.oldest_wait(), waiting().map(|(since, _, _)| at(*since)).min());
            }
            for (_, ticket, _) in flying {
                gauge.leave(ticket);
            }
            let load = gauge.read();
            prop_assert_eq!((load.in_flight, load.waiting_tokens, load.oldest_wait()), (0, 0, None));
        }
    }
}
