//! Holds an OpenAI-compatible gateway against the benchmark of `docs/benchmarks.md`, as a black box: scripted deployments in
//! this process, the gateway as a child process, an open loop of requests over loopback, and counters on both sides.
//!
//! ```text
//! cargo build --release --example gateway
//! cargo run --release --example bars [-- --quick | --only NAME[,NAME]] [--gateway BINARY] [--rps 50] [--seed 1]
//!                                       [--json FILE] [--markdown]
//! ```
//!
//! `--quick` leaves out what takes long or needs a quiet machine.
//!
//! Ends with exit code 0 when every line that is due holds, 1 when one is missed, 2 for a mistake on the command line.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::runtime::Builder;

#[path = "support/bars/mod.rs"]
mod scenarios;
#[path = "support/mod.rs"]
mod support;

use scenarios::report::{Row, Verdict, markdown, plain};
use scenarios::{ALL, Context, QUICK, Scenario};

const USAGE: &str =
    "usage: bars [--quick | --only NAME[,NAME]] [--gateway BINARY] [--rps N] [--seed N] [--json FILE] [--markdown]";

/// What the command line asks for.
struct Options {
    gateway: PathBuf,
    rps: f64,
    seed: u64,
    chosen: Vec<&'static Scenario>,
    json: Option<PathBuf>,
    markdown: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bars: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for the load and one for the deployments: no figure depends on how a scheduler spreads the harness.
fn measure(options: &Options) -> io::Result<bool> {
    let load = Builder::new_current_thread().enable_all().build()?;
    let deployments = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let context = Context {
        gateway: options.gateway.clone(),
        rps: options.rps,
        seed: options.seed,
        deployments: deployments.handle().clone(),
    };
    load.block_on(run(options, &context))
}

/// Runs the chosen scenarios one after the other, prints each, then the table. True when nothing was missed.
async fn run(options: &Options, context: &Context) -> io::Result<bool> {
    let progress = ProgressBar::new(options.chosen.len() as u64);
    let style = ProgressStyle::with_template("{pos}/{len} {wide_bar} {elapsed} {msg}");
    progress.set_style(style.map_err(io::Error::other)?);

    let mut rows: Vec<(&str, Row)> = Vec::new();
    for scenario in &options.chosen {
        progress.set_message(scenario.name);
        let measured = (scenario.run)(context).await;
        let measured = measured.unwrap_or_else(|error| vec![Row::failed("not measured", &error)]);
        for row in measured {
            progress.suspend(|| eprint!("{}", plain([(scenario.name, &row)].into_iter())));
            rows.push((scenario.name, row));
        }
        progress.inc(1);
    }
    progress.finish_and_clear();

    let table = rows.iter().map(|(scenario, row)| (*scenario, row));
    let table = if options.markdown { markdown(table) } else { plain(table) };
    let count = |verdict| rows.iter().filter(|(_, row)| row.verdict() == verdict).count();
    let (pass, miss, later) = (count(Verdict::Pass), count(Verdict::Miss), count(Verdict::Later));
    let mut out = io::stdout().lock();
    writeln!(out, "{table}\n{pass} PASS, {miss} miss, {later} due later; ! marks a figure beyond its bar")?;

    if let Some(path) = &options.json {
        let rows: Vec<_> = rows.iter().map(|(scenario, row)| row.json(scenario)).collect();
        let report =
            json!({"rps": context.rps, "seed": context.seed, "pass": pass, "miss": miss, "later": later, "rows": rows});
        std::fs::write(path, format!("{report:#}\n"))?;
    }
    Ok(miss == 0)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { gateway: default_gateway(), rps: 50.0, seed: 1, chosen: Vec::new(), json: None, markdown: false };
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
        match flag.as_str() {
            "--only" => {
                for name in value()?.split(',') {
                    options.chosen.push(find(name)?);
                }
            }
            "--gateway" => options.gateway = value()?.into(),
            "--quick" => options.chosen = QUICK.into_iter().map(find).collect::<Result<_, _>>()?,
            "--rps" => {
                let rps = value()?.parse().ok().filter(|rps| (1.0..=1_000.0).contains(rps));
                options.rps = rps.ok_or("--rps needs a number from 1 to 1000")?;
            }
            "--seed" => options.seed = value()?.parse().map_err(|_| "--seed needs a whole number")?,
            "--json" => options.json = Some(value()?.into()),
            "--markdown" => options.markdown = true,
            _ => return Err(format!("unknown argument {flag}\n{USAGE}")),
        }
    }
    if options.chosen.is_empty() {
        options.chosen = ALL.iter().collect();
    }
    Ok(options)
}

fn find(name: &str) -> Result<&'static Scenario, String> {
    ALL.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        format!("no scenario is called {name}; there are: {}", names.join(", "))
    })
}

/// The example `gateway`, which the build puts beside this one.
fn default_gateway() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(format!("gateway{}", std::env::consts::EXE_SUFFIX))
}
