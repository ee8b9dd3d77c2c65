//! [`TokenLoad`]: what is in flight to a backend that bounds it in tokens.

use super::Reason;
use crate::facts::Need;

/// What is in flight to a backend that bounds it in tokens, as a request finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TokenLoad {
    /// Prompts that wait for their first item.
    pub(crate) prefill: Filled,
    /// Prompts and expected answers of all calls.
    pub(crate) total: Filled,
    /// What is free is promised to one that waits and comes before this request.
    pub(crate) promised: bool,
}

/// How much of a bound is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Filled {
    pub(crate) taken: u64,
    /// `u64::MAX` for none.
    pub(crate) bound: u64,
}

impl Default for TokenLoad {
    /// That of a backend that bounds nothing.
    fn default() -> Self {
        Self { prefill: Filled::UNBOUNDED, total: Filled::UNBOUNDED, promised: false }
    }
}

impl TokenLoad {
    pub(crate) const fn is_bounded(&self) -> bool {
        self.prefill.is_bounded() || self.total.is_bounded()
    }

    /// The bound that the request exceeds, whatever is free.
    pub(crate) fn too_small(&self, need: Need) -> Option<Reason> {
        [(need.prefill, self.prefill.bound), (need.least, self.total.bound)]
            .into_iter()
            .find(|(tokens, bound)| tokens > bound)
            .map(|(tokens, limit)| Reason::TokenBoundTooSmall { tokens, limit })
    }

    /// Why the request may not start now, if it may not.
    pub(crate) fn full(&self, need: Need) -> Option<Reason> {
        let full = |filled: Filled, asked: u64| {
            let free = if self.promised { 0 } else { filled.bound.saturating_sub(filled.taken) };
            (filled.is_bounded() && asked > free).then_some((asked, free))
        };
        full(self.prefill, need.prefill)
            .map(|(asked, free)| Reason::PrefillFull { asked, free })
            .or_else(|| full(self.total, self.of_total(need)).map(|(asked, free)| Reason::TokensFull { asked, free }))
    }

    /// How full it is with the request, in thousandths of the bound that is nearer to its end; 0 where it would be alone:
    /// one call is for everybody.
    pub(crate) fn fill(&self, need: Need) -> u32 {
        self.prefill.with(need.prefill).max(self.total.with(self.of_total(need)))
    }

    /// What the request takes of the total: all of it where its answer is guessed to be longer.
    pub(crate) fn of_total(&self, need: Need) -> u64 {
        if self.total.is_bounded() { need.expected.min(self.total.bound) } else { 0 }
    }
}

impl Filled {
    const UNBOUNDED: Self = Self { taken: 0, bound: u64::MAX };

    const fn is_bounded(&self) -> bool {
        self.bound != u64::MAX
    }

    /// Rounded up, so that it is above a share wherever the tokens are.
    fn with(&self, asked: u64) -> u32 {
        if !self.is_bounded() || asked == 0 || (self.taken == 0 && asked <= self.bound) {
            return 0;
        }
        let after = (u128::from(self.taken) + u128::from(asked)) * 1000;
        u32::try_from(after.div_ceil(u128::from(self.bound.max(1)))).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn need(prefill: u64, expected: u64) -> Need {
        Need { prefill, expected, least: prefill }
    }

    fn load(prefill: (u64, u64), total: (u64, u64)) -> TokenLoad {
        let filled = |(taken, bound)| Filled { taken, bound };
        TokenLoad { prefill: filled(prefill), total: filled(total), promised: false }
    }

    #[test]
    fn it_is_full_to_the_token() {
        let full = load((60, 100), (700, 1_000));
        assert_eq!(full.full(need(40, 300)), None);
        assert_eq!(full.full(need(41, 301)), Some(Reason::PrefillFull { asked: 41, free: 40 }));
        assert_eq!(full.full(need(40, 301)), Some(Reason::TokensFull { asked: 301, free: 300 }));
        assert_eq!((full.fill(need(40, 300)), full.fill(need(40, 301))), (1_000, 1_001));
        let promised = TokenLoad { promised: true, ..full };
        assert_eq!(promised.full(need(0, 1)), Some(Reason::TokensFull { asked: 1, free: 0 }));
        let unbounded = TokenLoad { promised: true, ..TokenLoad::default() };
        assert_eq!((unbounded.full(need(9, u64::MAX)), unbounded.fill(need(9, u64::MAX))), (None, 0));
    }

    #[test]
    fn a_guess_excludes_nobody_and_a_fact_does() {
        let idle = load((0, 100), (0, 1_000));
        // Its answer is guessed to be longer than all: then it takes all.
        assert_eq!((idle.too_small(need(100, 5_000)), idle.full(need(100, 5_000))), (None, None));
        assert_eq!((idle.of_total(need(100, 5_000)), idle.fill(need(100, 5_000))), (1_000, 0));
        assert_eq!(idle.too_small(need(101, 101)), Some(Reason::TokenBoundTooSmall { tokens: 101, limit: 100 }));
        let stated = Need { least: 1_001, ..need(100, 1_001) };
        assert_eq!(idle.too_small(stated), Some(Reason::TokenBoundTooSmall { tokens: 1_001, limit: 1_000 }));
        assert_eq!(load((0, 100), (1, 1_000)).fill(need(100, 5_000)), 1_001);
    }
}
