//! The open loop: requests arrive when the recording says, whether or not earlier ones have been answered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Call, Client, Explained, Observation, Outcome};
use crate::faults::{Window, inject};
use crate::fleet::Fleet;
use crate::workload::Workload;

/// Time for the tasks to be in place before the first arrival.
const HEAD_START: Duration = Duration::from_millis(200);
/// A request that outlives its deadline by this much is dropped. It is counted as past its deadline long before; the
/// limit only makes sure that every replay ends.
const ABANDON_AFTER: Duration = Duration::from_secs(2);

/// The record of one client over the whole workload.
#[derive(Debug)]
pub(crate) struct Run {
    /// Name of the client.
    pub(crate) name: &'static str,
    /// What it was told.
    pub(crate) settings: String,
    /// One for each job, in the same order.
    pub(crate) observations: Vec<Observation>,
    /// Decisions that the client wants shown.
    pub(crate) explained: Vec<Explained>,
    /// Claims on capacity that were never returned.
    pub(crate) leaked_leases: u64,
}

/// Replays the workload through the faults with this client.
///
/// # Errors
/// When a server cannot be brought back after its fault.
pub(crate) async fn drive<C: Client>(
    client: Arc<C>,
    workload: &Workload,
    windows: &[Window],
    fleet: &Fleet,
    deadline: Duration,
) -> io::Result<Run> {
    let bar = progress_bar(client.name(), workload.jobs.len());
    let start = Instant::now() + HEAD_START;
    let requests = replay(&client, workload, windows, start, deadline, &bar);
    let (faults, observations) = tokio::join!(inject(windows, fleet, start, &bar), requests);
    bar.finish_and_clear();
    faults?;
    Ok(Run {
        name: client.name(),
        settings: client.settings(),
        observations,
        explained: client.explained(),
        leaked_leases: client.leaked_leases(),
    })
}

async fn replay<C: Client>(
    client: &Arc<C>,
    workload: &Workload,
    windows: &[Window],
    start: Instant,
    deadline: Duration,
    bar: &ProgressBar,
) -> Vec<Observation> {
    // Every slot begins as a client that crashed: what a panic leaves behind is then counted like any other miss.
    let mut observations: Vec<Observation> =
        workload.jobs.iter().map(|job| lost(start + job.at, Duration::ZERO, "client panicked")).collect();

    let mut tasks = JoinSet::new();
    for (index, job) in workload.jobs.iter().enumerate() {
        let call = Call {
            job: Arc::new(job.clone()),
            arrived: start + job.at,
            deadline: start + job.at + deadline,
            during: windows.iter().find(|window| window.contains(job.at)).map(|w| w.fault),
        };
        sleep_until(call.arrived).await;
        let client = Arc::clone(client);
        tasks.spawn(async move {
            let limit = call.deadline + ABANDON_AFTER;
            let seen = timeout_at(limit, client.send(&call)).await;
            let seen = seen.unwrap_or_else(|_| lost(call.arrived, limit - call.arrived, "abandoned"));
            (index, seen)
        });
        while let Some(done) = tasks.try_join_next() {
            note(&mut observations, done, bar);
        }
    }
    while let Some(done) = tasks.join_next().await {
        note(&mut observations, done, bar);
    }
    observations
}

/// Files what a task has brought; a task that panicked leaves its slot as it was.
fn note(
    observations: &mut [Observation],
    done: Result<(usize, Observation), tokio::task::JoinError>,
    bar: &ProgressBar,
) {
    bar.inc(1);
    if let Ok((index, seen)) = done {
        observations[index] = seen;
    }
}

/// A request of which its client has nothing to tell.
fn lost(arrived: Instant, after: Duration, reason: &str) -> Observation {
    Observation {
        started: arrived,
        first_token_at: None,
        ended_at: arrived + after,
        attempts: 1,
        rate_limited: 0,
        degraded: false,
        backend: None,
        outcome: Outcome::Error(reason.into()),
    }
}

/// Drawn on stderr when that is a terminal, invisible otherwise.
fn progress_bar(name: &'static str, requests: usize) -> ProgressBar {
    let bar = ProgressBar::new(requests as u64).with_prefix(name);
    let style = ProgressStyle::with_template("{prefix:>12} [{bar:40}] {pos:>5}/{len} {elapsed} {msg}")
        .expect("the template above is well-formed: it is a constant");
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
