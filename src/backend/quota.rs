//! [`QuotaReport`]: what a provider says of the quota that is left.

use super::{retry_after, retry_after_ms};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One quota: of requests, or of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Quota {
    /// How much there is in a window.
    pub limit: Option<u64>,
    /// How much is left of it.
    pub remaining: Option<u64>,
    /// In how long it is full again.
    pub resets_in: Option<Duration>,
}

/// What the headers of an answer say of quotas. What they do not say is `None`, never zero or full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct QuotaReport {
    /// Requests.
    pub requests: Quota,
    /// Tokens of prompts and answers.
    pub tokens: Quota,
    /// Tokens of prompts.
    pub input_tokens: Quota,
    /// Tokens of answers.
    pub output_tokens: Quota,
    /// How long to wait, as the provider says it; as it is, without the bounds of
    /// [`BackendError::retry_after`](crate::BackendError::retry_after).
    pub retry_after: Option<Duration>,
    /// How many of the headers above were there and could not be read.
    pub unreadable: u32,
}

impl QuotaReport {
    /// No window is longer: what resets later is a mistake, and not believed.
    pub const LONGEST_WINDOW: Duration = Duration::from_secs(31 * 24 * 3600);

    /// Reads the rate-limit headers of an answer, whatever its status. `header` looks one up by its lower-case name.
    ///
    /// Known are `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` (OpenAI, Azure, Groq and many others; also
    /// `input-tokens` and `output-tokens`), `x-ratelimit-{limit,remaining,reset}` as the quota of requests,
    /// `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, `retry-after-ms`
    /// and `retry-after`. A reset is a span (`6m0s`, `1.5s`, `20ms`), a number of seconds, a Unix time in seconds or
    /// milliseconds, an RFC 3339 time or an HTTP-date; times are read against `now`, and one that has passed is zero.
    ///
    /// ```
    /// use fallway::signal::QuotaReport;
    /// use std::time::{Duration, SystemTime};
    /// let header = |name: &str| match name {
    ///     "x-ratelimit-remaining-requests" => Some("59"),
    ///     "x-ratelimit-reset-requests" => Some("6m0s"),
    ///     _ => None,
    /// };
    /// let report = QuotaReport::from_headers(header, SystemTime::now());
    /// assert_eq!(report.requests.remaining, Some(59));
    /// assert_eq!(report.requests.resets_in, Some(Duration::from_secs(360)));
    /// ```
    pub fn from_headers<'h>(header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Self {
        let mut report = Self::default();
        let mut unreadable = 0;
        let kinds = [
            ("requests", &mut report.requests),
            ("tokens", &mut report.tokens),
            ("input-tokens", &mut report.input_tokens),
            ("output-tokens", &mut report.output_tokens),
        ];
        for (kind, quota) in kinds {
            let value = |part: &str| {
                let bare = || (kind == "requests").then(|| header(&format!("x-ratelimit-{part}"))).flatten();
                header(&format!("x-ratelimit-{part}-{kind}"))
                    .or_else(|| header(&format!("anthropic-ratelimit-{kind}-{part}")))
                    .or_else(bare)
            };
            *quota = Quota {
                limit: read(value("limit"), amount, &mut unreadable),
                remaining: read(value("remaining"), amount, &mut unreadable),
                resets_in: read(value("reset"), |text| reset(text, now), &mut unreadable),
            };
        }
        report.retry_after = read(header("retry-after-ms"), retry_after_ms, &mut unreadable)
            .or_else(|| read(header("retry-after"), |text| retry_after(text, now), &mut unreadable));
        report.unreadable = unreadable;
        report
    }
}

/// Longer than any of these values is.
const MOST_BYTES: usize = 64;

fn read<T>(value: Option<&str>, parse: impl Fn(&str) -> Option<T>, unreadable: &mut u32) -> Option<T> {
    let value = value?.trim();
    let read = if value.len() > MOST_BYTES { None } else { parse(value) };
    *unreadable += u32::from(read.is_none());
    read
}

/// A whole number; some providers write it with a fraction.
fn amount(text: &str) -> Option<u64> {
    let number: f64 = text.parse().ok()?;
    (number >= 0.0 && number < (1u64 << 53) as f64).then_some(number as u64)
}

/// In how long a quota is full again.
fn reset(text: &str, now: SystemTime) -> Option<Duration> {
    let resets_in = match text.parse::<f64>() {
        Ok(number) => from_number(number, now)?,
        Err(_) => span(text).or_else(|| {
            let at = rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok())?;
            Some(at.duration_since(now).unwrap_or(Duration::ZERO))
        })?,
    };
    (resets_in <= QuotaReport::LONGEST_WINDOW).then_some(resets_in)
}

/// Seconds; or a Unix time in seconds, or in milliseconds, by its size.
fn from_number(number: f64, now: SystemTime) -> Option<Duration> {
    let unix = match number {
        number if number < 0.0 => return None,
        number if number < 1e9 => return Duration::try_from_secs_f64(number).ok(),
        number if number < 1e11 => number,
        number => number / 1000.0,
    };
    let at = UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(unix).ok()?)?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

/// A span as Go writes it: `1h2m3.5s`, `20ms`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        sum += number
            * match &rest[..letters] {
                "d" => 86_400.0,
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(sum).ok()).flatten()
}

/// `2025-08-21T12:40:59Z`, with a fraction or an offset.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let shape = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if shape.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let field = |from: usize, to: usize, range: std::ops::RangeInclusive<u64>| {
        let digits = &text[from..to];
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?.filter(|it| range.contains(it))
    };
    let (year, month, day) = (field(0, 4, 1970..=9999)?, field(5, 7, 1..=12)?, field(8, 10, 1..=31)?);
    // A leap second is the second after.
    let (hour, minute, second) = (field(11, 13, 0..=23)?, field(14, 16, 0..=59)?, field(17, 19, 0..=60)?);
    let mut rest = &text[19..];
    let mut fraction = 0.0;
    if let Some(digits) = rest.strip_prefix('.') {
        let end = digits.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        fraction = format!("0.{}", &digits[..end]).parse().ok()?;
        rest = &digits[end..];
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = match rest.as_bytes() {
        [b'Z' | b'z'] => seconds,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let offset = field(at, at + 2, 0..=23)? * 3600 + field(at + 3, at + 5, 0..=59)? * 60;
            if *sign == b'+' { seconds.checked_sub(offset)? } else { seconds + offset }
        }
        _ => return None,
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_secs_f64(fraction))
}

/// After Hinnant, [chrono-Compatible Low-Level Date Algorithms](https://howardhinnant.github.io/date_algorithms.html).
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_755_780_000) // 2025-08-21T12:40:00Z
    }

    #[test]
    fn resets_in_every_form() {
        let millis = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("6m0s", millis(360_000)),
            ("1s", millis(1_000)),
            ("20ms", millis(20)),
            ("1h2m3.5s", millis(3_723_500)),
            ("2m59.56s", millis(179_560)),
            ("7", millis(7_000)),
            ("0.25", millis(250)),
            ("0", millis(0)),
            ("1755780059", millis(59_000)),
            ("1755780059000", millis(59_000)),
            ("1755779999", millis(0)),
            ("2025-08-21T12:40:59Z", millis(59_000)),
            ("2025-08-21T12:40:59.500Z", millis(59_500)),
            ("2025-08-21T14:40:59+02:00", millis(59_000)),
            ("2025-08-21T08:10:59-04:30", millis(59_000)),
            ("2025-08-21T12:00:00Z", millis(0)),
            ("Thu, 21 Aug 2025 12:40:59 GMT", millis(59_000)),
            ("", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("soon", None),
            ("1x", None),
            ("s", None),
            ("1s2", None),
            ("..s", None),
            ("99999h", None),
            ("2025-13-21T12:40:59Z", None),
            ("2025-08-21T12:40:59", None),
            ("2025-08-21T12:40:59.Z", None),
            ("2025-08-21T12:40:59+2:00", None),
            ("2025-08-21T12:40:5éZ", None),
            ("2125-08-21T12:40:59Z", None),
        ] {
            assert_eq!(reset(text, now()), expected, "{text:?}");
        }
    }

    #[test]
    fn days_are_counted_as_in_the_calendar() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(1970, 3, 1), 59);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(2025, 8, 21), 20_321);
    }
}
