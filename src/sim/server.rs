//! [`Server`]: what a simulated inference server is made of. What it does is in [`engine`](super::engine).

use super::audit::Bounds;
use crate::facts::Price;
use std::time::Duration;

/// What a simulated server is made of. The defaults serve about 6.2 requests of the Azure conversation trace a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub(super) id: String,
    pub(super) region: String,
    pub(super) model: String,
    pub(super) speed: f64,
    pub(super) prefill_rate: f64,
    pub(super) step: Duration,
    pub(super) step_per_request: Duration,
    pub(super) batch: u32,
    pub(super) whole_answers: bool,
    pub(super) base: Duration,
    pub(super) cache_blocks: usize,
    pub(super) requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
    pub(super) price: f64,
    pub(super) tariff: Option<Price>,
    pub(super) limit: Option<u32>,
    pub(super) token_bounds: Bounds,
    pub(super) quota_is_known: bool,
    pub(super) quota_is_told: bool,
    pub(super) joins: Duration,
}

impl Server {
    /// Prompt tokens a second at speed 1.
    pub const PREFILL_RATE: f64 = 8_000.0;
    /// Time for one step of an empty decode batch at speed 1.
    pub const STEP: Duration = Duration::from_millis(20);
    /// What every request in the batch adds to a step.
    pub const STEP_PER_REQUEST: Duration = Duration::from_micros(400);
    /// How many requests a server works on at once; more wait in its prefill queue.
    pub const BATCH: u32 = 64;
    /// The region and the model of a server that names none.
    pub const REGION: &'static str = "local";
    /// The model of a server that names none.
    pub const MODEL: &'static str = "m";

    /// A server of speed 1.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            region: Self::REGION.into(),
            model: Self::MODEL.into(),
            speed: 1.0,
            prefill_rate: Self::PREFILL_RATE,
            step: Self::STEP,
            step_per_request: Self::STEP_PER_REQUEST,
            batch: Self::BATCH,
            whole_answers: false,
            base: Duration::ZERO,
            cache_blocks: 0,
            requests_per_minute: None,
            tokens_per_minute: None,
            price: 1.0,
            tariff: None,
            limit: None,
            token_bounds: (None, None),
            quota_is_known: false,
            quota_is_told: false,
            joins: Duration::ZERO,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// What it serves.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// How fast it is, prefill and decode alike: 0.5 takes twice as long.
    #[must_use]
    pub const fn speed(mut self, speed: f64) -> Self {
        self.speed = speed;
        self
    }

    /// Time that every answer takes before anything else: what a remote provider adds.
    #[must_use]
    pub const fn base_latency(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Prompt tokens a second at speed 1.
    #[must_use]
    pub const fn prefill_rate(mut self, tokens_per_second: f64) -> Self {
        self.prefill_rate = tokens_per_second;
        self
    }

    /// How long a decode step takes, alone and for each request in the batch, and how many fit.
    #[must_use]
    pub const fn decode(mut self, step: Duration, per_request: Duration, batch: u32) -> Self {
        (self.step, self.step_per_request, self.batch) = (step, per_request, batch);
        self
    }

    /// So many slots, each of which works on one request as fast as any other, and answers when it is done: the tokens of
    /// its answer come all at once.
    #[must_use]
    pub const fn slots(mut self, slots: u32) -> Self {
        // No prompt takes a moment of another's.
        (self.prefill_rate, self.step_per_request, self.batch) = (1e9, Duration::ZERO, slots);
        self.whole_answers = true;
        self
    }

    /// A prefix cache of this many blocks ([`Request::BLOCK`](super::Request::BLOCK) tokens each), least recently
    /// used first out.
    #[must_use]
    pub const fn prefix_cache(mut self, blocks: usize) -> Self {
        self.cache_blocks = blocks;
        self
    }

    /// Answers 429 with a hint beyond this many requests, and tokens, a minute.
    #[must_use]
    pub const fn quota(mut self, requests: Option<u64>, tokens: Option<u64>) -> Self {
        (self.requests_per_minute, self.tokens_per_minute) = (requests, tokens);
        self
    }

    /// Routers are told its [quota](Self::quota), each its part of it; by default they know of none.
    #[must_use]
    pub const fn known_quota(mut self) -> Self {
        self.quota_is_known = true;
        self
    }

    /// Says what is left of its [quota](Self::quota), and in how long it is full again, with every answer: with the first
    /// token, or with the error. Routers hear of it as of the headers of a provider, by
    /// [`Attempt::quota`](crate::backend::Attempt::quota); what they hear is as old as the answer took. By default it
    /// says nothing but 429 and when to come back.
    ///
    /// ```
    /// use fallway::sim::Server;
    /// let server = Server::new("provider").quota(None, Some(400_000)).quota_headers();
    /// ```
    #[must_use]
    pub const fn quota_headers(mut self) -> Self {
        self.quota_is_told = true;
        self
    }

    /// Whether it has a quota.
    pub(super) const fn has_quota(&self) -> bool {
        self.requests_per_minute.is_some() || self.tokens_per_minute.is_some()
    }

    /// What each of so many routers is told of its quotas of requests and tokens.
    pub(super) fn known_part(&self, routers: usize) -> (Option<u64>, Option<u64>) {
        let part = |quota: Option<u64>| {
            quota.filter(|_| self.quota_is_known).map(|quota| (quota / routers.max(1) as u64).max(1))
        };
        (part(self.requests_per_minute), part(self.tokens_per_minute))
    }

    /// Dollars for a million tokens.
    #[must_use]
    pub const fn price(mut self, dollars: f64) -> Self {
        self.price = dollars;
        self
    }

    /// What it bills for prompt and answer, and routers are told; by default its [price](Self::price) for both alike.
    #[must_use]
    pub fn tariff(self, price: Price) -> Self {
        Self { tariff: Some(price), ..self }
    }

    /// What it bills.
    pub(super) fn charges(&self) -> Option<Price> {
        self.tariff.clone().or_else(|| Price::per_million(self.price, self.price).ok())
    }

    /// The concurrency limit that routers are told of; by default they know none.
    #[must_use]
    pub const fn known_limit(mut self, calls: u32) -> Self {
        self.limit = Some(calls);
        self
    }

    /// How many tokens of prompts that wait for their first token, and of prompts and expected answers in flight, routers are told
    /// that it takes ([`Profile::max_prefill_tokens`](crate::Profile::max_prefill_tokens),
    /// [`max_total_tokens`](crate::Profile::max_total_tokens)); by default they know no bound. It does not hold them to that.
    #[must_use]
    pub const fn known_token_bounds(mut self, prefill: Option<u64>, total: Option<u64>) -> Self {
        self.token_bounds = (prefill, total);
        self
    }

    /// Joins the fleet of every router this long after the start; by default it is there from the start.
    #[must_use]
    pub const fn joins_after(mut self, after: Duration) -> Self {
        self.joins = after;
        self
    }

    /// What makes no sense about it.
    pub(super) fn mistake(&self) -> Option<&'static str> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if self.id.trim().is_empty() {
            Some("its id is empty")
        } else if !positive(self.speed) {
            Some("its speed is no positive number")
        } else if !positive(self.prefill_rate) {
            Some("its prefill rate is no positive number")
        } else if self.step.is_zero() && self.step_per_request.is_zero() {
            Some("its decode step takes no time")
        } else if self.batch == 0 {
            Some("its decode batch is empty")
        } else if self.limit == Some(0) {
            Some("its known limit is 0")
        } else if self.token_bounds.0 == Some(0) || self.token_bounds.1 == Some(0) {
            Some("a bound of its tokens is 0")
        } else if self.requests_per_minute == Some(0) || self.tokens_per_minute == Some(0) {
            Some("a quota of it is 0")
        } else {
            (!(self.price.is_finite() && self.price >= 0.0)).then_some("its price is no number from 0")
        }
    }

    /// Seconds until it has answered this when nobody else is there.
    pub(super) fn alone(&self, prompt: u32, output: u32) -> f64 {
        let step = self.step.as_secs_f64() + self.step_per_request.as_secs_f64();
        let work = f64::from(prompt) / self.prefill_rate + f64::from(output.saturating_sub(1)) * step;
        self.base.as_secs_f64() + work / self.speed
    }

    /// Requests a second that it can serve, of `prompt` and `output` tokens on average: the smaller of what prefill
    /// and decode allow.
    pub fn capacity(&self, prompt: f64, output: f64) -> f64 {
        let prefill = self.prefill_rate / prompt;
        let step = self.step.as_secs_f64() + self.step_per_request.as_secs_f64() * f64::from(self.batch);
        let decode = f64::from(self.batch) / (step * output);
        self.speed * prefill.min(decode)
    }
}
