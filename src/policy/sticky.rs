//! `sticky`: requests of one session go to one backend, as long as it is not overrun.
//!
//! Use it where the backend keeps something of the session: a prompt cache, a loaded adapter.

use super::{PlanContext, RoutingPolicy, Slate, Window};
use crate::decision::Reason;
use crate::rng::{hash_str, mix};

/// See [`sticky`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky;

/// A leaf with session affinity: rendezvous hashing with bounded load.
///
/// Each session ranks the backends by a hash of both, so that a backend that comes or goes moves only the sessions
/// that it wins or held (Thaler, Ravishankar 1998). A backend with more than 1.25 times the mean of calls in
/// flight stands behind those with less (the bound of Mirrokni, Thorup, Zadimoghaddam 2016), and the session spills to its next
/// choice, always the same one. A request without session goes anywhere.
///
/// ```
/// use fallway::{Facts, policy::sticky};
/// let policy = sticky();
/// let facts = Facts::model("llama-70b").session("chat-4711");
/// # let _ = (policy, facts);
/// ```
pub const fn sticky() -> Sticky {
    Sticky
}

impl RoutingPolicy for Sticky {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let Some(session) = cx.facts().request_session() else {
            return slate.rank(|_| 0);
        };
        let session = hash_str(session);
        let (mut in_flight, mut backends) = (0u64, 0u64);
        slate.each(|candidate| {
            in_flight += u64::from(candidate.load().in_flight);
            backends += 1;
        });
        // ceil(1.25 · (in flight + this one) / backends), in integers.
        let bound = (5 * (in_flight + 1)).div_ceil(4 * backends.max(1));
        slate.each(|candidate| {
            candidate.rank(mix(session, hash_str(candidate.profile().id())) >> 1);
            let in_flight = candidate.load().in_flight;
            if u64::from(in_flight) >= bound {
                candidate.demote(Reason::OverBound { in_flight });
            }
        });
    }

    fn window(&self) -> Window {
        Window::BySession
    }
}
