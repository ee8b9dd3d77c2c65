//! Never more in flight than there may be.

use super::{PRIORITIES, of};
use crate::support::{ANSWER, TestRouter, World, always, secs};
use fallway::decision::Reason;
use fallway::facts::Adaptive;
use fallway::policy::{Capacity, FailSafe, PolicyExt, least_loaded};
use fallway::recover::Ejection;
use fallway::rng::Rng;
use fallway::router::Step;
use fallway::time::Instant;
use fallway::{BackendError, FailureKind, Profile};
use std::sync::atomic::{AtomicBool, Ordering};

const IDS: [&str; 3] = ["a", "b", "c"];
const LIMITS: [u32; 3] = [3, 9, 40];

/// Backends whose limits move: each learns in its own way, or not at all.
fn router() -> TestRouter {
    let world = World::new();
    let policy = least_loaded().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let how = [Some(Adaptive::Aimd), Some(Adaptive::Gradient), None];
    let mut number = 0;
    let members = IDS.map(|id| {
        let profile = Profile::new(id).concurrency(LIMITS[number]);
        number += 1;
        (how[number - 1].into_iter().fold(profile, Profile::adaptive_concurrency), always(ANSWER))
    });
    // Whoever refuses is asked again at once, so that limits move all the time.
    world.fleet(world.router(policy).ejection(Ejection::off()), members).0
}

/// Requests that come, are answered, fail, are given up or panic, at random.
fn rush(router: &TestRouter, seed: u64, rounds: u32, mut look: impl FnMut(&TestRouter, Option<&str>)) {
    let mut rng = Rng::new(seed);
    let mut flying = Vec::new();
    for round in 1..=u64::from(rounds) {
        let now = Instant::from_nanos(round * 1_000_000);
        let options = of(PRIORITIES[rng.below(4)]);
        let mut trip = router.trip(options.deadline(secs(3_600)), now);
        let step = trip.next(now);
        let called = matches!(step, Ok(Step::Call(_)));
        let chosen = called.then(|| trip.decision().chosen().unwrap().name().to_owned());
        look(router, chosen.as_deref());
        if called {
            flying.push(trip);
        }
        while flying.len() > rng.below(50) {
            let mut trip = flying.swap_remove(rng.below(flying.len()));
            let refused = |kind| BackendError::new(kind);
            match rng.below(8) {
                0 => trip.fail(1, refused(FailureKind::Overloaded), false, now),
                1 => trip.fail(1, refused(FailureKind::RateLimited), false, now),
                2 => trip.fail(1, refused(FailureKind::InvalidRequest), false, now),
                3 => {
                    // Given up after the first item, or before.
                    if rng.below(2) == 0 {
                        trip.answered(1, now);
                    }
                }
                4 => {
                    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let _trip = trip;
                        crate::support::scripted_panic();
                    }));
                    assert!(panicked.is_err());
                }
                _ => {
                    trip.answered(1, now);
                    trip.finish(now);
                }
            }
            look(router, None);
        }
    }
}

/// The limit of a backend now, as a decision would find it.
fn limit(router: &TestRouter, id: &str) -> u32 {
    let decision = router.explain(&of(PRIORITIES[3]));
    let candidate = decision.candidates().find(|candidate| candidate.name() == id).unwrap();
    let learned = match candidate.rejected() {
        Some(Reason::AtCapacity { limit, .. }) => Some(limit),
        _ => candidate.load().and_then(|load| load.learned_limit),
    };
    let profile = candidate.profile().concurrency_limit().unwrap();
    learned.map_or(profile, |learned| learned.min(profile))
}

#[test]
fn whoever_enters_finds_room_whatever_the_limits_do() {
    let router = router();
    let (mut entered, mut least, mut most) = (0u32, LIMITS, [0; 3]);
    rush(&router, 3, 20_000, |router, called| {
        let Some(id) = called else { return };
        let at = IDS.iter().position(|it| *it == id).unwrap();
        let (in_flight, limit) = (router.in_flight(id).unwrap(), limit(router, id));
        assert!(in_flight <= limit, "{in_flight} of {limit} at {id}");
        entered += 1;
        least[at] = least[at].min(limit);
        most[at] = most[at].max(limit);
    });
    // They did move.
    assert!(entered > 10_000 && least[0] == 1 && least[1] < 6 && least[2] == 40, "{entered} {least:?} {most:?}");
    assert_eq!(router.total_in_flight(), 0);
}

fn threads(count: u64, rounds: u32) {
    let router = router();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..count {
            let (router, over) = (router.clone(), &over);
            scope.spawn(move || {
                rush(&router, seed, rounds, |router, _| {
                    for (id, limit) in IDS.iter().zip(LIMITS) {
                        if router.in_flight(id).unwrap() > limit {
                            over.store(true, Ordering::Relaxed);
                        }
                    }
                });
            });
        }
    });
    assert!(!over.into_inner());
    assert_eq!((router.total_in_flight(), router.waiting()), (0, 0));
    let decision = router.explain(&of(PRIORITIES[3]));
    for candidate in decision.candidates() {
        let load = candidate.load().unwrap();
        assert_eq!((load.in_flight, load.waiting_tokens, load.oldest_wait()), (0, 0, None), "{decision}");
    }
}

#[test]
fn two_threads() {
    threads(2, 10_000);
}

#[test]
fn eight_threads() {
    threads(8, 3_000);
}
