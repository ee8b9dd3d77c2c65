//! How attempts end lately, everywhere.

use crate::backend::{Cools, FailureKind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The latest attempts of a router, how they ended, and where; without a lock.
///
/// A backend that times out as often as its peers is not ill: the fleet has too much to do, and taking servers out
/// would make that worse. The attempts are counted and not timed, so an overload is seen as fast as it comes.
#[derive(Debug)]
pub(crate) struct Pulse {
    next: AtomicUsize,
    /// Empty, or a backend's slot, whether it failed and whether it timed out.
    latest: [AtomicU32; LATEST],
    /// All that ever succeeded.
    successes: AtomicU64,
    /// The verdict after the last attempt; decisions read it.
    overload: AtomicBool,
}

/// How many attempts are remembered.
const LATEST: usize = 64;
/// With fewer attempts nothing is said of the whole.
const ENOUGH: u32 = 10;
/// A streak that would come about by chance among the peers more often than this says nothing.
const CHANCE: f64 = 1e-3;
const EMPTY: u32 = u32::MAX;
const SLOT_SHIFT: u32 = 3;

/// How an attempt ended, as far as the whole fleet is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beat {
    Success = 0,
    /// Refused by a limit, a credential or for lack of a model: says nothing of anybody's health.
    Refusal = 4,
    Failure = 2,
    Timeout = 3,
}

impl Beat {
    pub(crate) const fn of(kind: FailureKind) -> Self {
        match kind.conduct().cools {
            _ if matches!(kind, FailureKind::Timeout) => Self::Timeout,
            Cools::Load | Cools::Streak => Self::Failure,
            Cools::Quota | Cools::Credential | Cools::Model => Self::Refusal,
            // The caller's fault: it answered.
            Cools::Nothing => Self::Success,
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        let latest = [const { AtomicU32::new(EMPTY) }; LATEST];
        Self { next: AtomicUsize::new(0), latest, successes: AtomicU64::new(0), overload: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// An attempt at the backend in `slot` ended.
    pub(crate) fn count(&self, slot: usize, beat: Beat) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % LATEST;
        self.latest[at].store(((slot as u32) << SLOT_SHIFT) | beat as u32, Ordering::Relaxed);
        let timed_out = beat == Beat::Timeout;
        if beat == Beat::Success {
            self.successes.fetch_add(1, Ordering::Relaxed);
        }
        // Only a timeout can begin an overload, and only while there is one can anything end it.
        let before = self.overload.load(Ordering::Relaxed);
        if timed_out || before {
            let now = self.judge();
            if now != before {
                self.overload.store(now, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn is_overload(&self) -> bool {
        self.overload.load(Ordering::Relaxed)
    }

    /// Whether the fleet has too much to do: more than one in ten attempts time out, at more than a third of the
    /// backends. Where they are fewer, these hang, and others can take their requests.
    fn judge(&self) -> bool {
        let (attempts, _, timeouts) = self.sum(|_| true);
        if attempts < ENOUGH || timeouts * 10 <= attempts {
            return false;
        }
        // By slot, timeouts first.
        let mut latest = [EMPTY; LATEST];
        for (entry, read) in latest.iter_mut().zip(&self.latest) {
            *entry = read.load(Ordering::Relaxed);
        }
        latest.sort_unstable_by_key(|entry| (entry >> SLOT_SHIFT, entry & 1 == 0));
        let backends =
            latest.chunk_by(|one, other| one >> SLOT_SHIFT == other >> SLOT_SHIFT).filter(|chunk| chunk[0] != EMPTY);
        let (all, slow) = backends.fold((0, 0), |(all, slow), chunk| (all + 1, slow + (chunk[0] & 1)));
        slow * 3 > all
    }

    /// Whether so many timeouts in a row at `these` backends, by slot, would be strange if they were like the others.
    pub(crate) fn is_strange(&self, these: impl Fn(usize) -> bool, streak: u32) -> bool {
        let (attempts, _, timeouts) = self.sum(|slot| !these(slot));
        if attempts == 0 {
            // Nobody to compare with.
            return true;
        }
        let share = f64::from(timeouts) / f64::from(attempts);
        share.powi(i32::try_from(streak).unwrap_or(i32::MAX)) < CHANCE
    }

    /// Whether most attempts at other backends than `these` fail.
    pub(crate) fn others_fail(&self, these: impl Fn(usize) -> bool) -> bool {
        let (attempts, failures, _) = self.sum(|slot| !these(slot));
        failures * 2 > attempts
    }

    /// All that ever succeeded.
    pub(crate) fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    /// Attempts, failures and timeouts at the backends of these slots.
    fn sum(&self, counts: impl Fn(usize) -> bool) -> (u32, u32, u32) {
        let latest = self.latest.iter().map(|entry| entry.load(Ordering::Relaxed));
        let counted = latest.filter(|entry| *entry != EMPTY && counts((entry >> SLOT_SHIFT) as usize));
        counted.fold((0, 0, 0), |(attempts, failures, timeouts), entry| {
            (attempts + 1, failures + (entry >> 1 & 1), timeouts + (entry & 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(timed_out: bool) -> Beat {
        if timed_out { Beat::Timeout } else { Beat::Success }
    }

    /// A router of ten backends of which the others time out this often, in percent, and one always.
    fn pulse(percent: usize) -> Pulse {
        let pulse = Pulse::default();
        for attempt in 0..60 {
            pulse.count(1 + attempt % 9, beat(attempt * 100 % (60 * 100) < percent * 60));
        }
        (0..4).for_each(|_| pulse.count(0, Beat::Timeout));
        pulse
    }

    #[test]
    fn a_streak_is_measured_by_the_peers() {
        assert!(pulse(0).is_strange(|slot| slot == 0, 5), "the others are well");
        assert!(pulse(20).is_strange(|slot| slot == 0, 5), "one in five of the others' times out");
        assert!(!pulse(50).is_strange(|slot| slot == 0, 5), "one in two: five in a row are no wonder");
        assert!(pulse(50).is_strange(|slot| slot == 0, 10), "but ten are");
        assert!(!pulse(100).is_strange(|slot| slot == 0, 1_000), "all are out");
        assert!(Pulse::default().is_strange(|slot| slot == 0, 5), "there are no others");
        let alone = Pulse::default();
        (0..5).for_each(|_| alone.count(3, Beat::Timeout));
        assert!(alone.is_strange(|slot| slot == 3, 5) && !alone.is_strange(|slot| slot == 4, 5));
    }

    #[test]
    fn an_overload_begins_and_ends_with_the_attempts() {
        let pulse = Pulse::default();
        (0..9).for_each(|slot| pulse.count(slot, Beat::Timeout));
        assert!(!pulse.is_overload(), "nine attempts say little");
        pulse.count(0, Beat::Timeout);
        assert!(pulse.is_overload());
        (0..LATEST).for_each(|slot| pulse.count(slot, Beat::Success));
        assert!(!pulse.is_overload());
        // A third of the fleet hangs.
        (0..LATEST).for_each(|attempt| pulse.count(attempt % 9, beat(attempt % 9 < 3)));
        assert!(!pulse.is_overload());
    }
}
