//! Exact conversion of decimal text.

/// Why a number is none that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unusable {
    Negative,
    TooLarge,
}

/// `text`, a JSON number, times 10^`power`, to the nearest integer, a half upwards.
///
/// Digits are moved and not multiplied: 1.5e-07 USD is 150,000 pico-dollars, and not 149,999.99.
pub(super) fn scaled(text: &str, power: i64) -> Result<u64, Unusable> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if mantissa.bytes().all(|digit| matches!(digit, b'0' | b'.')) {
        return Ok(0);
    }
    if negative {
        return Err(Unusable::Negative);
    }
    // An exponent beyond eighteen digits moves everything out of sight, whichever way.
    let exponent: i64 = match exponent.strip_prefix('+').unwrap_or(exponent).parse() {
        Ok(exponent) => exponent,
        Err(_) if exponent.starts_with('-') => return Ok(0),
        Err(_) => return Err(Unusable::TooLarge),
    };
    // How many digits stand before the point once it has moved.
    let point = (whole.len() as i64).saturating_add(exponent).saturating_add(power);
    let digits = || whole.bytes().chain(fraction.bytes()).map(|digit| u64::from(digit - b'0'));
    let mut value: u64 = 0;
    let mut position = 0;
    for digit in digits() {
        if position >= point {
            break;
        }
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(Unusable::TooLarge)?;
        position += 1;
    }
    if point >= 0 && position == point {
        let next = digits().nth(position as usize).unwrap_or(0);
        return if next >= 5 { value.checked_add(1).ok_or(Unusable::TooLarge) } else { Ok(value) };
    }
    if point < 0 {
        return Ok(0);
    }
    // The zeros that the text leaves out. More than twenty overflow anyhow.
    for _ in position..point.min(position.saturating_add(20)) {
        value = value.checked_mul(10).ok_or(Unusable::TooLarge)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_convert_exactly() {
        for (text, power, value) in [
            ("1.5e-07", 12, 150_000),
            ("3e-06", 12, 3_000_000),
            ("0.0000025", 12, 2_500_000),
            ("2.5", 6, 2_500_000),
            ("0.07", 6, 70_000),
            ("1.1e-7", 12, 110_000),
            ("6.25E-7", 12, 625_000),
            ("128000", 0, 128_000),
            ("256000.0", 0, 256_000),
            ("0", 12, 0),
            ("-0.0e9", 12, 0),
            ("0.5", 0, 1),
            ("0.49999999999999999999999", 0, 0),
            ("0.05", 0, 0),
            ("18446744073709551615", 0, u64::MAX),
            ("1e-99999999999999999999", 12, 0),
            ("1e+3", 0, 1_000),
        ] {
            assert_eq!(scaled(text, power), Ok(value), "{text} × 10^{power}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in ["-1", "-1e-99", "-0.5e99999999999999999999"] {
            assert_eq!(scaled(text, 12), Err(Unusable::Negative), "{text}");
        }
        for text in
            ["18446744073709551616", "1e300", "1e99999999999999999999", "9223372036854775807e9223372036854775807"]
        {
            assert_eq!(scaled(text, 12), Err(Unusable::TooLarge), "{text}");
        }
        assert_eq!(scaled("18446744073709551615.5", 0), Err(Unusable::TooLarge));
    }
}
