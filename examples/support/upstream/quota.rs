//! The quotas of a deployment: buckets that refill continuously, and the headers that tell of them.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// Requests and tokens per minute.
#[derive(Debug)]
pub(super) struct Quotas {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Holds a minute's worth and is full at first.
#[derive(Debug)]
struct Bucket {
    limit: f64,
    level: f64,
    since: Instant,
}

impl Quotas {
    pub(super) fn new(requests: Option<u32>, tokens: Option<u32>) -> Self {
        Self { requests: requests.map(Bucket::new), tokens: tokens.map(Bucket::new) }
    }

    /// Takes one request and its tokens, or says after how long they will be there.
    pub(super) fn take(&mut self, tokens: usize) -> Option<Duration> {
        let amounts = [(&mut self.requests, 1.0), (&mut self.tokens, tokens as f64)];
        let mut limited: Vec<_> =
            amounts.into_iter().filter_map(|(bucket, amount)| Some((bucket.as_mut()?, amount))).collect();
        let wait = limited.iter_mut().filter_map(|(bucket, amount)| bucket.lacks(*amount)).max();
        if wait.is_none() {
            limited.into_iter().for_each(|(bucket, amount)| bucket.level -= amount);
        }
        wait
    }

    /// What OpenAI and others tell with every answer.
    pub(super) fn tell(&mut self, headers: &mut HeaderMap) {
        for (kind, bucket) in [("requests", &mut self.requests), ("tokens", &mut self.tokens)] {
            let Some(bucket) = bucket else { continue };
            bucket.refill();
            let reset = (bucket.limit - bucket.level) * 60.0 / bucket.limit;
            let values = [
                ("limit", bucket.limit.to_string()),
                ("remaining", bucket.level.floor().to_string()),
                ("reset", format!("{reset:.3}s")),
            ];
            for (part, value) in values {
                let name = HeaderName::try_from(format!("x-ratelimit-{part}-{kind}"));
                if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                    headers.insert(name, value);
                }
            }
        }
    }
}

impl Bucket {
    fn new(limit: u32) -> Self {
        Self { limit: limit.into(), level: limit.into(), since: Instant::now() }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let refilled = (now - self.since).as_secs_f64() * self.limit / 60.0;
        (self.level, self.since) = ((self.level + refilled).min(self.limit), now);
    }

    fn lacks(&mut self, amount: f64) -> Option<Duration> {
        self.refill();
        let missing = amount.min(self.limit) - self.level;
        (missing > 0.0).then(|| Duration::from_secs_f64(missing * 60.0 / self.limit))
    }
}
