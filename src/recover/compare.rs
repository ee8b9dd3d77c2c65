//! What is inferred by comparison with peers: the backends of the same model in the same region.
//!
//! An inference may be wrong about all of them, so it takes out at most a share of the pool and leaves some in; see
//! [`Ejection`]. It is drawn when an attempt ends, once a second per backend at most.

use super::learn::Case;
use super::recovery::{FAILS_MORE, Recovery, SLOWER};
use super::ties::{Kin, Ties};
use super::{Court, Ejection};
use crate::bug;
use crate::event::Cause;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Instant;
use std::time::Duration;

/// A backend's usual time to first token since it came in.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// A mean that moves by an eighth of the gap per sample, in nanoseconds.
    usual: AtomicU64,
    samples: AtomicU32,
    latest: AtomicU64,
}

/// How often a backend is compared, in nanoseconds.
const EVERY: u64 = 1_000_000_000;
const GAP_SHIFT: u32 = 3;

impl Pace {
    /// A first token arrived after `ttft` nanoseconds.
    pub(super) fn record(&self, ttft: u64, now: Instant) {
        let samples = self.samples.load(Ordering::Relaxed);
        let usual = self.usual.load(Ordering::Relaxed);
        let usual = if samples == 0 { ttft } else { usual - (usual >> GAP_SHIFT) + (ttft >> GAP_SHIFT) };
        self.usual.store(usual, Ordering::Relaxed);
        self.samples.store(samples.saturating_add(1), Ordering::Relaxed);
        self.latest.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// What was is no more.
    pub(super) fn forget(&self) {
        self.samples.store(0, Ordering::Relaxed);
    }

    /// Its usual time in nanoseconds, where enough is known that is not old.
    fn read(&self, now: Instant) -> Option<u64> {
        let fresh = now.since(Instant::from_nanos(self.latest.load(Ordering::Relaxed))) <= Ejection::WINDOW;
        let enough = self.samples.load(Ordering::Relaxed) >= Ejection::MIN_SAMPLES;
        (fresh && enough).then(|| self.usual.load(Ordering::Relaxed))
    }
}

impl Recovery {
    /// Takes the backend out if it does much worse than its peers and enough of them are in. Returns why.
    pub(super) fn compare(&self, case: Case<'_>) -> Option<Cause> {
        let Case { ties, court, now, .. } = case;
        let config = &court.ejection;
        if (config.latency.is_none() && config.deviations.is_none())
            || ties.pool.len() <= Ejection::LATENCY_PEERS as usize
        {
            return None;
        }
        let last = self.compared.load(Ordering::Relaxed);
        if now.as_nanos().abs_diff(last) < EVERY || self.is_out() {
            return None;
        }
        self.compared.store(now.as_nanos(), Ordering::Relaxed);
        let (cause, found) = self
            .lags(&ties.pool, config, now)
            .map(|found| (SLOWER, found))
            .or_else(|| self.fails_more(&ties.pool, config, now).map(|found| (FAILS_MORE, found)))?;
        // One at a time, or two would each be the last that may go.
        let _bench = court.bench.lock();
        if !(self.may_infer(ties, court) || bug::CAP_IGNORED) {
            return None;
        }
        self.note_figures(&found);
        self.out(case, cause, |trips| self.rest(config.eject, trips, court, now)).then_some(found)
    }

    /// Whether so few of its pool are out that one more may go by an inference.
    pub(super) fn may_infer(&self, ties: &Ties, court: &Court) -> bool {
        let config = &court.ejection;
        let out = ties.pool.iter().filter(|kin| kin.recovery.is_out()).count();
        let all = ties.pool.len();
        let most = (all as f64 * config.max_outliers) as usize;
        out < most && out + 1 + config.min_available as usize <= all
    }

    /// Whether its usual time to first token is more than so many times the median of its peers'.
    ///
    /// Nothing is sorted unless it is: a time is above the median's multiple if it is above that of more than half.
    fn lags(&self, pool: &[Kin], config: &Ejection, now: Instant) -> Option<Cause> {
        let factor = config.latency?;
        let usual = self.pace.read(now)?;
        let peers = || pool.iter().filter(|kin| !self.is(kin)).filter_map(|kin| kin.recovery.pace.read(now));
        let below = |peer: &u64| *peer as f64 * factor < usual as f64;
        let (count, slower) = peers().fold((0u32, 0u32), |(all, less), peer| (all + 1, less + u32::from(below(&peer))));
        if count < Ejection::LATENCY_PEERS || slower * 2 <= count {
            return None;
        }
        let mut sorted: Vec<_> = peers().collect();
        sorted.sort_unstable();
        let median = Duration::from_nanos(sorted.get(sorted.len() / 2).copied()?);
        Some(Cause::SlowerThanPeers { usual: Duration::from_nanos(usual), median, factor, peers: count })
    }

    /// Whether its success rate is so many standard deviations below the mean of the pool, itself included, and by
    /// so much that it matters.
    fn fails_more(&self, pool: &[Kin], config: &Ejection, now: Instant) -> Option<Cause> {
        let deviations = config.deviations?;
        if pool.len() < Ejection::SUCCESS_POOL as usize {
            return None;
        }
        let own = self.success_rate(now).filter(|rate| *rate <= 1.0 - Ejection::SUCCESS_GAP)?;
        let rates = pool.iter().filter_map(|kin| kin.recovery.success_rate(now));
        let (count, sum, squares) =
            rates.fold((0u32, 0.0, 0.0), |(count, sum, squares), rate| (count + 1, sum + rate, squares + rate * rate));
        if count < Ejection::SUCCESS_POOL {
            return None;
        }
        let mean = sum / f64::from(count);
        let deviation = (squares / f64::from(count) - mean * mean).max(0.0).sqrt();
        let low = own < mean - deviations * deviation && own <= mean - Ejection::SUCCESS_GAP;
        low.then_some(Cause::FailsMoreThanPeers { rate: own, mean, deviation, pool: count })
    }

    /// The share of its latest attempts that succeeded; what was refused did not.
    fn success_rate(&self, now: Instant) -> Option<f64> {
        let tally = self.window.lock().tally(now);
        (tally.all() >= Ejection::SUCCESS_SAMPLES.into()).then(|| tally.good as f64 / tally.all() as f64)
    }

    fn is(&self, kin: &Kin) -> bool {
        std::ptr::eq(self, &*kin.recovery)
    }
}
