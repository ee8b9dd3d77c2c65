//! Capabilities as a set of bits.

use std::fmt;
use std::ops::BitOr;

/// What a model endpoint can do, or what a request needs of it.
///
/// ```
/// use fallway::facts::Capabilities;
/// let offered = Capabilities::TOOLS | Capabilities::VISION;
/// assert!(offered.contains(Capabilities::TOOLS));
/// assert_eq!((Capabilities::TOOLS | Capabilities::AUDIO).missing_from(offered).to_string(), "audio");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Nothing beyond text.
    pub const NONE: Self = Self(0);
    /// Calls tools.
    pub const TOOLS: Self = Self(1);
    /// Reads images.
    pub const VISION: Self = Self(1 << 1);
    /// Reads or writes audio.
    pub const AUDIO: Self = Self(1 << 2);
    /// Answers in a given JSON schema.
    pub const STRUCTURED: Self = Self(1 << 3);
    /// Streams its answer.
    pub const STREAMING: Self = Self(1 << 4);
    /// Thinks before it answers.
    pub const REASONING: Self = Self(1 << 5);
    /// Returns log probabilities.
    pub const LOGPROBS: Self = Self(1 << 6);
    /// Computes embeddings.
    pub const EMBEDDINGS: Self = Self(1 << 7);

    const NAMES: [&'static str; 8] =
        ["tools", "vision", "audio", "structured", "streaming", "reasoning", "logprobs", "embeddings"];

    /// A capability of the host's own: bit `n` of 24.
    ///
    /// # Panics
    ///
    /// In const evaluation or at run time when `n` is 24 or more.
    pub const fn custom(n: u32) -> Self {
        assert!(n < 24, "a custom capability is a number below 24");
        Self(1 << (n + 8))
    }

    /// Whether every capability of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What of this set `offered` lacks.
    pub const fn missing_from(self, offered: Self) -> Self {
        Self(self.0 & !offered.0)
    }

    /// The set as bits, for tables and files: equal in every version of the crate.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set that has these [bits](Self::bits).
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The one capability of this name, as `Display` writes it: `tools`, `custom3`.
    pub fn named(name: &str) -> Option<Self> {
        (0..32).map(|bit| Self(1 << bit)).find(|one| one.is_called(name))
    }

    fn is_called(self, name: &str) -> bool {
        let bit = self.0.trailing_zeros() as usize;
        match Self::NAMES.get(bit) {
            Some(known) => *known == name,
            // Compared as a number is written, so that "custom03" is no second name.
            None => name.strip_prefix("custom").is_some_and(|n| n == (bit - Self::NAMES.len()).to_string()),
        }
    }

    /// Each capability of the set, as a set of one.
    pub fn iter(self) -> impl Iterator<Item = Self> {
        (0..32).map(|bit| Self(1 << bit)).filter(move |one| self.contains(*one))
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for bit in (0..32).filter(|bit| self.0 & (1 << bit) != 0) {
            f.write_str(separator)?;
            match Self::NAMES.get(bit) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "custom{}", bit - Self::NAMES.len())?,
            }
            separator = "+";
        }
        Ok(())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Capabilities {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
