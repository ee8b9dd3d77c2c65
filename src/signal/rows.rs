//! What a signal keeps of each backend.

use crate::backend::BackendId;
use crate::facts::Profile;
use crate::time::Instant;
use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::Arc;

/// One row for each backend of the fleet: read without a lock, replaced when the fleet changes. The key is the whole id,
/// so a newcomer in the slot of another begins with an empty row, and no id, however odd, makes the table grow.
pub(super) struct Rows<T>(ArcSwap<FxHashMap<BackendId, T>>);

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(FxHashMap::default()))
    }
}

impl<T> Rows<T> {
    /// The fleet is this from now on; `row` makes a row, from the one before where the backend stays.
    pub(super) fn follow(&self, fleet: &[(BackendId, Arc<Profile>)], row: impl Fn(&Arc<Profile>, Option<&T>) -> T) {
        let old = self.0.load();
        let rows = fleet.iter().map(|(id, profile)| (*id, row(profile, old.get(id))));
        self.0.store(Arc::new(rows.collect()));
    }

    /// What `use_it` makes of the row; `None` where the fleet has no such backend.
    pub(super) fn with<R>(&self, backend: BackendId, use_it: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.load().get(&backend).map(use_it)
    }

    /// The latest moment that a row tells.
    pub(super) fn latest(&self, moment: impl FnMut(&T) -> Option<Instant>) -> Option<Instant> {
        self.0.load().values().filter_map(moment).max()
    }

    pub(super) fn each(&self, mut use_it: impl FnMut(BackendId, &T)) {
        self.0.load().iter().for_each(|(id, row)| use_it(*id, row));
    }
}

impl<T: Clone> Rows<T> {
    /// Changes all rows in one step.
    pub(super) fn update(&self, change: impl Fn(&mut T)) {
        let mut rows = FxHashMap::clone(&self.0.load());
        rows.values_mut().for_each(change);
        self.0.store(Arc::new(rows));
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} backends", self.0.load().len())
    }
}
