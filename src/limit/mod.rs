//! What a backend can take: the gauge of its calls in flight, and the queue for when nobody has room.

mod gauge;
mod waiters;

pub(crate) use gauge::{Gauge, Ticket};
pub(crate) use waiters::{Call, Lack, Passed, Standing, WaitTurn, Waiters, Want, Wished};
