//! [`Domain`]: backends that fail together go out together.

use super::gate::{Alarm, Gate, View, staggered};
use super::pulse::Pulse;
use super::ties::Kin;
use super::{Court, Ejection};
use crate::backend::FailureKind;
use crate::event::Cause;
use crate::rng::hash_str;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::time::Instant;
use std::sync::Arc;

/// What a router experienced of a failure domain as a whole.
///
/// A region that dies fails at every backend at once. Finding that out one by one costs a request or five for each; here
/// the failures of all members are one streak, and a few of them are enough. It is evidence only where
///
/// - two members and at least half of them failed, by a fault of their own or on the way to them,
/// - nobody in the domain has answered since, while somebody elsewhere has, and most of the others do.
///
/// So neither a fleet that has too much to do nor a router that lost its network can trip it.
#[derive(Debug)]
pub(crate) struct Domain {
    name: Box<str>,
    pub(super) gate: Gate,
    /// Something failed since the last answer: without it, an answer has nothing to forget.
    failing: AtomicBool,
    /// Answers of its members.
    successes: AtomicU64,
    /// Members that had failed when it went out, and all of them then: 32 bits each.
    extent: AtomicU64,
    streak: Mutex<Streak>,
}

/// A domain with its members in one generation of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(super) domain: Arc<Domain>,
    pub(super) members: Arc<[Kin]>,
}

/// What became of a domain.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Turn {
    /// `None` when it is back.
    pub(crate) until: Option<Instant>,
    pub(crate) cause: Cause,
    pub(crate) trips: u32,
}

/// Failures with no answer in between.
#[derive(Debug, Default)]
struct Streak {
    began: Instant,
    last: Instant,
    failures: u32,
    /// Answers elsewhere when it began.
    elsewhere: u64,
    failed: Vec<Failed>,
}

/// The latest failure of a member.
#[derive(Debug)]
struct Failed {
    slot: usize,
    at: Instant,
    unreachable: bool,
}

const OUT: u8 = 1;
const RAMP: u8 = 2;

/// One probe stands for all members, so it comes as often as the probes of this many would.
const PROBES: u32 = 4;

impl Domain {
    pub(crate) fn new(name: &str, alarm: &Arc<Alarm>) -> Self {
        Self {
            name: name.into(),
            gate: Gate::new(alarm.clone()),
            failing: AtomicBool::new(false),
            successes: AtomicU64::new(0),
            extent: AtomicU64::new(0),
            streak: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The gate as a decision sees it; `None` when the domain is in.
    pub(super) fn shut(&self) -> Option<View> {
        self.gate.view().filter(|view| view.cause == OUT)
    }

    /// Members that had failed when it went out, and all members then.
    pub(super) fn extent(&self) -> (u32, u32) {
        let extent = self.extent.load(Ordering::Relaxed);
        ((extent >> 32) as u32, extent as u32)
    }

    fn cause(&self) -> Cause {
        let (failing, members) = self.extent();
        Cause::Domain { failing, members }
    }

    /// A member answered an attempt that was sent at `entered`, in this `epoch`. Says so when the domain is back by
    /// that.
    pub(super) fn answered(&self, epoch: u64, entered: Instant, config: &Ejection, now: Instant) -> Option<Turn> {
        self.successes.fetch_add(1, Ordering::Relaxed);
        if self.failing.load(Ordering::Acquire) {
            let mut streak = self.streak.lock();
            // An answer that was under way when the trouble began says nothing of it.
            if entered >= streak.began {
                *streak = Streak::default();
                self.failing.store(false, Ordering::Release);
            }
        }
        let view = self.gate.view()?;
        if view.cause == RAMP {
            if now - view.moment >= config.slow_start {
                self.gate.open(epoch, None, now);
            }
            return None;
        }
        let trips = self.gate.trips();
        let ramp = (!config.slow_start.is_zero()).then_some(RAMP);
        self.gate.open(epoch, ramp, now).then(|| Turn { until: None, cause: self.cause(), trips })
    }

    /// The member in `slot` failed an attempt of this `epoch`. Says so when the domain goes out by that.
    pub(super) fn failed(
        &self,
        epoch: u64,
        slot: usize,
        kind: FailureKind,
        members: &[Kin],
        court: &Court,
        now: Instant,
    ) -> Option<Turn> {
        if epoch != self.gate.epoch() || self.shut().is_some() {
            return None;
        }
        let ours = |slot: usize| members.iter().any(|kin| kin.id.slot() == slot);
        let config = &court.ejection;
        let mut streak = self.streak.lock();
        let elsewhere = self.elsewhere(&court.pulse);
        let (failing, gone) =
            streak.add(Failed { slot, at: now, unreachable: kind == FailureKind::Unreachable }, elsewhere);
        self.failing.store(true, Ordering::Release);
        let quorum = members.len().div_ceil(2).max(2);
        let alike = gone >= quorum || (failing >= quorum && streak.failures >= config.consecutive);
        let others_answer = elsewhere > streak.elsewhere && !court.pulse.others_fail(ours);
        let strange = || kind != FailureKind::Timeout || court.pulse.is_strange(ours, streak.failures);
        if !(alike && others_answer && strange()) {
            return None;
        }
        let growth = if gone >= quorum { config.unreachable } else { config.eject };
        self.extent.store((failing as u64) << 32 | members.len() as u64, Ordering::Relaxed);
        *streak = Streak::default();
        self.failing.store(false, Ordering::Release);
        drop(streak);
        let forgiven = self.gate.view().is_some_and(|view| now - view.moment >= config.slow_start);
        self.go_out(epoch, forgiven, growth, members.len(), self.cause(), court, now)
    }

    /// Its probe failed: it stays out for longer.
    pub(super) fn probe_failed(
        &self,
        epoch: u64,
        kind: FailureKind,
        members: usize,
        court: &Court,
        now: Instant,
    ) -> Option<Turn> {
        let config = &court.ejection;
        let growth = if kind == FailureKind::Unreachable { config.unreachable } else { config.eject };
        self.go_out(epoch, false, growth, members, Cause::ProbeFailed { kind }, court, now)
    }

    #[allow(clippy::too_many_arguments)]
    fn go_out(
        &self,
        epoch: u64,
        forgiven: bool,
        growth: super::config::Growth,
        members: usize,
        cause: Cause,
        court: &Court,
        now: Instant,
    ) -> Option<Turn> {
        let share = u32::try_from(members).map_or(PROBES, |members| members.clamp(1, PROBES));
        let end = |trips| staggered(now, growth.after(trips) / share, trips, hash_str(&self.name) as usize, court.salt);
        let (until, trips) = self.gate.shut(epoch, OUT, now, forgiven, false, end)?;
        Some(Turn { until: Some(until), cause, trips })
    }

    /// Its probe ended without a verdict: it stays out for a rest that counts as no trip.
    pub(super) fn postpone(&self, epoch: u64, court: &Court, now: Instant) {
        let end = |trips| {
            staggered(now, court.ejection.unreachable.after(trips), trips, hash_str(&self.name) as usize, court.salt)
        };
        self.gate.postpone(epoch, end);
    }

    /// All answers of the router but those from here.
    fn elsewhere(&self, pulse: &Pulse) -> u64 {
        let own = self.successes.load(Ordering::Relaxed);
        pulse.successes().saturating_sub(own)
    }
}

impl Streak {
    /// Adds a failure. Returns how many members failed lately, and how many of them could not be reached.
    fn add(&mut self, failed: Failed, elsewhere: u64) -> (usize, usize) {
        let now = failed.at;
        if self.failures == 0 || now - self.last > Ejection::DOMAIN_WINDOW || now < self.last {
            *self = Self { began: now, elsewhere, ..Self::default() };
        }
        self.last = now;
        self.failures = self.failures.saturating_add(1);
        self.failed.retain(|other| other.slot != failed.slot && now - other.at <= Ejection::DOMAIN_WINDOW);
        self.failed.push(failed);
        (self.failed.len(), self.failed.iter().filter(|failed| failed.unreachable).count())
    }
}
