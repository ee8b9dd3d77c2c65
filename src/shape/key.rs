//! [`Key`]: whose requests count together.

use crate::facts::Facts;
use crate::rng::hash_keyed;

/// What of a request says with which others it counts: nothing for all together, its tenant, labels, or several of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Key(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Tenant,
    Label(String),
}

impl Key {
    pub(super) fn add_tenant(&mut self) {
        self.0.push(Part::Tenant);
    }

    pub(super) fn add_label(&mut self, label: String) {
        self.0.push(Part::Label(label));
    }

    /// Whether all requests have the same.
    pub(super) const fn is_one(&self) -> bool {
        self.0.is_empty()
    }

    /// Under which number a request counts. Nobody can tell who does not know the salt.
    pub(super) fn of(&self, facts: &Facts, salt: u64) -> u64 {
        self.0.iter().fold(salt, |hash, part| {
            let value = match part {
                Part::Tenant => facts.request_tenant(),
                Part::Label(label) => facts.label_value(label),
            };
            hash_keyed(hash, value)
        })
    }

    /// That of requests with these values, one for each part.
    pub(super) fn of_values(values: &[String], salt: u64) -> u64 {
        values.iter().fold(salt, |hash, value| hash_keyed(hash, Some(value)))
    }

    /// What is wrong with the keys that are named.
    pub(super) fn mistake(&self, named: &[&[String]]) -> Option<String> {
        let parts = self.0.len();
        let wrong = |(at, key): (usize, &&[String])| {
            if key.len() != parts || key.is_empty() {
                return Some(format!("key {key:?} has {} values for {parts} parts", key.len()));
            }
            named[..at].contains(key).then(|| format!("key {key:?} is given twice"))
        };
        named.iter().enumerate().find_map(wrong)
    }
}
