//! [`Bulkheads`]: who may have how many calls in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Divides the calls that a router may have in flight, among tenants or among routes.
///
/// Of a *whole* of calls, each name has a [`Share`]: so many that nobody else can take, and so many at most. What is not
/// kept for anybody is there for all, up to their maxima. A request beyond that waits in the
/// [queue](https://docs.rs/fallway/latest/fallway/router/struct.Builder.html#method.queue) for the next call of its own to end, or for one of what is there for all.
///
/// Whoever is not named has a share like any other that is not, up to [`CELLS`](Self::CELLS) of them: names are
/// counted in so many cells, by a hash that callers do not know, so a million names cost no memory. Two names that fall
/// into one cell have one share together.
///
/// ```
/// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::{FailSafe, PolicyExt, predicted_ttft}};
/// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
/// use fallway::limit::{Bulkheads, Share};
///
/// // Two backends take 64 calls each. 40 of the 128 are always there for `search`, 20 for `reports`, of which others
/// // may use 15 while they are idle. Any other tenant has 30 at most.
/// let tenants = Bulkheads::of(128, Share::at_most(30))
///     .share("search", Share::at_least(40))
///     .share("reports", Share::at_least(20).lends(15).up_to(60));
/// let router = Router::builder(predicted_ttft().fail_safe(FailSafe::default()))
///     .backend(Profile::new("a").concurrency(64), model())
///     .backend(Profile::new("b").concurrency(64), model())
///     .tenant_bulkheads(tenants)
///     .build()?;
/// assert_eq!(router.tenant_in_flight("search"), Some(0));
/// # Ok::<(), fallway::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bulkheads {
    pub(super) total: u32,
    pub(super) shares: BTreeMap<Arc<str>, Share>,
    pub(super) others: Share,
    /// A name that was given two shares.
    twice: Option<Arc<str>>,
}

/// What one tenant or one route has of a whole: how many calls in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    pub(super) least: u32,
    pub(super) most: u32,
    pub(super) lent: u32,
}

/// What is wrong with bulkheads; names the offender.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBulkheads {
    /// The whole is zero.
    #[error("bulkheads over no calls at all would refuse every request")]
    ZeroTotal,
    /// A share is zero. To serve nobody of a name, leave it out of [`Profile::only_tenants`](crate::Profile::only_tenants).
    #[error("the share of {name:?} is zero")]
    ZeroShare {
        /// Whose; empty for those that are not named.
        name: String,
    },
    /// A name has two shares.
    #[error("{name:?} is given two shares")]
    NamedTwice {
        /// Whose.
        name: String,
    },
    /// A guarantee above the maximum.
    #[error("{name:?} has at least {least} and at most {most}")]
    LeastAboveMost {
        /// Whose.
        name: String,
        /// The guarantee.
        least: u32,
        /// The maximum.
        most: u32,
    },
    /// More is lent than is guaranteed.
    #[error("{name:?} lends {lent} of {least}")]
    LendsTooMuch {
        /// Whose.
        name: String,
        /// What is lent.
        lent: u32,
        /// The guarantee.
        least: u32,
    },
    /// The guarantees are more than there is.
    #[error("the shares guarantee {sum} of {total}")]
    AboveTotal {
        /// The guarantees together.
        sum: u64,
        /// The whole.
        total: u32,
    },
    /// A guarantee for all that are not named: nobody knows how many they are.
    #[error("what is not named can not be guaranteed {least} each")]
    GuaranteedToAll {
        /// The guarantee.
        least: u32,
    },
    /// The whole is more than the backends take together, so its guarantees are worth nothing.
    #[error("shares of {total} calls, but the backends take {fleet} together")]
    AboveFleet {
        /// The whole.
        total: u32,
        /// The sum of the concurrency limits.
        fleet: u64,
    },
}

impl Share {
    /// A guarantee: so many calls are always there for it, and more where there is room.
    pub const fn at_least(calls: u32) -> Self {
        Self { least: calls, most: u32::MAX, lent: 0 }
    }

    /// No guarantee, and no more than so many calls.
    pub const fn at_most(calls: u32) -> Self {
        Self { least: 0, most: calls, lent: 0 }
    }

    /// No more than so many calls.
    #[must_use]
    pub const fn up_to(mut self, calls: u32) -> Self {
        self.most = calls;
        self
    }

    /// So many of its guarantee may be used by others while they are idle. It gets them back as calls end, before any
    /// other that waits; what it does not lend is there at once. Default none.
    #[must_use]
    pub const fn lends(mut self, calls: u32) -> Self {
        self.lent = calls;
        self
    }

    /// What nobody else can take.
    pub(super) const fn kept(self) -> u32 {
        self.least - self.lent
    }
}

impl Bulkheads {
    /// How many cells count those that are not named. With a hundred of them at a time, one in eleven shares its cell with
    /// another.
    pub const CELLS: usize = 1024;

    /// Divides `total` calls, no more than the backends take together. `others`: what each has that is not named; it
    /// guarantees nothing.
    pub const fn of(total: u32, others: Share) -> Self {
        Self { total, shares: BTreeMap::new(), others, twice: None }
    }

    /// The share of a tenant, or of the route of requests for a model or an alias.
    #[must_use]
    pub fn share(mut self, name: impl Into<Arc<str>>, share: Share) -> Self {
        let name = name.into();
        if self.shares.insert(name.clone(), share).is_some() {
            self.twice = Some(name);
        }
        self
    }

    /// `fleet`: what the backends take together, where that is known.
    pub(crate) fn check(&self, fleet: Option<u64>) -> Result<(), InvalidBulkheads> {
        let Self { total, ref shares, others, ref twice } = *self;
        if total == 0 {
            return Err(InvalidBulkheads::ZeroTotal);
        }
        if let Some(name) = twice {
            return Err(InvalidBulkheads::NamedTwice { name: (**name).to_owned() });
        }
        if others.least > 0 {
            return Err(InvalidBulkheads::GuaranteedToAll { least: others.least });
        }
        for (name, share) in shares.iter().map(|(name, share)| (&**name, *share)).chain([("", others)]) {
            let Share { least, most, lent } = share;
            let name = || name.to_owned();
            if most == 0 {
                return Err(InvalidBulkheads::ZeroShare { name: name() });
            }
            if least > most {
                return Err(InvalidBulkheads::LeastAboveMost { name: name(), least, most });
            }
            if lent > least {
                return Err(InvalidBulkheads::LendsTooMuch { name: name(), lent, least });
            }
        }
        let sum = shares.values().map(|share| u64::from(share.least)).sum();
        if sum > u64::from(total) {
            return Err(InvalidBulkheads::AboveTotal { sum, total });
        }
        match fleet {
            Some(fleet) if fleet < u64::from(total) => Err(InvalidBulkheads::AboveFleet { total, fleet }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |bulkheads: Bulkheads| bulkheads.check(Some(10));
        let ten = || Bulkheads::of(10, Share::at_most(3));
        let name = || "a".to_owned();
        assert_eq!(check(Bulkheads::of(0, Share::at_most(3))), Err(InvalidBulkheads::ZeroTotal));
        assert_eq!(check(Bulkheads::of(10, Share::at_most(0))), Err(InvalidBulkheads::ZeroShare { name: "".into() }));
        let twice = ten().share("a", Share::at_most(1)).share("b", Share::at_most(1)).share("a", Share::at_most(1));
        assert_eq!(check(twice), Err(InvalidBulkheads::NamedTwice { name: name() }));
        let nothing = Share::at_least(0).up_to(0);
        assert_eq!(check(ten().share("a", nothing)), Err(InvalidBulkheads::ZeroShare { name: name() }));
        let upside_down = InvalidBulkheads::LeastAboveMost { name: name(), least: 5, most: 4 };
        assert_eq!(check(ten().share("a", Share::at_least(5).up_to(4))), Err(upside_down));
        let lender = InvalidBulkheads::LendsTooMuch { name: name(), lent: 3, least: 2 };
        assert_eq!(check(ten().share("a", Share::at_least(2).lends(3))), Err(lender));
        let all = InvalidBulkheads::GuaranteedToAll { least: 1 };
        assert_eq!(check(Bulkheads::of(10, Share::at_least(1))), Err(all));
        let six = Share::at_least(6);
        assert_eq!(
            check(ten().share("a", six).share("b", six)),
            Err(InvalidBulkheads::AboveTotal { sum: 12, total: 10 })
        );
        let large = Bulkheads::of(11, Share::at_most(3));
        assert_eq!(large.check(Some(10)), Err(InvalidBulkheads::AboveFleet { total: 11, fleet: 10 }));
        assert_eq!((large.check(None), check(ten().share("a", six))), (Ok(()), Ok(())));
    }
}
