//! The registry: one view, swapped in one step; one writer at a time.

use super::catalog::Catalog;
use super::diff::{Diff, guards};
use super::history::Record;
use super::ledger::Ledger;
use super::publication::{Ack, Content, Durability, Publication, Review};
use super::resolved::{Keys, ResolveError, Resolved};
use super::snapshot::Snapshot;
use super::start::Builder;
use super::status::{Change, Freshness, Subscription};
use super::store::{Store, Tried};
use super::view::{Confirmed, Source, View};
use super::violation::{Code, Nack, Path, Severity, Violation};
use crate::unwind::contain;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Which model, which version, where, at what price: answered from a snapshot that is always valid.
///
/// Reading takes no lock and allocates nothing. Whatever writes is serialised, checked, made durable, and then swapped in
/// as one. Time is an argument, and what time brings (pins that end, files to write again) happens in
/// [`tick`](Self::tick).
///
/// ```
/// use fallway::registry::{Alias, Catalog, Keys, ModelVersion, Placement, Publication, Registry, State};
/// use std::time::SystemTime;
/// let now = SystemTime::UNIX_EPOCH;
/// let registry = Registry::builder().open(now);
/// let catalog = Catalog::new()
///     .version("llama-70b", "3", ModelVersion::new(State::Live).context(131_072))
///     .placement("eu-3", Placement::new("llama-70b@3", "acme", "eu-west", "eu-a"))
///     .alias("chat", Alias::to("llama-70b@3"));
/// let ack = registry.publish(&Publication::from(catalog).expect_generation(0), now)?;
///
/// let found = registry.resolve("chat", Keys::seed(7)).unwrap();
/// assert_eq!((found.version(), found.placements()[0].id()), ("llama-70b@3", "eu-3"));
/// assert_eq!(found.provenance(now).generation, ack.generation());
/// # Ok::<(), fallway::registry::Nack>(())
/// ```
pub struct Registry {
    view: ArcSwap<View>,
    pub(super) confirmed: Arc<Confirmed>,
    pub(super) writer: Mutex<Writer>,
    pub(super) rules: Rules,
}

/// What the host has laid down.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) validators: Vec<Validator>,
    pub(super) verifier: Option<Box<dyn super::envelope::Verify>>,
    pub(super) refuse_when_expired: bool,
    pub(super) cold_from_sources: bool,
}

impl Rules {
    /// Whether nothing is served any more, for want of confirmation.
    fn refuse(&self, confirmed: &Confirmed) -> bool {
        self.refuse_when_expired && Registry::judged(confirmed.age()) == Freshness::Expired
    }
}

pub(super) type Validator = Box<dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync>;

/// What only one may change at a time.
pub(super) struct Writer {
    pub(super) ledger: Ledger,
    /// The publications that are remembered, the one that is served last.
    pub(super) history: Vec<Record>,
    pub(super) store: Option<Store>,
    pub(super) durability: Durability,
    pub(super) source: Source,
    pub(super) cold: BTreeSet<String>,
    pub(super) subscribers: Vec<std::sync::Weak<Mutex<super::status::Backlog>>>,
    pub(super) tried: Vec<Tried>,
}

/// Milliseconds since 1970.
pub(super) fn millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Writer {
    pub(super) fn current(&self) -> Option<&Record> {
        self.history.last()
    }

    pub(super) fn catalog(&self) -> Catalog {
        self.snapshot().catalog().clone()
    }

    /// The content that is served; nothing at all where nothing was published.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current().map_or_else(Arc::default, |record| Arc::clone(record.snapshot()))
    }

    /// The view of what it says.
    pub(super) fn view(&self) -> View {
        self.view_of(self.snapshot())
    }

    fn view_of(&self, snapshot: Arc<Snapshot>) -> View {
        View::compile(snapshot, self.source, &self.ledger, &self.cold)
    }

    /// Notes which placements of a publication are cold. Those of an earlier one stay so, as far as they are still there.
    pub(super) fn cool(&mut self, candidate: &Candidate, cold: &[String]) {
        if self.current().map(Record::digest) != Some(candidate.snapshot.digest()) {
            self.cold.extend(cold.iter().cloned());
            let placements = candidate.snapshot.catalog().placements();
            self.cold.retain(|id| placements.contains_key(id));
        }
    }

    /// Makes it durable, as far as that succeeds.
    pub(super) fn persist(&mut self) {
        let Some(store) = &mut self.store else { return };
        self.durability = match store.persist(&self.history, &self.ledger) {
            Ok(()) => {
                store.sweep(&self.history);
                Durability::Durable
            }
            Err(error) => Durability::Uncertain(error.to_string()),
        };
    }
}

/// What is about to be published.
pub(super) struct Candidate {
    pub(super) snapshot: Snapshot,
    pub(super) review: Review,
}

impl Registry {
    /// A registry to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn start(mut writer: Writer, rules: Rules, confirmed: Confirmed) -> Self {
        writer.persist();
        let confirmed = Arc::new(confirmed);
        let refuses = rules.refuse(&confirmed);
        let view = writer.view().confirmed_by(Arc::clone(&confirmed)).refusing(refuses);
        Self { view: ArcSwap::from_pointee(view), confirmed, writer: Mutex::new(writer), rules }
    }

    /// What is served now.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The same, for a look: whoever keeps it clones it.
    pub(crate) fn peek(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// Follows `name` in what is served now. Takes no lock, allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] says why it leads nowhere.
    pub fn resolve(&self, name: &str, keys: Keys<'_>) -> Result<Resolved, ResolveError> {
        self.view().resolve(name, keys)
    }

    /// Checks `publication`, makes it durable, and serves it.
    ///
    /// # Errors
    ///
    /// [`Nack`] with everything that is wrong with it; nothing has changed then.
    pub fn publish(&self, publication: &Publication, now: SystemTime) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        let candidate = self.examine(&writer, publication, now)?;
        let cause = match &publication.force {
            Some(reason) => format!("publish, forced: {reason}"),
            None => "publish".to_owned(),
        };
        writer.cool(&candidate, &publication.cold);
        Ok(self.accept(&mut writer, candidate, &cause, None, now))
    }

    /// Does everything that [`publish`](Self::publish) does, but publishes nothing.
    ///
    /// # Errors
    ///
    /// [`Nack`] as `publish` would answer.
    pub fn validate(&self, publication: &Publication, now: SystemTime) -> Result<Review, Nack> {
        self.examine(&self.writer.lock(), publication, now).map(|candidate| candidate.review)
    }

    fn examine(&self, writer: &Writer, publication: &Publication, now: SystemTime) -> Result<Candidate, Nack> {
        let published = writer.current().map_or(0, Record::generation);
        if let Some(expected) = publication.expect.filter(|expected| *expected != published) {
            let message = format!("generation {expected} was expected, {published} is published");
            return Err(Nack::one(Code::Conflict, Path::root(), message));
        }
        let catalog = match &publication.content {
            Content::Whole(catalog) => catalog.clone(),
            Content::Part(patch) => patch.apply(&writer.catalog())?,
        };
        self.judge(writer, catalog, publication.force.is_some(), now)
    }

    /// Everything that could speak against serving `catalog`.
    pub(super) fn judge(
        &self,
        writer: &Writer,
        catalog: Catalog,
        force: bool,
        now: SystemTime,
    ) -> Result<Candidate, Nack> {
        let snapshot = Snapshot::new(catalog)?;
        let mut review = Review { warnings: snapshot.warnings(millis(now)), ..Review::default() };
        let before = writer.current().map(|record| record.snapshot().catalog());
        let empty = Catalog::new();
        review.diff = Diff::between(before.unwrap_or(&empty), snapshot.catalog());
        let runs = |placement: &super::Placement| (placement.version.clone(), placement.endpoint.clone());
        let same = |id: &String| before.and_then(|before| before.placements.get(id)).map(runs);
        let placements = snapshot.catalog().placements.iter();
        let new = placements.filter(|(id, placement)| same(id) != Some(runs(placement)));
        review.to_warm = new.map(|(id, _)| id.clone()).collect();

        let mut against = before.map_or_else(Vec::new, |before| guards(before, snapshot.catalog()));
        if force {
            review.warnings.append(&mut against);
        }
        // What is quarantined already must not become all that an alias has.
        let view = writer.view_of(Arc::new(snapshot.clone()));
        against.extend(view.emptied().map(|alias| {
            let path = Path::of(["aliases", alias]);
            Violation::new(Code::QuarantineEmpties, path, "every version that it serves is quarantined")
        }));
        if !against.iter().any(|violation| violation.severity() == Severity::Error) {
            against.extend(self.rules.validators.iter().filter_map(|validator| refusal(validator, &snapshot)));
        }
        if against.is_empty() {
            return Ok(Candidate { snapshot, review });
        }
        against.append(&mut review.warnings);
        Err(against.into())
    }

    /// Serves what was found good. The same content again changes nothing.
    pub(super) fn accept(
        &self,
        writer: &mut Writer,
        candidate: Candidate,
        cause: &str,
        origin: Option<(String, u64)>,
        now: SystemTime,
    ) -> Ack {
        let Candidate { snapshot, review } = candidate;
        let digest = snapshot.digest();
        self.confirmed.confirm(millis(now));
        if let Some((key, serial)) = &origin {
            writer.ledger.note(key, *serial, digest);
        }
        writer.source = Source::Live;
        if writer.current().is_some_and(|record| record.digest() == digest) {
            writer.persist();
            self.swap(writer);
        } else {
            let generation = writer.ledger.generation + 1;
            let cause: String = cause.chars().take(MAX_CAUSE).collect();
            writer.history.push(Record::new(generation, millis(now), cause.clone(), origin, Arc::new(snapshot)));
            let superfluous = writer.history.len().saturating_sub(Store::KEPT);
            writer.history.drain(..superfluous);
            self.commit(writer, &cause);
        }
        self.ack(writer, review)
    }

    /// Publishes the ledger and the history of `writer` as the next generation.
    pub(super) fn commit(&self, writer: &mut Writer, cause: &str) {
        writer.ledger.generation += 1;
        writer.persist();
        self.swap(writer);
        let view = self.view();
        let change = Change::new(view.generation(), view.snapshot().digest(), cause);
        writer.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(backlog) => {
                backlog.lock().push(change.clone());
                true
            }
            None => false,
        });
    }

    /// Serves what `writer` says.
    pub(super) fn swap(&self, writer: &Writer) {
        let refuses = self.rules.refuse(&self.confirmed);
        let view = writer.view().confirmed_by(Arc::clone(&self.confirmed)).refusing(refuses);
        self.view.store(Arc::new(view));
    }

    /// Stops or resumes to serve for want of confirmation.
    pub(super) fn refuse(&self, writer: &Writer) {
        if self.view.load().refuses() != self.rules.refuse(&self.confirmed) {
            self.swap(writer);
        }
    }

    pub(super) fn ack(&self, writer: &Writer, review: Review) -> Ack {
        let view = self.view.load();
        let durability = writer.durability.clone();
        Ack { generation: view.generation(), digest: view.snapshot().digest(), durability, review }
    }

    /// What was published, the oldest first; as much as is [kept](Store::KEPT).
    pub fn history(&self) -> Vec<Record> {
        self.writer.lock().history.clone()
    }

    /// Tells of every change from now on.
    pub fn subscribe(&self) -> Subscription {
        let backlog = Arc::default();
        self.writer.lock().subscribers.push(Arc::downgrade(&backlog));
        Subscription::new(backlog)
    }
}

/// How many characters of a cause are kept.
const MAX_CAUSE: usize = 512;

/// What a validator has against `snapshot`. Its panic is its refusal.
fn refusal(validator: &Validator, snapshot: &Snapshot) -> Option<Violation> {
    match contain(|| validator(snapshot)) {
        Some(Ok(())) => None,
        Some(Err(reason)) => Some(Violation::new(Code::Refused, Path::root(), reason)),
        None => Some(Violation::new(Code::ValidatorPanicked, Path::root(), "a validator of the host panicked")),
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("view", &self.view.load()).finish_non_exhaustive()
    }
}
