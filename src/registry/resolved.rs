//! What a name leads to.

use super::Digest;
use super::catalog::{Alias, ModelVersion, State};
use super::view::{Place, Source, Version, View};
use crate::facts::Facts;
use crate::shape::Sticky;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

    pub(super) fn hash(&self, sticky: Sticky) -> u64 {
        sticky.key(self.session, self.tenant, self.seed)
    }
}

/// Why a name leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Neither an alias nor a `model@version` of the catalogue.
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
    pub(super) view: Arc<View>,
    pub(super) found: Found,
}

/// What a name led to, without the view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(super) version: u32,
    pub(super) path: [u32; Alias::MAX_DEPTH],
    pub(super) depth: u8,
    pub(super) bucket: Option<u16>,
    pub(super) pinned: bool,
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
    /// What the name led to, as `model@version`; none where it led nowhere.
    pub version: Option<&'r str>,
    /// The aliases that were followed, the one asked for first.
    pub aliases: Vec<&'r str>,
    /// The bucket, of 10,000, by which the first split was decided; none where nothing was split.
    pub bucket: Option<u16>,
    /// Whether an operator's pin decided.
    pub pinned: bool,
}

impl fmt::Display for Provenance<'_> {
    /// One line: `registry generation 7 (live, 1.2 s old, 3f2a1b44…): chat -> llama-70b@4, bucket 312 of 10000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, digest, source, age, version, .. } = self;
        write!(
            f,
            "registry generation {generation} ({}, {:.1} s old, {digest:.8}…): ",
            source.as_str(),
            age.as_secs_f64()
        )?;
        self.aliases.iter().try_for_each(|alias| write!(f, "{alias} -> "))?;
        f.write_str(version.unwrap_or("knows nothing of that name, or does not serve it"))?;
        if let Some(bucket) = self.bucket {
            write!(f, ", bucket {bucket} of {}", Alias::WHOLE)?;
        }
        f.write_str(if self.pinned { ", pinned" } else { "" })
    }
}

impl Found {
    /// The version.
    pub(crate) fn facts<'v>(&self, view: &'v View) -> &'v ModelVersion {
        &self.of(view).facts
    }

    /// Its name, as `model@version`.
    pub(crate) fn version<'v>(&self, view: &'v View) -> &'v str {
        &self.of(view).full
    }

    /// Who stands in.
    pub(crate) fn fallback<'v>(&self, view: &'v View) -> &'v [Box<str>] {
        let mut chains = self.path().iter().map(|alias| &*view.aliases[*alias as usize].fallback);
        chains.find(|chain| !chain.is_empty()).unwrap_or_default()
    }

    fn of<'v>(&self, view: &'v View) -> &'v Version {
        &view.versions[self.version as usize]
    }

    fn path(&self) -> &[u32] {
        &self.path[..usize::from(self.depth)]
    }
}

impl View {
    /// Where an answer comes from that is `age` old, to a name that led to what was `found`.
    pub(crate) fn provenance(&self, found: Option<Found>, age: Duration) -> Provenance<'_> {
        let path = found.iter().flat_map(Found::path);
        Provenance {
            generation: self.generation,
            digest: self.snapshot.digest(),
            source: self.source,
            age,
            version: found.map(|found| found.version(self)),
            aliases: path.map(|alias| &*self.aliases[*alias as usize].name).collect(),
            bucket: found.and_then(|found| found.bucket),
            pinned: found.is_some_and(|found| found.pinned),
        }
    }
}

impl Resolved {
    /// The view that it was found in; for the names of the [fallback](Self::fallback) chain, so that a request sees one
    /// generation.
    pub const fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The version, as `model@version`.
    pub fn version(&self) -> &str {
        self.found.version(&self.view)
    }

    /// The model.
    pub fn model(&self) -> &str {
        &self.found.of(&self.view).model
    }

    /// Capabilities, limits, price, and the state in which it is served.
    pub fn facts(&self) -> &ModelVersion {
        self.found.facts(&self.view)
    }

    /// Where it runs, by priority. Those with weight 0 are drained or not warm.
    pub fn placements(&self) -> &[Place] {
        &self.found.of(&self.view).places
    }

    /// Who stands in: the chain of the first alias on the way that has one.
    pub fn fallback(&self) -> impl Iterator<Item = &str> {
        self.found.fallback(&self.view).iter().map(|name| &**name)
    }

    /// Where the answer comes from.
    pub fn provenance(&self, now: SystemTime) -> Provenance<'_> {
        self.view.provenance(Some(self.found), self.view.age_at(now))
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved")
            .field("version", &self.version())
            .field("generation", &self.view.generation)
            .field("bucket", &self.found.bucket)
            .finish_non_exhaustive()
    }
}
