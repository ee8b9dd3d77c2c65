//! What requests may spend: the shared retry budget, and the time of one request.

mod backoff;
mod retry;

pub use backoff::Backoff;
pub use retry::{InvalidRetryBudget, RetryBudget};
