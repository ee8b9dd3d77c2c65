//! Reserve, reconcile, refund.

use super::{PLAIN, Play, a, ask, builder, left, scripted, used};
use crate::support::{World, dropped_after, ms, secs, tokens};
use fallway::backend::Usage;
use fallway::decision::Cost;
use fallway::event::{Doubt, Event, Observer};
use fallway::facts::Price;
use fallway::policy::ordered;
use fallway::time::Instant;
use fallway::{CallOptions, FailureKind, Routed};
use std::sync::{Arc, Mutex};

/// What answers were not believed, with their count.
#[derive(Debug, Default)]
struct Doubts(Mutex<Vec<(Doubt, u64)>>);

impl Observer for Doubts {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Usage { doubt: Some(doubt), doubts, .. } = event {
            self.0.lock().unwrap().push((*doubt, *doubts));
        }
    }
}

/// Requests and tokens that are gone of a thousand a minute each, after one call that expected a hundred tokens and that
/// ended so, 20 ms after it began; and what was doubted.
fn gone(play: impl Fn() -> Play + Send + Sync + 'static) -> (u64, u64, Vec<(Doubt, u64)>) {
    let world = World::new();
    let (backend, _) = scripted(world.timer(), move |_| play());
    let doubts = Arc::new(Doubts::default());
    let router = builder(&world, ordered()).observer(doubts.clone());
    let router = router.backend(a().requests_per_minute(1_000).tokens_per_minute(60_000), backend).build().unwrap();
    let options = CallOptions::within(secs(5)).facts(tokens(6_000, 4_000));
    let _ = ask(&world, &router, options);
    let (requests, tokens) = left(&router);
    let doubts = doubts.0.lock().unwrap().clone();
    // 20 tokens refilled meanwhile.
    (1_000 - requests.unwrap(), (60_000 - tokens.unwrap()).next_multiple_of(1_000), doubts)
}

#[test]
fn what_was_used_replaces_what_was_expected() {
    assert_eq!(gone(|| used(6_000, 1_000)), (1, 7_000, vec![]));
    assert_eq!(gone(|| used(6_000, 14_000)), (1, 20_000, vec![]));
    assert_eq!(gone(|| used(6_000, 4_000)), (1, 10_000, vec![]));
}

#[test]
fn usage_that_can_not_be_is_not_believed_and_counted() {
    assert_eq!(gone(|| PLAIN), (1, 10_000, vec![(Doubt::Missing, 1)]));
    assert_eq!(gone(|| used(0, 0)), (1, 10_000, vec![(Doubt::Missing, 1)]));
    assert_eq!(gone(|| used(-6_000, 100_000)), (1, 10_000, vec![(Doubt::Negative, 1)]));
    assert_eq!(gone(|| used(6_000, -1)), (1, 10_000, vec![(Doubt::Negative, 1)]));
    // More than a minute's worth is not known any better, and one mistake must not close the backend for a minute.
    assert_eq!(gone(|| used(60_000, 0)), (1, 60_000, vec![]));
    assert_eq!(gone(|| used(60_001, 0)), (1, 10_000, vec![(Doubt::Absurd { tokens: 60_001 }, 1)]));
    let most = Doubt::Absurd { tokens: u64::MAX - 1 };
    assert_eq!(gone(|| used(i64::MAX, i64::MAX)), (1, 10_000, vec![(most, 1)]));
}

#[test]
fn what_the_host_allows_is_possible_whatever_a_header_says() {
    let world = World::new();
    let headers = &[("x-ratelimit-limit-tokens", "10")];
    let (backend, _) = scripted(world.timer(), move |_| Play { headers, ..used(900, 100) });
    let doubts = Arc::new(Doubts::default());
    let router = builder(&world, ordered()).observer(doubts.clone());
    let router = router.backend(a().tokens_per_minute(50_000), backend).build().unwrap();
    ask(&world, &router, CallOptions::within(secs(5)).facts(tokens(900, 100))).unwrap();
    assert_eq!(router.quota("a").unwrap().tokens.limit, Some(10));
    assert_eq!(*doubts.0.lock().unwrap(), []);
}

#[test]
fn usage_that_can_not_be_is_told_where_no_tokens_are_limited_too() {
    // A whole window, many times over, is possible: a call may be many prompts, or many answers.
    for (told, believed) in [(128_000, true), (1 << 30, true), ((1 << 30) + 1, false), (i64::MAX, false)] {
        let world = World::new();
        let (backend, _) = scripted(world.timer(), move |_| used(told, 0));
        let doubts = Arc::new(Doubts::default());
        let router = builder(&world, ordered()).observer(doubts.clone());
        let price = Price::per_million(3.0, 15.0).unwrap();
        let router = router.backend(a().context_window(128_000).price(price), backend).build().unwrap();
        let routed = ask(&world, &router, CallOptions::within(secs(1)).facts(tokens(100, 10))).unwrap();
        let cost = routed.attempts()[0].cost();
        drop(routed);
        assert_eq!(matches!(cost, Cost::Known(_)), believed, "{told}: {cost:?}");
        let absurd = [(Doubt::Absurd { tokens: told as u64 }, 1)];
        assert_eq!(*doubts.0.lock().unwrap(), if believed { vec![] } else { absurd.to_vec() }, "{told}");
    }
}

#[test]
fn answers_longer_than_the_burst_are_owed() {
    let world = World::new();
    // Sent by its prompt, each answer is five times what the bucket holds at once.
    let (backend, calls) = scripted(world.timer(), |_| used(500, 4_500));
    let doubts = Arc::new(Doubts::default());
    let router = builder(&world, ordered()).observer(doubts.clone());
    let router = router.backend(a().tokens_per_minute(6_000).token_burst(1_000), backend).build().unwrap();
    for _ in 0..600 {
        let _ = ask(&world, &router, CallOptions::within(secs(1)).facts(tokens(500, 0)));
        world.run_for(secs(1));
    }
    let spent = calls.load(std::sync::atomic::Ordering::SeqCst) * 5_000;
    assert!((55_000..=66_000).contains(&spent), "{spent} tokens in ten minutes of 6,000");
    assert!(doubts.0.lock().unwrap().is_empty());
}

#[test]
fn hostile_usage_does_not_add_up() {
    let world = World::new();
    let usages = [(i64::MAX, 1), (i64::MIN, i64::MIN), (-1, 0), (0, 0), (1 << 62, 1 << 62), (90, 10)];
    let (backend, _) = scripted(world.timer(), move |call| {
        let (prompt, output) = usages[call as usize % usages.len()];
        used(prompt, output)
    });
    let doubts = Arc::new(Doubts::default());
    let router = builder(&world, ordered()).observer(doubts.clone());
    let router = router.backend(a().tokens_per_minute(1_000), backend).build().unwrap();
    let options = || CallOptions::within(secs(600)).facts(tokens(90, 10));
    for _ in 0..60 {
        world.run_for(secs(60));
        ask(&world, &router, options()).unwrap();
        let left = left(&router).1.unwrap();
        assert!(left <= 901, "{left}");
    }
    assert_eq!(doubts.0.lock().unwrap().last().map(|(_, count)| *count), Some(50));
    world.run_for(secs(60));
    assert_eq!(left(&router).1, Some(1_000));
}

#[test]
fn what_was_not_counted_is_given_back() {
    let fails = |kind| move || Play { fails: Some((kind, None)), ..PLAIN };
    // Never sent.
    assert_eq!(gone(fails(FailureKind::Unreachable)), (0, 0, vec![]));
    // Received and not worked on.
    for kind in [FailureKind::Overloaded, FailureKind::Unauthorized, FailureKind::InvalidRequest] {
        assert_eq!(gone(fails(kind)), (1, 0, vec![]), "{kind}");
    }
    // Nobody knows how much was worked on.
    for kind in [FailureKind::Timeout, FailureKind::ServerError, FailureKind::Truncated, FailureKind::Protocol] {
        assert_eq!(gone(fails(kind)), (1, 10_000, vec![]), "{kind}");
    }
    // Except where it was told.
    let told = || Play { fails: Some((FailureKind::Truncated, None)), ..used(6_000, 500) };
    assert_eq!(gone(told), (1, 7_000, vec![]));
}

#[test]
fn who_leaves_after_sending_leaves_the_estimate_or_what_was_told() {
    for (usage, expected) in [(None, 10_000), (Some(Usage::new(6_000, 0)), 6_000)] {
        let world = World::new();
        let timer = world.timer().clone();
        let backend = fallway::backend::backend_fn(move |_: &str, attempt: &fallway::backend::Attempt| {
            if let Some(usage) = usage {
                attempt.used(usage);
            }
            let timer = timer.clone();
            async move {
                fallway::time::Timer::sleep_until(&timer, fallway::time::Instant::from_nanos(u64::MAX)).await;
                Ok::<_, fallway::BackendError>("answer")
            }
        });
        let router = builder(&world, ordered());
        let router = router.backend(a().requests_per_minute(10).tokens_per_minute(60_000), backend).build().unwrap();
        let caller = router.clone();
        let options = CallOptions::within(secs(5)).facts(tokens(6_000, 4_000));
        world.spawn(dropped_after(1, async move { caller.call("ask", options).await }));
        world.settle();
        assert_eq!((left(&router), router.total_in_flight()), ((Some(9), Some(60_000 - expected)), 0));
    }
}

#[test]
fn what_has_refilled_is_not_given_back_once_more() {
    let world = World::new();
    // The first takes half a minute, and uses a tenth of what is expected.
    let (backend, _) = scripted(world.timer(), |call| match call {
        0 => Play { after: secs(30), ..used(90, 10) },
        _ => Play { after: secs(1), ..used(6_000, 0) },
    });
    let router = builder(&world, ordered()).default_deadline(secs(600));
    let router = router.backend(a().tokens_per_minute(6_000), backend).build().unwrap();
    let call = |expected| {
        let (router, options) = (router.clone(), CallOptions::within(secs(100)).facts(tokens(expected, 0)));
        world.spawn(async move { router.call("ask", options).await.map(Routed::into_inner) })
    };
    let slow = call(1_000);
    // Ten seconds refill what it took; then somebody finds the bucket full, and takes all of it.
    world.run_for(secs(15));
    let all = call(6_000);
    world.run_for(ms(500));
    assert_eq!(left(&router).1, Some(50));
    world.run_for(ms(14_500));
    assert!(slow.is_done() && all.is_done());
    assert_eq!(left(&router).1, Some(1_500));
    assert!(slow.take().is_ok() && all.take().is_ok());
}
