//! One signal made of others. None of them keeps statistics; their rules are the whole of them.

mod fresh_for;
mod hysteresis;
mod quorum;
mod worst_of;

pub use fresh_for::FreshFor;
pub use hysteresis::Hysteresis;
pub use quorum::Quorum;
pub use worst_of::WorstOf;
