//! The command line of the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use fallway::Profile;
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, predicted_ttft, weighted};

use crate::support::openai::{Connections, OpenAi};

pub const USAGE: &str = "\
usage: gateway --listen IP:PORT --backend id=ID,url=http://HOST:PORT,model=MODEL[,region=REGION]
                   [,weight=1][,concurrency=64][,rpm=600][,tpm=400000][,key=SECRET] [--backend ..] [--fallback-model MODEL]
                   [--threads 1] [--attempts 3] [--attempt-timeout-ms 2000] [--stall-timeout-ms 30000]
Requests go where the first token is expected first. Weights that differ are shares to be kept instead, whatever the
latency: weight=9 beside weight=1 is nine requests of ten.";

/// What the command line says.
pub struct Args {
    pub listen: SocketAddr,
    pub backends: Vec<(Profile, OpenAi)>,
    /// Serves what the asked model cannot.
    pub fallback_model: Option<String>,
    /// Threads that serve.
    pub threads: NonZeroUsize,
    pub attempts: u32,
    /// Longest wait for a whole answer or for the first token of a stream.
    pub attempt_limit: Option<Duration>,
    /// Longest gap inside a stream.
    pub stall_limit: Option<Duration>,
}

impl Args {
    /// Reads the arguments without the program's name.
    ///
    /// # Errors
    /// A message that names the offender, never a key.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut listen, mut backends, mut shared) = (None, Vec::new(), Shared::default());
        let mut options = Self {
            listen: ([127, 0, 0, 1], 0).into(),
            backends: Vec::new(),
            fallback_model: None,
            threads: NonZeroUsize::MIN,
            attempts: FailSafe::ATTEMPTS,
            attempt_limit: None,
            stall_limit: None,
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
            match flag.as_str() {
                "--listen" => listen = Some(number(&flag, &value()?)?),
                "--backend" => {
                    let number = backends.len() + 1;
                    let backend = backend(&value()?, &mut shared);
                    backends.push(backend.map_err(|error| format!("--backend number {number}: {error}"))?);
                }
                "--fallback-model" => options.fallback_model = Some(value()?),
                "--threads" => options.threads = number(&flag, &value()?)?,
                "--attempts" => options.attempts = number(&flag, &value()?)?,
                "--attempt-timeout-ms" => options.attempt_limit = Some(millis(&flag, &value()?)?),
                "--stall-timeout-ms" => options.stall_limit = Some(millis(&flag, &value()?)?),
                _ => return Err(format!("unknown argument {flag:?}\n{USAGE}")),
            }
        }
        options.listen = listen.ok_or_else(|| format!("--listen is missing\n{USAGE}"))?;
        options.backends = backends;
        Ok(options)
    }

    /// Who ranks the backends. Equal weights ask for nothing; others are shares that somebody wants kept.
    pub fn leaf(&self) -> Box<dyn RoutingPolicy> {
        let mut weights = self.backends.iter().map(|(profile, _)| profile.relative_weight());
        let first = weights.next();
        if weights.any(|weight| Some(weight) != first) { weighted().boxed() } else { predicted_ttft().boxed() }
    }
}

/// What backends have in common.
#[derive(Default)]
struct Shared {
    connections: Connections,
    /// Keys with the name of the credential: backends of one key share its fate.
    keys: BTreeMap<String, String>,
}

/// One `--backend`.
fn backend(text: &str, shared: &mut Shared) -> Result<(Profile, OpenAi), String> {
    let (mut id, mut url, mut model, mut key) = (None, None, None, None);
    let (mut region, mut weight, mut concurrency, mut rpm, mut tpm) = (None, None, None, None, None);
    for field in text.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let place = match name {
            "id" => &mut id,
            "url" => &mut url,
            "model" => &mut model,
            "region" => &mut region,
            "weight" => &mut weight,
            "concurrency" => &mut concurrency,
            "rpm" => &mut rpm,
            "tpm" => &mut tpm,
            "key" => &mut key,
            // It may be the rest of the key: not to be repeated.
            _ if key.is_some() => return Err("unknown field after the key, which must not contain a comma".to_owned()),
            _ => return Err(format!("unknown field {name:?}\n{USAGE}")),
        };
        if place.replace(value).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    let needed = |name: &str, value: Option<&str>| value.map(str::to_owned).ok_or_else(|| format!("{name} is missing"));
    let (id, url, model) = (needed("id", id)?, needed("url", url)?, needed("model", model)?);

    let mut profile = Profile::new(id.as_str()).model(model.as_str());
    let mut backend = OpenAi::new(&url, &mut shared.connections).map_err(|error| error.to_string())?;
    // The server knows nothing of the version that the fleet tells its deployments apart by.
    backend = backend.model(profile.model_name().unwrap_or(&model));
    if let Some(region) = region {
        profile = profile.region(region);
    }
    if let Some(weight) = weight {
        profile = profile.weight(number("weight", weight)?);
    }
    if let Some(limit) = concurrency {
        profile = profile.concurrency(number("concurrency", limit)?);
    }
    if let Some(limit) = rpm {
        profile = profile.requests_per_minute(number("rpm", limit)?);
    }
    if let Some(limit) = tpm {
        profile = profile.tokens_per_minute(number("tpm", limit)?);
    }
    if let Some(key) = key {
        backend = backend.key(key).map_err(|error| error.to_string())?;
        let name = shared.keys.entry(key.to_owned()).or_insert_with(|| format!("key of {id}"));
        profile = profile.credential(name.as_str());
    }
    Ok((profile, backend))
}

fn millis(flag: &str, text: &str) -> Result<Duration, String> {
    number(flag, text).map(|millis: NonZeroU64| Duration::from_millis(millis.get()))
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: {text:?} is not what it takes\n{USAGE}"))
}
