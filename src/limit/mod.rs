//! What backends can take, and who of it: the gauge of calls in flight, the limit that is learned, the mirrors of quotas, the
//! shares of tenants and routes, and the queue for when there is no room.

#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod bare;
mod bulkhead;
mod gauge;
mod learned;
mod quota;
mod shares;
mod waiters;

pub use bulkhead::{Bulkheads, InvalidBulkheads, Share};
pub(crate) use gauge::{Gauge, Ticket};
pub(crate) use learned::{Moved, Sent};
pub(crate) use quota::{Claim, Quotas, Since, Spent};
pub(crate) use shares::{Cells, Shares, Stake};
pub(crate) use waiters::{
    Call, CallTime, Freed, Given, Handed, Held, Kind, LOOKS_AFTER, Lack, Passed, Standing, WaitTurn, Waiters, Want,
    Wished,
};

/// How many calls `share` thousandths of a limit are: to the nearest call, and one at least; all of no limit.
#[inline]
pub(crate) const fn slots(limit: u32, share: u32) -> u32 {
    match (limit as u64 * share as u64 + 500) / 1000 {
        _ if limit == u32::MAX => limit,
        0 => 1,
        // No more than the limit, for a share is at most 1000.
        slots => slots as u32,
    }
}
