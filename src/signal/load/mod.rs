//! What servers say of their load: the report, the formats it comes in, and where the last ones are kept.

mod engines;
mod json;
mod orca;
mod prometheus;
mod reported;
mod reports;
mod unreadable;

pub(crate) use reported::Reported;
pub use reports::{LoadCounts, LoadReports};
pub use unreadable::Unreadable;

use crate::signal::Score;

/// How busy a server says that it is. What it does not say is `None`, never zero.
///
/// Reading one never panics, takes time in proportion to its length, and looks at no more than
/// [`MOST_BYTES`](Self::MOST_BYTES); what can not be believed is an [`Unreadable`], which
/// [`LoadReports::report`] takes as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LoadReport {
    /// Requests that it works on.
    pub running: Option<u64>,
    /// Requests that wait in its queue.
    pub waiting: Option<u64>,
    /// Prompt tokens that it has still to work through: those of the requests in its queue and the rest of the prompts
    /// that it works on, without what it has in its cache.
    pub waiting_tokens: Option<u64>,
    /// How much of its KV cache is in use, of 1000.
    pub kv_cache: Option<u32>,
    /// How much of its compute is in use, of 1000; more than that where its limit is a soft one.
    pub utilization: Option<u32>,
}

impl LoadReport {
    /// How much of a report is looked at: ten times what a busy server's metrics page has.
    pub const MOST_BYTES: usize = 1 << 20;
    /// How full a server may be, of 1000, before it counts as saturated.
    pub const SATURATED: u32 = 950;

    /// The health that follows from it: 1000 when idle, below 500 when cache or compute are fuller than
    /// [`SATURATED`](Self::SATURATED), in proportion in between. `None` where it has neither: a number of requests
    /// says nothing without one to compare it with.
    pub fn score(&self) -> Option<Score> {
        let full = self.fullness()?;
        let lost = (u64::from(full) * 500).div_ceil(u64::from(Self::SATURATED));
        Some(Score::from_permille(1000 - lost.min(1000) as u16))
    }

    /// How full its cache is, or how busy its compute if that is more; of 1000.
    fn fullness(&self) -> Option<u32> {
        self.kv_cache.max(self.utilization)
    }

    /// Nothing in it.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Itself, unless it says nothing.
    fn unless_empty(self) -> Result<Self, Unreadable> {
        if self.is_empty() { Err(Unreadable::Nothing) } else { Ok(self) }
    }
}

/// More requests, or tokens, than this on one server are a mistake.
const MOST: f64 = 1e9;
/// Compute may be over its soft limit, but not a thousand times.
const MOST_UTILIZATION: f64 = 1000.0;
/// A share may be a rounding error over one.
const ROUNDING: f64 = 0.01;

/// What a number in a report measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gauge {
    Running,
    Waiting,
    WaitingTokens,
    KvCache,
    Utilization,
}

impl Gauge {
    const fn name(self) -> &'static str {
        match self {
            Self::Running => "running requests",
            Self::Waiting => "waiting requests",
            Self::WaitingTokens => "waiting tokens",
            Self::KvCache => "KV cache",
            Self::Utilization => "utilization",
        }
    }

    fn of(self, report: &LoadReport) -> Option<u64> {
        match self {
            Self::Running => report.running,
            Self::Waiting => report.waiting,
            Self::WaitingTokens => report.waiting_tokens,
            Self::KvCache => report.kv_cache.map(u64::from),
            Self::Utilization => report.utilization.map(u64::from),
        }
    }

    fn set(self, report: &mut LoadReport, value: u64) {
        match self {
            Self::Running => report.running = Some(value),
            Self::Waiting => report.waiting = Some(value),
            Self::WaitingTokens => report.waiting_tokens = Some(value),
            Self::KvCache => report.kv_cache = u32::try_from(value).ok(),
            Self::Utilization => report.utilization = u32::try_from(value).ok(),
        }
    }

    /// The value in whole requests or tokens, or in thousandths; an error where it can not be true.
    fn measure(self, value: f64) -> Result<u64, Unreadable> {
        let (most, scale) = match self {
            Self::Running | Self::Waiting | Self::WaitingTokens => (MOST, 1.0),
            Self::KvCache => (1.0 + ROUNDING, 1000.0),
            Self::Utilization => (MOST_UTILIZATION, 1000.0),
        };
        // Not the other way round: no comparison with a NaN is true.
        if value >= 0.0 && value <= most {
            let whole = (value * scale).round() as u64;
            Ok(if self == Self::KvCache { whole.min(1000) } else { whole })
        } else {
            Err(Unreadable::OutOfRange { what: self.name() })
        }
    }
}

/// The text of a report.
fn text(report: &[u8]) -> Result<&str, Unreadable> {
    if report.len() > LoadReport::MOST_BYTES {
        return Err(Unreadable::TooLong { bytes: report.len() });
    }
    std::str::from_utf8(report).map_err(|_| Unreadable::NotText)
}

/// A number as reports write it; an error where it is none, or none that can be true.
fn number(text: &str, gauge: Gauge) -> Result<u64, Unreadable> {
    gauge.measure(text.parse().map_err(|_| Unreadable::NotANumber { what: gauge.name() })?)
}
