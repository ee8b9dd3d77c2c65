//! What is learned of a backend's time to first token, and of its time for each token after that.

use super::fit::{Fit, UNLIKE};
use super::sketch::Sketch;
use crate::decision::{Latency, Pace, Spread, scale};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Learns `ttft ≈ base + work · per_token` and a peak EWMA, from completed first items only.
///
/// `work` is the prefill work that was on this router's books when the call was sent, its own included. The line
/// is a decayed least-squares fit, drawn towards one through the origin: where all requests look alike, their
/// spread says nothing about the slope, and the reading "twice the work takes twice as long" is the safe one, for
/// it makes a busy backend look busy.
///
/// Of few samples no line is drawn: what a backend lacks of [`LINE_ENOUGH`], it has of those that serve the same model, unless they
/// are of another kind. Many routers over one fleet have few samples of each backend for long.
///
/// The line is about work. What it does not explain, jitter, the load of others, is about time: how far samples are from
/// what was predicted of them is kept as a [`Sketch`] of the ratio, so that a quantile holds for a long prompt as for a
/// short one.
#[derive(Debug, Default)]
pub(crate) struct LatencyModel {
    line: Line,
    peak: AtomicU64,
    samples: AtomicU32,
    /// Mean of the last answered samples; lower bounds do not count.
    typical: AtomicU64,
    /// The least that it was, after the first few samples.
    best: AtomicU64,
    fit: Mutex<Fit>,
    /// Of times to first token, to what the line said of them.
    spread: Sketch,
    /// The last answers in a row that took less than half of what was predicted for half of them.
    sooner: AtomicU32,
    /// The usual time for a token after the first; 0 when nothing is known.
    pace: AtomicU64,
    /// Of times per token, to what was usual.
    pace_spread: Sketch,
    peers: OnceLock<Arc<Peers>>,
}

/// What the backends of one model have seen together, those of which each has too few samples to count on. How far a
/// backend is from its own prediction is much the same for all of them.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// How many ever joined.
    members: AtomicU32,
    fit: Mutex<Fit>,
    line: Line,
    spread: Sketch,
    pace_spread: Sketch,
}

/// What a fit says, for those who decide.
#[derive(Debug, Default)]
struct Line {
    base: AtomicU64,
    per_token: AtomicU64,
}

/// After so many samples a mean means something.
const SETTLED: u32 = 4;
/// What one sample leaves of the weight of those before it: the last twenty carry two thirds; of all peers together, the last
/// two hundred.
const DECAY: (f64, f64) = (0.95, 0.995);
/// How fast the peak EWMA comes down: by an eighth of the gap per sample. It goes up at once.
const PEAK_SHIFT: u32 = 3;
/// How much of the usual time per token the latest is, as a power of two.
const PACE_SHIFT: u32 = 4;
/// Samples that a line stands on: more than a quantile, for one that is far out tilts it.
const LINE_ENOUGH: u32 = 30;
/// Samples below which a quantile is a guess.
pub(crate) const ENOUGH: u32 = 20;

/// So many answers in a row that came much sooner than predicted: chance does that once in 32 runs at most.
const CONTRADICTED: u32 = 5;

impl Line {
    fn draw(&self, fit: Fit) {
        let Some((base, slope)) = fit.line() else { return };
        self.base.store(base as u64, Ordering::Relaxed);
        self.per_token.store((slope * 1024.0) as u64, Ordering::Relaxed);
    }
}

impl Peers {
    /// Learns what one of them did, if it did. Returns what all did; nothing where that one is all.
    fn learn(&self, sample: Option<(f64, f64)>) -> Option<Fit> {
        let mut fit = self.fit.lock();
        if let Some((work, time)) = sample {
            // One that is ill says little of the others.
            let most = fit.expected(work).map_or(time, |expected| expected * UNLIKE);
            fit.add(work, time.min(most), DECAY.1);
            self.line.draw(*fit);
        }
        (self.members.load(Ordering::Relaxed) > 1).then_some(*fit)
    }
}

impl LatencyModel {
    /// It serves what these serve. Where it did before, it stays with those.
    pub(crate) fn join(&self, peers: &Arc<Peers>) {
        self.peers.get_or_init(|| {
            peers.members.fetch_add(1, Ordering::Relaxed);
            peers.clone()
        });
    }

    /// A first item arrived after `ttft` nanoseconds behind `work` tokens.
    pub(crate) fn record(&self, work: u64, ttft: u64, now: Instant) {
        let typical = match self.typical.load(Ordering::Relaxed) {
            0 => ttft,
            typical => typical - (typical >> PEAK_SHIFT) + (ttft >> PEAK_SHIFT),
        };
        self.typical.store(typical.max(1), Ordering::Relaxed);
        if self.samples.load(Ordering::Relaxed) >= SETTLED {
            let best = self.best.load(Ordering::Relaxed);
            if best == 0 || typical < best {
                self.best.store(typical.max(1), Ordering::Relaxed);
            }
        }
        self.learn(work, ttft, true, now);
    }

    /// A canary's first item arrived. Where it came in less than half of what was expected, what was learned before
    /// is not true any more; returns whether that is so.
    pub(crate) fn record_canary(&self, work: u64, ttft: u64, now: Instant) -> bool {
        let better = self.samples.load(Ordering::Relaxed) > 0 && ttft < self.read().predict(work) / 2;
        if better {
            self.fit.lock().forget();
            self.typical.store(ttft.max(1), Ordering::Relaxed);
            self.peak.store(ttft, Ordering::Relaxed);
            self.spread.forget();
        }
        self.record(work, ttft, now);
        better
    }

    /// `answered`: it took so long, and not only at least so long.
    fn learn(&self, work: u64, ttft: u64, answered: bool, now: Instant) {
        let before = self.read();
        if before.samples > 0 {
            let predicted = before.predict(work);
            let sooner = answered && ttft < self.read_spread(now).half_of(predicted) / 2;
            self.sooner.store(if sooner { self.sooner().saturating_add(1) } else { 0 }, Ordering::Relaxed);
            if self.spread.read(now).samples < ENOUGH
                && let Some(peers) = self.peers.get()
            {
                peers.spread.record(ttft, predicted, now);
            }
            self.spread.record(ttft, predicted, now);
        }
        let (work, time) = (work.max(1) as f64, ttft as f64);
        let mut fit = self.fit.lock();
        fit.add(work, time, DECAY.0);
        let peers = self.peers.get().and_then(|peers| peers.learn(answered.then_some((work, time))));
        // What it lacks itself of enough samples, it has of its peers.
        let lacking = f64::from(LINE_ENOUGH.saturating_sub(before.samples + 1));
        self.line.draw(peers.map_or(*fit, |peers| fit.filled_up(lacking, peers)));
        let peak = self.peak.load(Ordering::Relaxed);
        let peak = if ttft >= peak { ttft } else { peak - ((peak - ttft) >> PEAK_SHIFT) };
        self.peak.store(peak, Ordering::Relaxed);
        let samples = self.samples.load(Ordering::Relaxed);
        self.samples.store(samples.saturating_add(1), Ordering::Relaxed);
    }

    /// A call timed out after `elapsed` nanoseconds without a first item: the truth is at least that.
    pub(crate) fn record_at_least(&self, work: u64, elapsed: u64, now: Instant) {
        if elapsed > self.read().predict(work) {
            self.learn(work, elapsed, false, now);
        }
    }

    /// A caller left after `elapsed` nanoseconds without a first item. That says nothing, unless something else was
    /// believed.
    pub(crate) fn contradict(&self, work: u64, elapsed: u64, now: Instant) {
        if self.samples.load(Ordering::Relaxed) > 0 {
            self.record_at_least(work, elapsed, now);
        }
    }

    /// The `tokens` of an answer that came after its first took `elapsed` nanoseconds.
    pub(crate) fn record_pace(&self, tokens: u64, elapsed: u64, now: Instant) {
        let Some(each) = elapsed.checked_div(tokens).filter(|each| *each > 0) else { return };
        let usual = match self.pace.load(Ordering::Relaxed) {
            0 => each,
            usual => {
                if self.pace_spread.read(now).samples < ENOUGH
                    && let Some(peers) = self.peers.get()
                {
                    peers.pace_spread.record(each, usual, now);
                }
                self.pace_spread.record(each, usual, now);
                usual - (usual >> PACE_SHIFT) + (each >> PACE_SHIFT)
            }
        };
        self.pace.store(usual.max(1), Ordering::Relaxed);
    }

    fn sooner(&self) -> u32 {
        self.sooner.load(Ordering::Relaxed)
    }

    /// Whether what is predicted is not what its last answers took: it may be wrong for others as well, of which none came.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.sooner() >= CONTRADICTED
    }

    /// A canary finds out whether that is so, and one is enough.
    pub(crate) fn settle(&self) {
        self.sooner.store(0, Ordering::Relaxed);
    }

    /// The usual time to first token of answered calls, in nanoseconds; 0 when none was answered.
    pub(crate) fn typical(&self) -> u64 {
        self.typical.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> Latency {
        let samples = self.samples.load(Ordering::Relaxed);
        // Whom nobody asked yet is taken for one of its peers.
        let line = self.peers.get().filter(|_| samples == 0).map_or(&self.line, |peers| &peers.line);
        Latency {
            base: line.base.load(Ordering::Relaxed),
            per_token: line.per_token.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            usual: self.typical.load(Ordering::Relaxed),
            best: self.best.load(Ordering::Relaxed),
            samples,
        }
    }

    /// What so many thousandths of the times to first token behind `work` tokens stay below, in nanoseconds, and how many
    /// samples say so.
    pub(crate) fn quantile(&self, work: u64, permille: u32, now: Instant) -> (u64, u32) {
        let (sketch, spread) = self.known(&self.spread, |peers| &peers.spread, now);
        (scale(self.read().predict(work), sketch.quantile(permille)), spread.samples)
    }

    /// How far first tokens are from their prediction: as its peers have seen it, where it has few samples itself.
    pub(crate) fn read_spread(&self, now: Instant) -> Spread {
        self.known(&self.spread, |peers| &peers.spread, now).1
    }

    /// How fast tokens follow; how far they are from that as [its spread](Self::read_spread).
    pub(crate) fn read_pace(&self, now: Instant) -> Pace {
        let (_, spread) = self.known(&self.pace_spread, |peers| &peers.pace_spread, now);
        Pace { usual: self.pace.load(Ordering::Relaxed), spread }
    }

    /// Its own sketch, or where that has few samples its peers', and what it says.
    #[inline]
    fn known<'s>(&'s self, own: &'s Sketch, theirs: fn(&Peers) -> &Sketch, now: Instant) -> (&'s Sketch, Spread) {
        let read = |sketch: &'s Sketch| (sketch, sketch.read(now));
        let (_, spread) = read(own);
        let few = (1..ENOUGH).contains(&spread.samples);
        let theirs = self.peers.get().filter(|_| few).map(|peers| read(theirs(peers)));
        theirs.filter(|(_, theirs)| theirs.samples >= ENOUGH).unwrap_or((own, spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const NOW: Instant = Instant::from_nanos(1);

    #[test]
    fn a_line_is_found_where_the_work_varies() {
        let model = LatencyModel::default();
        for i in 0..200 {
            let work = 100 + (i * 37) % 2_000;
            model.record(work, 300 * MS + work * 100_000, NOW);
        }
        let latency = model.read();
        let predicted = latency.predict(1_000);
        assert!(predicted.abs_diff(400 * MS) < 30 * MS, "{latency:?} {predicted}");
        assert!(latency.base > 150 * MS, "{latency:?}");
    }

    #[test]
    fn equal_work_means_twice_the_work_takes_twice_as_long() {
        let model = LatencyModel::default();
        for _ in 0..50 {
            model.record(1_000, 200 * MS, NOW);
        }
        assert!(model.read().predict(2_000).abs_diff(400 * MS) < 5 * MS);
    }

    #[test]
    fn the_peak_goes_up_at_once_and_comes_down_slowly() {
        let model = LatencyModel::default();
        model.record(1, 100 * MS, NOW);
        model.record(1, 900 * MS, NOW);
        assert_eq!(model.read().peak, 900 * MS);
        model.record(1, 100 * MS, NOW);
        assert_eq!(model.read().peak, 800 * MS);
    }

    #[test]
    fn a_canary_that_is_much_better_clears_what_was_learned() {
        let model = LatencyModel::default();
        (0..30).for_each(|_| model.record(1_000, 5_000 * MS, NOW));
        assert!(!model.record_canary(1_000, 4_000 * MS, NOW) && model.read_spread(NOW).samples >= ENOUGH);
        assert!(model.record_canary(1_000, 200 * MS, NOW));
        assert_eq!(model.read_spread(NOW).samples, 1);
        assert!(model.read().predict(1_000) < 2_500 * MS && model.typical() < 300 * MS);
    }

    #[test]
    fn what_was_given_up_early_teaches_nothing() {
        let model = LatencyModel::default();
        model.record(100, 500 * MS, NOW);
        let before = model.read();
        model.contradict(100, 20 * MS, NOW);
        assert_eq!(model.read(), before);
        LatencyModel::default().contradict(100, 20 * MS, NOW);
        let unknown = LatencyModel::default();
        unknown.contradict(100, 20 * MS, NOW);
        assert_eq!(unknown.read().samples, 0);
        model.record_at_least(100, 5_000 * MS, NOW);
        assert!(model.read().predict(100) > 2_000 * MS);
    }

    #[test]
    fn one_absurd_estimate_is_forgotten_soon() {
        let model = LatencyModel::default();
        let regular = |i: u64| {
            let work = 500 + (i * 37) % 1_000;
            model.record(work, work * 300_000, NOW);
        };
        (0..100).for_each(regular);
        model.record(u64::MAX, 300 * MS, NOW);
        (0..120).for_each(regular);
        let predicted = model.read().predict(4_000);
        assert!(predicted.abs_diff(1_200 * MS) < 200 * MS, "{predicted}");
    }

    #[test]
    fn prompts_that_grow_are_believed() {
        let model = LatencyModel::default();
        (0..50).for_each(|_| model.record(20, 2 * MS, NOW));
        (0..50).for_each(|i| {
            model.record(if i % 2 == 0 { 20 } else { 50_000 }, if i % 2 == 0 { 2 * MS } else { 5_000 * MS }, NOW);
        });
        let predicted = model.read().predict(50_000);
        assert!(predicted.abs_diff(5_000 * MS) < 500 * MS, "{predicted}");
    }

    #[test]
    fn few_samples_are_read_as_those_of_peers() {
        let peers = Arc::<Peers>::default();
        let members: [LatencyModel; 8] = Default::default();
        members.iter().for_each(|model| model.join(&peers));
        let ask = |times| {
            for model in &members {
                for _ in 0..times {
                    model.record(1_000, 200 * MS, NOW);
                    model.record_pace(100, 3_000 * MS, NOW);
                }
            }
        };
        // The first is what the others are compared with.
        ask(1);
        assert_eq!(members[0].read_spread(NOW).samples, 0);
        ask(3);
        let (spread, pace) = (members[0].read_spread(NOW), members[0].read_pace(NOW));
        assert!(
            spread.samples >= ENOUGH && pace.spread.samples >= ENOUGH && pace.usual == 30 * MS,
            "{spread:?} {pace:?}"
        );
        // Those that know enough say what they know.
        (0..40).for_each(|_| members[0].record(1_000, 200 * MS, NOW));
        assert_eq!(members[0].read_spread(NOW).samples, 43);
        // Who is new forbids nothing.
        let new = LatencyModel::default();
        new.join(&peers);
        assert_eq!(new.read_spread(NOW).samples, 0);
    }

    /// Members that know a line of 1 ms for a token, and one that nobody called.
    fn line_of_peers() -> ([LatencyModel; 8], LatencyModel) {
        let peers = Arc::<Peers>::default();
        let members: [LatencyModel; 8] = Default::default();
        for model in &members {
            model.join(&peers);
            (0..20).for_each(|at| model.record(100 + at * 50, (100 + at * 50) * MS, NOW));
        }
        let new = LatencyModel::default();
        new.join(&peers);
        (members, new)
    }

    fn per_1000(model: &LatencyModel) -> u64 {
        (model.read().predict(1_000) + MS / 2) / MS
    }

    #[test]
    fn few_samples_are_filled_up_by_those_of_peers() {
        let (_, new) = line_of_peers();
        assert_eq!((per_1000(&new), new.read().samples), (1_000, 0));
        // One that was odd does not make the line; thirty do.
        new.record(1_000, 2_000 * MS, NOW);
        assert!((1_020..1_250).contains(&per_1000(&new)), "{}", per_1000(&new));
        (0..29).for_each(|_| new.record(1_000, 2_000 * MS, NOW));
        assert!((1_990..2_010).contains(&per_1000(&new)), "{}", per_1000(&new));
    }

    /// Or what it was once would be held against it twice.
    #[test]
    fn one_alone_is_not_its_own_peer() {
        let (alone, nobody) = (LatencyModel::default(), LatencyModel::default());
        alone.join(&Arc::default());
        for model in [&alone, &nobody] {
            (0..25).for_each(|_| model.record(1_000, 3_000 * MS, NOW));
            assert!(model.record_canary(1_000, 100 * MS, NOW));
        }
        assert_eq!(alone.read(), nobody.read());
        assert!(per_1000(&alone) < 1_000, "{}", per_1000(&alone));
    }

    #[test]
    fn a_backend_of_another_kind_is_not_one_of_them() {
        for times in [20, 1] {
            let (members, new) = line_of_peers();
            // Twenty times as long, or a twentieth.
            (0..3).for_each(|_| new.record(1_000, 1_000 * MS * times * times / 20, NOW));
            assert_eq!(per_1000(&new), 1_000 * times * times / 20);
            // They stay what they are, and so does what one takes a newcomer for, nearly.
            assert_eq!(per_1000(&members[0]), 1_000);
            let next = LatencyModel::default();
            next.join(new.peers.get().unwrap());
            assert!((900..1_400).contains(&per_1000(&next)), "{}", per_1000(&next));
        }
    }

    #[test]
    fn what_was_given_up_says_nothing_of_peers() {
        let (members, new) = line_of_peers();
        for _ in 0..20 {
            members[0].record_at_least(1_000, 3_000 * MS, NOW);
        }
        assert_eq!(per_1000(&new), 1_000);
        assert!(per_1000(&members[0]) > 2_000);
    }

    #[test]
    fn absurd_samples_saturate() {
        let model = LatencyModel::default();
        model.record(0, 0, NOW);
        model.record(u64::MAX, u64::MAX, NOW);
        let latency = model.read();
        assert!(latency.predict(u64::MAX) >= latency.predict(0));
    }
}
