//! A lean load generator for an OpenAI-compatible endpoint: an open loop that never waits for answers, a closed loop for
//! throughput, and the percentiles of what came back.
#![allow(dead_code, unreachable_pub, unused_imports)] // every example uses another part of it

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fallway::rng::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

mod answer;
mod client;
mod stats;

pub use answer::{Answer, End};
pub use client::{Call, Client};
pub use stats::{median, ms, percentile};

/// Share of the mean gap by which an arrival may be early or late: enough to break any lock-step with timers, too little to
/// make bursts.
const JITTER: f64 = 0.25;

/// When the requests of an open loop arrive.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    /// Requests per second.
    pub rps: f64,
    /// Length of the run.
    pub length: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Arrivals {
    /// All arrivals, as distances from the start of the run.
    pub fn times(&self) -> Vec<Duration> {
        let mut rng = Rng::new(self.seed);
        let count = (self.length.as_secs_f64() * self.rps).round() as usize;
        let mut place = |n: usize| (n as f64 + 0.5 + JITTER * (2.0 * rng.unit() - 1.0)) / self.rps;
        (0..count).map(|n| Duration::from_secs_f64(place(n))).collect()
    }
}

/// Sends one call per arrival, whether or not earlier ones were answered, and returns all answers in order of arrival.
/// `start` is the zero of [`Answer::at`], so that a fault schedule can run beside the load on the same clock.
pub async fn open_loop(client: &Arc<Client>, start: Instant, arrivals: Arrivals, call: &Call) -> Vec<Answer> {
    let mut calls = JoinSet::new();
    for at in arrivals.times() {
        sleep_until(start + at).await;
        let (client, call) = (Arc::clone(client), call.clone());
        calls.spawn(async move {
            let at = start.elapsed();
            Answer { at, ..client.call(&call).await }
        });
    }
    let mut answers = calls.join_all().await;
    answers.sort_by_key(|answer| answer.at);
    answers
}

/// What a closed loop measured.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    /// Answers with status 200.
    pub ok: u64,
    /// All other ends.
    pub failed: u64,
    /// Answers per second.
    pub rps: f64,
}

/// Keeps `connections` requests in flight for `length` after a warm-up of `warm_up`, each on its own connection.
pub async fn closed_loop(
    addr: SocketAddr,
    connections: usize,
    warm_up: Duration,
    length: Duration,
    call: &Call,
) -> Throughput {
    let from = Instant::now() + warm_up;
    let until = from + length;
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let (client, call) = (Client::new(addr), call.clone());
        loops.spawn(async move {
            let (mut ok, mut failed) = (0_u64, 0_u64);
            loop {
                let answered = client.exchange(&call).await.is_ok_and(|status| status == 200);
                let now = Instant::now();
                if now >= until {
                    return (ok, failed);
                }
                if now >= from {
                    *(if answered { &mut ok } else { &mut failed }) += 1;
                }
                if !answered {
                    // A dead endpoint must not turn the loop into a spin.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    let (ok, failed) = loops.join_all().await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Throughput { ok, failed, rps: ok as f64 / length.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_ordered_spread_and_reproducible() {
        let arrivals = Arrivals { rps: 50.0, length: Duration::from_secs(4), seed: 7 };
        let times = arrivals.times();
        assert_eq!(times.len(), 200);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(times[199] < Duration::from_secs(4));
        assert_eq!(times, arrivals.times());
        assert_ne!(times, Arrivals { seed: 8, ..arrivals }.times());
    }
}
