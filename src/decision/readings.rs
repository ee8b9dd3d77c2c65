//! What is read of a candidate: its load, and what was learned of its latency.

use crate::time::Instant;

/// How loaded a backend was when it was looked at, as this router sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Load {
    /// Calls in flight.
    pub in_flight: u32,
    /// The most that may be, as far as that was [learned](crate::facts::Adaptive); `None` where nothing was.
    pub learned_limit: Option<u32>,
    /// Prompt tokens of calls that wait for their first item.
    pub waiting_tokens: u64,
    /// Prompt tokens of others that wait there as well: what the backend's own
    /// [report](crate::router::Builder::load_reports) of its queue makes probable.
    pub others_tokens: u64,
    /// Whether a canary is on its way to it.
    pub canary_out: bool,
    /// Whether it was not called for so long that what is known of it may be wrong.
    pub stale: bool,
    // The origin of time stands for "never": plain words make the leaves' comparisons free of branches.
    pub(crate) oldest_wait: Instant,
    pub(crate) last_called: Instant,
    /// When its quotas have enough for this request; the origin of time for now.
    pub(crate) over_quota_until: Instant,
}

impl Load {
    /// Prompt tokens that stand before a newcomer.
    pub(crate) const fn queued_tokens(&self) -> u64 {
        self.waiting_tokens.saturating_add(self.others_tokens)
    }

    /// When the oldest call that still waits for its first item was sent.
    pub fn oldest_wait(&self) -> Option<Instant> {
        (self.oldest_wait != Instant::default()).then_some(self.oldest_wait)
    }

    /// When it was called last.
    pub fn last_called(&self) -> Option<Instant> {
        (self.last_called != Instant::default()).then_some(self.last_called)
    }

    /// For how long the oldest call waits for its first item, in nanoseconds; 0 when none does.
    pub(crate) fn age(&self, now: Instant) -> u64 {
        if self.oldest_wait == Instant::default() { 0 } else { now.nanos_since(self.oldest_wait) }
    }
}

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
    /// Samples behind it; 0 means that nothing is known.
    pub samples: u32,
}

impl Latency {
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
