//! [`Ranked`]: a sorted set that knows how many stand before a key.

use crate::rng::mix;

/// A treap (Seidel, Aragon: *Randomized Search Trees*, 1996): a search tree by key and a heap by a random number,
/// whose nodes know the size of what is below them. Everything takes logarithmic time; a B-tree of the standard
/// library can not count what stands before a key in less than linear time.
#[derive(Debug)]
pub(super) struct Ranked<K> {
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    root: u32,
    draws: u64,
}

#[derive(Debug)]
struct Node<K> {
    key: K,
    heap: u64,
    size: u32,
    left: u32,
    right: u32,
}

const NONE: u32 = u32::MAX;
const STREAM: u64 = 0x5241_4e4b;

impl<K> Default for Ranked<K> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NONE, draws: 0 }
    }
}

impl<K: Copy + Ord> Ranked<K> {
    pub(super) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// Adds a key that is not in it.
    pub(super) fn insert(&mut self, key: K) {
        self.draws += 1;
        let node = Node { key, heap: mix(STREAM, self.draws), size: 1, left: NONE, right: NONE };
        let new = match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("2^32 requests do not fit in memory")
            }
        };
        self.root = self.insert_below(self.root, new);
    }

    /// Takes a key out; whether it was there.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let (root, removed) = self.remove_below(self.root, key);
        self.root = root;
        removed
    }

    /// How many keys are smaller.
    pub(super) fn rank(&self, key: &K) -> usize {
        let (mut at, mut before) = (self.root, 0);
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.key < *key {
                before += self.size(node.left) as usize + 1;
                at = node.right;
            } else {
                at = node.left;
            }
        }
        before
    }

    /// The key with so many smaller ones.
    pub(super) fn nth(&self, mut rank: usize) -> Option<K> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            let before = self.size(node.left) as usize;
            if rank == before {
                return Some(node.key);
            }
            at = if rank < before { node.left } else { node.right };
            rank -= if rank < before { 0 } else { before + 1 };
        }
        None
    }

    fn size(&self, at: u32) -> u32 {
        if at == NONE { 0 } else { self.nodes[at as usize].size }
    }

    fn count(&mut self, at: u32) {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        self.nodes[at as usize].size = self.size(left) + self.size(right) + 1;
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let (key, heap) = (self.nodes[new as usize].key, self.nodes[new as usize].heap);
        if heap > self.nodes[at as usize].heap {
            let (left, right) = self.split(at, &key);
            (self.nodes[new as usize].left, self.nodes[new as usize].right) = (left, right);
            self.count(new);
            return new;
        }
        if key < self.nodes[at as usize].key {
            self.nodes[at as usize].left = self.insert_below(self.nodes[at as usize].left, new);
        } else {
            self.nodes[at as usize].right = self.insert_below(self.nodes[at as usize].right, new);
        }
        self.nodes[at as usize].size += 1;
        at
    }

    /// What is below `at`: the keys before `key`, and the others.
    fn split(&mut self, at: u32, key: &K) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let halves = if self.nodes[at as usize].key < *key {
            let (left, right) = self.split(self.nodes[at as usize].right, key);
            self.nodes[at as usize].right = left;
            (at, right)
        } else {
            let (left, right) = self.split(self.nodes[at as usize].left, key);
            self.nodes[at as usize].left = right;
            (left, at)
        };
        self.count(at);
        halves
    }

    /// All keys of `left` are before all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return left.min(right);
        }
        let top = if self.nodes[left as usize].heap > self.nodes[right as usize].heap {
            self.nodes[left as usize].right = self.merge(self.nodes[left as usize].right, right);
            left
        } else {
            self.nodes[right as usize].left = self.merge(left, self.nodes[right as usize].left);
            right
        };
        self.count(top);
        top
    }

    fn remove_below(&mut self, at: u32, key: &K) -> (u32, bool) {
        if at == NONE {
            return (NONE, false);
        }
        let Node { key: own, left, right, .. } = self.nodes[at as usize];
        let removed;
        if *key == own {
            self.free.push(at);
            return (self.merge(left, right), true);
        } else if *key < own {
            (self.nodes[at as usize].left, removed) = self.remove_below(left, key);
        } else {
            (self.nodes[at as usize].right, removed) = self.remove_below(right, key);
        }
        self.nodes[at as usize].size -= u32::from(removed);
        (at, removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_sorted_set_that_counts(events in prop::collection::vec((any::<bool>(), 0u16..60), 1..300)) {
            let (mut ranked, mut plain) = (Ranked::default(), BTreeSet::new());
            for (add, key) in events {
                if add && plain.insert(key) {
                    ranked.insert(key);
                } else {
                    prop_assert_eq!(ranked.remove(&key), plain.remove(&key));
                }
                prop_assert_eq!(ranked.is_empty(), plain.is_empty());
                prop_assert_eq!(ranked.rank(&key), plain.range(..key).count());
                prop_assert!((0..=plain.len()).all(|rank| ranked.nth(rank) == plain.iter().nth(rank).copied()));
            }
            prop_assert!(ranked.nodes.len() <= 60);
        }
    }

    #[test]
    fn it_stays_flat_whatever_the_order() {
        let mut ranked = Ranked::default();
        (0..100_000u32).for_each(|key| ranked.insert(key));
        fn depth(ranked: &Ranked<u32>, at: u32) -> usize {
            if at == NONE {
                return 0;
            }
            let node = &ranked.nodes[at as usize];
            1 + depth(ranked, node.left).max(depth(ranked, node.right))
        }
        let depth = depth(&ranked, ranked.root);
        assert!(depth <= 60, "{depth} levels; 17 is the least");
    }
}
