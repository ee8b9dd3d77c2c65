//! When to ask a source again: every half a minute, ever less often while it fails, and never not at all.

use super::handle::{Registry, millis};
use super::publication::Ack;
use super::source::{Fetch, Fetched};
use super::violation::Nack;
use crate::rng::Rng;
use crate::time::Instant;
use std::time::{Duration, SystemTime};

/// Asks one source for news, when it is time. A state machine in the host's time: call it whenever
/// [`due`](Self::due) has come.
///
/// *Why does a 401 not stop it?* Because credentials come back. Of the two clients that are known to have stopped there,
/// one needed a restart of every process that used it.
#[derive(Clone, Debug)]
pub struct Poller {
    rng: Rng,
    due: Instant,
    last: Option<Instant>,
    failures: u32,
    /// Whether the last document was taken, so that "unchanged" is about what is served.
    taken: bool,
}

/// What became of a poll.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Polled {
    /// It is not time yet.
    NotDue,
    /// The source says that nothing is new.
    Unchanged,
    /// The source sent what is served now; new, or the same.
    Taken(Box<Ack>),
    /// The source sent what was refused. What was served is served.
    Refused(Nack),
    /// The source did not answer, or not with content.
    Failed(String),
}

impl Poller {
    /// The usual pause between two polls.
    pub const INTERVAL: Duration = Duration::from_secs(30);
    /// By how many percent a pause is longer or shorter, so that a fleet does not ask as one.
    pub const SPREAD: u32 = 20;
    /// The longest pause: failures double the usual one up to here.
    pub const LONGEST: Duration = Duration::from_secs(600);
    /// The shortest pause, however often somebody says that there is news.
    pub const SHORTEST: Duration = Duration::from_secs(1);

    /// Asks at once, and then at times that `seed` spreads: another for each process.
    pub const fn new(seed: u64) -> Self {
        let due = Instant::from_nanos(0);
        Self { rng: Rng::new(seed), due, last: None, failures: 0, taken: false }
    }

    /// When to ask next.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Somebody says that there is news: the wait is shortened, never prolonged.
    pub fn nudge(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| last + Self::SHORTEST);
        self.due = self.due.min(now.max(earliest));
    }

    /// Asks `source` if it is time, and gives `registry` what it says.
    pub fn poll(&mut self, source: &mut dyn Fetch, registry: &Registry, now: Instant, wall: SystemTime) -> Polled {
        if now < self.due { Polled::NotDue } else { self.fetched(source.fetch(), registry, now, wall) }
    }

    /// Gives `registry` what a source said, for hosts that ask themselves.
    pub fn fetched(&mut self, fetched: Fetched, registry: &Registry, now: Instant, wall: SystemTime) -> Polled {
        let failed = matches!(fetched, Fetched::Failed(_));
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        self.last = Some(now);
        self.due = now + self.pause();
        match fetched {
            Fetched::Failed(reason) => Polled::Failed(reason),
            Fetched::Unchanged => {
                if self.taken {
                    registry.confirmed.confirm(millis(wall));
                }
                Polled::Unchanged
            }
            Fetched::Document(document) => {
                let answer = registry.receive(&document, wall);
                self.taken = answer.is_ok();
                answer.map_or_else(Polled::Refused, |ack| Polled::Taken(Box::new(ack)))
            }
        }
    }

    fn pause(&mut self) -> Duration {
        let usual = Self::INTERVAL.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(Self::LONGEST);
        let percent = 100 - Self::SPREAD + self.rng.below(2 * Self::SPREAD as usize + 1) as u32;
        (usual * percent / 100).min(Self::LONGEST)
    }
}
