//! The fault schedule: six named windows on the compressed time line, with calm between them.
//!
//! The order is fixed, so that runs compare; the seed moves each window and chooses its victims. Positions count half by
//! time and half by arrivals: in steady traffic that is the same, in bursty traffic a fault during a pause would test
//! nothing. Every fault leaves enough
//! of the fleet to serve everything, so a miss is the client's choice and not a lack of servers. What no client can save
//! are the streams that a dying server had begun to send: nobody may splice a second answer onto a first half.

use std::io;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::{Instant, sleep_until};

use crate::fleet::{Fleet, PER_REGION, REGIONS, SERVERS};
use crate::seed;
use crate::support::upstream::Hang;
use crate::workload::Workload;

/// Everything below is a fraction of the run, half of its time and half of its requests. Calm before the first window, for warming up.
const LEAD_IN: f64 = 0.06;
/// From the earliest start of a window to the earliest start of the next.
const PITCH: f64 = 0.15;
/// Length of a window.
const WINDOW: f64 = 0.09;
/// The seed delays a window by up to this much; what is left of the pitch is calm.
const JITTER: f64 = 0.02;

/// How much slower the gray server gets.
const SLOWDOWN: f64 = 10.0;
/// Streams break after this many tokens: after the first content, when no client can start over unnoticed.
const TOKENS_BEFORE_CUT: usize = 5;
/// What a limited server asks for, the least that the header can say.
const RETRY_AFTER_S: u64 = 1;

/// What happens in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One server refuses connections, and what it was sending breaks.
    BackendDown,
    /// One server works ten times slower; its health check stays green.
    GraySlow,
    /// The servers of one region, sharing one quota, answer 429 with Retry-After.
    RateLimits,
    /// Another region refuses connections.
    RegionLost,
    /// One server accepts requests and never answers.
    Hang,
    /// Two servers end streams midway: one breaks the connection, one ends it cleanly without `[DONE]`.
    StreamsCut,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::BackendDown, Self::GraySlow, Self::RateLimits, Self::RegionLost, Self::Hang, Self::StreamsCut];

    /// Name in tables, pictures and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BackendDown => "backend down",
            Self::GraySlow => "gray slow",
            Self::RateLimits => "429 storm",
            Self::RegionLost => "region lost",
            Self::Hang => "hang",
            Self::StreamsCut => "streams cut",
        }
    }
}

/// One fault with its time and its victims.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    /// What happens.
    pub(crate) fault: Fault,
    /// Begin, after the start of the run.
    pub(crate) start: Duration,
    /// End, after the start of the run.
    pub(crate) end: Duration,
    /// To whom, for people: a server, two servers or a region.
    pub(crate) target: String,
    victims: Vec<usize>,
}

impl Window {
    /// Whether a request that arrives at this time arrives during the fault.
    pub(crate) fn contains(&self, at: Duration) -> bool {
        (self.start..self.end).contains(&at)
    }
}

/// The windows of a run of this workload, in order.
pub(crate) fn schedule(workload: &Workload, seed: u64) -> Vec<Window> {
    let mut rng = seed::for_purpose(seed, "faults");
    let limited = rng.below(REGIONS.len());
    let lost = (limited + 1 + rng.below(REGIONS.len() - 1)) % REGIONS.len();
    let mut windows = Vec::with_capacity(Fault::ALL.len());
    for (place, fault) in Fault::ALL.into_iter().enumerate() {
        let start = LEAD_IN + PITCH * place as f64 + JITTER * rng.unit();
        let one = rng.below(SERVERS);
        let other = (one + 1 + rng.below(SERVERS - 1)) % SERVERS;
        let (victims, target) = match fault {
            Fault::RateLimits => region(limited),
            Fault::RegionLost => region(lost),
            Fault::StreamsCut => (vec![one, other], format!("{}, {}", server(one), server(other))),
            Fault::BackendDown | Fault::GraySlow | Fault::Hang => (vec![one], server(one)),
        };
        windows.push(Window {
            fault,
            start: moment(workload, start),
            end: moment(workload, start + WINDOW),
            target,
            victims,
        });
    }
    windows
}

/// The moment at which this fraction of the run is over, half of its time and half of its requests. Found by bisection:
/// the fraction grows with time, and 40 halvings of a run are exact to the microsecond.
fn moment(workload: &Workload, fraction: f64) -> Duration {
    let (mut early, mut late) = (Duration::ZERO, workload.length);
    for _ in 0..40 {
        let middle = (early + late) / 2;
        let arrived = workload.jobs.partition_point(|job| job.at <= middle);
        let requests = arrived as f64 / workload.jobs.len() as f64;
        let time = middle.as_secs_f64() / workload.length.as_secs_f64();
        if f64::midpoint(time, requests) < fraction {
            early = middle;
        } else {
            late = middle;
        }
    }
    late
}

fn region(index: usize) -> (Vec<usize>, String) {
    let first = index * PER_REGION;
    let victims = (first..first + PER_REGION).collect();
    (victims, REGIONS[index].0.to_owned())
}

fn server(index: usize) -> String {
    format!("{}-{}", REGIONS[index / PER_REGION].0, index % PER_REGION + 1)
}

/// Carries the schedule out, and says on the progress bar what is going on.
///
/// # Errors
/// When a server cannot listen on its port again.
pub(crate) async fn inject(windows: &[Window], fleet: &Fleet, start: Instant, bar: &ProgressBar) -> io::Result<()> {
    for window in windows {
        bar.set_message("calm");
        sleep_until(start + window.start).await;
        bar.set_message(format!("{}: {}", window.fault.name(), window.target));
        for (place, &victim) in window.victims.iter().enumerate() {
            begin(window.fault, place, fleet, victim).await;
        }
        sleep_until(start + window.end).await;
        for &victim in &window.victims {
            fleet.server(victim).fault().clear();
            fleet.server(victim).come_back().await?; // without effect on one that is up
        }
    }
    bar.set_message("calm");
    Ok(())
}

/// Breaks one server, the `place`-th victim of its window.
async fn begin(fault: Fault, place: usize, fleet: &Fleet, victim: usize) {
    let server = fleet.server(victim);
    match fault {
        Fault::BackendDown | Fault::RegionLost => server.go_down().await,
        Fault::GraySlow => server.fault().slow(SLOWDOWN),
        Fault::RateLimits => server.fault().status(429, Some(RETRY_AFTER_S)),
        Fault::Hang => server.fault().hang(Hang::BeforeHeaders),
        Fault::StreamsCut if place == 0 => server.fault().cut_after(TOKENS_BEFORE_CUT),
        Fault::StreamsCut => server.fault().close_after(TOKENS_BEFORE_CUT),
    }
}
