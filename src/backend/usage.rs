//! [`Usage`]: the tokens of an answer, as its backend counted them.

/// The tokens of a prompt and its answer, as the backend states them. Nothing is checked here: what is negative or absurd is
/// not believed when it is [reported](super::Attempt::used).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    prompt: i64,
    cached: i64,
    output: i64,
}

impl Usage {
    /// So many tokens of the prompt and of the answer: `usage.prompt_tokens` and `usage.completion_tokens` of an
    /// OpenAI-style answer.
    pub const fn new(prompt: i64, output: i64) -> Self {
        Self { prompt, cached: 0, output }
    }

    /// So many tokens of the prompt were in the backend's cache: `usage.prompt_tokens_details.cached_tokens`. Where a provider
    /// counts them beside the others, as Anthropic does, add them to those of the prompt.
    #[must_use]
    pub const fn cached(mut self, tokens: i64) -> Self {
        self.cached = tokens;
        self
    }

    /// Tokens of the prompt.
    pub const fn prompt_tokens(self) -> i64 {
        self.prompt
    }

    /// Tokens of the prompt that were in the backend's cache.
    pub const fn cached_tokens(self) -> i64 {
        self.cached
    }

    /// Tokens of the answer.
    pub const fn output_tokens(self) -> i64 {
        self.output
    }

    /// Both together; `None` where one of them is negative.
    pub const fn total(self) -> Option<u64> {
        if self.prompt < 0 || self.output < 0 {
            return None;
        }
        Some(self.prompt as u64 + self.output as u64)
    }
}
