//! `round_robin`: each usable backend in turn.
//!
//! Use it for equal backends and requests of equal size, or as the baseline to beat. It looks at no load: a slow
//! backend gets as much as a fast one.

use super::{PlanContext, RoutingPolicy, Slate};

/// See [`round_robin`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

/// A leaf that gives each usable backend its turn.
///
/// ```
/// let policy = fallway::policy::round_robin();
/// ```
pub const fn round_robin() -> RoundRobin {
    RoundRobin
}

impl RoutingPolicy for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn plan(&self, _: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (level, front) = slate.front();
        if front == 0 {
            return;
        }
        let front = front as u64;
        let turn = slate.tick() % front;
        // Only those in front take turns. One that stands behind counts as its successor, so that the turn passes
        // over it, and nobody gets two.
        let mut place = 0;
        slate.each(|candidate| {
            candidate.rank((place + front - turn) % front);
            place += u64::from(candidate.level() == level);
        });
    }
}
