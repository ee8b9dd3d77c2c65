//! [`Need`]: what a request takes of limits that count tokens.

use super::Facts;

/// What a request takes of limits that count tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Need {
    /// Of its prompt, what is to be worked through before the first item.
    pub(crate) prefill: u64,
    /// Prompt and expected answer.
    pub(crate) expected: u64,
    /// What it needs whatever happens: a guess excludes nobody.
    pub(crate) least: u64,
}

impl Need {
    #[inline]
    pub(crate) const fn of(facts: &Facts) -> Self {
        let prefill = facts.input_tokens();
        let expected = prefill.saturating_add(facts.expected_output_tokens());
        Self { prefill, expected, least: facts.context_tokens() }
    }

    /// What it takes where so many tokens of the prompt need no work: they are in memory all the same.
    #[inline]
    pub(crate) const fn without(self, cached: u64) -> Self {
        Self { prefill: self.prefill.saturating_sub(cached), ..self }
    }
}
