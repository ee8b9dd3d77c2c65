//! Which candidates of a pool a slate gets.

use super::slate::Slate;
use super::survey::{Live, demote_unproven};
use super::{Contender, Window};
use crate::decision::record::{Entry, Readings};
use crate::fleet::Pool;
use crate::rng::{Rng, hash_str, mix};
use std::ops::Range;

impl Slate<'_> {
    /// Surveys a pool: whole when it is small, else window by window until one has a usable candidate that is not as full as it
    /// may be for this request. Returns how many it passed over, and of how many.
    pub(super) fn look(&mut self, live: &Live<'_>, pool: &Pool, tier: u8) -> (usize, usize) {
        let total = pool.seats.len();
        if self.window == Window::Pair && total > 2 {
            return self.look_at_pairs(live, pool, tier);
        }
        if total <= Window::SIZE {
            self.survey(live, pool, tier, pool.seats.iter().copied());
            return (0, total);
        }
        let (facts, by_region) = (self.ground.cx.facts, self.window == Window::ByRegion);
        let point = match (self.window, facts.request_session()) {
            (Window::BySession | Window::ByRegion, Some(session)) => hash_str(session),
            (Window::ByTenant, _) if let Some(tenant) = facts.request_tenant() => hash_str(tenant),
            _ => mix(self.ground.cx.seed, WINDOW_STREAM),
        };
        let may_serve = |region| live.fleet.may_serve(facts, region);
        let mut round = match self.window {
            Window::InOrder => pool.in_order(),
            _ if by_region || facts.has_residency() || live.fleet.bars(pool) => {
                pool.by_region(point, by_region, may_serve)
            }
            _ => pool.around(point),
        };
        let no_use = live.share.is_some() || (self.window == Window::ByTenant && facts.request_tenant().is_some());
        let (first, mut seen) = (self.sheet.entries.len(), 0);
        // Where the window begins that is looked at. What stands before it is the first with somebody usable: who is as full as
        // backends may be for this request is waited for where nobody is less full.
        let mut begin = first;
        let mut next = None;
        loop {
            self.survey(live, pool, tier, next.into_iter().chain(round.by_ref().take(Window::SIZE)));
            let looked = self.sheet.entries.len() - begin;
            seen += looked;
            let is_usable = self.sheet.entries[begin..].iter().any(Entry::admitted);
            if is_usable && self.has_room(begin) {
                self.put_aside(first..begin);
                break;
            }
            next = if looked < Window::SIZE || no_use { None } else { round.next() };
            if begin == first && (is_usable || next.is_none()) {
                begin = self.sheet.entries.len();
            } else {
                self.put_aside(begin..self.sheet.entries.len());
            }
            if next.is_none() {
                break;
            }
        }
        (seen - (self.sheet.entries.len() - first), total)
    }

    /// Whether somebody usable from this index on is less full than backends may be for this request.
    fn has_room(&mut self, begin: usize) -> bool {
        let ceiling = self.ceiling;
        if ceiling >= 1000 {
            return true;
        }
        let Self { sheet, ground, .. } = self;
        sheet.entries[begin..].iter().filter(|entry| entry.admitted()).any(|entry| {
            // What is read here is not of the decision: most of these are put aside.
            let (mut entry, mut readings, mut regular) = (*entry, Readings::default(), false);
            let candidate = &mut Contender {
                entry: &mut entry,
                readings: &mut readings,
                regular: &mut regular,
                ground,
                version: None,
            };
            !candidate.is_full_to(ceiling)
        })
    }

    /// Takes candidates off the slate again.
    fn put_aside(&mut self, window: Range<usize>) {
        self.sheet.findings.retain_mut(|finding| {
            let stays = !window.contains(&finding.index);
            if finding.index >= window.end {
                finding.index -= window.len();
            }
            stays
        });
        self.sheet.entries.drain(window);
    }

    /// Surveys pairs of random backends until one of a pair is usable; after a few, the pool as any other.
    fn look_at_pairs(&mut self, live: &Live<'_>, pool: &Pool, tier: u8) -> (usize, usize) {
        let total = pool.seats.len();
        let first = self.sheet.entries.len();
        let mut rng = Rng::new(self.ground.cx.seed ^ WINDOW_STREAM);
        for _ in 0..PAIRS {
            let one = rng.below(total);
            // Distinct: the second draw is from the others.
            let other = one + 1 + rng.below(total - 1);
            let other = if other < total { other } else { other - total };
            self.survey(live, pool, tier, [pool.seats[one], pool.seats[other]].into_iter());
            if self.sheet.entries[first..].iter().any(Entry::admitted) {
                return (0, total);
            }
            self.put_aside(first..self.sheet.entries.len());
        }
        self.window = Window::Random;
        self.look(live, pool, tier)
    }

    fn survey(&mut self, live: &Live<'_>, pool: &Pool, tier: u8, seats: impl Iterator<Item = u32>) {
        let first = self.sheet.entries.len();
        let plain = self.ground.is_plain(live, pool);
        for seat in seats {
            let berth = &live.fleet.berths[seat as usize];
            match self.ground.survey(live, berth, seat, plain) {
                None => self.sheet.push(Entry::new(seat, tier)),
                Some(finding) => self.sheet.push_finding(Entry::new(seat, tier), finding),
            }
        }
        if !live.signals.is_empty() {
            demote_unproven(self.sheet, first, live, self.ground.cx.now);
        }
    }
}

/// How many pairs are drawn before the pool is looked at as a whole.
const PAIRS: usize = 4;

/// Separates the draw of a window from other draws of the decision.
const WINDOW_STREAM: u64 = 0x5749_4e44;
