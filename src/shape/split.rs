//! [`Split`]: which arm of a name a request falls to, by a stable hash.

use crate::facts::Facts;
use crate::rng::{hash_str, mix};
use crate::time::{Instant, nanos};
use std::sync::Arc;
use std::time::Duration;

/// By what a request keeps its bucket, and so its arm, of a name that splits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Sticky {
    /// The session; by tenant where there is none, and else by request.
    #[default]
    Session,
    /// The tenant; by request where there is none.
    Tenant,
    /// Nothing: each request draws. Its attempts draw the same.
    Request,
}

impl Sticky {
    #[cfg(feature = "registry")]
    pub(crate) const ALL: [Self; 3] = [Self::Session, Self::Tenant, Self::Request];

    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Tenant => "tenant",
            Self::Request => "request",
        }
    }

    /// What of a request is hashed.
    pub(crate) fn key(self, session: Option<&str>, tenant: Option<&str>, seed: u64) -> u64 {
        let key = match self {
            Self::Session => session.or(tenant),
            Self::Tenant => tenant,
            Self::Request => None,
        };
        key.map_or(seed, hash_str)
    }
}

/// The whole of a name that splits, in the unit of its shares: basis points.
pub(crate) const WHOLE: u32 = 10_000;

/// The bucket, of [`WHOLE`], of a request with this key under a name with this salt. The upper half of the hash decides.
pub(crate) const fn bucket(key: u64, salt: u64) -> u32 {
    (((mix(key, salt) >> 32) * WHOLE as u64) >> 32) as u32
}

/// A name that several models or versions serve, each its share of the requests: a canary, an experiment, a migration.
///
/// Every request falls into one of 10,000 buckets by a stable hash of its key and the name, and the bucket belongs to one
/// arm. The same key falls to the same arm on every machine, in every process and in every version of this crate, and to
/// the arm to which a [registry alias](crate::registry::Alias::split) of that name, with these arms, would send it.
///
/// Give it to [`FailSafe::split`](crate::policy::FailSafe::split). There, the arm that was drawn is the first tier of the
/// name; who stands in for it is for [`FailSafe::tiers`](crate::policy::FailSafe::tiers) to say.
///
/// ```
/// use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
/// use fallway::shape::Split;
///
/// let chat = Split::new("chat", [("llama-70b@3", 9_500), ("llama-70b@4", 500)]);
/// let policy = predicted_ttft().fail_safe(FailSafe::default().split(chat));
/// # let _ = policy;
/// ```
#[derive(Clone, Debug)]
pub struct Split {
    name: String,
    salt: u64,
    arms: Vec<(String, u32)>,
    sticky: Sticky,
    label: Option<String>,
    ramps: Vec<Ramp>,
}

/// A part of an arm that goes over to another in the course of time.
#[derive(Clone, Debug)]
struct Ramp {
    from: String,
    to: String,
    /// Which arms these are; `None` where there is no such arm.
    arms: Option<(usize, usize)>,
    share: u32,
    takes: u64,
    ends: Instant,
}

impl Ramp {
    /// How much has gone over.
    fn moved(&self, at: Instant) -> u32 {
        match self.ends.nanos_since(at) {
            0 => self.share,
            left if left >= self.takes => 0,
            left => (u128::from(self.share) * u128::from(self.takes - left) / u128::from(self.takes)) as u32,
        }
    }
}

impl Split {
    /// `name` is served by these arms, each with its share in basis points; together 10,000. An arm is a model (`name` or
    /// `name@version`) or another alias.
    pub fn new<S: Into<String>>(name: impl Into<String>, arms: impl IntoIterator<Item = (S, u32)>) -> Self {
        let name = name.into();
        let salt = hash_str(&name);
        let arms = arms.into_iter().map(|(arm, share)| (arm.into(), share)).collect();
        Self { name, salt, arms, sticky: Sticky::default(), label: None, ramps: Vec::new() }
    }

    /// By what a request keeps its arm; default [`Sticky::Session`].
    #[must_use]
    pub const fn sticky(mut self, sticky: Sticky) -> Self {
        self.sticky = sticky;
        self
    }

    /// Keeps the arm by the value of this [label](Facts::label), where a request has it; the others by what
    /// [`sticky`](Self::sticky) says.
    ///
    /// ```
    /// # use fallway::{Facts, shape::Split};
    /// let split = Split::new("chat", [("v1", 5_000), ("v2", 5_000)]).sticky_by_label("user");
    /// let facts = Facts::model("chat").session("conversation 7").label("user", "ada");
    /// # let _ = (split, facts);
    /// ```
    #[must_use]
    pub fn sticky_by_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Moves `share` basis points from one arm to another, evenly in the time of `takes` before `ends`. A ramp whose end is
    /// past has done its work, and one that has not begun none.
    ///
    /// Give `ends` as the [`SystemTime`](std::time::SystemTime) that the configuration names: then a process that starts
    /// anew goes on where the last one was, and all are at the same place. With "an hour from now" each start would begin
    /// again. It is held against the system's clock once, here: one that is wrong then moves the ramp by as much. A router
    /// with a [`Timer`](crate::time::Timer) on a time line of its own needs an [`Instant`] of that.
    ///
    /// Only requests that move fall to another arm, each of them once: who has come over stays. Several ramps move one
    /// part after the other; together an arm gives no more than it had from the beginning.
    ///
    /// ```
    /// use fallway::shape::Split;
    /// use std::time::{Duration, SystemTime};
    ///
    /// // One percent first, all of it after the 15th of January 2027, 8:00 UTC.
    /// let (day, ends) = (Duration::from_secs(86_400), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    /// let split = Split::new("chat", [("v1", 9_900), ("v2", 100)]).ramp("v1", "v2", 9_900, day, ends);
    /// # let _ = split;
    /// ```
    #[must_use]
    pub fn ramp(mut self, from: &str, to: &str, share: u32, takes: Duration, ends: impl Into<Instant>) -> Self {
        let arm = |name: &str| self.arms.iter().position(|(arm, _)| arm == name);
        let arms = arm(from).zip(arm(to)).filter(|(from, to)| from != to);
        let (takes, ends) = (nanos(takes), ends.into());
        self.ramps.push(Ramp { from: from.to_owned(), to: to.to_owned(), arms, share, takes, ends });
        self
    }

    /// The name that splits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arms with their shares at this time, in basis points.
    pub fn arms(&self, at: Instant) -> impl Iterator<Item = (&str, u32)> {
        self.arms.iter().enumerate().map(move |(index, (arm, _))| (arm.as_str(), self.share(index, at)))
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &str> {
        self.arms.iter().map(|(arm, _)| arm.as_str())
    }

    /// The name of the arm at this place.
    pub(crate) fn target(&self, arm: usize) -> Option<&str> {
        self.arms.get(arm).map(|(arm, _)| arm.as_str())
    }

    fn share(&self, arm: usize, at: Instant) -> u32 {
        self.ramps.iter().fold(self.arms[arm].1, |share, ramp| match ramp.arms {
            Some((from, _)) if from == arm => share.saturating_sub(ramp.moved(at)),
            Some((_, to)) if to == arm => share.saturating_add(ramp.moved(at)),
            _ => share,
        })
    }

    /// Where a request of this time falls.
    pub(crate) fn draw(self: &Arc<Self>, facts: &Facts, seed: u64, at: Instant) -> (u32, usize) {
        let label = self.label.as_ref().and_then(|label| facts.label_value(label));
        let key = match label {
            Some(value) => hash_str(value),
            None => self.sticky.key(facts.request_session(), facts.request_tenant(), seed),
        };
        let bucket = bucket(key, self.salt);
        (bucket, self.arm_of(bucket, at))
    }

    fn arm_of(&self, bucket: u32, at: Instant) -> usize {
        let mut start = 0;
        for (arm, (_, share)) in self.arms.iter().enumerate() {
            if bucket < start + share {
                return self.follow(arm, start..start + share, bucket, at);
            }
            start += share;
        }
        // A checked split has an arm for every bucket.
        self.arms.len().saturating_sub(1)
    }

    /// Ramps take the buckets of an arm from the side on which the other stands: where these are neighbours, the shares
    /// after the ramp cut the whole as a split that begins with them does, and nobody moves when it is written so.
    fn follow(&self, arm: usize, range: std::ops::Range<u32>, bucket: u32, at: Instant) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        for ramp in &self.ramps {
            let Some((_, to)) = ramp.arms.filter(|(from, _)| *from == arm) else { continue };
            let depth = if to > arm { high - 1 - bucket } else { bucket - low };
            if depth < ramp.share {
                return if depth < ramp.moved(at) { to } else { arm };
            }
            if to > arm {
                high -= ramp.share;
            } else {
                low += ramp.share;
            }
        }
        arm
    }

    /// What is wrong with it.
    pub(crate) fn check(&self, mut tell: impl FnMut(String)) {
        let Self { name, arms, .. } = self;
        let sum: u64 = arms.iter().map(|(_, share)| u64::from(*share)).sum();
        if sum != u64::from(WHOLE) {
            tell(format!("the shares of split {name:?} sum to {sum} basis points, not to {WHOLE}"));
        }
        for (index, (arm, _)) in arms.iter().enumerate() {
            if arms[..index].iter().any(|(other, _)| other == arm) {
                tell(format!("split {name:?} names {arm:?} twice"));
            }
        }
        for Ramp { from, to, arms, .. } in &self.ramps {
            if arms.is_none() {
                tell(format!("split {name:?} ramps from {from:?} to {to:?}, which are not two of its arms"));
            }
        }
        for (index, (arm, share)) in arms.iter().enumerate() {
            let of_it = self.ramps.iter().filter(|ramp| ramp.arms.is_some_and(|(from, _)| from == index));
            let given: u64 = of_it.map(|ramp| u64::from(ramp.share)).sum();
            if given > u64::from(*share) {
                tell(format!("split {name:?} ramps {given} basis points away from {arm:?}, which has {share}"));
            }
        }
    }
}

/// Where a request fell in a [`Split`], and why: part of its [`Decision`](crate::Decision::splits).
#[derive(Clone, Debug)]
pub struct Drawn {
    split: Arc<Split>,
    bucket: u32,
    arm: usize,
    at: Instant,
}

impl Drawn {
    pub(crate) const fn new(split: Arc<Split>, (bucket, arm): (u32, usize), at: Instant) -> Self {
        Self { split, bucket, arm, at }
    }

    pub(crate) fn is_of(&self, split: &Arc<Split>) -> bool {
        Arc::ptr_eq(&self.split, split)
    }

    /// Draws again, for another request.
    pub(crate) const fn renew(&mut self, (bucket, arm): (u32, usize), at: Instant) {
        (self.bucket, self.arm, self.at) = (bucket, arm, at);
    }

    /// The split.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The bucket of the request, below 10,000.
    pub const fn bucket(&self) -> u32 {
        self.bucket
    }

    /// The arm to which the bucket belonged when the request came.
    pub fn arm(&self) -> &str {
        &self.split.arms[self.arm].0
    }

    /// The share of that arm then, in basis points.
    pub fn share(&self) -> u32 {
        self.split.share(self.arm, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The arm of every bucket.
    fn map(split: &Split, at: Instant) -> Vec<usize> {
        (0..WHOLE).map(|bucket| split.arm_of(bucket, at)).collect()
    }

    fn count(arms: &[usize], arm: usize) -> u32 {
        arms.iter().filter(|it| **it == arm).count() as u32
    }

    #[test]
    fn arms_that_no_router_has_checked_are_read_without_harm() {
        let split = Split::new("chat", [("a", u32::MAX), ("b", u32::MAX)]).ramp("a", "b", u32::MAX, secs(1), at(2));
        assert_eq!(split.arms(at(3)).collect::<Vec<_>>(), [("a", 0), ("b", u32::MAX)]);
    }

    #[test]
    fn every_share_has_exactly_its_buckets() {
        for share in 0..=WHOLE {
            let split = Split::new("chat", [("a", WHOLE - share), ("b", share)]);
            if share % 97 == 0 || share < 10 {
                assert_eq!(count(&map(&split, at(0)), 1), share);
            }
            assert_eq!(split.arm_of(WHOLE - 1, at(0)) == 1, share > 0);
        }
    }

    #[test]
    fn keys_spread_over_the_buckets_so_that_every_share_from_one_percent_on_is_exact_to_one_percent() {
        let (all, salt) = (10_000_000u64, hash_str("chat"));
        let mut counts = [0u64; WHOLE as usize];
        (0..all).for_each(|key| counts[bucket(key, salt) as usize] += 1);
        let mut seen = 0;
        for (share, count) in (1..=u64::from(WHOLE)).zip(counts) {
            seen += count;
            let expected = all * share / u64::from(WHOLE);
            assert!(share < 100 || seen.abs_diff(expected) * 100 <= expected, "{share}: {seen} of {expected}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
        #[test]
        fn ramps_move_exactly_their_part_once_and_one_way(
            cuts in proptest::collection::vec(0u32..=WHOLE, 2),
            moves in proptest::collection::vec((0usize..3, 0usize..3, 0u32..4_000, 1u64..50, 0u64..100), 0..5),
        ) {
            let (low, high) = (cuts[0].min(cuts[1]), cuts[0].max(cuts[1]));
            let names = ["a", "b", "c"];
            let mut split = Split::new("chat", names.into_iter().zip([low, high - low, WHOLE - high]));
            let mut left = [low, high - low, WHOLE - high];
            for (from, to, share, takes, ends) in moves {
                let share = share.min(left[from]);
                if from != to {
                    left[from] -= share;
                    split = split.ramp(names[from], names[to], share, secs(takes), at(ends));
                }
            }
            let mut wrong = Vec::new();
            split.check(|problem| wrong.push(problem));
            prop_assert!(wrong.is_empty(), "{:?}", wrong);
            let first = map(&Split { ramps: Vec::new(), ..split.clone() }, at(0));
            let mut before = first.clone();
            for second in (0..=100).step_by(5) {
                let now = map(&split, at(second));
                for arm in 0..3 {
                    prop_assert_eq!(count(&now, arm), split.share(arm, at(second)));
                }
                for bucket in 0..WHOLE as usize {
                    let stays = now[bucket] == before[bucket];
                    prop_assert!(stays || before[bucket] == first[bucket], "bucket {} moves twice", bucket);
                }
                before = now;
            }
            // Everything has come over, and only what was to.
            let moved = before.iter().zip(&first).filter(|(now, then)| now != then).count() as u32;
            prop_assert_eq!(moved, split.ramps.iter().map(|ramp| ramp.share).sum::<u32>());
        }
    }

    #[test]
    fn a_ramp_ends_where_the_split_begins_that_is_written_with_its_result() {
        for (from, to, after) in [("a", "b", [2_000u32, 8_000]), ("b", "a", [7_000, 3_000])] {
            let [a, b] = [5_000u32, 5_000];
            let share = after[0].abs_diff(a);
            let ramp = Split::new("chat", [("a", a), ("b", b)]).ramp(from, to, share, secs(10), at(20));
            let written = Split::new("chat", [("a", after[0]), ("b", after[1])]);
            assert_eq!(map(&ramp, at(20)), map(&written, at(0)));
            // Half of the way.
            assert_eq!(count(&map(&ramp, at(15)), 1), b.midpoint(after[1]));
            assert_eq!(map(&ramp, at(10)), map(&ramp, at(0)));
        }
    }

    #[test]
    fn a_ramp_without_duration_is_a_step() {
        let split = Split::new("chat", [("a", WHOLE), ("b", 0)]).ramp("a", "b", 400, secs(0), at(7));
        let share = |nanos| split.share(1, Instant::from_nanos(nanos));
        assert_eq!([share(6_999_999_999), share(7_000_000_000), share(u64::MAX)], [0, 400, 400]);
    }
}
