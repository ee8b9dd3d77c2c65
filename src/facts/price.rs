//! Money as integers.

use std::fmt;

/// What a backend charges, in pico-dollars (10⁻¹² USD) per token: $1 per million tokens is 1,000,000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Price {
    input: u64,
    output: u64,
}

/// A price that is negative, not finite, or over $1,000,000 per million tokens.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("a price of {0} USD per million tokens is not in 0..=1,000,000")]
pub struct InvalidPrice(f64);

impl Price {
    /// A price in USD per million input and output tokens, as price lists give it.
    ///
    /// # Errors
    ///
    /// [`InvalidPrice`] names the offending number.
    pub fn per_million(input_usd: f64, output_usd: f64) -> Result<Self, InvalidPrice> {
        let pico = |usd: f64| {
            if (0.0..=1e6).contains(&usd) { Ok((usd * 1e6).round() as u64) } else { Err(InvalidPrice(usd)) }
        };
        Ok(Self { input: pico(input_usd)?, output: pico(output_usd)? })
    }

    /// A price in pico-dollars per input and output token.
    pub const fn pico(input: u64, output: u64) -> Self {
        Self { input, output }
    }

    /// Pico-dollars per input token.
    pub const fn input(self) -> u64 {
        self.input
    }

    /// Pico-dollars per output token.
    pub const fn output(self) -> u64 {
        self.output
    }

    /// What a request of this many tokens costs, in pico-dollars; saturates.
    pub const fn of(self, input_tokens: u64, output_tokens: u64) -> u64 {
        self.input.saturating_mul(input_tokens).saturating_add(self.output.saturating_mul(output_tokens))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${} in, ${} out per million tokens", self.input as f64 / 1e6, self.output as f64 / 1e6)
    }
}
