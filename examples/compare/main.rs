//! What routing quality is worth: fallway beside what others do, on the same simulated work.
//!
//! ```text
//! cargo run --release --features sim --example compare
//! cargo run --release --features sim --example compare -- --scenario S1 --policy fallway --seed 7 --routers 32 --json
//! ```
//!
//! Plays every scenario with every policy, three seeds, one router and thirty-two; prints a table for each (medians over
//! the seeds), and writes a report with plots to `target/compare.html`. Deterministic: the same arguments give the same
//! figures, and the same `decisions_hash`, on every run. Exit code 2 for arguments that make no sense.

mod args;
mod report;

use args::{Args, USAGE};
use fallway::sim::baselines::Contestant;
use fallway::sim::scenarios::{Measured, Settings, Stage};
use fallway::sim::{Ended, Run, secs};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use report::{Chapter, Row};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(if message.is_empty() { 0 } else { 2 });
        }
    };
    let started = Instant::now();
    let results = match play(&args) {
        Ok(results) => results,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let chapters = chapters(&results);
    if !args.json {
        chapters.iter().for_each(print);
    }
    let page = report::render(&chapters, &args.seeds, started.elapsed().as_secs_f64());
    let folder = args.report.parent().map_or(Ok(()), std::fs::create_dir_all);
    if let Err(error) = folder.and_then(|()| std::fs::write(&args.report, page)) {
        eprintln!("{}: {error}", args.report.display());
        return ExitCode::FAILURE;
    }
    eprintln!("{} runs in {:.1} s; report: {}", results.len(), started.elapsed().as_secs_f64(), args.report.display());
    ExitCode::SUCCESS
}

/// One run: which stage, who, which seed.
struct Job {
    stage: Stage,
    contestant: Contestant,
    seed: u64,
    routers: usize,
}

/// What came of a run.
struct Played {
    measured: Measured,
    hash: u64,
    cdf: Vec<(f64, f64)>,
    timeline: Vec<(f64, f64)>,
    regions: Vec<Vec<(f64, f64)>>,
    region_names: Vec<String>,
}

/// Every run that is asked for; the oracle plays each stage first.
fn jobs(args: &Args) -> Vec<Job> {
    let mut jobs = Vec::new();
    for scenario in &args.scenarios {
        for &routers in &args.routers {
            for &seed in &args.seeds {
                let Args { load, requests, trace, .. } = args;
                let settings = Settings { seed, routers, load: *load, requests: *requests, trace: trace.clone() };
                for stage in scenario.stages(&settings) {
                    for contestant in [Contestant::ORACLE].iter().chain(&args.policies) {
                        jobs.push(Job { stage: stage.clone(), contestant: *contestant, seed, routers });
                    }
                }
            }
        }
    }
    jobs
}

/// Plays all runs, on all cores.
fn play(args: &Args) -> Result<Vec<(Job, Played)>, String> {
    let jobs = jobs(args);
    let bar = ProgressBar::with_draw_target(Some(jobs.len() as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let next = AtomicUsize::new(0);
    let results: Vec<_> = jobs.iter().map(|_| OnceLock::new()).collect();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(at) else { return };
                    bar.set_message(format!("{} {}", job.stage.scenario().name(), job.contestant.name()));
                    let _ = results[at].set(job.play());
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let results = results.into_iter().map(|result| result.into_inner().unwrap_or_else(|| Err("not played".into())));
    let played: Vec<_> =
        jobs.into_iter().zip(results).map(|(job, played)| Ok((job, played?))).collect::<Result<_, String>>()?;
    if args.json {
        let mut oracle = f64::NAN;
        for (job, played) in &played {
            if job.contestant.name() == Contestant::ORACLE.name() {
                oracle = played.measured.ttft_p99;
            } else {
                println!("{}", line(job, played, oracle));
            }
        }
    }
    Ok(played)
}

impl Job {
    fn play(&self) -> Result<Played, String> {
        let run = self.stage.run(self.contestant).map_err(|error| error.to_string())?;
        let step = (self.stage.lasting() / 200.0).max(5.0);
        let timeline = run.goodput_over_time(secs(step)).into_iter().filter_map(|(at, share)| Some((at, share?)));
        Ok(Played {
            measured: self.stage.measure(&run),
            hash: run.decisions_hash(),
            cdf: cdf(&run),
            timeline: timeline.collect(),
            regions: regions(&run, step),
            region_names: run.region_names().to_vec(),
        })
    }
}

/// The times to first token in a hundred steps, as shares of all requests. What got no whole answer never comes.
fn cdf(run: &Run) -> Vec<(f64, f64)> {
    let answered = run.counted().filter(|record| record.ended == Ended::Completed);
    let mut times: Vec<_> = answered.filter_map(|record| record.first).collect();
    times.sort_by(f64::total_cmp);
    let all = run.requests();
    let time = |step: usize| times.get((all * step).div_ceil(100).checked_sub(1)?).copied();
    (1..=100).filter_map(|step| Some((time(step)?, step as f64 / 100.0))).collect()
}

/// Each region's share of the requests, over time: a curve for each. Nothing where there is one only.
fn regions(run: &Run, step: f64) -> Vec<Vec<(f64, f64)>> {
    let (count, end) = (run.region_names().len(), run.records().last().map_or(0.0, |record| record.at));
    if count < 2 {
        return Vec::new();
    }
    let mut curves = vec![Vec::new(); count];
    let mut from = 0.0;
    while from < end {
        let shares = run.region_shares_between(from, from + step);
        curves.iter_mut().zip(shares).for_each(|(curve, share)| curve.push((from, share)));
        from += step;
    }
    curves
}

fn line(job: &Job, played: &Played, oracle: f64) -> Value {
    let measured = &played.measured;
    let mut line = json!({
        "scenario": job.stage.scenario().name(),
        "policy": job.contestant.name(),
        "seed": job.seed,
        "routers": job.routers,
        "load": job.stage.load(),
        "requests": measured.requests,
        "goodput": measured.goodput,
        "critical_goodput": measured.critical_goodput,
        "others_goodput_vs_alone": measured.others_goodput_vs_alone,
        "hopeless_refused": measured.hopeless_refused,
        "harmed": measured.harmed,
        "failures": measured.failures,
        "ttft_p50_s": measured.ttft_p50,
        "ttft_p90_s": measured.ttft_p90,
        "ttft_p99_s": measured.ttft_p99,
        "e2e_p99_s": measured.e2e_p99,
        "attempts_per_request": measured.attempts,
        "wasted_token_share": measured.wasted,
        "rate_limited_per_1k": measured.rate_limited,
        "cost": measured.cost,
        "cost_vs_best": measured.cost_vs_best,
        "spend_of_cap": measured.spend,
        "time_to_detect_s": measured.time_to_detect,
        "time_to_recover_s": measured.time_to_recover,
        "jain": measured.jain,
        "share_max": measured.share_max,
        "max_region_utilisation": measured.max_region_utilisation,
        "overruns": measured.overruns,
        "outside_residency": measured.outside_residency,
        "broken_streams": measured.broken_streams,
        "resumed_share": measured.resumed_share,
        "silent_truncations": measured.silent_truncations,
        "repeated_tokens": measured.repeated_tokens,
        "flaps": measured.flaps,
        "oracle_ttft_p99_s": oracle,
        "decisions_hash": format!("{:016x}", played.hash),
    });
    if !job.stage.variant().is_empty() {
        line["variant"] = job.stage.variant().into();
    }
    line
}

/// The runs of each stage beside each other, with medians over the seeds.
fn chapters(played: &[(Job, Played)]) -> Vec<Chapter> {
    let mut chapters: Vec<Chapter> = Vec::new();
    let place = |job: &Job| (job.stage.scenario().name(), job.stage.variant(), job.routers);
    for (job, _) in played {
        let (scenario, variant, routers) = place(job);
        if chapters.iter().any(|it| (it.scenario, it.variant, it.routers) == (scenario, variant, routers)) {
            continue;
        }
        let runs: Vec<_> = played.iter().filter(|(other, _)| place(other) == (scenario, variant, routers)).collect();
        let mut names: Vec<&'static str> = runs.iter().map(|(job, _)| job.contestant.name()).collect();
        names.sort_unstable();
        names.dedup();
        let mut rows: Vec<_> = names.into_iter().map(|name| row(name, &runs)).collect();
        let oracle = rows.iter().position(|row| row.policy == Contestant::ORACLE.name()).map(|at| rows.remove(at));
        rows.sort_by(|a, b| b.goodput.total_cmp(&a.goodput).then(a.ttft_p99.total_cmp(&b.ttft_p99)));
        chapters.push(Chapter {
            scenario,
            title: job.stage.scenario().title(),
            variant,
            routers,
            load: job.stage.load(),
            slo: job.stage.slo(),
            windows: job.stage.windows().to_vec(),
            regions: played
                .iter()
                .find(|(other, _)| place(other) == (scenario, variant, routers))
                .map_or_else(Vec::new, |(_, it)| it.region_names.clone()),
            rows,
            oracle,
        });
    }
    chapters
}

fn row(policy: &'static str, runs: &[&(Job, Played)]) -> Row {
    let runs: Vec<_> =
        runs.iter().filter(|(job, _)| job.contestant.name() == policy).map(|(_, played)| played).collect();
    let of = |value: fn(&Measured) -> f64| median(runs.iter().map(|played| value(&played.measured)).collect());
    // What is not known of every seed is not known.
    let known = |value: fn(&Measured) -> Option<f64>| {
        let values: Option<Vec<f64>> = runs.iter().map(|played| value(&played.measured)).collect();
        values.map(median)
    };
    Row {
        policy,
        goodput: of(|it| it.goodput),
        ttft_p50: of(|it| it.ttft_p50),
        ttft_p90: of(|it| it.ttft_p90),
        ttft_p99: of(|it| it.ttft_p99),
        attempts: of(|it| it.attempts),
        wasted: of(|it| it.wasted),
        recover: known(|it| it.time_to_recover),
        critical: known(|it| it.critical_goodput),
        others: known(|it| it.others_goodput_vs_alone),
        jain: known(|it| it.others_goodput_vs_alone.map(|_| it.jain)),
        fullest: known(|it| it.max_region_utilisation),
        flaps: known(|it| it.flaps),
        cdf: runs.first().map(|played| played.cdf.clone()).unwrap_or_default(),
        timeline: runs.first().map(|played| played.timeline.clone()).unwrap_or_default(),
        regions: runs.first().map(|played| played.regions.clone()).unwrap_or_default(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(chapter: &Chapter) {
    let Chapter { scenario, title, variant, routers, load, .. } = chapter;
    let variant = if variant.is_empty() { String::new() } else { format!(" ({variant})") };
    println!("\n{scenario}{variant}, {title}; {routers} router(s), load {load}");
    print!(
        "{:16} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9}",
        "policy", "goodput", "p50 s", "p90 s", "p99 s", "attempts", "waste", "recover s"
    );
    let extra = chapter.extra();
    extra.iter().for_each(|(name, _)| print!(" {name:>9}"));
    println!();
    for row in chapter.rows.iter().chain(&chapter.oracle) {
        let recover = row.recover.map_or("-".to_owned(), |seconds| format!("{seconds:.0}"));
        let figure = |value: f64, digits| if value.is_nan() { "-".into() } else { format!("{value:.digits$}") };
        let [p50, p90, p99, attempts, wasted] =
            [row.ttft_p50, row.ttft_p90, row.ttft_p99, row.attempts, row.wasted].map(|value| figure(value, 3));
        let goodput = figure(row.goodput, 4);
        print!("{:16} {goodput:>8} {p50:>9} {p90:>9} {p99:>9} {attempts:>9} {wasted:>7} {recover:>9}", row.policy);
        extra.iter().for_each(|(_, value)| print!(" {:>9}", figure(value(row).unwrap_or(f64::NAN), 3)));
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fallway::sim::scenarios::Scenario;

    const KEYS: &str = "attempts_per_request broken_streams cost cost_vs_best critical_goodput decisions_hash e2e_p99_s failures flaps \
                        goodput harmed hopeless_refused jain load max_region_utilisation oracle_ttft_p99_s others_goodput_vs_alone outside_residency overruns \
                        policy rate_limited_per_1k repeated_tokens requests resumed_share routers scenario seed share_max \
                        silent_truncations spend_of_cap time_to_detect_s \
                        time_to_recover_s ttft_p50_s ttft_p90_s ttft_p99_s wasted_token_share";

    fn jobs_of(scenario: Scenario, requests: u64) -> Vec<Job> {
        let settings = Settings { requests: Some(requests), ..Settings::default() };
        let contestant = Contestant::by_name("round_robin").unwrap();
        let job = |stage| Job { stage, contestant, seed: u64::MAX, routers: 1 };
        scenario.stages(&settings).into_iter().map(job).collect()
    }

    #[test]
    fn a_line_has_the_same_keys_for_every_scenario() {
        for scenario in Scenario::ALL {
            let jobs = jobs_of(scenario, 0);
            for job in &jobs {
                let mut line = line(job, &job.play().unwrap(), f64::NAN);
                let variant = line.as_object_mut().unwrap().remove("variant");
                assert_eq!(variant.is_some(), jobs.len() > 1, "{scenario:?}");
                let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(keys.join(" "), KEYS, "{scenario:?}");
                assert_eq!((&line["goodput"], line["seed"].as_u64()), (&Value::Null, Some(u64::MAX)));
            }
        }
    }

    #[test]
    fn what_failed_has_no_place_in_a_curve() {
        // Up to the middle of the fault, where one in ten fails.
        let job = &jobs_of(Scenario::S2, 6_000)[1];
        let run = job.stage.run(job.contestant).unwrap();
        let (last, share) = *cdf(&run).last().unwrap();
        let whole = run.counted().filter(|record| record.ended == Ended::Completed).count();
        let whole = whole as f64 / run.requests() as f64;
        assert!(whole < 0.95 && share <= whole && share > whole - 0.01 && last > run.ttft(0.5), "{share} {whole}");
    }
}
