//! What a version charges, as far as anybody knows.

use crate::facts::Price;

/// Prices by length of the prompt, or the admission that nobody knows.
///
/// *Why not zero for unknown?* A router that takes unknown for free prefers what it knows nothing of, and a cap on
/// costs lets it through.
///
/// ```
/// use fallway::facts::Price;
/// use fallway::registry::Pricing;
/// let price = Pricing::flat(Price::pico(1_250_000, 10_000_000)).above(200_000, Price::pico(2_500_000, 15_000_000));
/// assert_eq!(price.at(200_000), Some(Price::pico(1_250_000, 10_000_000)));
/// assert_eq!(price.at(200_001), Some(Price::pico(2_500_000, 15_000_000)));
/// assert_eq!(Pricing::Unknown.at(1), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Pricing {
    /// Nobody knows. Never counted as zero.
    #[default]
    Unknown,
    /// Each price with the number of prompt tokens above which it holds, the first with 0.
    Known(Vec<(u64, Price)>),
}

impl Pricing {
    /// One price for every prompt.
    pub fn flat(price: Price) -> Self {
        Self::Known(vec![(0, price)])
    }

    /// Another price for prompts of more than so many tokens. Tiers are given in ascending order.
    #[must_use]
    pub fn above(self, tokens: u64, price: Price) -> Self {
        let mut tiers = match self {
            Self::Known(tiers) => tiers,
            Self::Unknown => Vec::new(),
        };
        tiers.push((tokens, price));
        Self::Known(tiers)
    }

    /// The price for a prompt of so many tokens.
    pub fn at(&self, prompt_tokens: u64) -> Option<Price> {
        let tiers = self.tiers();
        tiers.iter().rev().find(|(above, _)| *above == 0 || prompt_tokens > *above).map(|(_, price)| *price)
    }

    /// The tiers; none where the price is unknown.
    pub fn tiers(&self) -> &[(u64, Price)] {
        match self {
            Self::Known(tiers) => tiers,
            Self::Unknown => &[],
        }
    }
}

impl From<Price> for Pricing {
    fn from(price: Price) -> Self {
        Self::flat(price)
    }
}
