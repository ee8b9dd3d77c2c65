//! [`Learned`]: how many calls a backend takes at once, learned from how it takes them.

use crate::facts::Adaptive;
use crate::time::Instant;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The limit that was learned of one backend; decisions read one word.
#[derive(Debug)]
pub(crate) struct Learned {
    /// In units of a 65,536th of a call.
    limit: AtomicU64,
    /// Up to where `Aimd` grows by one with each answer, in the same units: the last limit that was really met.
    good: AtomicU64,
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
/// How fast the usual time to first token follows that lately, as powers of two: downwards by a part of the gap, upwards
/// by a part of itself at most. What is usual must not follow a queue before the limit did; and must follow prompts that
/// have become longer, or a stale minimum would hold the limit down for ever.
const USUAL_SHIFT: (u32, u32) = (6, 10);
/// The most that a turn takes away.
const STEEPEST: f64 = 0.5;
/// Observers are told of a limit that moved by a part of so many.
const NEWS: u64 = 5;

impl Default for Learned {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(NOTHING),
            good: AtomicU64::new(0),
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
                    // Slow start (RFC 5681): what was good once is found again in a few turns of the calls.
                    Adaptive::Aimd if limit < self.good.load(Ordering::Relaxed) => 1.0,
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
        let used = u64::from(self.proven.swap(0, Ordering::Relaxed).max(sent.among)) << SHIFT;
        let keep = |limit: u64| ((limit as f64 * Adaptive::KEEPS) as u64).max(ONE);
        let mut good = self.good.load(Ordering::Relaxed);
        let moved = self.change(|limit| {
            // A limit that nobody came near is no measure, nor is it disproved: it goes half of the way.
            let unmet = limit != NOTHING && (used >> SHIFT) * 2 < limit >> SHIFT;
            let next = if unmet { (limit / 2).max(ONE) } else { keep(limit.min(used)) };
            good = if unmet { good.max(limit) } else { next.max(good / 2) };
            Some(next)
        });
        self.good.store(good, Ordering::Relaxed);
        moved
    }

    /// How many times too slow the first items come lately; 1 where they do not.
    fn slower(&self, ttft: u64) -> f64 {
        // Threads that learn at the same moment may lose a sample.
        let follow = |mean: &AtomicU64, sample: u64, step: &dyn Fn(u64) -> u64| {
            let next = match mean.load(Ordering::Relaxed) {
                0 => sample.max(1),
                before => step(before).max(1),
            };
            mean.store(next, Ordering::Relaxed);
            next
        };
        let lately = follow(&self.lately, ttft, &|mean| mean - (mean >> LATELY_SHIFT) + (ttft >> LATELY_SHIFT));
        let usual = follow(&self.usual, lately, &|usual| match lately.checked_sub(usual) {
            Some(more) => usual + more.min(usual >> USUAL_SHIFT.1),
            None => usual - ((usual - lately) >> USUAL_SHIFT.0),
        });
        (lately as f64 / (usual as f64 * Adaptive::SLOWER)).max(1.0)
    }

    fn change(&self, mut next: impl FnMut(u64) -> Option<u64>) -> Option<Moved> {
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
        let far = from != to && u64::from(from.abs_diff(to)) * NEWS >= u64::from(from);
        // Of several threads one tells.
        let told = || self.told.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (far && told()).then_some(Moved { from, to })
    }

    /// Forgets it all.
    pub(crate) fn forget(&self) {
        self.limit.store(NOTHING, Ordering::Relaxed);
        self.good.store(0, Ordering::Relaxed);
        self.proven.store(0, Ordering::Relaxed);
        self.told.store(u32::MAX, Ordering::Relaxed);
    }
}

fn whole(limit: u64) -> u32 {
    u32::try_from(limit >> SHIFT).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * MS)
    }

    fn sent(millis: u64, among: u32) -> Sent {
        Sent { at: at(millis), among }
    }

    /// Answers calls of which each was sent among as many as may be, until the limit is `to`; returns how many.
    fn grow(learned: &Learned, how: Adaptive, from: u64, to: u32) -> u64 {
        let mut answers = 0;
        while learned.read() < to {
            learned.answered(how, sent(from + answers, learned.read()), 100 * MS);
            answers += 1;
            assert!(answers < 100_000, "{learned:?}");
        }
        answers
    }

    #[test]
    fn nothing_is_limited_until_something_refuses() {
        let learned = Learned::default();
        for among in 1..=40 {
            assert_eq!(learned.answered(Adaptive::Aimd, sent(1, among), 100 * MS), None);
        }
        assert_eq!((learned.read(), learned.news()), (u32::MAX, None));
        assert_eq!(learned.refused(sent(2, 41), at(3)), Some(Moved { from: u32::MAX, to: 36 }));
    }

    #[test]
    fn a_burst_of_refusals_is_one_lesson() {
        let learned = Learned::default();
        // Sent together, refused one after the other.
        let moves: Vec<_> = (1..=20).map(|n| learned.refused(sent(10, 20), at(10 + n))).collect();
        assert_eq!(moves[0], Some(Moved { from: u32::MAX, to: 18 }));
        assert!(moves[1..].iter().all(Option::is_none), "{moves:?}");
        // What was sent after the first of them is news.
        assert_eq!(learned.refused(sent(12, 18), at(13)), Some(Moved { from: 18, to: 16 }));
        // And what was sent before, and answered since, proves nothing.
        assert_eq!(learned.answered(Adaptive::Aimd, sent(9, 20), 100 * MS), None);
        assert_eq!(learned.refused(sent(14, 16), at(15)), Some(Moved { from: 16, to: 14 }));
    }

    #[test]
    fn it_falls_to_what_is_used_and_never_below_one() {
        let learned = Learned::default();
        learned.refused(sent(1, 40), at(2));
        // The backend takes two now.
        learned.answered(Adaptive::Aimd, sent(3, 1), 100 * MS);
        learned.answered(Adaptive::Aimd, sent(4, 2), 100 * MS);
        let moves: Vec<_> = (5..10).filter_map(|n| learned.refused(sent(2 * n, 3), at(2 * n + 1))).collect();
        assert_eq!(moves.iter().map(|moved| moved.to).collect::<Vec<_>>(), [18, 9, 4, 2]);
        for n in 2..50 {
            learned.refused(sent(10 * n, 2), at(10 * n + 1));
        }
        assert_eq!(learned.read(), 1);
        // Alone there, nobody could have been among fewer.
        let other = Learned::default();
        assert_eq!((other.refused(sent(1, 1), at(2)), other.read()), (None, u32::MAX));
    }

    #[test]
    fn a_mishap_in_a_quiet_hour_costs_half_for_a_moment() {
        let learned = Learned::default();
        learned.refused(sent(1, 40), at(2));
        // Two in flight all night, and twice one of them is refused.
        let moves = [5, 10].map(|millis| learned.refused(sent(millis, 2), at(millis + 1)));
        assert_eq!(moves, [Some(Moved { from: 36, to: 18 }), Some(Moved { from: 18, to: 9 })]);
        // In the morning one answer is one more, up to where it was.
        let answers = grow(&learned, Adaptive::Aimd, 20, 36);
        assert_eq!(answers, 27);
        assert!((50..=51).contains(&grow(&learned, Adaptive::Aimd, 100, 37)));
    }

    #[test]
    fn a_backend_that_became_small_is_found_out_by_a_few_refusals() {
        let learned = Learned::default();
        learned.refused(sent(1, 40), at(2));
        // From now on it takes three at a time, and there are always as many as may be.
        let mut refused = 0;
        for now in 2..32 {
            let among = learned.read().min(64);
            if among > 3 {
                learned.refused(sent(2 * now, 4), at(2 * now + 1));
                refused += 1;
            } else {
                learned.answered(Adaptive::Aimd, sent(2 * now, among), 100 * MS);
            }
        }
        // Halves on the way down, then a few until what was good is forgotten.
        assert!(refused <= 8 && learned.read() <= 4, "{refused}: {learned:?}");
    }

    #[test]
    fn a_limit_that_is_used_grows_by_one_in_fifty_answers() {
        let learned = Learned::default();
        learned.refused(sent(1, 10), at(2));
        let answers = grow(&learned, Adaptive::Aimd, 3, 10);
        assert!((50..=51).contains(&answers), "{answers}");
        // One that is not, does not.
        for n in 0..1_000 {
            learned.answered(Adaptive::Aimd, sent(1_000 + n, 4), 100 * MS);
        }
        assert_eq!(learned.read(), 10);
    }

    #[test]
    fn a_queue_halves_it_in_a_turn_and_four_remain() {
        let learned = Learned::default();
        let answer = |time: u64, among: u32, ttft: u64| learned.answered(Adaptive::Gradient, sent(time, among), ttft);
        // Sixty-four at a time, as usual.
        for n in 1..=640 {
            answer(n, 64, 100 * MS);
        }
        assert_eq!(learned.read(), u32::MAX);
        // Then the first items come eight times as late: each turn takes half.
        let mut limits = Vec::new();
        for n in 0..600u64 {
            answer(1_000 + n, learned.read().min(64), 800 * MS);
            limits.push(learned.read());
        }
        let least = *limits.iter().min().unwrap();
        assert!((4..=6).contains(&least), "{limits:?}");
        assert!(limits[..100].contains(&32), "{:?}", &limits[..100]);
        // What stays so is usual in the end, and the limit is not held down for ever.
        for n in 0..4_000 {
            answer(10_000 + n, learned.read(), 800 * MS);
        }
        assert!(learned.read() > 64, "{learned:?}");
    }

    #[test]
    fn long_answers_are_no_queue() {
        // The whole time is no input; first items that vary by half do not move it either.
        let learned = Learned::default();
        for n in 0..10_000 {
            learned.answered(Adaptive::Gradient, sent(1 + n, 64), (75 + n * 37 % 50) * MS);
        }
        assert_eq!(learned.read(), u32::MAX);
    }

    #[test]
    fn news_is_what_moved_by_a_fifth() {
        let learned = Learned::default();
        learned.refused(sent(1, 40), at(2));
        assert_eq!(learned.news(), Some(Moved { from: u32::MAX, to: 36 }));
        grow(&learned, Adaptive::Aimd, 3, 43);
        assert_eq!(learned.news(), None);
        grow(&learned, Adaptive::Aimd, 1_000, 44);
        assert_eq!((learned.news(), learned.news()), (Some(Moved { from: 36, to: 44 }), None));
    }

    /// The rules for `Aimd` in plain words.
    #[derive(Debug, Default)]
    struct Model {
        limit: Option<f64>,
        good: f64,
        proven: u32,
        cut: u64,
    }

    impl Model {
        fn answered(&mut self, time: u64, among: u32) {
            if time <= self.cut {
                return;
            }
            self.proven = self.proven.max(among);
            if let Some(limit) = &mut self.limit
                && f64::from(among) * 2.0 >= limit.floor()
            {
                *limit += if *limit < self.good { 1.0 } else { 0.02 };
            }
        }

        fn refused(&mut self, time: u64, among: u32, now: u64) {
            if among < 2 || time <= self.cut {
                return;
            }
            let used = f64::from(self.proven.max(among));
            let keep = |limit: f64| (limit * 0.9).max(1.0);
            (self.limit, self.good) = match self.limit {
                Some(limit) if used * 2.0 < limit.floor() => (Some((limit / 2.0).max(1.0)), self.good.max(limit)),
                limit => {
                    let next = keep(limit.unwrap_or(f64::INFINITY).min(used));
                    (Some(next), next.max(self.good / 2.0))
                }
            };
            (self.proven, self.cut) = (0, now);
        }
    }

    proptest! {
        #[test]
        fn it_does_what_its_rules_say(calls in prop::collection::vec((0u8..12, 1u32..40, 0u64..30), 1..600)) {
            let (learned, mut model) = (Learned::default(), Model::default());
            for (now, (what, among, took)) in (31u64..).zip(calls) {
                let time = now - took;
                if what == 0 {
                    learned.refused(sent(time, among), at(now));
                    model.refused(time, among, now);
                } else {
                    learned.answered(Adaptive::Aimd, sent(time, among), MS);
                    model.answered(time, among);
                }
                match model.limit {
                    None => prop_assert_eq!(learned.read(), u32::MAX),
                    // To the rounding of the last of 65,536 parts.
                    Some(limit) => prop_assert!((learned.limit.load(Ordering::Relaxed) as f64 / 65_536.0 - limit).abs() < 0.02),
                }
                prop_assert!(learned.read() >= 1);
            }
        }
    }
}
