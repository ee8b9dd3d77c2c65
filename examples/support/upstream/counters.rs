//! The truth about a deployment, to be compared with what a router in front of it claims.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Statuses are counted in an array; HTTP ends at 599.
const STATUSES: usize = 600;

/// Counts since the start or the last [`reset`](Counters::reset). Only chat completions count, never health checks.
pub struct Counters {
    requests: AtomicU64,
    answered: Box<[AtomicU64]>,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    cancelled: AtomicU64,
    killed: AtomicU64,
    tokens_sent: AtomicU64,
    in_retry_window: AtomicU64,
    /// End of the announced Retry-After window in microseconds after `epoch`; 0 when none was announced.
    window_end_us: AtomicU64,
    epoch: Instant,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            answered: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            killed: AtomicU64::new(0),
            tokens_sent: AtomicU64::new(0),
            in_retry_window: AtomicU64::new(0),
            window_end_us: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }

    /// Requests whose body arrived.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Requests answered with this status. A stream counts when its headers are sent.
    pub fn answered(&self, status: u16) -> u64 {
        self.answered.get(usize::from(status)).map_or(0, |count| count.load(Relaxed))
    }

    /// Requests being served or queued now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// The most there ever were at the same time.
    pub fn max_in_flight(&self) -> u64 {
        self.max_in_flight.load(Relaxed)
    }

    /// Requests whose client hung up before the answer was complete.
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Relaxed)
    }

    /// Requests that died because this server went down.
    pub fn killed(&self) -> u64 {
        self.killed.load(Relaxed)
    }

    /// Output tokens written, of unary answers and streams.
    pub fn tokens_sent(&self) -> u64 {
        self.tokens_sent.load(Relaxed)
    }

    /// Requests that came although a 429 had asked to stay away and the time it asked for was not over.
    pub fn in_retry_window(&self) -> u64 {
        self.in_retry_window.load(Relaxed)
    }

    /// Sets all counts to zero, except what is in flight.
    pub fn reset(&self) {
        for count in self.answered.iter() {
            count.store(0, Relaxed);
        }
        for count in [
            &self.requests,
            &self.cancelled,
            &self.killed,
            &self.tokens_sent,
            &self.in_retry_window,
            &self.window_end_us,
        ] {
            count.store(0, Relaxed);
        }
        self.max_in_flight.store(self.in_flight.load(Relaxed), Relaxed);
    }

    /// Counts an arrival and returns how many are in flight with it.
    pub(super) fn enter(&self) -> u64 {
        self.requests.fetch_add(1, Relaxed);
        if self.now_us() < self.window_end_us.load(Relaxed) {
            self.in_retry_window.fetch_add(1, Relaxed);
        }
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Relaxed);
        in_flight
    }

    pub(super) fn leave(&self, end: End) {
        self.in_flight.fetch_sub(1, Relaxed);
        match end {
            End::Answered => {}
            End::Cancelled => _ = self.cancelled.fetch_add(1, Relaxed),
            End::Killed => _ = self.killed.fetch_add(1, Relaxed),
        }
    }

    pub(super) fn answer(&self, status: u16) {
        if let Some(count) = self.answered.get(usize::from(status)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn send_tokens(&self, count: usize) {
        self.tokens_sent.fetch_add(count as u64, Relaxed);
    }

    /// A 429 told its client to stay away this long. A later end extends an earlier one.
    pub(super) fn announce_window(&self, length: Duration) {
        let end = self.now_us().saturating_add(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
        self.window_end_us.fetch_max(end, Relaxed);
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered: Vec<(usize, u64)> =
            self.answered.iter().map(|count| count.load(Relaxed)).enumerate().filter(|(_, count)| *count > 0).collect();
        f.debug_struct("Counters")
            .field("requests", &self.requests())
            .field("answered", &answered)
            .field("in_flight", &self.in_flight())
            .field("max_in_flight", &self.max_in_flight())
            .field("cancelled", &self.cancelled())
            .field("killed", &self.killed())
            .field("tokens_sent", &self.tokens_sent())
            .field("in_retry_window", &self.in_retry_window())
            .finish_non_exhaustive()
    }
}

/// How a request left the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the answer that was scripted, an injected fault included.
    Answered,
    /// Its client hung up.
    Cancelled,
    /// The server went down under it.
    Killed,
}
