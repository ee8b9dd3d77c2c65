//! What a publisher writes: models and their versions, where they run, and the names that requests use.

use super::Pricing;
use crate::facts::Capabilities;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
    pub(super) models: BTreeMap<String, Model>,
    pub(super) placements: BTreeMap<String, Placement>,
    pub(super) aliases: BTreeMap<String, Alias>,
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

    pub(super) fn find_mut(&mut self, full: &str) -> Option<&mut ModelVersion> {
        let (model, version) = full.rsplit_once('@')?;
        self.models.get_mut(model)?.versions.get_mut(version)
    }
}

/// A model: its versions by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model {
    pub(super) versions: BTreeMap<String, ModelVersion>,
}

impl Model {
    /// Its versions by name.
    pub const fn versions(&self) -> &BTreeMap<String, ModelVersion> {
        &self.versions
    }
}

/// Where a version stands on its way: `Draft → Validated → Canary → Live → Deprecated → Retired`, and `Quarantined`
/// from any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Being written. Not served.
    Draft,
    /// Tried and found good. Not served yet.
    Validated,
    /// Served to a share.
    Canary,
    /// Served.
    Live,
    /// Served, and its end is announced.
    Deprecated,
    /// Gone. Not served.
    Retired,
    /// Taken out of traffic. Not served.
    Quarantined,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Draft, Self::Validated, Self::Canary, Self::Live, Self::Deprecated, Self::Retired, Self::Quarantined];

    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Validated => "validated",
            Self::Canary => "canary",
            Self::Live => "live",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether requests may be sent there.
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Canary | Self::Live | Self::Deprecated)
    }

    /// Whether `next` may follow. One step forward; a validated version may go live without a canary, a canary may
    /// be withdrawn, a deprecation revoked; and who leaves quarantine begins as validated, or is retired.
    pub const fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (_, Self::Quarantined)
                | (Self::Draft | Self::Canary | Self::Quarantined, Self::Validated)
                | (Self::Validated, Self::Canary)
                | (Self::Validated | Self::Canary | Self::Deprecated, Self::Live)
                | (Self::Live, Self::Deprecated)
                | (Self::Deprecated | Self::Quarantined, Self::Retired)
        ) || self as u8 == next as u8
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One version of a model: what it can do, what fits in, what it costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelVersion {
    pub(super) state: State,
    pub(super) capabilities: Capabilities,
    pub(super) context: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) price: Pricing,
    pub(super) revision: Option<String>,
    pub(super) sunset_ms: Option<u64>,
    pub(super) replacement: Option<String>,
}

impl ModelVersion {
    /// A version in this state, of which nothing else is known.
    pub const fn new(state: State) -> Self {
        Self {
            state,
            capabilities: Capabilities::NONE,
            context: None,
            output: None,
            price: Pricing::Unknown,
            revision: None,
            sunset_ms: None,
            replacement: None,
        }
    }

    /// What it can do beyond text.
    #[must_use]
    pub const fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Tokens that fit in, prompt and answer together.
    #[must_use]
    pub const fn context(mut self, tokens: u64) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Tokens of the longest answer.
    #[must_use]
    pub const fn output(mut self, tokens: u64) -> Self {
        self.output = Some(tokens);
        self
    }

    /// What it charges.
    #[must_use]
    pub fn price(mut self, price: impl Into<Pricing>) -> Self {
        self.price = price.into();
        self
    }

    /// What tells it from another under the same name: a hash of the weights, a build. A quarantine holds for the
    /// content; who mends a version without a new name gives it a new revision.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// Its state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What it can do beyond text.
    pub const fn known_capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Tokens that fit in, where known.
    pub const fn context_limit(&self) -> Option<u64> {
        self.context
    }

    /// Tokens of the longest answer, where known.
    pub const fn output_limit(&self) -> Option<u64> {
        self.output
    }

    /// What it charges.
    pub const fn pricing(&self) -> &Pricing {
        &self.price
    }

    /// When it will be gone, in milliseconds since 1970; of a deprecated version only.
    pub const fn sunset_ms(&self) -> Option<u64> {
        self.sunset_ms
    }

    /// What to use instead: a `model@version`.
    pub fn replacement(&self) -> Option<&str> {
        self.replacement.as_deref()
    }
}

/// A place where a version runs: a provider, a region, and the host's name for the endpoint.
///
/// The endpoint is a reference that the host resolves to a [`Backend`](crate::Backend). It is no address, for
/// addresses carry keys, and snapshots are copied to many disks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    pub(super) version: String,
    pub(super) provider: String,
    pub(super) region: String,
    pub(super) endpoint: String,
    pub(super) residency: BTreeSet<String>,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
    pub(super) price: Pricing,
}

impl Placement {
    /// The weight of a placement that says none.
    pub const WEIGHT: u32 = 100;

    /// A placement of `version`, a `model@version`, at this provider, region and endpoint.
    pub fn new(
        version: impl Into<String>,
        provider: impl Into<String>,
        region: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Self {
        Self {
            version: version.into(),
            provider: provider.into(),
            region: region.into(),
            endpoint: endpoint.into(),
            residency: BTreeSet::new(),
            weight: Self::WEIGHT,
            priority: 0,
            requests_per_minute: None,
            tokens_per_minute: None,
            price: Pricing::Unknown,
        }
    }

    /// The jurisdictions whose data may be processed there.
    #[must_use]
    pub fn residency<S: Into<String>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        self.residency = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Its share beside the other placements of the version, relative to their weights; 0 drains it.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The lower, the earlier; default 0.
    #[must_use]
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// What the provider allows, per minute.
    #[must_use]
    pub const fn quota(mut self, requests: Option<u64>, tokens: Option<u64>) -> Self {
        self.requests_per_minute = requests;
        self.tokens_per_minute = tokens;
        self
    }

    /// What it charges there, where that is not the price of the version.
    #[must_use]
    pub fn price(mut self, price: impl Into<Pricing>) -> Self {
        self.price = price.into();
        self
    }

    /// The `model@version` that runs there.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Who runs it.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Where.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The host's name for the endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The jurisdictions whose data may be processed there.
    pub const fn residency_tags(&self) -> &BTreeSet<String> {
        &self.residency
    }

    /// Its relative weight.
    pub const fn relative_weight(&self) -> u32 {
        self.weight
    }

    /// Its rank: the lower, the earlier.
    pub const fn rank(&self) -> u32 {
        self.priority
    }

    /// Requests and tokens per minute that the provider allows, where known.
    pub const fn known_quota(&self) -> (Option<u64>, Option<u64>) {
        (self.requests_per_minute, self.tokens_per_minute)
    }

    /// Its own price; unknown where that of the version holds.
    pub const fn own_pricing(&self) -> &Pricing {
        &self.price
    }
}

/// By what a request keeps its bucket, and so its version, of an alias that splits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Sticky {
    /// The session; by tenant where there is none, and else by request.
    #[default]
    Session,
    /// The tenant; by request where there is none.
    Tenant,
    /// Nothing: each request draws.
    Request,
}

impl Sticky {
    pub(super) const ALL: [Self; 3] = [Self::Session, Self::Tenant, Self::Request];

    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Tenant => "tenant",
            Self::Request => "request",
        }
    }
}

/// A name that requests use: who serves it, in which shares, and who stands in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    pub(super) targets: Vec<(String, u32)>,
    pub(super) sticky: Sticky,
    pub(super) fallback: Vec<String>,
}

impl Alias {
    /// The whole of an alias, in the unit of its shares: basis points.
    pub const WHOLE: u32 = 10_000;
    /// How many aliases may stand one behind the other.
    pub const MAX_DEPTH: usize = 4;

    /// All of it to one target: a `model@version` or another alias.
    pub fn to(target: impl Into<String>) -> Self {
        Self::split([(target, Self::WHOLE)])
    }

    /// To each target its share in basis points; together 10,000.
    pub fn split<S: Into<String>>(targets: impl IntoIterator<Item = (S, u32)>) -> Self {
        let targets = targets.into_iter().map(|(target, share)| (target.into(), share)).collect();
        Self { targets, sticky: Sticky::default(), fallback: Vec::new() }
    }

    /// By what a request keeps its version.
    #[must_use]
    pub const fn sticky(mut self, sticky: Sticky) -> Self {
        self.sticky = sticky;
        self
    }

    /// Who stands in when nobody of it can serve, in this order.
    #[must_use]
    pub fn fallback<S: Into<String>>(mut self, chain: impl IntoIterator<Item = S>) -> Self {
        self.fallback = chain.into_iter().map(Into::into).collect();
        self
    }

    /// The targets with their shares in basis points.
    pub fn targets(&self) -> &[(String, u32)] {
        &self.targets
    }

    /// Who stands in.
    pub fn fallback_chain(&self) -> &[String] {
        &self.fallback
    }

    /// By what a request keeps its version.
    pub const fn stickiness(&self) -> Sticky {
        self.sticky
    }
}
