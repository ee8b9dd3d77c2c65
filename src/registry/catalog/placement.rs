//! Where versions run.

use crate::facts::Price;
use std::collections::BTreeSet;

/// A place where a version runs: a provider, a region, and the host's name for the endpoint.
///
/// The endpoint is a reference that the host resolves to a [`Backend`](crate::Backend). It is no address, for
/// addresses carry keys, and snapshots are copied to many disks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    pub(in crate::registry) version: String,
    pub(in crate::registry) provider: String,
    pub(in crate::registry) region: String,
    pub(in crate::registry) endpoint: String,
    pub(in crate::registry) residency: BTreeSet<String>,
    pub(in crate::registry) weight: u32,
    pub(in crate::registry) priority: u32,
    pub(in crate::registry) requests_per_minute: Option<u64>,
    pub(in crate::registry) tokens_per_minute: Option<u64>,
    pub(in crate::registry) price: Option<Price>,
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
            price: None,
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
    pub fn price(mut self, price: Price) -> Self {
        self.price = Some(price);
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
    pub const fn own_price(&self) -> Option<&Price> {
        self.price.as_ref()
    }
}
