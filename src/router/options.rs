//! [`CallOptions`].

use crate::facts::Facts;
use std::sync::Arc;
use std::time::Duration;

/// What the router must know of one call beside the request.
///
/// ```
/// use fallway::{CallOptions, Facts};
/// use std::time::Duration;
/// let options = CallOptions::within(Duration::from_secs(8)).facts(Facts::model("llama-70b").prompt_tokens(900));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    pub(crate) facts: Arc<Facts>,
    pub(crate) total: Option<Duration>,
    pub(crate) idle_limit: Option<Duration>,
}

impl CallOptions {
    /// A call for a request with these facts, within the router's default deadline.
    pub fn new(facts: impl Into<Arc<Facts>>) -> Self {
        Self { facts: facts.into(), ..Self::default() }
    }

    /// A call that ends within `total`, whatever happens: waits, attempts and the last resort included. What is left of
    /// the caller's own deadline comes in a header of some [`TimeoutFormat`](crate::budget::TimeoutFormat).
    pub fn within(total: Duration) -> Self {
        Self { total: Some(total), ..Self::default() }
    }

    /// What is known of the request. Decisions share it; nothing is copied.
    #[must_use]
    pub fn facts(mut self, facts: impl Into<Arc<Facts>>) -> Self {
        self.facts = facts.into();
        self
    }

    /// The time for the whole request.
    #[must_use]
    pub const fn deadline(mut self, total: Duration) -> Self {
        self.total = Some(total);
        self
    }

    /// The longest gap between two items of a streamed answer. One that is shorter than a second, and than the router's
    /// [own](crate::router::Builder::idle_limit), ends the stream and says nothing about the backend.
    #[must_use]
    pub const fn idle_limit(mut self, limit: Duration) -> Self {
        self.idle_limit = Some(limit);
        self
    }
}

impl From<Facts> for CallOptions {
    fn from(facts: Facts) -> Self {
        Self::new(facts)
    }
}
