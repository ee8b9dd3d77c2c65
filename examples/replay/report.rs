//! From observations to figures. One rule judges both clients.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::client::{Observation, Outcome};
use crate::drive::Run;
use crate::faults::Window;
use crate::workload::Job;

/// What a deadline may be missed by before it counts: timers and two busy cores are not exact.
const DEADLINE_TOLERANCE: Duration = Duration::from_millis(50);

/// The rule of goodput.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge {
    /// Limit for the first token; of a unary answer, for all of it.
    pub(crate) slo: Duration,
    /// Limit for the whole answer.
    pub(crate) deadline: Duration,
}

impl Judge {
    /// Whether the caller got what was asked for in time. A degraded answer is not what was asked for.
    fn is_good(self, seen: &Observation) -> bool {
        seen.outcome == Outcome::Ok
            && !seen.degraded
            && seen.first_token_at.is_some_and(|at| at - seen.started <= self.slo)
            && seen.ended_at - seen.started <= self.deadline
    }

    /// Share of good answers, `None` when nothing was asked.
    pub(crate) fn goodput<'a>(self, observations: impl IntoIterator<Item = &'a Observation>) -> Option<f64> {
        let (mut all, mut good) = (0_u32, 0_u32);
        for seen in observations {
            all += 1;
            good += u32::from(self.is_good(seen));
        }
        (all > 0).then(|| f64::from(good) / f64::from(all))
    }
}

/// The figures of one client. The field names are the keys of the JSON file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// What the client was told.
    pub(crate) settings: String,
    pub(crate) requests: usize,
    pub(crate) goodput: f64,
    /// Times to the first token are over the requests that got one; the others count in `goodput` and `errors`.
    pub(crate) ttft_p50_ms: f64,
    pub(crate) ttft_p90_ms: f64,
    pub(crate) ttft_p99_ms: f64,
    pub(crate) attempts_per_request: f64,
    /// 429 answers met.
    pub(crate) rate_limited: u32,
    pub(crate) longest_ms: f64,
    /// Requests that ended more than 50 ms after their deadline.
    pub(crate) past_deadline: usize,
    pub(crate) truncated_reported: usize,
    pub(crate) truncated_silently: usize,
    pub(crate) degraded: usize,
    /// Reason to count, of everything that is no complete answer.
    pub(crate) errors: BTreeMap<String, usize>,
    pub(crate) leaked_leases: u64,
}

impl Summary {
    /// The figures of a run.
    pub(crate) fn new(run: &Run, judge: Judge) -> Self {
        let seen = &run.observations;
        let count = |what: fn(&Observation) -> bool| seen.iter().filter(|o| what(o)).count();
        let latest = judge.deadline + DEADLINE_TOLERANCE;
        let attempts: u32 = seen.iter().map(|o| o.attempts).sum();
        let longest = seen.iter().map(|o| o.ended_at - o.started).max();
        let mut first_tokens: Vec<Duration> = seen.iter().filter_map(|o| Some(o.first_token_at? - o.started)).collect();
        first_tokens.sort_unstable();
        let mut errors = BTreeMap::new();
        for reason in seen.iter().filter_map(|o| o.outcome.reason()) {
            *errors.entry(reason.to_owned()).or_insert(0) += 1;
        }
        Self {
            settings: run.settings.clone(),
            requests: seen.len(),
            goodput: judge.goodput(seen).unwrap_or(0.0),
            ttft_p50_ms: percentile_ms(&first_tokens, 50),
            ttft_p90_ms: percentile_ms(&first_tokens, 90),
            ttft_p99_ms: percentile_ms(&first_tokens, 99),
            attempts_per_request: f64::from(attempts) / seen.len().max(1) as f64,
            rate_limited: seen.iter().map(|o| o.rate_limited).sum(),
            longest_ms: milliseconds(longest.unwrap_or_default()),
            past_deadline: seen.iter().filter(|o| o.ended_at - o.started > latest).count(),
            truncated_reported: count(|o| o.outcome == Outcome::TruncatedReported),
            truncated_silently: count(|o| o.outcome == Outcome::TruncatedSilently),
            degraded: count(|o| o.degraded),
            errors,
            leaked_leases: run.leaked_leases,
        }
    }
}

/// Nearest rank of a sorted list.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    milliseconds(sorted.get(rank).copied().unwrap_or_default())
}

/// Milliseconds to a tenth; more digits would be noise.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Goodput of both clients in one piece of the time line, by time of arrival.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Slice {
    pub(crate) name: String,
    /// Who is hit, empty for a piece that is no fault.
    pub(crate) target: String,
    pub(crate) start_s: f64,
    pub(crate) end_s: f64,
    pub(crate) requests: usize,
    /// `None` when nothing arrived.
    pub(crate) goodput_naive: Option<f64>,
    pub(crate) goodput_fallway: Option<f64>,
}

/// Both runs and all their figures. Serialised, it is the JSON file.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) setup: Setup,
    pub(crate) client: Clients,
    /// The fault windows.
    pub(crate) windows: Vec<Slice>,
    /// Everything outside of them.
    pub(crate) calm: Slice,
    /// Second by second.
    pub(crate) seconds: Vec<Slice>,
}

/// Under the names that the file has for them.
#[derive(Debug, Serialize)]
pub(crate) struct Clients {
    pub(crate) naive: Summary,
    pub(crate) fallway: Summary,
}

/// What was replayed, and by which rule it was judged.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setup {
    pub(crate) trace: String,
    pub(crate) rows: usize,
    pub(crate) seconds: f64,
    pub(crate) compression: f64,
    pub(crate) mean_load: f64,
    pub(crate) peak_load: f64,
    pub(crate) slo_s: f64,
    pub(crate) deadline_s: f64,
    pub(crate) stream_share: f64,
    pub(crate) seed: u64,
}

impl Report {
    /// Compares two runs of the same jobs through the same windows.
    pub(crate) fn new(setup: Setup, jobs: &[Job], windows: &[Window], runs: [&Run; 2], judge: Judge) -> Self {
        let slice =
            |name: String, target: String, start: Duration, end: Duration, inside: &dyn Fn(Duration) -> bool| {
                let part = |run: &Run| {
                    let seen = run.observations.iter().zip(jobs);
                    judge.goodput(seen.filter(|(_, job)| inside(job.at)).map(|(seen, _)| seen))
                };
                Slice {
                    name,
                    target,
                    start_s: start.as_secs_f64(),
                    end_s: end.as_secs_f64(),
                    requests: jobs.iter().filter(|job| inside(job.at)).count(),
                    goodput_naive: part(runs[0]),
                    goodput_fallway: part(runs[1]),
                }
            };
        let length = Duration::from_secs_f64(setup.seconds);
        let calm = |at| !windows.iter().any(|window| window.contains(at));
        let second = |index: u64| {
            let (start, end) = (Duration::from_secs(index), Duration::from_secs(index + 1));
            let name = format!("second {index}");
            slice(name, String::new(), start, end, &|at| (start..end).contains(&at))
        };
        Self {
            windows: windows
                .iter()
                .map(|w| {
                    let name = w.fault.name().to_owned();
                    slice(name, w.target.clone(), w.start, w.end, &|at| w.contains(at))
                })
                .collect(),
            calm: slice("calm".into(), String::new(), Duration::ZERO, length, &calm),
            seconds: (0..=length.as_secs()).map(second).collect(),
            client: Clients { naive: Summary::new(runs[0], judge), fallway: Summary::new(runs[1], judge) },
            setup,
        }
    }
}
