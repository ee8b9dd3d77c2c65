//! A provider's quota: a bucket that fills steadily.

use crate::backend::quota::Quota;
use std::time::Duration;

/// A bucket that holds a minute's worth and is full at first.
#[derive(Debug)]
pub(super) struct Bucket {
    per_nano: f64,
    size: f64,
    level: f64,
    touched: u64,
}

impl Bucket {
    pub(super) fn per_minute(amount: u64) -> Self {
        let size = amount as f64;
        Self { per_nano: size / 60e9, size, level: size, touched: 0 }
    }

    fn level_at(&self, now: u64) -> f64 {
        (self.level + now.saturating_sub(self.touched) as f64 * self.per_nano).min(self.size)
    }

    /// How long until this much is there; `None` when it is. More than the bucket holds waits for a full one.
    pub(super) fn wait(&self, amount: u64, now: u64) -> Option<Duration> {
        let missing = (amount as f64).min(self.size) - self.level_at(now);
        (missing > 0.0).then(|| Duration::from_nanos((missing / self.per_nano).ceil() as u64))
    }

    /// What its provider says of it.
    pub(super) fn says(&self, now: u64) -> Quota {
        let level = self.level_at(now);
        let full_in = Duration::from_nanos(((self.size - level) / self.per_nano).ceil() as u64);
        Quota { limit: Some(self.size as u64), remaining: Some(level as u64), resets_in: Some(full_in) }
    }

    pub(super) fn take(&mut self, amount: u64, now: u64) {
        self.level = (self.level_at(now) - amount as f64).max(0.0);
        self.touched = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_there_is_enough_again() {
        let mut bucket = Bucket::per_minute(60);
        assert_eq!(bucket.wait(60, 0), None);
        bucket.take(60, 0);
        assert_eq!(bucket.wait(2, 0), Some(Duration::from_secs(2)));
        assert_eq!(bucket.wait(2, 2_000_000_000), None);
        let said = Quota { limit: Some(60), remaining: Some(2), resets_in: Some(Duration::from_secs(58)) };
        assert_eq!(bucket.says(2_000_000_000), said);
        // What can never fit waits for all there is.
        assert_eq!(bucket.wait(1_000, 0), Some(Duration::from_secs(60)));
    }
}
