//! [`Imprint`]: what a prompt left behind at its backend.

use crate::decision::Reason;
use crate::facts::{Facts, Prefix};
use crate::fleet::{Berth, Member};
use crate::prefix::Footprint;

/// What a prompt left behind at its backend, from its sending until its first item shows whether that was true.
#[derive(Debug)]
pub(super) struct Imprint {
    prefix: Prefix,
    footprint: Footprint,
    /// The tokens of the prompt, and those that are on the books.
    prompt: u64,
    charged: u64,
}

/// Predictions with and without what was kept are told apart by a measurement when they differ by this factor.
const CLEAR: u64 = 2;

impl Imprint {
    /// A prompt is sent, with so many of its tokens on the books. `None` where nothing of it is to be remembered.
    pub(super) fn leave(berth: &Berth, facts: &Facts, charged: u64) -> Option<Self> {
        let prefix = facts.prompt_prefix().filter(|prefix| prefix.blocks() > 0 && berth.prefix_cache > 0)?.clone();
        let footprint = berth.member.prefixes.sent(&prefix, berth.prefix_cache);
        Some(Self { prefix, footprint, prompt: facts.input_tokens(), charged })
    }

    /// The first item came after `ttft` nanoseconds behind `work` tokens, its own included. Where it would have come
    /// much sooner if the backend had what it was sent before, the index learns whether it had. Returns the work that it
    /// was, as far as one can tell.
    pub(super) fn answered(self, member: &Member, work: u64, ttft: u64) -> u64 {
        let latency = member.latency.read();
        let seen = self.prefix.tokens(self.footprint.seen as usize).min(self.prompt);
        let before = work.saturating_sub(self.charged);
        let (if_kept, if_gone) = (before.saturating_add(self.prompt - seen), before.saturating_add(self.prompt));
        let (soon, late) = (latency.predict(if_kept), latency.predict(if_gone));
        if seen == 0 || latency.samples == 0 || late / CLEAR < soon {
            return work;
        }
        let kept = ttft < soon + (late - soon) / 2;
        member.prefixes.learn(self.footprint, kept);
        // Or the next prompts would be predicted by a line that work makes no difference to.
        if kept { if_kept } else { if_gone }
    }

    /// No item came.
    pub(super) fn unanswered(self, member: &Member) {
        member.prefixes.not_answered(&self.prefix, self.footprint);
    }
}

/// Whether a backend that left for this reason may have lost what it kept: one that only asks for patience has not.
pub(super) const fn loses_memory(out: Reason) -> bool {
    matches!(
        out,
        Reason::Ejected { .. }
            | Reason::FailsOften { .. }
            | Reason::FailsMoreThanPeers { .. }
            | Reason::DomainOut { .. }
            | Reason::CoolingDown { .. }
            | Reason::OnProbation { .. }
    )
}
