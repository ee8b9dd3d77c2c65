//! The first look at a backend: hard lines, limits, recovery and signals, before any policy speaks.

use super::PlanContext;
use super::ground::Ground;
use crate::backend::BackendId;
use crate::decision::record::{Entry, Finding, LEVEL_NORMAL, LEVEL_PROBE, Sheet};
use crate::decision::{Reason, TokenLoad};
use crate::facts::{Facts, Need, Price};
use crate::fleet::{Berth, Crowd, Fleet, Member, Pool};
use crate::limit::Held;
use crate::recover::{Alarm, Standing};
use crate::rng::mix;
use crate::shape::Means;
use crate::signal::{HealthSignal, Reading};
use crate::time::Instant;
use crate::unwind::contain;
use std::sync::Arc;

/// Where a slate gets its candidates from: live state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) signals: &'a [Arc<dyn HealthSignal>],
    /// Which of the signals have nothing to say, by bit; see [`calm_ones`].
    pub(crate) calm: u64,
    /// What others have waiting.
    pub(crate) crowd: &'a Crowd,
    /// Silent while every gate of every backend is open.
    pub(crate) alarm: &'a Alarm,
    /// Some backend has a quota, or bounds tokens.
    pub(crate) metered: bool,
    /// Where the request has a slot in hand, which was freed for it: others find the backend full.
    pub(crate) in_hand: Option<(BackendId, &'a Held)>,
    /// Of the queue: what is promised to those who wait holds in one.
    pub(crate) round: u32,
    /// Why it may not start anywhere, where its tenant or its route has all that it may have.
    pub(crate) share: Option<Reason>,
    /// What it may cost, where that is limited.
    pub(crate) purse: Option<Purse<'a>>,
}

/// What a request may still cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purse<'a> {
    /// What its attempts so far may have cost; `u64::MAX` where nobody knows.
    pub(crate) spent: u64,
    /// Tokens of its answer that are there, which go along with a request for the rest.
    pub(crate) carried: u64,
    /// What the spend limits leave.
    pub(crate) means: Option<&'a Means>,
}

impl Purse<'_> {
    /// Why an attempt at this price may not be made.
    fn refuses(&self, facts: &Facts, price: Option<&Price>) -> Option<Reason> {
        let Some(price) = price else { return Some(Reason::PriceUnknown) };
        let (cost, spent) = (facts.most_cost(price, self.carried), self.spent);
        if facts.max_cost.is_some_and(|cap| cost > cap.saturating_sub(spent)) {
            return Some(Reason::OverPriceCap { spent, cost });
        }
        self.means.and_then(|means| means.refuses(cost))
    }
}

/// The signals that have nothing to say of any backend, by bit. Those that have no bit have something to say.
#[inline]
pub(crate) fn calm_ones(signals: &[Arc<dyn HealthSignal>], now: Instant) -> u64 {
    let calm = |signal: &dyn HealthSignal| contain(|| signal.is_calm(now)).unwrap_or(false);
    signals.iter().take(64).enumerate().fold(0, |bits, (index, signal)| bits | u64::from(calm(&**signal)) << index)
}

impl Live<'_> {
    /// Whether no signal has anything to say.
    fn all_calm(&self) -> bool {
        self.calm.count_ones() as usize == self.signals.len()
    }

    /// The signals that have something to say, or those that have not.
    fn signals(&self, calm: bool) -> impl Iterator<Item = (u32, &dyn HealthSignal)> {
        let bits = self.calm;
        let is_calm = move |index: u32| bits.checked_shr(index).is_some_and(|bits| bits & 1 == 1);
        (0..).zip(self.signals).filter(move |(index, _)| is_calm(*index) == calm).map(|(index, it)| (index, &**it))
    }

    /// Why the backend has no room for the request: as many calls as may be are in flight, or its quotas have too little.
    #[inline]
    fn full(&self, cx: &PlanContext<'_>, berth: &Berth) -> Option<Reason> {
        let (in_flight, limit) = (berth.member.gauge.in_flight(), berth.limit());
        // Most have room, and no other bound.
        if in_flight < limit && !self.metered {
            return None;
        }
        self.full_closely(cx, berth, in_flight, limit)
    }

    #[inline(never)]
    fn full_closely(&self, cx: &PlanContext<'_>, berth: &Berth, in_flight: u32, limit: u32) -> Option<Reason> {
        // Nobody waits for a slot in vain.
        if self.metered
            && let Some(reason) = self.too_small(cx, berth)
        {
            return Some(reason);
        }
        let own = self.held_at(berth.member.id).is_some() && in_flight <= limit;
        if in_flight >= limit && !own {
            return Some(Reason::AtCapacity { in_flight, limit });
        }
        if self.metered { self.short(cx, berth) } else { None }
    }

    /// What is held there for the request.
    pub(crate) fn held_at(&self, backend: BackendId) -> Option<&Held> {
        self.in_hand.filter(|(own, _)| *own == backend).map(|(_, held)| held)
    }

    /// Until when the quotas have too little for the request, and until when what they have is kept for another. A moment that is
    /// past is now.
    pub(crate) fn over_quota(&self, cx: &PlanContext<'_>, member: &Member) -> [Instant; 2] {
        if self.held_at(member.id).is_some_and(|held| held.claim.is_some()) {
            return [Instant::default(); 2];
        }
        let kept = member.gauge.promised_until(cx.facts.request_priority(), self.round);
        [member.quotas.returns_at(Need::of(cx.facts), cx.now), kept]
    }

    /// What there is too little of.
    fn short(&self, cx: &PlanContext<'_>, berth: &Berth) -> Option<Reason> {
        self.by_tokens(cx.facts, berth, TokenLoad::full).or_else(|| {
            let [until, kept] = self.over_quota(cx, &berth.member);
            if until > cx.now {
                return Some(Reason::OverQuota { until });
            }
            (kept > cx.now).then_some(Reason::QuotaKept { until: kept })
        })
    }

    /// The limit that the request exceeds, whatever is free.
    fn too_small(&self, cx: &PlanContext<'_>, berth: &Berth) -> Option<Reason> {
        let quota = berth.member.quotas.too_small(Need::of(cx.facts));
        quota.or_else(|| self.by_tokens(cx.facts, berth, TokenLoad::too_small))
    }

    /// What the bounds of tokens say of the request, if there are any, by what is known now of the backend's cache.
    fn by_tokens(
        &self,
        facts: &Facts,
        berth: &Berth,
        ask: impl FnOnce(&TokenLoad, Need) -> Option<Reason>,
    ) -> Option<Reason> {
        let tokens = self.tokens(facts, berth);
        if !tokens.is_bounded() {
            return None;
        }
        let cached = berth.member.prefixes.cached_of(facts, berth.prefix_cache);
        ask(&tokens, Need::of(facts).without(cached.unwrap_or(0)))
    }

    /// The tokens in flight to the backend in `berth`, as the request finds them.
    pub(crate) fn tokens(&self, facts: &Facts, berth: &Berth) -> TokenLoad {
        let gauge = &berth.member.gauge;
        match self.held_at(berth.member.id) {
            _ if !self.metered || !gauge.is_bounded() => TokenLoad::default(),
            Some(held) => gauge.tokens_beside(&held.hold),
            None => gauge.tokens_for(facts.request_priority(), self.round),
        }
    }
}

impl Ground<'_> {
    /// Whether neither the request nor the pool draws a hard line, the request may start, and nothing is wrong with any
    /// backend of the router: then the only question to each candidate is whether it is full.
    #[inline]
    pub(crate) fn is_plain(&self, live: &Live<'_>, pool: &Pool) -> bool {
        let facts = self.cx.facts;
        !facts.has_residency()
            && facts.needs.is_empty()
            && live.purse.is_none()
            && live.share.is_none()
            && facts.context_tokens() <= pool.least_window.min(self.terms.context_window)
            && !pool.selective
            && self.cx.beside.is_none()
            && live.all_calm()
            && live.alarm.is_silent()
    }

    /// What speaks against the backend in `berth`, or for it; `None` when it is as any other.
    #[inline(always)]
    pub(crate) fn survey(&self, live: &Live<'_>, berth: &Berth, seat: u32, plain: bool) -> Option<Finding> {
        if plain {
            return live.full(self.cx, berth).map(Finding::rejected);
        }
        self.look_closely(live, berth, seat)
    }

    #[inline(never)]
    fn look_closely(&self, live: &Live<'_>, berth: &Berth, seat: u32) -> Option<Finding> {
        let mut finding = Finding { index: 0, level: LEVEL_NORMAL, rejected: None, note: None, unproven: false };
        finding.rejected = self
            .hard_line(live, berth, seat)
            // No doubt about a backend matters while the request may not start anywhere.
            .or(live.share)
            .or_else(|| self.soft_line(live, berth, &mut finding))
            .or_else(|| self.listen(live, berth, &mut finding));
        let regular = finding.rejected.is_none() && finding.note.is_none() && finding.level == LEVEL_NORMAL;
        (!regular).then_some(finding)
    }

    /// Lines that nothing overrides. The common request meets none of them and pays a few comparisons.
    fn hard_line(&self, live: &Live<'_>, berth: &Berth, seat: u32) -> Option<Reason> {
        let facts = self.cx.facts;
        if let Some(beside) = self.cx.beside
            && let Some(reason) = beside.bars(berth.member.id, live.fleet.profile(seat))
        {
            return Some(reason);
        }
        if berth.drained {
            return Some(Reason::Drained);
        }
        if berth.barred || (facts.has_residency() && !live.fleet.may_serve(facts, berth.region)) {
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
            && let Some(offered) = berth.capabilities.or(self.terms.capabilities)
            && !offered.contains(facts.needs)
        {
            return Some(Reason::MissingCapabilities { missing: facts.needs.missing_from(offered) });
        }
        let window = if berth.context_window < u64::MAX { berth.context_window } else { self.terms.context_window };
        if facts.context_tokens() > window {
            return Some(Reason::ContextTooLong { tokens: facts.context_tokens() });
        }
        if live.metered
            && let Some(reason) = live.too_small(self.cx, berth)
        {
            return Some(reason);
        }
        let price = || live.fleet.profile(seat).known_price().or(self.terms.price);
        live.purse.and_then(|purse| purse.refuses(facts, price()))
    }

    fn soft_line(&self, live: &Live<'_>, berth: &Berth, finding: &mut Finding) -> Option<Reason> {
        let standing = match live.alarm.is_silent() {
            true => Standing::In,
            false => berth.member.recovery.standing(&berth.ties, self.cx.now),
        };
        match standing {
            Standing::In => {}
            Standing::Out(reason) => return Some(reason),
            Standing::Due { .. } if self.cx.beside.is_some() => return Some(Reason::NotForHedges),
            Standing::Due { quota } => {
                // Who is gone before it can answer finds nothing out, and it would rest once more.
                let (best, left) = (berth.member.latency.read().best, self.cx.deadline.nanos_since(self.cx.now));
                if best > left {
                    return Some(Reason::MissesDeadline { late: best, half: best, left });
                }
                finding.level = LEVEL_PROBE;
                finding.note = Some(if quota { Reason::QuotaProbe } else { Reason::Probe });
            }
            Standing::Ramping(share) => {
                // Its share of the requests treat it as any other, the rest put it behind. Works under every
                // leaf, and does nothing to a lone candidate.
                finding.note = Some(Reason::RampingUp { share });
                if mix(self.cx.seed, berth.member.id.slot() as u64 ^ RAMP_STREAM) % 1000 >= u64::from(share) {
                    finding.level = LEVEL_NORMAL + 1;
                }
            }
        }
        live.full(self.cx, berth)
    }

    /// The worst fresh opinion decides. Where all that speak speak well, it is enough that one does; the silence of
    /// those that should have spoken is noted.
    fn listen(&self, live: &Live<'_>, berth: &Berth, finding: &mut Finding) -> Option<Reason> {
        let mut worst = None;
        let (mut praised, mut silent) = (false, None);
        for (signal, source) in live.signals(false) {
            match Said::by(source, berth.member.id, self.cx.now) {
                Said::Ill { score, at } => {
                    if worst.is_none_or(|(_, least, _)| score < least) {
                        worst = Some((signal, score, at));
                    }
                }
                Said::Well => praised = true,
                Said::Nothing { at, expected: true } => silent = silent.or(Some((signal, at))),
                Said::Nothing { expected: false, .. } => {}
            }
        }
        if let Some((signal, at)) = silent {
            let praises = |(_, source)| matches!(Said::by(source, berth.member.id, self.cx.now), Said::Well);
            praised = praised || live.signals(true).any(praises);
            finding.unproven = !praised;
            // What the backend's own gate has to say goes before.
            finding.note = finding.note.or(Some(match praised {
                true => Reason::PartlyUnproven { signal, at },
                false => Reason::Unproven { signal, at },
            }));
        }
        worst.map(|(signal, score, at)| Reason::Unhealthy { signal, score, at })
    }
}

/// What a signal says of a backend.
enum Said {
    Ill {
        score: u32,
        at: Instant,
    },
    Well,
    Nothing {
        at: Option<Instant>,
        /// It should have said something.
        expected: bool,
    },
}

impl Said {
    /// A signal that panics says nothing; the panic must not cross a decision.
    fn by(signal: &dyn HealthSignal, backend: BackendId, now: Instant) -> Self {
        let covers = || covers(signal, backend);
        match contain(|| signal.read(backend, now)).unwrap_or(Reading::Missing) {
            Reading::Fresh { value, at } if !value.is_healthy() => Self::Ill { score: u32::from(value.permille()), at },
            Reading::Fresh { .. } => Self::Well,
            Reading::Stale { at, .. } => Self::Nothing { at: Some(at), expected: covers() },
            Reading::Missing => Self::Nothing { at: None, expected: covers() },
        }
    }
}

/// Separates the draws for slow starts from other draws of the decision.
const RAMP_STREAM: u64 = 0x5241_4d50;

fn covers(signal: &dyn HealthSignal, backend: BackendId) -> bool {
    contain(|| signal.covers(backend)).unwrap_or(true)
}

/// Unknown is not best: a candidate that a signal should know and does not, and that no other calls well, stands behind
/// where such a signal calls a peer well. Where it praises nobody (the source is gone), all stand as before.
pub(crate) fn demote_unproven(sheet: &mut Sheet, first: usize, live: &Live<'_>, now: Instant) {
    let Sheet { entries, findings, .. } = sheet;
    let unproven = |finding: &Finding| finding.index >= first && finding.unproven;
    if !findings.iter().any(unproven) {
        return;
    }
    // Rare, so those with nothing against them are asked about once more instead of being written down each time.
    let vouched = |entry: &Entry| {
        let backend = live.fleet.berths[entry.seat as usize].member.id;
        let mut signals = live.signals.iter();
        signals.any(|it| matches!(Said::by(&**it, backend, now), Said::Well) && covers(&**it, backend))
    };
    if entries[first..].iter().any(|entry| entry.admitted() && vouched(entry)) {
        for finding in findings.iter_mut().filter(|finding| unproven(finding)) {
            finding.level = finding.level.saturating_add(1);
            finding.apply(&mut entries[finding.index]);
        }
    }
}
