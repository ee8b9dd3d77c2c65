//! The first look at a backend: hard lines, limits, recovery and signals, before any policy speaks.

use crate::decision::record::{Entry, LEVEL_NORMAL, LEVEL_PROBE};
use crate::decision::Reason;
use crate::facts::Facts;
use crate::fleet::{Berth, Fleet, RegionIndex};
use crate::recover::Standing;
use crate::rng::mix;
use crate::signal::{HealthSignal, Reading};
use crate::time::Instant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Where a slate gets its candidates from: live state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) signals: &'a [Arc<dyn HealthSignal>],
    /// Counts decisions for the policies that take turns.
    pub(crate) ticks: &'a AtomicU64,
}

/// What of a request the survey compares, looked up once per decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) now: Instant,
    pub(crate) seed: u64,
}

impl Asked<'_> {
    /// Fills `entry` with what is known of the backend in `berth`.
    pub(crate) fn survey(&self, live: &Live<'_>, berth: &Berth, entry: &mut Entry) {
        let rejected = self.hard_line(live, berth, entry.seat).or_else(|| self.soft_line(berth, entry));
        if !live.signals.is_empty() && rejected.is_none() {
            entry.first_rejected = self.listen(live, entry);
        } else {
            entry.first_rejected = rejected;
        }
        entry.rejected = entry.first_rejected;
        entry.level = entry.first_level;
        entry.note = entry.first_note;
    }

    /// Lines that nothing overrides. The common request meets none of them and pays a few comparisons.
    fn hard_line(&self, live: &Live<'_>, berth: &Berth, seat: u32) -> Option<Reason> {
        let facts = self.facts;
        if berth.drained {
            return Some(Reason::Drained);
        }
        if !facts.residency.is_empty() && !live.fleet.may_serve(facts, berth.region) {
            return Some(Reason::OutsideResidency);
        }
        if berth.picky && !facts.tenant.as_ref().is_some_and(|tenant| {
            live.fleet.profile(seat).tenants.iter().any(|allowed| **allowed == **tenant)
        }) {
            return Some(Reason::TenantForbidden);
        }
        if !facts.needs.is_empty()
            && let Some(offered) = berth.capabilities
            && !offered.contains(facts.needs)
        {
            return Some(Reason::MissingCapabilities { missing: facts.needs.missing_from(offered) });
        }
        if facts.context_tokens() > berth.context_window {
            return Some(Reason::ContextTooLong { tokens: facts.context_tokens() });
        }
        if let Some(cap) = facts.max_cost {
            let Some(price) = live.fleet.profile(seat).price else { return Some(Reason::PriceUnknown) };
            let cost = price.of(facts.input_tokens(), facts.expected_output_tokens());
            if cost > cap {
                return Some(Reason::OverPriceCap { cost });
            }
        }
        None
    }

    fn soft_line(&self, berth: &Berth, entry: &mut Entry) -> Option<Reason> {
        match berth.member.recovery.standing(self.now) {
            Standing::In => {}
            Standing::Out(reason) => return Some(reason),
            Standing::Due => {
                entry.first_level = LEVEL_PROBE;
                entry.first_note = Some(Reason::Probe);
            }
            Standing::Ramping(share) => {
                // Its share of the requests treat it as any other, the rest put it behind. Works under every
                // leaf, and does nothing to a lone candidate.
                if mix(self.seed, entry.id.slot() as u64 ^ RAMP_STREAM) % 1000 >= u64::from(share) {
                    entry.first_level = LEVEL_NORMAL + 1;
                    entry.first_note = Some(Reason::RampingUp { share });
                }
            }
        }
        let limit = berth.limit?;
        let in_flight = berth.member.gauge.in_flight();
        (in_flight >= limit).then_some(Reason::AtCapacity { in_flight })
    }

    /// The worst fresh opinion decides; the lack of one is noted.
    fn listen(&self, live: &Live<'_>, entry: &mut Entry) -> Option<Reason> {
        let mut worst = None;
        for (signal, source) in (0u32..).zip(live.signals) {
            // A signal that panics says nothing; the panic must not cross a decision.
            let reading =
                catch_unwind(AssertUnwindSafe(|| source.read(entry.id, self.now))).unwrap_or(Reading::Missing);
            match reading {
                Reading::Fresh { value, .. } if !value.is_healthy() => {
                    let score = u32::from(value.permille());
                    if worst.is_none_or(|(_, least)| score < least) {
                        worst = Some((signal, score));
                    }
                }
                Reading::Fresh { .. } => {}
                Reading::Stale { .. } | Reading::Missing if entry.first_note.is_none() => {
                    entry.first_note = Some(Reason::Unproven { signal });
                }
                Reading::Stale { .. } | Reading::Missing => {}
            }
        }
        worst.map(|(signal, score)| Reason::Unhealthy { signal, score })
    }
}

/// Separates the draws for slow starts from other draws of the decision.
const RAMP_STREAM: u64 = 0x5241_4d50;

/// Unknown is not best: where a peer has a fresh good reading, a candidate without one stands behind it. Where
/// nobody has one (the source is gone), all stand as before.
pub(crate) fn demote_unproven(entries: &mut [Entry]) {
    let unproven = |entry: &Entry| matches!(entry.note, Some(Reason::Unproven { .. }));
    if entries.iter().any(|entry| entry.admitted() && !unproven(entry)) {
        for entry in entries.iter_mut().filter(|entry| unproven(entry)) {
            entry.first_level = entry.first_level.saturating_add(1);
            entry.level = entry.first_level;
        }
    }
}

/// Whether the survey of a region can be skipped for this request.
pub(crate) fn region_filter<'a>(
    fleet: &'a Fleet,
    facts: &'a Facts,
) -> Option<impl Fn(RegionIndex) -> bool + use<'a>> {
    (!facts.residency.is_empty()).then_some(move |region| fleet.may_serve(facts, region))
}
