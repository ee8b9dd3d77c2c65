//! Reading an object field by field, noting everything that is wrong and where.

use super::decimal::{Unusable, scaled};
use super::json::Json;
use super::violation::{Code, Findings, Path, Violation};
use std::collections::BTreeMap;

/// One object being read. What is not asked for is unknown, and said so at the end.
pub(super) struct Fields<'j> {
    members: BTreeMap<&'j str, &'j Json>,
    path: Path,
}

impl<'j> Fields<'j> {
    /// `json` as an object; noted where it is none.
    pub(super) fn open(json: &'j Json, path: &Path, found: &mut Findings) -> Self {
        Self { members: entries(json, path, found).collect(), path: path.clone() }
    }

    pub(super) fn path(&self, key: &str) -> Path {
        self.path.then(key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<&'j Json> {
        self.members.remove(key)
    }

    pub(super) fn text(&mut self, key: &str, found: &mut Findings) -> Option<String> {
        text(self.take(key)?, &self.path(key), found)
    }

    /// Text that must be there; empty, and noted, where it is not.
    pub(super) fn must(&mut self, key: &str, found: &mut Findings) -> String {
        match self.take(key) {
            Some(json) => text(json, &self.path(key), found).unwrap_or_default(),
            None => {
                found.push(Violation::new(Code::Missing, self.path(key), "must be given"));
                String::new()
            }
        }
    }

    pub(super) fn integer(&mut self, key: &str, found: &mut Findings) -> Option<u64> {
        integer(self.take(key)?, &self.path(key), found)
    }

    /// An integer of 32 bits.
    pub(super) fn small(&mut self, key: &str, found: &mut Findings) -> Option<u32> {
        let value = self.integer(key, found)?;
        let small = u32::try_from(value);
        if small.is_err() {
            found.push(Violation::new(Code::OutOfRange, self.path(key), format!("{value} is too large")));
        }
        small.ok()
    }

    /// The texts of a list.
    pub(super) fn texts(&mut self, key: &str, found: &mut Findings) -> Vec<String> {
        let path = self.path(key);
        let Some(json) = self.take(key) else { return Vec::new() };
        let mut texts = Vec::new();
        for (at, item) in items(json, &path, found) {
            texts.extend(text(item, &at, found));
        }
        texts
    }

    /// Notes what nobody asked for.
    pub(super) fn done(self, found: &mut Findings) {
        for key in self.members.keys() {
            found.push(Violation::new(Code::UnknownField, self.path.then(key), "a field that nobody knows"));
        }
    }
}

fn wrong(expected: &str, json: &Json, path: &Path) -> Violation {
    Violation::new(Code::WrongType, path.clone(), format!("expected {expected}, found {}", json.kind()))
}

/// The members of an object; none, and noted, where it is something else.
pub(super) fn entries<'j>(
    json: &'j Json,
    path: &Path,
    found: &mut Findings,
) -> impl Iterator<Item = (&'j str, &'j Json)> + use<'j> {
    let members = match json {
        Json::Object(members) => Some(members),
        other => {
            found.push(wrong("an object", other, path));
            None
        }
    };
    members.into_iter().flatten().map(|(key, value)| (&**key, value))
}

/// The items of a list, each with its place; none, and noted, where it is something else.
pub(super) fn items<'j>(json: &'j Json, path: &Path, found: &mut Findings) -> Vec<(Path, &'j Json)> {
    match json {
        Json::List(items) => (0..).zip(items).map(|(n, item): (usize, _)| (path.then(&n.to_string()), item)).collect(),
        other => {
            found.push(wrong("a list", other, path));
            Vec::new()
        }
    }
}

pub(super) fn text(json: &Json, path: &Path, found: &mut Findings) -> Option<String> {
    match json {
        Json::Text(text) => Some((**text).to_owned()),
        other => {
            found.push(wrong("text", other, path));
            None
        }
    }
}

/// An integer in plain digits: `1.0` and `1e3` would be second spellings of the same document.
pub(super) fn integer(json: &Json, path: &Path, found: &mut Findings) -> Option<u64> {
    let Json::Number(number) = json else {
        found.push(wrong("an integer", json, path));
        return None;
    };
    let (code, message) = match number.parse::<u64>() {
        Ok(value) if **number == *value.to_string() => return Some(value),
        _ => match scaled(number, 0) {
            _ if number.contains(['.', 'e', 'E']) => (Code::WrongType, "an integer in plain digits is expected"),
            Err(Unusable::TooLarge) => (Code::OutOfRange, "larger than 64 bits hold"),
            _ => (Code::Negative, "negative"),
        },
    };
    found.push(Violation::new(code, path.clone(), message));
    None
}

/// `number` times 10^`power`, to the nearest integer.
pub(super) fn decimal(json: &Json, power: i64) -> Result<u64, (Code, String)> {
    let Json::Number(number) = json else {
        return Err((Code::WrongType, format!("expected a number, found {}", json.kind())));
    };
    scaled(number, power).map_err(|unusable| match unusable {
        Unusable::Negative => (Code::Negative, "negative".to_owned()),
        Unusable::TooLarge => (Code::OutOfRange, "larger than 64 bits hold".to_owned()),
    })
}
