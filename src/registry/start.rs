//! Starting on the best that there is: current, previous, the newest valid file, the caller's bootstrap, what was
//! compiled in.

use super::envelope::Verify;
use super::handle::{Registry, Rules, Writer, millis};
use super::history::Record;
use super::ledger::Ledger;
use super::publication::Durability;
use super::snapshot::Snapshot;
use super::store::{Found, Store, Tried};
use super::view::{Confirmed, Source};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Gathers what a registry starts with. See [`Registry::builder`].
#[derive(Default)]
pub struct Builder {
    store: Option<Store>,
    bootstrap: Option<Cow<'static, [u8]>>,
    compiled_in: Option<&'static [u8]>,
    rules: Rules,
}

impl Builder {
    /// Keeps snapshots there, and starts from them.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// A document to start from where the store has nothing that can be used.
    #[must_use]
    pub fn bootstrap(mut self, document: impl Into<Cow<'static, [u8]>>) -> Self {
        self.bootstrap = Some(document.into());
        self
    }

    /// A document to start from where nothing else can be used; for `include_bytes!`.
    #[must_use]
    pub const fn compiled_in(mut self, document: &'static [u8]) -> Self {
        self.compiled_in = Some(document);
        self
    }

    /// Somebody who may refuse a publication, with a reason. A panic is a refusal. It is asked while the registry is locked
    /// for whoever writes, so what it has captured must not lead to a call of the same registry that writes or reports.
    #[must_use]
    pub fn validator(mut self, refuses: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.rules.validators.push(Box::new(refuses));
        self
    }

    /// Takes from [sources](Registry::receive) only what this one vouches for.
    #[must_use]
    pub fn verifier(mut self, verifier: impl Verify) -> Self {
        self.rules.verifier = Some(Box::new(verifier));
        self
    }

    /// New placements that come from [sources](Registry::receive) join with weight 0, until [`Registry::warmed`]. Which
    /// they are says [`Review::to_warm`](super::Review::to_warm) of the acknowledgement. Where a version has no other,
    /// cold is better than nobody.
    #[must_use]
    pub const fn cold_from_sources(mut self) -> Self {
        self.rules.cold_from_sources = true;
        self
    }

    /// Stops to serve what no source has confirmed for [`Registry::EXPIRED_AFTER`]. By default it is served: old prices
    /// are better than no model.
    #[must_use]
    pub const fn refuse_when_expired(mut self) -> Self {
        self.rules.refuse_when_expired = true;
        self
    }

    /// Starts. This never fails: what cannot be used is [noted](super::Status::tried), and where nothing can be used, the
    /// registry is empty and waits for a publication.
    pub fn open(mut self, now: SystemTime) -> Registry {
        let durability = if self.store.is_some() { Durability::Durable } else { Durability::Memory };
        let mut found = self.store.as_mut().map_or_else(Found::default, Store::load);
        let mut ledger = std::mem::take(&mut found.ledger);
        for record in &found.records {
            // The ledger may be lost, or a little behind.
            if let Some((key, serial)) = record.origin() {
                ledger.note(key, serial, record.digest());
            }
        }
        ledger.generation = ledger.generation.max(found.highest);
        let mut history = std::mem::take(&mut found.records);
        let mut source = Source::Disk;
        match found.chosen {
            Some((_, true)) => {}
            Some((generation, false)) => {
                // Not what was served last. It counts as a new generation, for readers may have seen later ones.
                if let Some(old) = history.iter().find(|record| record.generation() == generation).cloned() {
                    let cause = format!("start, back to {generation}");
                    again(&mut history, &mut ledger, Arc::clone(old.snapshot()), cause, millis(old.at()));
                }
            }
            None => {
                source = Source::Nothing;
                let documents = [("bootstrap", self.bootstrap.as_deref()), ("compiled in", self.compiled_in)];
                for (name, document) in documents {
                    let Some(document) = document else { continue };
                    match Snapshot::parse(document) {
                        Ok(snapshot) => {
                            found.tried.push(Tried::used(name));
                            let cause = format!("start from {name}");
                            again(&mut history, &mut ledger, Arc::new(snapshot), cause, millis(now));
                            source = Source::Bootstrap;
                            break;
                        }
                        Err(nack) => found.tried.push(Tried::failed(name, nack.to_string())),
                    }
                }
            }
        }
        let superfluous = history.len().saturating_sub(Store::KEPT);
        history.drain(..superfluous);
        let confirmed = history.last().map_or(0, |record| millis(record.at()));
        let writer = Writer {
            ledger,
            history,
            store: self.store,
            durability,
            source,
            cold: BTreeSet::new(),
            subscribers: Vec::new(),
            tried: found.tried,
        };
        Registry::start(writer, self.rules, Confirmed::new(confirmed, millis(now)))
    }
}

/// Serves `snapshot` as the next generation.
fn again(history: &mut Vec<Record>, ledger: &mut Ledger, snapshot: Arc<Snapshot>, cause: String, at_ms: u64) {
    ledger.generation += 1;
    history.push(Record::new(ledger.generation, at_ms, cause, None, snapshot));
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("store", &self.store).finish_non_exhaustive()
    }
}
