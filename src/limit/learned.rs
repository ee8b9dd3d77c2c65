//! [`Learned`]: how many calls a backend takes at once, learned from how it takes them.

use crate::facts::Adaptive;
use crate::time::Instant;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The limit that was learned of one backend; decisions read one word.
#[derive(Debug)]
pub(crate) struct Learned {
    /// In units of a 65,536th of a call.
    limit: AtomicU64,
    /// The most in flight beside a call that was answered since the last cut, that call included.
    proven: AtomicU32,
    /// When it was cut last. Calls that were sent before met the same queue, and say nothing new.
    cut_at: AtomicU64,
    /// The time to first token lately and as a rule, in nanoseconds.
    lately: AtomicU64,
    usual: AtomicU64,
    /// What observers were told last.
    told: AtomicU32,
}

/// A call, as far as a limit learns from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    /// Calls in flight when it was sent, itself included.
    pub(crate) among: u32,
}

/// The limit before and after a call that moved it, in whole calls; `u32::MAX` where nothing was known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

const SHIFT: u32 = 16;
const ONE: u64 = 1 << SHIFT;
/// More than any limit.
const NOTHING: u64 = u64::MAX;

/// How much of the time to first token lately is the latest, as a power of two.
const LATELY_SHIFT: u32 = 3;
/// How fast the usual time to first token follows that lately, as powers of two: downwards, and upwards. What is usual
/// must not follow a queue before the limit did; and must follow prompts that have become longer, or a stale minimum
/// would hold the limit down for ever.
const USUAL_SHIFT: (u32, u32) = (6, 9);
/// The most that a turn takes away.
const STEEPEST: f64 = 0.5;
/// Observers are told of a limit that moved by a part of so many.
const NEWS: u32 = 5;

impl Default for Learned {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(NOTHING),
            proven: AtomicU32::new(0),
            cut_at: AtomicU64::new(0),
            lately: AtomicU64::new(0),
            usual: AtomicU64::new(0),
            told: AtomicU32::new(u32::MAX),
        }
    }
}

impl Learned {
    /// The limit in whole calls, one at least; `u32::MAX` where nothing was learned.
    #[inline]
    pub(crate) fn read(&self) -> u32 {
        whole(self.limit.load(Ordering::Relaxed))
    }

    /// A call was answered, its first item after `ttft` nanoseconds.
    pub(crate) fn answered(&self, how: Adaptive, sent: Sent, ttft: u64) -> Option<Moved> {
        if sent.at.as_nanos() <= self.cut_at.load(Ordering::Relaxed) {
            return None;
        }
        if sent.among > self.proven.load(Ordering::Relaxed) {
            self.proven.fetch_max(sent.among, Ordering::Relaxed);
        }
        let slower = match how {
            Adaptive::Aimd => 1.0,
            Adaptive::Gradient => self.slower(ttft),
        };
        self.change(|limit| match limit {
            // The first sign of a queue.
            NOTHING if slower > 1.0 => Some(u64::from(self.proven.load(Ordering::Relaxed)) << SHIFT),
            NOTHING => None,
            _ => {
                let calls = limit as f64 / ONE as f64;
                let used = u64::from(sent.among) * 2 >= limit >> SHIFT;
                let step = match how {
                    Adaptive::Aimd => 1.0 / f64::from(Adaptive::ANSWERS),
                    Adaptive::Gradient => (1.0 / slower).max(STEEPEST) - 1.0 + calls.sqrt().recip(),
                };
                (used || step < 0.0).then(|| ((calls + step).max(1.0) * ONE as f64) as u64)
            }
        })
    }

    /// A call was refused.
    pub(crate) fn refused(&self, sent: Sent, now: Instant) -> Option<Moved> {
        // Alone, it could not have been among fewer.
        if sent.among < 2 {
            return None;
        }
        let newer = |at: u64| (sent.at.as_nanos() > at).then(|| now.as_nanos());
        self.cut_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer).ok()?;
        // A limit that nobody came near since is no measure.
        let used = u64::from(self.proven.swap(0, Ordering::Relaxed).max(sent.among)) << SHIFT;
        self.change(|limit| Some(((limit.min(used) as f64 * Adaptive::KEEPS) as u64).max(ONE)))
    }

    /// How many times too slow the first items come lately; 1 where they do not.
    fn slower(&self, ttft: u64) -> f64 {
        // Threads that learn at the same moment may lose a sample.
        let ewma = |mean: &AtomicU64, sample: u64, shift: u32| {
            let before = mean.load(Ordering::Relaxed);
            let next = match before {
                0 => sample,
                _ if sample < before => before - ((before - sample) >> shift),
                _ => before + ((sample - before) >> shift),
            };
            mean.store(next.max(1), Ordering::Relaxed);
            next.max(1)
        };
        let lately = ewma(&self.lately, ttft, LATELY_SHIFT);
        let falls = lately < self.usual.load(Ordering::Relaxed);
        let usual = ewma(&self.usual, lately, if falls { USUAL_SHIFT.0 } else { USUAL_SHIFT.1 });
        (lately as f64 / (usual as f64 * Adaptive::SLOWER)).max(1.0)
    }

    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> Option<Moved> {
        let mut to = NOTHING;
        let from = self.limit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |limit| {
            to = next(limit)?;
            Some(to)
        });
        let moved = Moved { from: whole(from.ok()?), to: whole(to) };
        (moved.from != moved.to).then_some(moved)
    }

    /// What observers know of the limit, and what it is now, where that is news.
    pub(crate) fn news(&self) -> Option<Moved> {
        let (from, to) = (self.told.load(Ordering::Relaxed), self.read());
        let far = from.abs_diff(to) >= (from / NEWS).max(1);
        // Of several threads one tells.
        let told = || self.told.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (far && told()).then_some(Moved { from, to })
    }

    /// Forgets it all.
    pub(crate) fn forget(&self) {
        self.limit.store(NOTHING, Ordering::Relaxed);
        self.proven.store(0, Ordering::Relaxed);
        self.told.store(u32::MAX, Ordering::Relaxed);
    }
}

fn whole(limit: u64) -> u32 {
    u32::try_from(limit >> SHIFT).unwrap_or(u32::MAX)
}
