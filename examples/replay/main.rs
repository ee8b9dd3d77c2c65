//! The main job: real recorded LLM traffic, over real HTTP servers in three regions, through real faults.
//!
//! ```text
//! cargo run --release --example replay
//! cargo run --release --example replay -- --seed 7 --json target/replay.json
//! cargo run --release --example replay -- --trace AzureLLMInferenceTrace_code.csv --rows all
//! ```
//!
//! Nine OpenAI-compatible servers are started on loopback, three regions of three. 2,000 requests of the Azure LLM
//! conversation trace arrive at their recorded times, compressed into 24 s; half of the callers read the answer as it is
//! written, half want it whole. Six faults happen on the
//! way: a server refuses connections, one slows down tenfold, a region answers 429, another region is lost, a server hangs,
//! and streams are cut midway. The same workload runs twice, with the usual client and with fallway, both with the same
//! limits of time.
//!
//! It prints one table side by side and three decisions of fallway with their reasons, and draws goodput over time
//! (`target/replay.svg`). `--help` lists the flags. It ends by itself, in under a minute.

mod answer;
mod args;
mod client;
mod drive;
mod fallway_client;
mod faults;
mod fleet;
mod picture;
mod report;
mod seed;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod usual;
mod workload;

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use args::{Args, HELP};
use client::{Client, Patience};
use drive::{Run, drive};
use fallway_client::FallwayClient;
use faults::Window;
use fleet::{Endpoint, Fleet, SERVERS, Sizing};
use report::{Judge, Report, Setup};
use support::trace::{self, Row};
use table::Table;
use usual::UsualClient;
use workload::Workload;

/// The trace that is replayed when no other is named; see `examples/data/SOURCE.md`.
const BUILT_IN: &str = include_str!("../data/azure-conv-2000.csv");
const BUILT_IN_NAME: &str = "azure-conv-2000.csv";

/// Exit code for input that is wrong, as opposed to a replay that failed.
const BAD_INPUT: u8 = 2;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("replay: {message} (--help lists the flags)");
            return ExitCode::from(BAD_INPUT);
        }
    };
    let (name, rows) = match load(&args) {
        Ok(loaded) => loaded,
        Err(message) => {
            eprintln!("replay: {message}");
            return ExitCode::from(BAD_INPUT);
        }
    };
    match replay(&args, name, &rows).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The rows to replay and a name for where they come from. The whole file must be well-formed, also what `--rows` leaves
/// out: half a trace is no trace.
fn load(args: &Args) -> Result<(String, Vec<Row>), String> {
    let (name, parsed) = match &args.trace {
        None => (BUILT_IN_NAME.to_owned(), trace::parse(BUILT_IN)),
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            // What is no UTF-8 becomes a character that no field may hold: the parser then names its line.
            let text = String::from_utf8_lossy(&bytes);
            let name = path.file_name().unwrap_or(path.as_os_str());
            (name.to_string_lossy().into_owned(), trace::parse(&text))
        }
    };
    let mut rows = parsed.map_err(|error| format!("{name}: {error}"))?;
    rows.truncate(args.rows.unwrap_or(usize::MAX));
    Ok((name, rows))
}

/// Runs both clients and reports.
async fn replay(args: &Args, trace: String, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    // A path that cannot be written to is better known before the run than after it.
    for path in args.json.iter().chain([&args.svg]) {
        create_parent(path)?;
    }
    let workload = Workload::new(rows, args.length, args.stream_share, args.seed);
    let windows = faults::schedule(&workload, args.seed);
    let sizing = Sizing::for_workload(&workload, args.load, args.slo);
    let judge = Judge { slo: args.slo, deadline: args.deadline };
    let setup = Setup {
        trace,
        rows: rows.len(),
        seconds: workload.length.as_secs_f64(),
        compression: workload.compression,
        mean_load: sizing.mean_load,
        peak_load: sizing.peak_load,
        slo_s: args.slo.as_secs_f64(),
        deadline_s: args.deadline.as_secs_f64(),
        stream_share: args.stream_share,
        seed: args.seed,
    };
    println!(
        "replaying {} requests of {}: {:.0} s each client, {:.1} times as fast as recorded, seed {}",
        setup.rows, setup.trace, setup.seconds, setup.compression, setup.seed
    );
    println!(
        "{SERVERS} servers at {:.0} % load, {:.0} % in the busiest second\n",
        setup.mean_load * 100.0,
        setup.peak_load * 100.0
    );

    let scene = Scene { workload: &workload, windows: &windows, sizing, judge };
    let patience = Patience::for_slo(args.slo);
    let usual = Patience { first_token: args.usual_limit.unwrap_or(patience.first_token), ..patience };
    let naive = scene.run(|servers| UsualClient::new(servers, usual)).await?;
    let fallway = scene.run(|servers| FallwayClient::new(servers, patience)).await?;

    let names = [naive.name, fallway.name];
    let report = Report::new(setup, &workload.jobs, &windows, [&naive, &fallway], judge);
    println!("{}", Table { report: &report, names });
    for explained in &fallway.explained {
        println!("--- {}\n{}\n", explained.title, explained.text);
    }
    write(&args.svg, &picture::draw(&report, names))?;
    println!("picture: {}", args.svg.display());
    if let Some(path) = &args.json {
        write(path, &serde_json::to_string_pretty(&report)?)?;
        println!("figures: {}", path.display());
    }
    Ok(())
}

/// What is the same for both clients.
struct Scene<'a> {
    workload: &'a Workload,
    windows: &'a [Window],
    sizing: Sizing,
    judge: Judge,
}

impl Scene<'_> {
    /// One client against nine fresh servers: nothing is left of the run before.
    async fn run<C: Client>(&self, client: impl FnOnce(Vec<Endpoint>) -> C) -> io::Result<Run> {
        let fleet = Fleet::start(self.sizing).await?;
        let client = Arc::new(client(fleet.endpoints()));
        drive(client, self.workload, self.windows, &fleet, self.judge.deadline).await
    }
}

/// Creates the directories above a file.
fn create_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(parent).map_err(|error| naming(path, &error))
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    std::fs::write(path, content).map_err(|error| naming(path, &error))
}

/// The error with the path in it, which the standard library leaves out.
fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
