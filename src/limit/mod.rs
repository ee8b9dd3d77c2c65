//! What a backend can take: the gauge of its calls in flight, the limit that is learned, and the queue for when nobody has room.

mod gauge;
mod learned;
mod waiters;

pub(crate) use gauge::{Gauge, Ticket};
pub(crate) use learned::{Moved, Sent};
pub(crate) use waiters::{Call, Lack, Passed, Standing, WaitTurn, Waiters, Want, Wished};
