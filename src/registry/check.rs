//! Whether a catalogue makes sense by itself.

use super::catalog::{Alias, Catalog, ModelVersion, State};
use super::violation::{Code, Findings, Path, Violation};
use crate::facts::Price;
use std::collections::{BTreeMap, BTreeSet};

/// The longest name.
const MAX_NAME: usize = 128;
/// The highest price: a dollar a token. Beyond it lies a mistake in the unit.
const MAX_PRICE: u64 = 1_000_000_000_000;
/// The largest window or answer that is believed, in tokens.
const MAX_TOKENS: u64 = 1 << 40;
/// Models, versions, placements, aliases: so many of each.
const MAX_ENTRIES: usize = 100_000;

impl Catalog {
    /// Everything that is wrong with it, as far as [`Nack::TOLD`](super::Nack::TOLD) goes. Guards need something to compare with and are not among it; see
    /// [`Registry::validate`](super::Registry::validate).
    pub fn check(&self) -> Vec<Violation> {
        let mut check = Check { catalog: self, found: Findings::default() };
        check.sizes();
        check.models();
        let places = check.placements();
        check.aliases(&places);
        check.found.into()
    }
}

/// Whether `name` can be used: ASCII only, so that two names that look alike are alike.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
    name.len() <= MAX_NAME && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(inner)
}

struct Check<'c> {
    catalog: &'c Catalog,
    found: Findings,
}

impl<'c> Check<'c> {
    fn note(&mut self, code: Code, path: Path, message: impl Into<String>) {
        self.found.push(Violation::new(code, path, message));
    }

    fn name(&mut self, name: &str, path: impl FnOnce() -> Path) {
        if !is_name(name) {
            self.note(
                Code::InvalidId,
                path(),
                "a name has 1 to 128 of A-Z a-z 0-9 . _ : / @ + - and begins with one of the first",
            );
        }
    }

    fn sizes(&mut self) {
        let catalog = self.catalog;
        for (what, count) in [
            ("models", catalog.models.values().map(|model| model.versions.len().max(1)).sum()),
            ("placements", catalog.placements.len()),
            ("aliases", catalog.aliases.len()),
        ] {
            if count > MAX_ENTRIES {
                self.note(Code::OutOfRange, Path::of([what]), format!("{count} entries of at most {MAX_ENTRIES}"));
            }
        }
    }

    fn models(&mut self) {
        for (name, model) in &self.catalog.models {
            self.name(name, || Path::of(["models", name]));
            for (version, what) in &model.versions {
                let path = Path::of(["models", name, "versions", version]);
                // The last @ ends the model's name.
                if !is_name(version) || version.contains('@') {
                    self.note(Code::InvalidId, path.clone(), "a version's name is a name without @");
                }
                self.version(what, &format!("{name}@{version}"), &path);
            }
        }
    }

    fn version(&mut self, version: &ModelVersion, full: &str, path: &Path) {
        for (key, tokens) in [("context", version.context), ("output", version.output)] {
            if tokens.is_some_and(|tokens| tokens > MAX_TOKENS || (tokens == 0 && key == "context")) {
                self.note(Code::OutOfRange, path.then(key), "not a number of tokens; leave it out if it is unknown");
            }
        }
        if let (Some(context), Some(output)) = (version.context, version.output)
            && output > context
        {
            let message = format!("an answer of {output} tokens in a window of {context}");
            self.note(Code::InconsistentLimits, path.then("output"), message);
        }
        self.price(version.price.as_ref(), path);
        if let Some(revision) = &version.revision {
            self.name(revision, || path.then("revision"));
        }
        let deprecated = matches!(version.state, State::Deprecated | State::Retired | State::Quarantined);
        if !deprecated && (version.sunset_ms.is_some() || version.replacement.is_some()) {
            self.note(Code::NotDeprecated, path.clone(), "only a deprecated version has a sunset or a replacement");
        }
        if let Some(replacement) = &version.replacement
            && (replacement == full || self.catalog.find(replacement).is_none())
        {
            self.note(Code::UnknownVersion, path.then("replacement"), "not another version of this catalogue");
        }
    }

    fn price(&mut self, price: Option<&Price>, path: &Path) {
        if price.is_some_and(|price| price.tiers().any(|(_, price)| price.input().max(price.output()) > MAX_PRICE)) {
            self.note(Code::OutOfRange, path.then("price"), "more than a dollar per token");
        }
    }

    /// Checks the placements. Returns the versions that run somewhere.
    fn placements(&mut self) -> BTreeSet<&'c str> {
        let mut places = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (id, placement) in &self.catalog.placements {
            let path = Path::of(["placements", id]);
            self.name(id, || path.clone());
            for (key, name) in
                [("provider", &placement.provider), ("region", &placement.region), ("endpoint", &placement.endpoint)]
            {
                self.name(name, || path.then(key));
            }
            for tag in &placement.residency {
                self.name(tag, || path.then("residency"));
            }
            if ["://", "@"].iter().any(|mark| placement.endpoint.contains(mark)) {
                self.note(
                    Code::EndpointIsAddress,
                    path.then("endpoint"),
                    "a name that the host resolves, not an address",
                );
            }
            if self.catalog.find(&placement.version).is_none() {
                self.note(Code::UnknownVersion, path.then("version"), "no such version");
            }
            for (key, quota) in [
                ("requests_per_minute", placement.requests_per_minute),
                ("tokens_per_minute", placement.tokens_per_minute),
            ] {
                if quota == Some(0) {
                    self.note(Code::OutOfRange, path.then(key), "a quota of nothing; a weight of 0 drains");
                }
            }
            self.price(placement.price.as_ref(), &path);
            if !seen.insert((&placement.version, &placement.provider, &placement.region, &placement.endpoint)) {
                self.note(Code::DuplicatePlacement, path, "another placement is the same");
            }
            if placement.weight > 0 {
                places.insert(&*placement.version);
            }
        }
        places
    }

    fn aliases(&mut self, places: &BTreeSet<&str>) {
        let depths = depths(self.catalog);
        for (name, alias) in &self.catalog.aliases {
            let path = Path::of(["aliases", name]);
            self.name(name, || path.clone());
            if self.catalog.find(name).is_some() {
                self.note(Code::AmbiguousName, path.clone(), "also the full name of a version");
            }
            // A sum of shares of 32 bits each; as many as there are fit.
            let sum: u64 = alias.targets.iter().map(|(_, share)| u64::from(*share)).sum();
            if sum != u64::from(Alias::WHOLE) {
                self.note(Code::SplitSum, path.then("targets"), format!("shares of {sum} basis points, not 10000"));
            }
            self.targets(alias, places, &path);
            self.chain(name, alias, &path);
            match depths.get(&**name) {
                None => self.note(Code::AliasCycle, path, "leads into a cycle"),
                Some(depth) if *depth > Alias::MAX_DEPTH => {
                    self.note(Code::AliasTooDeep, path, format!("{depth} aliases one behind the other"));
                }
                Some(_) => {}
            }
        }
    }

    fn targets(&mut self, alias: &Alias, places: &BTreeSet<&str>, path: &Path) {
        let mut seen = BTreeSet::new();
        for (n, (target, share)) in alias.targets.iter().enumerate() {
            let at = || path.then("targets").then(&n.to_string());
            if !seen.insert(target) {
                self.note(Code::DuplicateTarget, at(), "the same target twice");
            }
            let Some(version) = self.catalog.find(target) else {
                if !self.catalog.aliases.contains_key(target) {
                    self.note(Code::UnknownTarget, at(), "neither an alias nor a version");
                }
                continue;
            };
            // Quarantined versions stay where they are: their share goes to the others.
            if !(version.state.is_served() || *share == 0 || version.state == State::Quarantined) {
                self.note(Code::NotServable, at(), format!("a version that is {}", version.state));
            }
            if *share > 0 && !places.contains(&**target) {
                self.note(Code::NoPlacement, at(), "a version that runs nowhere");
            }
        }
    }

    fn chain(&mut self, name: &str, alias: &Alias, path: &Path) {
        let mut seen = BTreeSet::new();
        for (n, target) in alias.fallback.iter().enumerate() {
            let at = || path.then("fallback").then(&n.to_string());
            if target == name {
                self.note(Code::AliasCycle, at(), "stands in for itself");
            } else if !self.catalog.aliases.contains_key(target) && self.catalog.find(target).is_none() {
                self.note(Code::UnknownTarget, at(), "neither an alias nor a version");
            }
            if !seen.insert(target) {
                self.note(Code::DuplicateTarget, at(), "the same target twice");
            }
        }
    }
}

/// How many aliases stand one behind the other from each on, itself included. Those that lead into a cycle are missing:
/// from the ends on, each alias is reached when all behind it were (Kahn's algorithm), and a cycle has no end.
fn depths(catalog: &Catalog) -> BTreeMap<&str, usize> {
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut waits: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, alias) in &catalog.aliases {
        let behind: BTreeSet<_> = alias.targets.iter().map(|(target, _)| &**target).collect();
        let behind = behind.into_iter().filter(|target| catalog.aliases.contains_key(*target));
        waits.insert(name, behind.map(|target| users.entry(target).or_default().push(name)).count());
    }
    let mut depths = BTreeMap::new();
    let mut ready: Vec<&str> = waits.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        let behind = catalog.aliases[name].targets.iter().filter_map(|(target, _)| depths.get(&**target)).max();
        depths.insert(name, 1 + behind.copied().unwrap_or(0));
        for user in users.remove(name).unwrap_or_default() {
            let count = waits.entry(user).or_default();
            *count -= 1;
            if *count == 0 {
                ready.push(user);
            }
        }
    }
    depths
}
