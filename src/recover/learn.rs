//! What the end of an attempt says of its backend, and what follows.

use super::config::Growth;
use super::domain::Turn;
use super::gate::staggered;
use super::pulse::Beat;
use super::recovery::{
    ASKED_TO_WAIT, CREDENTIAL, DOMAIN, EJECTED, FAILS_OFTEN, HEALTH, MODEL_UNAVAILABLE, OVERLOADED, Permits, QUOTA,
    QUOTA_EXHAUSTED, RAMP, RATE_LIMITED, Recovery, Standing, UNAUTHORIZED, UNREACHABLE,
};
use super::ties::Ties;
use super::window::Tally;
use super::{Court, Ejection};
use crate::backend::{BackendError, Cools, FailureKind, Fault};
use crate::bug;
use crate::decision::Reason;
use crate::event::Cause;
use crate::sync::Ordering;
use crate::time::{Instant, nanos};
use std::time::Duration;

/// What the end of an attempt says of its backend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evidence<'a> {
    Success,
    Failure(&'a BackendError),
    /// It was given up too early to tell.
    TooEarly,
    Nothing,
}

/// What changed by an attempt that ended.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// At its backend.
    pub(crate) change: Option<Change>,
    /// At its failure domain, and the members that left or came back with it, by their position.
    pub(crate) domain: Option<(Turn, Vec<usize>)>,
}

impl Verdict {
    /// Whether anybody came or went.
    pub(crate) fn moved(&self) -> bool {
        self.domain.is_some() || self.change.is_some_and(|change| change.crossed)
    }
}

/// What changed at a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Why it is out now; `None` when it is in.
    pub(crate) out: Option<Reason>,
    pub(crate) cause: Cause,
    pub(crate) trips: u32,
    /// It was out and is in, or was in and is out.
    pub(crate) crossed: bool,
}

const GOOD: Tally = Tally { good: 1, failed: 0, refused: 0 };
const FAILED: Tally = Tally { good: 0, failed: 1, refused: 0 };
const REFUSED: Tally = Tally { good: 0, failed: 0, refused: 1 };

/// A slow start lasts this many times as long as the trouble did, at most: a second's rest is no cold start.
const RAMP_PER_OUTAGE: u32 = 10;

/// More returns than this change nothing.
const MOST_RETURNS: u32 = 3;
/// So long must it be well, in seconds, to make up for one of them. Who asks it a few times a minute meets what flaps while it is
/// well, again and again.
const MADE_UP_AFTER: u64 = 180;

/// An attempt that ended, with all that judges it.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) ties: &'a Ties,
    pub(super) court: &'a Court,
    pub(super) epochs: [u64; 4],
    /// It was the probe of its backend's health, or its domain's.
    probe: bool,
    entered: Instant,
    pub(super) now: Instant,
}

impl Recovery {
    /// Learns from the end of an attempt.
    pub(crate) fn learn(
        &self,
        ties: &Ties,
        permits: Permits,
        evidence: Evidence<'_>,
        court: &Court,
        now: Instant,
    ) -> Verdict {
        let Permits { epochs, entered, .. } = permits;
        let probe = permits.permits[HEALTH].is_some() || permits.permits[DOMAIN].is_some();
        let case = Case { ties, court, epochs, probe, entered, now };
        let before = self.standing(ties, now);
        let mut domain = None;
        let cause = match evidence {
            Evidence::Nothing => None,
            Evidence::Failure(_) if court.ejection.off => None,
            Evidence::TooEarly => {
                self.too_early(&permits, case);
                None
            }
            Evidence::Success => {
                court.pulse.count(self.slot, Beat::Success);
                let mut cause = self.answered(case, &mut domain);
                for (gate, epoch) in [(&self.quota, epochs[QUOTA]), (&ties.credential.0, epochs[CREDENTIAL])] {
                    if gate.open(epoch, None, now) {
                        cause = cause.or(Some(Cause::ProbeSucceeded { ramp: Duration::ZERO }));
                    }
                }
                cause
            }
            Evidence::Failure(error) => {
                court.pulse.count(self.slot, Beat::of(error.kind()));
                self.failed(case, error, &mut domain)
            }
        };
        self.leave(ties, permits);
        let cause = match cause {
            None if !court.ejection.off => self.compare(case),
            cause => cause,
        };
        Verdict { change: self.change(ties, before, cause, now), domain }
    }

    fn change(&self, ties: &Ties, before: Standing, cause: Option<Cause>, now: Instant) -> Option<Change> {
        let is_in = |standing: &Standing| matches!(standing, Standing::In | Standing::Ramping(_));
        let cause = cause?;
        let after = self.standing(ties, now);
        let out = match after {
            // One thing is well again, and another is not.
            Standing::Out(_) if matches!(cause, Cause::ProbeSucceeded { .. } | Cause::RampEnded) => return None,
            Standing::Out(reason) => Some(reason),
            Standing::In | Standing::Ramping(_) => None,
            Standing::Due { .. } => return None,
        };
        Some(Change { out, cause, trips: self.health.trips(), crossed: is_in(&before) != is_in(&after) })
    }

    /// A probe ended without a verdict.
    fn too_early(&self, permits: &Permits, case: Case<'_>) {
        let Case { ties, court, epochs, now, .. } = case;
        let rest = |trips| self.rest(court.ejection.unreachable, trips, court, now);
        if permits.permits[HEALTH].is_some() {
            self.health.postpone(epochs[HEALTH], rest);
        }
        if permits.permits[QUOTA].is_some() {
            self.quota.postpone(epochs[QUOTA], rest);
        }
        if let (Some(_), Some(home)) = (&permits.permits[DOMAIN], &ties.home) {
            home.domain.postpone(epochs[DOMAIN], court, now);
        }
    }

    fn failed(&self, case: Case<'_>, error: &BackendError, domain: &mut Option<(Turn, Vec<usize>)>) -> Option<Cause> {
        let Case { ties, court, epochs, now, .. } = case;
        let config = &court.ejection;
        let kind = error.kind();
        let conduct = kind.conduct();
        let hint = error.retry_hint().filter(|_| !bug::HINT_IGNORED);
        let rest =
            |growth: Growth, trips: u32| hint.map_or_else(|| self.rest(growth, trips, court, now), |hint| now + hint);
        let refused = Cause::Refused { kind, hint: hint.is_some() };
        match conduct.cools {
            // The caller's fault: it answered, so it is alive; its credential works.
            Cools::Nothing => self.answered(case, domain),
            Cools::Load if kind == FailureKind::Unreachable => {
                self.count(FAILED, case);
                if self.is_domains_probe(ties) {
                    return self.fail_domains_probe(case, kind, domain);
                }
                let cause = if case.probe { Cause::ProbeFailed { kind } } else { refused };
                let out = self.out(case, UNREACHABLE, |trips| rest(config.unreachable, trips));
                self.tell_domain(case, kind, domain);
                out.then_some(cause)
            }
            Cools::Load => {
                self.count(REFUSED, case);
                let cause = if case.probe { Cause::ProbeFailed { kind } } else { refused };
                let why = if hint.is_some() { ASKED_TO_WAIT } else { OVERLOADED };
                self.out(case, why, |trips| rest(config.overloaded, trips)).then_some(cause)
            }
            Cools::Streak => {
                // Late results of an older epoch were sent before the last verdict and must not add to the next.
                if self.health.epoch() != epochs[HEALTH] {
                    return None;
                }
                // While everybody times out, a timeout says nothing of this one.
                if !(kind == FailureKind::Timeout && court.pulse.is_overload()) {
                    self.count(FAILED, case);
                }
                if self.is_domains_probe(ties) {
                    return self.fail_domains_probe(case, kind, domain);
                }
                let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if streak == 1 {
                    self.streak_since.store(now.as_nanos(), Ordering::Relaxed);
                }
                let found = self.convict(streak, kind, case);
                let out = found.is_some_and(|(why, cause)| {
                    self.note_figures(&cause);
                    self.out(case, why, |trips| rest(config.eject, trips))
                });
                self.tell_domain(case, kind, domain);
                found.filter(|_| out).map(|(_, cause)| cause)
            }
            Cools::Quota => {
                self.count(REFUSED, case);
                // Asked again after the hint and refused again: the hint is too short for the load. Ours: the next
                // rest is twice the hint, no more, or recovery would lag the provider's window.
                let shut = self.quota.shut(epochs[QUOTA], RATE_LIMITED, now, false, true, |trips| match hint {
                    Some(hint) => now + hint * trips.min(2),
                    None => {
                        let (base, max) = Ejection::RATE_LIMITED;
                        self.rest(Growth { base, max }, trips, court, now)
                    }
                });
                // It was to show that it is well, and did not.
                if case.probe {
                    return self.fail_probe(case, kind, domain);
                }
                shut.map(|_| refused)
            }
            Cools::Model => {
                let rest = now + hint.unwrap_or(Ejection::MODEL_UNAVAILABLE);
                self.quota.shut(epochs[QUOTA], MODEL_UNAVAILABLE, now, false, true, |_| rest).map(|_| refused)
            }
            Cools::Credential => {
                let (why, rest) = match conduct.fault {
                    Fault::Quota => (QUOTA_EXHAUSTED, Ejection::QUOTA_EXHAUSTED),
                    _ => (UNAUTHORIZED, Ejection::UNAUTHORIZED),
                };
                let rest = now + hint.unwrap_or(rest);
                ties.credential.0.shut(epochs[CREDENTIAL], why, now, false, true, |_| rest).map(|_| refused)
            }
        }
    }

    /// What a failure that is part of a streak shows: why the backend must go, and the numbers behind it.
    fn convict(&self, streak: u32, kind: FailureKind, case: Case<'_>) -> Option<(u8, Cause)> {
        let Case { court, probe, entered, now, .. } = case;
        let config = &court.ejection;
        if self.is_out() {
            // A call that panic mode let through is no probe.
            let cause = if probe { Cause::ProbeFailed { kind } } else { Cause::Streak { failures: streak } };
            return Some((EJECTED, cause));
        }
        // Calls that stood in one queue time out in a row, which is one fact and not many: somebody must have been
        // sent there since. And it must be worse there than elsewhere.
        let since = Instant::from_nanos(self.streak_since.load(Ordering::Relaxed));
        let strange = |failures| {
            kind != FailureKind::Timeout
                || (entered >= since && court.pulse.is_strange(|slot| slot == self.slot, failures))
        };
        if streak >= config.consecutive && strange(streak) {
            return Some((EJECTED, Cause::Streak { failures: streak }));
        }
        let rate = config.failure_rate?;
        let tally = self.window.lock().tally(now);
        let (failures, samples) = (tally.failed, tally.judged());
        let often = samples >= Ejection::MIN_SAMPLES.into() && failures as f64 >= samples as f64 * rate;
        let strange = || strange(u32::try_from(failures).unwrap_or(u32::MAX));
        (often && strange()).then_some((FAILS_OFTEN, Cause::FailureRate { failures, samples }))
    }

    /// Evidence of life: ends a streak, and lets the backend back in with a slow start, its domain with it.
    fn answered(&self, case: Case<'_>, domain: &mut Option<(Turn, Vec<usize>)>) -> Option<Cause> {
        let Case { ties, court, epochs, entered, now, .. } = case;
        self.count(GOOD, case);
        let own = self.alive(epochs[HEALTH], &court.ejection, now);
        let Some(home) = &ties.home else { return own };
        if let Some(turn) = home.domain.answered(epochs[DOMAIN], entered, &court.ejection, now) {
            let back = |member: &usize| {
                let recovery = &home.members[*member].recovery;
                !std::ptr::eq(&**recovery, self) && recovery.come_with_domain(&court.ejection, now)
            };
            *domain = Some((turn, (0..home.members.len()).filter(back).collect()));
        }
        own
    }

    fn alive(&self, epoch: u64, config: &Ejection, now: Instant) -> Option<Cause> {
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        let view = self.health.view()?;
        if view.cause == RAMP {
            let over = self.share(view.moment, now).is_none();
            return (over && self.health.open(self.health.epoch(), None, now)).then_some(Cause::RampEnded);
        }
        self.come_in(epoch, config, now)
    }

    /// Opens the gate of its health with a slow start.
    pub(super) fn come_in(&self, epoch: u64, config: &Ejection, now: Instant) -> Option<Cause> {
        let outage = now - Instant::from_nanos(self.out_since.load(Ordering::Relaxed));
        let ramp = config.slow_start.min(outage.saturating_mul(RAMP_PER_OUTAGE));
        self.ramp.store(nanos(ramp), Ordering::Relaxed);
        if !self.health.open(epoch, (!ramp.is_zero()).then_some(RAMP), now) {
            return None;
        }
        self.returns.fetch_add(1, Ordering::Relaxed);
        self.back_since.store(now.as_nanos(), Ordering::Relaxed);
        // What it did before is not what it does now.
        *self.window.lock() = Default::default();
        self.pace.forget();
        Some(Cause::ProbeSucceeded { ramp })
    }

    /// Takes it out; `false` where the evidence is late.
    pub(super) fn out(&self, case: Case<'_>, why: u8, until: impl FnOnce(u32) -> Instant) -> bool {
        let Case { ties, court, epochs, now, .. } = case;
        let view = self.health.view();
        let in_before = view.is_none_or(|view| view.cause == RAMP);
        // A slow start survived without failure is forgiveness.
        let forgiven = view.is_some_and(|view| view.cause == RAMP && self.share(view.moment, now).is_none());
        let returns = self.returns(now);
        let busy = matches!(why, OVERLOADED | ASKED_TO_WAIT);
        // That it will fail once more, as soon as it is back, is an inference.
        let until = |trips| match in_before && returns > 0 && !busy && self.may_infer(ties, court) {
            true => until(trips).max(now + court.ejection.eject.after(returns + 1)),
            false => until(trips),
        };
        let shut = self.health.shut(epochs[HEALTH], why, now, forgiven, why == ASKED_TO_WAIT, until).is_some();
        if shut && in_before {
            self.out_since.store(now.as_nanos(), Ordering::Relaxed);
            self.returns.store(returns, Ordering::Relaxed);
        }
        shut
    }

    /// How often it came back too early lately: each three minutes in which it was well make up for one time.
    fn returns(&self, now: Instant) -> u32 {
        let well = now - Instant::from_nanos(self.back_since.load(Ordering::Relaxed));
        let made_up = u32::try_from(well.as_secs() / MADE_UP_AFTER).unwrap_or(u32::MAX);
        self.returns.load(Ordering::Relaxed).min(MOST_RETURNS).saturating_sub(made_up)
    }

    /// When a rest that begins now ends.
    pub(super) fn rest(&self, growth: Growth, trips: u32, court: &Court, now: Instant) -> Instant {
        staggered(now, growth.after(trips), trips, self.slot, court.salt)
    }

    /// Counts how an attempt ended, unless that is late news.
    fn count(&self, ended: Tally, case: Case<'_>) {
        if self.health.epoch() == case.epochs[HEALTH] {
            self.window.lock().count(ended, case.now - case.entered, case.now);
        }
    }

    /// Its probe was refused: it stays out for as long as after a failure.
    fn fail_probe(&self, case: Case<'_>, kind: FailureKind, domain: &mut Option<(Turn, Vec<usize>)>) -> Option<Cause> {
        let Case { ties, court, now, .. } = case;
        if self.is_domains_probe(ties) {
            return self.fail_domains_probe(case, kind, domain);
        }
        let why = self.health.view().filter(|view| view.cause != RAMP)?.cause;
        let config = &court.ejection;
        let growth = match why {
            OVERLOADED | ASKED_TO_WAIT => config.overloaded,
            UNREACHABLE => config.unreachable,
            _ => config.eject,
        };
        let out = self.out(case, why, |trips| self.rest(growth, trips, court, now));
        out.then_some(Cause::ProbeFailed { kind })
    }
}
