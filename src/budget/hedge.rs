//! Hedging: when a second attempt is sent beside one that is slow to begin, and how many there may be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When a request that waits for its answer to begin is sent to another backend as well. The first of the two that begins
/// to answer wins, and the other is dropped.
///
/// *Why not a retry?* A retry waits for a failure, and what is merely slow does not fail for a long time. Where one
/// execution in fifty takes eight times as long, nobody waits for it who asks twice in one case of twenty: Dean and
/// Barroso, *The Tail at Scale* (CACM, 2013).
///
/// One number says both when and how often: of the requests the `share` whose first tokens are the slowest is hedged, once
/// each, and no more than that share of all.
///
/// A policy puts it on the slate ([`Slate::hedge`](crate::policy::Slate::hedge)); without that nothing is hedged. Whatever
/// it says, hedged is only a request that is [replay safe](crate::Facts::replay_safe), for it may be executed twice;
/// never after its answer began; within the attempts, the shared [`RetryBudget`](super::RetryBudget) and the deadline of the
/// request; not while the fleet has too much to do; and at another backend that the same policies choose, outside of the
/// [failure domain](crate::Profile::failure_domain) of the first where it names one. Where that cannot be, the
/// first attempt goes on alone as if nothing had been asked.
///
/// ```
/// use fallway::budget::Hedge;
/// use std::time::Duration;
/// let usual = Hedge::default(); // beyond the 95th percentile, for 5 % of the requests
/// let rare = Hedge::of(0.01)?.most_tokens(2_000);
/// let fixed = Hedge::default().after(Duration::from_millis(800));
/// # let _ = (usual, rare, fixed);
/// # Ok::<(), fallway::budget::InvalidHedge>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hedge {
    /// In millionths.
    share: u32,
    after: Option<Duration>,
    most_tokens: u64,
}

/// A share of hedged requests that is not in `0.001..=0.5`, or not a number.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("a hedged share of {0} is not in 0.001..=0.5")]
pub struct InvalidHedge(f64);

impl Hedge {
    /// The default share of requests that are hedged: one in twenty, as in *The Tail at Scale*.
    pub const SHARE: f64 = 0.05;
    /// Before so many first items, of a backend or of all that serve its model where it has a few, nothing is known of its
    /// slowest.
    pub const WARM_UP: u32 = 20;
    /// Requests with more tokens, of prompt and expected answer, are not hedged by default: what is thrown away is too dear.
    pub const MOST_TOKENS: u64 = 8_192;
    /// How many hedges a router may save up.
    pub const SAVED: u32 = 10;

    /// Hedges this share of the requests.
    ///
    /// # Errors
    ///
    /// [`InvalidHedge`] when it is not in `0.001..=0.5`.
    pub fn of(share: f64) -> Result<Self, InvalidHedge> {
        if !(0.001..=0.5).contains(&share) {
            return Err(InvalidHedge(share));
        }
        let share = (share * f64::from(HEDGE)).round() as u32;
        Ok(Self { share, after: None, most_tokens: Self::MOST_TOKENS })
    }

    /// Hedges after this time, whatever is usual, instead of after the time within which all but the share begin to answer.
    /// The share still bounds how many.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self
    }

    /// Hedges requests of up to so many tokens, of prompt and expected answer.
    #[must_use]
    pub const fn most_tokens(mut self, tokens: u64) -> Self {
        self.most_tokens = tokens;
        self
    }

    pub(crate) const fn delay(&self) -> Option<Duration> {
        self.after
    }

    pub(crate) const fn token_ceiling(&self) -> u64 {
        self.most_tokens
    }

    /// How many first tokens come before it is time, in thousandths.
    pub(crate) const fn quantile(&self) -> u32 {
        1000 - self.share / (HEDGE / 1000)
    }
}

impl Default for Hedge {
    fn default() -> Self {
        Self::of(Self::SHARE).expect("the default share is in range")
    }
}

/// A hedge, in the unit of the account.
const HEDGE: u32 = 1_000_000;

/// What of their share the requests of a router have not used yet: each pays its part of a hedge in, and a hedge takes
/// a whole one out. So there are never more than the share of all requests so far; and after a quiet time no more than
/// [`Hedge::SAVED`] at once.
///
/// Not a window as the retry budget's: of a router that sees few requests a window would never see enough for one hedge.
#[derive(Debug, Default)]
pub(crate) struct Savings(AtomicU64);

impl Savings {
    /// A request that may be hedged comes.
    pub(crate) fn deposit(&self, hedge: &Hedge) {
        const FULL: u64 = Hedge::SAVED as u64 * HEDGE as u64;
        let add = |saved| (saved < FULL).then(|| FULL.min(saved + u64::from(hedge.share)));
        // Full is as good as paid in.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes a hedge out; `false` where there is none.
    pub(crate) fn withdraw(&self) -> bool {
        let take = |saved: u64| saved.checked_sub(HEDGE.into());
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives a hedge back that was not made.
    pub(crate) fn refund(&self) {
        self.0.fetch_add(HEDGE.into(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_exact_and_never_ahead() {
        for percent in 1..=50u32 {
            let (hedge, savings, mut made) = (Hedge::of(f64::from(percent) / 100.0).unwrap(), Savings::default(), 0);
            for request in 1..=10_000 {
                savings.deposit(&hedge);
                made += u32::from(savings.withdraw());
                assert!(made * 100 <= percent * request);
            }
            assert_eq!(made, percent * 100);
        }
    }

    #[test]
    fn little_is_saved_and_what_is_not_made_comes_back() {
        let (hedge, savings) = (Hedge::default(), Savings::default());
        assert!(!savings.withdraw());
        (0..10_000).for_each(|_| savings.deposit(&hedge));
        assert_eq!((0..100).filter(|_| savings.withdraw()).count(), 10);
        savings.refund();
        assert!(savings.withdraw() && !savings.withdraw());
    }

    #[test]
    fn nonsense_is_refused() {
        for share in [f64::NAN, 0.0, -0.05, 0.000_1, 0.51, f64::INFINITY] {
            assert!(Hedge::of(share).is_err());
        }
        assert_eq!([0.05, 0.001, 0.5].map(|share| Hedge::of(share).unwrap().quantile()), [950, 999, 500]);
    }
}
