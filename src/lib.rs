//! Fail-safe routing for AI inference traffic.

#![forbid(unsafe_code)]

pub mod adapt;
pub mod backend;
pub mod budget;
pub mod decision;
pub mod event;
pub mod facts;
pub(crate) mod fleet;
pub(crate) mod limit;
pub mod policy;
pub mod recover;
pub mod rng;
pub mod router;
pub mod signal;
pub mod time;

pub use backend::{Backend, BackendError, FailureKind};
pub use decision::Decision;
pub use facts::{Facts, Profile};
pub use policy::{PolicyExt, RoutingPolicy};
pub use router::{BuildError, CallOptions, RouteError, Routed, Router};
pub use signal::HealthSignal;
