//! Turns recorded rows into requests on the compressed time line.

use std::time::Duration;

use bytes::Bytes;

use crate::seed;
use crate::support::trace::Row;

/// Below this rate the machine that runs servers, clients and bookkeeping on two cores is mostly idle, so that what is
/// measured is waiting, not computing.
const DEFAULT_RATE: f64 = 84.0;
/// Long enough for six faults with calm between them, short enough for two runs in a minute.
const DEFAULT_SECONDS: f64 = 24.0;
/// The name under which all nine servers offer their model.
pub(crate) const MODEL: &str = "llama-70b";

/// One request to replay.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// When it arrives, after the start of the run.
    pub(crate) at: Duration,
    /// Length of its prompt.
    pub(crate) prompt_tokens: u32,
    /// Length of the answer it must get.
    pub(crate) output_tokens: u32,
    /// Whether the caller wants the answer as it is written, or whole. Either way it is asked for as a stream.
    pub(crate) stream: bool,
}

impl Job {
    /// The request as an OpenAI-compatible server takes it. The trace holds no text: the prompt is a placeholder, its
    /// length travels in a header, and `max_tokens` asks for exactly the recorded answer.
    pub(crate) fn body(&self) -> Bytes {
        Bytes::from(format!(
            r#"{{"model":"{MODEL}","max_tokens":{},"stream":true,"messages":[{{"role":"user","content":"recorded prompt"}}]}}"#,
            self.output_tokens
        ))
    }
}

/// All requests of a run, in order of arrival.
#[derive(Debug)]
pub(crate) struct Workload {
    /// In order of arrival.
    pub(crate) jobs: Vec<Job>,
    /// The compressed span of the arrivals.
    pub(crate) length: Duration,
    /// Recorded seconds per replayed second.
    pub(crate) compression: f64,
}

impl Workload {
    /// Compresses the rows into `length`, or into a length that suits their number.
    ///
    /// Gaps keep their proportions, so a burst stays a burst. Rows that all arrive in the same instant stay that way.
    pub(crate) fn new(rows: &[Row], length: Option<Duration>, stream_share: f64, seed: u64) -> Self {
        let length =
            length.unwrap_or_else(|| Duration::from_secs_f64((rows.len() as f64 / DEFAULT_RATE).max(DEFAULT_SECONDS)));
        let recorded = rows.last().map_or(Duration::ZERO, |row| row.at);
        let compression = recorded.as_secs_f64() / length.as_secs_f64();
        let mut kind = seed::for_purpose(seed, "stream or unary");
        let jobs = rows
            .iter()
            .map(|row| Job {
                at: if compression > 0.0 {
                    row.at.div_f64(compression).min(length) // rounding must not pass the end
                } else {
                    Duration::ZERO
                },
                prompt_tokens: row.prompt_tokens,
                output_tokens: row.output_tokens,
                stream: kind.unit() < stream_share,
            })
            .collect();
        Self { jobs, length, compression }
    }

    /// Mean arrivals per second.
    pub(crate) fn rate(&self) -> f64 {
        self.jobs.len() as f64 / self.length.as_secs_f64()
    }
}
