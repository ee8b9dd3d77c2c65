//! LiteLLM's `model_prices_and_context_window.json`.

use super::super::catalog::{ModelVersion, State};
use super::super::json::{self, Json};
use super::super::violation::{Code, Nack, Path, Violation};
use super::{Import, Step, date, number, object, price, tokens};
use crate::facts::{Capabilities, Price};
use std::collections::BTreeMap;

/// The modes that are priced by tokens; all else is priced by images, seconds or searches.
const MODES: [&str; 5] = ["chat", "completion", "responses", "embedding", "rerank"];

/// Reads LiteLLM's price list: one object, an entry per model, USD per token.
///
/// The window is the larger of the two limits, for the list gives that of the prompt and that of the answer. A price
/// of which the list has only one half is unknown, but an embedding has no answer to pay for; so is one of 0 where something
/// else is charged, such as queries. Steps (`…_above_200k_tokens`, and
/// `tiered_pricing`) become tiers; prices for batches, for what is written to a cache, and for priorities are left out.
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
/// assert_eq!(gpt.known_price().unwrap().input(), 150_000);
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

fn entry(json: &Json, path: &Path) -> Result<(ModelVersion, Option<Violation>), Violation> {
    let entry = object(json, path)?;
    // Another list, or none: of a model nothing would be known but that it is live.
    if !entry.keys().any(|key| KNOWN.contains(&&**key)) {
        return Err(Violation::new(Code::Missing, path.clone(), "has nothing that an entry of this list has"));
    }
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
    let (price, mut warning) = price(steps(entry, mode, path)?, path);
    let by_tokens = |price: &Price| price.tiers().any(|(_, price)| price.input().max(price.output()) > 0);
    if price.as_ref().is_none_or(by_tokens) || free(entry) {
        version.price = price;
    } else {
        let message = "0 for each token, and charged by another measure";
        warning = Some(Violation::new(Code::PriceUnknown, path.clone(), message));
    }
    match entry.get("deprecation_date") {
        None | Some(Json::Null) => {}
        Some(Json::Text(day)) if date::millis_of(day).is_some() => {
            version.state = State::Deprecated;
            version.sunset_ms = date::millis_of(day);
        }
        Some(_) => return Err(Violation::new(Code::WrongType, path.then("deprecation_date"), "expected YYYY-MM-DD")),
    }
    Ok((version, warning))
}

/// Whether nothing is charged by another measure: who pays by the query has 0 per token in the list, and is not free.
fn free(entry: &BTreeMap<Box<str>, Json>) -> bool {
    let charged = |json: &Json| super::decimal(json, PICO).is_ok_and(|pico| pico > 0);
    !entry.iter().any(|(key, json)| key.contains("_cost_per_") && charged(json))
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

/// An entry of this list has one of these.
const KNOWN: [&str; 6] = ["mode", "litellm_provider", INPUT, OUTPUT, "max_input_tokens", "max_output_tokens"];

/// USD per token is 10^12 pico-dollars.
const PICO: i64 = 12;

const INPUT: &str = "input_cost_per_token";
const CACHED: &str = "cache_read_input_token_cost";
const OUTPUT: &str = "output_cost_per_token";

fn steps(entry: &BTreeMap<Box<str>, Json>, mode: &str, path: &Path) -> Result<Vec<Step>, Violation> {
    let free = if mode == "embedding" { Some(0) } else { None };
    let read = |entry, above, suffix: &str, path: &Path| {
        let side = |side: &str| number(entry, &format!("{side}{suffix}"), PICO, path);
        Ok::<_, Violation>(Step { above, input: side(INPUT)?, cached: side(CACHED)?, output: side(OUTPUT)? })
    };
    let mut steps = Vec::new();
    let base = read(entry, 0, "", path)?;
    if base.input.is_some() || base.output.is_some() {
        steps.push(Step { output: base.output.or(free), ..base });
    }
    for key in entry.keys() {
        let step = key.strip_prefix(INPUT).or_else(|| key.strip_prefix(OUTPUT));
        let step = step.and_then(|rest| rest.strip_prefix("_above_")?.strip_suffix("k_tokens"));
        let Some(thousands) = step.and_then(|step| step.parse::<u32>().ok()) else { continue };
        steps.push(read(entry, u64::from(thousands) * 1_000, &format!("_above_{thousands}k_tokens"), path)?);
    }
    if let (Some(Json::List(listed)), true) = (entry.get("tiered_pricing"), steps.is_empty()) {
        for (n, step) in listed.iter().enumerate() {
            let path = path.then("tiered_pricing").then(&n.to_string());
            let step = object(step, &path)?;
            let above = match step.get("range") {
                Some(Json::List(range)) if !range.is_empty() => super::decimal(&range[0], 0),
                _ => Err((Code::Missing, "must be given".to_owned())),
            };
            let above = above.map_err(|(code, message)| Violation::new(code, path.then("range"), message))?;
            let step = read(step, above, "", &path)?;
            steps.push(Step { output: step.output.or(free), ..step });
        }
    }
    Ok(steps)
}
