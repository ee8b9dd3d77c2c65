//! A simulated server as it stands: its engine, its quotas, and what the faults make of it.

use super::cache::PrefixCache;
use super::engine::Engine;
use super::fault::Effect;
use super::job::{Headers, Request};
use super::quota::Bucket;
use super::server::Server;
use crate::backend::FailureKind;
use crate::backend::quota::QuotaReport;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) server: Server,
    pub(super) engine: Engine,
    pub(super) cache: PrefixCache,
    pub(super) requests: Option<Bucket>,
    pub(super) tokens: Option<Bucket>,
    /// Faults that are on, by their number.
    pub(super) troubles: Vec<usize>,
    pub(super) state: State,
    /// The share of its speed that they leave.
    pub(super) share: f64,
    /// How many times it hung so far.
    pub(super) hangs: u32,
    /// Stamps the events that the engine expects; older ones are void.
    pub(super) epoch: u64,
    /// Requests in flight at the arrival, and seconds to the first token, of the latest.
    pub(super) samples: VecDeque<(usize, f64)>,
}

/// How many samples a server remembers.
const SAMPLES: usize = 32;

/// What the faults make of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct State {
    pub(super) up: bool,
    pub(super) hung: bool,
    pub(super) errors: Option<(FailureKind, f64, Duration)>,
    pub(super) latency: Duration,
    /// The share of executions that take longer, and how many times as long.
    pub(super) straggles: Option<(f64, f64)>,
    pub(super) cut: Option<u32>,
    pub(super) throttled: Option<Duration>,
    pub(super) probes: Probes,
    pub(super) reports: bool,
}

/// What a health probe of a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probes {
    Honest,
    Silent,
    Lying,
}

impl Machine {
    /// A request that met `in_flight` others has its first token, after `seconds`.
    pub(super) fn sample(&mut self, in_flight: usize, seconds: f64) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((in_flight, seconds));
    }

    pub(super) fn new(server: &Server) -> Self {
        Self {
            engine: Engine::new(server),
            cache: PrefixCache::new(server.cache_blocks),
            requests: server.requests_per_minute.map(Bucket::per_minute),
            tokens: server.tokens_per_minute.map(Bucket::per_minute),
            troubles: Vec::new(),
            state: State::under(std::iter::empty()).0,
            share: 1.0,
            hangs: 0,
            epoch: 0,
            samples: VecDeque::new(),
            server: server.clone(),
        }
    }

    /// Whether a request that is not refused meets a fault: it hangs, is slow, or will be cut.
    pub(super) fn hampers(&self) -> bool {
        let State { hung, latency, cut, .. } = self.state;
        hung || cut.is_some() || !latency.is_zero() || self.share < 1.0
    }

    /// Takes a request's share of the quotas; says when to come back where it is not there.
    pub(super) fn over_quota(&mut self, request: &Request, now: u64) -> Option<Duration> {
        let tokens = u64::from(request.prompt) + u64::from(request.output);
        let wait = |bucket: &Option<Bucket>, amount| bucket.as_ref().and_then(|bucket| bucket.wait(amount, now));
        let over = wait(&self.requests, 1).max(wait(&self.tokens, tokens));
        if over.is_none() {
            self.requests.iter_mut().for_each(|bucket| bucket.take(1, now));
            self.tokens.iter_mut().for_each(|bucket| bucket.take(tokens, now));
        }
        over
    }

    /// What it says of its quotas beside an answer.
    pub(super) fn headers(&self, now: u64) -> Headers {
        let says = |bucket: &Option<Bucket>| bucket.as_ref().map(|bucket| bucket.says(now)).unwrap_or_default();
        self.server.quota_is_told.then(|| {
            let (requests, tokens) = (says(&self.requests), says(&self.tokens));
            Box::new(QuotaReport { requests, tokens, ..QuotaReport::default() })
        })
    }
}

impl State {
    /// The state under these faults, and the share of the speed that they leave.
    pub(super) fn under(effects: impl Iterator<Item = Effect>) -> (Self, f64) {
        let mut state = Self {
            up: true,
            hung: false,
            errors: None,
            latency: Duration::ZERO,
            straggles: None,
            cut: None,
            throttled: None,
            probes: Probes::Honest,
            reports: true,
        };
        let mut speed = 1.0;
        for effect in effects {
            match effect {
                Effect::Down => state.up = false,
                Effect::Hang => state.hung = true,
                Effect::Speed(share) => speed *= share,
                Effect::Errors { kind, share, after } => state.errors = Some((kind, share, after)),
                Effect::Straggle { share, times } => state.straggles = Some((share, times)),
                Effect::Latency(more) => state.latency = state.latency.saturating_add(more),
                Effect::Cut { tokens } => state.cut = Some(tokens),
                Effect::Throttled { retry_after } => state.throttled = Some(retry_after),
                Effect::ProbesSilent => state.probes = Probes::Silent,
                Effect::ProbesLie => state.probes = Probes::Lying,
                Effect::ReportsSilent => state.reports = false,
                Effect::ClockJump { .. } => {}
            }
        }
        (state, speed)
    }
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
