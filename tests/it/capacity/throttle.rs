//! Requests that are not even sent.

use super::stack;
use crate::support::{Act, Cue, Load, TestRouter, World, always, fail, ms, ok_share, secs, within};
use fallway::FailureKind::{InvalidRequest, Overloaded};
use fallway::decision::Reason;
use fallway::policy::{Capacity, FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::{Profile, RoutingPolicy};

/// A backend that serves one request in `of` and refuses the others at once, and does not rest for that.
fn picky(world: &World, of: u64, policy: impl RoutingPolicy + 'static) -> (TestRouter, crate::support::Scripted) {
    let script = move |cue: &Cue<'_>| match cue.call.is_multiple_of(of) {
        true => Act::Answer(ms(50)),
        false => fail(Overloaded),
    };
    let builder = world.router(policy).ejection(Ejection::off());
    let (router, [a]) = world.fleet(builder, [(Profile::new("a"), Box::new(script))]);
    (router, a)
}

fn throttled() -> impl RoutingPolicy + 'static {
    stack(ordered(), Capacity::default().throttle())
}

/// One attempt for each request.
fn once(capacity: Capacity) -> impl RoutingPolicy + 'static {
    ordered().capacity_aware(capacity).fail_safe(FailSafe::default().attempts(1))
}

#[test]
fn a_backend_that_refuses_most_is_sent_less() {
    let sent = |capacity: Capacity| {
        let world = World::new();
        let (router, a) = picky(&world, 10, once(capacity));
        let answers = Load { per_second: 100, lasts: secs(60), seed: 1 }.run(&world, &router, &within(secs(5)));
        (a.calls(), ok_share(&answers))
    };
    assert_eq!(sent(Capacity::default()), (6_000, 0.1));
    let (calls, ok) = sent(Capacity::default().throttle());
    // Who serves one in ten of whatever it gets is asked the least: one in ten.
    assert!((550..1_100).contains(&calls), "{calls}");
    assert!(ok > 0.009, "{ok}");
}

#[test]
fn what_is_held_back_goes_elsewhere_and_says_why() {
    let world = World::new();
    let members = [(Profile::new("a"), always(fail(Overloaded))), (Profile::new("b"), always(Act::Answer(ms(20))))];
    let builder = world.router(throttled()).ejection(Ejection::off());
    let (router, [a, b]) = world.fleet(builder, members);
    let answers = Load { per_second: 100, lasts: secs(20), seed: 1 }.run(&world, &router, &within(secs(5)));
    assert_eq!((ok_share(&answers), b.calls()), (1.0, 2_000));
    // Of the two thousand, a tenth and those at the beginning.
    assert!((200..300).contains(&a.calls()), "{}", a.calls());
    let held_back = (0..50).map(|_| router.explain(&within(secs(5)))).find_map(|decision| {
        let why = decision.candidates().next().unwrap().rejected()?;
        assert!(router.replay(&decision).same_choice(&decision));
        Some((why, decision.to_string()))
    });
    let (why, text) = held_back.unwrap();
    assert!(matches!(why, Reason::Throttled { share: 880..=900 }), "{why:?}");
    assert!(text.contains("of the requests to it are held back)"), "{text}");
}

/// The trap: counted at send, the requests of a start stand against no accepts until the first answers come.
#[test]
fn a_cold_client_is_not_locked_out() {
    let world = World::new();
    let (router, [a]) = world.fleet(world.router(throttled()), [(Profile::new("a"), always(Act::Answer(secs(10))))]);
    let answers = Load { per_second: 100, lasts: secs(5), seed: 1 }.run(&world, &router, &within(secs(60)));
    assert_eq!((a.calls(), ok_share(&answers)), (500, 1.0));
}

#[test]
fn the_callers_mistakes_throttle_nobody() {
    let world = World::new();
    let members = [(Profile::new("a"), always(fail(InvalidRequest)))];
    let (router, [a]) = world.fleet(world.router(throttled()).ejection(Ejection::off()), members);
    Load { per_second: 100, lasts: secs(5), seed: 1 }.run(&world, &router, &within(secs(60)));
    assert_eq!(a.calls(), 500);
}

#[test]
fn a_dry_run_counts_nothing() {
    let world = World::new();
    let (router, a) = picky(&world, 1_000, once(Capacity::default().throttle()));
    Load { per_second: 100, lasts: secs(1), seed: 1 }.run(&world, &router, &within(secs(5)));
    let share = || {
        let shares =
            (0..100).filter_map(|_| match router.explain(&within(secs(5))).candidates().next()?.rejected()? {
                Reason::Throttled { share } => Some(share),
                _ => None,
            });
        shares.max()
    };
    let first = share().unwrap();
    (0..1_000).for_each(|_| drop(router.explain(&within(secs(5)))));
    assert_eq!(share(), Some(first));
    assert!(a.calls() < 100);
}
