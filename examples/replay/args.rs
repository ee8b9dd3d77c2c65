//! The command line. Parsed by hand: a handful of flags does not earn a dependency.

use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Replays recorded LLM traffic over nine real HTTP servers through injected faults, once with the usual client
(round robin, 3 retries, per-attempt timeout) and once with fallway, and compares them.

Usage: cargo run --release --example replay -- [FLAGS]

  --trace FILE       trace with the columns TIMESTAMP,ContextTokens,GeneratedTokens
                     [default: examples/data/azure-conv-2000.csv, built in]
  --rows N|all       replay only the first N rows [default: 2000]
  --seconds S        compress the arrivals into S seconds per client, 10 to 3600
                     [default: 24, longer where that would be more than 84 requests/s]
  --load L           mean utilisation of the nine servers, 0.05 to 0.9 [default: 0.5]; a trace with bursts gets
                     faster servers than that, see the documentation of fleet.rs
  --slo SECONDS      first token (of an answer wanted whole: all of it) within this time [default: 1]
  --deadline SECONDS whole answer within this time, at least the SLO [default: 8]
  --usual-limit SECONDS
                     first token of an attempt of the usual client within this time
                     [default: 0.4 of the SLO, as for fallway]
  --stream-share X   share of the callers that read the answer as it is written, 0 to 1 [default: 0.5]
  --seed N           moves the fault windows and chooses their victims [default: 1]
  --json FILE        write everything machine-readable
  --svg FILE         picture of goodput over time [default: target/replay.svg]
  --help             print this

Exit codes: 0 done, 1 the replay could not run, 2 bad flag or malformed trace row.
";

/// Settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Args {
    /// Another trace than the one built in.
    pub(crate) trace: Option<PathBuf>,
    /// How many rows of it; `None` is all.
    pub(crate) rows: Option<usize>,
    /// Length of the compressed arrivals; `None` is derived from the number of rows.
    pub(crate) length: Option<Duration>,
    /// Mean utilisation the fleet is sized for.
    pub(crate) load: f64,
    /// Limit for the first token.
    pub(crate) slo: Duration,
    /// Limit for the whole answer.
    pub(crate) deadline: Duration,
    /// Limit of the usual client's attempts; `None` is that of fallway.
    pub(crate) usual_limit: Option<Duration>,
    /// Share of the callers that read the answer as it is written.
    pub(crate) stream_share: f64,
    /// Seed of the fault schedule and of the choice between stream and unary.
    pub(crate) seed: u64,
    /// Where to write the figures.
    pub(crate) json: Option<PathBuf>,
    /// Where to write the picture.
    pub(crate) svg: PathBuf,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            trace: None,
            rows: Some(2_000),
            length: None,
            load: 0.5,
            slo: Duration::from_secs(1),
            deadline: Duration::from_secs(8),
            usual_limit: None,
            stream_share: 0.5,
            seed: 1,
            json: None,
            svg: PathBuf::from("target/replay.svg"),
        }
    }
}

impl Args {
    /// Reads the flags; `None` when help was asked for.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub(crate) fn parse(flags: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut args = Self::default();
        let mut flags = flags.into_iter();
        while let Some(flag) = flags.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag.as_str(), None),
            };
            let mut value = || {
                let value = inline.clone().or_else(|| flags.next());
                value.ok_or_else(|| format!("{name} needs a value"))
            };
            match name {
                "--trace" => args.trace = Some(value()?.into()),
                "--rows" => args.rows = rows(name, &value()?)?,
                "--seconds" => {
                    let seconds = number(name, &value()?, 10.0, 3_600.0)?;
                    args.length = Some(Duration::from_secs_f64(seconds));
                }
                "--load" => args.load = number(name, &value()?, 0.05, 0.9)?,
                "--slo" => args.slo = time_limit(name, &value()?)?,
                "--deadline" => args.deadline = time_limit(name, &value()?)?,
                "--usual-limit" => args.usual_limit = Some(time_limit(name, &value()?)?),
                "--stream-share" => args.stream_share = number(name, &value()?, 0.0, 1.0)?,
                "--seed" => args.seed = whole(name, &value()?)?,
                "--json" => args.json = Some(value()?.into()),
                "--svg" => args.svg = value()?.into(),
                _ => return Err(format!("unknown flag {flag:?}")),
            }
        }
        if args.deadline < args.slo {
            return Err("--deadline must not be shorter than --slo".into());
        }
        Ok(Some(args))
    }
}

/// A time limit in seconds; a minute is the longest that a replay may have to wait for its last request.
fn time_limit(name: &str, value: &str) -> Result<Duration, String> {
    number(name, value, 0.05, 60.0).map(Duration::from_secs_f64)
}

fn rows(name: &str, value: &str) -> Result<Option<usize>, String> {
    if value == "all" {
        return Ok(None);
    }
    match value.parse() {
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => Err(format!("{name} takes a number from 1, or \"all\", not {value:?}")),
    }
}

fn whole(name: &str, value: &str) -> Result<u64, String> {
    let parsed = value.parse();
    parsed.map_err(|_| format!("{name} takes a whole number, not {value:?}"))
}

fn number(name: &str, value: &str, least: f64, most: f64) -> Result<f64, String> {
    match value.parse::<f64>() {
        // NaN is in no range.
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} takes a number from {least} to {most}, not {value:?}")),
    }
}
