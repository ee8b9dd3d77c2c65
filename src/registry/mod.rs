//! The model registry (feature `registry`): which model, which version, where, at what price, and how sure we are.
//!
//! A [`Catalog`] says what there is. Checked and hashed it is a [`Snapshot`]; served, with the pins and quarantines of
//! operators, a [`View`]. A [`Registry`] swaps one view for the next in one step; a router that
//! [reads it](crate::router::Builder::registry) takes one view for all attempts of a request, and [`Rollouts`] take back
//! what its requests found to be bad. What is published is checked, compared with what is served, made
//! durable, and only then swapped in; what is refused changes nothing.
//!
//! *Why not a file that is read at start?* Because what goes wrong with such files is known: a price ten times too
//! high, a file that was empty when it was read, a poll that stopped at a 401, a backup that did not parse. Each of
//! them is a [`Code`] here, or a state that the registry starts from.
//!
//! Nothing here reads a clock, opens a socket or starts a thread: time is an argument, files are behind
//! [`store::Fs`], and the host brings what it fetched.

mod catalog;
mod check;
mod decimal;
mod diff;
mod digest;
mod document;
mod envelope;
mod fields;
mod handle;
mod history;
pub mod import;
mod json;
mod judge;
mod ledger;
mod operations;
mod poll;
mod publication;
mod resolved;
mod rollouts;
#[cfg(feature = "signed")]
pub mod signed;
mod snapshot;
pub mod source;
mod start;
mod status;
pub mod store;
mod view;
mod violation;
mod warming;

pub use catalog::{Alias, Catalog, Model, ModelVersion, Placement, State};
pub use diff::Diff;
pub use digest::{Digest, InvalidDigest};
pub use envelope::{Envelope, Verify};
pub use handle::Registry;
pub use history::Record;
pub use judge::{Arm, Evidence, Judge, Observation, Verdict};
pub use poll::{Polled, Poller};
pub use publication::{Ack, Durability, Patch, Publication, Review};
pub(crate) use resolved::Found;
pub use resolved::{Keys, Provenance, ResolveError, Resolved};
pub use rollouts::{RolledBack, Rollouts};
pub use snapshot::Snapshot;
pub use start::Builder;
pub use status::{Change, Freshness, Status, Subscription};
pub(crate) use view::Berth;
pub use view::{Place, Source, View};
pub use violation::{Code, Nack, Path, Severity, Violation};
pub use warming::Warming;
