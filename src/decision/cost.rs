//! What attempts cost, as far as that is known.

use std::fmt;
use std::iter::Sum;

/// What an attempt cost, in pico-dollars (10⁻¹² USD).
///
/// What nobody knows is never 0: an attempt that was given up may be billed in full, and a backend without a price charges
/// something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "code", content = "pico_usd", rename_all = "snake_case"))]
pub enum Cost {
    /// Nothing: it was refused before there was anything to bill.
    Nothing,
    /// So much: by the [usage](crate::backend::Attempt::used) that its backend told when the answer was complete.
    Known(u64),
    /// Somewhere from nothing to this: it failed, was given up, or nobody told its usage. The most is what the whole
    /// prompt costs and the [longest answer](crate::Facts::max_output_tokens); where that is not given, the answer that
    /// was expected.
    Possible(u64),
    /// Nobody knows: its backend has no [price](crate::Profile::price).
    Unknown,
}

impl Cost {
    /// The most that it is, in pico-dollars; `None` where nobody knows.
    pub const fn most(self) -> Option<u64> {
        match self {
            Self::Nothing => Some(0),
            Self::Known(pico) | Self::Possible(pico) => Some(pico),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Known(pico) => write!(f, "{}", Usd(*pico)),
            Self::Possible(pico) => write!(f, "up to {}", Usd(*pico)),
            Self::Unknown => f.write_str("of unknown cost"),
        }
    }
}

/// What several attempts cost together: the sum of their [`Cost`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Bill {
    /// What is known to have been billed, in pico-dollars; saturates.
    pub known: u64,
    /// What may have been billed beside that, in pico-dollars: at most this; saturates.
    pub possible: u64,
    /// Attempts of which nobody knows what they cost.
    pub unknown: u32,
}

impl Bill {
    /// The most that was billed, in pico-dollars; `None` where nobody knows.
    pub const fn most(self) -> Option<u64> {
        if self.unknown == 0 { Some(self.known.saturating_add(self.possible)) } else { None }
    }
}

impl Sum<Cost> for Bill {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Self {
        costs.fold(Self::default(), |mut bill, cost| {
            match cost {
                Cost::Nothing => {}
                Cost::Known(pico) => bill.known = bill.known.saturating_add(pico),
                Cost::Possible(pico) => bill.possible = bill.possible.saturating_add(pico),
                Cost::Unknown => bill.unknown += 1,
            }
            bill
        })
    }
}

impl fmt::Display for Bill {
    /// `$0.000300, and up to $0.0100 more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { known: 0, possible: 0, unknown: 0 } => f.write_str("nothing")?,
            Self { known: 0, possible: 0, .. } => {}
            Self { known, possible: 0, .. } => write!(f, "{}", Usd(known))?,
            Self { known: 0, possible, .. } => write!(f, "up to {}", Usd(possible))?,
            Self { known, possible, .. } => write!(f, "{}, and up to {} more", Usd(known), Usd(possible))?,
        }
        if self.unknown == 0 {
            return Ok(());
        }
        let and = if self.known == 0 && self.possible == 0 { "" } else { ", and " };
        match self.unknown {
            1 => write!(f, "{and}1 attempt of unknown cost"),
            more => write!(f, "{and}{more} attempts of unknown cost"),
        }
    }
}

/// The tokens of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Tokens {
    /// Of the prompt, those from a cache included.
    pub input: u64,
    /// Of the prompt, those that the backend had in its cache.
    pub cached: u64,
    /// Of the answer.
    pub output: u64,
    /// Whether the backend [told](crate::backend::Attempt::used) them. Else they are those of the facts, and the
    /// [content](crate::backend::StreamItem::content) of the stream as far as it came.
    pub told: bool,
}

/// Pico-dollars as people write them: to the cent, and what is less than a dollar to three digits that say something.
pub(super) struct Usd(pub(super) u64);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(magnitude) = self.0.checked_ilog10() else { return f.write_str("$0") };
        let digits = (14u32.saturating_sub(magnitude)).clamp(2, 12) as usize;
        let text = format!("{:.digits$}", self.0 as f64 / 1e12);
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "${whole}.{}", &fraction[..kept])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_apart_what_is_known_what_may_be_and_what_nobody_knows() {
        let costs = [Cost::Nothing, Cost::Known(3), Cost::Possible(5), Cost::Unknown, Cost::Known(4)];
        let bill: Bill = costs.into_iter().sum();
        assert_eq!(bill, Bill { known: 7, possible: 5, unknown: 1 });
        assert_eq!((bill.most(), Bill { unknown: 0, ..bill }.most()), (None, Some(12)));
        let huge: Bill = [Cost::Known(u64::MAX), Cost::Known(1), Cost::Possible(1)].into_iter().sum();
        assert_eq!(huge.most(), Some(u64::MAX));
    }

    #[test]
    fn sums_read_as_people_write_them() {
        let text = |known, possible, unknown| Bill { known, possible, unknown }.to_string();
        assert_eq!(text(0, 0, 0), "nothing");
        assert_eq!(text(0, 0, 2), "2 attempts of unknown cost");
        assert_eq!(text(2_500_000_000_000, 0, 0), "$2.50");
        assert_eq!(text(0, 12_340_000_000, 1), "up to $0.0123, and 1 attempt of unknown cost");
        assert_eq!(text(123_000_000, 20_000_000_000, 0), "$0.000123, and up to $0.02 more");
        for (pico, text) in [(1, "$0.000000000001"), (1_080_000_000, "$0.00108"), (999_999_999_999, "$1.00")] {
            assert_eq!(Usd(pico).to_string(), text);
        }
        assert_eq!(Usd(u64::MAX).to_string(), "$18446744.07");
    }
}
