//! What requests may spend: the shared retry budget, and the time of one request.

mod backoff;
mod counts;
mod retry;
mod timeout;

pub use backoff::Backoff;
pub(crate) use retry::{Grant, Payer};
pub use retry::{InvalidRetryBudget, RetryBudget};
pub use timeout::{InvalidTimeout, TimeoutFormat};
