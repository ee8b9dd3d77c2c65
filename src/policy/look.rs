//! Which candidates of a pool a slate gets.

use super::Window;
use super::slate::Slate;
use super::survey::{Live, demote_unproven};
use crate::decision::record::Entry;
use crate::fleet::Pool;
use crate::rng::{Rng, hash_str, mix};

impl Slate<'_> {
    /// Surveys a pool: whole when it is small, else window by window until one has a usable candidate.
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
        let first = self.sheet.entries.len();
        let mut passed = 0;
        loop {
            self.survey(live, pool, tier, round.by_ref().take(Window::SIZE));
            let looked = self.sheet.entries.len() - first;
            let no_use = live.share.is_some() || (self.window == Window::ByTenant && facts.request_tenant().is_some());
            if looked < Window::SIZE || no_use || self.sheet.entries[first..].iter().any(Entry::admitted) {
                return (passed, total);
            }
            // A full window and nobody usable: put it aside and look at the next, unless this was the last.
            let Some(next) = round.next() else { return (passed, total) };
            passed += looked;
            self.sheet.entries.truncate(first);
            self.sheet.findings.retain(|finding| finding.index < first);
            self.survey(live, pool, tier, std::iter::once(next));
        }
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
            self.sheet.entries.truncate(first);
            self.sheet.findings.retain(|finding| finding.index < first);
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
