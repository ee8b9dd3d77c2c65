//! From an HTTP answer to a [`BackendError`].

use super::{BackendError, FailureKind};
use std::time::{Duration, SystemTime};

impl BackendError {
    /// Classifies an HTTP answer that is not a success.
    ///
    /// `header` looks a header up by its lower-case name; `detail` is the provider's machine-readable error code or
    /// type where there is one (`error.code` or `error.type` of an OpenAI-style body), else `""`. The detail refines
    /// what the status leaves open: a context overflow and a policy refusal both arrive as 400. Only the fixed codes
    /// listed in the source are recognised, the coarse ones beside 400 only; free text is never searched.
    ///
    /// | status | kind |
    /// | --- | --- |
    /// | 401, 403 | [`Unauthorized`](FailureKind::Unauthorized) |
    /// | 402 | [`QuotaExhausted`](FailureKind::QuotaExhausted) |
    /// | 404, 410 | [`ModelUnavailable`](FailureKind::ModelUnavailable) |
    /// | 408, 504 | [`Timeout`](FailureKind::Timeout) |
    /// | 413 | [`ContextTooLong`](FailureKind::ContextTooLong) |
    /// | 425, 503, 529 | [`Overloaded`](FailureKind::Overloaded) |
    /// | 429 | [`RateLimited`](FailureKind::RateLimited) |
    /// | other 4xx | [`InvalidRequest`](FailureKind::InvalidRequest) |
    /// | 5xx | [`ServerError`](FailureKind::ServerError) |
    /// | anything else | [`Protocol`](FailureKind::Protocol) |
    ///
    /// `retry-after-ms` is preferred to `retry-after`, which may be seconds or an HTTP-date; a date is read against
    /// `now`; a fraction is rounded up. A hint that cannot be read is no hint.
    ///
    /// ```
    /// use fallway::backend::{BackendError, FailureKind};
    /// use std::time::{Duration, SystemTime};
    /// let header = |name: &str| (name == "retry-after").then_some("2");
    /// let error = BackendError::from_http(429, header, "", SystemTime::now());
    /// assert_eq!(error.kind(), FailureKind::RateLimited);
    /// assert_eq!(error.retry_hint(), Some(Duration::from_secs(2)));
    /// ```
    pub fn from_http<'h>(status: u16, header: impl Fn(&str) -> Option<&'h str>, detail: &str, now: SystemTime) -> Self {
        // A coarse type says less than the status: "invalid_request_error" accompanies 401 as well.
        let detail = by_detail(detail).filter(|_| status >= 400 && (status == 400 || !is_coarse(detail)));
        let kind = detail.unwrap_or_else(|| by_status(status));
        let hint = header("retry-after-ms")
            .and_then(retry_after_ms)
            .or_else(|| header("retry-after").and_then(|value| retry_after(value, now)));
        match hint {
            Some(after) => Self::new(kind).retry_after(after),
            None => Self::new(kind),
        }
    }

    /// Classifies an error event inside a stream that began as a success: the same rules, with the status and code
    /// that the event carries. Without either it is a [`FailureKind::Protocol`] failure.
    pub fn from_stream_event(status: Option<u16>, detail: &str) -> Self {
        let kind = by_detail(detail)
            .or_else(|| status.filter(|status| *status >= 400).map(by_status))
            .unwrap_or(FailureKind::Protocol);
        Self::new(kind)
    }
}

const fn by_status(status: u16) -> FailureKind {
    match status {
        401 | 403 => FailureKind::Unauthorized,
        402 => FailureKind::QuotaExhausted,
        404 | 410 => FailureKind::ModelUnavailable,
        408 | 504 => FailureKind::Timeout,
        413 => FailureKind::ContextTooLong,
        425 | 503 | 529 => FailureKind::Overloaded,
        429 => FailureKind::RateLimited,
        400..=499 => FailureKind::InvalidRequest,
        500..=599 => FailureKind::ServerError,
        _ => FailureKind::Protocol,
    }
}

/// Codes that the large providers document in `error.code` or `error.type`.
fn by_detail(detail: &str) -> Option<FailureKind> {
    Some(match detail {
        "context_length_exceeded" | "request_too_large" | "string_above_max_length" => FailureKind::ContextTooLong,
        "content_policy_violation" | "content_filter" | "ResponsibleAIPolicyViolation" => FailureKind::ContentRejected,
        "insufficient_quota" | "billing_error" | "billing_hard_limit_reached" => FailureKind::QuotaExhausted,
        "rate_limit_exceeded" | "rate_limit_error" => FailureKind::RateLimited,
        "overloaded_error" | "server_overloaded" => FailureKind::Overloaded,
        "model_not_found" | "DeploymentNotFound" => FailureKind::ModelUnavailable,
        "invalid_api_key" | "authentication_error" | "permission_error" => FailureKind::Unauthorized,
        "api_error" | "server_error" => FailureKind::ServerError,
        "invalid_request_error" => FailureKind::InvalidRequest,
        _ => return None,
    })
}

/// Types that providers use for a whole family of errors; they refine 400 and events inside streams only.
fn is_coarse(detail: &str) -> bool {
    matches!(detail, "api_error" | "server_error" | "invalid_request_error")
}

/// A wait as so many of a unit: a fraction is rounded up, and more than a u64 holds is a very long wait, not garbage.
fn wait(value: &str, unit: fn(u64) -> Duration) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(unit(value.parse().unwrap_or(u64::MAX)));
    }
    let number: f64 = value.parse().ok()?;
    (number.is_finite() && number >= 0.0).then(|| unit(number.ceil() as u64))
}

/// What OpenAI and Azure send beside `retry-after`.
pub(crate) fn retry_after_ms(value: &str) -> Option<Duration> {
    wait(value.trim(), Duration::from_millis)
}

/// RFC 9110 §10.2.3: `delay-seconds` or an HTTP-date. A date in the past means now, and what is neither is no hint.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = wait(value, Duration::from_secs) {
        return Some(seconds);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::quota::QuotaReport;

    fn hint(value: &'static str) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        BackendError::from_http(429, |name| (name == "retry-after").then_some(value), "", now).retry_hint()
    }

    #[test]
    fn retry_after_in_every_form() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(hint("7"), seconds(7));
        assert_eq!(hint(" 7 "), seconds(7));
        assert_eq!(hint("0"), seconds(1));
        assert_eq!(hint("1.2"), seconds(2));
        assert_eq!(hint("86400"), seconds(300));
        assert_eq!(hint("99999999999999999999999"), seconds(300));
        assert_eq!(hint("1e400"), None);
        assert_eq!(hint("Sun, 06 Nov 1994 08:50:37 GMT"), seconds(60));
        assert_eq!(hint("Sun, 06 Nov 1994 08:00:00 GMT"), seconds(1));
        for garbage in ["", "-1", "NaN", "soon", "-inf", "inf", "0x10", "Sun, 99 Nov 1994 08:00:00 GMT"] {
            assert_eq!(hint(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn milliseconds_win_over_seconds() {
        let header = |name: &str| match name {
            "retry-after-ms" => Some("2500"),
            "retry-after" => Some("9"),
            _ => None,
        };
        let error = BackendError::from_http(503, header, "", SystemTime::UNIX_EPOCH);
        assert_eq!(error.kind(), FailureKind::Overloaded);
        assert_eq!(error.retry_hint(), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn errors_and_quotas_read_milliseconds_alike() {
        let millis = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("1500", millis(1_500)),
            (" 1500.0 ", millis(1_500)),
            ("1500.5", millis(1_501)),
            ("1e3", millis(1_000)),
            ("99999999999999999999999", millis(300_000)),
            ("1e300", millis(300_000)),
            ("", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
        ] {
            let header = |name: &str| (name == "retry-after-ms").then_some(text);
            let now = SystemTime::UNIX_EPOCH;
            assert_eq!(BackendError::from_http(429, header, "", now).retry_hint(), expected, "{text:?}");
            let report = QuotaReport::from_headers(header, now);
            let clamped = report.retry_after.map(|after| after.min(BackendError::MAX_RETRY_AFTER));
            assert_eq!((clamped, report.unreadable), (expected, u32::from(expected.is_none())), "{text:?}");
        }
    }

    #[test]
    fn every_status_has_a_kind_and_details_refine_it() {
        let kind = |status, detail| BackendError::from_http(status, |_| None, detail, SystemTime::UNIX_EPOCH).kind();
        for status in 0..=u16::MAX {
            kind(status, "");
        }
        assert_eq!(kind(400, ""), FailureKind::InvalidRequest);
        assert_eq!(kind(400, "context_length_exceeded"), FailureKind::ContextTooLong);
        assert_eq!(kind(429, "insufficient_quota"), FailureKind::QuotaExhausted);
        assert_eq!(kind(503, "server_error"), FailureKind::Overloaded);
        assert_eq!(kind(401, "invalid_request_error"), FailureKind::Unauthorized);
        assert_eq!(kind(400, "server_error"), FailureKind::ServerError);
        assert_eq!(kind(529, ""), FailureKind::Overloaded);
        assert_eq!(kind(302, "server_error"), FailureKind::Protocol);
        assert_eq!(BackendError::from_stream_event(None, "?").kind(), FailureKind::Protocol);
        assert_eq!(BackendError::from_stream_event(Some(503), "").kind(), FailureKind::Overloaded);
    }
}
