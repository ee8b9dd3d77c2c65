//! The share of calls that went well.

use super::{end_of, ended, fresh, heard};
use crate::support::{ANSWER, World, always, drawn, fail, in_turn, ms, plain, secs, within};
use fallway::backend::{BackendError, FailureKind};
use fallway::decision::Reason;
use fallway::event::Outcome;
use fallway::policy::{FailSafe, PolicyExt, ordered, round_robin};
use fallway::recover::Ejection;
use fallway::signal::{HealthSignal, InvalidSignal, Reading, SuccessRate};
use fallway::time::Instant;
use fallway::{CallOptions, Profile};
use proptest::prelude::*;
use std::sync::Arc;

fn alone() -> (World, crate::support::TestRouter, Arc<SuccessRate>) {
    let rate = Arc::new(SuccessRate::default());
    let (world, router, _) = heard([rate.clone() as Arc<dyn HealthSignal>]);
    (world, router, rate)
}

#[test]
fn three_failures_condemn_and_one_does_not() {
    let (world, router, rate) = alone();
    let a = router.backend_id("a").unwrap();
    let mut scores = Vec::new();
    for _ in 0..4 {
        ended(&rate, a, Some(FailureKind::Stalled), world.now());
        scores.push(fresh(rate.read(a, world.now())).unwrap());
    }
    assert_eq!(scores, [666, 500, 400, 333]);
    ended(&rate, a, None, world.now());
    assert_eq!(fresh(rate.read(a, world.now())), Some(428));
}

#[test]
fn each_kind_counts_as_its_conduct_says() {
    use FailureKind as K;
    for kind in K::ALL {
        let (world, router, rate) = alone();
        let a = router.backend_id("a").unwrap();
        (0..100).for_each(|_| ended(&rate, a, Some(kind), world.now()));
        let expected = match kind {
            K::Unreachable | K::Timeout | K::Overloaded | K::ServerError => Some(19),
            K::Truncated | K::Stalled | K::Protocol | K::Panicked => Some(19),
            K::RateLimited => Some(509),
            K::QuotaExhausted | K::Unauthorized | K::ModelUnavailable => None,
            K::ContextTooLong | K::ContentRejected | K::InvalidRequest => None,
            other => panic!("a new kind: {other}"),
        };
        assert_eq!(fresh(rate.read(a, world.now())), expected, "{kind}");
    }
}

#[test]
fn cancelled_and_excused_attempts_say_nothing() {
    let (world, router, rate) = alone();
    let (a, profile, error) =
        (router.backend_id("a").unwrap(), Profile::new("a"), BackendError::new(FailureKind::Timeout));
    for (outcome, excused) in [(Outcome::Cancelled, false), (Outcome::Failure(&error), true)] {
        let event = end_of(a, &profile, ms(1), outcome, excused);
        (0..50).for_each(|_| rate.observe(&event, world.now()));
    }
    assert_eq!(rate.read(a, world.now()), Reading::Missing);
}

#[test]
fn a_caller_in_a_hurry_makes_nobody_ill() {
    let world = World::new();
    let rate = Arc::new(SuccessRate::default());
    let slow = always(crate::support::Act::Answer(ms(300)));
    let builder = world.router(ordered()).signal(rate.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), slow)]);
    for _ in 0..20 {
        assert!(world.call(&router, within(ms(5))).is_err());
    }
    assert_eq!(rate.read(router.backend_id("a").unwrap(), world.now()), Reading::Missing);
}

#[test]
fn a_call_longer_than_the_window_counts_when_it_ends() {
    let world = World::new();
    let rate = Arc::new(SuccessRate::over(secs(5)).unwrap());
    let builder = world.router(ordered()).signal(rate.clone());
    let (router, _) = world.fleet(builder, [(Profile::new("a"), always(crate::support::Act::Answer(secs(20))))]);
    world.call(&router, within(secs(30))).unwrap();
    assert_eq!(fresh(rate.read(router.backend_id("a").unwrap(), world.now())), Some(1000));
}

#[test]
fn an_idle_window_expires_by_itself_and_reading_changes_nothing() {
    let (world, router, rate) = alone();
    let a = router.backend_id("a").unwrap();
    (0..5).for_each(|_| ended(&rate, a, Some(FailureKind::ServerError), world.now()));
    let then = world.now();
    let (window, second) = (SuccessRate::WINDOW, secs(1));
    let readings = || [rate.read(a, then + window - second), rate.read(a, then + window + second), rate.read(a, then)];
    let first = readings();
    assert!(matches!(first, [Reading::Fresh { .. }, Reading::Stale { .. }, Reading::Fresh { .. }]), "{first:?}");
    assert!((0..100).all(|_| readings() == first));
    // What has left the window is not counted with what follows.
    ended(&rate, a, None, then + window + second);
    assert_eq!(fresh(rate.read(a, then + window + second)), Some(1000));
}

#[test]
fn an_ejection_begins_anew_and_the_probe_is_not_vetoed() {
    let world = World::new();
    let rate = Arc::new(SuccessRate::default());
    let acts = std::iter::repeat_n(fail(FailureKind::ServerError), 5).chain([ANSWER]);
    let builder =
        world.router(ordered()).signal(rate.clone()).ejection(Ejection::default().eject_for(secs(10), secs(60)));
    let (router, _) = world.fleet(builder, [(Profile::new("a"), in_turn(acts)), (Profile::new("b"), always(ANSWER))]);
    let a = router.backend_id("a").unwrap();
    for failure in 1..=5 {
        drop(world.call(&router, within(secs(5))));
        assert_eq!(rate.read(a, world.now()) == Reading::Missing, failure == 5, "after {failure}");
        if failure == 3 {
            // Below the half: the signal takes it out, here asked for its opinion only.
            assert_eq!(fresh(rate.read(a, world.now())), Some(400));
            return_to(&router, &rate, &world);
        }
    }
    world.run_for(secs(20));
    let decision = router.explain(&CallOptions::new(plain()));
    assert_eq!(decision.chosen().unwrap().note(), Some(Reason::Probe), "{decision}");
}

/// Two successes elsewhere in time let the test go on calling `a`.
fn return_to(router: &crate::support::TestRouter, rate: &SuccessRate, world: &World) {
    let a = router.backend_id("a").unwrap();
    (0..20).for_each(|_| ended(rate, a, None, world.now()));
}

#[test]
fn a_router_with_it_spreads_its_first_requests() {
    let world = World::new();
    let builder = world.router(round_robin().fail_safe(FailSafe::default())).signal(SuccessRate::default());
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), always(ANSWER)));
    let (router, backends) = world.fleet(builder, members);
    (0..30).for_each(|_| drop(world.call(&router, within(secs(5))).unwrap()));
    assert_eq!(backends.map(|backend| backend.calls()), [10, 10, 10]);
}

#[test]
fn a_window_of_zero_is_named() {
    assert_eq!(SuccessRate::over(ms(0)).unwrap_err(), InvalidSignal::ZeroWindow);
}

#[test]
fn a_newcomer_in_the_slot_of_another_begins_anew() {
    let (world, router, rate) = alone();
    let a = router.backend_id("a").unwrap();
    (0..5).for_each(|_| ended(&rate, a, Some(FailureKind::ServerError), world.now()));
    router.update(|fleet| fleet.remove("a")).unwrap();
    assert_eq!(rate.read(a, world.now()), Reading::Missing);
    router.update(|fleet| fleet.add(Profile::new("d"), world.backend("d", always(ANSWER)))).unwrap();
    let d = router.backend_id("d").unwrap();
    assert_eq!((d.slot(), rate.read(d, world.now())), (a.slot(), Reading::Missing));
    // A late outcome of the one that is gone is nobody's.
    ended(&rate, a, Some(FailureKind::ServerError), world.now());
    assert_eq!([rate.read(a, world.now()), rate.read(d, world.now())], [Reading::Missing; 2]);
}

proptest! {
    #![proptest_config(drawn(300))]

    /// The latch against the definition, computed from all that ever happened.
    #[test]
    fn it_is_the_share_of_its_window(
        events in prop::collection::vec((0u64..40_000, 0u8..3), 1..1500),
        window in 1u64..200,
    ) {
        let rate = Arc::new(SuccessRate::over(secs(window)).unwrap());
        let (world, router, _) = heard([rate.clone() as Arc<dyn HealthSignal>]);
        let a = router.backend_id("a").unwrap();
        let mut now = world.now();
        let mut all: Vec<(Instant, u64)> = Vec::new();
        // Pauses of up to 40 s, most of them short.
        for (pause, kind) in events {
            now = now + ms(if pause < 36_000 { pause % 300 } else { pause });
            let (failure, lost) = match kind {
                0 => (None, 0),
                1 => (Some(FailureKind::RateLimited), 1),
                _ => (Some(FailureKind::Truncated), 2),
            };
            ended(&rate, a, failure, now);
            all.push((now, lost));
            let kept = all.iter().rev().take(SuccessRate::OUTCOMES).filter(|(at, _)| now - *at <= secs(window));
            let (count, lost) = kept.fold((2, 0), |(count, sum), (_, lost)| (count + 1, sum + lost));
            prop_assert_eq!(fresh(rate.read(a, now)), Some(((2 * count - lost) * 1000 / (2 * count)) as u16));
        }
        let expired = matches!(rate.read(a, now + secs(window) + ms(1)), Reading::Stale { .. });
        prop_assert!(expired);
    }
}
