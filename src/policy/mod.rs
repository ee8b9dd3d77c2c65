//! Policies: pure functions that annotate a [`Slate`].

mod budgeted;
mod capacity_aware;
mod cheapest;
mod check;
mod contender;
mod context;
pub(crate) mod engine;
mod fail_safe;
mod forecast;
mod ground;
mod homing;
mod least_loaded;
mod look;
mod ordered;
mod policy_fn;
mod power_of_two;
mod predicted_ttft;
mod region_failover;
mod round_robin;
mod shuffle_shards;
mod slate;
mod sticky;
mod survey;
mod weighted;

pub use budgeted::{Budgeted, Budgets};
pub use capacity_aware::{Capacity, CapacityAware};
pub use cheapest::{Cheapest, cheapest};
pub use check::{Check, PolicyError};
pub use contender::Contender;
pub use context::PlanContext;
pub use fail_safe::{FailSafe, FailSafePolicy};
pub use least_loaded::{LeastLoaded, least_loaded};
pub use ordered::{Ordered, ordered};
pub use policy_fn::{PolicyFn, policy_fn};
pub use power_of_two::{PowerOfTwo, power_of_two};
pub use predicted_ttft::{PredictedTtft, predicted_ttft};
pub use region_failover::{RegionFailover, Regions, Spill};
pub use round_robin::{RoundRobin, round_robin};
pub use shuffle_shards::ShuffleShards;
pub use slate::Slate;
pub use sticky::{Sticky, sticky};
pub use weighted::{Weighted, weighted};

use crate::facts::Priority;
use std::fmt;

/// Decides about candidates: ranks, rejects, demotes, charges or readmits them on a [`Slate`].
///
/// `plan` is synchronous and pure: it reads the context and the slate and nothing else, no clock, no random source,
/// no I/O, and it does not block. What it reads through the slate is recorded there, which is what makes a
/// [`Decision`](crate::Decision) explain itself and replay.
///
/// A *leaf* ranks. A *wrapper* holds another policy, calls its `plan`, and says its own part before or after; it
/// returns the inner policy from [`inner`](Self::inner).
///
/// # Panics
///
/// A panic in `plan` is contained: the router falls back to the order in which the backends were added, and the
/// decision says so.
///
/// ```
/// use fallway::policy::{PlanContext, RoutingPolicy, Slate};
///
/// /// Prefers the backends with the fewest calls in flight, and the west coast among equals.
/// #[derive(Debug)]
/// struct WestCoast;
///
/// impl RoutingPolicy for WestCoast {
///     fn name(&self) -> &'static str {
///         "west_coast"
///     }
///
///     fn plan(&self, _: &PlanContext<'_>, slate: &mut Slate<'_>) {
///         slate.rank(|candidate| {
///             let east = candidate.profile().region_name() != Some("us-west");
///             u64::from(candidate.load().in_flight) * 2 + u64::from(east)
///         });
///     }
/// }
/// ```
pub trait RoutingPolicy: fmt::Debug + Send + Sync {
    /// A short name, for explanations.
    fn name(&self) -> &'static str;

    /// Says its part.
    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>);

    /// The policy that this one wraps.
    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        None
    }

    /// How candidates are drawn from a pool too large to look at whole. A wrapper leaves it to its leaf.
    fn window(&self) -> Window {
        match self.inner() {
            Some(inner) => inner.window(),
            None => Window::Random,
        }
    }

    /// How full a backend may be for requests of this priority, of 1000. In a pool too large to look at whole, who is fuller does
    /// not count as usable: the search goes on. A wrapper lets nobody fill them further than what it wraps.
    fn ceiling(&self, priority: Priority) -> u32 {
        self.inner().map_or(1000, |inner| inner.ceiling(priority))
    }

    /// Whether requests may be served in this region (`None`: by backends without one). A hard line, like the residency
    /// set of a request, for everything that the router does: it is asked for each region when a fleet is built. A
    /// wrapper allows no more than what it wraps.
    fn allows_region(&self, region: Option<&str>) -> bool {
        self.inner().is_none_or(|inner| inner.allows_region(region))
    }

    /// Finds mistakes in its configuration, given a fleet. A wrapper passes the call on.
    fn check(&self, check: &mut Check<'_>) {
        if let Some(inner) = self.inner() {
            inner.check(check);
        }
    }
}

/// Which candidates a decision looks at where there are many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// Anywhere: a different part of the pool for each decision.
    Random,
    /// Two of them, whatever the size of the pool. Nothing is learned of the others, so a wrapper that judges a
    /// tier as a whole looks [beyond](Self::beyond_a_pair).
    Pair,
    /// From the first backend on, in the order of the fleet.
    InOrder,
    /// At a place that the session determines; other requests of the session look at the same candidates.
    BySession,
    /// At a place that the tenant determines, and nowhere else; other requests of the tenant look at the same candidates.
    /// For requests without a tenant anywhere.
    ByTenant,
    /// In every region, as many in one as in another, so that each can be judged. For requests with a session at a
    /// place that this determines.
    ByRegion,
}

impl Window {
    /// How many candidates a decision looks at: pools up to this size are looked at whole.
    pub const SIZE: usize = 64;

    /// The window of a wrapper that rules candidates out, around a policy with this one: of two that it rules out nothing
    /// would be learned of the others.
    #[must_use]
    pub const fn beyond_a_pair(self) -> Self {
        match self {
            Self::Pair => Self::Random,
            window => window,
        }
    }
}

/// Combinators on every [`RoutingPolicy`].
pub trait PolicyExt: RoutingPolicy + Sized {
    /// Wraps this policy in [`FailSafe`]: fallback tiers, retries, panic mode, last resort.
    fn fail_safe(self, config: FailSafe) -> FailSafePolicy<Self> {
        config.around(self)
    }

    /// Wraps this policy in [`Budgeted`]: no attempt that is predicted to be too late, and time for those that could follow.
    /// Stands inside of [`fail_safe`](Self::fail_safe), around everything else.
    fn budgeted(self, budgets: Budgets) -> Budgeted<Self> {
        budgets.around(self)
    }

    /// Wraps this policy in [`CapacityAware`]: headroom, and reserves for higher priorities.
    fn capacity_aware(self, capacity: Capacity) -> CapacityAware<Self> {
        capacity.around(self)
    }

    /// Wraps this policy in [`RegionFailover`]: regions in an order, spill, residency, a slow return.
    fn region_failover(self, regions: Regions) -> RegionFailover<Self> {
        regions.around(self)
    }

    /// Serves each tenant by so many backends of a model only, its own: see [`ShuffleShards`]. Stands around a leaf, inside
    /// of [`region_failover`](Self::region_failover) and [`fail_safe`](Self::fail_safe).
    ///
    /// ```
    /// use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
    /// let policy = predicted_ttft().shuffle_shards(4).fail_safe(FailSafe::default());
    /// # drop(policy);
    /// ```
    fn shuffle_shards(self, size: u32) -> ShuffleShards<Self> {
        ShuffleShards::around(self, size)
    }

    /// Erases the type.
    fn boxed<'a>(self) -> Box<dyn RoutingPolicy + 'a>
    where
        Self: 'a,
    {
        Box::new(self)
    }
}

impl<P: RoutingPolicy> PolicyExt for P {}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<P: RoutingPolicy + ?Sized> RoutingPolicy for $pointer {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
                (**self).plan(cx, slate);
            }

            fn inner(&self) -> Option<&dyn RoutingPolicy> {
                (**self).inner()
            }

            fn window(&self) -> Window {
                (**self).window()
            }

            fn ceiling(&self, priority: Priority) -> u32 {
                (**self).ceiling(priority)
            }

            fn allows_region(&self, region: Option<&str>) -> bool {
                (**self).allows_region(region)
            }

            fn check(&self, check: &mut Check<'_>) {
                (**self).check(check);
            }
        }
    )*};
}

forward!(&P, Box<P>, std::sync::Arc<P>);

/// The stack as one line, outermost first: `fail_safe > predicted_ttft`. Stable, for a host's own snapshot tests.
pub fn describe(policy: &dyn RoutingPolicy) -> String {
    stack(policy).map(RoutingPolicy::name).collect::<Vec<_>>().join(" > ")
}

/// A policy and those inside of it, outermost first.
fn stack(policy: &dyn RoutingPolicy) -> impl Iterator<Item = &dyn RoutingPolicy> {
    std::iter::successors(Some(policy), |policy: &&dyn RoutingPolicy| (*policy).inner())
}
