//! What a backend can take: the gauge of its calls in flight, the limit that is learned, the mirrors of its quotas, and the queue
//! for when nobody has room.

mod gauge;
mod learned;
mod quota;
mod waiters;

pub(crate) use gauge::{Gauge, Ticket};
pub(crate) use learned::{Moved, Sent};
pub(crate) use quota::{Claim, Need, Quotas, Spent};
pub(crate) use waiters::{Call, Lack, Passed, Standing, WaitTurn, Waiters, Want, Wished};
