//! Seeded randomness: every random choice derives from the decision's seed.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014).
//! It is written out here, in ten lines, because a run with a fixed seed and the same events must make the same
//! decisions on any machine and after an upgrade of any dependency; general generators promise neither.

/// A small deterministic generator. Equal seeds give equal sequences, for ever.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        finish(self.0)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    ///
    /// Lemire's multiply-shift; its bias (below 2⁻³² for any bound that counts backends) is far under what a
    /// million picks could show.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// 2⁶⁴ / φ, the odd constant of SplitMix64 and of Weyl sequences.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes two words into one that looks unrelated to either: a hash for seeds, not for secrets.
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    finish(a ^ finish(b.wrapping_add(GOLDEN)))
}

const fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stable 64-bit hash of a name (FNV-1a, finished by SplitMix64): equal on every machine and in every version,
/// which affinity and repeated runs depend on.
pub(crate) fn hash_str(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    finish(hash)
}

/// A hash of a name that strangers choose, or of none, under a key that they do not know: they can not tell which names
/// collide. Chained, it hashes several.
pub(crate) fn hash_keyed(key: u64, text: Option<&str>) -> u64 {
    let Some(text) = text else { return finish(!key) };
    let mut hash = mix(key, text.len() as u64);
    for chunk in text.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_distinct_per_seed() {
        let mut rng = Rng::new(7);
        let mut counts = [0u32; 5];
        for _ in 0..100_000 {
            counts[rng.below(5)] += 1;
        }
        for count in counts {
            assert!((19_000..21_000).contains(&count), "{counts:?}");
        }
        assert_eq!(Rng::new(1).below(0), 0);
        assert_ne!(Rng::new(1).next_u64(), Rng::new(2).next_u64());
    }
}
