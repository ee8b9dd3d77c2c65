//! What is believed, and how a wrong belief ends.

use super::{BLOCK, believed, pair, prompt, router, send};
use crate::support::{TestRouter, at};
use fallway::{BackendError, Facts, FailureKind, Profile};

/// A server that takes so many milliseconds for each block that it does not have, and one more.
fn serve(router: &TestRouter, facts: &Facts, now: u64, mut has: impl FnMut(usize) -> u64) -> (u64, usize) {
    let (mut trip, server) = send(router, facts, at(now));
    let blocks = facts.input_tokens() / u64::from(BLOCK);
    let took = 1 + (blocks - has(server).min(blocks)) * 10;
    trip.answered(1, at(now + took));
    trip.finish(at(now + took));
    (now + took, server)
}

#[test]
fn what_was_answered_is_believed_where_it_was_answered() {
    let router = pair();
    assert_eq!(believed(&router, &prompt(1, 10)), [0, 0]);
    let (_, server) = serve(&router, &prompt(1, 10), 0, |_| 0);
    let mut told = [0, 0];
    told[server] = 2_560;
    assert_eq!(believed(&router, &prompt(1, 12)), told);
    told[server] = 1_024;
    assert_eq!(believed(&router, &prompt(1, 4)), told);
    assert_eq!(believed(&router, &prompt(2, 4)), [0, 0]);
    // Who does not say how its prompt begins is told of nothing.
    let decision = router.explain(&Facts::any().prompt_tokens(2_560).into());
    assert!(decision.candidates().all(|candidate| candidate.cached_tokens().is_none()));
}

#[test]
fn what_is_on_its_way_counts_and_what_failed_does_not() {
    for (error, remembers) in [(FailureKind::ServerError, true), (FailureKind::Unreachable, false)] {
        let router = router([Profile::new("a")]);
        serve(&router, &prompt(1, 4), 0, |_| 0);
        let (mut trip, _) = send(&router, &prompt(1, 10), at(100));
        assert_eq!(believed(&router, &prompt(1, 10)), [2_560]);
        trip.fail(1, BackendError::new(error), false, at(110));
        // A refused connection may be a restart: nothing is left.
        assert_eq!(believed(&router, &prompt(1, 10)), [if remembers { 1_024 } else { 0 }], "{error}");
        drop(trip);
    }
    let router = router([Profile::new("a")]);
    let (trip, _) = send(&router, &prompt(1, 10), at(100));
    drop(trip);
    assert_eq!(believed(&router, &prompt(1, 10)), [0]);
}

#[test]
fn an_ejected_backend_has_lost_everything_and_a_throttled_one_nothing() {
    for (kind, failures, left) in
        [(FailureKind::ServerError, 3, 1_024), (FailureKind::ServerError, 5, 0), (FailureKind::RateLimited, 1, 1_024)]
    {
        let router = router([Profile::new("a")]);
        serve(&router, &prompt(1, 4), 0, |_| 0);
        for n in 0..failures {
            let (mut trip, _) = send(&router, &Facts::any().prompt_tokens(9), at(100 + n));
            trip.fail(1, kind.into(), false, at(100 + n));
        }
        let (mut now, mut asked) = (at(100), None);
        while asked.is_none() {
            now = now + std::time::Duration::from_secs(5);
            let mut trip = router.trip(prompt(1, 4).into(), now);
            asked = trip.next(now).ok().and(trip.decision().chosen()).and_then(|chosen| chosen.cached_tokens());
        }
        assert_eq!(asked, Some(left), "{failures} {kind}");
    }
}

#[test]
fn the_profile_bounds_what_is_believed() {
    for (tokens, left) in [(0, [0, 0]), (1_024, [0, 1_024]), (2_048, [1_024, 1_024]), (u64::MAX, [1_024, 1_024])] {
        let router = router([Profile::new("a").prefix_cache(tokens)]);
        let (now, _) = serve(&router, &prompt(1, 4), 0, |_| 0);
        serve(&router, &prompt(2, 4), now, |_| 0);
        assert_eq!([1, 2].map(|of| believed(&router, &prompt(of, 4))[0]), left, "{tokens} tokens");
    }
}

#[test]
fn a_repeated_prompt_pushes_nothing_out() {
    // 12 of 400 blocks are used.
    let router = router([Profile::new("a").prefix_cache(400 * u64::from(BLOCK))]);
    let (mut now, _) = serve(&router, &prompt(1, 8), 0, |_| 0);
    for n in 0..400 {
        (now, _) = serve(&router, &prompt(2, 4), now, |_| if n == 0 { 0 } else { 4 });
    }
    assert_eq!(believed(&router, &prompt(1, 8)), [2_048]);
}

#[test]
fn a_backend_that_is_said_to_keep_nothing_teaches_what_it_takes() {
    let router = router([Profile::new("a").prefix_cache(0)]);
    // Its speed varies; nobody takes a fast answer for a cached one.
    (0..60).fold(0, |now, n| serve(&router, &prompt(1, 10), now, |_| n % 2 * 8).0);
    let predicted = router.explain(&prompt(1, 10).into()).chosen().unwrap().latency().unwrap().predict(2_560);
    assert!((50_000_000..75_000_000).contains(&predicted), "{predicted}");
}

#[test]
fn a_conversation_stays_until_waiting_takes_longer_than_beginning_anew() {
    let router = pair();
    let mut now = 0;
    // Both are known.
    for of in 100..140 {
        now = serve(&router, &prompt(of, 8), now, |_| 0).0;
    }
    let (mut now, home) = serve(&router, &prompt(1, 20), now, |_| 0);
    for turn in 21..30 {
        let (end, server) = serve(&router, &prompt(1, turn), now, |_| turn - 1);
        assert_eq!(server, home, "turn {turn}");
        now = end;
    }
    // So much is waiting there that the other is sooner.
    let long = prompt(2, 200);
    let mut waiting = Vec::new();
    while waiting.last().is_none_or(|(_, server)| *server != home) {
        waiting.push(send(&router, &long, at(now)));
    }
    assert_ne!(send(&router, &prompt(1, 31), at(now)).1, home);
}

#[test]
fn of_equals_who_has_most_of_the_prompt_comes_first() {
    let router = pair();
    let mut now = 0;
    for of in 100..140 {
        now = serve(&router, &prompt(of, 8), now, |_| 0).0;
    }
    let (now, home) = serve(&router, &prompt(1, 20), now, |_| 0);
    // At home 24 blocks would be before the first token, elsewhere 21: the other is best, and home within a quarter of it.
    let mut waiting = Vec::new();
    while waiting.last().is_none_or(|(_, server)| *server != home) {
        waiting.push(send(&router, &prompt(2, 23), at(now)));
    }
    waiting.retain(|(_, server)| *server == home);
    let mut decision = router.explain(&prompt(1, 21).into());
    for seed in 0..50 {
        router.decide(&mut decision, at(now), seed);
        assert_eq!(decision.chosen().unwrap().id().slot(), home, "{decision}");
    }
}

/// The prompts of ten conversations that take turns, and grow.
fn turns(count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count).map(|turn| (turn % 10, 10 + turn / 10))
}

#[test]
fn a_server_that_keeps_nothing_is_not_believed_for_long() {
    let router = router([Profile::new("a")]);
    let (mut now, mut wrong) = (0, 0);
    for (of, blocks) in turns(300) {
        wrong += u64::from(believed(&router, &prompt(of, blocks))[0] > 0);
        now = serve(&router, &prompt(of, blocks), now, |_| 0).0;
    }
    assert!((1..=10).contains(&wrong), "{wrong} wrong beliefs of 290 possible");
    // Nor did it learn that work takes no time.
    let predicted = router.explain(&prompt(99, 100).into()).chosen().unwrap().latency().unwrap().predict(25_600);
    assert!((800_000_000..1_200_000_000).contains(&predicted), "{predicted}");
}

#[test]
fn a_restart_that_nobody_saw_is_forgotten_and_what_is_kept_then_is_believed() {
    let router = router([Profile::new("a")]);
    let mut now = 0;
    for (of, blocks) in turns(100) {
        now = serve(&router, &prompt(of, blocks), now, |_| blocks - 1).0;
        assert!(blocks == 10 || believed(&router, &prompt(of, blocks))[0] > 0);
    }
    // It restarts: what it has from now on is what it is sent from now on.
    let mut has = [0; 10];
    let (mut wrong, mut right) = (0, 0);
    for (of, blocks) in turns(400).skip(100) {
        let told = believed(&router, &prompt(of, blocks))[0] / u64::from(BLOCK);
        let real = &mut has[of as usize];
        wrong += u64::from(told > *real);
        right += u64::from(told > 0 && told == *real);
        now = serve(&router, &prompt(of, blocks), now, |_| *real).0;
        *real = blocks;
    }
    assert!(wrong <= 3, "{wrong} wrong beliefs after the restart");
    assert!(right > 200, "{right} right beliefs of 290 after the restart");
}
