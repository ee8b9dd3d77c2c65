//! What the lines share: a pool of backends with faults on a schedule, and bounds over many seeds.

use crate::support::{Act, Answer, Cue, Load, Reply, Scripted, TestRouter, World, within};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::recover::Ejection;
use fallway::rng::Rng;
use fallway::router::Builder;
use fallway::time::{Instant, Timer};
use fallway::{CallOptions, Profile};
use std::time::Duration;

pub(super) const PER_SECOND: u32 = 50;

/// How long a backend takes to refuse: a round trip over loopback.
pub(super) const REFUSAL: Duration = Duration::from_micros(500);

/// The pool of one line.
pub(super) struct Pool {
    pub(super) world: World,
    pub(super) backends: Vec<Scripted>,
    pub(super) router: TestRouter,
    start: Instant,
    seed: u64,
}

/// What backend `n` does at so many seconds into the run; `None` for a normal answer.
pub(super) type Fault = fn(usize, f64) -> Option<Act>;

impl Pool {
    pub(super) fn new(seed: u64, backends: usize, fault: Fault) -> Self {
        Self::with(seed, backends, fault, FailSafe::default(), |_, profile| profile, |builder| builder)
    }

    pub(super) fn with(
        seed: u64,
        backends: usize,
        fault: Fault,
        fail_safe: FailSafe,
        profile: fn(usize, Profile) -> Profile,
        configure: fn(Builder<str, Reply>) -> Builder<str, Reply>,
    ) -> Self {
        let world = World::new();
        let start = world.now();
        let backends: Vec<_> = (0..backends)
            .map(|n| {
                let script = move |cue: &Cue<'_>| {
                    let elapsed = (cue.now - start).as_secs_f64();
                    let mut rng = Rng::new(seed ^ (n as u64) << 32 ^ cue.call);
                    rng.next_u64();
                    let usual = || Act::Answer(Duration::from_secs_f64(0.020 + 0.002 * rng.unit()));
                    fault(n, elapsed).unwrap_or_else(usual)
                };
                world.backend(&format!("b{n}"), Box::new(script))
            })
            .collect();
        let mut builder = world.router(predicted_ttft().fail_safe(fail_safe)).seed(seed).ejection(Ejection::fast());
        for (n, backend) in backends.iter().enumerate() {
            builder = builder.backend(profile(n, Profile::new(format!("b{n}"))), backend.clone());
        }
        let router = configure(builder).build().unwrap();
        Self { world, backends, router, start, seed }
    }

    /// The usual load for so many seconds.
    pub(super) fn load(&self, seconds: f64, options: &CallOptions) -> Vec<Answer> {
        let load = Load { per_second: PER_SECOND, lasts: Duration::from_secs_f64(seconds), seed: self.seed };
        load.run(&self.world, &self.router, options)
    }

    /// The usual load with nothing but the default deadline of a gateway.
    pub(super) fn plain_load(&self, seconds: f64) -> Vec<Answer> {
        self.load(seconds, &within(Duration::from_secs(60)))
    }

    /// Seconds into the run.
    pub(super) fn at(&self, instant: Instant) -> f64 {
        (instant - self.start).as_secs_f64()
    }

    pub(super) fn now(&self) -> f64 {
        self.at(self.world.timer().now())
    }

    /// The answers to what was asked between these seconds.
    pub(super) fn between(&self, answers: &[Answer], from: f64, to: f64) -> Vec<Answer> {
        let asked = |answer: &&Answer| (from..to).contains(&self.at(answer.at));
        answers.iter().filter(asked).cloned().collect()
    }

    /// Calls to all backends between these seconds.
    pub(super) fn sent(&self, from: f64, to: f64) -> usize {
        let seen = self.backends.iter().flat_map(Scripted::seen);
        seen.filter(|seen| (from..to).contains(&self.at(seen.at))).count()
    }
}

/// A figure and its bound.
pub(super) enum Figure {
    AtMost(&'static str, f64, f64),
    AtLeast(&'static str, f64, f64),
}

pub(super) use Figure::{AtLeast, AtMost};

impl Figure {
    fn miss(&self) -> Option<String> {
        match self {
            // A figure that is not a number misses.
            Self::AtMost(name, value, bound) => {
                (value.is_nan() || value > bound).then(|| format!("{name} is {value:.4}, at most {bound}"))
            }
            Self::AtLeast(name, value, bound) => {
                (value.is_nan() || value < bound).then(|| format!("{name} is {value:.4}, at least {bound}"))
            }
        }
    }
}

pub(super) fn exactly(name: &'static str, value: f64, wanted: f64) -> [Figure; 2] {
    [AtMost(name, value, wanted), AtLeast(name, value, wanted)]
}

/// Plays a line with twenty seeds; it holds when every figure of every seed does.
pub(super) fn over_seeds<F: IntoIterator<Item = Figure>>(line: impl Fn(u64) -> F) {
    let mut misses = Vec::new();
    for seed in 1..=20 {
        misses.extend(line(seed).into_iter().filter_map(|figure| Some(format!("seed {seed}: {}", figure.miss()?))));
    }
    assert!(misses.is_empty(), "{} misses:\n{}", misses.len(), misses.join("\n"));
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
