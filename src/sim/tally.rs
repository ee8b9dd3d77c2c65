//! What came of the servers' work.

/// What the servers did in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Tokens worked for requests that were completed, and for others.
    pub(super) useful: f64,
    pub(super) wasted: f64,
    pub(super) rate_limited: u64,
    pub(super) cost: f64,
    /// Requests that met a fault: refused, failed, cut, slowed or hung by one.
    pub(super) harmed: u64,
    /// Calls to servers outside the regions to which their requests are bound.
    pub(super) outside: u64,
    /// Requests in flight at the busiest moment of any server.
    pub(super) peak: usize,
}
