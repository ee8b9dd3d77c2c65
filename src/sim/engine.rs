//! What a simulated server does: a prefill queue before a decode batch.
//!
//! Prefill is first come, first served, at `prefill_rate` tokens a second. Decode is processor sharing: with `n`
//! requests in the batch, each gets a token every `step + step_per_request · n`. Both are exact: the decode batch runs
//! on a virtual clock of tokens, so a change of its size touches one number, not every request (O(log n) per event).

use super::job::JobId;
use super::server::Server;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

/// The prefill queue and the decode batch of a running server.
#[derive(Debug)]
pub(super) struct Engine {
    prefill_rate: f64,
    step: f64,
    step_per_request: f64,
    batch: usize,
    /// What the faults leave of the server's speed; 0 while it hangs.
    speed: f64,
    /// Seconds since the start, up to which the work below is done.
    touched: f64,
    queue: VecDeque<(JobId, f64)>,
    prefilling: Option<(JobId, f64)>,
    /// Tokens that each request in the batch got since the start.
    tokens: f64,
    decoding: BinaryHeap<Reverse<Finish>>,
    /// Requests in the batch; the heap may hold some that were cancelled.
    active: usize,
    /// Prompt tokens that wait, those being worked on included.
    waiting: f64,
}

/// When a request in the batch is done, in tokens of the batch's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Finish(f64, JobId);

impl Eq for Finish {}

impl PartialOrd for Finish {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finish {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// What an engine finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    Prefill(JobId),
    Decode(JobId),
}

/// Work that is left is finished below this: rounding errors of a clock in nanoseconds.
const NOTHING: f64 = 1e-6;

impl Engine {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            prefill_rate: server.prefill_rate,
            step: server.step.as_secs_f64(),
            step_per_request: server.step_per_request.as_secs_f64(),
            batch: server.batch as usize,
            speed: server.speed,
            touched: 0.0,
            queue: VecDeque::new(),
            prefilling: None,
            tokens: 0.0,
            decoding: BinaryHeap::new(),
            active: 0,
            waiting: 0.0,
        }
    }

    /// Requests that are queued or being worked on.
    pub(super) fn in_flight(&self) -> usize {
        self.queue.len() + usize::from(self.prefilling.is_some()) + self.active
    }

    /// Requests that wait for their first token.
    pub(super) fn queued(&self) -> usize {
        self.queue.len() + usize::from(self.prefilling.is_some())
    }

    /// Prompt tokens before a newcomer.
    pub(super) const fn waiting_tokens(&self) -> f64 {
        self.waiting
    }

    /// Prompt tokens a second, now.
    pub(super) fn rate(&self) -> f64 {
        self.prefill_rate * self.speed
    }

    /// The share of the batch that is in use.
    pub(super) fn use_of_batch(&self) -> f64 {
        self.active as f64 / self.batch as f64
    }

    /// Whether the batch is full, so that prefill stands still.
    pub(super) const fn is_full(&self) -> bool {
        self.active >= self.batch
    }

    /// Seconds until the batch has room again, at the earliest; 0 when it has.
    pub(super) fn until_room(&self) -> f64 {
        match self.decoding.peek() {
            Some(Reverse(Finish(tokens, _))) if self.is_full() => {
                (tokens - self.tokens).max(0.0) * self.step_time() / self.speed
            }
            _ => 0.0,
        }
    }

    fn step_time(&self) -> f64 {
        self.step + self.step_per_request * self.active as f64
    }

    /// Works until `now`.
    pub(super) fn advance(&mut self, now: f64) {
        let elapsed = now - self.touched;
        self.touched = now;
        if self.active > 0 {
            self.tokens += elapsed * self.speed / self.step_time();
        }
        let most = elapsed * self.rate();
        if let Some((_, left)) = &mut self.prefilling {
            let done = most.min(*left);
            *left -= done;
            self.waiting -= done;
        }
    }

    pub(super) const fn set_speed(&mut self, speed: f64) {
        self.speed = speed;
    }

    /// A request arrived.
    pub(super) fn enqueue(&mut self, job: JobId, tokens: f64) {
        self.waiting += tokens;
        self.queue.push_back((job, tokens));
        self.start();
    }

    /// Starts on the next prompt, if there is one and the batch has room for it.
    fn start(&mut self) {
        if self.prefilling.is_none() && !self.is_full() {
            self.prefilling = self.queue.pop_front();
        }
        if self.prefilling.is_none() && self.queue.is_empty() {
            // Rounding errors end with the work.
            self.waiting = 0.0;
        }
    }

    /// A request whose prompt is done joins the batch for this many more tokens.
    pub(super) fn decode(&mut self, job: JobId, tokens: f64) {
        if self.active == 0 {
            self.tokens = 0.0;
            self.decoding.clear();
        }
        self.active += 1;
        self.decoding.push(Reverse(Finish(self.tokens + tokens, job)));
        self.start();
    }

    /// What is done by now, one at a time. `is_alive` tells the requests that were cancelled from the others.
    pub(super) fn finished(&mut self, is_alive: impl Fn(JobId) -> bool) -> Option<Finished> {
        if let Some((job, left)) = self.prefilling
            && left <= NOTHING
        {
            self.waiting -= left;
            self.prefilling = None;
            return Some(Finished::Prefill(job));
        }
        self.forget_dead(is_alive);
        match self.decoding.peek() {
            Some(Reverse(Finish(tokens, job))) if tokens - self.tokens <= NOTHING => {
                let job = *job;
                self.decoding.pop();
                self.active -= 1;
                self.start();
                Some(Finished::Decode(job))
            }
            _ => None,
        }
    }

    fn forget_dead(&mut self, is_alive: impl Fn(JobId) -> bool) {
        while let Some(Reverse(Finish(_, job))) = self.decoding.peek()
            && !is_alive(*job)
        {
            self.decoding.pop();
        }
    }

    /// Seconds until something is done; `None` when nothing is under way.
    pub(super) fn next(&mut self, is_alive: impl Fn(JobId) -> bool) -> Option<f64> {
        self.forget_dead(is_alive);
        if self.speed <= 0.0 {
            return None;
        }
        let prefill = self.prefilling.map(|(_, left)| left / self.rate());
        let decode = self.decoding.peek();
        let decode = decode.map(|Reverse(Finish(tokens, _))| (tokens - self.tokens) * self.step_time() / self.speed);
        match (prefill, decode) {
            (Some(prefill), Some(decode)) => Some(prefill.min(decode).max(0.0)),
            (one, other) => one.or(other).map(|seconds| seconds.max(0.0)),
        }
    }

    /// Takes a request away that waits or is being prefilled. Returns the prompt tokens that were spent on it.
    pub(super) fn drop_queued(&mut self, job: JobId, tokens: f64) -> f64 {
        let left = match self.prefilling {
            Some((current, left)) if current == job => {
                self.prefilling = None;
                left
            }
            _ => {
                if let Some(at) = self.queue.iter().position(|(queued, _)| *queued == job) {
                    self.queue.remove(at);
                }
                tokens
            }
        };
        self.waiting -= left;
        self.start();
        tokens - left
    }

    /// Takes a request out of the batch; its entry in the heap dies with the job.
    pub(super) fn drop_decoding(&mut self) {
        self.active -= 1;
        self.start();
    }

    /// Tokens of the batch's clock.
    pub(super) const fn tokens(&self) -> f64 {
        self.tokens
    }

    /// Everything is lost.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.prefilling = None;
        self.decoding.clear();
        (self.active, self.waiting) = (0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::{Job, Jobs, Place};
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use std::time::Duration;

    /// A server's figures, when it runs at which share of its speed (0: it hangs), and the requests.
    #[derive(Clone, Debug)]
    struct Plan {
        rate: f64,
        step: f64,
        per_request: f64,
        batch: u32,
        speeds: Vec<(f64, f64)>,
        asks: Vec<Ask>,
    }

    /// When it comes, prompt and output tokens, and after how long its caller leaves.
    #[derive(Clone, Debug)]
    struct Ask {
        at: f64,
        prompt: f64,
        output: f64,
        leaves: f64,
    }

    /// First token and end; no number where there is none.
    type Times = Vec<(f64, f64)>;

    /// The step of the simulation in small steps, in seconds.
    const DT: f64 = 50e-6;

    fn small_steps(plan: &Plan) -> Times {
        let mut times = vec![(f64::NAN, f64::NAN); plan.asks.len()];
        let mut waiting: VecDeque<(usize, f64)> = VecDeque::new();
        let mut prefilling: Option<(usize, f64)> = None;
        let mut batch: Vec<(usize, f64)> = Vec::new();
        let mut come = 0;
        for tick in 0u32.. {
            let now = f64::from(tick) * DT;
            while come < plan.asks.len() && plan.asks[come].at <= now {
                waiting.push_back((come, plan.asks[come].prompt));
                come += 1;
            }
            let speed = plan.speeds.iter().rfind(|(from, _)| *from <= now).map_or(1.0, |(_, speed)| *speed);
            let each = DT * speed / (plan.step + plan.per_request * batch.len() as f64);
            batch.iter_mut().for_each(|(_, left)| *left -= each);
            batch.iter().filter(|(_, left)| *left <= 0.0).for_each(|(ask, _)| times[*ask].1 = now);
            batch.retain(|(_, left)| *left > 0.0);
            for (at, ask) in plan.asks.iter().enumerate().take(come) {
                if times[at].1.is_nan() && now >= ask.at + ask.leaves {
                    times[at].1 = now;
                    waiting.retain(|(other, _)| *other != at);
                    batch.retain(|(other, _)| *other != at);
                    prefilling = prefilling.filter(|(other, _)| *other != at);
                }
            }
            if prefilling.is_none() && batch.len() < plan.batch as usize {
                prefilling = waiting.pop_front();
            }
            if let Some((ask, left)) = &mut prefilling {
                *left -= DT * speed * plan.rate;
                if *left <= 0.0 {
                    times[*ask].0 = now;
                    batch.push((*ask, plan.asks[*ask].output));
                    prefilling = None;
                }
            }
            if times.iter().all(|(_, end)| !end.is_nan()) {
                break;
            }
        }
        times
    }

    /// The same by the engine, event by event.
    fn by_events(plan: &Plan) -> Times {
        let server = Server::new("a").prefill_rate(plan.rate).decode(
            Duration::from_secs_f64(plan.step),
            Duration::from_secs_f64(plan.per_request),
            plan.batch,
        );
        let mut engine = Engine::new(&server);
        let (mut jobs, mut ids) = (Jobs::default(), Vec::new());
        let mut times = vec![(f64::NAN, f64::NAN); plan.asks.len()];
        let mut now = 0.0;
        let mut outside: Vec<(f64, usize, usize)> = Vec::new();
        outside.extend(plan.speeds.iter().enumerate().map(|(at, (from, _))| (*from, 0, at)));
        outside.extend(plan.asks.iter().enumerate().map(|(at, ask)| (ask.at, 1, at)));
        outside.extend(plan.asks.iter().enumerate().map(|(at, ask)| (ask.at + ask.leaves, 2, at)));
        outside.sort_by(|one, other| one.partial_cmp(other).unwrap());
        let mut outside = outside.into_iter().peekable();
        loop {
            let own = engine.next(|job| jobs.get(job).is_some()).map(|wait| now + wait);
            let Some(next) = outside.peek().map(|(at, ..)| *at).into_iter().chain(own).min_by(f64::total_cmp) else {
                break;
            };
            now = next;
            engine.advance(now);
            while let Some(finished) = engine.finished(|job| jobs.get(job).is_some()) {
                match finished {
                    Finished::Prefill(id) => {
                        let job = jobs.get_mut(id).unwrap();
                        job.place = Place::Decoding;
                        times[job.tag as usize].0 = now;
                        engine.decode(id, job.decode);
                    }
                    Finished::Decode(id) => times[jobs.remove(id).unwrap().tag as usize].1 = now,
                }
            }
            while let Some((_, what, at)) = outside.next_if(|(at, ..)| *at <= now) {
                match what {
                    0 => engine.set_speed(plan.speeds[at].1),
                    1 => {
                        let id = jobs.insert(Job::of(at as u64, plan.asks[at].prompt, plan.asks[at].output));
                        ids.push(id);
                        engine.enqueue(id, plan.asks[at].prompt);
                    }
                    _ => {
                        let Some(job) = jobs.remove(ids[at]) else { continue };
                        times[at].1 = now;
                        if job.place == Place::Decoding {
                            engine.drop_decoding();
                        } else {
                            let spent = engine.drop_queued(ids[at], job.prefill);
                            assert!((0.0..=job.prefill).contains(&spent), "{spent} of {}", job.prefill);
                        }
                    }
                }
                let there = jobs.of_server(0).len();
                assert_eq!((engine.in_flight(), engine.active <= engine.batch), (there, true));
                let left = engine.queue.iter().chain(&engine.prefilling).map(|(_, left)| left).sum::<f64>();
                assert!((engine.waiting_tokens() - left).abs() < 1e-3, "{} is not {left}", engine.waiting_tokens());
            }
        }
        assert_eq!((engine.in_flight(), engine.queued(), engine.waiting_tokens()), (0, 0, 0.0));
        times
    }

    fn any_plan() -> impl Strategy<Value = Plan> {
        let ask = (0.0f64..0.4, 1u32..1_500, 1u32..60, prop_oneof![Just(1e3), 0.02f64..2.0]);
        let asks = prop::collection::vec(ask, 1..16);
        // The last speed is positive, or nothing would end.
        let speeds = prop::collection::vec((0.05f64..1.0, prop_oneof![Just(0.0), 0.3f64..2.0]), 0..4);
        let figures = (800.0f64..6_000.0, 0.002f64..0.03, 0.0f64..0.004, 1u32..6);
        (figures, speeds, 0.3f64..2.0, asks).prop_map(|((rate, step, per_request, batch), speeds, last, asks)| {
            let (mut from, mut at) = (0.0, 0.0);
            let mut speeds: Vec<_> = speeds
                .into_iter()
                .map(|(after, speed)| {
                    from += after;
                    (from, speed)
                })
                .collect();
            speeds.push((from + 0.1, last));
            let asks = asks.into_iter().map(|(gap, prompt, output, leaves)| {
                at += gap;
                Ask { at, prompt: prompt.into(), output: output.into(), leaves }
            });
            Plan { rate, step, per_request, batch, speeds, asks: asks.collect() }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(std::env::var("FALLWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2)),
            ..ProptestConfig::default()
        })]

        #[test]
        fn an_engine_takes_what_small_steps_say(plan in any_plan()) {
            // Each of the events before a moment may put it off by a step, and a caller may leave at the last moment.
            let slack = DT * (4 * (plan.asks.len() + plan.speeds.len()) + 8) as f64;
            for (at, (exact, steps)) in by_events(&plan).into_iter().zip(small_steps(&plan)).enumerate() {
                prop_assert!((exact.1 - steps.1).abs() < slack, "end of {at}: {exact:?} {steps:?}");
                let late = plan.asks[at].at + plan.asks[at].leaves - slack;
                let near = |first: f64| first.is_nan() || first > late;
                let alike = (exact.0 - steps.0).abs() < slack || (near(exact.0) && near(steps.0));
                prop_assert!(alike, "first token of {at}: {exact:?} {steps:?}");
            }
        }
    }
}
