//! What a publication would change, and whether that is likelier a mistake.

use super::Placement;
use super::catalog::Catalog;
use super::violation::{Code, Path, Violation};
use crate::facts::Price;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What changes from one catalogue to the next, by path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diff {
    added: Vec<Path>,
    changed: Vec<Path>,
    removed: Vec<Path>,
}

impl Diff {
    pub(super) fn between(old: &Catalog, new: &Catalog) -> Self {
        let mut diff = Self::default();
        let versions = |catalog: &Catalog| -> BTreeMap<(String, String), _> {
            let models = catalog.models.iter();
            let of = models.flat_map(|(model, of)| {
                of.versions.iter().map(move |(version, what)| ((model.clone(), version.clone()), what.clone()))
            });
            of.collect()
        };
        diff.add(&versions(old), &versions(new), |(model, version)| Path::of(["models", model, "versions", version]));
        diff.add(&old.placements, &new.placements, |id| Path::of(["placements", id]));
        diff.add(&old.aliases, &new.aliases, |name| Path::of(["aliases", name]));
        diff
    }

    fn add<K: Ord, V: PartialEq>(&mut self, old: &BTreeMap<K, V>, new: &BTreeMap<K, V>, path: impl Fn(&K) -> Path) {
        self.removed.extend(old.keys().filter(|key| !new.contains_key(key)).map(&path));
        for (key, value) in new {
            match old.get(key) {
                None => self.added.push(path(key)),
                Some(before) if before != value => self.changed.push(path(key)),
                Some(_) => {}
            }
        }
    }

    /// What is new.
    pub fn added(&self) -> &[Path] {
        &self.added
    }

    /// What is there before and after, and differs.
    pub fn changed(&self) -> &[Path] {
        &self.changed
    }

    /// What goes.
    pub fn removed(&self) -> &[Path] {
        &self.removed
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, paths) in [('+', &self.added), ('~', &self.changed), ('-', &self.removed)] {
            paths.iter().try_for_each(|path| writeln!(f, "{sign} {path}"))?;
        }
        Ok(())
    }
}

/// The change guards: what is valid and likelier a mistake than meant.
pub(super) fn guards(old: &Catalog, new: &Catalog) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut note = |code, path, message: String| found.push(Violation::new(code, path, message));

    // A model without versions is none.
    let has = |catalog: &Catalog, name: &String| catalog.models.get(name).is_some_and(|it| !it.versions.is_empty());
    let models = || old.models.keys().filter(|name| has(old, name));
    let (all, gone) = (models().count(), models().filter(|name| !has(new, name)).count());
    if gone * 5 > all {
        note(Code::ModelsRemoved, Path::of(["models"]), format!("{gone} of {all} models would go"));
    }

    let moved = |(id, before): &(&String, &Placement)| new.placements.get(*id) != Some(*before);
    let moved = old.placements.iter().filter(moved).count();
    if moved * 2 > old.placements.len() {
        let message = format!("{moved} of {} placements would change", old.placements.len());
        note(Code::PlacementsChanged, Path::of(["placements"]), message);
    }

    let tags = |catalog: &Catalog| -> BTreeSet<String> {
        let served = catalog.placements.values().filter(|placement| placement.weight > 0);
        served.flat_map(|placement| placement.residency.iter().cloned()).collect()
    };
    for tag in tags(old).difference(&tags(new)) {
        let message = format!("the last placement tagged {tag} would go");
        note(Code::ResidencyLost, Path::of(["placements"]), message);
    }

    for (model, of) in &new.models {
        for (version, after) in &of.versions {
            let Some(before) = old.models.get(model).and_then(|of| of.versions.get(version)) else { continue };
            let path = Path::of(["models", model, "versions", version]);
            if !before.state.leads_to(after.state) {
                note(Code::StateJump, path.then("state"), format!("{} does not lead to {}", before.state, after.state));
            }
            if !before.state.is_served() {
                continue;
            }
            if jumps(before.price.as_ref(), after.price.as_ref()) {
                note(Code::PriceJump, path.then("price"), "ten times as much or as little".to_owned());
            }
            if let (Some(was), Some(is)) = (before.context, after.context)
                && is <= was / 2
            {
                note(Code::ContextHalved, path.then("context"), format!("from {was} to {is} tokens"));
            }
        }
    }
    for (id, after) in &new.placements {
        let Some(before) = old.placements.get(id) else { continue };
        let served = old.find(&before.version).is_some_and(|version| version.state.is_served());
        // Where both take the price of one version, that was looked at.
        let own = before.price.is_some() || after.price.is_some() || before.version != after.version;
        if served && own && jumps(charged(old, before), charged(new, after)) {
            note(Code::PriceJump, Path::of(["placements", id, "price"]), "ten times as much or as little".to_owned());
        }
    }
    found
}

/// What is paid at a placement: its own price, or that of the version.
fn charged<'c>(catalog: &'c Catalog, placement: &'c Placement) -> Option<&'c Price> {
    placement.price.as_ref().or_else(|| catalog.find(&placement.version)?.price.as_ref())
}

/// Whether a price rises or falls tenfold or more for a prompt of any length. From nothing to something is more than
/// tenfold; a price that becomes known, or unknown, is no jump.
fn jumps(before: Option<&Price>, after: Option<&Price>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let mut lengths = before.tiers().chain(after.tiers()).map(|(above, _)| above.saturating_add(1));
    lengths.any(|tokens| {
        let (was, is) = (before.at(tokens), after.at(tokens));
        let jump = |was: u64, is: u64| was.max(is) > 0 && was.max(is) >= was.min(is).saturating_mul(10);
        jump(was.input(), is.input()) || jump(was.output(), is.output())
    })
}
