//! A campaign: random fleets, random stacks and random faults, with every promise checked at every event.
//!
//! Each *round* follows from one seed, its own. The seed draws a [`Plan`]: servers, routers, a policy stack, a load,
//! callers who lose patience, and a storm of faults; also how likely each kind of fault is, so that rounds differ in
//! character and not only in detail (*swarm testing*: Groce et al., ISSTA 2012). Then all faults end, and a calm
//! follows in which everything has to be well again. What must hold:
//!
//! | code | what |
//! | --- | --- |
//! | I1 | attempts of a request within its limit, one more only for a canary that was given up early; extra attempts within the shared budget of every window, hedges within their share |
//! | I2 | calls and tokens in flight within each known limit, of others than critical requests within their ceiling and where their region has room, and as many as the router thinks; none at rest |
//! | I3 | requests end by their deadline, and no attempt starts after it |
//! | I4 | one end for each request; never at two servers at once but where it is hedged, once, at another, and may be executed twice; nor again where it failed without a reason |
//! | I5 | no retry after the first token, except for the rest; none of what would repeat or may not be repeated |
//! | I6 | no call to a server outside the regions to which its request is bound |
//! | I7 | no call to a server before the time that it asked for |
//! | I8 | whoever waits for a probe waits for one that is there; what was sent before an outage ends none |
//! | I10 | every decision replays to the same choice; what routers tell is what servers saw; both drivers decide alike |
//! | I11 | nothing panics |
//! | I15 | a failure domain goes out with its members only; comparisons leave as many of a pool in as they must |
//! | I16 | no answer is called complete that is not; every token is delivered once, in order, and nothing after an error |
//! | I17 | what a router books for an attempt is what its server bills, to the pico-dollar where it is known and no less where it is not |
//! | I18 | what a request is billed stays within its cap, and what a tenant is billed within its spend limit |
//! | L1 | in the calm, every server gets requests, of the region that its routers prefer where they prefer one |
//! | L2 | in the end of the calm, requests succeed |
//! | L3 | no request waits for ever, or for what is there, or decides without end |
//! | L4 | in the end of the calm, no router keeps such a server out |
//!
//! A violation is made small before it is shown: what the plan can do without is taken away, piece by piece.

mod draw;
mod money;
mod plan;
mod regions;
mod shrink;
mod tokens;
mod verdict;
mod words;

pub use plan::Plan;

use crate::rng::mix;
use std::fmt;

/// Rounds, one after the other, without end.
///
/// ```
/// use fallway::sim::campaign::Campaign;
/// let rounds: Vec<_> = Campaign::new(7).take(2).collect();
/// assert!(rounds.iter().all(|round| round.violation().is_none()));
/// ```
#[derive(Clone, Debug)]
pub struct Campaign {
    seed: u64,
    next: u64,
}

/// One round that was played.
#[derive(Clone, Debug)]
pub struct Round {
    plan: Plan,
    requests: usize,
    harmed: u64,
    violation: Option<Violation>,
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Violation {
    seed: u64,
    code: &'static str,
    what: String,
    shrunk: Plan,
}

impl Campaign {
    /// A campaign whose rounds all follow from this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }
}

impl Iterator for Campaign {
    type Item = Round;

    fn next(&mut self) -> Option<Round> {
        let seed = mix(self.seed, self.next);
        self.next += 1;
        Some(Round::play(seed))
    }
}

impl Round {
    /// Plays the round of this seed; the same seed plays the same round.
    pub fn play(seed: u64) -> Self {
        Self::of(Plan::drawn(seed))
    }

    /// Plays a round of this plan.
    pub fn of(plan: Plan) -> Self {
        let outcome = plan.play();
        let violation = outcome.finding.map(|finding| {
            let (shrunk, finding) = shrink::shrink(&plan, finding);
            Violation { seed: plan.seed(), code: finding.code, what: finding.what, shrunk }
        });
        Self { requests: outcome.requests, harmed: outcome.harmed, violation, plan }
    }

    /// What was played.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many requests came.
    pub const fn requests(&self) -> usize {
        self.requests
    }

    /// How many times a request met a fault.
    pub const fn harmed(&self) -> u64 {
        self.harmed
    }

    /// What must not be, if anything was.
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}

impl Violation {
    /// The invariant, as in the table of the [module](self).
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What was seen, in the smallest plan that shows it.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The smallest plan that was found.
    pub const fn shrunk(&self) -> &Plan {
        &self.shrunk
    }
}

impl fmt::Display for Violation {
    /// One line: the seed, what happened, the plan, and what plays it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, code, what, shrunk } = self;
        write!(f, "seed {seed}: {code}: {what}; {shrunk}; ")?;
        write!(f, "cargo run --release --features sim --example campaign -- --replay {seed}")
    }
}
