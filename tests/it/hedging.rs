//! A second attempt beside one that is slow to begin.

mod race;
mod streams;
mod withheld;

use crate::support::{Act, Log, Script, Scripted, TestRouter, World, in_turn, ms, secs, within};
use fallway::budget::Hedge;
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, ordered, policy_fn};
use fallway::router::Builder;
use fallway::{CallOptions, Profile};
use std::time::Duration;

/// When these tests hedge.
const AFTER: Duration = ms(100);

/// Half of the requests may be hedged.
fn half() -> Hedge {
    Hedge::of(0.5).unwrap().after(AFTER)
}

/// The order of the fleet, hedged.
fn hedged(hedge: Hedge) -> impl RoutingPolicy {
    policy_fn("hedged", move |cx, slate| {
        slate.hedge(hedge);
        ordered().plan(cx, slate);
        // So that it can be seen.
        slate.each(|candidate| {
            candidate.latency();
        });
    })
    .fail_safe(FailSafe::default())
}

/// What a backend does with the call that counts. The two before it save up for one hedge.
fn third(act: Act) -> Script {
    in_turn([Act::Answer(Duration::ZERO), Act::Answer(Duration::ZERO), act])
}

/// Hedged requests to `a`, then `b`, then `c`; the first does as `first` says, the others are asked for the first time
/// when they are asked beside it.
struct Scene {
    world: World,
    router: TestRouter,
    backends: [Scripted; 3],
    log: Log,
}

impl Scene {
    fn new(first: Act, second: Act, third: Act) -> Self {
        Self::with(half(), [Profile::new("a"), Profile::new("b"), Profile::new("c")], [first, second, third], |it| it)
    }

    fn with(
        hedge: Hedge,
        profiles: [Profile; 3],
        acts: [Act; 3],
        more: impl FnOnce(Builder<str, crate::support::Reply>) -> Builder<str, crate::support::Reply>,
    ) -> Self {
        let (world, log) = (World::new(), Log::default());
        let [first, second, last] = acts;
        let [a, b, c] = profiles;
        let scripts = [(a, third(first)), (b, in_turn([second])), (c, in_turn([last]))];
        let builder = more(world.router(hedged(hedge)).observer(log.clone()));
        let (router, backends) = world.fleet(builder, scripts);
        for _ in 0..2 {
            world.call(&router, options()).unwrap();
        }
        Self { world, router, backends, log }
    }

    fn calls(&self) -> [u64; 3] {
        assert_eq!(self.router.total_in_flight(), 0);
        assert!(self.backends.iter().all(|backend| backend.backstage().in_flight() == 0));
        assert_eq!(self.world.timer().next_wake(), None, "somebody still sleeps");
        [self.backends[0].calls() - 2, self.backends[1].calls(), self.backends[2].calls()]
    }
}

fn options() -> CallOptions {
    within(secs(10))
}
