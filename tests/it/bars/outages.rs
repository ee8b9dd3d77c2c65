//! Backends that are down or answer 503, alone, by region or all of them, and come back.

use super::pool::{AtLeast, AtMost, Figure, Pool, REFUSAL, exactly, millis, over_seeds};
use crate::support::{Act, Answer, ok_share, percentile, secs, tries, within};
use fallway::FailureKind::{Overloaded, Unreachable};
use fallway::policy::FailSafe;
use fallway::{CallOptions, Facts};

const REFUSED: Act = Act::Fail(Unreachable, REFUSAL);
const SAYS_503: Act = Act::Fail(Overloaded, REFUSAL);

fn one_of_three(seed: u64, warm: f64, most_tries: f64, fault: super::pool::Fault) -> Vec<Figure> {
    let pool = Pool::new(seed, 3, fault);
    let answers = pool.plain_load(warm + 8.0);
    let during = pool.between(&answers, warm, warm + 8.0);
    let mut figures = vec![
        AtMost("attempts per request", tries(&during), most_tries),
        AtMost("p99", millis(percentile(&during, 0.99)), 25.0),
    ];
    figures.extend(exactly("ok", ok_share(&answers), 1.0));
    figures
}

#[test]
fn one_of_three_refuses_from_the_start() {
    over_seeds(|seed| one_of_three(seed, 0.0, 1.03, |n, _| (n == 0).then_some(REFUSED)));
}

#[test]
fn one_of_three_refuses_under_traffic() {
    over_seeds(|seed| one_of_three(seed, 1.0, 1.03, |n, at| (n == 0 && at >= 1.0).then_some(REFUSED)));
}

#[test]
fn one_of_three_answers_503_from_the_start() {
    over_seeds(|seed| one_of_three(seed, 0.0, 1.02, |n, _| (n == 0).then_some(SAYS_503)));
}

#[test]
fn one_of_three_answers_503_under_traffic() {
    over_seeds(|seed| one_of_three(seed, 1.0, 1.02, |n, at| (n == 0 && at >= 1.0).then_some(SAYS_503)));
}

const GONE: f64 = 5.0;
const BACK: f64 = 10.0;
const END: f64 = 20.0;

fn region_run(seed: u64) -> (Pool, Vec<Answer>) {
    let pool = Pool::with(
        seed,
        6,
        |n, at| (n < 3 && (GONE..BACK).contains(&at)).then_some(REFUSED),
        FailSafe::default(),
        |n, profile| profile.region(if n < 3 { "eu" } else { "us" }),
        |builder| builder,
    );
    let answers = pool.plain_load(END);
    (pool, answers)
}

#[test]
fn a_region_gone_for_five_seconds_loses_nothing() {
    over_seeds(|seed| {
        let (pool, answers) = region_run(seed);
        let down = pool.between(&answers, GONE, BACK);
        let lost = answers.iter().filter(|answer| !answer.ok()).count();
        [
            AtMost("lost", lost as f64, 0.0),
            AtLeast("asked", answers.len() as f64, 1000.0),
            AtMost("attempts per request while down", tries(&down), 1.10),
            AtMost("p99 while down", millis(percentile(&down, 0.99)), 25.0),
        ]
    });
}

#[test]
fn a_region_that_is_back_is_used_at_once() {
    /// Answers over which the share of the region is taken.
    const WINDOW: usize = 20;
    over_seeds(|seed| {
        let (pool, answers) = region_run(seed);
        let mut after = pool.between(&answers, BACK, END);
        after.sort_by_key(Answer::ended);
        let local = |answer: &Answer| ["b0", "b1", "b2"].map(Some).contains(&answer.backend.as_deref());
        let first = after.iter().find(|answer| local(answer)).map_or(f64::NAN, |answer| pool.at(answer.ended()));
        let quarter = after.windows(WINDOW).find(|window| {
            let returned = window.iter().filter(|answer| local(answer)).count();
            returned * 4 >= WINDOW
        });
        let quarter = quarter.map_or(f64::NAN, |window| pool.at(window[WINDOW - 1].ended()));
        [
            AtMost("seconds to the first success", first - BACK, 0.5),
            AtMost("seconds to a share of 25 %", quarter - BACK, 1.0),
            AtMost("lost", after.iter().filter(|answer| !answer.ok()).count() as f64, 0.0),
        ]
    });
}

#[test]
fn everything_503_for_three_seconds_and_the_first_success_after() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, |_, at| (1.0..4.0).contains(&at).then_some(SAYS_503));
        let answers = pool.plain_load(8.0);
        let ends = answers.iter().filter(|answer| answer.ok()).map(|answer| pool.at(answer.ended()));
        let first = ends.filter(|at| *at >= 4.0).fold(f64::INFINITY, f64::min);
        let settled = pool.between(&answers, 5.0, 8.0);
        [
            AtMost("seconds to the first success", first - 4.0, 0.5),
            AtLeast("ok from 1 s after on", ok_share(&settled), 1.0),
        ]
    });
}

#[test]
fn everything_503_costs_one_request_three_attempts_at_most() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, |_, _| Some(SAYS_503));
        let error = pool.world.call(&pool.router, within(secs(60))).unwrap_err();
        [
            AtMost("attempts", error.attempts().len() as f64, 3.0),
            AtMost("calls", pool.sent(0.0, 1.0) as f64, 3.0),
            AtMost("milliseconds to the error", pool.now() * 1e3, 5.0),
        ]
    });
}

#[test]
fn everything_503_is_not_amplified() {
    over_seeds(|seed| {
        let pool = Pool::new(seed, 3, |_, _| Some(SAYS_503));
        let answers = pool.plain_load(10.0);
        let most = answers.iter().map(|answer| answer.attempts).max().unwrap();
        [
            AtMost("calls per request", pool.sent(0.0, 20.0) as f64 / answers.len() as f64, 0.10),
            AtMost("most attempts of one", most as f64, 3.0),
            AtMost("p50 to the error", millis(percentile(&answers, 0.5)), 1.0),
            AtMost("ok", ok_share(&answers), 0.0),
        ]
    });
}

#[test]
fn a_single_primary_that_is_down_costs_the_first_requests_only() {
    for fault in [
        (|n, _| (n == 0).then_some(SAYS_503)) as super::pool::Fault,
        (|n, _| (n == 0).then_some(REFUSED)) as super::pool::Fault,
    ] {
        over_seeds(|seed| {
            let pool = Pool::with(
                seed,
                2,
                fault,
                FailSafe::default().fallback(["m2"]),
                |n, profile| profile.model(["m1", "m2"][n]),
                |builder| builder,
            );
            let options = CallOptions::within(secs(60)).facts(Facts::model("m1").prompt_tokens(20).replay_safe());
            let answers = pool.load(8.0, &options);
            let later = &answers[20..];
            [
                AtLeast("ok", ok_share(&answers), 1.0),
                AtMost("p50 after the first 20", millis(percentile(later, 0.5)), 25.0),
                AtMost("attempts per request after them", tries(later), 1.10),
            ]
        });
    }
}
