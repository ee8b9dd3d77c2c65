//! What was published, by whom, and when.

use super::Digest;
use super::catalog::Catalog;
use super::fields::Fields;
use super::json::Json;
use super::ledger::digest;
use super::snapshot::Snapshot;
use super::violation::{Code, Findings, Nack, Path};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    generation: u64,
    at_ms: u64,
    cause: String,
    /// The publisher's key and serial.
    origin: Option<(String, u64)>,
    snapshot: Arc<Snapshot>,
}

impl Record {
    pub(super) const fn new(
        generation: u64,
        at_ms: u64,
        cause: String,
        origin: Option<(String, u64)>,
        snapshot: Arc<Snapshot>,
    ) -> Self {
        Self { generation, at_ms, cause, origin, snapshot }
    }

    /// Its generation.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// When it was published.
    pub fn at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.at_ms)
    }

    /// What was done, in words; with the reason where it was forced.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// The publisher's key and serial, where it came from one.
    pub fn origin(&self) -> Option<(&str, u64)> {
        self.origin.as_ref().map(|(key, serial)| (&**key, *serial))
    }

    /// The content.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The identity of the content.
    pub fn digest(&self) -> Digest {
        self.snapshot.digest()
    }

    pub(super) fn to_json(&self) -> Json {
        let origin = match &self.origin {
            Some((key, serial)) => Json::object([("key", (&**key).into()), ("serial", (*serial).into())]),
            None => Json::Null,
        };
        Json::object([
            ("at_ms", self.at_ms.into()),
            ("catalog", self.snapshot.catalog().to_json()),
            ("cause", (&*self.cause).into()),
            ("digest", (&*self.digest().to_string()).into()),
            ("generation", self.generation.into()),
            ("origin", origin),
        ])
    }

    pub(super) fn from_json(json: &Json) -> Result<Self, Nack> {
        let mut found = Findings::default();
        let mut fields = Fields::open(json, &Path::root(), &mut found);
        let catalog = fields.take("catalog").unwrap_or(&Json::Null);
        let told = fields.must("digest", &mut found);
        let told = digest(&told, &Path::of(["digest"]), &mut found);
        let origin = fields.take("origin").filter(|origin| **origin != Json::Null).map(|json| {
            let mut origin = Fields::open(json, &Path::of(["origin"]), &mut found);
            let read = (origin.must("key", &mut found), origin.integer("serial", &mut found).unwrap_or(0));
            origin.done(&mut found);
            read
        });
        let (generation, at_ms) = (fields.integer("generation", &mut found), fields.integer("at_ms", &mut found));
        let cause = fields.must("cause", &mut found);
        fields.done(&mut found);
        if !found.is_empty() {
            return Err(found.into());
        }
        let snapshot = Snapshot::new(Catalog::from_json(catalog, &Path::of(["catalog"]))?)?;
        if told != Some(snapshot.digest()) {
            return Err(Nack::one(Code::DigestMismatch, Path::of(["digest"]), "not the digest of the content"));
        }
        let snapshot = Arc::new(snapshot);
        Ok(Self { generation: generation.unwrap_or(0), at_ms: at_ms.unwrap_or(0), cause, origin, snapshot })
    }
}
