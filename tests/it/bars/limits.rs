//! Backends that answer 429 with a Retry-After.

use super::pool::{AtLeast, AtMost, Figure, Pool, REFUSAL, over_seeds};
use crate::support::{Act, Scripted, ms, ok_share, secs, tries, within};
use fallway::CallOptions;
use fallway::FailureKind::RateLimited;
use std::time::Duration;

const fn says_429(hint: Duration) -> Act {
    Act::Hint(RateLimited, REFUSAL, hint)
}

/// Calls that reached a backend after it had answered 429 and before its Retry-After was over.
fn into_window(pool: &Pool, backend: &Scripted, hint: f64, limited: impl Fn(f64) -> bool) -> usize {
    let mut until = 0.0;
    let mut count = 0;
    for at in backend.seen().iter().map(|seen| pool.at(seen.at)) {
        let answered = until - hint;
        count += usize::from(at > answered && at < until);
        if limited(at) {
            until = at + REFUSAL.as_secs_f64() + hint;
        }
    }
    count
}

#[test]
fn two_of_three_answer_429_and_get_nothing_more_in_their_window() {
    over_seeds(|seed| {
        let limited = |at: f64| (1.0..3.0).contains(&at);
        let pool = Pool::new(seed, 3, |n, at| (n < 2 && (1.0..3.0).contains(&at)).then(|| says_429(secs(2))));
        let answers = pool.plain_load(4.0);
        let sent: usize = pool.backends[..2].iter().map(|backend| into_window(&pool, backend, 2.0, limited)).sum();
        [
            AtLeast("ok", ok_share(&answers), 1.0),
            AtMost("attempts per request", tries(&answers), 1.01),
            AtMost("sent into the window", sent as f64, 0.0),
        ]
    });
}

fn all_limited(seed: u64, options: &CallOptions) -> Vec<Figure> {
    let pool = Pool::new(seed, 3, |_, at| (1.0..4.0).contains(&at).then(|| says_429(secs(1))));
    let (router, timer) = (pool.router.clone(), pool.world.timer().clone());
    let patient = pool.world.spawn(async move {
        timer.sleep(ms(1500)).await;
        let r = router.call("ask", within(secs(5))).await;
        if let Err(e) = &r {
            println!("{}", e.decision());
        }
        r.is_ok()
    });
    let answers = pool.load(9.0, options);
    let asked = pool.between(&answers, 1.0, 4.0);
    let later = pool.between(&answers, 4.0, 9.0);
    vec![
        AtMost("sent per asked", pool.sent(1.0, 4.0) as f64 / asked.len() as f64, 0.08),
        AtLeast("ok in the next 5 s", ok_share(&later), 1.0),
        AtLeast("a caller with 5 s left succeeds", f64::from(u8::from(patient.take())), 1.0),
    ]
}

#[test]
fn all_answer_429_and_patient_callers_wait() {
    over_seeds(|seed| all_limited(seed, &within(secs(60))));
}

#[test]
fn all_answer_429_and_hasty_callers_are_told_at_once() {
    over_seeds(|seed| all_limited(seed, &within(ms(500))));
}
