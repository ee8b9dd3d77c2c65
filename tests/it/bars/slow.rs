//! Backends that are slow or hang, and callers with deadlines.

use super::pool::{AtLeast, AtMost, Pool, millis, over_seeds};
use crate::support::{Act, Scripted, ms, ok_share, percentile, secs, within};
use fallway::policy::FailSafe;

#[test]
fn a_gray_backend_gets_almost_nothing() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 4, |n, _| (n == 3).then_some(Act::Answer(ms(200))));
        let answers = pool.plain_load(12.0);
        let calls: Vec<f64> = pool.backends.iter().map(|backend| backend.calls() as f64).collect();
        let (gray, healthy) = (calls[3], &calls[..3]);
        let of_healthy = healthy.iter().map(|calls| calls / healthy.iter().sum::<f64>());
        [
            AtLeast("ok", ok_share(&answers), 1.0),
            AtMost("share of the gray one", gray / calls.iter().sum::<f64>(), 0.03),
            AtLeast("least healthy share", of_healthy.clone().fold(f64::INFINITY, f64::min), 0.25),
            AtMost("largest healthy share", of_healthy.fold(0.0, f64::max), 0.42),
            AtMost("p95", millis(percentile(&answers, 0.95)), 25.0),
        ]
    });
}

#[test]
fn one_of_three_hangs_and_an_attempt_may_take_a_second() {
    over_seeds(|seed| {
        let fail_safe = FailSafe::default().attempt_limit(secs(1));
        let fault = |n, _| (n == 0).then_some(Act::Hang);
        let pool = Pool::with(seed, 3, fault, fail_safe, |_, profile| profile, |builder| builder);
        let answers = pool.plain_load(4.0);
        [
            AtLeast("ok", ok_share(&answers), 1.0),
            AtMost("p95", millis(percentile(&answers, 0.95)), 25.0),
            AtMost("p99", millis(percentile(&answers, 0.99)), 1010.0),
            AtMost("hung attempts", pool.backends[0].calls() as f64, 3.0),
        ]
    });
}

#[test]
fn everything_hangs_and_the_deadline_is_spent_on_two_backends() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, |_, _| Some(Act::Hang));
        let error = pool.world.call(&pool.router, within(secs(2))).unwrap_err();
        let took = pool.now() * 1e3;
        let tried = pool.backends.iter().filter(|backend| backend.calls() > 0).count();
        let answers = pool.load(2.0, &within(secs(2)));
        [
            AtMost("answered after", took, 2010.0),
            AtLeast("backends tried", tried as f64, 2.0),
            AtLeast("attempts", error.attempts().len() as f64, 2.0),
            AtMost("longest of a hundred more", millis(percentile(&answers, 1.0)), 2010.0),
            AtMost("ok", ok_share(&answers), 0.0),
        ]
    });
}

#[test]
fn one_of_three_hangs_and_every_caller_has_two_seconds() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, |n, _| (n == 0).then_some(Act::Hang));
        let answers = pool.load(4.0, &within(secs(2)));
        [
            AtLeast("ok", ok_share(&answers), 1.0),
            AtMost("longest", millis(percentile(&answers, 1.0)), 2010.0),
            AtLeast(
                "calls that did not hang",
                pool.backends[1..].iter().map(Scripted::calls).sum::<u64>() as f64,
                200.0,
            ),
        ]
    });
}
