//! When to ask a source again: every half a minute, ever less often while it fails, and never not at all.

use super::envelope::beyond_its_time;
use super::handle::{Registry, millis};
use super::publication::Ack;
use super::source::{Fetch, Fetched};
use super::violation::Nack;
use crate::rng::Rng;
use crate::time::Instant;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Asks one source for news, when it is time. A state machine in the host's time: call it whenever
/// [`due`](Self::due) has come.
///
/// *Why does a 401 not stop it?* Because credentials come back. Of the two clients that are known to have stopped there,
/// one needed a restart of every process that used it.
#[derive(Clone)]
pub struct Poller {
    rng: Rng,
    due: Instant,
    last: Option<Instant>,
    failures: u32,
    held: Held,
}

/// What "unchanged" is about.
#[derive(Clone)]
enum Held {
    /// No document yet.
    Nothing,
    /// One that was taken, with the end of its validity where somebody vouches for it.
    Taken(Option<u64>),
    /// One that was refused. What spoke against it may pass: a quarantine, a guard, a validator, a clock.
    Refused(Vec<u8>),
}

/// What became of a poll.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Polled {
    /// It is not time yet.
    NotDue,
    /// The source says that nothing is new. What was [refused](Self::Refused) is judged again instead.
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
        Self { rng: Rng::new(seed), due, last: None, failures: 0, held: Held::Nothing }
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
            Fetched::Document(document) => self.judged(document, registry, wall),
            Fetched::Unchanged => match std::mem::replace(&mut self.held, Held::Nothing) {
                Held::Nothing => Polled::Unchanged,
                Held::Refused(document) => self.judged(document, registry, wall),
                Held::Taken(until) => {
                    self.held = Held::Taken(until);
                    if until.is_some_and(|until| until <= millis(wall)) {
                        return Polled::Refused(beyond_its_time().into());
                    }
                    registry.confirmed.confirm(millis(wall));
                    Polled::Unchanged
                }
            },
        }
    }

    fn judged(&mut self, document: Vec<u8>, registry: &Registry, wall: SystemTime) -> Polled {
        match registry.take(&document, wall) {
            Ok((ack, until)) => {
                self.held = Held::Taken(until);
                Polled::Taken(Box::new(ack))
            }
            Err(nack) => {
                self.held = Held::Refused(document);
                Polled::Refused(nack)
            }
        }
    }

    fn pause(&mut self) -> Duration {
        let usual = Self::INTERVAL.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(Self::LONGEST);
        let percent = 100 - Self::SPREAD + self.rng.below(2 * Self::SPREAD as usize + 1) as u32;
        (usual * percent / 100).min(Self::LONGEST)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = match &self.held {
            Held::Nothing => "nothing",
            Held::Taken(_) => "what was taken",
            Held::Refused(_) => "what was refused",
        };
        let Self { due, failures, .. } = self;
        f.debug_struct("Poller")
            .field("due", due)
            .field("failures", failures)
            .field("held", &held)
            .finish_non_exhaustive()
    }
}
