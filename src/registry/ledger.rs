//! What lies beside the content and must survive a restart: how far generations have come, what each publisher has
//! published last, pins, quarantines, rollbacks.

use super::Digest;
use super::fields::{Fields, entries, integer, items};
use super::json::Json;
use super::violation::{Code, Findings, Nack, Path, Violation};
use std::collections::BTreeMap;

/// An alias that an operator holds at one version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pin {
    pub(super) version: String,
    pub(super) until_ms: u64,
}

/// A version's content that is out of traffic until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quarantine {
    pub(super) until_ms: u64,
    /// How often it was quarantined: each time for twice as long.
    pub(super) strikes: u32,
    /// Whether it is over; kept for the count.
    pub(super) released: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ledger {
    /// The last generation that was given out.
    pub(super) generation: u64,
    /// By publisher, the last serial and what it was.
    pub(super) serials: BTreeMap<String, (u64, Digest)>,
    pub(super) pins: BTreeMap<String, Pin>,
    pub(super) quarantines: BTreeMap<Digest, Quarantine>,
    /// When versions were rolled back by themselves, in milliseconds since 1970.
    pub(super) rollbacks: Vec<u64>,
    pub(super) frozen: bool,
}

impl Ledger {
    pub(super) fn is_quarantined(&self, digest: &Digest) -> bool {
        self.quarantines.get(digest).is_some_and(|quarantine| !quarantine.released)
    }

    pub(super) fn pin(&self, alias: &str) -> Option<&str> {
        self.pins.get(alias).map(|pin| &*pin.version)
    }

    /// Notes the serial of a publisher, unless a later one is known.
    pub(super) fn note(&mut self, key: &str, serial: u64, digest: Digest) {
        let known = self.serials.entry(key.to_owned()).or_insert((serial, digest));
        if known.0 < serial {
            *known = (serial, digest);
        }
    }

    pub(super) fn to_json(&self) -> Json {
        fn map<'a, T: 'a>(of: impl Iterator<Item = (String, T)>, to_json: impl Fn(T) -> Json) -> Json {
            Json::Object(of.map(|(key, value)| (key.into(), to_json(value))).collect())
        }
        Json::object([
            ("frozen", Json::Bool(self.frozen)),
            ("generation", self.generation.into()),
            (
                "pins",
                map(self.pins.iter().map(|(alias, pin)| (alias.clone(), pin)), |pin| {
                    Json::object([("until_ms", pin.until_ms.into()), ("version", (&*pin.version).into())])
                }),
            ),
            (
                "quarantines",
                map(self.quarantines.iter().map(|(digest, one)| (digest.to_string(), one)), |one| {
                    Json::object([
                        ("released", Json::Bool(one.released)),
                        ("strikes", u64::from(one.strikes).into()),
                        ("until_ms", one.until_ms.into()),
                    ])
                }),
            ),
            ("rollbacks", Json::List(self.rollbacks.iter().map(|at| Json::from(*at)).collect())),
            (
                "serials",
                map(self.serials.iter().map(|(key, last)| (key.clone(), last)), |(serial, digest)| {
                    Json::object([("digest", (&*digest.to_string()).into()), ("serial", (*serial).into())])
                }),
            ),
        ])
    }

    pub(super) fn from_json(json: &Json) -> Result<Self, Nack> {
        let mut found = Findings::default();
        let root = Path::root();
        let mut fields = Fields::open(json, &root, &mut found);
        let mut ledger = Self {
            generation: fields.integer("generation", &mut found).unwrap_or(0),
            frozen: flag(&mut fields, "frozen", &mut found),
            ..Self::default()
        };
        for (name, _, mut pin) in objects(&mut fields, "pins", &mut found) {
            let version = pin.must("version", &mut found);
            let until_ms = pin.integer("until_ms", &mut found).unwrap_or(0);
            pin.done(&mut found);
            ledger.pins.insert(name.to_owned(), Pin { version, until_ms });
        }
        for (name, path, mut one) in objects(&mut fields, "quarantines", &mut found) {
            let quarantine = Quarantine {
                until_ms: one.integer("until_ms", &mut found).unwrap_or(0),
                strikes: one.small("strikes", &mut found).unwrap_or(0),
                released: flag(&mut one, "released", &mut found),
            };
            one.done(&mut found);
            ledger.quarantines.extend(digest(name, &path, &mut found).map(|digest| (digest, quarantine)));
        }
        for (name, path, mut last) in objects(&mut fields, "serials", &mut found) {
            let serial = last.integer("serial", &mut found).unwrap_or(0);
            let what = last.must("digest", &mut found);
            last.done(&mut found);
            let what = digest(&what, &path.then("digest"), &mut found);
            ledger.serials.extend(what.map(|digest| (name.to_owned(), (serial, digest))));
        }
        if let Some(list) = fields.take("rollbacks") {
            for (path, item) in items(list, &Path::of(["rollbacks"]), &mut found) {
                ledger.rollbacks.extend(integer(item, &path, &mut found));
            }
        }
        fields.done(&mut found);
        if found.is_empty() { Ok(ledger) } else { Err(found.into()) }
    }
}

fn flag(fields: &mut Fields<'_>, key: &str, found: &mut Findings) -> bool {
    match fields.take(key) {
        Some(Json::Bool(value)) => *value,
        _ => {
            found.push(Violation::new(Code::WrongType, fields.path(key), "expected a boolean"));
            false
        }
    }
}

/// The members of the object under `key`, each opened.
fn objects<'j>(fields: &mut Fields<'j>, key: &str, found: &mut Findings) -> Vec<(&'j str, Path, Fields<'j>)> {
    let path = fields.path(key);
    let Some(json) = fields.take(key) else { return Vec::new() };
    let entries: Vec<_> = entries(json, &path, found).collect();
    let open = |(name, json)| {
        let path = path.then(name);
        let fields = Fields::open(json, &path, found);
        (name, path, fields)
    };
    entries.into_iter().map(open).collect()
}

pub(super) fn digest(text: &str, path: &Path, found: &mut Findings) -> Option<Digest> {
    let digest = text.parse().ok();
    if digest.is_none() {
        found.push(Violation::new(Code::WrongType, path.clone(), "expected a digest"));
    }
    digest
}
