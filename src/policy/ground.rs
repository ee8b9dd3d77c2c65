//! [`Ground`]: what all candidates of a decision have in common, and how each of them is read.

use super::PlanContext;
use super::survey::Live;
use crate::decision::names::Terms;
use crate::decision::record::{
    Belief, Entry, KNOWS_FULL, KNOWS_LATENCY, KNOWS_LOAD, KNOWS_PACE, KNOWS_SPREAD, KNOWS_THROTTLED, KNOWS_TOKENS,
    Readings, Roster, Sheet,
};
use crate::decision::{Load, TokenLoad};
use crate::fleet::Berth;

/// What all candidates of a decision have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    pub(super) source: Source<'a>,
    pub(super) roster: &'a Roster,
    pub(super) cx: &'a PlanContext<'a>,
    /// What the registry knows of the version that is looked at.
    pub(super) terms: Terms<'a>,
    /// Soft rejections do not count.
    pub(super) lenient: bool,
}

/// Where candidates and readings come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// The running fleet. With `peek`, nothing that others can see is touched.
    Live { live: &'a Live<'a>, peek: bool },
    /// An earlier decision.
    Recorded(&'a Sheet),
}

// Each value is read when somebody asks for it first, and then stands for the decision; a replay has what was read then.
// Entry and readings come apart: a candidate that is not passed on whole stays in registers while a leaf visits all.
impl Ground<'_> {
    /// Where the backend of `entry` stands in the running fleet, unless its readings have what `what` says.
    #[inline]
    fn unread(&self, entry: &Entry, what: u8) -> Option<(&Live<'_>, &Berth)> {
        match self.source {
            Source::Live { live, .. } if entry.known & what == 0 => {
                Some((live, &live.fleet.berths[entry.seat as usize]))
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn read_load(&self, entry: &mut Entry, readings: &mut Readings) {
        if let Some((live, berth)) = self.unread(entry, KNOWS_LOAD) {
            self.load(live, berth, &mut readings.load);
            entry.known |= KNOWS_LOAD;
        }
    }

    fn load(&self, live: &Live<'_>, berth: &Berth, load: &mut Load) {
        let (member, now) = (&berth.member, self.cx.now);
        *load = member.load(now);
        load.learned_limit = berth.learned();
        load.others_tokens = live.crowd.waiting(member, now);
        // The slot that was freed for this request is counted, and is no call of another; nor is its own prompt work before it.
        if let Some(held) = live.held_at(member.id) {
            held.hold.leave_out_of(load);
        }
        if live.metered {
            let [until, kept] = live.over_quota(self.cx, member);
            load.over_quota_until = until.max(kept);
        }
    }

    #[inline]
    pub(super) fn read_latency(&self, entry: &mut Entry, readings: &mut Readings) {
        let Some((_, berth)) = self.unread(entry, KNOWS_LATENCY) else { return };
        readings.latency = berth.member.latency.read();
        entry.known |= KNOWS_LATENCY;
    }

    #[inline]
    pub(super) fn read_spread(&self, entry: &mut Entry, readings: &mut Readings) {
        let Some((_, berth)) = self.unread(entry, KNOWS_SPREAD) else { return };
        readings.spread = berth.member.latency.read_spread(self.cx.now);
        readings.contradicted = berth.member.latency.is_contradicted();
        entry.known |= KNOWS_SPREAD;
    }

    #[inline]
    pub(super) fn read_pace(&self, entry: &mut Entry, readings: &mut Readings) {
        let Some((_, berth)) = self.unread(entry, KNOWS_PACE) else { return };
        readings.pace = berth.member.latency.read_pace(self.cx.now);
        entry.known |= KNOWS_PACE;
    }

    #[inline]
    pub(super) fn read_reported_full(&self, entry: &mut Entry, readings: &mut Readings) {
        let Some((_, berth)) = self.unread(entry, KNOWS_FULL) else { return };
        readings.reported_full = berth.member.reported_full(self.cx.now);
        entry.known |= KNOWS_FULL;
    }

    pub(super) fn read_throttled(&self, entry: &mut Entry, readings: &mut Readings) {
        let Some((_, berth)) = self.unread(entry, KNOWS_THROTTLED) else { return };
        readings.throttled = berth.member.throttle.share(self.cx.now);
        entry.known |= KNOWS_THROTTLED;
    }

    /// The tokens in flight to it; none where nobody bounds them.
    #[inline]
    pub(super) fn tokens(&self, entry: &mut Entry, readings: &mut Readings) -> TokenLoad {
        match self.unread(entry, KNOWS_TOKENS) {
            Some((live, berth)) if live.metered => {
                readings.tokens = live.tokens(self.cx.facts, berth);
                entry.known |= KNOWS_TOKENS;
            }
            None if entry.known & KNOWS_TOKENS != 0 => {}
            _ => return TokenLoad::default(),
        }
        readings.tokens
    }

    /// What it probably has in its cache; `None` where the prompt's prefix is not known.
    #[inline]
    pub(super) fn prefix<'r>(&self, entry: &mut Entry, readings: &'r mut Readings) -> Option<&'r mut Belief> {
        let facts = self.cx.facts;
        facts.prompt_prefix()?;
        let seat = entry.seat as usize;
        let read = || match self.source {
            Source::Live { live, .. } => {
                let berth = &live.fleet.berths[seat];
                berth.member.prefixes.belief(facts, berth.prefix_cache)
            }
            Source::Recorded(_) => None,
        };
        readings.prefix(entry, read)
    }
}
