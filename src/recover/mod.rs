//! How backends leave the running and come back: by evidence, never by a timer alone.

mod config;
mod gate;
mod pulse;
mod recovery;
mod region;

pub use config::{Ejection, InvalidEjection};
pub(crate) use gate::Alarm;
pub(crate) use pulse::Pulse;
pub(crate) use recovery::{Court, Credential, Evidence, Permits, Recovery, Standing};
pub(crate) use region::RegionGate;
