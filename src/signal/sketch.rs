//! [`Sketch`]: quantiles of what happens, as a ratio to what was predicted.

use crate::decision::Spread;
use crate::time::Instant;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A histogram of ratios that forgets: how far what happens is from what was predicted.
///
/// The buckets are those of an HDR histogram: eight for each doubling, from an eighth of the prediction to 32 times it, so a
/// quantile is right to about 6 %. All counts are halved when there are [`MOST`] samples, and every [`HALF_LIFE`], so what
/// was long ago counts less and in the end nothing. It begins with a few samples that were never taken, the prior, and they
/// fade like all others.
///
/// Recording is some additions and at times a pass over the buckets, without a lock; it leaves the usual quantiles in one word,
/// so that a decision reads a word and computes nothing. Less than two hundred bytes, whatever is recorded.
#[derive(Debug)]
pub(super) struct Sketch {
    buckets: [AtomicU16; BUCKETS],
    /// Real samples, in [`UNIT`]s; faded as the buckets are.
    samples: AtomicU32,
    /// When all was halved last; 0 before the first sample.
    faded: AtomicU64,
    /// The usual quantiles: half, late.
    usual: AtomicU32,
}

const BUCKETS: usize = 64;
/// What a sample counts: halved some times it still counts something.
const UNIT: u16 = 64;
/// So many samples are remembered at most; half of them after the next.
const MOST: u32 = 256;
/// From so many samples on, the usual quantiles are found anew with every [`OFTEN`]th: one more moves them by little.
const MANY: u32 = 64;
const OFTEN: u32 = 8;
/// In nanoseconds.
const HALF_LIFE: u64 = 300_000_000_000;
/// The prior, as ratios in 1/1024 with how often: usually as predicted, twice as long once in eight times.
const PRIOR: [(u64, u16); 4] = [(512, 1), (1024, 4), (1536, 2), (2048, 1)];
/// The quantiles that decisions read, in thousandths.
const USUAL: (u32, u32) = (500, 950);

impl Default for Sketch {
    fn default() -> Self {
        let sketch = Self {
            buckets: [const { AtomicU16::new(0) }; BUCKETS],
            samples: AtomicU32::new(0),
            faded: AtomicU64::new(0),
            usual: AtomicU32::new(0),
        };
        sketch.forget();
        sketch
    }
}

impl Sketch {
    /// Something took `actual` where `predicted` was predicted, in the same unit.
    pub(super) fn record(&self, actual: u64, predicted: u64, now: Instant) {
        self.fade(now);
        let ratio = (u128::from(actual) << 10) / u128::from(predicted.max(1));
        let bucket = bucket(u64::try_from(ratio).unwrap_or(u64::MAX));
        self.buckets[bucket].fetch_add(UNIT, Ordering::Relaxed);
        let samples = self.samples.fetch_add(UNIT.into(), Ordering::Relaxed) / u32::from(UNIT);
        if samples < MANY || samples.is_multiple_of(OFTEN) {
            self.refresh();
        }
    }

    /// Nothing is known any more but the prior.
    pub(super) fn forget(&self) {
        self.samples.store(0, Ordering::Relaxed);
        self.buckets.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        for (ratio, times) in PRIOR {
            self.buckets[bucket(ratio)].store(times * UNIT, Ordering::Relaxed);
        }
        self.refresh();
    }

    /// The usual quantiles, and how many samples still count at `now`.
    pub(super) fn read(&self, now: Instant) -> Spread {
        let usual = self.usual.load(Ordering::Relaxed);
        let samples = self.samples.load(Ordering::Relaxed) / u32::from(UNIT);
        let halvings = self.due(self.faded.load(Ordering::Relaxed), now);
        Spread { half: usual >> 16, late: usual & 0xffff, samples: samples.checked_shr(halvings).unwrap_or(0) }
    }

    /// The ratio, in 1/1024, that so many thousandths of the samples stay below.
    pub(super) fn quantile(&self, permille: u32) -> u32 {
        match self.usual.load(Ordering::Relaxed) {
            usual if permille == USUAL.0 => usual >> 16,
            usual if permille == USUAL.1 => usual & 0xffff,
            _ => self.find(permille),
        }
    }

    fn find(&self, permille: u32) -> u32 {
        let total: u64 = self.buckets.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum();
        let mut rank = total * u64::from(permille.min(1000)) / 1000;
        for (at, count) in self.buckets.iter().enumerate() {
            let count = u64::from(count.load(Ordering::Relaxed));
            if count > 0 && rank <= count {
                let (from, to) = (edge(at), edge(at + 1));
                return (from + (to - from) * rank / count) as u32;
            }
            rank -= count.min(rank);
        }
        // Another thread halves them meanwhile.
        1024
    }

    fn refresh(&self) {
        let usual = |permille| self.find(permille).min(u16::MAX.into());
        self.usual.store(usual(USUAL.0) << 16 | usual(USUAL.1), Ordering::Relaxed);
    }

    /// How often everything is to be halved since `faded`, for the time that has passed.
    fn due(&self, faded: u64, now: Instant) -> u32 {
        let past = now.nanos_since(Instant::from_nanos(faded));
        // Divisions are slow, and this is on every decision's way.
        if faded == 0 || past < HALF_LIFE { 0 } else { u32::try_from(past / HALF_LIFE).unwrap_or(u32::MAX) }
    }

    fn fade(&self, now: Instant) {
        let faded = self.faded.load(Ordering::Relaxed);
        let full = self.samples.load(Ordering::Relaxed) >= MOST * u32::from(UNIT);
        let halvings = self.due(faded, now).max(full.into());
        if halvings == 0 && faded != 0 {
            return;
        }
        // One thread halves, the others only add.
        let won =
            self.faded.compare_exchange(faded, now.as_nanos().max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won && halvings > 0 {
            for count in &self.buckets {
                let halve = |count: u16| Some(count.checked_shr(halvings).unwrap_or(0));
                let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, halve);
            }
            let halve = |samples: u32| Some(samples.checked_shr(halvings).unwrap_or(0));
            let _ = self.samples.fetch_update(Ordering::Relaxed, Ordering::Relaxed, halve);
        }
    }
}

/// The bucket of a ratio in 1/1024.
fn bucket(ratio: u64) -> usize {
    let ratio = ratio.clamp(edge(0), edge(BUCKETS) - 1);
    let octave = ratio.ilog2() - 7;
    (octave * 8) as usize + ((ratio >> (octave + 4)) & 7) as usize
}

/// Where a bucket begins, in 1/1024: an eighth for the first.
const fn edge(bucket: usize) -> u64 {
    (8 + (bucket as u64 & 7)) << (4 + (bucket >> 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::time::Duration;

    const MS: u64 = 1_000_000;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(1) + Duration::from_secs(seconds)
    }

    #[test]
    fn buckets_meet_and_cover_everything() {
        for ratio in [0, 127, 128, 129, 143, 144, 1023, 1024, 1151, 1152, 32_767, 32_768, u64::MAX] {
            let bucket = bucket(ratio);
            let inside = ratio.clamp(128, 32_767);
            assert!(edge(bucket) <= inside && inside < edge(bucket + 1), "{ratio} {bucket}");
        }
    }

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let (sketch, mut rng) = (Sketch::default(), Rng::new(7));
        let mut samples: Vec<u64> = Vec::new();
        for _ in 0..200 {
            // Skewed, as latencies are: mostly around 1, sometimes many times that.
            let sample = 500 * MS + rng.below(1_000) as u64 * MS + u64::from(rng.below(10) == 0) * 4_000 * MS;
            samples.push(sample);
            sketch.record(sample, 1_000 * MS, at(1));
        }
        samples.sort_unstable();
        for permille in [250, 500, 750, 950] {
            let truth = samples[samples.len() * permille / 1000] * 1024 / (1_000 * MS);
            let said = u64::from(sketch.quantile(permille as u32));
            assert!(said.abs_diff(truth) * 8 <= truth, "{permille}: {said} of {truth}");
        }
        assert_eq!(sketch.read(at(1)).samples, 200);
    }

    #[test]
    fn before_the_first_sample_stands_the_prior() {
        let Spread { half, late, samples } = Sketch::default().read(at(5));
        assert!((900..1_200).contains(&half) && (2_000..2_400).contains(&late) && samples == 0, "{half} {late}");
    }

    #[test]
    fn what_is_old_counts_less_and_then_nothing() {
        let sketch = Sketch::default();
        (0..100).for_each(|_| sketch.record(10 * MS, MS, at(1)));
        let samples = |seconds| sketch.read(at(seconds)).samples;
        assert_eq!([1, 300, 301, 601, 3_000].map(samples), [100, 100, 50, 25, 0]);
        // A few new samples outweigh what is left of them.
        (0..20).for_each(|_| sketch.record(MS, MS, at(3_001)));
        let read = sketch.read(at(3_001));
        assert!(read.late < 1_200 && read.samples == 20, "{read:?}");
    }

    #[test]
    fn the_last_few_hundred_samples_outweigh_any_number_before() {
        let sketch = Sketch::default();
        (0..100_000).for_each(|_| sketch.record(8 * MS, MS, at(1)));
        assert!((7 * 1024..9 * 1024).contains(&sketch.read(at(1)).half));
        (0..512).for_each(|_| sketch.record(MS, MS, at(1)));
        let read = sketch.read(at(1));
        assert!(read.half < 1_200 && read.samples <= 256, "{read:?}");
    }

    #[test]
    fn absurd_samples_end_in_the_outer_buckets() {
        let sketch = Sketch::default();
        sketch.record(u64::MAX, 0, at(1));
        sketch.record(0, u64::MAX, at(1));
        assert_eq!(sketch.read(at(1)).samples, 2);
        assert!(sketch.quantile(1_000) <= 32_768 && sketch.quantile(0) >= 128 && sketch.quantile(u32::MAX) <= 32_768);
    }

    #[test]
    fn threads_that_record_at_once_lose_nothing_but_what_is_halved() {
        let sketch = Sketch::default();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let sketch = &sketch;
                scope.spawn(move || (0..50_000).for_each(|_| sketch.record(thread * MS, 2 * MS, at(1))));
            }
        });
        let read = sketch.read(at(1));
        assert!((100..=300).contains(&read.samples) && read.half <= read.late && read.late < 2_400, "{read:?}");
        let total: u32 = sketch.buckets.iter().map(|count| u32::from(count.load(Ordering::Relaxed))).sum();
        assert!(total <= 300 * u32::from(UNIT), "{total}");
    }
}
