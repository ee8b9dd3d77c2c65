//! What takes no requests other than by its profile, and what was placed by a registry.

use std::collections::{BTreeMap, BTreeSet};

/// Carried from one generation to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aside {
    /// Regions whose backends are drained, whatever their profiles say.
    pub(crate) evacuated: BTreeSet<String>,
    /// The backends that a registry placed, by id.
    pub(crate) placed: BTreeMap<String, Placed>,
}

/// A backend that a registry placed.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "registry"), allow(dead_code))]
pub(crate) struct Placed {
    pub(crate) version: String,
    pub(crate) endpoint: String,
    pub(crate) rank: u32,
    /// It takes no requests, by the registry's word.
    pub(crate) idle: bool,
}

impl Aside {
    /// Whether the backend of this id takes no requests, in this region.
    pub(super) fn stops(&self, id: &str, region: &str) -> bool {
        self.evacuated.contains(region) || self.placed.get(id).is_some_and(|placed| placed.idle)
    }
}
