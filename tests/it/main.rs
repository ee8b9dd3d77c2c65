//! The integration tests of `fallway`, over its public API.

// A test may unwrap: that is how it fails. And a closure reads better than an import for the sake of a method's path.
#![allow(clippy::unwrap_used, clippy::redundant_closure_for_method_calls)]

mod bars;
mod cancel;
mod constitution;
mod fail_safe;
mod support;
mod trace_rows;
