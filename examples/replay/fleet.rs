//! Nine servers in three regions, as fast as this workload needs them.
//!
//! # How fast
//!
//! Arrivals are compressed, so the servers must be faster than real ones by about the same factor, and a fixed speed would
//! be right for one trace only. The shape of the work is real: a prompt is read at 8,000 tokens/s and an answer written at
//! 40 tokens/s, in four slots a server. One factor speeds both up. It is the smallest that satisfies three rules by which
//! a real fleet is sized, whatever the trace:
//!
//! 1. **The mean**: the work fills `--load` of all slots.
//! 2. **The peak without a region**: the busiest second fills nine tenths of the slots of six servers. Steady traffic
//!    hardly notices this rule; bursty traffic gets the larger fleet that it needs in reality too.
//! 3. **The service level**: one request in a hundred may be so long that an idle server takes more than half the SLO;
//!    the other half is for distance, waiting and a second attempt.
//!
//! Distance is not compressed, and costs the client time but the server no slot: it is waited for on the client's side
//! ([`Endpoint::rtt`]).

use std::io;
use std::time::Duration;

use hyper::Uri;

use crate::support::upstream::{Upstream, UpstreamConfig};
use crate::workload::{Job, MODEL, Workload};

/// The regions in order of preference, with the round trip from the host application, which runs in the first.
pub(crate) const REGIONS: [(&str, Duration); 3] = [
    ("eu-west", Duration::from_millis(4)),
    ("eu-north", Duration::from_millis(28)),
    ("us-east", Duration::from_millis(80)),
];
/// Servers in each region.
pub(crate) const PER_REGION: usize = 3;
/// Servers altogether.
pub(crate) const SERVERS: usize = REGIONS.len() * PER_REGION;
/// Requests that one server works on at the same time.
const SLOTS: usize = 4;

/// The part of the slots that may be in use when it counts: beyond it, waiting grows faster than work.
const FULL: f64 = 0.9;

/// Speeds of a real server, before the factor.
const PREFILL_TOKENS_PER_S: f64 = 8_000.0;
const DECODE_TOKENS_PER_S: f64 = 40.0;

/// Time that a server needs besides reading and writing: parsing, scheduling, the first step.
const OVERHEAD: Duration = Duration::from_millis(3);
/// Tokens due within this time share one event of a stream. Clients see no difference, two cores do.
const CHUNK_INTERVAL: Duration = Duration::from_millis(40);

/// How fast the nine servers are, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizing {
    /// Factor over the speed of a real server.
    pub(crate) speed: f64,
    /// Mean utilisation of the slots of all nine that follows.
    pub(crate) mean_load: f64,
    /// Utilisation in the busiest second.
    pub(crate) peak_load: f64,
    /// Seconds that a request keeps a slot, on average.
    service: f64,
}

impl Sizing {
    /// Applies the three rules of the module documentation.
    pub(crate) fn for_workload(workload: &Workload, load: f64, slo: Duration) -> Self {
        let work: Vec<f64> = workload.jobs.iter().map(work_seconds).collect();
        let overhead = OVERHEAD.as_secs_f64();
        let slots = (SERVERS * SLOTS) as f64;
        let surviving = ((SERVERS - PER_REGION) * SLOTS) as f64 * FULL;

        // Arrivals per second times the seconds each one keeps a slot is the number of slots in use (Little's law).
        let mean_work = work.iter().sum::<f64>() / workload.length.as_secs_f64();
        let mean_overhead = workload.rate() * overhead;
        let (peak_work, peak_overhead) = busiest_second(workload, &work, overhead);

        let speed = [
            mean_work / (slots * load - mean_overhead).max(f64::EPSILON),
            peak_work / (surviving - peak_overhead).max(f64::EPSILON),
            percentile_99(work) / (slo.as_secs_f64() / 2.0 - overhead).max(MIN_ANSWER),
        ]
        .into_iter()
        .fold(1.0, f64::max);
        Self {
            speed,
            mean_load: (mean_work / speed + mean_overhead) / slots,
            peak_load: (peak_work / speed + peak_overhead) / slots,
            service: mean_work / speed / workload.rate() + overhead,
        }
    }
}

impl Sizing {
    /// All slots busy, those requests that are on the way meanwhile, and half as many again in the queue, so that no slot
    /// waits for its next request.
    fn in_flight(self, rtt: Duration) -> u32 {
        let busy = SLOTS as f64 * (1.0 + rtt.as_secs_f64() / self.service);
        (busy * 1.5).ceil() as u32
    }
}

/// No speed meets an SLO shorter than the overhead; this keeps the factor finite.
const MIN_ANSWER: f64 = 0.01;

/// Seconds that a real server needs for this request.
fn work_seconds(job: &Job) -> f64 {
    f64::from(job.prompt_tokens) / PREFILL_TOKENS_PER_S + f64::from(job.output_tokens) / DECODE_TOKENS_PER_S
}

/// Work and overhead that arrive in the fullest second of the replay.
fn busiest_second(workload: &Workload, work: &[f64], overhead: f64) -> (f64, f64) {
    let mut seconds = vec![(0.0, 0.0); workload.length.as_secs() as usize + 1];
    for (job, work) in workload.jobs.iter().zip(work) {
        // The last arrival falls on the end of the line, hence the one second more.
        let second = &mut seconds[job.at.as_secs() as usize];
        second.0 += work;
        second.1 += overhead;
    }
    seconds.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
}

fn percentile_99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 99).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().unwrap_or(0.0)
}

/// What a client may know of a server.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// For example `eu-west-2`.
    pub(crate) id: String,
    /// One of [`REGIONS`].
    pub(crate) region: &'static str,
    /// Where completions are posted to.
    pub(crate) uri: Uri,
    /// Distance; waited for on the client's side, once per attempt.
    pub(crate) rtt: Duration,
    /// Requests in flight above which more of them only wait longer: what a load test of it would find.
    pub(crate) in_flight: u32,
}

/// The running servers, region by region.
#[derive(Debug)]
pub(crate) struct Fleet {
    servers: Vec<Upstream>,
    sizing: Sizing,
}

impl Fleet {
    /// Starts all nine on free loopback ports.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub(crate) async fn start(sizing: Sizing) -> io::Result<Self> {
        let mut servers = Vec::with_capacity(SERVERS);
        for (region, _) in REGIONS {
            for number in 1..=PER_REGION {
                let config = UpstreamConfig {
                    id: format!("{region}-{number}"),
                    region: region.to_owned(),
                    model: MODEL.to_owned(),
                    base_latency: OVERHEAD,
                    prefill_tokens_per_s: PREFILL_TOKENS_PER_S * sizing.speed,
                    decode_tokens_per_s: DECODE_TOKENS_PER_S * sizing.speed,
                    slots: SLOTS,
                    chunk_interval: CHUNK_INTERVAL,
                    hard_limit: None,
                    requests_per_minute: None,
                    tokens_per_minute: None,
                };
                servers.push(Upstream::start(config).await?);
            }
        }
        Ok(Self { servers, sizing })
    }

    /// The server with this place in the list.
    pub(crate) fn server(&self, index: usize) -> &Upstream {
        &self.servers[index]
    }

    /// What clients are told, in order of preference.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let regions = REGIONS.iter().flat_map(|region| [region; PER_REGION]);
        self.servers
            .iter()
            .zip(regions)
            .map(|(server, &(region, rtt))| Endpoint {
                id: server.id().to_owned(),
                region,
                uri: format!("{}/v1/chat/completions", server.url())
                    .parse()
                    .expect("a loopback address and a fixed path are always a valid URI"),
                rtt,
                in_flight: self.sizing.in_flight(rtt),
            })
            .collect()
    }
}
