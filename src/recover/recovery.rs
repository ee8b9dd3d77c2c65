//! What a decision sees of a backend's health, and the probes that it may send.

use super::Ejection;
use super::compare::Pace;
use super::gate::{Alarm, Gate, Permit, View};
use super::pulse::Pulse;
use super::ramp::Curve;
use super::ties::Ties;
use super::window::Window;
use crate::decision::Reason;
use crate::event::Cause;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::time::{Instant, nanos};
use std::sync::Arc;

/// The gates of one backend, beside those that it shares with others, which callers pass in: they may change with the
/// profile. A decision reads three words.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// Its own health, as this router experienced it.
    pub(super) health: Gate,
    /// Its quota and its model.
    pub(super) quota: Gate,
    /// Failures in a row that count towards an ejection.
    pub(super) streak: AtomicU32,
    /// When the streak began.
    pub(super) streak_since: AtomicU64,
    pub(super) window: Mutex<Window>,
    pub(super) pace: Pace,
    /// When it was last compared with its peers.
    pub(super) compared: AtomicU64,
    /// What was measured when it was taken out, and what that was compared with.
    figures: [AtomicU64; 2],
    /// How long the running slow start lasts, in nanoseconds.
    pub(super) ramp: AtomicU64,
    /// When the trouble began that a slow start will follow.
    pub(super) out_since: AtomicU64,
    /// How often it came back, less the minutes that it then was well.
    pub(super) returns: AtomicU32,
    /// When it came back last.
    pub(super) back_since: AtomicU64,
    curve: Curve,
    pub(super) slot: usize,
}

/// The state of the gates when an attempt was sent, and the probes that it is.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    pub(super) epochs: [u64; 4],
    pub(super) permits: [Option<Permit>; 4],
    pub(super) entered: Instant,
}

/// What a router judges its backends by.
#[derive(Debug)]
pub(crate) struct Court {
    pub(crate) ejection: Ejection,
    /// Sets the phase of this router's probes apart from those of other routers.
    pub(crate) salt: u64,
    /// How all its backends are.
    pub(crate) pulse: Pulse,
    /// Held while a comparison takes a backend out.
    pub(super) bench: Mutex<()>,
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

pub(super) const EJECTED: u8 = 1;
pub(super) const OVERLOADED: u8 = 2;
pub(super) const UNREACHABLE: u8 = 3;
pub(super) const ASKED_TO_WAIT: u8 = 4;
pub(super) const RAMP: u8 = 5;
/// Out with its failure domain, whose gate says until when.
pub(super) const IN_DOMAIN: u8 = 6;
pub(super) const FAILS_OFTEN: u8 = 7;
pub(super) const SLOWER: u8 = 8;
pub(super) const FAILS_MORE: u8 = 9;
pub(super) const RATE_LIMITED: u8 = 1;
pub(super) const MODEL_UNAVAILABLE: u8 = 2;
pub(super) const QUOTA_EXHAUSTED: u8 = 1;
pub(super) const UNAUTHORIZED: u8 = 2;

/// Which epoch and permit is whose.
pub(super) const HEALTH: usize = 0;
pub(super) const QUOTA: usize = 1;
pub(super) const CREDENTIAL: usize = 2;
pub(super) const DOMAIN: usize = 3;

impl Court {
    pub(crate) fn new(ejection: Ejection, salt: u64) -> Self {
        Self { ejection, salt, pulse: Pulse::default(), bench: Mutex::default() }
    }
}

impl Recovery {
    pub(crate) fn new(slot: usize, alarm: &Arc<Alarm>, config: &Ejection) -> Self {
        Self {
            health: Gate::new(alarm.clone()),
            quota: Gate::new(alarm.clone()),
            streak: AtomicU32::new(0),
            streak_since: AtomicU64::new(0),
            window: Mutex::default(),
            pace: Pace::default(),
            compared: AtomicU64::new(0),
            figures: [AtomicU64::new(0), AtomicU64::new(0)],
            ramp: AtomicU64::new(0),
            out_since: AtomicU64::new(0),
            returns: AtomicU32::new(0),
            back_since: AtomicU64::new(0),
            curve: Curve::new(config.aggression),
            slot,
        }
    }

    /// A backend that joins a running fleet: cold until shown otherwise.
    pub(crate) fn joining(slot: usize, alarm: &Arc<Alarm>, config: &Ejection, now: Instant) -> Self {
        let recovery = Self::new(slot, alarm, config);
        if !config.slow_start.is_zero() {
            recovery.ramp.store(nanos(config.slow_start), Ordering::Relaxed);
            recovery.health.mark(RAMP, now);
        }
        recovery
    }

    pub(super) fn gates<'a>(&'a self, ties: &'a Ties) -> [&'a Gate; 3] {
        [&self.health, &self.quota, &ties.credential.0]
    }

    /// Whether it is out by what was experienced or inferred of its health.
    pub(super) fn is_out(&self) -> bool {
        self.health.view().is_some_and(|view| view.cause != RAMP)
    }

    /// The gate of its health and what it shows: that of its domain while it is out with it.
    fn health<'a>(&'a self, ties: &'a Ties) -> (&'a Gate, Option<View>, bool) {
        let view = self.health.view();
        if view.is_some_and(|view| view.cause == IN_DOMAIN)
            && let Some(home) = &ties.home
            && let Some(shut) = home.domain.shut()
        {
            return (&home.domain.gate, Some(View { cause: IN_DOMAIN, ..shut }), true);
        }
        (&self.health, view, false)
    }

    /// Whether a decision may use the backend. Lock-free unless something is wrong.
    pub(crate) fn standing(&self, ties: &Ties, now: Instant) -> Standing {
        let health = self.health.view();
        let quota = self.quota.view();
        let access = ties.credential.0.view();
        if health.is_none() && quota.is_none() && access.is_none() {
            return Standing::In;
        }
        self.troubled(ties, now, [quota, access])
    }

    #[cold]
    fn troubled(&self, ties: &Ties, now: Instant, [quota, access]: [Option<View>; 2]) -> Standing {
        let mut standing = Standing::In;
        let (gate, health, _) = self.health(ties);
        let gates = [(gate, health), (&self.quota, quota), (&ties.credential.0, access)];
        // The last gate that is shut speaks: what is out with authority is not out by inference.
        for (kind, (gate, view)) in gates.into_iter().enumerate() {
            let Some(View { cause, moment }) = view else { continue };
            if kind == HEALTH && cause == RAMP {
                if let Some(share) = self.share(moment, now) {
                    standing = Standing::Ramping(share);
                }
            } else if let Some(until) = gate.permit_until(now) {
                standing = Standing::Out(match kind {
                    HEALTH => Reason::OnProbation { until },
                    _ => Reason::ProbeInFlight { until },
                });
            } else if moment > now {
                standing = Standing::Out(self.reason(ties, kind, cause, moment));
            } else if !matches!(standing, Standing::Out(_)) {
                standing =
                    Standing::Due { quota: kind > HEALTH && !matches!(standing, Standing::Due { quota: false }) };
            }
        }
        standing
    }

    /// Why it is out with its domain; `None` when it is not.
    pub(crate) fn out_with_domain(&self, ties: &Ties) -> Option<Reason> {
        let (_, view, in_domain) = self.health(ties);
        view.filter(|_| in_domain).map(|view| self.reason(ties, HEALTH, view.cause, view.moment))
    }

    fn reason(&self, ties: &Ties, gate: usize, cause: u8, until: Instant) -> Reason {
        let [measured, compared] = [0, 1].map(|n| self.figures[n].load(Ordering::Relaxed));
        match (gate, cause) {
            (HEALTH, EJECTED) => Reason::Ejected { until, failures: self.streak.load(Ordering::Relaxed) },
            (HEALTH, FAILS_OFTEN) => Reason::FailsOften { until, failures: measured, samples: compared },
            (HEALTH, SLOWER) => Reason::SlowerThanPeers { until, usual: measured, median: compared },
            (HEALTH, FAILS_MORE) => Reason::FailsMoreThanPeers { until, rate: measured as u32, mean: compared as u32 },
            (HEALTH, IN_DOMAIN) => {
                let (failing, members) = ties.home.as_ref().map_or((0, 0), |home| home.domain.extent());
                Reason::DomainOut { until, failing, members }
            }
            (HEALTH, ASKED_TO_WAIT) => Reason::AskedToWait { until },
            (HEALTH, _) => Reason::CoolingDown { until, failures: self.health.trips() },
            (QUOTA, RATE_LIMITED) => Reason::RateLimited { until },
            (QUOTA, _) => Reason::ModelUnavailable { until },
            (_, QUOTA_EXHAUSTED) => Reason::QuotaExhausted { until },
            (_, _) => Reason::Unauthorized { until },
        }
    }

    /// Keeps the numbers that take it out, for the reasons of decisions.
    pub(super) fn note_figures(&self, cause: &Cause) {
        let permille = |share: f64| (share * 1000.0).round() as u64;
        let figures = match *cause {
            Cause::FailureRate { failures, samples } => [failures, samples],
            Cause::SlowerThanPeers { usual, median, .. } => [nanos(usual), nanos(median)],
            Cause::FailsMoreThanPeers { rate, mean, .. } => [permille(rate), permille(mean)],
            _ => return,
        };
        for (kept, figure) in self.figures.iter().zip(figures) {
            kept.store(figure, Ordering::Relaxed);
        }
    }

    /// The share during a slow start, in thousandths; `None` when it is over.
    pub(super) fn share(&self, since: Instant, now: Instant) -> Option<u32> {
        self.curve.share(nanos(now - since), self.ramp.load(Ordering::Relaxed))
    }

    /// Notes the state of the gates for an attempt, and takes the permit of every gate that is half-open. `None`
    /// when another request has one of them, or the backend has asked for no call since: the race is lost. With
    /// `force`, a gate that is still shut counts as half-open.
    pub(crate) fn enter(&self, ties: &Ties, now: Instant, force: bool) -> Option<Permits> {
        let mut entered = Permits { entered: now, ..Permits::default() };
        // The epochs first: a gate that shuts after this read is not this attempt's to open.
        for (epoch, gate) in entered.epochs.iter_mut().zip(self.gates(ties)) {
            *epoch = gate.epoch();
        }
        if let Some(home) = &ties.home {
            entered.epochs[DOMAIN] = home.domain.gate.epoch();
        }
        let (gate, health, in_domain) = self.health(ties);
        let gates = [
            (if in_domain { DOMAIN } else { HEALTH }, gate, health),
            (QUOTA, &self.quota, self.quota.view()),
            (CREDENTIAL, &ties.credential.0, ties.credential.0.view()),
        ];
        for (index, gate, view) in gates {
            let Some(view) = view else { continue };
            let own = index == HEALTH;
            let ramping = own && view.cause == RAMP;
            let half_open = view.moment <= now || force;
            // Out by its own word since the decision, which may lie a back-off behind.
            let refuses = matches!(index, QUOTA | CREDENTIAL) || (own && view.cause == ASKED_TO_WAIT);
            if ramping || !(half_open || refuses) {
                continue;
            }
            entered.permits[index] = if half_open { gate.claim(entered.epochs[index], now) } else { None };
            if entered.permits[index].is_none() {
                self.leave(ties, entered);
                return None;
            }
        }
        Some(entered)
    }

    /// Returns the permits of an attempt that was not made, or says nothing.
    pub(crate) fn leave(&self, ties: &Ties, permits: Permits) {
        let domain = ties.home.as_ref().map(|home| &home.domain.gate);
        let gates = self.gates(ties).into_iter().map(Some).chain([domain]);
        for (gate, permit) in gates.zip(permits.permits) {
            if let (Some(gate), Some(permit)) = (gate, permit) {
                gate.give_back(permit);
            }
        }
    }

    /// The first token of an attempt arrived after `ttft` nanoseconds.
    pub(crate) fn first_token(&self, ttft: u64, now: Instant) {
        self.pace.record(ttft, now);
    }
}
