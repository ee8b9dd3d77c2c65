//! What to do when no candidate is left: wait, go back, try anyway, or give up.

use super::split::time_for;
use super::{FailSafe, FailSafePolicy, failed_here, failed_with, give_up, last_failure};
use crate::backend::{FailureKind, Retry};
use crate::budget::Backoff;
use crate::decision::record::Entry;
use crate::decision::{Class, Next, Reason, Refusal};
use crate::facts::Priority;
use crate::policy::budgeted::admit_closest;
use crate::policy::{Contender, PlanContext, RoutingPolicy, Slate};
use crate::time::Instant;

const BACKOFF_STREAM: u64 = 0x4241_434b;

impl<P: RoutingPolicy> FailSafePolicy<P> {
    /// Steps 4 to 8 of the module's list.
    pub(super) fn when_nothing_is_left(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> Next {
        if slate.sheet.tiers.is_empty() {
            let kind = FailureKind::ContentRejected;
            return if failed_with(cx, kind) {
                Next::Refuse { why: Refusal::NotRetryable { kind } }
            } else {
                give_up(cx, cx.unserved())
            };
        }
        if admit_closest(slate) && self.consult(cx, slate) {
            return Next::Call { at: cx.now() };
        }
        if let Some(next) = wait_for_another(cx, slate).or_else(|| self.retry_here(cx, slate)) {
            return next;
        }
        if cx.attempts().is_empty()
            && let Some(next) = self.trial(cx, slate)
        {
            return next;
        }
        // A last resort needs a moment as well; waiting must not use up its time.
        let latest = cx.deadline() - cx.last_resort_reserve();
        match earliest_promise(cx, slate, latest) {
            Some(until) if latest > cx.now() => Next::Wait { until },
            _ if self.ask_doubtful(cx, slate) => Next::Call { at: cx.now() },
            _ => give_up(cx, infeasible(slate).unwrap_or(Refusal::NothingUsable)),
        }
    }

    /// Waiting is no option: better a doubtful quota than none.
    fn ask_doubtful(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> bool {
        let mut found = false;
        for index in 0..slate.sheet.entries.len() {
            let mut candidate = slate.contender(index);
            if candidate.rejected() == Some(Reason::QuotaInDoubt) {
                found |= candidate.try_anyway(Reason::QuotaProbe);
            }
        }
        found && self.consult(cx, slate)
    }

    /// Tries a backend again on which the request failed, where nothing speaks against it but that.
    fn retry_here(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> Option<Next> {
        let kind = last_failure(cx)?;
        let overload = |entry: &Entry| matches!(entry.rejected, Some(Reason::TooSlow { .. }));
        if kind.conduct().retry != Retry::Elsewhere || slate.sheet.entries.iter().any(overload) {
            return None;
        }
        // One that said when to come back, and that time has come: the wait was served already.
        let mut due = false;
        for index in 0..slate.sheet.entries.len() {
            let mut candidate = slate.contender(index);
            if matches!(candidate.rejected(), Some(Reason::FailedHere { .. }))
                && let Some(note @ (Reason::Probe | Reason::QuotaProbe)) = candidate.note()
            {
                due |= candidate.try_anyway(note);
            }
        }
        if due && self.consult(cx, slate) {
            return Some(Next::Call { at: cx.now() });
        }
        let backoff = if kind == FailureKind::RateLimited { Backoff::THROTTLED } else { self.config.backoff };
        let wait = backoff.wait(cx.attempts().len() as u32 - 1, &mut cx.rng(BACKOFF_STREAM));
        // Since the failure, or since it gave up waiting for others. Who backed off and waits in the queue is not sent back.
        let (failed, until) = hope_for_another(cx)?;
        let since = if cx.now() < until { failed } else { until };
        let at = cx.now().max(since + wait);
        if at >= cx.deadline() {
            return None;
        }
        let (entries, reserve) = (0..slate.sheet.entries.len(), slate.sheet.reserve);
        let mut found = false;
        for index in entries {
            let mut candidate = slate.contender(index);
            // A back-off that leaves too little for the attempt is none.
            let fits = |candidate: &mut Contender<'_>| {
                reserve.is_none_or(|reserve| at.plus_nanos(time_for(candidate, reserve, 0)) < cx.deadline())
            };
            if matches!(candidate.rejected(), Some(Reason::FailedHere { .. })) && fits(&mut candidate) {
                found |= candidate.try_anyway(Reason::RetriedHere { at });
            }
        }
        (found && self.consult(cx, slate)).then_some(Next::Call { at })
    }

    /// Everything rests after failures, and a rest is a guess: now and then one request finds out.
    fn trial(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> Option<Next> {
        // Each round ends it or draws a hard line.
        for _ in 0..slate.sheet.entries.len() {
            let index = self.longest_untried(cx, slate)?;
            if !slate.contender(index).try_anyway(Reason::Trial) {
                return None;
            }
            if self.consult(cx, slate) {
                return Some(Next::Call { at: cx.now() });
            }
        }
        None
    }

    /// Which resting candidate was called longest ago, unless somebody was called a moment ago.
    fn longest_untried(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> Option<usize> {
        let mut oldest: Option<(Instant, usize)> = None;
        let mut latest = Instant::default();
        for index in 0..slate.sheet.entries.len() {
            let mut candidate = slate.contender(index);
            if candidate.rejected().is_some_and(|reason| reason.class() == Class::Hard) {
                continue;
            }
            // Busy is not sick: there is somebody to wait for.
            if candidate.rejected().is_some_and(|reason| reason.is_busy()) {
                return None;
            }
            let called = candidate.load().last_called;
            latest = latest.max(called);
            let resting = candidate.rejected().is_some_and(rests);
            if resting && oldest.is_none_or(|(least, _)| called < least) {
                oldest = Some((called, index));
            }
        }
        let (_, index) = oldest?;
        (cx.now() - latest >= FailSafe::TRIAL_INTERVAL).then_some(index)
    }
}

/// Whether the router chose itself that it rests.
const fn rests(reason: Reason) -> bool {
    reason.is_ejection() || matches!(reason, Reason::CoolingDown { .. } | Reason::DomainOut { .. })
}

/// Whether all that stands in the way is the time: then the request asks for what it can not have.
fn infeasible(slate: &Slate<'_>) -> Option<Refusal> {
    let mut least: Option<(u64, u64)> = None;
    for entry in &slate.sheet.entries {
        match entry.rejected? {
            Reason::MissesDeadline { half, left, .. } => least = least.min(Some((half, left))).or(Some((half, left))),
            Reason::FailedHere { .. } => {}
            reason if reason.class() == Class::Hard => {}
            _ => return None,
        }
    }
    least.map(|(half, left)| Refusal::Infeasible { half, left })
}

/// When the last attempt failed, and until when another backend is better than that one: half of the time that was left.
fn hope_for_another(cx: &PlanContext<'_>) -> Option<(Instant, Instant)> {
    let failed = cx.attempts().last()?.ended;
    Some((failed, failed + (cx.deadline() - failed) / 2))
}

/// Others are only busy: better wait for one of them than go back to where the request failed. Half of the time that
/// was left is given to that; slots that do not free by then may never. Until then a slot where it failed is not for it.
fn wait_for_another(cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> Option<Next> {
    let (_, until) = hope_for_another(cx)?;
    let is_busy = |reason: Option<Reason>| reason.is_some_and(|reason| reason.is_busy());
    let busy = slate.sheet.entries.iter().any(|entry| {
        let id = slate.ground.roster.seats[entry.seat as usize].0;
        is_busy(entry.rejected) && failed_here(cx, id).is_none()
    });
    if !busy || cx.now() >= until {
        return None;
    }
    for index in 0..slate.sheet.entries.len() {
        let mut candidate = slate.contender(index);
        if is_busy(candidate.rejected())
            && let Some(reason) = failed_here(cx, candidate.id())
        {
            candidate.reject_instead(reason);
        }
    }
    Some(Next::Wait { until })
}

/// When to look again because somebody promised: a backend that said when it is back, if that is before the
/// deadline; a slot or a probe's result, which wake the waiting. A rest that this router chose itself promises
/// nothing; but who waits all the same looks when it is over. A promise that is past, as a policy of the host may make it, is none.
fn earliest_promise(cx: &PlanContext<'_>, slate: &Slate<'_>, deadline: Instant) -> Option<Instant> {
    let waits = cx.facts().request_priority() >= Priority::Standard;
    let promises = slate.sheet.entries.iter().filter_map(|entry| match entry.rejected? {
        Reason::RateLimited { until } | Reason::AskedToWait { until } | Reason::OverQuota { until } => {
            (until < deadline).then_some(until)
        }
        Reason::ProbeInFlight { until } => Some(until.min(deadline)),
        Reason::AtCapacity { .. }
        | Reason::PrefillFull { .. }
        | Reason::TokensFull { .. }
        | Reason::QuotaKept { .. }
        | Reason::TenantFull { .. }
        | Reason::RouteFull { .. } => Some(deadline),
        // What can be shed does not stand in the way of others.
        Reason::RegionFull { .. } | Reason::Reserved { until: None, .. } => waits.then_some(deadline),
        // Nobody tells when the next report says something else.
        Reason::Reserved { until: Some(until), .. } => waits.then_some(until.min(deadline)),
        _ => None,
    });
    let promise = promises.filter(|until| *until > cx.now()).min()?;
    let rests =
        slate.sheet.entries.iter().filter_map(|entry| entry.rejected.filter(|reason| rests(*reason))?.returns_at());
    Some(rests.filter(|back| *back > cx.now()).fold(promise, Instant::min))
}
