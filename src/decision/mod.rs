//! [`Decision`]: a choice and its reasons.

pub(crate) mod attempt;
mod class;
mod cost;
mod hedged;
#[cfg(feature = "serde")]
mod json;
mod label;
mod latency;
pub(crate) mod names;
mod next;
mod reason;
pub(crate) mod record;
mod recycle;
mod region;
mod render;
mod token_load;
mod waterfall;

pub use attempt::{AttemptRecord, Ending};
pub use class::Class;
use cost::Usd;
pub use cost::{Bill, Cost, Tokens};
pub use hedged::{Beside, Hedged, Unhedged};
pub(crate) use latency::scale;
pub use latency::{Latency, Pace, Spread};
pub use next::{Next, Refusal};
pub use reason::Reason;
pub use record::{Extra, Load};
pub(crate) use region::{CLEAN, RegionRow, RegionRules, RegionState};
pub use region::{RegionPhase, RegionView};
pub(crate) use token_load::{Filled, TokenLoad};

use crate::backend::BackendId;
use crate::facts::{Facts, Profile};
use crate::shape::Drawn;
use crate::time::Instant;
use names::Terms;
use record::{Entry, Readings, Record, Tier, UNRANKED};
use std::fmt;
use std::sync::Arc;

/// A choice with everything it was made of: the candidates, what was known of each, why each stands where it does,
/// and what came before in the same request.
///
/// Keeping one is cheap; nothing is rendered until it is printed ([`Display`](fmt::Display), for people) or
/// serialized (feature `serde`). It carries no payload and no secret, and
/// [`Router::replay`](crate::Router::replay) comes to the same choice again.
pub struct Decision {
    // `None` only inside `drop`.
    record: Option<Box<Record>>,
}

/// One backend in a [`Decision`].
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    record: &'a Record,
    entry: &'a Entry,
    readings: &'a Readings,
}

impl Decision {
    pub(crate) fn blank() -> Self {
        Self { record: Some(recycle::take()) }
    }

    pub(crate) fn record(&self) -> &Record {
        self.record.as_ref().expect("a decision has its record until it is dropped")
    }

    pub(crate) fn record_mut(&mut self) -> &mut Record {
        self.record.as_mut().expect("a decision has its record until it is dropped")
    }

    /// What to do: call the first of [`ranked`](Self::ranked), wait, or refuse.
    pub fn next(&self) -> Next {
        let record = self.record();
        record.verdict.or(record.sheet.next).unwrap_or(Next::Refuse { why: Refusal::NothingUsable })
    }

    /// The candidate to call; `None` when the decision is to wait or to refuse.
    pub fn chosen(&self) -> Option<Candidate<'_>> {
        let record = self.record();
        if !matches!(self.next(), Next::Call { .. }) {
            return None;
        }
        match record.sheet.best {
            Some(best) if record.sheet.entries[best].admitted() => Some(best),
            // It was lost to another request afterwards, so it is not the choice any more.
            _ => record.sheet.best(record.seed),
        }
        .map(|best| Candidate::new(record, best))
    }

    /// The usable candidates in the order in which they would be tried.
    pub fn ranked(&self) -> Vec<Candidate<'_>> {
        let mut ranked: Vec<_> = self.candidates().filter(|candidate| candidate.rejected().is_none()).collect();
        ranked.sort_by(|a, b| record::order(self.record().seed, a.entry, b.entry));
        ranked
    }

    /// Every candidate that was looked at, rejected ones too, in the order of the fleet.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        let record = self.record();
        (0..record.sheet.entries.len()).map(move |index| Candidate::new(record, index))
    }

    /// What was known of the request.
    pub fn facts(&self) -> &Facts {
        self.record().facts()
    }

    /// When it was made.
    pub fn time(&self) -> Instant {
        self.record().now
    }

    /// When the request came.
    pub fn arrival(&self) -> Instant {
        self.record().arrival
    }

    /// When the request ends.
    pub fn deadline(&self) -> Instant {
        self.record().deadline
    }

    /// The seed of its random choices.
    pub fn seed(&self) -> u64 {
        self.record().seed
    }

    /// The fleet generation that it was made in.
    pub fn generation(&self) -> u64 {
        self.record().roster.generation
    }

    /// Whether another attempt runs beside the one that this decides, or why none does.
    pub fn hedged(&self) -> Hedged {
        self.record().hedged
    }

    /// The attempt beside which this decides another, where it decides a hedge.
    pub fn beside(&self) -> Option<&Beside> {
        self.record().beside.as_ref()
    }

    /// The request's attempts so far, in the order in which they ended; a successful one is the last.
    pub fn attempts(&self) -> &[AttemptRecord] {
        &self.record().attempts
    }

    /// What the attempts so far cost together.
    pub fn bill(&self) -> Bill {
        self.attempts().iter().map(AttemptRecord::cost).sum()
    }

    /// What those of them cost that did not answer, or not to the end.
    pub fn wasted(&self) -> Bill {
        let wasted = |attempt: &&AttemptRecord| !matches!(attempt.ending(), Ending::Answering | Ending::Answered);
        self.attempts().iter().filter(wasted).map(AttemptRecord::cost).sum()
    }

    /// Whether a shared budget paid for the attempt that this decides.
    pub fn extra(&self) -> Extra {
        self.record().extra
    }

    /// Whether panic mode distrusted the health signals of a tier.
    pub fn panicked(&self) -> bool {
        self.record().sheet.tiers.iter().any(|tier| tier.panic)
    }

    /// Whether the policy itself panicked and the built-in order was used.
    pub fn policy_panicked(&self) -> bool {
        self.record().sheet.policy_panicked
    }

    /// How many candidates were rejected for each reason, most frequent first: "3 at capacity, 1 drained".
    pub fn rejections(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for reason in self.candidates().filter_map(|candidate| candidate.rejected()) {
            match counts.iter_mut().find(|(label, _)| *label == reason.label()) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason.label(), 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    /// The earliest time at which a rejected candidate is expected back.
    pub fn earliest_return(&self) -> Option<Instant> {
        self.candidates().filter_map(|candidate| candidate.rejected()?.returns_at()).min()
    }

    /// Whether both decisions do the same, in the same order, for the same reasons.
    pub fn same_choice(&self, other: &Self) -> bool {
        let key = |candidate: Candidate<'_>| {
            let Entry { aside, level, cost, rejected, note, .. } = *candidate.entry;
            (candidate.id(), aside, level, cost, rejected, note)
        };
        self.next() == other.next()
            && self.ranked().iter().map(Candidate::id).eq(other.ranked().iter().map(Candidate::id))
            && self.candidates().map(key).eq(other.candidates().map(key))
    }

    /// The regions of each model that was considered, in order of preference, where a policy judged them
    /// ([`region_failover`](crate::policy::PolicyExt::region_failover)).
    pub fn regions(&self) -> impl Iterator<Item = RegionView<'_>> {
        let record = self.record();
        record.sheet.regions.iter().map(move |row| RegionView {
            row,
            roster: &record.roster,
            tier: &record.sheet.tiers[usize::from(row.tier)],
            rules: record.sheet.region_rules,
        })
    }

    /// The names that [split](crate::shape::Split) on the way of the request, and the arm of each to which it fell. The
    /// candidates of that arm come first; those of the tiers behind it follow.
    pub fn splits(&self) -> &[Drawn] {
        self.record().sheet.draws()
    }

    /// What the registry said of the name that the request asks for, and which registry that was: the same one for all
    /// attempts of a request. `None` for a router without a [registry](crate::router::Builder::registry).
    ///
    /// Its age is that of the moment at which the request came.
    #[cfg(feature = "registry")]
    pub fn provenance(&self) -> Option<crate::registry::Provenance<'_>> {
        let record = self.record();
        let facts = record.facts();
        Some(record.names.as_ref()?.provenance(facts.requested_model(), facts, record.seed))
    }

    /// The models that were considered, in order; `None` for "any model".
    pub fn models(&self) -> impl Iterator<Item = Option<&str>> {
        self.tiers().iter().map(|tier| self.tier_name(tier))
    }

    fn tier_name(&self, tier: &Tier) -> Option<&str> {
        tier.model.map(|model| &*self.record().roster.models[model as usize])
    }

    fn tiers(&self) -> &[Tier] {
        &self.record().sheet.tiers
    }
}

impl Clone for Decision {
    fn clone(&self) -> Self {
        Self { record: self.record.clone() }
    }
}

impl Drop for Decision {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            recycle::give_back(record);
        }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decision({self})")
    }
}

impl<'a> Candidate<'a> {
    fn new(record: &'a Record, index: usize) -> Self {
        Self { record, entry: &record.sheet.entries[index], readings: &record.sheet.readings[index] }
    }

    /// The backend.
    pub fn id(&self) -> BackendId {
        self.record.roster.seats[self.entry.seat as usize].0
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.profile().id()
    }

    /// Its profile.
    pub fn profile(&self) -> &'a Arc<Profile> {
        &self.record.roster.seats[self.entry.seat as usize].1
    }

    /// Why it may not be used; `None` when it may.
    pub fn rejected(&self) -> Option<Reason> {
        self.entry.rejected
    }

    /// What was noted of it beside that.
    pub fn note(&self) -> Option<Reason> {
        let aside = self.entry.aside > 0 && self.entry.admitted();
        self.entry.note.or_else(|| aside.then_some(Reason::OtherRegion))
    }

    /// What is known of its version, where its profile does not say.
    fn terms(&self) -> Terms<'a> {
        let version = self.record.sheet.tiers[usize::from(self.entry.tier)].version;
        self.record.names.as_ref().zip(version).map_or(Terms::UNKNOWN, |(names, version)| names.terms(version))
    }

    /// What the ranking policy compared, in that policy's unit; `None` when it was not ranked.
    pub fn cost(&self) -> Option<u64> {
        (self.entry.cost != UNRANKED).then_some(self.entry.cost)
    }

    /// Its load, where a policy read it.
    pub fn load(&self) -> Option<Load> {
        (self.entry.known & record::KNOWS_LOAD != 0).then_some(self.readings.load)
    }

    /// Its learned latency, where a policy read it.
    pub fn latency(&self) -> Option<Latency> {
        (self.entry.known & record::KNOWS_LATENCY != 0).then_some(self.readings.latency)
    }

    /// How far its first tokens are from what was predicted of them, where a policy read it.
    pub fn spread(&self) -> Option<Spread> {
        (self.entry.known & record::KNOWS_SPREAD != 0).then_some(self.readings.spread)
    }

    /// How fast its tokens follow the first, where a policy read it.
    pub fn pace(&self) -> Option<Pace> {
        (self.entry.known & record::KNOWS_PACE != 0).then_some(self.readings.pace)
    }

    /// The leading tokens of the prompt that it probably has in its cache, so that they are not among its work; where
    /// the request's [prefix](crate::facts::Prefix) is known and a policy read it, or it was called.
    pub fn cached_tokens(&self) -> Option<u64> {
        (self.entry.known & record::KNOWS_CACHED != 0).then_some(self.readings.prefix.cached)
    }

    /// How much of the rest of the prompt counted as cached by the chance that other routers sent it there: see
    /// [`predicted_ttft`](crate::policy::predicted_ttft). From where [`cached_tokens`](Self::cached_tokens) is.
    pub fn supposed_tokens(&self) -> Option<u64> {
        (self.entry.known & record::KNOWS_CACHED != 0).then_some(self.readings.prefix.supposed)
    }
}

impl fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name(), self.entry)
    }
}
