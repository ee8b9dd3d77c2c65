//! A prefix cache: which leading blocks of a prompt a server has seen.

use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Blocks by their hash, least recently used first out.
#[derive(Debug)]
pub(super) struct PrefixCache {
    capacity: usize,
    used: FxHashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    clock: u64,
}

impl PrefixCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, used: FxHashMap::default(), by_use: BTreeMap::new(), clock: 0 }
    }

    /// How many leading blocks it has.
    pub(super) fn hit(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|block| self.used.contains_key(block)).count()
    }

    /// Keeps these blocks as the last used.
    pub(super) fn keep(&mut self, blocks: &[u64]) {
        // The end of a prefix goes before its start, which others share.
        for block in blocks.iter().rev() {
            self.clock += 1;
            if let Some(before) = self.used.insert(*block, self.clock) {
                self.by_use.remove(&before);
            }
            self.by_use.insert(self.clock, *block);
        }
        while self.used.len() > self.capacity
            && let Some((_, block)) = self.by_use.pop_first()
        {
            self.used.remove(&block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_a_hole_ends_the_prefix() {
        let mut cache = PrefixCache::new(3);
        cache.keep(&[1, 2, 3]);
        assert_eq!(cache.hit(&[1, 2, 3, 4]), 3);
        cache.keep(&[1, 9]);
        // 3 was the end of the older prompt.
        assert_eq!(cache.hit(&[1, 2, 3]), 2);
        assert_eq!(cache.hit(&[1, 9]), 2);
        assert_eq!(cache.hit(&[7, 1]), 0);
    }
}
