//! `ordered`: the first usable backend, in the order of the fleet.
//!
//! Use it where the order *is* the wish: a contract to use up first, a primary with stand-bys. It does not spread
//! load; wrap it in what notices that the first one is full or failing.

use super::{PlanContext, RoutingPolicy, Slate, Window};

/// See [`ordered`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Ordered;

/// A leaf that prefers backends in the order in which they were added.
///
/// ```
/// use fallway::policy::{FailSafe, PolicyExt, ordered};
/// let primary_then_standby = ordered().fail_safe(FailSafe::default());
/// ```
pub const fn ordered() -> Ordered {
    Ordered
}

impl RoutingPolicy for Ordered {
    fn name(&self) -> &'static str {
        "ordered"
    }

    fn plan(&self, _: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let mut places = 0u64..;
        slate.rank(|_| places.next().unwrap_or(u64::MAX - 1));
    }

    fn window(&self) -> Window {
        Window::InOrder
    }
}
