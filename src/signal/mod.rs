//! Health signals: sources of readings about backends.

mod latency;
mod reading;

pub(crate) use latency::LatencyModel;
pub use reading::{FreshFor, HealthSignal, HealthSignalExt, Reading, Score};
