//! What providers say of quotas. The forms of a reset are tested beside the parser.

use crate::support::secs;
use fallway::signal::QuotaReport;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn read(headers: &[(&str, &str)]) -> QuotaReport {
    let headers: BTreeMap<_, _> = headers.iter().copied().collect();
    QuotaReport::from_headers(|name| headers.get(name).copied(), now())
}

/// 2025-08-21T12:40:00Z
fn now() -> SystemTime {
    UNIX_EPOCH + secs(1_755_780_000)
}

#[test]
fn openai() {
    let report = read(&[
        ("x-ratelimit-limit-requests", "5000"),
        ("x-ratelimit-remaining-requests", "4999"),
        ("x-ratelimit-reset-requests", "12ms"),
        ("x-ratelimit-limit-tokens", "160000"),
        ("x-ratelimit-remaining-tokens", "159976"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ]);
    assert_eq!((report.requests.limit, report.requests.remaining), (Some(5000), Some(4999)));
    assert_eq!(report.requests.resets_in, Some(Duration::from_millis(12)));
    assert_eq!((report.tokens.limit, report.tokens.remaining), (Some(160_000), Some(159_976)));
    assert_eq!((report.tokens.resets_in, report.unreadable), (Some(secs(360)), 0));
    assert_eq!(report.input_tokens, Default::default());
}

#[test]
fn anthropic() {
    let report = read(&[
        ("anthropic-ratelimit-requests-limit", "1000"),
        ("anthropic-ratelimit-requests-remaining", "999"),
        ("anthropic-ratelimit-requests-reset", "2025-08-21T12:40:59Z"),
        ("anthropic-ratelimit-input-tokens-remaining", "80000"),
        ("anthropic-ratelimit-output-tokens-limit", "16000"),
        ("retry-after", "17"),
    ]);
    assert_eq!((report.requests.remaining, report.requests.resets_in), (Some(999), Some(secs(59))));
    assert_eq!((report.input_tokens.remaining, report.output_tokens.limit), (Some(80_000), Some(16_000)));
    assert_eq!((report.retry_after, report.tokens.limit), (Some(secs(17)), None));
}

#[test]
fn bare_names_and_retry_after_in_milliseconds() {
    let report = read(&[
        ("x-ratelimit-limit", "20"),
        ("x-ratelimit-remaining", "7.0"),
        ("x-ratelimit-reset", "1755780030000"),
        ("retry-after", "9"),
        ("retry-after-ms", "2500"),
    ]);
    assert_eq!((report.requests.limit, report.requests.remaining), (Some(20), Some(7)));
    assert_eq!(report.requests.resets_in, Some(secs(30)));
    assert_eq!(report.retry_after, Some(Duration::from_millis(2500)));
    assert_eq!(report.tokens, Default::default());
}

#[test]
fn what_can_not_be_read_is_missing_and_counted() {
    let long = "9".repeat(1000);
    let report = read(&[
        ("x-ratelimit-limit-requests", "-5"),
        ("x-ratelimit-remaining-requests", "NaN"),
        ("x-ratelimit-reset-requests", "soon"),
        ("x-ratelimit-limit-tokens", "1e300"),
        ("x-ratelimit-remaining-tokens", &long),
        ("x-ratelimit-reset-tokens", ""),
        ("retry-after", "inf"),
    ]);
    assert_eq!(report.unreadable, 7);
    assert_eq!((report.requests, report.tokens, report.retry_after), Default::default());
}
