//! The integration tests of `fallway`, over its public API.

// A test may unwrap: that is how it fails. And a closure reads better than an import for the sake of a method's path.
#![allow(clippy::unwrap_used, clippy::redundant_closure_for_method_calls)]

mod architecture;
mod bad_input;
mod bars;
mod budgets;
mod campaign;
mod cancel;
mod capacity;
mod conformance;
mod constitution;
mod costs;
mod custom;
mod docs;
mod events;
// What the examples are made of: a real server, a client for it, traces.
#[path = "../../examples/support/mod.rs"]
mod examples;
mod fail_safe;
mod fleet;
mod hedging;
mod isolation;
mod prefixes;
mod queue;
mod quotas;
mod reasons;
mod recovery;
mod refused;
mod regions;
mod registry;
mod runtimes;
mod secrets;
mod shaping;
mod shares;
mod signals;
mod sim;
mod streams;
mod support;
mod trace_rows;
mod traps;
mod trips;
