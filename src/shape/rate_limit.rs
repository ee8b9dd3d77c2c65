//! [`RateLimit`]: how many requests a tenant, a route, or all together may send.

use super::key::Key;
use super::rate::{Ask, PERIOD, Table};
use crate::decision::Refusal;
use crate::facts::Facts;
use crate::rng::mix;
use crate::time::{Instant, nanos};
use rustc_hash::FxHashMap;
use std::time::Duration;

/// How many requests a tenant, a route, or all together may send: a token bucket for each key.
///
/// A request that finds its bucket empty is refused at entry, before anything else, with
/// [`Refusal::OverRate`]; [`RouteError::retry_after`](crate::RouteError::retry_after) says when to come back. It reaches no
/// backend and no last resort, and adds nothing to the retry budget. Where a router has
/// [several](crate::router::Builder::rate_limit) limits a request needs a token of each, or takes none.
///
/// In any time a key gets at most what comes back in it, and one burst.
///
/// **Memory is bounded, whatever names strangers invent.** All keys share [`BUCKETS`](Self::BUCKETS) buckets. A key has
/// one of its own from its first request until it is full again, for then there is nothing to remember. Who finds none left
/// on its line shares that of another, and both get less: that begins when more than a third of the buckets are in use
/// at once. Keys that must not suffer when somebody sends a million names are [named](Self::key), and have buckets that
/// nobody else comes near.
///
/// ```
/// use fallway::shape::RateLimit;
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let tenants = RateLimit::new("tenant", 600, minute).by_tenant().burst(50).key(["search"], 6_000, 500);
/// let routes = RateLimit::new("route", 100, Duration::from_secs(1)).by_label("route");
/// let both = RateLimit::new("tenant on route", 60, minute).by_tenant().by_label("route");
/// let all = RateLimit::new("all", 2_000, Duration::from_secs(1));
/// # let _ = (tenants, routes, both, all);
/// ```
#[derive(Debug)]
pub struct RateLimit {
    name: &'static str,
    rate: Rate,
    period: Duration,
    key: Key,
    named: Vec<(Vec<String>, Rate)>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    requests: u32,
    burst: Option<u32>,
}

/// A rate limit that makes no sense; names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("rate limit {limit:?}: {problem}")]
pub struct InvalidRateLimit {
    limit: &'static str,
    problem: String,
}

impl RateLimit {
    /// Buckets of all keys that are not named: 512 KiB.
    pub const BUCKETS: usize = 65_536;
    /// The burst, where none is given: this part of the requests of a period, at least one.
    pub const BURST: f64 = 0.1;

    /// All requests together may be so many in each `period`. The name stands in refusals.
    pub fn new(name: &'static str, requests: u32, period: Duration) -> Self {
        let rate = Rate { requests, burst: None };
        Self { name, rate, period, key: Key::default(), named: Vec::new() }
    }

    /// Each tenant may send so many. Requests without a tenant are those of one tenant without a name.
    #[must_use]
    pub fn by_tenant(mut self) -> Self {
        self.key.add_tenant();
        self
    }

    /// For each value of this [label](Facts::label) there may be so many: a route, a user, a feature. Requests without the
    /// label are those of one value without a name.
    #[must_use]
    pub fn by_label(mut self, label: impl Into<String>) -> Self {
        self.key.add_label(label.into());
        self
    }

    /// How many may come at once after a pause.
    #[must_use]
    pub const fn burst(mut self, requests: u32) -> Self {
        self.rate.burst = Some(requests);
        self
    }

    /// One key has a rate, a burst and a bucket of its own. It has a value for each part, in the order in which these
    /// were given.
    #[must_use]
    pub fn key<S: Into<String>>(mut self, key: impl IntoIterator<Item = S>, requests: u32, burst: u32) -> Self {
        let key = key.into_iter().map(Into::into).collect();
        self.named.push((key, Rate { requests, burst: Some(burst) }));
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidRateLimit> {
        let invalid = |problem: String| Err(InvalidRateLimit { limit: self.name, problem });
        if self.period.is_zero() {
            return invalid("a period of zero has no rate".to_owned());
        }
        for rate in self.named.iter().map(|(_, rate)| rate).chain([&self.rate]) {
            if rate.requests == 0 {
                return invalid("a rate of zero would refuse every request".to_owned());
            }
            if f64::from(rate.requests) / nanos(self.period) as f64 > 1.0 {
                return invalid("more than one request in a nanosecond is no limit".to_owned());
            }
            if rate.burst == Some(0) {
                return invalid("a burst of zero would refuse every request".to_owned());
            }
        }
        let named: Vec<_> = self.named.iter().map(|(key, _)| &**key).collect();
        self.key.mistake(&named).map_or(Ok(()), invalid)
    }
}

impl Rate {
    fn tokens(self) -> u64 {
        let share = || (f64::from(self.requests) * RateLimit::BURST) as u32;
        u64::from(self.burst.unwrap_or_else(|| share().max(1)))
    }
}

/// The rate limits of a router, with their buckets.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    limits: Box<[Meter]>,
}

#[derive(Debug)]
struct Meter {
    name: &'static str,
    key: Key,
    salt: u64,
    others: Class,
    named: FxHashMap<u64, Class>,
}

/// Keys with the same rate.
#[derive(Debug)]
struct Class {
    /// [`PERIOD`]s in a nanosecond.
    pace: f64,
    burst: u64,
    skew: u64,
    buckets: Table,
}

impl Class {
    fn new(rate: Rate, period: Duration, buckets: usize) -> Self {
        let pace = f64::from(rate.requests) * PERIOD as f64 / nanos(period) as f64;
        Self { pace, burst: rate.tokens(), skew: (pace * SKEW) as u64, buckets: Table::new(buckets) }
    }

    fn ask(&self, key: u64, now: Instant) -> Ask {
        Ask { key, now: self.time(now), burst: self.burst, skew: self.skew }
    }

    /// In the unit of buckets.
    fn time(&self, now: Instant) -> u64 {
        (now.as_nanos() as f64 * self.pace) as u64
    }

    /// When that much time of a bucket is there. The nanosecond more is for what division leaves; after a hundred days of them a
    /// float counts several at a time.
    fn instant(&self, at: u64) -> Instant {
        let mut then = Instant::from_nanos((at as f64 / self.pace).ceil() as u64).plus_nanos(1);
        while self.time(then) < at && then.as_nanos() < u64::MAX {
            then = then.plus_nanos(1 + (then.as_nanos() >> 52));
        }
        then
    }
}

impl Meter {
    fn new(limit: RateLimit, seed: u64) -> Self {
        let RateLimit { name, rate, period, key, named } = limit;
        let salt = mix(seed, STREAM);
        let all = if key.is_one() { 1 } else { RateLimit::BUCKETS };
        let class = |(key, rate): (Vec<String>, Rate)| (Key::of_values(&key, salt), Class::new(rate, period, 1));
        Self { name, key, salt, others: Class::new(rate, period, all), named: named.into_iter().map(class).collect() }
    }

    /// The key of a request, and those it counts with.
    fn find(&self, facts: &Facts) -> (u64, &Class) {
        let key = self.key.of(facts, self.salt);
        (key, self.named.get(&key).unwrap_or(&self.others))
    }

    fn refusal(&self, class: &Class, at: u64) -> Refusal {
        Refusal::OverRate { limit: self.name, until: class.instant(at) }
    }
}

impl Rates {
    /// The buckets of these limits. Which keys share a line nobody can tell who does not know the seed.
    pub(crate) fn new(limits: Vec<RateLimit>, seed: u64) -> Self {
        let meter = |(number, limit)| Meter::new(limit, mix(seed, number));
        Self { limits: (0..).zip(limits).map(meter).collect() }
    }

    /// Takes a token of each limit, or none.
    pub(crate) fn take(&self, facts: &Facts, now: Instant) -> Result<(), Refusal> {
        for (taken, meter) in self.limits.iter().enumerate() {
            let (key, class) = meter.find(facts);
            if let Err(at) = class.buckets.take(class.ask(key, now)) {
                for meter in &self.limits[..taken] {
                    let (key, class) = meter.find(facts);
                    class.buckets.give_back(class.ask(key, now));
                }
                return Err(last(meter.refusal(class, at), self.refusals(facts, now)));
            }
        }
        Ok(())
    }

    /// What [`take`](Self::take) would say.
    #[inline]
    pub(crate) fn peek(&self, facts: &Facts, now: Instant) -> Result<(), Refusal> {
        if self.limits.is_empty() { Ok(()) } else { self.peek_all(facts, now) }
    }

    fn peek_all(&self, facts: &Facts, now: Instant) -> Result<(), Refusal> {
        let mut refusals = self.refusals(facts, now);
        refusals.next().map_or(Ok(()), |first| Err(last(first, refusals)))
    }

    /// What each limit without a token says.
    fn refusals<'a>(&'a self, facts: &'a Facts, now: Instant) -> impl Iterator<Item = Refusal> + 'a {
        self.limits.iter().filter_map(move |meter| {
            let (key, class) = meter.find(facts);
            class.buckets.peek(class.ask(key, now)).err().map(|at| meter.refusal(class, at))
        })
    }
}

/// The refusal by the limit that has a token last: before that it would be refused again.
fn last(first: Refusal, others: impl Iterator<Item = Refusal>) -> Refusal {
    let until = |refusal: &Refusal| if let Refusal::OverRate { until, .. } = refusal { Some(*until) } else { None };
    others.fold(first, |last, other| if until(&other) > until(&last) { other } else { last })
}

/// Nanoseconds by which the time of a thread may be behind that of another: it was read, and then the thread had to wait.
/// Further behind, it would take the bucket for one that was full long ago.
const SKEW: f64 = 6e10;

/// Separates the hashes of keys from other uses of the seed.
const STREAM: u64 = 0x5241_5445;
