//! Bounds of the tokens in flight.

use super::super::Server;
use super::Plan;
use crate::facts::{Facts, Need};

impl Plan {
    /// What its requests say that they need.
    fn needs(&self) -> impl Iterator<Item = Need> {
        let most = self.money.map(|_| self.longest_answer());
        self.lengths.iter().map(move |(prompt, _)| {
            let facts = Facts::any().prompt_tokens((*prompt).into());
            Need::of(&most.into_iter().fold(facts, Facts::max_output_tokens))
        })
    }

    /// Gives a server bounds of so many times what the largest request needs.
    pub(super) fn bound(&self, server: &mut Server, prefill: Option<f64>, total: Option<f64>) {
        let (most, least) = self.needs().fold((Need::default(), 1), |(most, least), need| {
            let (prefill, expected) = (most.prefill.max(need.prefill), most.expected.max(need.expected));
            (Need { prefill, expected, least: 0 }, least.max(need.least))
        });
        let times = |tokens: u64, times: f64| (tokens as f64 * times).round() as u64;
        // What is guessed of an answer may be more than there may be.
        let total = total.map(|share| times(most.expected, share).max(least));
        let prefill = prefill.map(|share| times(most.prefill, share).max(most.prefill));
        server.token_bounds = (prefill.map(|bound| bound.min(total.unwrap_or(bound))), total);
    }

    /// How many of its largest requests a server takes at once.
    pub(super) fn slots(&self, server: &Server) -> Option<u32> {
        let fit = |bound: Option<u64>, need: fn(&Need) -> u64| {
            let most = self.needs().map(|it| need(&it)).max().unwrap_or(1).max(1);
            bound.map(|bound| u32::try_from(bound / most).unwrap_or(u32::MAX).max(1))
        };
        let (prefill, total) = server.token_bounds;
        [server.limit, fit(prefill, |need| need.prefill), fit(total, |need| need.expected)].into_iter().flatten().min()
    }
}
