//! What requests may spend: the shared retry budget, hedges, and the time of one request.

mod backoff;
mod counts;
mod hedge;
mod retry;
mod timeout;

pub use backoff::Backoff;
pub(crate) use hedge::Savings;
pub use hedge::{Hedge, InvalidHedge};
pub(crate) use retry::{Grant, Payer};
pub use retry::{InvalidRetryBudget, RetryBudget};
pub use timeout::{InvalidTimeout, TimeoutFormat};
