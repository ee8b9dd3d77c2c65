//! A gate in front of a backend: open, shut until a moment, then half-open for one probe.
//!
//! Decisions read one atomic word. Changes go through a lock; they are rare.

use super::Ejection;
use crate::bug;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::time::{Instant, nanos};
use std::num::NonZeroU64;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    /// 0 when open, else the moment in nanoseconds, whose lowest bits are the cause: sixteen nanoseconds are nobody's
    /// concern, but a clock that counts from 1970 needs the highest.
    word: AtomicU64,
    /// When the permit that is out expires; 0 when none is.
    permit_until: AtomicU64,
    /// Counts openings and shuttings. What was sent in an older epoch decides nothing. Written under the lock.
    epoch: AtomicU64,
    state: Mutex<State>,
    alarm: Arc<Alarm>,
}

/// Counts the gates of a router that are not open, so that a decision in good times looks at none of them.
#[derive(Debug, Default)]
pub(crate) struct Alarm(AtomicU64);

#[derive(Debug, Default)]
struct State {
    /// Shuttings in a row.
    trips: u32,
    /// The permit that is out.
    permit: Option<u64>,
    permits: u64,
}

/// The right to send the one probe of a half-open gate.
#[derive(Debug)]
#[must_use = "a permit that is not settled blocks the gate until its lease expires"]
pub(crate) struct Permit(NonZeroU64);

/// What a decision sees of a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) cause: u8,
    /// Until when it is shut; for the cause of a ramp, when it was opened.
    pub(crate) moment: Instant,
}

const CAUSE_MASK: u64 = 15;

impl Alarm {
    /// Whether every gate is open.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Gate {
    pub(crate) fn new(alarm: Arc<Alarm>) -> Self {
        Self {
            word: AtomicU64::new(0),
            permit_until: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            state: Mutex::default(),
            alarm,
        }
    }

    /// `None` while the gate is open and nothing is to be said.
    pub(crate) fn view(&self) -> Option<View> {
        let word = self.word.load(Ordering::Acquire);
        (word != 0)
            .then_some(View { cause: (word & CAUSE_MASK) as u8, moment: Instant::from_nanos(word & !CAUSE_MASK) })
    }

    /// When the permit that is out expires.
    pub(crate) fn permit_until(&self, now: Instant) -> Option<Instant> {
        let until = Instant::from_nanos(self.permit_until.load(Ordering::Acquire));
        (until > now).then_some(until)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Shuttings in a row.
    pub(crate) fn trips(&self) -> u32 {
        self.state.lock().trips
    }

    /// Takes the permit, unless one is out whose lease has not expired, or the gate has moved on since `epoch`: what
    /// was half-open then may be shut again.
    pub(crate) fn claim(&self, epoch: u64, now: Instant) -> Option<Permit> {
        let mut state = self.state.lock();
        if epoch != self.epoch() || (state.permit.is_some() && self.permit_until(now).is_some()) {
            return None;
        }
        state.permits += 1;
        state.permit = Some(state.permits);
        let until = now + Ejection::PROBE_LEASE;
        self.permit_until.store(until.as_nanos(), Ordering::Release);
        NonZeroU64::new(state.permits).map(Permit)
    }

    /// Returns the permit, if it is still this one that is out.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn give_back(&self, permit: Permit) {
        let mut state = self.state.lock();
        if state.permit == Some(permit.0.get()) && !bug::PROBE_STUCK {
            self.free(&mut state);
        }
    }

    /// Shuts the gate; `until` is computed from the number of shuttings in a row. Evidence from before the last
    /// change is late and decides nothing, except that, with `extend`, a later end of the same cause extends an
    /// earlier one: what a backend promised last is true.
    /// Returns the view, and the number of trips, when it changed.
    pub(crate) fn shut(
        &self,
        epoch: u64,
        cause: u8,
        now: Instant,
        forget: bool,
        extend: bool,
        until: impl FnOnce(u32) -> Instant,
    ) -> Option<(Instant, u32)> {
        let mut state = self.state.lock();
        if epoch != self.epoch() {
            let view = self.view()?;
            let end = until(1);
            if extend && view.cause == cause && end > view.moment && view.moment > now {
                self.set(cause, end);
            }
            return None;
        }
        if forget {
            state.trips = 0;
        }
        state.trips = state.trips.saturating_add(1);
        self.epoch.fetch_add(1, Ordering::Release);
        self.free(&mut state);
        let end = until(state.trips);
        self.set(cause, end);
        Some((end, state.trips))
    }

    /// Shuts the gate for a cause that lies outside of it, whatever it was: counts as no trip.
    pub(crate) fn mark(&self, cause: u8, until: Instant) {
        let mut state = self.state.lock();
        self.epoch.fetch_add(1, Ordering::Release);
        self.free(&mut state);
        self.set(cause, until);
    }

    /// The probe ended without a verdict: shuts the gate again until `until`, which counts as no trip. Without this,
    /// request after request would be sent to find out what none of them has the time for.
    pub(crate) fn postpone(&self, epoch: u64, until: impl FnOnce(u32) -> Instant) {
        let state = self.state.lock();
        if let Some(view) = self.view()
            && epoch == self.epoch()
        {
            self.set(view.cause, until(state.trips));
        }
    }

    /// Opens the gate on evidence of `epoch`. `ramp` is the cause under which the opening is noted, or `None` when
    /// there is nothing to note. Returns whether it changed.
    pub(crate) fn open(&self, epoch: u64, ramp: Option<u8>, now: Instant) -> bool {
        if self.view().is_none() {
            return false;
        }
        let mut state = self.state.lock();
        let stale = epoch != self.epoch() && !bug::STALE_GENERATION_CLOSES;
        if stale || self.view().is_none() {
            return false;
        }
        self.epoch.fetch_add(1, Ordering::Release);
        self.free(&mut state);
        match ramp {
            Some(cause) => self.set(cause, now),
            None => {
                state.trips = 0;
                if self.word.swap(0, Ordering::AcqRel) != 0 {
                    self.alarm.0.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
        true
    }

    fn set(&self, cause: u8, moment: Instant) {
        if self.word.swap((moment.as_nanos() & !CAUSE_MASK) | u64::from(cause), Ordering::AcqRel) == 0 {
            self.alarm.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn free(&self, state: &mut State) {
        state.permit = None;
        self.permit_until.store(0, Ordering::Release);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.view().is_some() {
            self.alarm.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// By how much the grid moves: 15/17 of its spacing. A rest that begins soon after the one before ended, when a request came
/// and failed, is somewhat shorter than its nominal length, and none shorter than three quarters of it.
const TURN: u64 = u64::MAX / 17 * 15;

/// The moment at which a rest of `rest` ends: on a grid of that spacing whose phase is the backend's own, so that
/// backends that left together come back one after the other, evenly, and two routers do not probe in step.
///
/// The phases are multiples of the golden ratio: any run of consecutive slots spreads over the interval with gaps
/// of at most 0.382 of it for three, 0.236 for five (the three-distance theorem). It moves with each of the `trips` in a
/// row, or trouble that comes as regularly would be met by every probe.
pub(crate) fn staggered(now: Instant, rest: std::time::Duration, trips: u32, slot: usize, salt: u64) -> Instant {
    let spacing = nanos(rest).max(1);
    let phase = (slot as u64).wrapping_mul(crate::rng::GOLDEN).wrapping_add(salt);
    let phase = phase.wrapping_add(u64::from(trips).wrapping_mul(TURN));
    let phase = ((u128::from(phase) * u128::from(spacing)) >> 64) as u64;
    let earliest = now.as_nanos().saturating_add(spacing - spacing / 4);
    let past = (earliest.saturating_sub(phase)) % spacing;
    Instant::from_nanos(earliest.saturating_add(if past == 0 { 0 } else { spacing - past }))
}

#[cfg(all(test, fallway_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn one_permit_until_it_is_settled_or_expires() {
        let gate = Gate::new(Arc::default());
        gate.shut(0, 1, at(0), false, false, |_| at(10)).unwrap();
        let permit = gate.claim(gate.epoch(), at(20)).unwrap();
        assert!(gate.claim(gate.epoch(), at(21)).is_none());
        gate.give_back(permit);
        let lost = gate.claim(gate.epoch(), at(22)).unwrap();
        let lease_over = at(22) + Ejection::PROBE_LEASE + Duration::from_nanos(1);
        let second = gate.claim(gate.epoch(), lease_over).unwrap();
        // The first permit comes back late and frees nothing.
        gate.give_back(lost);
        assert!(gate.claim(gate.epoch(), lease_over).is_none());
        gate.give_back(second);
    }

    #[test]
    fn late_evidence_decides_nothing_but_extends() {
        let gate = Gate::new(Arc::default());
        let old = gate.epoch();
        gate.shut(old, 1, at(0), false, false, |_| at(100)).unwrap();
        assert!(!gate.open(old, None, at(1)));
        assert!(gate.shut(old, 1, at(1), false, true, |_| at(50)).is_none());
        assert!(gate.shut(old, 1, at(1), false, false, |_| at(200)).is_none());
        assert_eq!(gate.view().unwrap().moment, at(100));
        assert!(gate.claim(old, at(150)).is_none(), "planned when it was open");
        assert!(gate.shut(old, 1, at(1), false, true, |_| at(300)).is_none());
        assert_eq!(gate.view().unwrap().moment, at(300));
        assert_eq!(gate.trips(), 1);
        assert!(gate.open(gate.epoch(), None, at(400)));
        assert_eq!(gate.view(), None);
    }

    #[test]
    fn rests_are_staggered_and_keep_their_period() {
        let rest = Duration::from_secs(1);
        let ends: Vec<_> = (3..6).map(|slot| staggered(at(5_000), rest, 1, slot, 7)).collect();
        for end in &ends {
            let wait = *end - at(5_000);
            assert!(wait >= rest * 3 / 4 && wait < rest * 7 / 4, "{wait:?}");
        }
        let mut phases: Vec<_> = ends.iter().map(|end| end.as_nanos() % 1_000_000_000).collect();
        phases.sort_unstable();
        assert!(phases.windows(2).all(|pair| pair[1] - pair[0] > 200_000_000), "{phases:?}");
        assert_eq!(staggered(ends[0], rest, 1, 3, 7) - ends[0], rest);
        // Nobody is down at every probe who is up for a quarter of the time.
        let next = |(end, trips): (Instant, u32)| (staggered(end, rest, trips + 1, 3, 7), trips + 1);
        let ends = std::iter::successors(Some((ends[0], 1)), |last| Some(next(*last))).take(9);
        let quarters: std::collections::BTreeSet<_> =
            ends.map(|(end, _)| end.as_nanos() % 1_000_000_000 / 250_000_000).collect();
        assert_eq!(quarters.len(), 4);
    }
}
