//! What a registry says of itself.

use super::Digest;
use super::handle::{Registry, millis};
use super::history::Record;
use super::publication::Durability;
use super::store::Tried;
use super::view::Source;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long ago a source confirmed what is served, as a judgement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Freshness {
    /// Within [`Registry::STALE_AFTER`].
    Fresh,
    /// Beyond it: worth an alarm. Served.
    Stale,
    /// Beyond [`Registry::EXPIRED_AFTER`]. Served all the same, unless the registry was told otherwise.
    Expired,
}

/// The state of a registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The generation that is served.
    pub generation: u64,
    /// The generation of the last publication, which a publisher [expects](super::Publication::expect_generation): 0
    /// for none. Pins and quarantines change what is served, and nothing that was published.
    pub published: u64,
    /// The identity of the content.
    pub digest: Digest,
    /// Where the content came from.
    pub source: Source,
    /// How long ago a source confirmed it.
    pub age: Duration,
    /// The same as a judgement.
    pub freshness: Freshness,
    /// Whether what is served will survive a restart.
    pub durability: Durability,
    /// Whether rollouts are frozen.
    pub frozen: bool,
    /// Aliases that are pinned, with the version and the time until when, in milliseconds since 1970.
    pub pins: Vec<(String, String, u64)>,
    /// Versions that are out of traffic.
    pub quarantined: Vec<String>,
    /// What was tried at the start, in order.
    pub tried: Vec<Tried>,
}

impl Registry {
    /// From here on content is stale that no source has confirmed.
    pub const STALE_AFTER: Duration = Duration::from_secs(5 * 60);
    /// From here on it is expired.
    pub const EXPIRED_AFTER: Duration = Duration::from_secs(24 * 3600);

    /// The state of the registry.
    pub fn status(&self, now: SystemTime) -> Status {
        let writer = self.writer.lock();
        let view = self.view();
        let age = self.age(now);
        let catalog = view.snapshot().catalog();
        let quarantined = catalog.versions().map(|(full, _)| full);
        let quarantined = quarantined.filter(|full| view.state_of(full) == Some(super::State::Quarantined));
        let pins = writer.ledger.pins.iter().map(|(alias, pin)| (alias.clone(), pin.version.clone(), pin.until_ms));
        Status {
            generation: view.generation(),
            published: writer.current().map_or(0, Record::generation),
            digest: view.snapshot().digest(),
            source: view.source(),
            age,
            freshness: Self::judged(age),
            durability: writer.durability.clone(),
            frozen: writer.ledger.frozen,
            pins: pins.collect(),
            quarantined: quarantined.collect(),
            tried: writer.tried.clone(),
        }
    }

    pub(super) fn age(&self, now: SystemTime) -> Duration {
        self.confirmed.age_at(millis(now))
    }

    pub(super) const fn judged(age: Duration) -> Freshness {
        match age.as_secs() {
            secs if secs >= Self::EXPIRED_AFTER.as_secs() => Freshness::Expired,
            secs if secs >= Self::STALE_AFTER.as_secs() => Freshness::Stale,
            _ => Freshness::Fresh,
        }
    }
}

/// One change of what is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    generation: u64,
    digest: Digest,
    cause: String,
}

impl Change {
    pub(super) fn new(generation: u64, digest: Digest, cause: &str) -> Self {
        Self { generation, digest, cause: cause.to_owned() }
    }

    /// The generation that came of it.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The identity of the content.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What was done, in words.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

/// How many changes wait for a subscriber that does not look.
const BACKLOG: usize = 64;

/// Changes that were not read yet, and how many were too many.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Change>,
    missed: u64,
}

impl Backlog {
    pub(super) fn push(&mut self, change: Change) {
        if self.waiting.len() == BACKLOG {
            self.waiting.pop_front();
            self.missed += 1;
        }
        self.waiting.push_back(change);
    }
}

/// Tells of every change, in order: an iterator that is empty while there is no news. The newest are kept for whoever
/// looks late.
#[derive(Debug)]
pub struct Subscription {
    backlog: Arc<Mutex<Backlog>>,
}

impl Subscription {
    pub(super) const fn new(backlog: Arc<Mutex<Backlog>>) -> Self {
        Self { backlog }
    }

    /// How many changes were dropped because nobody looked in time.
    pub fn missed(&self) -> u64 {
        self.backlog.lock().missed
    }
}

impl Iterator for Subscription {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.backlog.lock().waiting.pop_front()
    }
}
