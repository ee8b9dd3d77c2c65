//! The providers of models.dev.

use super::super::catalog::{ModelVersion, State};
use super::super::json::{self, Json};
use super::super::violation::{Code, Nack, Path, Violation};
use super::{Import, Step, flag, number, object, price, tokens};
use crate::facts::Capabilities;

/// Reads models.dev's list: providers, each with its models; USD per million tokens. A model is
/// `provider/model`, for each provider has its own price.
///
/// # Errors
///
/// [`Nack`] where it is no such list at all. What is wrong with an entry is [noted](Import::rejected).
///
/// ```
/// let list = br#"{"acme": {"models": {"m": {"cost": {"input": 2.5, "output": 10}, "limit": {"context": 128000}}}}}"#;
/// let import = fallway::registry::import::models_dev(list)?;
/// assert_eq!(import.catalog().find("acme/m@listed").unwrap().known_price().unwrap().input(), 2_500_000);
/// # Ok::<(), fallway::registry::Nack>(())
/// ```
pub fn models_dev(bytes: &[u8]) -> Result<Import, Nack> {
    let json = json::parse(bytes)?;
    let mut import = Import::default();
    for (provider, of) in object(&json, &Path::root())? {
        let path = Path::of([&**provider]);
        let models = object(of, &path).and_then(|of| match of.get("models") {
            Some(models) => object(models, &path.then("models")),
            None => Err(Violation::new(Code::Missing, path.then("models"), "must be given")),
        });
        match models {
            // A provider that cannot be read counts as one entry.
            Err(violation) => import.rejected.push(violation),
            Ok(models) => {
                for (model, json) in models {
                    let path = Path::of([provider, "models", model]);
                    let entry = entry(json, &path);
                    import.add(path, &format!("{provider}/{model}"), entry);
                }
            }
        }
    }
    Ok(import)
}

/// USD per million tokens is 10^6 pico-dollars per token.
const PICO: i64 = 6;

fn entry(json: &Json, path: &Path) -> Result<(ModelVersion, Option<Violation>), Violation> {
    let entry = object(json, path)?;
    let deprecated = matches!(entry.get("status"), Some(Json::Text(status)) if &**status == "deprecated");
    let mut version = ModelVersion::new(if deprecated { State::Deprecated } else { State::Live });
    let can = [("tool_call", Capabilities::TOOLS), ("reasoning", Capabilities::REASONING)];
    let can = can.into_iter().filter(|(key, _)| flag(entry, key));
    version.capabilities = can.fold(Capabilities::NONE, |all, (_, one)| all | one);
    if let Some(limit) = entry.get("limit") {
        let path = path.then("limit");
        let limit = object(limit, &path)?;
        version.context = tokens(limit, "context", &path)?;
        version.output = tokens(limit, "output", &path)?;
    }
    let mut warning = None;
    if let Some(cost) = entry.get("cost") {
        let path = path.then("cost");
        let cost = object(cost, &path)?;
        let read = |from, above, path: &Path| {
            let side = |side| number(from, side, PICO, path);
            let (input, cached, output) = (side("input")?, side("cache_read")?, side("output")?);
            Ok::<_, Violation>(Step { above, input, cached, output })
        };
        let mut prices = vec![read(cost, 0, &path)?];
        if let Some(Json::List(steps)) = cost.get("tiers") {
            for (n, step) in steps.iter().enumerate() {
                let path = path.then("tiers").then(&n.to_string());
                let step = object(step, &path)?;
                let size = match step.get("tier") {
                    Some(tier) => tokens(object(tier, &path.then("tier"))?, "size", &path.then("tier"))?,
                    None => None,
                };
                let Some(size) = size else {
                    return Err(Violation::new(Code::Missing, path.then("tier").then("size"), "must be given"));
                };
                prices.push(read(step, size, &path)?);
            }
        }
        (version.price, warning) = price(prices, &path);
    }
    Ok((version, warning))
}
