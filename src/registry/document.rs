//! A catalogue as JSON: its canonical bytes, and the way back.
//!
//! There is one format for files that people write, for what travels, and for what is hashed: JSON with integers
//! only, where the canonical form has its keys in order and no white space. Reading is strict; what nobody knows is
//! an error, for it is more likely a misspelt field than one to ignore.

use super::Digest;
use super::catalog::{Alias, Catalog, Model, ModelVersion, Placement, State};
use super::fields::{Fields, entries, integer, items, text};
use super::json::{self, Json};
use super::violation::{Code, Findings, Nack, Path, Violation};
use crate::facts::{Capabilities, InvalidPrice, Price};
use crate::shape::Sticky;
use std::collections::BTreeMap;

impl Catalog {
    /// Reads a document. Only its form is looked at; whether it makes sense says [`Catalog::check`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its form, each with its place.
    ///
    /// ```
    /// use fallway::registry::{Catalog, Code};
    /// let nack = Catalog::parse(br#"{"models": {"m": {"versions": {"1": {"state": "live", "context": -5}}}}}"#).unwrap_err();
    /// assert_eq!(nack.violations()[0].code(), Code::Negative);
    /// assert_eq!(nack.violations()[0].path().as_str(), "/models/m/versions/1/context");
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, Nack> {
        Self::from_json(&json::parse(bytes)?, &Path::root())
    }

    pub(super) fn from_json(json: &Json, path: &Path) -> Result<Self, Nack> {
        let mut found = Findings::default();
        let catalog = catalog(json, path, &mut found);
        if found.is_empty() { Ok(catalog) } else { Err(found.into()) }
    }

    /// The canonical bytes: what is hashed, kept and sent. Equal catalogues have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_json().to_bytes()
    }

    /// The identity of the content.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    pub(super) fn to_json(&self) -> Json {
        Json::object([
            ("aliases", map(&self.aliases, alias_to_json)),
            ("models", map(&self.models, |model| Json::object([("versions", map(&model.versions, version_to_json))]))),
            ("placements", map(&self.placements, placement_to_json)),
        ])
    }
}

impl ModelVersion {
    /// The identity of what is served under the name `full`: all but the state, the price and the sunset, so that
    /// none of them lifts a quarantine.
    pub(super) fn digest(&self, full: &str) -> Digest {
        let bare = Self { state: State::Draft, price: None, sunset_ms: None, replacement: None, ..self.clone() };
        Digest::of(&Json::object([("is", version_to_json(&bare)), ("name", full.into())]).to_bytes())
    }
}

fn map<T>(of: &BTreeMap<String, T>, to_json: impl Fn(&T) -> Json) -> Json {
    Json::Object(of.iter().map(|(key, value)| (key.as_str().into(), to_json(value))).collect())
}

/// An object of what is there.
fn object<const N: usize>(members: [(&str, Option<Json>); N]) -> Json {
    Json::Object(members.into_iter().filter_map(|(key, value)| Some((key.into(), value?))).collect())
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> Option<Json> {
    let texts: Vec<_> = texts.into_iter().map(|text| Json::from(&**text)).collect();
    (!texts.is_empty()).then_some(Json::List(texts))
}

fn price_to_json(price: Option<&Price>) -> Option<Json> {
    let tier = |(above, price): (u64, Price)| {
        object([
            ("above", (above > 0).then(|| above.into())),
            ("cached", (price.cached_input() < price.input()).then(|| price.cached_input().into())),
            ("input", Some(price.input().into())),
            ("output", Some(price.output().into())),
        ])
    };
    price.map(|price| Json::List(price.tiers().map(tier).collect()))
}

fn version_to_json(version: &ModelVersion) -> Json {
    let capabilities = version.capabilities.iter().map(|one| Json::from(&*one.to_string())).collect();
    object([
        ("capabilities", (!version.capabilities.is_empty()).then_some(Json::List(capabilities))),
        ("context", version.context.map(Into::into)),
        ("output", version.output.map(Into::into)),
        ("price", price_to_json(version.price.as_ref())),
        ("replacement", version.replacement.as_deref().map(Into::into)),
        ("revision", version.revision.as_deref().map(Into::into)),
        ("state", Some(version.state.as_str().into())),
        ("sunset_ms", version.sunset_ms.map(Into::into)),
    ])
}

fn placement_to_json(placement: &Placement) -> Json {
    object([
        ("endpoint", Some((&*placement.endpoint).into())),
        ("price", price_to_json(placement.price.as_ref())),
        ("priority", (placement.priority > 0).then(|| u64::from(placement.priority).into())),
        ("provider", Some((&*placement.provider).into())),
        ("region", Some((&*placement.region).into())),
        ("requests_per_minute", placement.requests_per_minute.map(Into::into)),
        ("residency", list(&placement.residency)),
        ("tokens_per_minute", placement.tokens_per_minute.map(Into::into)),
        ("version", Some((&*placement.version).into())),
        ("weight", (placement.weight != Placement::WEIGHT).then(|| u64::from(placement.weight).into())),
    ])
}

fn alias_to_json(alias: &Alias) -> Json {
    let target =
        |(to, share): &(String, u32)| Json::object([("share", u64::from(*share).into()), ("to", (&**to).into())]);
    object([
        ("fallback", list(&alias.fallback)),
        ("sticky", (alias.sticky != Sticky::default()).then(|| alias.sticky.as_str().into())),
        ("targets", Some(Json::List(alias.targets.iter().map(target).collect()))),
    ])
}

fn catalog(json: &Json, path: &Path, found: &mut Findings) -> Catalog {
    let mut fields = Fields::open(json, path, found);
    let read = Catalog {
        models: named(&mut fields, "models", model, found),
        placements: named(&mut fields, "placements", placement, found),
        aliases: named(&mut fields, "aliases", alias, found),
    };
    fields.done(found);
    read
}

/// The members of an object of things by name.
fn named<T>(
    fields: &mut Fields<'_>,
    key: &str,
    read: fn(&Json, &Path, &mut Findings) -> T,
    found: &mut Findings,
) -> BTreeMap<String, T> {
    let path = fields.path(key);
    let Some(json) = fields.take(key) else { return BTreeMap::new() };
    let entries = entries(json, &path, found);
    entries.map(|(name, json)| (name.to_owned(), read(json, &path.then(name), found))).collect()
}

fn model(json: &Json, path: &Path, found: &mut Findings) -> Model {
    let mut fields = Fields::open(json, path, found);
    let versions = named(&mut fields, "versions", version, found);
    fields.done(found);
    Model { versions }
}

fn version(json: &Json, path: &Path, found: &mut Findings) -> ModelVersion {
    let mut fields = Fields::open(json, path, found);
    let at = fields.path("state");
    let state = fields.must("state", found);
    let known = State::ALL.into_iter().find(|known| known.as_str() == state);
    if known.is_none() {
        found.push(Violation::new(Code::UnknownValue, at, "no state of that name"));
    }
    let capabilities = capabilities(&mut fields, found);
    let read = ModelVersion {
        state: known.unwrap_or(State::Draft),
        capabilities,
        context: fields.integer("context", found),
        output: fields.integer("output", found),
        price: price(&mut fields, found),
        revision: fields.text("revision", found),
        sunset_ms: fields.integer("sunset_ms", found),
        replacement: fields.text("replacement", found),
    };
    fields.done(found);
    read
}

fn capabilities(fields: &mut Fields<'_>, found: &mut Findings) -> Capabilities {
    let path = fields.path("capabilities");
    fields.texts("capabilities", found).iter().fold(Capabilities::NONE, |all, name| match Capabilities::named(name) {
        Some(one) => all | one,
        None => {
            found.push(Violation::new(Code::UnknownValue, path.clone(), "no capability of that name"));
            all
        }
    })
}

fn price(fields: &mut Fields<'_>, found: &mut Findings) -> Option<Price> {
    let path = fields.path("price");
    let json = fields.take("price")?;
    let mut whole: Option<Result<Price, (Code, String)>> = None;
    for (at, item) in items(json, &path, found) {
        let mut tier = Fields::open(item, &at, found);
        let above = tier.take("above").and_then(|json| integer(json, &at.then("above"), found)).unwrap_or(0);
        let mut side = |side: &str, found: &mut Findings| {
            if let Some(json) = tier.take(side) {
                return integer(json, &at.then(side), found).unwrap_or(0);
            }
            found.push(Violation::new(
                Code::Missing,
                at.then(side),
                "must be given; leave the whole price out if it is unknown",
            ));
            0
        };
        let (input, output) = (side("input", found), side("output", found));
        let cached = tier.take("cached").and_then(|json| integer(json, &at.then("cached"), found));
        tier.done(found);
        let price = Price::pico(input, output).cached_pico(cached.unwrap_or(input)).map_err(wrong_price);
        whole = Some(match whole {
            None if above == 0 => price,
            Some(lower) => lower.and_then(|lower| lower.above(above, price?).map_err(wrong_price)),
            None => Err((Code::UnorderedTiers, "the first tier begins at 0".to_owned())),
        });
    }
    let none = || Err((Code::UnorderedTiers, "no tier; leave the whole price out if it is unknown".to_owned()));
    let price = whole.unwrap_or_else(none);
    price.map_err(|(code, what)| found.push(Violation::new(code, path, what))).ok()
}

fn wrong_price(error: InvalidPrice) -> (Code, String) {
    let code =
        if matches!(error, InvalidPrice::CachedAboveInput { .. }) { Code::OutOfRange } else { Code::UnorderedTiers };
    (code, error.to_string())
}

fn placement(json: &Json, path: &Path, found: &mut Findings) -> Placement {
    let mut fields = Fields::open(json, path, found);
    let read = Placement {
        version: fields.must("version", found),
        provider: fields.must("provider", found),
        region: fields.must("region", found),
        endpoint: fields.must("endpoint", found),
        residency: fields.texts("residency", found).into_iter().collect(),
        weight: fields.small("weight", found).unwrap_or(Placement::WEIGHT),
        priority: fields.small("priority", found).unwrap_or(0),
        requests_per_minute: fields.integer("requests_per_minute", found),
        tokens_per_minute: fields.integer("tokens_per_minute", found),
        price: price(&mut fields, found),
    };
    fields.done(found);
    read
}

fn alias(json: &Json, path: &Path, found: &mut Findings) -> Alias {
    let mut fields = Fields::open(json, path, found);
    let mut targets = Vec::new();
    let at = fields.path("targets");
    match fields.take("targets") {
        None => found.push(Violation::new(Code::Missing, at, "must be given")),
        Some(json) => {
            for (at, item) in items(json, &at, found) {
                let mut target = Fields::open(item, &at, found);
                let to = target.must("to", found);
                targets.push((to, target.small("share", found).unwrap_or(Alias::WHOLE)));
                target.done(found);
            }
        }
    }
    let at = fields.path("sticky");
    let sticky = fields
        .take("sticky")
        .and_then(|json| text(json, &at, found))
        .map_or(Some(Sticky::default()), |name| Sticky::ALL.into_iter().find(|sticky| sticky.as_str() == name));
    if sticky.is_none() {
        found.push(Violation::new(Code::UnknownValue, at, "session, tenant or request"));
    }
    let read = Alias { targets, sticky: sticky.unwrap_or_default(), fallback: fields.texts("fallback", found) };
    fields.done(found);
    read
}
