//! What follows from the figures of a server.

use super::Server;
use crate::facts::Price;

impl Server {
    /// What each of so many routers is told of its quotas of requests and tokens.
    pub(in super::super) fn known_part(&self, routers: usize) -> (Option<u64>, Option<u64>) {
        let part = |quota: Option<u64>| {
            quota.filter(|_| self.quota_is_known).map(|quota| (quota / routers.max(1) as u64).max(1))
        };
        (part(self.requests_per_minute), part(self.tokens_per_minute))
    }

    /// What it bills.
    pub(in super::super) fn charges(&self) -> Option<Price> {
        self.tariff.clone().or_else(|| Price::per_million(self.price, self.price).ok())
    }

    /// What makes no sense about it.
    pub(in super::super) fn mistake(&self) -> Option<&'static str> {
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
        } else if self.requests_per_minute == Some(0) || self.tokens_per_minute == Some(0) {
            Some("a quota of it is 0")
        } else {
            (!(self.price.is_finite() && self.price >= 0.0)).then_some("its price is no number from 0")
        }
    }

    /// Seconds until it has answered this when nobody else is there.
    pub(in super::super) fn alone(&self, prompt: u32, output: u32) -> f64 {
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
