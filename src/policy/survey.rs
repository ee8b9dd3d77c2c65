//! The first look at a backend: hard lines, limits, recovery and signals, before any policy speaks.

use crate::backend::BackendId;
use crate::decision::Reason;
use crate::decision::record::{Finding, LEVEL_NORMAL, LEVEL_PROBE, RegionIndex, Sheet};
use crate::facts::Facts;
use crate::fleet::{Berth, Fleet, Pool};
use crate::recover::{Alarm, Standing};
use crate::rng::mix;
use crate::signal::{HealthSignal, Reading};
use crate::time::Instant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Where a slate gets its candidates from: live state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) signals: &'a [Arc<dyn HealthSignal>],
    /// Silent while every gate of every backend is open.
    pub(crate) alarm: &'a Alarm,
    /// Where the request has a slot in hand, which was freed for it: others find the backend full.
    pub(crate) in_hand: Option<BackendId>,
}

impl Live<'_> {
    /// How many calls are in flight, where that is as many as may be.
    #[inline]
    fn full(&self, berth: &Berth) -> Option<Reason> {
        let in_flight = berth.member.gauge.in_flight();
        let own = self.in_hand == Some(berth.member.id) && in_flight <= berth.limit;
        (in_flight >= berth.limit && !own).then_some(Reason::AtCapacity { in_flight })
    }
}

/// What of a request the survey compares, looked up once per decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) now: Instant,
    pub(crate) seed: u64,
}

impl Asked<'_> {
    /// Whether neither the request nor the pool draws a hard line, nor is anything wrong with any backend of the
    /// router: then the only question to each candidate is whether it is full.
    #[inline]
    pub(crate) fn is_plain(&self, live: &Live<'_>, pool: &Pool) -> bool {
        let facts = self.facts;
        !facts.has_residency()
            && facts.needs.is_empty()
            && facts.max_cost.is_none()
            && facts.context_tokens() <= pool.least_window
            && !pool.selective
            && live.signals.is_empty()
            && live.alarm.is_silent()
    }

    /// What speaks against the backend in `berth`, or for it; `None` when it is as any other.
    #[inline(always)]
    pub(crate) fn survey(&self, live: &Live<'_>, berth: &Berth, seat: u32, plain: bool) -> Option<Finding> {
        if plain {
            return live.full(berth).map(Finding::rejected);
        }
        self.look_closely(live, berth, seat)
    }

    #[inline(never)]
    fn look_closely(&self, live: &Live<'_>, berth: &Berth, seat: u32) -> Option<Finding> {
        let mut finding = Finding { index: 0, level: LEVEL_NORMAL, rejected: None, note: None };
        finding.rejected = self
            .hard_line(live, berth, seat)
            .or_else(|| self.soft_line(live, berth, &mut finding))
            .or_else(|| self.listen(live, berth, &mut finding));
        let regular = finding.rejected.is_none() && finding.note.is_none() && finding.level == LEVEL_NORMAL;
        (!regular).then_some(finding)
    }

    /// Lines that nothing overrides. The common request meets none of them and pays a few comparisons.
    fn hard_line(&self, live: &Live<'_>, berth: &Berth, seat: u32) -> Option<Reason> {
        let facts = self.facts;
        if berth.drained {
            return Some(Reason::Drained);
        }
        if facts.has_residency() && !live.fleet.may_serve(facts, berth.region) {
            return Some(Reason::OutsideResidency);
        }
        if berth.picky
            && !facts
                .tenant
                .as_ref()
                .is_some_and(|tenant| live.fleet.profile(seat).tenants.iter().any(|allowed| **allowed == **tenant))
        {
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

    fn soft_line(&self, live: &Live<'_>, berth: &Berth, finding: &mut Finding) -> Option<Reason> {
        match berth.member.recovery.standing(&berth.credential, self.now) {
            Standing::In => {}
            Standing::Out(reason) => return Some(reason),
            Standing::Due { quota } => {
                finding.level = LEVEL_PROBE;
                finding.note = Some(if quota { Reason::QuotaProbe } else { Reason::Probe });
            }
            Standing::Ramping(share) => {
                // Its share of the requests treat it as any other, the rest put it behind. Works under every
                // leaf, and does nothing to a lone candidate.
                finding.note = Some(Reason::RampingUp { share });
                if mix(self.seed, berth.member.id.slot() as u64 ^ RAMP_STREAM) % 1000 >= u64::from(share) {
                    finding.level = LEVEL_NORMAL + 1;
                }
            }
        }
        live.full(berth)
    }

    /// The worst fresh opinion decides; the lack of one is noted.
    fn listen(&self, live: &Live<'_>, berth: &Berth, finding: &mut Finding) -> Option<Reason> {
        let mut worst = None;
        for (signal, source) in (0u32..).zip(live.signals) {
            // A signal that panics says nothing; the panic must not cross a decision.
            let reading =
                catch_unwind(AssertUnwindSafe(|| source.read(berth.member.id, self.now))).unwrap_or(Reading::Missing);
            match reading {
                Reading::Fresh { value, .. } if !value.is_healthy() => {
                    let score = u32::from(value.permille());
                    if worst.is_none_or(|(_, least)| score < least) {
                        worst = Some((signal, score));
                    }
                }
                Reading::Fresh { .. } => {}
                Reading::Stale { .. } | Reading::Missing if finding.note.is_none() => {
                    finding.note = Some(Reason::Unproven { signal });
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
pub(crate) fn demote_unproven(sheet: &mut Sheet, first: usize) {
    let unproven = |note: Option<Reason>| matches!(note, Some(Reason::Unproven { .. }));
    if sheet.entries[first..].iter().any(|entry| entry.admitted() && !unproven(entry.note)) {
        for finding in sheet.findings.iter_mut().filter(|finding| finding.index >= first && unproven(finding.note)) {
            finding.level = finding.level.saturating_add(1);
            finding.apply(&mut sheet.entries[finding.index]);
        }
    }
}

/// Whether the survey of a region can be skipped for this request.
pub(crate) fn region_filter<'a>(fleet: &'a Fleet, facts: &'a Facts) -> Option<impl Fn(RegionIndex) -> bool + use<'a>> {
    facts.has_residency().then_some(move |region| fleet.may_serve(facts, region))
}
