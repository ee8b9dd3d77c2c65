//! Percentiles.

use std::time::Duration;

/// The smallest value that at least the share `q` of the values does not exceed (nearest rank); `None` without values.
pub fn percentile(values: impl IntoIterator<Item = Duration>, q: f64) -> Option<Duration> {
    let mut sorted: Vec<Duration> = values.into_iter().collect();
    sorted.sort_unstable();
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The 50th percentile.
pub fn median(values: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    percentile(values, 0.5)
}

/// Milliseconds as a number; NaN, which passes no bound, for a value that was not measured.
pub fn ms(value: Option<Duration>) -> f64 {
    value.map_or(f64::NAN, |value| value.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values = || (1..=200).rev().map(Duration::from_millis);
        assert_eq!(percentile(values(), 0.99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(values(), 1.0), Some(Duration::from_millis(200)));
        assert_eq!(percentile(values(), 0.0), Some(Duration::from_millis(1)));
        assert_eq!(median(values()), Some(Duration::from_millis(100)));
        assert_eq!(median([]), None);
        assert!(ms(None).is_nan());
    }
}
