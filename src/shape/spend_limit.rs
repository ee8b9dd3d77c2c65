//! [`SpendLimit`]: how much money a tenant, a route, or all together may spend.

use super::account::{Accounts, Terms};
use super::key::Key;
use crate::decision::Reason;
use crate::facts::Facts;
use crate::rng::mix;
use crate::time::{Instant, nanos};
use rustc_hash::FxHashMap;
use std::time::Duration;

/// How much money a tenant, a route, or all together may spend: an account for each key, which refills continuously.
///
/// An attempt, first or repeated, continued or hedged, holds the most that it can cost before it is made, and pays what it cost
/// when it ends, [`Possible`](crate::decision::Cost::Possible) costs in full. A candidate that costs more than is left is
/// rejected ([`Reason::OverSpendLimit`]), so that a cheaper one is taken; where money is all that is missing, the request is
/// refused with [`Refusal::OverSpend`](crate::decision::Refusal::OverSpend). A candidate of unknown price is rejected.
///
/// In any time a key spends at most what comes back in it, and one [burst](Self::burst), and beyond that only what attempts cost
/// more than they held: nothing, where the facts say the [longest answer](Facts::max_output_tokens) and no fewer tokens of the
/// prompt than there are.
///
/// **Memory is bounded, whatever names strangers invent**: as of a [rate limit](super::RateLimit), in
/// [`ACCOUNTS`](Self::ACCOUNTS) accounts for all keys that are not [named](Self::key).
///
/// ```
/// use fallway::shape::SpendLimit;
/// use std::time::Duration;
///
/// let day = Duration::from_secs(86_400);
/// // Five dollars a day for every tenant, two hundred for one of them; and a thousand for all together.
/// let tenants = SpendLimit::new("tenant", 5.0, day).by_tenant().key(["search"], 200.0, 50.0);
/// let all = SpendLimit::new("all", 1_000.0, day).burst(100.0);
/// # let _ = (tenants, all);
/// ```
#[derive(Debug)]
pub struct SpendLimit {
    name: &'static str,
    sum: Sum,
    period: Duration,
    key: Key,
    named: Vec<(Vec<String>, Sum)>,
}

/// In dollars.
#[derive(Clone, Copy, Debug)]
struct Sum {
    amount: f64,
    burst: Option<f64>,
}

/// A spend limit that makes no sense; names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("spend limit {limit:?}: {problem}")]
pub struct InvalidSpendLimit {
    limit: &'static str,
    problem: String,
}

impl SpendLimit {
    /// Accounts of all keys that are not named: 2 MiB and a little.
    pub const ACCOUNTS: usize = 65_536;
    /// The burst, where none is given: this part of what there is for a period.
    pub const BURST: f64 = 0.1;
    /// How many limits a router may have: an attempt holds its money of each.
    pub const MOST: usize = 4;

    /// All requests together may cost so many dollars in each `period`. The name stands in refusals.
    pub fn new(name: &'static str, usd: f64, period: Duration) -> Self {
        let sum = Sum { amount: usd, burst: None };
        Self { name, sum, period, key: Key::default(), named: Vec::new() }
    }

    /// The requests of each tenant may cost so much. Those without a tenant are those of one tenant without a name.
    #[must_use]
    pub fn by_tenant(mut self) -> Self {
        self.key.add_tenant();
        self
    }

    /// Those with each value of this [label](Facts::label) may cost so much. Requests without the label are those of one value
    /// without a name.
    #[must_use]
    pub fn by_label(mut self, label: impl Into<String>) -> Self {
        self.key.add_label(label.into());
        self
    }

    /// How many dollars may be spent at once after a pause. An attempt that can cost more is never made.
    #[must_use]
    pub const fn burst(mut self, usd: f64) -> Self {
        self.sum.burst = Some(usd);
        self
    }

    /// One key has a sum, a burst and an account of its own. It has a value for each part, in the order in which these
    /// were given.
    #[must_use]
    pub fn key<S: Into<String>>(mut self, key: impl IntoIterator<Item = S>, usd: f64, burst: f64) -> Self {
        let key = key.into_iter().map(Into::into).collect();
        self.named.push((key, Sum { amount: usd, burst: Some(burst) }));
        self
    }

    /// What is wrong with the limits of a router.
    pub(crate) fn check(limits: &[Self]) -> Result<(), InvalidSpendLimit> {
        for (at, limit) in limits.iter().enumerate() {
            let invalid = |problem: String| Err(InvalidSpendLimit { limit: limit.name, problem });
            if at >= Self::MOST {
                return invalid(format!("a router has {} spend limits at most", Self::MOST));
            }
            if limit.period.is_zero() {
                return invalid("a period of zero has no end".to_owned());
            }
            for Sum { amount, burst } in limit.named.iter().map(|(_, sum)| *sum).chain([limit.sum]) {
                for usd in [Some(amount), burst].into_iter().flatten() {
                    if !(1e-6..=1e6).contains(&usd) {
                        return invalid(format!("{usd} USD is not in 0.000001..=1,000,000"));
                    }
                }
            }
            let named: Vec<_> = limit.named.iter().map(|(key, _)| &**key).collect();
            limit.key.mistake(&named).map_or(Ok(()), invalid)?;
        }
        Ok(())
    }
}

/// The spend limits of a router, with their accounts.
#[derive(Debug, Default)]
pub(crate) struct Spends {
    limits: Box<[Meter]>,
}

#[derive(Debug)]
struct Meter {
    name: &'static str,
    key: Key,
    salt: u64,
    others: (Terms, Accounts),
    named: FxHashMap<u64, u32>,
    own: Box<[(Terms, Accounts)]>,
}

/// What a request may spend now, as far as anybody could look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    funds: [Option<Fund>; SpendLimit::MOST],
    now: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Fund {
    limit: &'static str,
    left: u64,
    terms: Terms,
}

/// Money that an attempt holds. Comes back exactly once, by [`Spends::settle`].
#[derive(Debug, Default)]
#[must_use = "money that is not settled is held for ever"]
pub(crate) struct Held {
    pico: u64,
    /// By limit: which of its keys, and where in their accounts.
    places: [(u32, u32); SpendLimit::MOST],
}

/// The key of those that are not named.
const OTHERS: u32 = u32::MAX;

impl Meter {
    fn new(limit: SpendLimit, seed: u64) -> Self {
        let SpendLimit { name, sum, period, key, named } = limit;
        let salt = mix(seed, STREAM);
        let pico = |usd: f64| (usd * 1e12).round() as u64;
        let terms = |Sum { amount, burst }: Sum| {
            let most = pico(burst.unwrap_or(amount * SpendLimit::BURST)).max(1);
            Terms { most, amount: pico(amount), period: nanos(period) }
        };
        let count = if key.is_one() { 1 } else { SpendLimit::ACCOUNTS };
        Self {
            name,
            key,
            salt,
            others: (terms(sum), Accounts::new(count)),
            named: named.iter().map(|(values, _)| Key::of_values(values, salt)).zip(0..).collect(),
            own: named.iter().map(|(_, sum)| (terms(*sum), Accounts::new(1))).collect(),
        }
    }

    fn find(&self, facts: &Facts) -> (u64, u32) {
        let key = self.key.of(facts, self.salt);
        (key, self.named.get(&key).copied().unwrap_or(OTHERS))
    }

    fn of(&self, class: u32) -> &(Terms, Accounts) {
        self.own.get(class as usize).unwrap_or(&self.others)
    }
}

impl Spends {
    /// The accounts of these limits. Which keys share a line nobody can tell who does not know the seed.
    pub(crate) fn new(limits: Vec<SpendLimit>, seed: u64) -> Self {
        let meter = |(number, limit)| Meter::new(limit, mix(seed, number));
        Self { limits: (0..).zip(limits).map(meter).collect() }
    }

    /// What a request with these facts may spend; `None` where nothing limits it.
    #[inline]
    pub(crate) fn means(&self, facts: &Facts, now: Instant) -> Option<Means> {
        if self.limits.is_empty() { None } else { Some(self.means_of(facts, now)) }
    }

    fn means_of(&self, facts: &Facts, now: Instant) -> Means {
        let mut funds = [None; SpendLimit::MOST];
        for (fund, meter) in funds.iter_mut().zip(&self.limits) {
            let (key, class) = meter.find(facts);
            let (terms, accounts) = meter.of(class);
            // Who finds somebody else there goes on: before the attempt it is asked again.
            let left = accounts.peek(key, *terms, now).unwrap_or(terms.most);
            *fund = Some(Fund { limit: meter.name, left, terms: *terms });
        }
        Means { funds, now }
    }

    /// Holds so much money of each limit, or of none. What nobody knows there is not.
    pub(crate) fn hold(&self, facts: &Facts, pico: Option<u64>, now: Instant) -> Option<Held> {
        if self.limits.is_empty() {
            return Some(Held::default());
        }
        // Also what costs nothing has a place of its own, should it cost something in the end.
        let mut held = Held { pico: pico?.max(1), ..Held::default() };
        for (at, meter) in self.limits.iter().enumerate() {
            let (key, class) = meter.find(facts);
            let (terms, accounts) = meter.of(class);
            let Some(place) = accounts.hold(key, held.pico, *terms, now) else {
                self.release(&held, at, 0, now);
                return None;
            };
            held.places[at] = (class, place);
        }
        Some(held)
    }

    /// The attempt that held it ended, and cost so much.
    pub(crate) fn settle(&self, held: &Held, spent: u64, now: Instant) {
        self.release(held, self.limits.len(), spent, now);
    }

    fn release(&self, held: &Held, limits: usize, spent: u64, now: Instant) {
        for (meter, (class, place)) in self.limits[..limits].iter().zip(held.places) {
            let (terms, accounts) = meter.of(class);
            accounts.settle(place, held.pico, spent, *terms, now);
        }
    }
}

impl Means {
    /// Why an attempt that can cost so much may not be made.
    pub(crate) fn refuses(&self, cost: u64) -> Option<Reason> {
        let short = self.funds.iter().flatten().filter(|fund| cost > fund.left);
        let reason = |fund: &Fund| match cost > fund.terms.most {
            true => Reason::SpendLimitTooSmall { limit: fund.limit, cost, most: fund.terms.most },
            false => {
                let until = self.now.plus_nanos(fund.terms.wait(cost - fund.left));
                Reason::OverSpendLimit { limit: fund.limit, cost, until }
            }
        };
        // The last to have enough; first of all, who never will.
        short.map(reason).max_by_key(|reason| reason.returns_at().unwrap_or(Instant::from_nanos(u64::MAX)))
    }

    /// What is left of the limit that has least, in pico-dollars.
    pub(crate) fn least(&self) -> u64 {
        self.funds.iter().flatten().map(|fund| fund.left).min().unwrap_or(u64::MAX)
    }
}

/// Separates the hashes of keys from other uses of the seed.
const STREAM: u64 = 0x5350_454e;
