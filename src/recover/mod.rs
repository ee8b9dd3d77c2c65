//! How backends leave the running and come back: by evidence, never by a timer alone.

mod compare;
mod config;
mod domain;
mod gate;
mod learn;
mod member;
mod pulse;
mod ramp;
mod recovery;
#[cfg(test)]
mod reference;
mod region;
mod throttle;
mod ties;
mod window;

pub use config::{Ejection, InvalidEjection};
pub(crate) use domain::Domain;
pub(crate) use gate::Alarm;
pub(crate) use learn::{Change, Evidence, Verdict};
pub(crate) use recovery::{Court, Permits, Recovery, Standing};
pub(crate) use region::RegionGate;
pub(crate) use throttle::Throttle;
pub(crate) use ties::{Credential, Kin, Ties};
