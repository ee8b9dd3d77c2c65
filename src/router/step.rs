//! [`Step`]: what a trip asks of its host.

use crate::backend::Attempt;
use crate::decision::Refusal;
use crate::time::Instant;

/// What a [`Trip`](super::Trip) does next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Call the [backend](Attempt::backend), now, and give it up after its [limit](Attempt::time_limit).
    Call(Attempt),
    /// Come again at this moment: the same backend is tried again.
    Sleep {
        /// When.
        until: Instant,
    },
    /// Come again when [called](super::Trip::poll_called), or at this moment at the latest: something may be usable then.
    Wait {
        /// When.
        until: Instant,
    },
    /// Nothing better is left than the host's last resort. The trip is over.
    LastResort {
        /// Why.
        why: Refusal,
    },
}
