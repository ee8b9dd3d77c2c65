//! [`Quote`]: what an attempt was to cost, and what it did.

use crate::backend::{Billed, Usage};
use crate::bug;
use crate::decision::{Cost, Ending, Tokens};
use crate::facts::{Facts, Price};

/// What was expected of an attempt when it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    input: u64,
    output: u64,
    /// What it costs at most, in pico-dollars; `None` where the price is not known.
    pub(super) most: Option<u64>,
}

impl Quote {
    /// `carried`: tokens of the answer so far that it sends along.
    pub(super) fn of(facts: &Facts, price: Option<&Price>, carried: u64) -> Self {
        Self {
            input: facts.input_tokens().saturating_add(carried),
            output: facts.expected_output_tokens(),
            most: price.map(|price| facts.most_cost(price, carried)),
        }
    }

    /// What the attempt used and cost that ended so. `told`: what its backend said last; `began`: its answer did, and so much
    /// `content` came of it.
    pub(super) fn receipt(
        &self,
        price: Option<&Price>,
        told: Option<Usage>,
        ending: Ending,
        began: bool,
        content: u64,
    ) -> (Tokens, Cost) {
        let free = match ending {
            // What says so after the answer began, as events in streams do, is too late: that was billed.
            Ending::Failed { kind } => kind.conduct().billed == Billed::No && !began && told.is_none(),
            Ending::Abandoned => bug::ABANDONED_NOT_BOOKED,
            Ending::Answering | Ending::Answered | Ending::Outrun => false,
        };
        if free {
            return (Tokens::default(), Cost::Nothing);
        }
        let tokens = match told {
            Some(usage) => tokens_of(usage),
            None => {
                let whole = ending == Ending::Answered && content == 0;
                let output = if whole { self.output } else { content };
                Tokens { input: self.input, cached: 0, output, told: false }
            }
        };
        let (Some(price), Some(most)) = (price, self.most) else { return (tokens, Cost::Unknown) };
        let cost = price.of_cached(tokens.input, tokens.cached, tokens.output);
        // Usage that was told before an answer broke is that of its beginning.
        let cost = match ending {
            Ending::Answered if tokens.told => Cost::Known(cost),
            _ => Cost::Possible(cost.max(most)),
        };
        (tokens, cost)
    }
}

fn tokens_of(usage: Usage) -> Tokens {
    let count = |tokens: i64| u64::try_from(tokens).unwrap_or(0);
    let input = count(usage.prompt_tokens());
    let (cached, output) = (count(usage.cached_tokens()).min(input), count(usage.output_tokens()));
    Tokens { input, cached, output, told: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::FailureKind;

    fn price() -> Price {
        Price::pico(10, 100).cached_pico(1).unwrap()
    }

    fn quote(facts: &Facts) -> Quote {
        Quote::of(facts, Some(&price()), 0)
    }

    fn facts() -> Facts {
        Facts::any().prompt_tokens(50).output_tokens(20).max_output_tokens(40)
    }

    /// The most: 50 × 10 + 40 × 100.
    const MOST: u64 = 4_500;

    #[test]
    fn a_whole_answer_costs_what_its_backend_tells() {
        let usage = Usage::new(50, 7).cached(30);
        let (tokens, cost) = quote(&facts()).receipt(Some(&price()), Some(usage), Ending::Answered, true, 9);
        assert_eq!(tokens, Tokens { input: 50, cached: 30, output: 7, told: true });
        assert_eq!(cost, Cost::Known(20 * 10 + 30 + 700));
        // Nobody told: it may be anything up to the longest answer.
        let (tokens, cost) = quote(&facts()).receipt(Some(&price()), None, Ending::Answered, true, 0);
        assert_eq!((tokens, cost), (Tokens { input: 50, output: 20, ..Tokens::default() }, Cost::Possible(MOST)));
        let (tokens, _) = quote(&facts()).receipt(Some(&price()), None, Ending::Answered, true, 9);
        assert_eq!(tokens.output, 9, "what came of a stream was counted");
    }

    #[test]
    fn every_failure_costs_what_its_conduct_says() {
        for kind in FailureKind::ALL {
            let ending = Ending::Failed { kind };
            let (tokens, cost) = quote(&facts()).receipt(Some(&price()), None, ending, false, 0);
            if kind.conduct().billed == Billed::No {
                assert_eq!((tokens, cost), (Tokens::default(), Cost::Nothing), "{kind}");
            } else {
                assert_eq!((tokens.input, cost), (50, Cost::Possible(MOST)), "{kind}");
            }
            // In the middle of an answer, or after usage was told, nothing is free.
            for (told, began) in [(None, true), (Some(Usage::new(50, 1)), false)] {
                let (_, cost) = quote(&facts()).receipt(Some(&price()), told, ending, began, 3);
                assert_eq!(cost, Cost::Possible(MOST), "{kind}");
            }
        }
    }

    #[test]
    fn what_was_given_up_may_have_cost_all_of_it_and_more_where_more_was_seen() {
        let abandoned =
            |content| quote(&facts()).receipt(Some(&price()), None, Ending::Abandoned, content > 0, content).1;
        assert_eq!(abandoned(0), Cost::Possible(MOST));
        assert_eq!(abandoned(41), Cost::Possible(MOST + 100));
        // What goes on with 41 tokens sends them along.
        assert_eq!(Quote::of(&facts(), Some(&price()), 41).most, Some(MOST + 410));
    }

    #[test]
    fn without_a_price_nobody_knows_and_nothing_is_still_nothing() {
        let quote = Quote::of(&facts(), None, 0);
        let failed = |kind| quote.receipt(None, None, Ending::Failed { kind }, false, 0).1;
        assert_eq!(quote.receipt(None, Some(Usage::new(1, 1)), Ending::Answered, true, 0).1, Cost::Unknown);
        assert_eq!((failed(FailureKind::Timeout), failed(FailureKind::Overloaded)), (Cost::Unknown, Cost::Nothing));
    }
}
