//! What is being served: one snapshot with what operators and time have laid over it, compiled for look-ups.

use super::Digest;
use super::catalog::{Alias, Catalog, ModelVersion, Placement, State};
use super::ledger::Ledger;
use super::snapshot::Snapshot;
use crate::facts::{Facts, Price};
use crate::rng::hash_str;
use crate::shape::{Sticky, bucket};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Where the content came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Nothing was published yet.
    Nothing,
    /// Published in this process.
    Live,
    /// Read from the store at start.
    Disk,
    /// What the caller, or the build, brought along.
    Bootstrap,
}

/// One state of the registry. It never changes; the next one takes its place in one step.
///
/// A request resolves once and keeps the view, so that its retries and its stream see one generation.
pub struct View {
    generation: u64,
    source: Source,
    snapshot: Arc<Snapshot>,
    /// Milliseconds since 1970 at which a source last said that this is what there is.
    confirmed: Arc<AtomicU64>,
    refuses: bool,
    names: FxHashMap<Box<str>, Target>,
    versions: Vec<Version>,
    aliases: Vec<Name>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Alias(u32),
    Version(u32),
}

#[derive(Debug)]
struct Version {
    full: Box<str>,
    model: Box<str>,
    facts: ModelVersion,
    places: Box<[Place]>,
}

#[derive(Debug)]
struct Name {
    name: Box<str>,
    salt: u64,
    sticky: Sticky,
    /// Each target with the end of its range of shares, those in quarantine left out.
    cuts: Box<[(u32, Target)]>,
    pinned: Option<u32>,
    fallback: Box<[Box<str>]>,
}

/// A placement as it is served: its weight is 0 while it is not warm, and its price is that of the version where it has
/// none of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    id: String,
    what: Placement,
}

impl Place {
    /// The id of the placement.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The placement.
    pub const fn placement(&self) -> &Placement {
        &self.what
    }

    /// What it charges, where known.
    pub const fn known_price(&self) -> Option<&Price> {
        self.what.price.as_ref()
    }
}

/// By what a request can be recognised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys<'k> {
    session: Option<&'k str>,
    tenant: Option<&'k str>,
    seed: u64,
}

impl<'k> Keys<'k> {
    /// A request that is recognised by nothing but its own seed.
    pub const fn seed(seed: u64) -> Self {
        Self { session: None, tenant: None, seed }
    }

    /// The session and the tenant of `facts`, and the seed of the request.
    pub fn of(facts: &'k Facts, seed: u64) -> Self {
        Self { session: facts.request_session(), tenant: facts.request_tenant(), seed }
    }

    /// The session that it belongs to.
    #[must_use]
    pub const fn session(mut self, session: &'k str) -> Self {
        self.session = Some(session);
        self
    }

    /// The tenant that it comes from.
    #[must_use]
    pub const fn tenant(mut self, tenant: &'k str) -> Self {
        self.tenant = Some(tenant);
        self
    }

    fn hash(&self, sticky: Sticky) -> u64 {
        sticky.key(self.session, self.tenant, self.seed)
    }
}

/// Why a name leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Neither an alias nor a `model@version`.
    #[error("no alias or version of that name")]
    Unknown,
    /// A version that is there and not served.
    #[error("the version is {0} and not served")]
    NotServed(State),
    /// No source has confirmed the content within the hard limit, and the registry was told to refuse then.
    #[error("the registry has not been confirmed within its hard limit")]
    Expired,
}

/// What a name led to, with the view that it was found in.
#[derive(Clone)]
pub struct Resolved {
    view: Arc<View>,
    version: u32,
    path: [u32; Alias::MAX_DEPTH],
    depth: u8,
    bucket: Option<u16>,
    pinned: bool,
}

/// Where an answer comes from, for logs and decisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provenance<'r> {
    /// The generation of the registry.
    pub generation: u64,
    /// The identity of the content.
    pub digest: Digest,
    /// Where the content came from.
    pub source: Source,
    /// How long ago a source last confirmed it.
    pub age: Duration,
    /// The aliases that were followed, the one asked for first.
    pub aliases: Vec<&'r str>,
    /// The bucket, of 10,000, by which the first split was decided; none where nothing was split.
    pub bucket: Option<u16>,
    /// Whether an operator's pin decided.
    pub pinned: bool,
}

impl View {
    /// `snapshot` with the pins and quarantines of `ledger`, and the placements that are not warm.
    pub(super) fn compile(snapshot: Arc<Snapshot>, source: Source, ledger: &Ledger, cold: &BTreeSet<String>) -> Self {
        let catalog = snapshot.catalog();
        let mut names = FxHashMap::default();
        let mut versions = Vec::new();
        let mut places = places(catalog, cold);
        for (model, of) in &catalog.models {
            for (version, what) in &of.versions {
                let full: Box<str> = format!("{model}@{version}").into();
                let mut facts = what.clone();
                // Hashing every version would be most of the work, and mostly nothing is quarantined.
                if !ledger.quarantines.is_empty() && ledger.is_quarantined(&what.digest(&full)) {
                    facts.state = State::Quarantined;
                }
                let mut places = places.remove(&*full).unwrap_or_default();
                for place in places.iter_mut().filter(|place| place.what.price.is_none()) {
                    place.what.price = what.price.clone();
                }
                names.insert(full.clone(), Target::Version(versions.len() as u32));
                versions.push(Version { full, model: (**model).into(), facts, places: places.into() });
            }
        }
        for (index, name) in catalog.aliases.keys().enumerate() {
            names.insert((**name).into(), Target::Alias(index as u32));
        }
        let alive = Alive { catalog, names: &names, versions: &versions };
        let aliases = catalog.aliases.iter().map(|(name, alias)| Name {
            name: (**name).into(),
            salt: hash_str(name),
            sticky: alias.sticky,
            cuts: alive.cuts(alias),
            pinned: ledger.pin(name).and_then(|version| match names.get(version) {
                Some(Target::Version(index)) if versions[*index as usize].facts.state.is_served() => Some(*index),
                _ => None,
            }),
            fallback: alias.fallback.iter().map(|name| (**name).into()).collect(),
        });
        let aliases = aliases.collect();
        Self {
            generation: ledger.generation,
            source,
            snapshot,
            confirmed: Arc::default(),
            refuses: false,
            names,
            versions,
            aliases,
        }
    }

    pub(super) fn confirmed_by(mut self, confirmed: Arc<AtomicU64>) -> Self {
        self.confirmed = confirmed;
        self
    }

    pub(super) const fn refusing(mut self, refuses: bool) -> Self {
        self.refuses = refuses;
        self
    }

    pub(super) const fn refuses(&self) -> bool {
        self.refuses
    }

    /// Follows `name` to a version and its placements. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] says why it leads nowhere.
    pub fn resolve(self: Arc<Self>, name: &str, keys: Keys<'_>) -> Result<Resolved, ResolveError> {
        if self.refuses {
            return Err(ResolveError::Expired);
        }
        let mut target = *self.names.get(name).ok_or(ResolveError::Unknown)?;
        let (mut path, mut depth) = ([0; Alias::MAX_DEPTH], 0);
        let (mut bucket, mut pinned) = (None, false);
        let version = loop {
            let alias = match target {
                Target::Version(version) => break version,
                Target::Alias(alias) => alias,
            };
            // A checked catalogue has no deeper chain; the last place takes what must not be.
            path[depth.min(path.len() - 1)] = alias;
            depth += 1;
            let alias = &self.aliases[alias as usize];
            if let Some(version) = alias.pinned {
                pinned = true;
                break version;
            }
            target = match &*alias.cuts {
                [] => return Err(ResolveError::Unknown),
                [(_, only)] => *only,
                cuts => {
                    let drawn = self::bucket(keys.hash(alias.sticky), alias.salt);
                    bucket = bucket.or(Some(drawn as u16));
                    let whole = cuts[cuts.len() - 1].0;
                    let at = drawn * whole / Alias::WHOLE;
                    cuts.iter().find(|(end, _)| at < *end).map_or(cuts[0].1, |(_, target)| *target)
                }
            };
        };
        let state = self.versions[version as usize].facts.state;
        // An alias leads to a version in quarantine only where it has no other: better ill than nothing.
        if !state.is_served() && (depth == 0 || state != State::Quarantined) {
            return Err(ResolveError::NotServed(state));
        }
        let depth = depth.min(Alias::MAX_DEPTH) as u8;
        Ok(Resolved { view: self, version, path, depth, bucket, pinned })
    }

    /// Counts up with every change of what is served: publications, pins, quarantines.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The content.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Where the content came from.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// The state in which a version is served, quarantine included.
    pub fn state_of(&self, full: &str) -> Option<State> {
        match self.names.get(full)? {
            Target::Version(version) => Some(self.versions[*version as usize].facts.state),
            Target::Alias(_) => None,
        }
    }

    /// Aliases that would have no version left outside of quarantine.
    pub(super) fn emptied(&self) -> impl Iterator<Item = &str> {
        let alive = Alive { catalog: self.snapshot.catalog(), names: &self.names, versions: &self.versions };
        let aliases = self.snapshot.catalog().aliases.iter();
        aliases.filter(move |(_, alias)| !alias.targets.iter().any(|target| alive.is(target))).map(|(name, _)| &**name)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("generation", &self.generation)
            .field("source", &self.source)
            .field("digest", &self.snapshot.digest())
            .finish_non_exhaustive()
    }
}

impl Resolved {
    /// The view that it was found in; for the names of the [fallback](Self::fallback) chain, so that a request sees one
    /// generation.
    pub const fn view(&self) -> &Arc<View> {
        &self.view
    }

    fn found(&self) -> &Version {
        &self.view.versions[self.version as usize]
    }

    /// The version, as `model@version`.
    pub fn version(&self) -> &str {
        &self.found().full
    }

    /// The model.
    pub fn model(&self) -> &str {
        &self.found().model
    }

    /// Capabilities, limits, price, and the state in which it is served.
    pub fn facts(&self) -> &ModelVersion {
        &self.found().facts
    }

    /// Where it runs, by priority. Those with weight 0 are drained or not warm.
    pub fn placements(&self) -> &[Place] {
        &self.found().places
    }

    /// Who stands in: the chain of the first alias on the way that has one.
    pub fn fallback(&self) -> impl Iterator<Item = &str> {
        let chain = self.followed().map(|alias| &alias.fallback).find(|chain| !chain.is_empty());
        chain.into_iter().flatten().map(|name| &**name)
    }

    fn followed(&self) -> impl Iterator<Item = &Name> {
        self.path[..usize::from(self.depth)].iter().map(|alias| &self.view.aliases[*alias as usize])
    }

    /// Where the answer comes from.
    pub fn provenance(&self, now: SystemTime) -> Provenance<'_> {
        let view = &self.view;
        let confirmed = Duration::from_millis(view.confirmed.load(Ordering::Relaxed));
        Provenance {
            generation: view.generation,
            digest: view.snapshot.digest(),
            source: view.source,
            age: now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(confirmed),
            aliases: self.followed().map(|alias| &*alias.name).collect(),
            bucket: self.bucket,
            pinned: self.pinned,
        }
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved")
            .field("version", &self.version())
            .field("generation", &self.view.generation)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// The placements of each version, by priority.
fn places(catalog: &Catalog, cold: &BTreeSet<String>) -> BTreeMap<String, Vec<Place>> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for (id, placement) in &catalog.placements {
        places.entry(placement.version.clone()).or_default().push(Place { id: id.clone(), what: placement.clone() });
    }
    for places in places.values_mut() {
        places.sort_by_key(|place| place.what.priority);
        // Where nothing is warm, cold is better than nobody.
        if places.iter().any(|place| place.what.weight > 0 && !cold.contains(&place.id)) {
            places.iter_mut().filter(|place| cold.contains(&place.id)).for_each(|place| place.what.weight = 0);
        }
    }
    places
}

/// Which targets have a version outside of quarantine.
struct Alive<'v> {
    catalog: &'v Catalog,
    names: &'v FxHashMap<Box<str>, Target>,
    versions: &'v [Version],
}

impl Alive<'_> {
    fn is(&self, (target, share): &(String, u32)) -> bool {
        *share > 0
            && match self.names.get(&**target) {
                Some(Target::Version(version)) => self.versions[*version as usize].facts.state.is_served(),
                // Four deep at most: the catalogue was checked.
                Some(Target::Alias(_)) => self.catalog.aliases[target].targets.iter().any(|target| self.is(target)),
                None => false,
            }
    }

    fn cuts(&self, alias: &Alias) -> Box<[(u32, Target)]> {
        let some = alias.targets.iter().any(|target| self.is(target));
        let mut end = 0;
        let kept = alias.targets.iter().filter(|target| target.1 > 0 && (!some || self.is(target)));
        let cut = |(target, share): &(String, u32)| {
            end += share;
            Some((end, *self.names.get(&**target)?))
        };
        kept.filter_map(cut).collect()
    }
}
