//! Price lists of others, as versions of models: lenient in what is read, strict in what comes out, and every entry is
//! accounted for.
//!
//! A list knows limits, prices and capabilities. It does not know where your endpoints are, nor which names your
//! requests use: placements and aliases are yours, put beside it with a [`Patch`](super::Patch).

mod date;
mod litellm;
mod models_dev;

pub use litellm::litellm;
pub use models_dev::models_dev;

use super::catalog::{Catalog, ModelVersion};
use super::fields::decimal;
use super::json::Json;
use super::violation::{Code, Path, Severity, Violation};
use crate::facts::Price;
use std::collections::BTreeMap;

/// The version of an entry whose name tells none.
const LISTED: &str = "listed";

/// What came of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Import {
    catalog: Catalog,
    accepted: usize,
    rejected: Vec<Violation>,
    warnings: Vec<Violation>,
}

impl Import {
    /// The entries that were taken, each a version of a model.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// How many were taken.
    pub const fn accepted(&self) -> usize {
        self.accepted
    }

    /// Those that were not, each with its place in the list and the reason.
    pub fn rejected(&self) -> &[Violation] {
        &self.rejected
    }

    /// Entries that were taken without the price that the list gives them, each with its place and the reason.
    pub fn warnings(&self) -> &[Violation] {
        &self.warnings
    }

    /// How many entries the list has.
    pub fn total(&self) -> usize {
        self.accepted + self.rejected.len()
    }

    /// Takes an entry, or notes why not.
    fn add(&mut self, path: Path, name: &str, entry: Result<(ModelVersion, Option<Violation>), Violation>) {
        let added = entry.and_then(|(what, warning)| {
            let (model, version) = split(name);
            let mut against = Catalog::new().version(&*model, &*version, what.clone()).check();
            against.retain(|violation| violation.severity() == Severity::Error);
            if let Some(first) = against.first() {
                return Err(Violation::new(first.code(), path.clone(), first.message()));
            }
            if self.catalog.models().get(&model).is_some_and(|model| model.versions().contains_key(&version)) {
                let message = format!("another entry is {model}@{version} as well");
                return Err(Violation::new(Code::DuplicateKey, path, message));
            }
            let models = &mut self.catalog.models;
            models.entry(model).or_default().versions.insert(version, what);
            self.accepted += 1;
            self.warnings.extend(warning);
            Ok(())
        });
        self.rejected.extend(added.err());
    }
}

/// The model and the version that a name means. Lists write `claude@20240620` for a dated version, and `@cf/…` for a
/// publisher.
fn split(name: &str) -> (String, String) {
    let parts: Vec<_> = name.split('/').map(|part| part.strip_prefix('@').unwrap_or(part)).collect();
    let name = parts.join("/");
    match name.rsplit_once('@') {
        Some((model, version)) if !version.is_empty() && !version.contains('/') => (model.into(), version.into()),
        _ => (name, LISTED.into()),
    }
}

/// The members of an object, or why it is none.
fn object<'j>(json: &'j Json, path: &Path) -> Result<&'j BTreeMap<Box<str>, Json>, Violation> {
    match json {
        Json::Object(members) => Ok(members),
        other => {
            Err(Violation::new(Code::WrongType, path.clone(), format!("expected an object, found {}", other.kind())))
        }
    }
}

/// A number times 10^`power`; none where it is missing or null.
fn number(entry: &BTreeMap<Box<str>, Json>, key: &str, power: i64, path: &Path) -> Result<Option<u64>, Violation> {
    match entry.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(json) => match decimal(json, power) {
            Ok(value) => Ok(Some(value)),
            Err((code, message)) => Err(Violation::new(code, path.then(key), message)),
        },
    }
}

/// Tokens; none where there are none, for a list writes 0 where it does not know.
fn tokens(entry: &BTreeMap<Box<str>, Json>, key: &str, path: &Path) -> Result<Option<u64>, Violation> {
    Ok(number(entry, key, 0, path)?.filter(|tokens| *tokens > 0))
}

fn flag(entry: &BTreeMap<Box<str>, Json>, key: &str) -> bool {
    matches!(entry.get(key), Some(Json::Bool(true)))
}

/// What prompts of more than so many tokens cost, as far as a list says.
#[derive(Clone, Copy, Default)]
struct Step {
    above: u64,
    input: Option<u64>,
    cached: Option<u64>,
    output: Option<u64>,
}

/// Prices by length of the prompt, or why those that the list gives are none.
fn price(steps: Vec<Step>, path: &Path) -> (Option<Price>, Option<Violation>) {
    let given = steps.iter().any(|step| step.input.is_some() || step.output.is_some());
    let price = whole(steps);
    let warning = (given && price.is_none()).then(|| {
        let message =
            "half a price, one that begins beyond the first token, or one that falls with the prompt's length";
        Violation::new(Code::PriceUnknown, path.clone(), message)
    });
    (price, warning)
}

/// Half a price is none: what the other half costs would be taken for nothing. Nor is one that begins beyond the first
/// token, or falls with the length of the prompt.
fn whole(mut steps: Vec<Step>) -> Option<Price> {
    steps.sort_by_key(|step| step.above);
    steps.dedup_by_key(|step| step.above);
    let (mut whole, mut last) = (None::<Price>, Step::default());
    for Step { above, input, cached, output } in steps {
        // A step that names one side keeps the others.
        let (input, cached, output) = (input.or(last.input), cached.or(last.cached), output.or(last.output));
        last = Step { above, input, cached, output };
        let price = Price::pico(input?, output?).cached_pico(cached.or(input)?.min(input?)).ok()?;
        whole = Some(match whole {
            None if above == 0 => price,
            lower => lower?.above(above, price).ok()?,
        });
    }
    whole
}
