//! An open loop of requests, and figures about their answers.

use super::{Answered, TestRouter, World};
use fallway::CallOptions;
use fallway::rng::Rng;
use fallway::router::RouteErrorKind;
use fallway::time::{Instant, Timer};
use std::time::Duration;

/// Requests that arrive at a rate, whatever becomes of those before.
pub(crate) struct Load {
    pub(crate) per_second: u32,
    pub(crate) lasts: Duration,
    pub(crate) seed: u64,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// When it was asked.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// Who answered.
    pub(crate) backend: Option<String>,
    pub(crate) attempts: usize,
    pub(crate) refused: Option<RouteErrorKind>,
}

impl Answer {
    pub(crate) const fn ok(&self) -> bool {
        self.backend.is_some()
    }

    pub(crate) fn ended(&self) -> Instant {
        self.at + self.took
    }

    fn of(at: Instant, now: Instant, answered: &Answered) -> Self {
        let (backend, attempts, refused) = match answered {
            Ok(routed) => (Some(routed.response().backend().to_owned()), routed.attempts().len(), None),
            Err(error) => (None, error.attempts().len(), Some(error.kind())),
        };
        Self { at, took: now - at, backend, attempts, refused }
    }
}

impl World {
    /// One call from now on, as a task of its own. Its answer is dropped as soon as it is there.
    pub(crate) fn ask(&self, router: &TestRouter, options: CallOptions) -> super::Task<Answer> {
        let (at, router, timer) = (self.now(), router.clone(), self.timer().clone());
        self.spawn(async move {
            let answered = router.call("ask", options).await;
            Answer::of(at, timer.now(), &answered)
        })
    }
}

impl Load {
    /// Puts the load on the router and runs the world until the last answer. The gaps between requests vary by half.
    pub(crate) fn run(&self, world: &World, router: &TestRouter, options: &CallOptions) -> Vec<Answer> {
        let tasks = self.spawn(world, router, options);
        world.run();
        tasks.into_iter().map(super::Task::take).collect()
    }

    pub(crate) fn spawn(&self, world: &World, router: &TestRouter, options: &CallOptions) -> Vec<super::Task<Answer>> {
        let mut rng = Rng::new(self.seed);
        let gap = Duration::from_secs(1) / self.per_second;
        let arrivals = (0..).map(|n| gap * n).take_while(|at| *at < self.lasts);
        let start = world.now();
        let task = |arrival: Duration| {
            let at = start + arrival + gap.mul_f64(rng.unit() / 2.0);
            let (router, options, timer) = (router.clone(), options.clone(), world.timer().clone());
            world.spawn(async move {
                timer.sleep_until(at).await;
                let answered = router.call("ask", options).await;
                Answer::of(at, timer.now(), &answered)
            })
        };
        arrivals.map(task).collect()
    }
}

/// The share of answers that succeeded.
pub(crate) fn ok_share(answers: &[Answer]) -> f64 {
    answers.iter().filter(|answer| answer.ok()).count() as f64 / answers.len() as f64
}

/// Attempts per request.
pub(crate) fn tries(answers: &[Answer]) -> f64 {
    answers.iter().map(|answer| answer.attempts).sum::<usize>() as f64 / answers.len() as f64
}

/// The time within which this share of the requests was answered, one way or the other (nearest rank).
pub(crate) fn percentile(answers: &[Answer], share: f64) -> Duration {
    let mut times: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    times.sort_unstable();
    times[((times.len() as f64 * share).ceil() as usize).saturating_sub(1)]
}
