//! Token buckets, each in one atomic word, and a table of them that strangers can not fill.

use std::sync::atomic::{AtomicU64, Ordering};

/// The generic cell rate algorithm: `word` is when the bucket will be full again, in the unit of `now`. Takes `cost`
/// tokens, each of which takes one `period` to come back, from a bucket of `burst` tokens.
///
/// # Errors
///
/// When they will be there; `u64::MAX` if the bucket never holds so many.
pub(crate) const fn gcra(word: u64, cost: u64, now: u64, period: u64, burst: u64) -> Result<u64, u64> {
    let (cost, depth) = (cost.saturating_mul(period), burst.saturating_mul(period));
    if cost > depth {
        return Err(u64::MAX);
    }
    let full = if word > now { word } else { now };
    let next = full.saturating_add(cost);
    match next.saturating_sub(depth) {
        at if at <= now => Ok(next),
        at => Err(at),
    }
}

/// Time is counted in so many parts of the time in which one token comes back.
pub(super) const PERIOD: u64 = 64;
/// Bits of a word that are time; the others say whose it is.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// A bucket that nobody had.
const NEVER: u64 = 0;
/// Buckets on a cache line.
const WAYS: usize = 8;

/// A bucket, and whose it is. When it is full nothing is known of it, so it may be anybody's.
type Word = AtomicU64;

/// Buckets for any number of keys.
#[derive(Debug)]
pub(super) struct Table {
    lines: Box<[Line]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Word; WAYS]);

/// What was asked of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// The hash of the key.
    pub(super) key: u64,
    pub(super) now: u64,
    pub(super) burst: u64,
    /// By how much the time of another thread may be ahead.
    pub(super) skew: u64,
}

impl Ask {
    /// When the bucket of `word` will be full, or now. Further ahead than any bucket can be is long past: time comes round
    /// after 2^42 tokens.
    const fn full_at(&self, word: u64) -> u64 {
        if word == NEVER {
            return self.now;
        }
        match (word & TIME).wrapping_sub(self.now & TIME) & TIME {
            ahead if ahead <= self.burst * PERIOD + self.skew => self.now.saturating_add(ahead),
            _ => self.now,
        }
    }
}

impl Table {
    /// A table of so many buckets.
    pub(super) fn new(buckets: usize) -> Self {
        Self { lines: (0..buckets.div_ceil(WAYS)).map(|_| Line::default()).collect() }
    }

    /// Takes a token, or says when there will be one.
    ///
    /// A key has the bucket on its line that bears its tag. If there is none, it takes one that is full; if no other is
    /// left, it shares one of those in use.
    pub(super) fn take(&self, ask: Ask) -> Result<(), u64> {
        loop {
            let (word, seen) = self.find(ask);
            let full = ask.full_at(seen);
            let next = gcra(full, 1, ask.now, PERIOD, ask.burst)?;
            // Whoever shares a bucket leaves its tag.
            let tag = if full > ask.now { seen & !TIME } else { tag(ask.key) };
            let next = tag | (next & TIME);
            if word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Ok(());
            }
        }
    }

    /// When there will be a token, if there is none.
    pub(super) fn peek(&self, ask: Ask) -> Result<(), u64> {
        let seen = self.find(ask).1;
        gcra(ask.full_at(seen), 1, ask.now, PERIOD, ask.burst).map(drop)
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, ask: Ask) {
        loop {
            let (word, seen) = self.find(ask);
            let full = ask.full_at(seen);
            if full < ask.now + PERIOD {
                return;
            }
            let before = (seen & !TIME) | ((full - PERIOD) & TIME);
            if word.compare_exchange(seen, before, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }

    /// The bucket of a key, and what it holds.
    fn find(&self, ask: Ask) -> (&Word, u64) {
        let Line(ways) = &self.lines[(((ask.key >> 32) * self.lines.len() as u64) >> 32) as usize];
        let tag = tag(ask.key);
        let shared = ((ask.key >> 16) % ways.len() as u64) as usize;
        let (mut found, mut free) = (&ways[shared], false);
        let mut held = found.load(Ordering::Acquire);
        for word in ways {
            let seen = word.load(Ordering::Acquire);
            let in_use = ask.full_at(seen) > ask.now;
            if in_use && seen & !TIME == tag {
                return (word, seen);
            }
            if !in_use && !free {
                (found, held, free) = (word, seen, true);
            }
        }
        (found, held)
    }
}

/// What tells the keys of a line apart.
const fn tag(key: u64) -> u64 {
    key << TIME_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::mix;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ask(key: u64, now: u64, burst: u64) -> Ask {
        Ask { key: mix(key, 7), now, burst, skew: PERIOD }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_token_a_period() {
        let mut word = 0;
        let mut times = Vec::new();
        for now in 1_000..2_000 {
            while let Ok(next) = gcra(word, 1, now, 100, 3) {
                (word, _) = (next, times.push(now));
            }
        }
        assert_eq!(times, [1_000, 1_000, 1_000, 1_100, 1_200, 1_300, 1_400, 1_500, 1_600, 1_700, 1_800, 1_900]);
        assert_eq!(gcra(word, 1, 1_999, 100, 3), Err(2_000));
        assert_eq!(gcra(word, 2, 1_999, 100, 3), Err(2_100));
        assert_eq!(gcra(0, 4, 1_999, 100, 3), Err(u64::MAX), "never");
        assert_eq!(gcra(u64::MAX, 1, 5, 100, 3), Err(u64::MAX - 300));
    }

    /// A bucket as people think of it.
    #[derive(Clone, Copy)]
    struct Plain {
        tokens: f64,
        at: u64,
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn keys_in_a_table_have_buckets_of_their_own(
            steps in proptest::collection::vec((0u64..5, 0u64..2 * PERIOD, proptest::bool::weighted(0.1)), 1..400),
            burst in 1u64..6,
            start in prop_oneof![Just(1u64), (TIME - 9_000)..TIME, any::<u32>().prop_map(|at| u64::from(at) << 20)],
        ) {
            let table = Table::new(64);
            let mut buckets: BTreeMap<u64, Plain> = BTreeMap::new();
            let mut now = start;
            for (key, pause, back) in steps {
                now += pause;
                let bucket = buckets.entry(key).or_insert(Plain { tokens: burst as f64, at: now });
                bucket.tokens = (bucket.tokens + (now - bucket.at) as f64 / PERIOD as f64).min(burst as f64);
                bucket.at = now;
                if back && burst as f64 - bucket.tokens >= 1.0 {
                    bucket.tokens += 1.0;
                    table.give_back(ask(key, now, burst));
                }
                let expected = bucket.tokens >= 1.0 - 1e-9;
                prop_assert_eq!(table.peek(ask(key, now, burst)).is_ok(), expected);
                match table.take(ask(key, now, burst)) {
                    Ok(()) => bucket.tokens -= 1.0,
                    Err(at) => {
                        let missing = ((1.0 - bucket.tokens) * PERIOD as f64).round() as u64;
                        prop_assert_eq!(at - now, missing);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_long_past_is_forgotten_and_who_is_behind_is_not_given_more() {
        let table = Table::new(8);
        let start = TIME - 5;
        assert_eq!(table.peek(ask(1, start, 3)), Ok(()), "nobody had it");
        (0..3).for_each(|_| table.take(ask(1, start, 3)).unwrap());
        // A thread whose clock was read a little before.
        assert_eq!(table.take(ask(1, start - PERIOD, 3)), Err(start + PERIOD));
        // Half a round later, and a whole one: of that moment only.
        for (later, key) in [(PERIOD * 3, 2), (TIME / 2, 3), (TIME - 3 * PERIOD, 4)] {
            assert!(table.peek(ask(1, start + later, 3)).is_ok());
            assert_eq!((0..5).filter(|_| table.take(ask(key, start + later, 3)).is_ok()).count(), 3);
        }
    }

    #[test]
    fn a_million_keys_get_no_more_than_the_buckets_there_are() {
        let (buckets, burst) = (4_096, 3);
        let table = Table::new(buckets);
        let granted = (0..1_000_000).filter(|key| table.take(ask(*key, 1, burst)).is_ok()).count();
        assert_eq!(granted as u64, buckets as u64 * burst);
        // A period later there is one more in each, whoever comes.
        let granted = (0..1_000_000).filter(|key| table.take(ask(*key, 1 + PERIOD, burst)).is_ok()).count();
        assert_eq!(granted, buckets);
    }

    #[test]
    fn up_to_a_third_of_the_buckets_hardly_any_key_shares_one() {
        let (buckets, burst, keys) = (4_096usize, 3, 4_096 / 3);
        let table = Table::new(buckets);
        let mut short = 0;
        for key in 0..keys as u64 {
            let granted = (0..burst).filter(|_| table.take(ask(key, 1, burst)).is_ok()).count() as u64;
            short += usize::from(granted < burst);
        }
        assert!(short * 200 <= keys, "{short} of {keys}");
    }

    #[test]
    fn threads_take_what_there_is_and_no_more() {
        let table = Table::new(64);
        let granted = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for now in 1..=2_000 {
                        let ask = Ask { skew: 2_000 * PERIOD, ..ask(now % 4, 1 + now * 4, 100) };
                        granted.fetch_add(u64::from(table.take(ask).is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        // Four keys, their bursts, and what came back in 125 periods.
        let granted = granted.into_inner();
        assert!((4 * 100..=4 * (100 + 125)).contains(&granted), "{granted}");
    }
}
