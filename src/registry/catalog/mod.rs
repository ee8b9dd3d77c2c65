//! What a publisher writes: models and their versions, where they run, and the names that requests use.

mod alias;
mod placement;
mod version;

pub use alias::Alias;
pub use placement::Placement;
pub use version::{ModelVersion, State};

use std::collections::BTreeMap;

/// The content of a snapshot, before anybody has looked whether it makes sense.
///
/// ```
/// use fallway::facts::{Capabilities, Price};
/// use fallway::registry::{Alias, Catalog, ModelVersion, Placement, State};
/// let catalog = Catalog::new()
///     .version("llama-70b", "3", ModelVersion::new(State::Live).context(131_072).price(Price::pico(590_000, 790_000)))
///     .version("llama-70b", "4", ModelVersion::new(State::Canary).capabilities(Capabilities::TOOLS))
///     .placement("eu-3", Placement::new("llama-70b@3", "acme", "eu-west", "eu-a").residency(["eu"]))
///     .placement("eu-4", Placement::new("llama-70b@4", "acme", "eu-west", "eu-b").residency(["eu"]))
///     .alias("chat", Alias::split([("llama-70b@4", 500), ("llama-70b@3", 9_500)]));
/// assert_eq!(catalog.check(), []);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    pub(in crate::registry) models: BTreeMap<String, Model>,
    pub(in crate::registry) placements: BTreeMap<String, Placement>,
    pub(in crate::registry) aliases: BTreeMap<String, Alias>,
}

impl Catalog {
    /// Nothing at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a version of a model, or replaces it.
    #[must_use]
    pub fn version(mut self, model: impl Into<String>, version: impl Into<String>, what: ModelVersion) -> Self {
        self.models.entry(model.into()).or_default().versions.insert(version.into(), what);
        self
    }

    /// Adds a place where a version runs, or replaces it.
    #[must_use]
    pub fn placement(mut self, id: impl Into<String>, placement: Placement) -> Self {
        self.placements.insert(id.into(), placement);
        self
    }

    /// Adds a name that requests use, or replaces it.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>, alias: Alias) -> Self {
        self.aliases.insert(name.into(), alias);
        self
    }

    /// The models by name.
    pub const fn models(&self) -> &BTreeMap<String, Model> {
        &self.models
    }

    /// The placements by id.
    pub const fn placements(&self) -> &BTreeMap<String, Placement> {
        &self.placements
    }

    /// The aliases by name.
    pub const fn aliases(&self) -> &BTreeMap<String, Alias> {
        &self.aliases
    }

    /// Every version with its full name, `model@version`.
    pub fn versions(&self) -> impl Iterator<Item = (String, &ModelVersion)> {
        self.models
            .iter()
            .flat_map(|(model, of)| of.versions.iter().map(move |(version, what)| (format!("{model}@{version}"), what)))
    }

    /// The version of this full name.
    pub fn find(&self, full: &str) -> Option<&ModelVersion> {
        let (model, version) = full.rsplit_once('@')?;
        self.models.get(model)?.versions.get(version)
    }

    pub(in crate::registry) fn find_mut(&mut self, full: &str) -> Option<&mut ModelVersion> {
        let (model, version) = full.rsplit_once('@')?;
        self.models.get_mut(model)?.versions.get_mut(version)
    }
}

/// A model: its versions by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model {
    pub(in crate::registry) versions: BTreeMap<String, ModelVersion>,
}

impl Model {
    /// Its versions by name.
    pub const fn versions(&self) -> &BTreeMap<String, ModelVersion> {
        &self.versions
    }
}
