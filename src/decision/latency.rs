//! What is known of how long a backend takes, as decisions read it.

/// What was learned of a backend's time to first token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Latency {
    /// The part that does not depend on the prompt, in nanoseconds.
    pub base: u64,
    /// The part that grows with each waiting prompt token, in 1/1024 nanoseconds.
    pub per_token: u64,
    /// Peak EWMA of the time to first token, in nanoseconds.
    pub peak: u64,
    /// The usual time to first token lately, in nanoseconds.
    pub usual: u64,
    /// The least that was ever usual, in nanoseconds.
    pub best: u64,
    /// Samples behind it; 0 means that nothing is known of it. Then the first two are those of its peers, and 0 where
    /// nothing is known of these either. Of few samples, the first two are partly those of its peers.
    pub samples: u32,
}

impl Latency {
    /// Whether there is a line, of itself or of its peers.
    pub(crate) const fn is_known(&self) -> bool {
        self.samples > 0 || self.base > 0 || self.per_token > 0
    }

    /// The predicted time to first token behind `tokens` prompt tokens, in nanoseconds.
    pub const fn predict(&self, tokens: u64) -> u64 {
        self.base.saturating_add(self.per_token.saturating_mul(tokens) >> 10)
    }
}

/// How far what happens is from what was predicted: quantiles of the ratio of the two, over the last few hundred samples.
///
/// A ratio, because the prediction is about the work and this is about chance: it holds for a long prompt as for a short
/// one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Spread {
    /// Half of all stay below this, in 1/1024 of the prediction.
    pub half: u32,
    /// 95 of 100 stay below this, in 1/1024 of the prediction.
    pub late: u32,
    /// Samples behind it that still count: those of five minutes ago count half. Of few the quantiles are mostly a guess.
    /// Where a backend has few, these are those of all that serve its model.
    pub samples: u32,
}

impl Spread {
    /// What half of those with this prediction stay below, in nanoseconds.
    pub const fn half_of(&self, predicted: u64) -> u64 {
        scale(predicted, self.half)
    }

    /// What 95 of 100 of those with this prediction stay below, in nanoseconds.
    pub const fn late_of(&self, predicted: u64) -> u64 {
        scale(predicted, self.late)
    }
}

/// `ratio` is in 1/1024.
pub(crate) const fn scale(predicted: u64, ratio: u32) -> u64 {
    let scaled = (predicted as u128 * ratio as u128) >> 10;
    if scaled > u64::MAX as u128 { u64::MAX } else { scaled as u64 }
}

/// How fast the tokens of an answer follow its first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Pace {
    /// The usual time for one, in nanoseconds; 0 when nothing is known.
    pub usual: u64,
    /// How far the times of answers are from it.
    pub spread: Spread,
}
