//! Money as integers.

use std::fmt;

/// What a backend charges, in pico-dollars (10⁻¹² USD) per token: $1 per million tokens is 1,000,000.
///
/// A price has one part for the prompt, one for what of the prompt the backend had in its cache, and one for the answer. It may
/// have tiers: [above](Self::above) so many prompt tokens the whole request costs another price. Costs are integers, they
/// saturate, and more tokens never cost less.
///
/// ```
/// use fallway::facts::Price;
/// let price = Price::per_million(1.25, 10.0)?.cached(0.125)?.above(200_000, Price::per_million(2.5, 15.0)?)?;
/// assert_eq!(price.of(1_000, 100), 2_250_000_000); // $0.00225
/// assert_eq!(price.of_cached(1_000, 800, 100), 1_350_000_000);
/// assert_eq!(price.of(200_001, 0), 200_001 * 2_500_000);
/// # Ok::<(), fallway::facts::InvalidPrice>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Price {
    input: u64,
    cached: u64,
    output: u64,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    tiers: Vec<Tier>,
}

/// What a request with a longer prompt costs.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
struct Tier {
    above: u64,
    #[cfg_attr(feature = "serde", serde(flatten))]
    price: Rates,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
struct Rates {
    input: u64,
    cached: u64,
    output: u64,
}

/// What is wrong with a price.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPrice {
    /// Negative, not finite, or over $1,000,000 per million tokens.
    #[error("a price of {0} USD per million tokens is not in 0..=1,000,000")]
    OutOfRange(f64),
    /// Tokens from a cache cost more than others.
    #[error("cached input costs more than input: {cached} over {input} pico-dollars per token")]
    CachedAboveInput {
        /// The price of cached input.
        cached: u64,
        /// The price of input.
        input: u64,
    },
    /// A tier does not begin above the one before it.
    #[error("a tier above {above} tokens follows one above {after}")]
    UnorderedTiers {
        /// Where it begins.
        above: u64,
        /// Where the one before it begins; 0 for the first price.
        after: u64,
    },
    /// A tier charges less than the one before it, so that a longer prompt could cost less than a shorter one.
    #[error("the tier above {above} tokens charges less than the one before it")]
    FallingTier {
        /// Where it begins.
        above: u64,
    },
    /// The price of a tier has tiers of its own.
    #[error("the price above {above} tokens has tiers of its own")]
    NestedTiers {
        /// Where it begins.
        above: u64,
    },
}

impl Price {
    /// A price in USD per million input and output tokens, as price lists give it.
    ///
    /// # Errors
    ///
    /// [`InvalidPrice::OutOfRange`] names the offending number.
    pub fn per_million(input_usd: f64, output_usd: f64) -> Result<Self, InvalidPrice> {
        Ok(Self::pico(pico(input_usd)?, pico(output_usd)?))
    }

    /// A price in pico-dollars per input and output token.
    pub const fn pico(input: u64, output: u64) -> Self {
        Self { input, cached: input, output, tiers: Vec::new() }
    }

    /// What input tokens cost that the backend had in its cache, in USD per million; default as others.
    ///
    /// # Errors
    ///
    /// [`InvalidPrice`], also where that is more than [`input`](Self::input).
    pub fn cached(self, usd: f64) -> Result<Self, InvalidPrice> {
        self.cached_pico(pico(usd)?)
    }

    /// As [`cached`](Self::cached), in pico-dollars per token.
    ///
    /// # Errors
    ///
    /// As [`cached`](Self::cached).
    pub fn cached_pico(mut self, cached: u64) -> Result<Self, InvalidPrice> {
        if cached > self.input {
            return Err(InvalidPrice::CachedAboveInput { cached, input: self.input });
        }
        self.cached = cached;
        self.check()
    }

    /// Another price for requests with more than so many prompt tokens, for all of their tokens. Tiers are given in
    /// ascending order.
    ///
    /// # Errors
    ///
    /// [`InvalidPrice`] where it does not begin above the tier before it, or is cheaper than that.
    pub fn above(mut self, tokens: u64, price: Self) -> Result<Self, InvalidPrice> {
        let after = self.tiers.last().map_or(0, |tier| tier.above);
        if tokens <= after {
            return Err(InvalidPrice::UnorderedTiers { above: tokens, after });
        }
        let Self { input, cached, output, tiers } = price;
        if !tiers.is_empty() {
            return Err(InvalidPrice::NestedTiers { above: tokens });
        }
        self.tiers.push(Tier { above: tokens, price: Rates { input, cached, output } });
        self.check()
    }

    /// More tokens must never cost less, or a bound on tokens would be none on costs.
    fn check(self) -> Result<Self, InvalidPrice> {
        let mut last = self.rates();
        for Tier { above, price } in &self.tiers {
            if price.input < last.input || price.cached < last.cached || price.output < last.output {
                return Err(InvalidPrice::FallingTier { above: *above });
            }
            last = *price;
        }
        Ok(self)
    }

    /// Pico-dollars per input token, of the first tier.
    pub const fn input(&self) -> u64 {
        self.input
    }

    /// Pico-dollars per input token that was in the cache, of the first tier.
    pub const fn cached_input(&self) -> u64 {
        self.cached
    }

    /// Pico-dollars per output token, of the first tier.
    pub const fn output(&self) -> u64 {
        self.output
    }

    /// The price of a prompt of so many tokens, without tiers.
    pub fn at(&self, prompt_tokens: u64) -> Self {
        self.rates_at(prompt_tokens).into()
    }

    /// The number of prompt tokens above which each price holds, the first with 0, and these prices.
    pub fn tiers(&self) -> impl Iterator<Item = (u64, Self)> {
        let first = std::iter::once((0, self.rates().into()));
        first.chain(self.tiers.iter().map(|tier| (tier.above, tier.price.into())))
    }

    /// What a request of this many tokens costs of which nothing is cached, in pico-dollars; saturates.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        self.of_cached(input_tokens, 0, output_tokens)
    }

    /// What a request costs of whose input tokens so many were cached, in pico-dollars; saturates.
    pub fn of_cached(&self, input_tokens: u64, cached_tokens: u64, output_tokens: u64) -> u64 {
        let Rates { input, cached, output } = self.rates_at(input_tokens);
        let hit = cached_tokens.min(input_tokens);
        let cost = |price: u64, tokens: u64| u128::from(price) * u128::from(tokens);
        let sum = cost(input, input_tokens - hit).saturating_add(cost(cached, hit));
        u64::try_from(sum.saturating_add(cost(output, output_tokens))).unwrap_or(u64::MAX)
    }

    const fn rates(&self) -> Rates {
        Rates { input: self.input, cached: self.cached, output: self.output }
    }

    fn rates_at(&self, prompt_tokens: u64) -> Rates {
        let tier = self.tiers.iter().rev().find(|tier| prompt_tokens > tier.above);
        tier.map_or_else(|| self.rates(), |tier| tier.price)
    }
}

impl From<Rates> for Price {
    fn from(Rates { input, cached, output }: Rates) -> Self {
        Self { input, cached, output, tiers: Vec::new() }
    }
}

fn pico(usd: f64) -> Result<u64, InvalidPrice> {
    if (0.0..=1e6).contains(&usd) { Ok((usd * 1e6).round() as u64) } else { Err(InvalidPrice::OutOfRange(usd)) }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usd = |pico: u64| pico as f64 / 1e6;
        for (above, price) in self.tiers() {
            if above > 0 {
                write!(f, "; above {above} tokens ")?;
            }
            write!(f, "${} in", usd(price.input))?;
            if price.cached < price.input {
                write!(f, " (${} cached)", usd(price.cached))?;
            }
            write!(f, ", ${} out", usd(price.output))?;
        }
        f.write_str(" per million tokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let ten = || Price::pico(10, 20);
        assert_eq!(ten().cached_pico(11), Err(InvalidPrice::CachedAboveInput { cached: 11, input: 10 }));
        for tokens in [0, 5] {
            let twice = ten().above(5, Price::pico(11, 21)).unwrap().above(tokens, Price::pico(12, 22));
            assert_eq!(twice, Err(InvalidPrice::UnorderedTiers { above: tokens, after: 5 }));
        }
        for (input, output) in [(9, 20), (10, 19)] {
            assert_eq!(ten().above(5, Price::pico(input, output)), Err(InvalidPrice::FallingTier { above: 5 }));
        }
        let cheap = Price::pico(10, 20).cached_pico(1).unwrap();
        assert_eq!(ten().above(5, cheap.clone()), Err(InvalidPrice::FallingTier { above: 5 }));
        assert!(cheap.above(5, ten()).is_ok(), "a tier that says nothing of the cache has no discount");
        let nested = ten().above(5, ten()).unwrap();
        assert_eq!(ten().above(5, nested), Err(InvalidPrice::NestedTiers { above: 5 }));
        for usd in [f64::NAN, -1e-9, f64::INFINITY, 1_000_001.0] {
            assert!(ten().cached(usd).is_err() && Price::per_million(usd, 1.0).is_err(), "{usd}");
        }
    }

    #[test]
    fn it_prints_as_price_lists_do() {
        let price = Price::per_million(1.25, 10.0).unwrap();
        assert_eq!(price.to_string(), "$1.25 in, $10 out per million tokens");
        let rich = price.cached(0.125).unwrap().above(200_000, Price::per_million(2.5, 15.0).unwrap()).unwrap();
        let text = "$1.25 in ($0.125 cached), $10 out; above 200000 tokens $2.5 in, $15 out per million tokens";
        assert_eq!(rich.to_string(), text);
    }

    prop_compose! {
        fn prices()(steps in prop::collection::vec((1u64..1_000, 0u64..1 << 40, 0u64..1 << 40), 1..5), share in 0u64..=4) -> Price {
            let (mut above, mut input, mut output) = (0, 0, 0);
            let mut price: Option<Price> = None;
            for (tokens, more_in, more_out) in steps {
                (input, output) = (input + more_in, output + more_out);
                let tier = Price::pico(input, output).cached_pico(input / 4 * share).unwrap();
                price = Some(match price {
                    None => tier,
                    Some(price) => {
                        above += tokens;
                        price.above(above, tier).unwrap()
                    }
                });
            }
            price.unwrap()
        }
    }

    proptest! {
        #[test]
        fn more_tokens_never_cost_less(price in prices(), a in 0u64..5_000, b in 0u64..5_000, c in 0u64..5_000, more in 0u64..5_000) {
            let cost = price.of_cached(a, b, c);
            prop_assert!(price.of_cached(a + more, b, c) >= cost);
            prop_assert!(price.of_cached(a, b, c + more) >= cost);
            prop_assert!(price.of_cached(a, b + more, c) <= cost);
            prop_assert!(price.of(a, c) >= cost);
            // As who adds it up by hand.
            let (_, at) = price.tiers().filter(|(above, _)| *above == 0 || a > *above).last().unwrap();
            let hit = b.min(a);
            prop_assert_eq!(cost, (a - hit) * at.input() + hit * at.cached_input() + c * at.output());
            prop_assert_eq!(price.at(a), at);
        }

        #[test]
        fn costs_saturate(input: u64, output: u64, a: u64, b: u64) {
            let exact = u128::from(input) * u128::from(a);
            let exact = exact.saturating_add(u128::from(output) * u128::from(b)).min(u64::MAX.into());
            prop_assert_eq!(u128::from(Price::pico(input, output).of(a, b)), exact);
        }
    }
}
