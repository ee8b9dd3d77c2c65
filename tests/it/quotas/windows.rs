//! A provider whose quota is full again at once, when a minute of its clock begins.

use super::{Quoted, a, builder};
use crate::support::{World, ms, secs, within};
use fallway::backend::{Attempt, BackendError, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::signal::QuotaReport;
use fallway::time::Timer;
use fallway::{FailureKind, Profile};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Requests a minute.
const LIMIT: u64 = 100;

/// What happened in one minute of the provider's clock.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    served: u64,
    refused: u64,
    /// How far into the minute it was when somebody came first, who was served.
    first: Duration,
}

/// How the provider is, and how it is asked.
#[derive(Clone, Copy)]
struct Case {
    /// How far its clock is into a minute at the start.
    offset: Duration,
    /// How long an answer takes.
    answer: Duration,
    /// Its resets and hints are whole seconds, rounded up.
    rounded: bool,
    routers: u64,
    profile: fn() -> Profile,
}

const ASKED: u64 = 12;

/// Ten requests a second for twelve minutes, spread over the routers; nobody waits. Returns the whole minutes.
fn minutes(case: Case) -> Vec<Minute> {
    let Case { offset, answer, rounded, routers, profile } = case;
    let world = World::new();
    let (timer, start) = (world.timer().clone(), world.now());
    let minutes = Arc::new(Mutex::new(vec![Minute::default(); ASKED as usize + 2]));
    let counted = minutes.clone();
    let provider = move |_: &str, attempt: &Attempt| {
        let into = timer.now() - start + offset;
        let minute = into.as_secs() / 60;
        let left_of_it = secs(60 * (minute + 1)) - into;
        let (remaining, enough) = {
            let count = &mut counted.lock().unwrap()[minute as usize];
            let enough = count.served < LIMIT;
            if enough && count.served == 0 {
                count.first = into - secs(60 * minute);
            }
            *(if enough { &mut count.served } else { &mut count.refused }) += 1;
            ((LIMIT - count.served).to_string(), enough)
        };
        let reset = if rounded { left_of_it.as_secs_f64().ceil() } else { left_of_it.as_secs_f64() };
        let (attempt, timer) = (attempt.clone(), timer.clone());
        async move {
            // A refusal comes sooner than an answer.
            timer.sleep_until(timer.now() + if enough { answer } else { answer / 4 }).await;
            let text = format!("{reset}");
            let header = |name: &str| match name {
                "x-ratelimit-limit-requests" => Some("100"),
                "x-ratelimit-remaining-requests" => Some(remaining.as_str()),
                "x-ratelimit-reset-requests" => Some(text.as_str()),
                _ => None,
            };
            attempt.quota(&QuotaReport::from_headers(header, SystemTime::now()));
            let hint = Duration::from_secs_f64(reset);
            if enough { Ok("answer") } else { Err(BackendError::new(FailureKind::RateLimited).retry_after(hint)) }
        }
    };
    let provider: Arc<dyn fallway::Backend<str, Response = &'static str>> = Arc::new(backend_fn(provider));
    let routers: Vec<Quoted> = (0..routers)
        .map(|_| {
            let router = builder(&world, ordered().fail_safe(FailSafe::default())).queue(0);
            router.backend(profile(), provider.clone()).build().unwrap()
        })
        .collect();
    for n in 0..ASKED * 600 {
        let (router, timer) = (routers[n as usize % routers.len()].clone(), world.timer().clone());
        let at = world.now() + ms(100) * n as u32;
        world.spawn(async move {
            timer.sleep_until(at).await;
            let _ = router.call("ask", within(secs(5))).await;
        });
    }
    world.run();
    let minutes = minutes.lock().unwrap();
    minutes[1..ASKED as usize].to_vec()
}

/// What refills while an answer is on its way, and one request.
fn overrun(case: Case) -> u64 {
    1 + (case.answer.as_secs_f64() * LIMIT as f64 / 60.0).ceil() as u64
}

#[test]
fn a_minute_of_the_clock_is_used_up_hardly_overrun_and_the_next_one_is_not_missed() {
    for profile in [|| a(), || a().requests_per_minute(LIMIT)] {
        for (offset, answer, rounded) in
            [(0, 20, false), (31, 20, true), (0, 900, false), (31, 900, true), (59, 300, true)]
        {
            let case = Case { offset: secs(offset), answer: ms(answer), rounded, routers: 1, profile };
            for (number, minute) in minutes(case).into_iter().enumerate() {
                let found = format!("{number}, {offset} s, {answer} ms: {minute:?}");
                assert_eq!(minute.served, LIMIT, "{found}");
                assert!(minute.refused <= overrun(case), "{found}");
                assert!(minute.first <= secs(2), "{found}");
            }
        }
    }
}

#[test]
fn routers_that_share_it_use_it_up_as_well() {
    let part = || a().requests_per_minute(LIMIT / 4).request_burst(LIMIT);
    let case = Case { offset: secs(20), answer: ms(300), rounded: true, routers: 4, profile: part };
    for minute in minutes(case) {
        assert_eq!(minute.served, LIMIT, "{minute:?}");
        assert!(minute.refused <= 4 * overrun(case) && minute.first <= secs(2), "{minute:?}");
    }
}
