//! Plays random rounds of servers, routers, stacks and faults, and checks every promise at every event.
//!
//! ```text
//! cargo run --release --features sim --example campaign -- [--requests 1000000] [--seed 1] [--rounds N]
//! cargo run --release --features sim --example campaign -- --replay SEED
//! ```
//!
//! Ends after so many requests, or rounds, or at the first violation, which is shown in one line: the seed of the round,
//! what happened, the smallest plan that shows it, and the command that plays it again. Exit code 0 when every promise
//! was kept, 1 when one was not, 2 for a mistake on the command line.

use fallway::sim::campaign::{Campaign, Round};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: campaign [--requests N] [--seed N] [--rounds N] | campaign --replay SEED";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
struct Options {
    requests: u64,
    seed: u64,
    rounds: u64,
    replay: Option<u64>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Options { replay: Some(seed), .. }) => replay(seed),
        Ok(options) => play(&options),
        Err(message) => {
            eprintln!("campaign: {message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Plays rounds until there are enough.
fn play(options: &Options) -> ExitCode {
    let bar = ProgressBar::new(options.requests);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} requests {wide_bar} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let began = Instant::now();
    let (mut rounds, mut requests, mut harmed, mut violations) = (0u64, 0u64, 0u64, 0u64);
    for round in Campaign::new(options.seed) {
        rounds += 1;
        requests += round.requests() as u64;
        harmed += round.harmed();
        bar.set_position(requests.min(options.requests));
        bar.set_message(format!("{rounds} rounds"));
        if let Some(violation) = round.violation() {
            violations += 1;
            bar.suspend(|| println!("{violation}"));
            break;
        }
        if requests >= options.requests || rounds >= options.rounds {
            break;
        }
    }
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let [requests, harmed] = [requests, harmed].map(HumanCount);
    println!(
        "seed {}: {rounds} rounds, {requests} requests, {harmed} faults met, {violations} violations, {seconds:.1} s",
        options.seed
    );
    ExitCode::from(u8::from(violations > 0))
}

/// Plays one round.
fn replay(seed: u64) -> ExitCode {
    let round = Round::play(seed);
    println!("seed {seed}: {}", round.plan());
    match round.violation() {
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
        None => {
            println!("seed {seed}: {} requests, {} faults met, no violation", round.requests(), round.harmed());
            ExitCode::SUCCESS
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { requests: 1_000_000, seed: 1, rounds: u64::MAX, replay: None };
    while let Some(flag) = args.next() {
        let mut number = || -> Result<u64, String> {
            let text = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            text.parse().map_err(|_| format!("{flag} needs a whole number, not {text:?}"))
        };
        match flag.as_str() {
            "--requests" => options.requests = number()?,
            "--seed" => options.seed = number()?,
            "--rounds" => options.rounds = number()?,
            "--replay" => options.replay = Some(number()?),
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    if options.requests == 0 || options.rounds == 0 {
        return Err("--requests and --rounds need a number above 0".into());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_read() {
        let options = parsed("--requests 5 --seed 18446744073709551615 --rounds 3").unwrap();
        assert_eq!(options, Options { requests: 5, seed: u64::MAX, rounds: 3, replay: None });
        assert_eq!(parsed("--replay 9").unwrap().replay, Some(9));
        assert_eq!(parsed("").unwrap().seed, 1);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("--seed", "needs a value"),
            ("--seed -1", "\"-1\""),
            ("--seed 18446744073709551616", "whole number"),
            ("--requests 1e6", "\"1e6\""),
            ("--requests 0", "above 0"),
            ("--rounds 0", "above 0"),
            ("--replay x", "--replay"),
            ("--faults 3", "unknown argument --faults"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
