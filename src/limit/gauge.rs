//! Calls in flight and their work, per backend.

#[cfg(all(test, fallway_loom))]
mod models;
#[cfg(all(test, not(fallway_loom)))]
mod tests;
mod waiting;

use super::learned::Learned;
use crate::bug;
use crate::decision::{Filled, Load, TokenLoad};
use crate::facts::{Need, Priority, Profile};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering};
use crate::time::Instant;
use waiting::{Place, Waiting};

/// Counts what is in flight to one backend. Decisions read it without a lock.
///
/// All that a call takes and gives back changes under one lock, for a few instructions: two locked operations where a lock-free
/// count of each would be three. Under it nobody else writes, so plain loads and stores do.
///
/// Every [`Ticket`] and every [`Hold`] that it hands out comes back exactly once, with exactly what it took.
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
    /// Tokens of calls in flight, of those that came while there was a bound.
    total_tokens: AtomicU64,
    /// How many tokens there may be of each; `u64::MAX` for no bound.
    prefill_bound: AtomicU64,
    total_bound: AtomicU64,
    /// The priority of the one for whom what is free is kept, and one more, below the round of the queue; `NOBODY` where nothing
    /// is.
    promised: AtomicU64,
    /// When the quotas have what that one needs; `NEVER` where it is tokens in flight that are kept.
    promised_until: AtomicU64,
    /// Calls that wait for their first item.
    waiting_calls: AtomicU32,
    /// When the oldest call without a first item was sent; `NEVER` when all have theirs.
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
    tokens: Tokens,
    place: Option<Place>,
}

/// A slot, with tokens where these are bounded, for somebody who may enter with it.
#[derive(Debug)]
#[must_use = "what is held and not given back is held for ever"]
pub(crate) struct Hold(Tokens);

/// Tokens on the books: of a prompt without its first item, and of a whole call, where that is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tokens {
    prefill: u64,
    total: u64,
}

/// For whom something is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) priority: Priority,
    /// Of the queue.
    pub(crate) round: u32,
    /// When the quotas have what it needs; `None` where it is tokens in flight that are kept.
    pub(crate) until: Option<Instant>,
}

/// What there is none of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Short {
    Slots,
    Tokens,
}

const NEVER: u64 = 0;
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
            total_tokens: AtomicU64::new(0),
            prefill_bound: AtomicU64::new(u64::MAX),
            total_bound: AtomicU64::new(u64::MAX),
            promised: AtomicU64::new(NOBODY),
            promised_until: AtomicU64::new(NEVER),
            waiting_calls: AtomicU32::new(0),
            oldest_wait: AtomicU64::new(NEVER),
            last_called: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }
}

impl Hold {
    /// A load as it is without this.
    pub(crate) const fn leave_out_of(&self, load: &mut Load) {
        load.in_flight = load.in_flight.saturating_sub(1);
        load.waiting_tokens = load.waiting_tokens.saturating_sub(self.0.prefill);
    }
}

impl Gauge {
    /// Takes a slot and puts the work of a call on the books, unless `limit` calls are in flight or its tokens do not fit in
    /// `share` thousandths of their bounds.
    #[inline]
    pub(crate) fn enter(&self, limit: u32, share: u32, need: Need, now: Instant) -> Option<Ticket> {
        let mut waiting = self.waiting.lock();
        let total = self.room(need, share)?;
        let among = self.take_slot(limit)?;
        let tokens = Tokens { prefill: need.prefill.min(MAX_TOKENS), total };
        Some(self.book(&mut waiting, among, tokens, Tokens::default(), now))
    }

    /// Takes a slot, and tokens where they are bounded, for somebody who may enter with it later.
    pub(crate) fn hold(&self, limit: u32, share: u32, need: Need) -> Result<Hold, Short> {
        let _waiting = self.waiting.lock();
        let bound = self.prefill_bound.load(Ordering::Relaxed);
        // What it has in its cache is not known here.
        let need = Need { prefill: need.prefill.min(bound), ..need };
        let total = self.room(need, share).ok_or(Short::Tokens)?;
        self.take_slot(limit).ok_or(Short::Slots)?;
        let tokens = Tokens { prefill: if bound == u64::MAX { 0 } else { need.prefill.min(MAX_TOKENS) }, total };
        self.move_tokens(tokens, Tokens::default());
        Ok(Hold(tokens))
    }

    /// Gives back what nobody entered with.
    pub(crate) fn release(&self, Hold(tokens): Hold) {
        let _waiting = self.waiting.lock();
        self.move_tokens(Tokens::default(), tokens);
        self.free_slot();
    }

    /// Puts the work of a call on the books of what is held for it, and gives back what is too much.
    pub(crate) fn enter_held(&self, Hold(held): Hold, need: Need, now: Instant) -> Ticket {
        let mut waiting = self.waiting.lock();
        let tokens = Tokens { prefill: need.prefill.min(MAX_TOKENS), total: held.total };
        self.book(&mut waiting, self.in_flight(), tokens, held, now)
    }

    // From here on until `want`: only with the lock.

    #[inline]
    fn take_slot(&self, limit: u32) -> Option<u32> {
        let in_flight = self.in_flight();
        (in_flight < limit).then(|| {
            self.in_flight.store(in_flight + 1, Ordering::Relaxed);
            in_flight + 1
        })
    }

    fn free_slot(&self) {
        self.in_flight.store(self.in_flight() - 1, Ordering::Relaxed);
    }

    /// What a call is to take of the tokens in flight, where there is room for it.
    fn room(&self, need: Need, share: u32) -> Option<u64> {
        if !self.is_bounded() {
            return Some(0);
        }
        let load = self.token_load();
        (load.fill(need) <= share).then(|| load.of_total(need))
    }

    #[inline]
    fn book(&self, waiting: &mut Waiting, among: u32, tokens: Tokens, held: Tokens, now: Instant) -> Ticket {
        self.move_tokens(tokens, held);
        let place = waiting.push(now);
        self.publish(waiting);
        self.last_called.store(self.last_called.load(Ordering::Relaxed).max(now.as_nanos()), Ordering::Relaxed);
        Ticket { among, tokens, place: Some(place) }
    }

    #[inline]
    fn move_tokens(&self, more: Tokens, less: Tokens) {
        let moved = |count: &AtomicU64, more: u64, less: u64| {
            if more != less {
                count.store(count.load(Ordering::Relaxed) + more - less, Ordering::Relaxed);
            }
        };
        moved(&self.waiting_tokens, more.prefill, less.prefill);
        moved(&self.total_tokens, more.total, less.total);
    }

    #[inline]
    fn done_waiting(&self, waiting: &mut Waiting, ticket: &mut Ticket) {
        if let Some(place) = ticket.place.take() {
            let prefill = std::mem::take(&mut ticket.tokens.prefill);
            let lost = if bug::CHARGE_NOT_REFUND { prefill / 8 } else { 0 };
            self.move_tokens(Tokens::default(), Tokens { prefill: prefill - lost, total: 0 });
            waiting.remove(place);
            self.publish(waiting);
        }
    }

    /// The first item arrived: the prefill work is done, the slot stays taken. Returns whether there is a bound of such work,
    /// so that others may start.
    pub(crate) fn first_item(&self, ticket: &mut Ticket) -> bool {
        self.done_waiting(&mut self.waiting.lock(), ticket);
        self.prefill_bound.load(Ordering::Relaxed) != u64::MAX
    }

    /// The call is over. The slot is free when this returns.
    #[inline]
    pub(crate) fn leave(&self, mut ticket: Ticket) {
        let mut waiting = self.waiting.lock();
        self.done_waiting(&mut waiting, &mut ticket);
        self.move_tokens(Tokens::default(), ticket.tokens);
        self.free_slot();
    }

    /// Somebody waits for a slot here, or for tokens, or for what a call here will show. Whoever wants must look once more
    /// before sleeping: of the wish and what is freed, both with the lock, the later sees the earlier.
    pub(crate) fn want(&self) {
        let _waiting = self.waiting.lock();
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a wish back.
    pub(crate) fn unwant(&self) {
        self.wanted.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody who can not have seen what the caller of this gave back before waits here.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// What is free is for the one to whom it is promised, and for nobody who comes after it.
    pub(crate) fn promise(&self, to: Option<Promise>) {
        let until = to.and_then(|it| it.until).map_or(NEVER, Instant::as_nanos);
        self.promised_until.store(until, Ordering::SeqCst);
        let to = to.map_or(NOBODY, |it| u64::from(it.round) << 32 | (it.priority as u64 + 1));
        self.promised.store(to, Ordering::SeqCst);
    }

    /// Whether it is promised, in this round, to one that comes before newcomers of this priority.
    fn is_promised_before(&self, priority: Priority, round: u32) -> bool {
        let promised = self.promised.load(Ordering::SeqCst);
        let is_of_round = promised >> 32 == u64::from(round) || bug::PROMISE_KEPT;
        (promised & u64::from(u32::MAX)) > priority as u64 && is_of_round
    }

    /// Until when the quotas are kept for one that comes before newcomers of this priority; the origin of time where they are
    /// not.
    pub(crate) fn promised_until(&self, priority: Priority, round: u32) -> Instant {
        let promised = self.is_promised_before(priority, round);
        Instant::from_nanos(if promised { self.promised_until.load(Ordering::Relaxed) } else { NEVER })
    }

    pub(crate) fn is_promised(&self) -> bool {
        self.promised.load(Ordering::SeqCst) != NOBODY
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

    /// The bounds of the newest generation. What is in flight stays counted as it was taken.
    pub(crate) fn set_bounds(&self, profile: &Profile) {
        let _waiting = self.waiting.lock();
        self.prefill_bound.store(profile.max_prefill_tokens.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.total_bound.store(profile.max_total_tokens.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn is_bounded(&self) -> bool {
        let is_bound = |bound: &AtomicU64| bound.load(Ordering::Relaxed) != u64::MAX;
        is_bound(&self.prefill_bound) || is_bound(&self.total_bound)
    }

    /// The tokens in flight.
    fn token_load(&self) -> TokenLoad {
        let filled = |taken: &AtomicU64, bound: &AtomicU64| Filled {
            taken: taken.load(Ordering::Relaxed),
            bound: bound.load(Ordering::Relaxed),
        };
        TokenLoad {
            prefill: filled(&self.waiting_tokens, &self.prefill_bound),
            total: filled(&self.total_tokens, &self.total_bound),
            promised: false,
        }
    }

    /// The tokens in flight, as a newcomer of this priority finds them.
    pub(crate) fn tokens_for(&self, priority: Priority, round: u32) -> TokenLoad {
        let promised = self.is_promised_before(priority, round) && self.promised_until.load(Ordering::SeqCst) == NEVER;
        TokenLoad { promised, ..self.token_load() }
    }

    /// The tokens in flight, as the one finds them for whom this is held.
    pub(crate) fn tokens_beside(&self, hold: &Hold) -> TokenLoad {
        let mut load = self.token_load();
        load.prefill.taken = load.prefill.taken.saturating_sub(hold.0.prefill);
        load.total.taken = load.total.taken.saturating_sub(hold.0.total);
        load
    }

    /// Tokens of calls in flight, as far as they are counted.
    pub(crate) fn total_tokens(&self) -> u64 {
        self.total_tokens.load(Ordering::Relaxed)
    }

    /// What is learned of how many calls it takes.
    pub(crate) const fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// When it was called last; the origin of time for never.
    pub(crate) fn last_called(&self) -> Instant {
        Instant::from_nanos(self.last_called.load(Ordering::Relaxed))
    }

    /// Prompt tokens of calls that wait for their first item.
    pub(crate) fn waiting_tokens(&self) -> u64 {
        self.waiting_tokens.load(Ordering::Relaxed)
    }

    /// Calls that wait for their first item.
    pub(crate) fn waiting_calls(&self) -> u32 {
        self.waiting_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> Load {
        Load {
            in_flight: self.in_flight(),
            waiting_tokens: self.waiting_tokens(),
            oldest_wait: Instant::from_nanos(self.oldest_wait.load(Ordering::Relaxed)),
            last_called: Instant::from_nanos(self.last_called.load(Ordering::Relaxed)),
            others_tokens: 0,
            learned_limit: None,
            canary_out: false,
            stale: false,
            over_quota_until: Instant::default(),
        }
    }

    #[inline]
    fn publish(&self, waiting: &Waiting) {
        let oldest = waiting.oldest().map_or(NEVER, |since| since.as_nanos().max(1));
        self.oldest_wait.store(oldest, Ordering::Relaxed);
        self.waiting_calls.store(waiting.len(), Ordering::Relaxed);
    }
}

/// What one call may claim, whatever its host says: 2³² tokens is beyond any context window, and 2³¹ of such calls do not
/// overflow. The sum can not wrap below the sum of its parts.
const MAX_TOKENS: u64 = u32::MAX as u64;
