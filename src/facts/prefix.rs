//! [`Prefix`]: how a prompt begins, without the prompt.

use crate::rng::mix;
use std::fmt;
use std::sync::Arc;

/// How a prompt begins: a hash for each of its leading blocks.
///
/// Servers keep what they computed of a prompt, and skip it when another begins alike. Told of prefixes
/// ([`Facts::prefix`](super::Facts::prefix)), the router remembers which it sent where, and
/// [`predicted_ttft`](crate::policy::predicted_ttft) counts the tokens that a backend probably need not compute again.
///
/// Only whole blocks count, and the first [`MAX_BLOCKS`](Self::MAX_BLOCKS); the rest of the prompt is taken as new.
/// Each hash stands for everything up to the end of its block. Cloning shares the hashes.
///
/// ```
/// use fallway::Facts;
/// use fallway::facts::Prefix;
///
/// let system: Vec<u32> = (0..1_024).collect();
/// let prompt = |question: u32| [&system[..], &[question; 300]].concat();
/// let (one, other) = (Prefix::of_tokens(512, &prompt(7)), Prefix::of_tokens(512, &prompt(8)));
/// assert_eq!((one.blocks(), one.common_tokens(&other)), (2, 1_024));
/// let facts = Facts::model("llama-70b").prompt_tokens(1_324).prefix(one);
/// # let _ = facts;
/// ```
///
/// The hashes are stable over versions and machines, and not made for secrets: who knows a hash can test a guess of the
/// text that it stands for. They are in decisions and their JSON.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Prefix {
    block_tokens: u32,
    #[cfg_attr(feature = "serde", serde(serialize_with = "numbers"))]
    hashes: Arc<[u64]>,
}

impl Prefix {
    /// How many blocks count at most; later ones are left out. Bounds what a decision looks up and a call remembers.
    pub const MAX_BLOCKS: usize = 512;

    /// From hashes of the host's own, one for each block of so many tokens, in order: those of the inference server, or
    /// of the messages of a conversation. They need not depend on the blocks before; here they are chained.
    ///
    /// Takes no more than [`MAX_BLOCKS`](Self::MAX_BLOCKS) from the iterator. Blocks of 0 tokens are no blocks.
    pub fn of_hashes(block_tokens: u32, hashes: impl IntoIterator<Item = u64>) -> Self {
        let most = if block_tokens == 0 { 0 } else { Self::MAX_BLOCKS };
        // Blocks of another size are other blocks.
        let mut chain = mix(SALT, block_tokens.into());
        let hashes = hashes.into_iter().take(most).map(|hash| {
            chain = mix(chain, hash);
            chain
        });
        Self { block_tokens, hashes: hashes.collect() }
    }

    /// From the tokens of a prompt, in blocks of so many. 512 suits most; a multiple of the server's own block size
    /// (vLLM: 16) loses nothing.
    pub fn of_tokens(block_tokens: u32, tokens: &[u32]) -> Self {
        let blocks = tokens.chunks_exact((block_tokens as usize).max(1));
        let hash = |block: &[u32]| block.iter().fold(FNV, |hash, token| fnv(hash, u64::from(*token)));
        Self::of_hashes(block_tokens, blocks.map(hash))
    }

    /// From the text of a prompt, in blocks of four characters for each token, as
    /// [`Facts::estimate_tokens`](super::Facts::estimate_tokens) counts them.
    pub fn of_text(block_tokens: u32, text: &str) -> Self {
        let characters = (block_tokens as usize).saturating_mul(4);
        let mut rest = text.chars();
        let blocks = std::iter::from_fn(|| {
            let mut hash = FNV;
            for _ in 0..characters {
                hash = fnv(hash, u64::from(u32::from(rest.next()?)));
            }
            Some(hash)
        });
        Self::of_hashes(block_tokens, blocks)
    }

    /// Tokens in one block.
    pub const fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> usize {
        self.hashes.len()
    }

    /// The chained hashes, one for each block.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// With how many tokens both begin.
    pub fn common_tokens(&self, other: &Self) -> u64 {
        self.tokens(self.hashes.iter().zip(&*other.hashes).take_while(|(one, other)| one == other).count())
    }

    /// The tokens of so many blocks.
    pub(crate) fn tokens(&self, blocks: usize) -> u64 {
        u64::from(self.block_tokens) * blocks as u64
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({} blocks of {} tokens)", self.blocks(), self.block_tokens)
    }
}

/// `Arc<[u64]>` as a sequence; serde's own implementation needs its `rc` feature, for every user of the graph.
#[cfg(feature = "serde")]
fn numbers<S: serde::Serializer>(numbers: &Arc<[u64]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(&**numbers)
}

const SALT: u64 = 0x5052_4546_4958;
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

const fn fnv(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_stands_for_everything_before() {
        let (one, other) = (Prefix::of_hashes(16, [1, 2, 3]), Prefix::of_hashes(16, [9, 2, 3]));
        assert_eq!(one.common_tokens(&other), 0);
        assert!(one.hashes().iter().all(|hash| !other.hashes().contains(hash)));
        assert_eq!(one.common_tokens(&Prefix::of_hashes(16, [1, 2, 4, 3])), 32);
        assert_eq!(one.common_tokens(&Prefix::of_hashes(17, [1, 2, 3])), 0);
    }

    #[test]
    fn only_whole_blocks_count() {
        let tokens: Vec<u32> = (0..100).collect();
        assert_eq!(Prefix::of_tokens(16, &tokens).blocks(), 6);
        assert_eq!(Prefix::of_tokens(101, &tokens).blocks(), 0);
        let text = "ä€ß".repeat(100);
        let prefix = Prefix::of_text(16, &text);
        assert_eq!((prefix.blocks(), prefix.block_tokens()), (4, 16));
        assert_eq!(prefix.common_tokens(&Prefix::of_text(16, &text[..text.len() / 2])), 32);
        assert_eq!(prefix.common_tokens(&Prefix::of_text(16, &text.replacen('ß', "s", 1))), 0);
    }

    /// Hosts keep hashes, and replay decisions of other versions.
    #[test]
    fn hashes_stay_what_they_are() {
        assert_eq!(Prefix::of_hashes(16, [7, 8]).hashes(), [0x2313_ca0f_1625_7a72, 0x91c0_8edd_e287_96d4]);
        assert_eq!(Prefix::of_tokens(2, &[1, 2, 3, 4]).hashes(), [0x1e10_df1c_534b_ea6b, 0x56c3_f907_9a17_4c3b]);
        assert_eq!(Prefix::of_text(1, "hallo, you").hashes(), [0xe8cc_be1f_f6c4_e26d, 0x2fcd_699c_7b2e_5590]);
    }

    #[test]
    fn hostile_sizes_are_bounded() {
        assert_eq!(Prefix::of_hashes(1, 0..).blocks(), Prefix::MAX_BLOCKS);
        assert_eq!(Prefix::of_hashes(0, 0..).blocks(), 0);
        assert_eq!(Prefix::of_tokens(0, &[1; 10]).blocks(), 0);
        assert_eq!(Prefix::of_text(0, "text").blocks(), 0);
        assert_eq!(Prefix::of_text(u32::MAX, "text").blocks(), 0);
        let most = Prefix::of_hashes(u32::MAX, 0..);
        assert_eq!(most.common_tokens(&most), u64::from(u32::MAX) * 512);
    }
}
