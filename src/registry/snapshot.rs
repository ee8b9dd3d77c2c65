//! Content that has been found good.

use super::Digest;
use super::catalog::Catalog;
use super::violation::{Nack, Severity, Violation};

/// A catalogue that was checked, with its identity. It never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    catalog: Catalog,
    digest: Digest,
}

/// Nothing at all.
impl Default for Snapshot {
    fn default() -> Self {
        let catalog = Catalog::new();
        Self { digest: catalog.digest(), catalog }
    }
}

impl Snapshot {
    /// Checks `catalog`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn new(catalog: Catalog) -> Result<Self, Nack> {
        let found = catalog.check();
        if found.iter().any(|violation| violation.severity() == Severity::Error) {
            return Err(found.into());
        }
        let bytes = catalog.to_bytes();
        // What cannot be read back cannot be kept: too large, or a mistake of ours.
        Catalog::parse(&bytes)?;
        Ok(Self { digest: Digest::of(&bytes), catalog })
    }

    /// Reads and checks a document.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Nack> {
        Self::new(Catalog::parse(bytes)?)
    }

    /// What it says.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The SHA-256 of its [canonical bytes](Catalog::to_bytes).
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What is not wrong and worth a look at `now_ms`, milliseconds since 1970.
    pub(super) fn warnings(&self, now_ms: u64) -> Vec<Violation> {
        use super::violation::{Code, Path};
        let mut found = Vec::new();
        for (model, of) in &self.catalog.models {
            for (version, what) in of.versions.iter().filter(|(_, what)| what.state.is_served()) {
                let path = || Path::of(["models", model, "versions", version]);
                if what.price.is_none() {
                    found.push(Violation::new(Code::PriceUnknown, path().then("price"), "no cap on costs can be kept"));
                }
                if what.sunset_ms.is_some_and(|sunset| sunset <= now_ms) {
                    found.push(Violation::new(Code::SunsetDue, path().then("sunset_ms"), "served beyond its sunset"));
                }
            }
        }
        found
    }
}
