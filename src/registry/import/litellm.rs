//! LiteLLM's `model_prices_and_context_window.json`.

use super::super::catalog::{ModelVersion, State};
use super::super::json::{self, Json};
use super::super::violation::{Code, Nack, Path, Violation};
use super::{Import, date, number, object, pricing, tokens};
use crate::facts::Capabilities;
use std::collections::BTreeMap;

/// The modes that are priced by tokens; all else is priced by images, seconds or searches.
const MODES: [&str; 5] = ["chat", "completion", "responses", "embedding", "rerank"];

/// Reads LiteLLM's price list: one object, an entry per model, USD per token.
///
/// The window is the larger of the two limits, for the list gives that of the prompt and that of the answer. A price
/// of which the list has only one half is unknown, but an embedding has no answer to pay for. Steps (`…_above_200k_tokens`, and
/// `tiered_pricing`) become tiers; prices for batches, caches and priorities are left out.
///
/// # Errors
///
/// [`Nack`] where it is no such list at all. What is wrong with an entry is [noted](Import::rejected).
///
/// ```
/// let list = br#"{
///     "gpt": {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "max_input_tokens": 128000},
///     "dall": {"mode": "image_generation", "output_cost_per_image": 0.04}
/// }"#;
/// let import = fallway::registry::import::litellm(list)?;
/// let gpt = import.catalog().find("gpt@listed").unwrap();
/// assert_eq!(gpt.pricing().at(1_000).unwrap().input(), 150_000);
/// assert_eq!(import.rejected()[0].path().as_str(), "/dall/mode");
/// # Ok::<(), fallway::registry::Nack>(())
/// ```
pub fn litellm(bytes: &[u8]) -> Result<Import, Nack> {
    let json = json::parse(bytes)?;
    let mut import = Import::default();
    for (name, json) in object(&json, &Path::root())? {
        let path = Path::of([&**name]);
        let entry = entry(json, &path);
        import.add(path, name, entry);
    }
    Ok(import)
}

fn entry(json: &Json, path: &Path) -> Result<ModelVersion, Violation> {
    let entry = object(json, path)?;
    let mode = match entry.get("mode") {
        Some(Json::Text(mode)) => &**mode,
        None | Some(Json::Null) => "chat",
        Some(_) => return Err(Violation::new(Code::WrongType, path.then("mode"), "expected text")),
    };
    if !MODES.contains(&mode) {
        return Err(Violation::new(
            Code::NotByTokens,
            path.then("mode"),
            "a kind of model that is not priced by tokens",
        ));
    }
    let (input, output) = (tokens(entry, "max_input_tokens", path)?, tokens(entry, "max_output_tokens", path)?);
    let mut version = ModelVersion::new(State::Live).capabilities(capabilities(entry, mode));
    version.context = input.max(output);
    version.output = output;
    version.price = pricing(tiers(entry, mode, path)?);
    match entry.get("deprecation_date") {
        None | Some(Json::Null) => {}
        Some(Json::Text(day)) if date::millis_of(day).is_some() => {
            version.state = State::Deprecated;
            version.sunset_ms = date::millis_of(day);
        }
        Some(_) => return Err(Violation::new(Code::WrongType, path.then("deprecation_date"), "expected YYYY-MM-DD")),
    }
    Ok(version)
}

fn capabilities(entry: &BTreeMap<Box<str>, Json>, mode: &str) -> Capabilities {
    let supports = [
        ("supports_function_calling", Capabilities::TOOLS),
        ("supports_vision", Capabilities::VISION),
        ("supports_audio_input", Capabilities::AUDIO),
        ("supports_audio_output", Capabilities::AUDIO),
        ("supports_response_schema", Capabilities::STRUCTURED),
        ("supports_native_streaming", Capabilities::STREAMING),
        ("supports_reasoning", Capabilities::REASONING),
    ];
    let first = if mode == "embedding" { Capabilities::EMBEDDINGS } else { Capabilities::NONE };
    let known = supports.into_iter().filter(|(key, _)| super::flag(entry, key));
    known.fold(first, |all, (_, one)| all | one)
}

type Tier = (u64, Option<u64>, Option<u64>);

/// USD per token is 10^12 pico-dollars.
const PICO: i64 = 12;

fn tiers(entry: &BTreeMap<Box<str>, Json>, mode: &str, path: &Path) -> Result<Vec<Tier>, Violation> {
    let (input, output) = ("input_cost_per_token", "output_cost_per_token");
    let free = if mode == "embedding" { Some(0) } else { None };
    let mut tiers = Vec::new();
    let base = (0, number(entry, input, PICO, path)?, number(entry, output, PICO, path)?);
    if base.1.is_some() || base.2.is_some() {
        tiers.push((0, base.1, base.2.or(free)));
    }
    for key in entry.keys() {
        let step = key.strip_prefix(input).or_else(|| key.strip_prefix(output));
        let step = step.and_then(|rest| rest.strip_prefix("_above_")?.strip_suffix("k_tokens"));
        let Some(thousands) = step.and_then(|step| step.parse::<u32>().ok()) else { continue };
        let side = |side: &str| number(entry, &format!("{side}_above_{thousands}k_tokens"), PICO, path);
        tiers.push((u64::from(thousands) * 1_000, side(input)?, side(output)?));
    }
    if let (Some(Json::List(steps)), true) = (entry.get("tiered_pricing"), tiers.is_empty()) {
        for (n, step) in steps.iter().enumerate() {
            let path = path.then("tiered_pricing").then(&n.to_string());
            let step = object(step, &path)?;
            let above = match step.get("range") {
                Some(Json::List(range)) if !range.is_empty() => super::decimal(&range[0], 0),
                _ => Err((Code::Missing, "must be given".to_owned())),
            };
            let above = above.map_err(|(code, message)| Violation::new(code, path.then("range"), message))?;
            tiers.push((above, number(step, input, PICO, &path)?, number(step, output, PICO, &path)?.or(free)));
        }
    }
    Ok(tiers)
}
