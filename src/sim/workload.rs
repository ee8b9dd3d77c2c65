//! When requests come, and how long they are.

use super::Trace;
use super::server::Server;
use crate::rng::Rng;

/// When requests come.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Independently: gaps are exponential.
    Poisson,
    /// In bursts: gaps are gamma distributed with this coefficient of variation (1 is Poisson).
    Gamma {
        /// Standard deviation of the gaps, divided by their mean.
        cv: f64,
    },
    /// At the times of a trace.
    Trace(Trace),
}

/// Prompt and output tokens of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    pairs: Vec<(u32, u32)>,
}

/// About a thousand requests of the Azure LLM conversation trace of 2023: every nineteenth. Data: Microsoft, *Azure
/// Public Dataset*, CC-BY 4.0.
const AZURE: &str = include_str!("data/azure-conv-lengths.csv");

impl Lengths {
    /// All alike.
    pub fn fixed(prompt: u32, output: u32) -> Self {
        Self { pairs: vec![(prompt.max(1), output.max(1))] }
    }

    /// Drawn from these pairs of prompt and output tokens; `None` when there are none.
    pub fn of(pairs: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let pairs: Vec<_> = pairs.into_iter().map(|(prompt, output)| (prompt.max(1), output.max(1))).collect();
        (!pairs.is_empty()).then_some(Self { pairs })
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> (u32, u32) {
        self.pairs[rng.below(self.pairs.len())]
    }

    /// The mean prompt and output.
    pub fn mean(&self) -> (f64, f64) {
        let n = self.pairs.len() as f64;
        let sum =
            self.pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + f64::from(pair.0), sum.1 + f64::from(pair.1)));
        (sum.0 / n, sum.1 / n)
    }

    /// Requests a second that one server can serve of these: a server that is never idle and never out of room. Bursts
    /// never fill prefill and decode alike, so this is [`USABLE`](Self::USABLE) of what its tighter stage allows.
    pub fn capacity(&self, server: &Server) -> f64 {
        let (prompt, output) = self.mean();
        server.capacity(prompt, output) * Self::USABLE
    }

    /// The share of a server's tighter stage that mixed traffic can use: load 1.0 means this. About 6.2 requests a
    /// second for the default server and lengths.
    pub const USABLE: f64 = 0.93;
}

impl Default for Lengths {
    /// Those of the Azure conversation trace.
    fn default() -> Self {
        let row = |line: &str| {
            let (prompt, output) = line.split_once(',')?;
            Some((prompt.parse().ok()?, output.parse().ok()?))
        };
        Self::of(AZURE.lines().filter_map(row)).unwrap_or_else(|| Self::fixed(1_155, 211))
    }
}

/// Gaps between requests, one mean long on average.
#[derive(Clone, Debug)]
pub(super) struct Gaps {
    rng: Rng,
    shape: f64,
}

impl Gaps {
    pub(super) fn new(cv: f64, seed: u64) -> Self {
        Self { rng: Rng::new(seed), shape: 1.0 / (cv * cv) }
    }

    /// A gamma draw of mean 1 (Marsaglia, Tsang: *A Simple Method for Generating Gamma Variables*, ACM TOMS 2000).
    pub(super) fn draw(&mut self) -> f64 {
        if (self.shape - 1.0).abs() < 1e-12 {
            return -(1.0 - self.rng.unit()).ln();
        }
        // Below 1, the draw for shape + 1, scaled.
        let (shape, boost) = if self.shape < 1.0 {
            (self.shape + 1.0, (1.0 - self.rng.unit()).powf(1.0 / self.shape))
        } else {
            (self.shape, 1.0)
        };
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v <= 0.0 {
                continue;
            }
            let u = 1.0 - self.rng.unit();
            if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v * boost / self.shape;
            }
        }
    }

    fn normal(&mut self) -> f64 {
        // Box and Muller.
        let (u, v) = (1.0 - self.rng.unit(), self.rng.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_their_mean_and_variation() {
        for cv in [0.5, 1.0, 1.5, 4.0] {
            let mut gaps = Gaps::new(cv, 7);
            let draws: Vec<_> = (0..200_000).map(|_| gaps.draw()).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            assert!((mean - 1.0).abs() < 0.03, "cv {cv}: mean {mean}");
            assert!((variance.sqrt() / mean - cv).abs() < 0.05 * cv, "cv {cv}: {}", variance.sqrt() / mean);
        }
    }

    #[test]
    fn the_default_server_serves_about_six_requests_a_second() {
        let capacity = Lengths::default().capacity(&Server::new("a"));
        assert!((6.0..6.4).contains(&capacity), "{capacity}");
    }
}
