//! What is asked of a registry, and what it answers.

use super::Digest;
use super::catalog::Catalog;
use super::diff::Diff;
use super::fields::Fields;
use super::json::{self, Json};
use super::violation::{Code, Findings, Nack, Path, Violation};
use std::fmt;

/// Content to publish, with what the publisher expects and insists on.
///
/// ```
/// use fallway::registry::{Catalog, Patch, Publication};
/// let whole = Publication::from(Catalog::new()).expect_generation(0);
/// let part = Publication::from(Patch::new().remove_alias("old")).force("the alias was never used");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publication {
    pub(super) content: Content,
    pub(super) expect: Option<u64>,
    pub(super) force: Option<String>,
    pub(super) cold: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Whole(Catalog),
    Part(Patch),
}

impl Publication {
    /// Reads a document: a whole catalogue, or a [patch](Patch) where it has a member `put` or `remove`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Nack> {
        let json = json::parse(bytes)?;
        match &json {
            Json::Object(members) if members.contains_key("put") || members.contains_key("remove") => {
                Patch::from_json(&json).map(Self::from)
            }
            _ => Catalog::from_json(&json, &Path::root()).map(Self::from),
        }
    }

    /// Publishes only while this is the generation of the last [publication](super::Status::published); 0 for none.
    #[must_use]
    pub const fn expect_generation(mut self, generation: u64) -> Self {
        self.expect = Some(generation);
        self
    }

    /// Publishes what the change guards would hold up. The reason goes into the history.
    #[must_use]
    pub fn force(mut self, reason: impl Into<String>) -> Self {
        self.force = Some(reason.into());
        self
    }

    /// Placements that are not warm: they join with weight 0 until [`Registry::warmed`](super::Registry::warmed).
    #[must_use]
    pub fn cold<S: Into<String>>(mut self, placements: impl IntoIterator<Item = S>) -> Self {
        self.cold = placements.into_iter().map(Into::into).collect();
        self
    }
}

impl From<Catalog> for Publication {
    fn from(catalog: Catalog) -> Self {
        Self { content: Content::Whole(catalog), expect: None, force: None, cold: Vec::new() }
    }
}

impl From<Patch> for Publication {
    fn from(patch: Patch) -> Self {
        Self { content: Content::Part(patch), expect: None, force: None, cold: Vec::new() }
    }
}

/// A part of a catalogue that changes: what to put, by version, placement and alias, and what to remove.
///
/// As a document: `{"put": {…a catalogue…}, "remove": {"models": ["m", "n@2"], "placements": […], "aliases": […]}}`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Patch {
    put: Catalog,
    models: Vec<String>,
    placements: Vec<String>,
    aliases: Vec<String>,
}

impl Patch {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts every version, placement and alias of `catalog`, in place of those that have their names.
    #[must_use]
    pub fn put(mut self, catalog: Catalog) -> Self {
        self.put = catalog;
        self
    }

    /// Removes a model, or one version: `model@version`.
    #[must_use]
    pub fn remove_model(mut self, name: impl Into<String>) -> Self {
        self.models.push(name.into());
        self
    }

    /// Removes a placement.
    #[must_use]
    pub fn remove_placement(mut self, id: impl Into<String>) -> Self {
        self.placements.push(id.into());
        self
    }

    /// Removes an alias.
    #[must_use]
    pub fn remove_alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }

    fn from_json(json: &Json) -> Result<Self, Nack> {
        let mut found = Findings::default();
        let mut fields = Fields::open(json, &Path::root(), &mut found);
        let put = match fields.take("put") {
            Some(json) => Catalog::from_json(json, &Path::of(["put"]))?,
            None => Catalog::new(),
        };
        let mut patch = Self::new().put(put);
        if let Some(json) = fields.take("remove") {
            let mut remove = Fields::open(json, &Path::of(["remove"]), &mut found);
            patch.models = remove.texts("models", &mut found);
            patch.placements = remove.texts("placements", &mut found);
            patch.aliases = remove.texts("aliases", &mut found);
            remove.done(&mut found);
        }
        fields.done(&mut found);
        if found.is_empty() { Ok(patch) } else { Err(found.into()) }
    }

    /// `catalog` with this change.
    pub(super) fn apply(&self, catalog: &Catalog) -> Result<Catalog, Nack> {
        let mut next = catalog.clone();
        let mut found = Findings::default();
        let mut missing = |what: &str, name: &str| {
            found.push(Violation::new(
                Code::NotFound,
                Path::of(["remove", what, name]),
                "nothing of that name is there",
            ));
        };
        for name in &self.models {
            let version = name.rsplit_once('@').and_then(|(model, version)| {
                next.models.get_mut(model).and_then(|model| model.versions.remove(version))
            });
            if version.is_none() && next.models.remove(name).is_none() {
                missing("models", name);
            }
        }
        for id in self.placements.iter().filter(|id| next.placements.remove(*id).is_none()) {
            missing("placements", id);
        }
        for name in self.aliases.iter().filter(|name| next.aliases.remove(*name).is_none()) {
            missing("aliases", name);
        }
        for (name, model) in self.put.models.clone() {
            next.models.entry(name).or_default().versions.extend(model.versions);
        }
        next.placements.extend(self.put.placements.clone());
        next.aliases.extend(self.put.aliases.clone());
        if found.is_empty() { Ok(next) } else { Err(found.into()) }
    }
}

/// Whether a change will survive a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It is on the medium.
    Durable,
    /// There is no store: it lives as long as the process.
    Memory,
    /// It is served, and the store failed: it may or may not be on the medium. [`Registry::tick`](super::Registry::tick)
    /// tries again.
    Uncertain(String),
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durable => f.write_str("durable"),
            Self::Memory => f.write_str("in memory only"),
            Self::Uncertain(reason) => write!(f, "durability uncertain: {reason}"),
        }
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    pub(super) generation: u64,
    pub(super) digest: Digest,
    pub(super) durability: Durability,
    pub(super) review: Review,
}

impl Ack {
    /// The generation that is served now.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The identity of its content.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it will survive a restart.
    pub const fn durability(&self) -> &Durability {
        &self.durability
    }

    /// What has changed, and what is worth a look.
    pub const fn review(&self) -> &Review {
        &self.review
    }
}

/// What a publication changes, found out without publishing it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Review {
    pub(super) diff: Diff,
    pub(super) warnings: Vec<Violation>,
    pub(super) to_warm: Vec<String>,
}

impl Review {
    /// What changes.
    pub const fn diff(&self) -> &Diff {
        &self.diff
    }

    /// What is not wrong and worth a look, with the change guards that were forced.
    pub fn warnings(&self) -> &[Violation] {
        &self.warnings
    }

    /// Placements that are new or run something else: those to warm before they are published.
    pub fn to_warm(&self) -> &[String] {
        &self.to_warm
    }
}
