//! [`PrefixIndex`]: which leading blocks of prompts a backend probably has in its cache.
//!
//! It remembers what this router sent, and nothing else: a set-associative table of atomic words, as a processor's cache
//! has it. Decisions read it without a lock; threads that write at the same time may lose each other's entries, which
//! costs a belief and breaks nothing.

use crate::decision::record::Belief;
use crate::facts::{Facts, Prefix};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// See the module. Takes no memory until a prompt with a prefix is sent.
///
/// Time is counted in blocks that were new to the backend, for these are what pushes others out. A block is believed to
/// be there while its age is below the *horizon*, and below what the backend is said to keep; what is not believed is
/// new. The horizon is learned: a cache drops the least recently used first, so what was gone at some age says that
/// everything older is gone, and what was there says that everything younger is.
pub(crate) struct PrefixIndex {
    table: OnceLock<Box<[Set]>>,
    /// In ticks, so many for each block.
    clock: AtomicU32,
    horizon: AtomicU32,
}

/// One cache line. An entry is 32 bits of the block's hash and the time of its last use.
#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// What the index knew of a prompt when it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Footprint {
    /// Leading blocks that were sent there before, however long ago.
    pub(crate) seen: u32,
    /// How long ago the last of them was.
    age: u32,
    /// When the prompt was sent.
    stamp: u32,
}

/// Blocks that are remembered of each backend.
pub(crate) const ENTRIES: usize = 8192;
const WAYS: usize = 8;
/// Ticks of the clock for each new block. A prompt of which nothing is new moves no time, and its stamp is between those of two
/// blocks, so that who takes back what it left takes back nothing of another.
const BLOCK: u32 = 2;
/// How fast the horizon grows where it proves too near: by an eighth for each proof.
const GROWTH_SHIFT: u32 = 3;
/// Far from an entry that was never written; and of two times, the later is less than this ahead of the other.
const START: u32 = 1 << 31;
/// The clock wraps. Each time that so much of it has gone by, what is older than that is forgotten, for it must not become young again.
const EIGHTH: u32 = 1 << 29;

impl Default for PrefixIndex {
    fn default() -> Self {
        Self { table: OnceLock::new(), clock: AtomicU32::new(START), horizon: AtomicU32::new(ENTRIES as u32) }
    }
}

impl PrefixIndex {
    /// The leading tokens of a request's prompt that the backend probably has, if it keeps `capacity` tokens at most;
    /// `None` where the request does not say how its prompt begins.
    pub(crate) fn cached_of(&self, facts: &Facts, capacity: u64) -> Option<u64> {
        Some(self.cached(facts.prompt_prefix()?, capacity).min(facts.input_tokens()))
    }

    /// The same, and how much the backend keeps of any prompts.
    pub(crate) fn belief(&self, facts: &Facts, capacity: u64) -> Option<Belief> {
        let prefix = facts.prompt_prefix()?;
        let keeps = u64::from(self.horizon(prefix, capacity)) * u64::from(prefix.block_tokens());
        Some(Belief { cached: self.cached_of(facts, capacity)?, keeps, supposed: 0 })
    }

    /// Blocks as new as this are believed.
    fn horizon(&self, prefix: &Prefix, capacity: u64) -> u32 {
        let kept = capacity / u64::from(prefix.block_tokens().max(1));
        self.horizon.load(Relaxed).min(u32::try_from(kept).unwrap_or(u32::MAX))
    }

    /// The leading tokens of a prompt that the backend probably has, if it keeps `capacity` tokens at most.
    fn cached(&self, prefix: &Prefix, capacity: u64) -> u64 {
        let Some(table) = self.table.get() else { return 0 };
        prefix.tokens(self.known(table, prefix, capacity))
    }

    /// The leading blocks of a prompt that are believed to be there.
    fn known(&self, table: &[Set], prefix: &Prefix, capacity: u64) -> usize {
        let horizon = self.horizon(prefix, capacity);
        let clock = self.clock.load(Relaxed);
        // Whoever uses a block uses those before it, so these are no older.
        prefix.hashes().partition_point(|hash| age_in(table, *hash, clock).is_some_and(|age| age < horizon))
    }

    /// A prompt is sent to the backend, which keeps what it computes of it, and `capacity` tokens at most.
    pub(crate) fn sent(&self, prefix: &Prefix, capacity: u64) -> Footprint {
        let table = self.table.get_or_init(|| (0..ENTRIES / WAYS).map(|_| Set::default()).collect());
        let hashes = prefix.hashes();
        let clock = self.clock.load(Relaxed);
        let seen = hashes.partition_point(|hash| age_in(table, *hash, clock).is_some());
        let age = seen.checked_sub(1).and_then(|last| age_in(table, hashes[last], clock)).unwrap_or(0);
        let new = (hashes.len() - self.known(table, prefix, capacity)) as u32 * BLOCK;
        let before = self.clock.fetch_add(new, Relaxed);
        if before / EIGHTH != before.wrapping_add(new) / EIGHTH {
            forget_old(table, before);
        }
        let stamp = before.wrapping_add(new.max(1));
        for hash in hashes {
            set(table, *hash).write(tag(*hash), stamp);
        }
        Footprint { seen: seen as u32, age, stamp }
    }

    /// The prompt that left this footprint was not answered: what was new of it is probably not there.
    pub(crate) fn not_answered(&self, prefix: &Prefix, footprint: Footprint) {
        let Some(table) = self.table.get() else { return };
        for hash in &prefix.hashes()[footprint.seen as usize..] {
            let entry = pack(tag(*hash), footprint.stamp);
            for way in &set(table, *hash).0 {
                let _ = way.compare_exchange(entry, 0, Relaxed, Relaxed);
            }
        }
    }

    /// Whether what was seen of the prompt that left this footprint was still there, by how soon its answer came.
    pub(crate) fn learn(&self, footprint: Footprint, kept: bool) {
        let age = footprint.age;
        let next = |horizon: u32| match kept {
            false => horizon.min(age),
            // Near the horizon it was there: a little beyond, it may be too.
            true if age >= horizon / 2 => horizon.max(age + 1).saturating_add(horizon >> GROWTH_SHIFT).min(START),
            true => horizon,
        };
        let _ = self.horizon.fetch_update(Relaxed, Relaxed, |horizon| Some(next(horizon)));
    }

    /// The backend was out: who knows what it still has.
    pub(crate) fn forget(&self) {
        if let Some(table) = self.table.get() {
            table.iter().flat_map(|set| &set.0).for_each(|way| way.store(0, Relaxed));
            self.horizon.store(ENTRIES as u32, Relaxed);
        }
    }
}

impl Set {
    /// Puts a block in, where it is already or in place of the least recently used.
    fn write(&self, tag: u32, stamp: u32) {
        let (mut place, mut oldest) = (0, 0);
        for (at, way) in self.0.iter().enumerate() {
            let entry = way.load(Relaxed);
            if entry != 0 && tag_of(entry) == tag {
                place = at;
                break;
            }
            let age = if entry == 0 { u32::MAX } else { age(entry, stamp) };
            if age > oldest {
                (place, oldest) = (at, age);
            }
        }
        self.0[place].store(pack(tag, stamp), Relaxed);
    }
}

impl fmt::Debug for PrefixIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixIndex")
            .field("clock", &self.clock)
            .field("horizon", &self.horizon)
            .finish_non_exhaustive()
    }
}

/// How long ago a block was last used, in blocks that were new since; `None` when it is not known.
fn age_in(table: &[Set], hash: u64, clock: u32) -> Option<u32> {
    let entries = set(table, hash).0.iter().map(|way| way.load(Relaxed));
    let entry = entries.into_iter().find(|entry| *entry != 0 && tag_of(*entry) == tag(hash))?;
    Some(age(entry, clock).div_ceil(BLOCK))
}

/// How long ago an entry was written, in ticks.
const fn age(entry: u64, clock: u32) -> u32 {
    // One that is written this moment may be ahead of the clock that was read.
    let age = clock.wrapping_sub(entry as u32);
    if age > START { 0 } else { age }
}

/// Forgets what is older than an eighth of the clock.
fn forget_old(table: &[Set], clock: u32) {
    for way in table.iter().flat_map(|set| &set.0) {
        let entry = way.load(Relaxed);
        if age(entry, clock) > EIGHTH {
            let _ = way.compare_exchange(entry, 0, Relaxed, Relaxed);
        }
    }
}

fn set(table: &[Set], hash: u64) -> &Set {
    &table[hash as usize % table.len()]
}

const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

const fn tag_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

const fn pack(tag: u32, stamp: u32) -> u64 {
    (tag as u64) << 32 | stamp as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn let_go(_: Footprint) {}

    fn send(index: &PrefixIndex, prefix: &Prefix) -> Footprint {
        index.sent(prefix, u64::MAX)
    }

    fn prompt(of: u64, blocks: u64) -> Prefix {
        Prefix::of_hashes(16, (0..blocks).map(|block| of << 32 | block))
    }

    #[test]
    fn it_takes_no_memory_before_it_is_used_and_a_known_amount_then() {
        let index = PrefixIndex::default();
        assert_eq!(index.cached(&prompt(1, 9), u64::MAX), 0);
        assert!(index.table.get().is_none());
        (0..100).for_each(|of| let_go(send(&index, &prompt(of, 512))));
        let table = index.table.get().unwrap();
        assert_eq!(size_of_val(&**table), 8 * ENTRIES);
    }

    #[test]
    fn what_was_sent_is_there_up_to_the_first_difference() {
        let index = PrefixIndex::default();
        assert_eq!(send(&index, &prompt(1, 10)).seen, 0);
        assert_eq!(index.cached(&prompt(1, 10), u64::MAX), 160);
        assert_eq!((index.cached(&prompt(1, 4), u64::MAX), index.cached(&prompt(1, 40), u64::MAX)), (64, 160));
        assert_eq!(index.cached(&prompt(2, 10), u64::MAX), 0);
        assert_eq!(send(&index, &prompt(1, 40)).seen, 10);
    }

    #[test]
    fn the_oldest_goes_when_the_cache_of_the_backend_is_full() {
        let index = PrefixIndex::default();
        (0..10).for_each(|of| let_go(send(&index, &prompt(of, 10))));
        let there = |capacity: u64| (0..10).filter(|of| index.cached(&prompt(*of, 10), capacity) > 0).count();
        assert_eq!((there(u64::MAX), there(100 * 16), there(50 * 16), there(0)), (10, 10, 5, 0));
        // Using it again makes it young.
        let_go(send(&index, &prompt(0, 10)));
        assert_eq!(index.cached(&prompt(0, 10), 50 * 16), 160);
    }

    #[test]
    fn the_table_keeps_the_last_used() {
        let index = PrefixIndex::default();
        (0..10_000).for_each(|of| let_go(send(&index, &prompt(of, 10))));
        let kept =
            |range: std::ops::Range<u64>| range.filter(|of| index.cached(&prompt(*of, 10), u64::MAX) == 160).count();
        assert_eq!(kept(0..8_000), 0);
        assert!(kept(9_600..10_000) > 380, "{}", kept(9_600..10_000));
    }

    #[test]
    fn an_unanswered_prompt_leaves_only_what_was_there_before() {
        let index = PrefixIndex::default();
        let_go(send(&index, &prompt(1, 4)));
        let lost = send(&index, &prompt(1, 10));
        index.not_answered(&prompt(1, 10), lost);
        assert_eq!(index.cached(&prompt(1, 10), u64::MAX), 64);
        // What another sent in between stays.
        let lost = send(&index, &prompt(1, 10));
        let_go(send(&index, &prompt(1, 10)));
        index.not_answered(&prompt(1, 10), lost);
        assert_eq!(index.cached(&prompt(1, 10), u64::MAX), 160);
    }

    #[test]
    fn what_is_known_pushes_nothing_out_and_what_is_computed_anew_does() {
        let index = PrefixIndex::default();
        let capacity = 30 * 16;
        let ask = |of: u64| let_go(index.sent(&prompt(of, 10), capacity));
        let there = || [1, 2, 3, 4].map(|of| index.cached(&prompt(of, 10), capacity) / 16);
        [1, 2].into_iter().for_each(ask);
        (0..1_000).for_each(|_| ask(2));
        assert_eq!(there(), [10, 10, 0, 0]);
        // Three have room, and four never, one after the other.
        [3, 4].into_iter().for_each(ask);
        assert_eq!(there(), [0, 10, 10, 10]);
        for round in 0..9 {
            ask(1 + round % 4);
            assert_eq!(there().iter().filter(|blocks| **blocks == 10).count(), 3, "{round}");
            assert_eq!(there()[(1 + round as usize) % 4], 0, "{round}");
        }
    }

    #[test]
    fn what_is_old_does_not_become_young_when_the_clock_wraps() {
        let index = PrefixIndex::default();
        let_go(send(&index, &prompt(1, 10)));
        for n in 1..40 {
            // Others that come and go move the clock, and leave nothing in the table.
            index.clock.store(START.wrapping_add(EIGHTH.wrapping_mul(n)).wrapping_sub(BLOCK), Relaxed);
            let_go(send(&index, &prompt(1 + u64::from(n), 1)));
            assert_eq!(index.cached(&prompt(1, 10), u64::MAX), 0, "{n}");
            assert_eq!(index.cached(&prompt(1 + u64::from(n), 1), u64::MAX), 16, "{n}");
        }
    }

    #[test]
    fn what_was_gone_was_not_the_only_one() {
        let index = PrefixIndex::default();
        (0..5).for_each(|of| let_go(send(&index, &prompt(of, 10))));
        let there = || (0..6).map(|of| index.cached(&prompt(of, 10), u64::MAX) / 160).collect::<Vec<_>>();
        let third = send(&index, &prompt(2, 12));
        index.learn(third, false);
        // Everything as old as the third was, or older, is gone; the younger stay.
        assert_eq!(there(), [0, 0, 1, 1, 1, 0]);
        // What is there after all shows how far back one may look.
        let first = send(&index, &prompt(0, 10));
        index.learn(first, true);
        assert_eq!(there(), [1, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn the_horizon_grows_by_what_is_proven_near_it() {
        let index = PrefixIndex::default();
        index.horizon.store(80, Relaxed);
        let at = |age| Footprint { seen: 1, age, stamp: 0 };
        index.learn(at(39), true);
        assert_eq!(index.horizon.load(Relaxed), 80);
        index.learn(at(40), true);
        assert_eq!(index.horizon.load(Relaxed), 90);
        index.learn(at(u32::MAX - 1), true);
        assert_eq!(index.horizon.load(Relaxed), START);
        index.learn(at(0), false);
        assert_eq!(index.horizon.load(Relaxed), 0);
        index.learn(at(0), true);
        assert_eq!(index.horizon.load(Relaxed), 1);
    }

    #[test]
    fn a_backend_that_was_out_has_nothing() {
        let index = PrefixIndex::default();
        index.forget();
        let_go(send(&index, &prompt(1, 10)));
        index.horizon.store(0, Relaxed);
        index.forget();
        assert_eq!(index.cached(&prompt(1, 10), u64::MAX), 0);
        let_go(send(&index, &prompt(1, 10)));
        assert_eq!(index.cached(&prompt(1, 10), u64::MAX), 160);
    }

    #[test]
    fn threads_that_write_at_once_break_nothing() {
        let index = PrefixIndex::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let index = &index;
                scope.spawn(move || {
                    for round in 0..2_000u64 {
                        let prefix = prompt(round % 7 + thread % 2, round % 40);
                        let footprint = send(index, &prefix);
                        assert!(footprint.seen as usize <= prefix.blocks());
                        assert!(index.cached(&prefix, u64::MAX) <= prefix.tokens(prefix.blocks()));
                        if round % 3 == 0 {
                            index.not_answered(&prefix, footprint);
                        }
                    }
                });
            }
        });
    }

    proptest! {
        /// Against a list that forgets nothing: no belief without a prompt that was sent and began so.
        #[test]
        fn nothing_is_believed_that_was_never_sent(sent in prop::collection::vec((0u64..6, 0u64..60), 1..60), of in 0u64..6, blocks in 0u64..80) {
            let index = PrefixIndex::default();
            for (of, blocks) in &sent {
                let_go(send(&index, &prompt(*of, *blocks)));
            }
            let longest = sent.iter().filter(|(other, _)| *other == of).map(|(_, sent)| *sent.min(&blocks)).max();
            prop_assert_eq!(index.cached(&prompt(of, blocks), u64::MAX), longest.unwrap_or(0) * 16);
        }
    }
}
