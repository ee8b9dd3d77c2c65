//! [`Contender`]: one candidate on a slate.

use super::ground::Ground;
use crate::backend::BackendId;
use crate::decision::names::Terms;
use crate::decision::record::{Belief, Entry, LEVEL_NORMAL, LEVEL_PROBE, Readings};
use crate::decision::{Class, Latency, Load, Pace, Reason, Spread};
use crate::facts::{Facts, Need, Price, Profile};
use crate::limit::slots;
use crate::time::Instant;
use std::sync::Arc;

/// One candidate on a [`Slate`](super::Slate).
#[derive(Debug)]
pub struct Contender<'s> {
    pub(super) entry: &'s mut Entry,
    pub(super) readings: &'s mut Readings,
    pub(super) regular: &'s mut bool,
    pub(super) ground: &'s Ground<'s>,
    /// Where its version stands in the registry, if that knows it.
    pub(super) version: Option<u32>,
}

impl Contender<'_> {
    /// The backend.
    pub fn id(&self) -> BackendId {
        self.ground.roster.seats[self.entry.seat as usize].0
    }

    /// Its profile.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.ground.roster.seats[self.entry.seat as usize].1
    }

    fn terms(&self) -> Terms<'_> {
        let known = self.ground.cx.names.zip(self.version);
        known.map_or(Terms::UNKNOWN, |(names, version)| names.terms(version))
    }

    pub(super) fn facts(&self) -> &Facts {
        self.ground.cx.facts
    }

    pub(super) fn now(&self) -> Instant {
        self.ground.cx.now
    }

    /// What it charges: what its profile says, or else the [registry](crate::router::Builder::registry) of its version.
    pub fn price(&self) -> Option<&Price> {
        self.profile().known_price().or_else(|| self.terms().price)
    }

    /// The tokens that prompt and answer may have together, where known; from where [`price`](Self::price) is.
    pub fn context_window(&self) -> Option<u64> {
        let of_version = || Some(self.terms().context_window).filter(|window| *window < u64::MAX);
        self.profile().context_window.or_else(of_version)
    }

    /// Its load on this router's books.
    #[inline]
    pub fn load(&mut self) -> &Load {
        self.ground.read_load(self.entry, self.readings);
        &self.readings.load
    }

    /// The most calls that may be in flight to it now: what its profile says, or what was
    /// [learned](crate::facts::Adaptive) if that is less; `None` for no limit.
    #[inline]
    pub fn limit(&mut self) -> Option<u32> {
        let learned = self.load().learned_limit;
        let given = self.ground.roster.places[self.entry.seat as usize].limit;
        let limit = given.min(learned.unwrap_or(u32::MAX));
        (limit != u32::MAX).then_some(limit)
    }

    /// How full it says that it is, in thousandths, and when it said so; 0 where it says nothing. One that says it is full has
    /// room for the critical as long as it takes them.
    #[inline]
    pub(super) fn reported_full(&mut self) -> (u32, Instant) {
        self.ground.read_reported_full(self.entry, self.readings);
        let (full, at) = self.readings.reported_full;
        (full.min(999), at)
    }

    /// How full its bounds of tokens are with this request, in thousandths: 0 where it has none, or nothing is in flight.
    #[inline]
    pub(super) fn token_fill(&mut self) -> u32 {
        let tokens = self.ground.tokens(self.entry, self.readings);
        if tokens.is_bounded() { tokens.fill(self.need()) } else { 0 }
    }

    /// Whether calls in flight, or tokens with those of the request, fill it to this share of its limits, in thousandths.
    #[inline]
    pub(super) fn fills(&mut self, share: u32) -> bool {
        let in_flight = self.load().in_flight;
        self.token_fill() > share || self.limit().is_some_and(|limit| in_flight >= slots(limit, share))
    }

    /// Whether it is as full as it may be for the request: where this is the share of its limits, and it is not called to
    /// find out how it is.
    pub(super) fn is_full_to(&mut self, ceiling: u32) -> bool {
        self.fills(ceiling) || (self.level() != LEVEL_PROBE && self.reported_full().0 >= ceiling)
    }

    fn full_of_tokens(&mut self) -> Option<Reason> {
        let tokens = self.ground.tokens(self.entry, self.readings);
        if tokens.is_bounded() { tokens.full(self.need()) } else { None }
    }

    /// What the request takes of it.
    fn need(&mut self) -> Need {
        Need::of(self.facts()).without(self.cached_tokens())
    }

    /// The share of requests to it that is not to be sent, in thousandths.
    pub(super) fn throttled(&mut self) -> u32 {
        self.ground.read_throttled(self.entry, self.readings);
        self.readings.throttled
    }

    /// What was learned of its latency. With no samples, nothing is known: never take it for fast.
    #[inline]
    pub fn latency(&mut self) -> &Latency {
        self.ground.read_latency(self.entry, self.readings);
        &self.readings.latency
    }

    /// How far its first tokens are from what [`latency`](Self::latency) predicts. Of few samples it is mostly a guess.
    #[inline]
    pub fn spread(&mut self) -> &Spread {
        self.ground.read_spread(self.entry, self.readings);
        &self.readings.spread
    }

    /// How fast its tokens follow the first.
    #[inline]
    pub fn pace(&mut self) -> &Pace {
        self.ground.read_pace(self.entry, self.readings);
        &self.readings.pace
    }

    /// The leading tokens of this request's prompt that it probably has in its cache, by what this router sent there; 0
    /// where the request's [prefix](crate::facts::Prefix) is not known.
    #[inline]
    pub fn cached_tokens(&mut self) -> u64 {
        self.prefix().map_or(0, |belief| belief.cached)
    }

    /// What it probably has in its cache, and is supposed to have; `None` where the request's prefix is not known.
    #[inline]
    pub(super) fn prefix(&mut self) -> Option<&mut Belief> {
        self.ground.prefix(self.entry, self.readings)
    }

    /// Its [`work`](Self::work), without what it is supposed to have from others.
    #[inline]
    pub(super) fn supposed_work(&mut self) -> u64 {
        let known = self.prefix().map_or(0, |belief| belief.cached.saturating_add(belief.supposed));
        self.facts().input_tokens().saturating_sub(known).max(1)
    }

    /// The prompt tokens of this request that it would have to work through: all but those that it probably has.
    #[inline]
    pub(super) fn work(&mut self) -> u64 {
        let cached = self.cached_tokens();
        self.facts().input_tokens().saturating_sub(cached).max(1)
    }

    /// The predicted time to first token of this request, in nanoseconds, and no less than the age of the oldest call
    /// that still waits for its own; `None` when nothing is known.
    pub(super) fn predicted(&mut self) -> Option<u64> {
        let (work, now) = (self.work(), self.now());
        let load = self.load();
        let (behind, age) = (load.queued_tokens().saturating_add(work), load.age(now));
        let latency = self.latency();
        (latency.samples > 0).then(|| latency.predict(behind).max(age))
    }

    /// Why it may not be used; `None` when it may.
    pub fn rejected(&self) -> Option<Reason> {
        self.entry.rejected
    }

    /// What was noted of it.
    pub fn note(&self) -> Option<Reason> {
        self.entry.note
    }

    /// Its level: 0 for a probe, 1 for most, more for each demotion.
    pub(super) const fn level(&self) -> u8 {
        self.entry.level
    }

    /// Its cost so far.
    pub(super) const fn cost(&self) -> u64 {
        self.entry.cost
    }

    /// Sets its cost.
    pub fn rank(&mut self, cost: u64) {
        self.entry.cost = cost;
    }

    /// Adds to its cost; saturates.
    pub fn charge(&mut self, extra: u64) {
        self.entry.cost = self.entry.cost.saturating_add(extra);
    }

    /// Puts it behind every candidate that is not demoted as often.
    pub fn demote(&mut self, why: Reason) {
        self.entry.level = self.entry.level.saturating_add(1);
        self.note_unless_on_errand(why);
        *self.regular = false;
    }

    /// Puts it behind, for the reason that is noted already.
    pub(super) const fn put_behind(&mut self) {
        self.entry.level = self.entry.level.saturating_add(1);
        *self.regular = false;
    }

    /// Sets it aside, behind so many groups of other candidates; errands go first all the
    /// same.
    #[inline]
    pub(super) const fn set_aside(&mut self, groups: u8) {
        self.entry.aside = if self.entry.level == LEVEL_PROBE { 0 } else { groups };
        *self.regular &= groups == 0;
    }

    /// Rules it out. A rejection that stands already is kept, for the first reason is the true one; but a hard line
    /// replaces whatever could be overridden. Where soft doubts left nobody, `fail_safe` has the candidates planned
    /// once more, and a soft rejection does nothing.
    pub fn reject(&mut self, why: Reason) {
        let hard = |reason: Reason| reason.class() == Class::Hard;
        if self.ground.lenient && why.class() == Class::Soft {
            return;
        }
        if self.entry.rejected.is_none_or(|stands| hard(why) && !hard(stands)) {
            self.entry.rejected = Some(why);
        }
        *self.regular = false;
    }

    /// Replaces the reason of a rejection by one that says more.
    pub(super) fn reject_instead(&mut self, why: Reason) {
        self.entry.rejected = Some(why);
    }

    /// Lets a rejected candidate back. Hard lines and refusals with authority stay: then it returns `false`.
    ///
    /// A candidate that is full, or over its quota, as well stays out, for that reason: doubts about a signal make no room.
    pub fn readmit(&mut self, note: Reason) -> bool {
        self.entry.rejected.is_some_and(|reason| reason.class() == Class::Soft) && self.try_anyway(note)
    }

    /// Puts it first, ahead of every ordinary candidate, for this request to find out how it is. The driver lets
    /// only one request at a time do so. What is first already, or stands behind for a reason, stays.
    pub(super) fn promote(&mut self, why: Reason) {
        let errand = self.entry.note.is_some_and(|note| note.is_errand());
        if self.entry.level == LEVEL_NORMAL && !errand {
            self.entry.level = LEVEL_PROBE;
            self.entry.note = Some(why);
            *self.regular = false;
        }
    }

    pub(super) const fn note_unless_on_errand(&mut self, why: Reason) {
        match &self.entry.note {
            Some(note) if note.is_errand() => {}
            _ => self.entry.note = Some(why),
        }
    }

    /// Lets a candidate back whatever the class of its rejection, unless it is full or over its quota. The caller answers
    /// for hard lines.
    pub(super) fn try_anyway(&mut self, note: Reason) -> bool {
        let limit = self.limit().unwrap_or(u32::MAX);
        let (now, tokens) = (self.now(), self.full_of_tokens());
        let Load { in_flight, over_quota_until: until, .. } = *self.load();
        self.entry.rejected = if in_flight >= limit {
            Some(Reason::AtCapacity { in_flight, limit })
        } else if tokens.is_some() {
            tokens
        } else if until > now {
            Some(Reason::OverQuota { until })
        } else {
            self.entry.note = Some(note);
            None
        };
        self.entry.rejected.is_none()
    }
}
