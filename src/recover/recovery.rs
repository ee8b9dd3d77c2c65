//! What took a backend out, and what lets it back.

use super::Ejection;
use super::gate::{Alarm, Gate, Permit, View, staggered};
use super::pulse::Pulse;
use crate::backend::{BackendError, Cools, FailureKind, Fault};
use crate::bug;
use crate::decision::Reason;
use crate::time::{Instant, nanos};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The gates of one backend, beside that of the credential it is called with, which callers pass in: it may change
/// with the profile. A decision reads three words.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// Its own health, as this router experienced it.
    health: Gate,
    /// Its quota and its model.
    quota: Gate,
    /// Failures in a row that count towards an ejection.
    streak: AtomicU32,
    /// When the streak began.
    streak_since: AtomicU64,
    /// How long the running slow start lasts, in nanoseconds.
    ramp: AtomicU64,
    /// When the trouble began that a slow start will follow.
    out_since: AtomicU64,
    slot: usize,
}

/// The gate of a credential. A backend without a named credential has one of its own.
#[derive(Debug)]
pub(crate) struct Credential(Gate);

impl Credential {
    pub(crate) fn new(alarm: &Arc<Alarm>) -> Self {
        Self(Gate::new(alarm.clone()))
    }
}

/// The state of the gates when an attempt was sent, and the probes that it is.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    epochs: [u64; 3],
    permits: [Option<Permit>; 3],
    entered: Instant,
}

/// What a router judges its backends by.
#[derive(Debug)]
pub(crate) struct Court {
    pub(crate) ejection: Ejection,
    /// Sets the phase of this router's probes apart from those of other routers.
    pub(crate) salt: u64,
    /// How all its backends are.
    pub(crate) pulse: Pulse,
}

/// What the end of an attempt says of its backend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evidence<'a> {
    Success,
    Failure(&'a BackendError),
    /// It was given up too early to tell.
    TooEarly,
    Nothing,
}

/// What a decision sees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Standing {
    /// In, with its full share.
    In,
    /// In, with a growing share (in thousandths).
    Ramping(u32),
    /// Out for a while, or waiting for the probe on the way.
    Out(Reason),
    /// Its time is over: one request may probe it.
    Due {
        /// Only its quota is in question.
        quota: bool,
    },
}

const EJECTED: u8 = 1;
const OVERLOADED: u8 = 2;
const UNREACHABLE: u8 = 3;
const ASKED_TO_WAIT: u8 = 4;
const RAMP: u8 = 5;
const RATE_LIMITED: u8 = 1;
const MODEL_UNAVAILABLE: u8 = 2;
const QUOTA_EXHAUSTED: u8 = 1;
const UNAUTHORIZED: u8 = 2;

/// A slow start lasts this many times as long as the trouble did, at most: a second's rest is no cold start.
const RAMP_PER_OUTAGE: u32 = 10;

impl Recovery {
    pub(crate) fn new(slot: usize, alarm: &Arc<Alarm>) -> Self {
        Self {
            health: Gate::new(alarm.clone()),
            quota: Gate::new(alarm.clone()),
            streak: AtomicU32::new(0),
            streak_since: AtomicU64::new(0),
            ramp: AtomicU64::new(0),
            out_since: AtomicU64::new(0),
            slot,
        }
    }

    /// A backend that joins a running fleet: cold until shown otherwise.
    pub(crate) fn joining(slot: usize, alarm: &Arc<Alarm>, ramp: Duration, now: Instant) -> Self {
        let alarmed = |alarm: &Arc<Alarm>| Gate::ramping(RAMP, now, alarm.clone());
        Self {
            health: if ramp.is_zero() { Gate::new(alarm.clone()) } else { alarmed(alarm) },
            ramp: AtomicU64::new(nanos(ramp)),
            ..Self::new(slot, alarm)
        }
    }

    fn gates<'a>(&'a self, credential: &'a Credential) -> [&'a Gate; 3] {
        [&self.health, &self.quota, &credential.0]
    }

    /// Whether a decision may use the backend. Lock-free unless something is wrong.
    pub(crate) fn standing(&self, credential: &Credential, now: Instant) -> Standing {
        let health = self.health.view();
        let quota = self.quota.view();
        let access = credential.0.view();
        if health.is_none() && quota.is_none() && access.is_none() {
            return Standing::In;
        }
        self.troubled(credential, now, [health, quota, access])
    }

    #[cold]
    fn troubled(&self, credential: &Credential, now: Instant, views: [Option<View>; 3]) -> Standing {
        let mut standing = Standing::In;
        // The last gate that is shut speaks: what is out with authority is not out by inference.
        for (kind, (gate, view)) in self.gates(credential).into_iter().zip(views).enumerate() {
            let Some(View { cause, moment }) = view else { continue };
            if kind == 0 && cause == RAMP {
                if let Some(share) = self.share(moment, now) {
                    standing = Standing::Ramping(share);
                }
            } else if let Some(until) = gate.permit_until(now) {
                standing = Standing::Out(match kind {
                    0 => Reason::OnProbation { until },
                    _ => Reason::ProbeInFlight { until },
                });
            } else if moment > now {
                standing = Standing::Out(self.reason(kind, cause, moment));
            } else if !matches!(standing, Standing::Out(_)) {
                standing = Standing::Due { quota: kind > 0 && !matches!(standing, Standing::Due { quota: false }) };
            }
        }
        standing
    }

    fn reason(&self, gate: usize, cause: u8, until: Instant) -> Reason {
        match (gate, cause) {
            (0, EJECTED) => Reason::Ejected { until, failures: self.streak.load(Ordering::Relaxed) },
            (0, ASKED_TO_WAIT) => Reason::AskedToWait { until },
            (0, _) => Reason::CoolingDown { until, failures: self.health.trips() },
            (1, RATE_LIMITED) => Reason::RateLimited { until },
            (1, _) => Reason::ModelUnavailable { until },
            (_, QUOTA_EXHAUSTED) => Reason::QuotaExhausted { until },
            (_, _) => Reason::Unauthorized { until },
        }
    }

    /// The share during a slow start, in thousandths; `None` when it is over.
    fn share(&self, since: Instant, now: Instant) -> Option<u32> {
        let ramp = self.ramp.load(Ordering::Relaxed);
        let passed = nanos(now - since);
        (passed < ramp).then(|| ((u128::from(passed) * 1000 / u128::from(ramp)) as u32).max(Ejection::FIRST_SHARE))
    }

    /// Notes the state of the gates for an attempt, and takes the permit of every gate that is half-open. `None`
    /// when another request has one of them, or the backend has asked for no call since: the race is lost. With
    /// `force`, a gate that is still shut counts as half-open.
    pub(crate) fn enter(&self, credential: &Credential, now: Instant, force: bool) -> Option<Permits> {
        let mut entered = Permits { entered: now, ..Permits::default() };
        for (index, gate) in self.gates(credential).into_iter().enumerate() {
            // The epoch first: a gate that shuts after this read is not this attempt's to open.
            entered.epochs[index] = gate.epoch();
            let Some(view) = gate.view() else { continue };
            let ramping = index == 0 && view.cause == RAMP;
            let half_open = view.moment <= now || force;
            // Out by its own word since the decision, which may lie a back-off behind.
            let refuses = index > 0 || view.cause == ASKED_TO_WAIT;
            if ramping || !(half_open || refuses) {
                continue;
            }
            entered.permits[index] = if half_open { gate.claim(entered.epochs[index], now) } else { None };
            if entered.permits[index].is_none() {
                self.leave(credential, entered);
                return None;
            }
        }
        Some(entered)
    }

    /// Returns the permits of an attempt that was not made, or says nothing.
    pub(crate) fn leave(&self, credential: &Credential, permits: Permits) {
        for (gate, permit) in self.gates(credential).into_iter().zip(permits.permits) {
            if let Some(permit) = permit {
                gate.give_back(permit);
            }
        }
    }

    /// Learns from the end of an attempt. Returns what changed: `Some(Some(reason))` when the backend left,
    /// `Some(None)` when it is back.
    pub(crate) fn learn(
        &self,
        credential: &Credential,
        permits: Permits,
        evidence: Evidence<'_>,
        court: &Court,
        now: Instant,
    ) -> Option<Option<Reason>> {
        let config = &court.ejection;
        let Permits { epochs, entered, .. } = permits;
        let before = self.standing(credential, now);
        match evidence {
            Evidence::Nothing => {}
            Evidence::Failure(_) if config.off => {}
            Evidence::TooEarly => {
                let rest = |trips| staggered(now, config.unreachable.after(trips), self.slot, court.salt);
                if permits.permits[0].is_some() {
                    self.health.postpone(epochs[0], rest);
                }
                if permits.permits[1].is_some() {
                    self.quota.postpone(epochs[1], rest);
                }
            }
            Evidence::Success => {
                court.pulse.count(self.slot, false);
                self.alive(epochs[0], config, now);
                self.quota.open(epochs[1], None, now);
                credential.0.open(epochs[2], None, now);
            }
            Evidence::Failure(error) => {
                court.pulse.count(self.slot, error.kind() == FailureKind::Timeout);
                self.failed(credential, epochs, error, court, entered, now);
            }
        }
        self.leave(credential, permits);
        match (matches!(before, Standing::In | Standing::Ramping(_)), self.standing(credential, now)) {
            (true, Standing::Out(reason)) => Some(Some(reason)),
            (false, Standing::In | Standing::Ramping(_)) => Some(None),
            _ => None,
        }
    }

    fn failed(
        &self,
        credential: &Credential,
        epochs: [u64; 3],
        error: &BackendError,
        court: &Court,
        entered: Instant,
        now: Instant,
    ) {
        let (config, salt) = (&court.ejection, court.salt);
        let kind = error.kind();
        let conduct = kind.conduct();
        let hint = error.retry_hint().filter(|_| !bug::HINT_IGNORED);
        let rest = |growth: super::config::Growth, trips: u32| {
            hint.map_or_else(|| staggered(now, growth.after(trips), self.slot, salt), |hint| now + hint)
        };
        match conduct.cools {
            Cools::Nothing => {
                // The caller's fault: it answered, so it is alive; its credential works.
                self.alive(epochs[0], config, now);
            }
            Cools::Load if kind == FailureKind::Unreachable => {
                self.out(epochs[0], UNREACHABLE, now, |trips| rest(config.unreachable, trips));
            }
            Cools::Load => {
                let cause = if hint.is_some() { ASKED_TO_WAIT } else { OVERLOADED };
                self.out(epochs[0], cause, now, |trips| rest(config.overloaded, trips));
            }
            Cools::Streak => {
                // Late results of an older epoch were sent before the last verdict and must not add to the next.
                if self.health.epoch() != epochs[0] {
                    return;
                }
                let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                let on_probation = self.health.view().is_some_and(|view| view.cause != RAMP);
                if streak == 1 {
                    self.streak_since.store(now.as_nanos(), Ordering::Relaxed);
                }
                // Calls that stood in one queue time out in a row, which is one fact and not many: somebody must
                // have been sent there since. And it must be worse there than elsewhere.
                let since = Instant::from_nanos(self.streak_since.load(Ordering::Relaxed));
                let strange =
                    || kind != FailureKind::Timeout || (entered >= since && court.pulse.is_strange(self.slot, streak));
                if on_probation || (streak >= config.consecutive && strange()) {
                    self.out(epochs[0], EJECTED, now, |trips| rest(config.eject, trips));
                }
            }
            Cools::Quota => {
                // Asked again after the hint and refused again: the hint is too short for the load. Ours: the next
                // rest is twice the hint, no more, or recovery would lag the provider's window.
                self.quota.shut(epochs[1], RATE_LIMITED, now, false, true, |trips| match hint {
                    Some(hint) => now + hint * trips.min(2),
                    None => {
                        let (base, max) = Ejection::RATE_LIMITED;
                        staggered(now, super::config::Growth { base, max }.after(trips), self.slot, salt)
                    }
                });
            }
            Cools::Model => {
                self.quota.shut(epochs[1], MODEL_UNAVAILABLE, now, false, true, |_| {
                    now + hint.unwrap_or(Ejection::MODEL_UNAVAILABLE)
                });
            }
            Cools::Credential => {
                let (cause, rest) = match conduct.fault {
                    Fault::Quota => (QUOTA_EXHAUSTED, Ejection::QUOTA_EXHAUSTED),
                    _ => (UNAUTHORIZED, Ejection::UNAUTHORIZED),
                };
                credential.0.shut(epochs[2], cause, now, false, true, |_| now + hint.unwrap_or(rest));
            }
        }
    }

    /// Evidence of life: ends a streak, and lets the backend back in with a slow start.
    fn alive(&self, epoch: u64, config: &Ejection, now: Instant) {
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        let Some(view) = self.health.view() else { return };
        if view.cause == RAMP {
            if self.share(view.moment, now).is_none() {
                self.health.open(self.health.epoch(), None, now);
            }
            return;
        }
        let outage = now - Instant::from_nanos(self.out_since.load(Ordering::Relaxed));
        let ramp = config.slow_start.min(outage.saturating_mul(RAMP_PER_OUTAGE));
        self.ramp.store(nanos(ramp), Ordering::Relaxed);
        self.health.open(epoch, (!ramp.is_zero()).then_some(RAMP), now);
    }

    fn out(&self, epoch: u64, cause: u8, now: Instant, until: impl FnOnce(u32) -> Instant) {
        let view = self.health.view();
        let in_before = view.is_none_or(|view| view.cause == RAMP);
        // A slow start survived without failure is forgiveness.
        let forgiven = view.is_some_and(|view| view.cause == RAMP && self.share(view.moment, now).is_none());
        if self.health.shut(epoch, cause, now, forgiven, cause == ASKED_TO_WAIT, until).is_some() && in_before {
            self.out_since.store(now.as_nanos(), Ordering::Relaxed);
        }
    }
}
