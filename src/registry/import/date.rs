//! Dates as lists write them.

/// The first moment of the day `YYYY-MM-DD`, in milliseconds since 1970; none for what is no such day.
pub(super) fn millis_of(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str, many: usize| text.len() == many && text.bytes().all(|byte| byte.is_ascii_digit());
    if parts.next().is_some() || !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    let (year, month, day): (u64, u64, u64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > length {
        return None;
    }
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let months: u64 = lengths[..month as usize - 1].iter().sum();
    Some((years + months + day - 1) * 86_400_000)
}

#[cfg(test)]
mod tests {
    use super::millis_of;

    #[test]
    fn days_are_counted_and_nonsense_is_not() {
        assert_eq!(millis_of("1970-01-01"), Some(0));
        assert_eq!(millis_of("2000-02-29"), Some(951_782_400_000));
        assert_eq!(millis_of("2026-09-30"), Some(1_790_726_400_000));
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "1969-12-31",
            "2026-1-01",
            "2026-01-011",
            "x",
            "2026-01-01-01",
            "+026-01-01",
        ] {
            assert_eq!(millis_of(wrong), None, "{wrong}");
        }
    }
}
