//! [`Usage`]: the tokens of an answer, as its backend counted them.

/// The tokens of a prompt and its answer, as the backend states them. Nothing is checked here: what is negative or absurd is
/// not believed when it is [reported](super::Attempt::used).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    prompt: i64,
    output: i64,
}

impl Usage {
    /// So many tokens of the prompt and of the answer: `usage.prompt_tokens` and `usage.completion_tokens` of an
    /// OpenAI-style answer.
    pub const fn new(prompt: i64, output: i64) -> Self {
        Self { prompt, output }
    }

    /// Tokens of the prompt.
    pub const fn prompt_tokens(self) -> i64 {
        self.prompt
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
