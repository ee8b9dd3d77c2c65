//! A policy says when; the caller's deadline says how late at most.

use crate::support::{ANSWER, World, always, ms, secs, within};
use fallway::decision::Next;
use fallway::policy::{FailSafe, PolicyExt, policy_fn};
use fallway::router::RouteErrorKind;
use fallway::time::Instant;
use fallway::{Profile, RoutingPolicy};

#[test]
fn no_conclusion_outlasts_the_deadline() {
    const LATER: [fn(Instant) -> Next; 2] = [|at| Next::Call { at }, |until| Next::Wait { until }];
    for later in LATER {
        let policy = || {
            policy_fn("later", move |cx, slate| {
                slate.rank(|_| 0);
                slate.conclude(later(cx.now() + secs(2)));
            })
        };
        let policies: [Box<dyn RoutingPolicy>; 2] = [policy().boxed(), policy().fail_safe(FailSafe::default()).boxed()];
        for policy in policies {
            let world = World::new();
            let (router, [a]) = world.fleet(world.router(policy), [(Profile::new("a"), always(ANSWER))]);
            let name = format!("{}, {:?}", router.describe(), router.explain(&within(ms(100))).next());
            let (answered, took) = world.timed(|| world.call(&router, within(ms(100))));
            let error = answered.unwrap_err();
            assert_eq!((error.kind(), took), (RouteErrorKind::DeadlineExceeded, ms(100)), "{name}");
            assert_eq!((a.calls(), router.total_in_flight(), world.timer().next_wake()), (0, 0, None), "{name}");
        }
    }
}

#[test]
fn a_conclusion_that_fits_is_obeyed() {
    let world = World::new();
    let start = world.now();
    let policy = policy_fn("later", move |_, slate| {
        slate.rank(|_| 0);
        slate.conclude(Next::Call { at: start + secs(2) });
    });
    let (router, [a]) = world.fleet(world.router(policy), [(Profile::new("a"), always(ANSWER))]);
    let (answered, took) = world.timed(|| world.call(&router, within(secs(5))));
    assert_eq!((answered.is_ok(), took, a.seen()[0].at - start), (true, secs(2) + ms(20), secs(2)));
}
