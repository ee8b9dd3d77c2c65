//! What is being served: one snapshot with what operators and time have laid over it, compiled for look-ups.

use super::catalog::{Alias, Catalog, ModelVersion, Placement, State};
use super::handle::millis;
use super::ledger::Ledger;
use super::resolved::{Found, Keys, ResolveError, Resolved};
use super::snapshot::Snapshot;
use crate::facts::{Price, Profile};
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

impl Source {
    /// As logs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Live => "live",
            Self::Disk => "disk",
            Self::Bootstrap => "bootstrap",
        }
    }
}

/// One state of the registry. It never changes; the next one takes its place in one step.
///
/// A request resolves once and keeps the view, so that its retries and its stream see one generation.
pub struct View {
    pub(super) generation: u64,
    pub(super) source: Source,
    pub(super) snapshot: Arc<Snapshot>,
    confirmed: Arc<Confirmed>,
    refuses: bool,
    names: FxHashMap<Box<str>, Target>,
    pub(super) versions: Vec<Version>,
    pub(super) aliases: Vec<Name>,
}

/// A placement as a backend of a router.
pub(crate) struct Berth<'v> {
    pub(crate) place: &'v Place,
    pub(crate) profile: Profile,
    /// It takes no requests.
    pub(crate) idle: bool,
}

/// When a source last said that this is what there is, and what time it was when anybody last said that. Both in
/// milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    at: AtomicU64,
    told: AtomicU64,
}

impl Confirmed {
    pub(super) fn new(at: u64, told: u64) -> Self {
        Self { at: AtomicU64::new(at), told: AtomicU64::new(told) }
    }

    /// A source says that this is what there is.
    pub(super) fn confirm(&self, at: u64) {
        self.at.store(at, Ordering::Relaxed);
        self.tell(at);
    }

    /// It is this late. A clock that was ahead and was set right is believed too.
    pub(super) fn tell(&self, now: u64) {
        self.told.store(now, Ordering::Relaxed);
    }

    /// How long ago that was when the time was told last.
    pub(super) fn age(&self) -> Duration {
        self.age_at(self.told.load(Ordering::Relaxed))
    }

    /// How long ago that was at this time.
    pub(super) fn age_at(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.at.load(Ordering::Relaxed)))
    }
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Alias(u32),
    Version(u32),
}

#[derive(Debug)]
pub(super) struct Version {
    pub(super) full: Box<str>,
    pub(super) model: Box<str>,
    pub(super) facts: ModelVersion,
    /// It is served, or it is all that an alias has.
    in_use: bool,
    pub(super) places: Box<[Place]>,
}

#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: Box<str>,
    salt: u64,
    sticky: Sticky,
    /// Each target with the end of its range of shares, those in quarantine left out.
    cuts: Box<[(u32, Target)]>,
    pinned: Option<u32>,
    pub(super) fallback: Box<[Box<str>]>,
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

impl Version {
    /// It is served, and somewhere.
    fn runs(&self) -> bool {
        self.facts.state.is_served() && self.places.iter().any(|place| place.what.weight > 0)
    }

    fn berth<'v>(&self, place: &'v Place) -> Berth<'v> {
        let (facts, at) = (&self.facts, &place.what);
        let mut profile = Profile::new(&place.id).model(&*self.full).provider(&at.provider).region(&at.region);
        profile = profile.capabilities(facts.capabilities);
        profile.context_window = facts.context;
        profile.price.clone_from(&at.price);
        (profile.requests_per_minute, profile.tokens_per_minute) = at.known_quota();
        if at.weight > 0 {
            profile.weight = f64::from(at.weight) / f64::from(Placement::WEIGHT);
        }
        Berth { place, profile, idle: at.weight == 0 || !self.in_use }
    }
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
                let in_use = facts.state.is_served();
                versions.push(Version { full, model: (**model).into(), facts, in_use, places: places.into() });
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
            // Content that came after the pin may have left the version without a placement.
            pinned: ledger.pin(name).and_then(|version| match names.get(version) {
                Some(Target::Version(index)) if versions[*index as usize].runs() => Some(*index),
                _ => None,
            }),
            fallback: alias.fallback.iter().map(|name| (**name).into()).collect(),
        });
        let aliases: Vec<Name> = aliases.collect();
        for (_, target) in aliases.iter().flat_map(|alias| &alias.cuts) {
            if let Target::Version(version) = target {
                versions[*version as usize].in_use = true;
            }
        }
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

    pub(super) fn confirmed_by(mut self, confirmed: Arc<Confirmed>) -> Self {
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
        let found = self.follow(name, keys)?;
        Ok(Resolved { view: self, found })
    }

    /// Where `name` leads.
    pub(crate) fn follow(&self, name: &str, keys: Keys<'_>) -> Result<Found, ResolveError> {
        let mut target = *self.names.get(name).ok_or(ResolveError::Unknown)?;
        if self.refuses {
            return Err(ResolveError::Expired);
        }
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
        Ok(Found { version, path, depth, bucket, pinned })
    }

    /// All placements, as backends.
    pub(crate) fn berths(&self) -> impl Iterator<Item = Berth<'_>> {
        self.versions.iter().flat_map(|version| version.places.iter().map(|place| version.berth(place)))
    }

    /// The regions where every placement has this residency tag: what requests whose data must stay in a jurisdiction
    /// give to [`Facts::residency`](crate::Facts::residency), which speaks of regions.
    pub fn regions(&self, tag: &str) -> BTreeSet<&str> {
        let places = self.versions.iter().flat_map(|version| &version.places).map(Place::placement);
        let (inside, outside): (Vec<_>, Vec<_>) = places.partition(|at| at.residency.contains(tag));
        let outside: BTreeSet<&str> = outside.into_iter().map(Placement::region).collect();
        inside.into_iter().map(Placement::region).filter(|region| !outside.contains(region)).collect()
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

    /// How long ago a source had confirmed it when the registry was last told the time; who calls
    /// [`tick`](super::Registry::tick) every second knows it to the second.
    pub fn age(&self) -> Duration {
        self.confirmed.age()
    }

    pub(super) fn age_at(&self, now: SystemTime) -> Duration {
        self.confirmed.age_at(millis(now))
    }

    /// Whether it is an alias or a version.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Where a version stands among all.
    pub(crate) fn position(&self, full: &str) -> Option<u32> {
        match self.names.get(full)? {
            Target::Version(version) => Some(*version),
            Target::Alias(_) => None,
        }
    }

    /// The version at this position.
    pub(crate) fn at(&self, position: u32) -> &ModelVersion {
        &self.versions[position as usize].facts
    }

    /// The state in which a version is served, quarantine included.
    pub fn state_of(&self, full: &str) -> Option<State> {
        Some(self.at(self.position(full)?).state)
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
