//! Test a policy against an outage: simulated servers, faults, workloads, in virtual time (feature `sim`).
//!
//! The *real* [`Router`](crate::Router) and policies run here; only time, servers and requests are simulated, and
//! everything follows from one seed, bit for bit. A [`World`] is a fleet of [`Server`]s, the routers that share it,
//! the requests that come, and what goes wrong ([`at`]). [`World::run`] plays it and returns a [`Run`]: goodput, times
//! to first token, attempts, waste, shares.
//!
//! - A server is a prefill queue before a decode batch, both exact; it has a prefix cache, quotas, a distance.
//! - [`World::run`] drives [`Trip`](crate::router::Trip)s without futures, some hundred thousand requests a second;
//!   [`World::run_with_futures`] calls the router as a service does, on an [`Executor`]. Both decide alike.
//! - [`baselines`] has what others do, as policies; [`scenarios`] has the comparisons.
//!
//! - [`conformance`] puts backends, policies and signals of your own through what all must do.
//!
//! The example `test_your_policy` is a test that a user would write; `compare` prints how policies stand.

mod audit;
pub mod baselines;
mod cache;
pub mod campaign;
mod clock;
mod cluster;
pub mod conformance;
mod diary;
mod engine;
mod envoy;
mod fault;
mod flight;
mod job;
mod last;
mod machine;
mod mistakes;
mod probe;
mod pure;
mod quota;
mod real;
mod reality;
mod regions;
mod rollout;
mod run;
pub mod scenarios;
mod script;
mod server;
mod setting;
mod source;
mod stack;
mod tally;
mod tokens;
mod trace;
mod workload;
mod world;

pub use clock::{Clock, Executor};
pub use diary::Transition;
pub use envoy::{EnvoyExact, Priority, PriorityLoad};
pub use fault::{Fault, Schedule, at};
pub use job::Request;
pub use mistakes::WorldError;
pub use reality::Answer;
pub use run::{Ended, Record, Run};
pub use server::Server;
pub use stack::{Desk, Load, Reports, Stack};
pub use tokens::Tokens;
pub use trace::{Trace, TraceError};
pub use workload::{Arrivals, Lengths};
pub use world::World;

use crate::rng::{hash_str, mix};
use std::time::Duration;

/// Seconds, as a duration; what is negative or no number counts as none.
pub fn secs(seconds: impl Into<f64>) -> Duration {
    Duration::try_from_secs_f64(seconds.into()).unwrap_or(Duration::ZERO)
}

/// The seed of the random numbers for one purpose: no purpose disturbs another.
fn stream(seed: u64, purpose: &str) -> u64 {
    mix(seed, hash_str(purpose))
}
