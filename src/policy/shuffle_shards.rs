//! `shuffle_shards`: each tenant is served by a few backends of its own choice by lot, so that it can do harm to no other.
//!
//! Use it where one request can take a backend down: a prompt that crashes an engine, an adapter that fills its memory.

use super::{Check, PlanContext, RoutingPolicy, Slate, Window};
use crate::decision::Reason;
use crate::decision::record::Entry;
use crate::facts::Priority;
use crate::rng::{hash_str, mix};

/// A wrapper; made by [`PolicyExt::shuffle_shards`](super::PolicyExt::shuffle_shards).
///
/// Of the backends of a model a tenant gets `size`, the first by a hash of both names (rendezvous hashing, Thaler,
/// Ravishankar 1998), so that every router chooses the same and a backend that comes or goes concerns those tenants only that
/// it wins or held. The rest is a hard line: whatever becomes of its shard, a tenant does not leave it for others of
/// the model. Two tenants rarely have the same shard (4 of 20: one pair in 4,845), so a tenant that takes its own down leaves
/// nearly all others most of theirs.
///
/// Backends that could never serve the request (drained, outside its residency, of too small a window) are not counted:
/// others take their place. Requests without a tenant may go anywhere. Of a pool larger than [`Window::SIZE`] a tenant's
/// shard is chosen among so many that stand beside each other on the ring of backends, which also depends on the tenant.
#[derive(Clone, Debug)]
pub struct ShuffleShards<P> {
    inner: P,
    size: u32,
}

impl<P> ShuffleShards<P> {
    pub(super) const fn around(inner: P, size: u32) -> Self {
        Self { inner, size }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<P: RoutingPolicy> RoutingPolicy for ShuffleShards<P> {
    fn name(&self) -> &'static str {
        "shuffle_shards"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        if let Some(tenant) = cx.facts().request_tenant() {
            self.confine(hash_str(tenant), slate);
        }
        self.inner.plan(cx, slate);
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.inner)
    }

    fn window(&self) -> Window {
        Window::ByTenant
    }

    fn ceiling(&self, priority: Priority) -> u32 {
        self.inner.ceiling(priority)
    }

    fn allows_region(&self, region: Option<&str>) -> bool {
        self.inner.allows_region(region)
    }

    fn check(&self, check: &mut Check<'_>) {
        if self.size == 0 {
            check.error(self.name(), "a shard of no backends serves nobody");
        }
        // They judge a tier and its regions by all that is in them.
        check.has_none_of(&["fail_safe", "region_failover"], self.name(), &self.inner);
        self.inner.check(check);
    }
}

impl<P> ShuffleShards<P> {
    /// Rules out all of the current tier but the shard of this tenant.
    fn confine(&self, tenant: u64, slate: &mut Slate<'_>) {
        let range = slate.range();
        let size = self.size as usize;
        let seats = &slate.ground.roster.seats;
        let place = |entry: &Entry| mix(tenant, hash_str(seats[entry.seat as usize].1.id()));
        // A decision looks at no more than so many of a tier.
        let mut places = [0; Window::SIZE];
        let mut count = 0;
        for entry in slate.sheet.entries[range.clone()].iter().filter(|entry| !entry.rejected.is_some_and(is_unfit)) {
            if count < places.len() {
                places[count] = place(entry);
                count += 1;
            }
        }
        if count <= size {
            return;
        }
        let (_, last, _) = places[..count].select_nth_unstable_by(size - 1, |a, b| b.cmp(a));
        let last = *last;
        for index in range {
            if place(&slate.sheet.entries[index]) < last {
                slate.contender(index).reject(Reason::OutsideShard { size: self.size });
            }
        }
    }
}

/// Whether it is no backend for such a request, whatever happens.
const fn is_unfit(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Drained
            | Reason::OutsideResidency
            | Reason::TenantForbidden
            | Reason::MissingCapabilities { .. }
            | Reason::ContextTooLong { .. }
            | Reason::QuotaTooSmall { .. }
            | Reason::TokenBoundTooSmall { .. }
            | Reason::OverPriceCap { .. }
            | Reason::PriceUnknown
            | Reason::SpendLimitTooSmall { .. }
    )
}
