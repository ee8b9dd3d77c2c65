//! [`TimeoutFormat`]: time that is left, as it travels between services.

use std::time::Duration;

/// How a header says how much time is left. Durations travel, never moments: clocks of two machines differ.
///
/// In, it is the deadline of the request here; out, of its part there, which is never more than is left:
///
/// ```
/// use fallway::CallOptions;
/// use fallway::budget::TimeoutFormat;
/// use std::time::Duration;
///
/// // What the caller's header says is the deadline of this request.
/// let total = TimeoutFormat::Grpc.parse("1500m")?;
/// let options = CallOptions::within(total);
///
/// // A backend passes on what is left of it: `attempt.time_left()`.
/// let left = Duration::from_micros(1_234_567);
/// assert_eq!(TimeoutFormat::Grpc.format(left), "1234567u");
/// assert_eq!(TimeoutFormat::Millis.format(left), "1234");
/// # Ok::<(), fallway::budget::InvalidTimeout>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TimeoutFormat {
    /// Whole milliseconds, as in `x-envoy-expected-rq-timeout-ms`.
    Millis,
    /// `grpc-timeout`: at most eight digits and a unit, which is `H`, `M`, `S`, `m`, `u` or `n` (hours to nanoseconds; the
    /// [gRPC protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)).
    Grpc,
}

/// What is no timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTimeout {
    /// Nothing is there.
    #[error("a timeout that is empty")]
    Empty,
    /// Something else than digits: a sign, a point, white space.
    #[error("a timeout that is no whole number")]
    NotANumber,
    /// No unit, or one that does not exist.
    #[error("a timeout without a unit that is known")]
    Unit,
    /// More digits than the format has.
    #[error("a timeout with more than {} digits", .most)]
    TooLong {
        /// How many it has.
        most: usize,
    },
}

/// Units of gRPC from the finest, in nanoseconds.
const UNITS: [(char, u64); 6] =
    [('n', 1), ('u', 1_000), ('m', 1_000_000), ('S', 1_000_000_000), ('M', 60_000_000_000), ('H', 3_600_000_000_000)];

/// Digits of the largest number of gRPC, and of one of milliseconds: three hundred centuries.
const GRPC_DIGITS: usize = 8;
const MILLIS_DIGITS: usize = 15;

impl TimeoutFormat {
    /// The time that a header's value says. Zero is a time, and one with which a request is refused at once.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeout`] for everything that the format does not have: also signs, fractions and white space.
    pub fn parse(self, text: &str) -> Result<Duration, InvalidTimeout> {
        match self {
            Self::Millis => digits(text, MILLIS_DIGITS).map(Duration::from_millis),
            Self::Grpc => {
                let unit = text.chars().next_back().ok_or(InvalidTimeout::Empty)?;
                let (_, nanos) = UNITS.iter().find(|(known, _)| *known == unit).ok_or(InvalidTimeout::Unit)?;
                let number = digits(&text[..text.len() - 1], GRPC_DIGITS)?;
                Ok(Duration::from_nanos(*nanos).saturating_mul(number as u32))
            }
        }
    }

    /// What is left, for a header: rounded down, so that nobody below has more time than this request.
    pub fn format(self, left: Duration) -> String {
        let most = |digits: usize| 10u128.pow(digits as u32) - 1;
        match self {
            Self::Millis => left.as_millis().min(most(MILLIS_DIGITS)).to_string(),
            Self::Grpc => {
                let nanos = left.as_nanos();
                let fits = |(_, unit): &&(char, u64)| nanos / u128::from(*unit) <= most(GRPC_DIGITS);
                let (unit, size) = UNITS.iter().find(fits).unwrap_or(&UNITS[UNITS.len() - 1]);
                format!("{}{unit}", (nanos / u128::from(*size)).min(most(GRPC_DIGITS)))
            }
        }
    }
}

fn digits(text: &str, most: usize) -> Result<u64, InvalidTimeout> {
    if text.is_empty() {
        return Err(InvalidTimeout::Empty);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidTimeout::NotANumber);
    }
    if text.len() > most {
        return Err(InvalidTimeout::TooLong { most });
    }
    text.parse().map_err(|_| InvalidTimeout::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;
    use InvalidTimeout::{Empty, NotANumber, TooLong, Unit};
    use TimeoutFormat::{Grpc, Millis};

    #[test]
    fn what_is_said_is_understood() {
        for (format, text, nanos) in [
            (Millis, "0", 0),
            (Millis, "1500", 1_500_000_000),
            (Millis, "007", 7_000_000),
            (Grpc, "0n", 0),
            (Grpc, "1S", 1_000_000_000),
            (Grpc, "99999999n", 99_999_999),
            (Grpc, "250m", 250_000_000),
            (Grpc, "7u", 7_000),
            (Grpc, "2M", 120_000_000_000),
            (Grpc, "1H", 3_600_000_000_000),
        ] {
            assert_eq!(format.parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(Grpc.parse("99999999H"), Ok(Duration::from_secs(99_999_999 * 3_600)));
    }

    #[test]
    fn what_is_no_timeout_is_named() {
        for (format, text, error) in [
            (Millis, "", Empty),
            (Millis, "+5", NotANumber),
            (Millis, "-5", NotANumber),
            (Millis, "1.5", NotANumber),
            (Millis, " 5", NotANumber),
            (Millis, "5ms", NotANumber),
            (Millis, "NaN", NotANumber),
            (Millis, "\u{0665}", NotANumber),
            (Millis, "1000000000000000", TooLong { most: 15 }),
            (Grpc, "", Empty),
            (Grpc, "S", Empty),
            (Grpc, "5", Unit),
            (Grpc, "5s", Unit),
            (Grpc, "5\u{00b5}", Unit),
            (Grpc, "-5S", NotANumber),
            (Grpc, "1 S", NotANumber),
            (Grpc, "123456789S", TooLong { most: 8 }),
        ] {
            assert_eq!(format.parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn nobody_below_has_more_time() {
        let mut nanos = 1u64;
        while nanos < u64::MAX / 3 {
            let left = Duration::from_nanos(nanos);
            for format in [Millis, Grpc] {
                let told = format.parse(&format.format(left)).unwrap();
                assert!(told <= left, "{format:?}: {told:?} of {left:?}");
                // To a millisecond, or five digits: beyond 99,999,999 ms come seconds.
                assert!(
                    left - told <= Duration::from_millis(1).max(left / 100_000),
                    "{format:?}: {told:?} of {left:?}"
                );
            }
            nanos = nanos * 3 + 1;
        }
        assert_eq!(Grpc.format(Duration::ZERO), "0n");
        assert_eq!(Grpc.format(Duration::from_secs(60)), "60000000u");
        assert_eq!(Grpc.format(Duration::MAX), "99999999H");
        assert_eq!(Millis.format(Duration::MAX), "999999999999999");
    }
}
