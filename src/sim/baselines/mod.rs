//! What users run today, as policies: each as its source publishes it, with the parameters that it recommends.
//!
//! None of them ejects backends, retries or limits calls in flight unless its source does; they run in the same router, so the bookkeeping
//! (calls in flight, leases, deadlines) is the same for all.

mod cache_aware;
mod envoy;
mod grpc;
mod litellm;
mod peak_ewma;
mod prequal;
mod sent;
mod simple;

pub use cache_aware::{llm_d, lmetric, sglang};
pub use envoy::envoy_priority;
pub use grpc::grpc_priority;
pub use litellm::{litellm, litellm_usage};
pub use peak_ewma::peak_ewma;
pub use prequal::prequal;
pub use simple::{
    global_fifo, in_order, least_in_flight, naive_retries, nearest_region, oracle, p2c, random, round_robin,
    weighted_random,
};

use crate::budget::Hedge;
use crate::event::{Event, Observer};
use crate::limit::{Bulkheads, Share};
use crate::policy::{Budgets, FailSafe, PolicyExt, Regions, cheapest, predicted_ttft};
use crate::sim::{Desk, Stack};
use crate::time::Instant;
use std::fmt;
use std::sync::Arc;

/// One way to route, by its name on the command line.
#[derive(Clone, Copy)]
pub struct Contestant {
    name: &'static str,
    make: fn(&Desk) -> Stack,
}

impl Contestant {
    /// Everybody, fallway's default stack first.
    pub const ALL: [Self; 20] = [
        Self { name: "fallway", make: fallway },
        Self { name: "fallway_hedged", make: fallway_hedged },
        Self { name: "random", make: random },
        Self { name: "weighted_random", make: weighted_random },
        Self { name: "round_robin", make: round_robin },
        Self { name: "least_in_flight", make: least_in_flight },
        Self { name: "p2c", make: p2c },
        Self { name: "peak_ewma", make: peak_ewma },
        Self { name: "prequal", make: prequal },
        Self { name: "lmetric", make: lmetric },
        Self { name: "sglang", make: sglang },
        Self { name: "llm_d", make: llm_d },
        Self { name: "litellm", make: litellm },
        Self { name: "litellm_usage", make: litellm_usage },
        Self { name: "in_order", make: in_order },
        Self { name: "nearest_region", make: nearest_region },
        Self { name: "envoy_priority", make: envoy_priority },
        Self { name: "grpc_priority", make: grpc_priority },
        Self { name: "naive_retries", make: naive_retries },
        Self { name: "global_fifo", make: global_fifo },
    ];

    /// What nobody can beat by much: the choice of one who sees every server as it is. Not a way to route.
    pub const ORACLE: Self = Self { name: "oracle", make: oracle };

    /// Who has this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::ORACLE]).find(|contestant| contestant.name == name)
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its stack for one router.
    pub fn stack(&self, desk: &Desk) -> Stack {
        (self.make)(desk)
    }
}

impl fmt::Debug for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The default stack of this crate, as the README shows it; where servers stand in several regions, with these in the
/// order of their distance; where quotas are known, the cheapest that has room; where callers bring deadlines, within these. A
/// version that proves bad is taken back. It is told what users want: nobody waits for a slot
/// for longer than half of the time within which they want the first token; and where there are tenants, what each may have in flight.
pub fn fallway(desk: &Desk) -> Stack {
    let metered = desk.quotas().iter().any(|quota| *quota != (None, None));
    let stack = match desk.regions() {
        _ if metered => Stack::new(cheapest().fail_safe(FailSafe::default())),
        [home, others @ ..] if !others.is_empty() => {
            let regions = others.iter().fold(Regions::new(home), Regions::then);
            Stack::new(predicted_ttft().region_failover(regions).fail_safe(FailSafe::default()))
        }
        _ if desk.is_hurried() => {
            let budgets = Budgets::default().whole_answers();
            Stack::new(predicted_ttft().budgeted(budgets).fail_safe(FailSafe::default()))
        }
        _ => Stack::new(predicted_ttft().fail_safe(FailSafe::default())),
    }
    .load_reports()
    .rollouts()
    .longest_wait(desk.slo() / 2);
    match (desk.tenants(), desk.room()) {
        ([], _) | (_, None) => stack,
        (tenants, Some(room)) => stack.tenant_bulkheads(shares(tenants, room)),
    }
}

/// The same where nothing is known of quotas and regions, and requests are hedged. All simulated requests are short enough, and
/// may be executed twice.
pub fn fallway_hedged(desk: &Desk) -> Stack {
    let budgets = Budgets::default().hedge(Hedge::default().most_tokens(u64::MAX));
    let policy = predicted_ttft().budgeted(budgets).fail_safe(FailSafe::default());
    Stack::new(policy).load_reports().rollouts().longest_wait(desk.slo() / 2)
}

/// What users want of tenants: an equal part of the room for each, of which it lends a half, and for nobody more than a fifth.
/// So many prompts at once are about a second's work for the servers.
fn shares(tenants: &[String], room: u32) -> Bulkheads {
    let (least, most) = (room / tenants.len() as u32, (room / 5).max(1));
    let share = Share::at_least(least).lends(least / 2).up_to(most.max(least));
    tenants.iter().fold(Bulkheads::of(room, Share::at_most(most)), |all, name| all.share(name.as_str(), share))
}

/// A stack without anything that the policy itself does not do: nothing is ejected, and its own retries, if any, are
/// not limited by a budget.
fn bare(policy: impl crate::RoutingPolicy + 'static) -> Stack {
    Stack::new(policy).bare()
}

/// Something that learns from events, shared with the policy that uses it.
trait Learner: fmt::Debug + Send + Sync + 'static {
    fn learn(&self, event: &Event<'_>, now: Instant);
}

#[derive(Debug)]
struct Pupil<L>(Arc<L>);

impl<L: Learner> Observer for Pupil<L> {
    fn on_event(&self, event: &Event<'_>, now: Instant) {
        self.0.learn(event, now);
    }
}
