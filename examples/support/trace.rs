//! Reads the Azure LLM inference trace format: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! The parser is strict on purpose. A replay that skips a row it cannot read would still print a table, and the table
//! would be about another workload; so the first bad row ends the parse with its line number and a named reason.

use std::fmt;
use std::time::Duration;

/// The header that the recorded files carry; anything else is another format.
pub(crate) const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Time since the first row; never less than the row before.
    pub(crate) at: Duration,
    /// Tokens of the prompt, at least 1.
    pub(crate) prompt_tokens: u32,
    /// Tokens of the answer, at least 1.
    pub(crate) output_tokens: u32,
}

/// The first row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceError {
    /// Line in the file, the header being line 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) reason: Reason,
}

/// Why a line was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The file holds nothing, or a header and nothing else.
    NoRows,
    /// The first line is not [`HEADER`].
    Header {
        /// The line as found.
        found: String,
    },
    /// Not three columns.
    ColumnCount {
        /// How many there are.
        found: usize,
    },
    /// Not `YYYY-MM-DD HH:MM:SS[.fffffff]`, or no such date.
    Timestamp {
        /// The field as found.
        found: String,
    },
    /// A token count that is no whole number, or too large for one.
    Number {
        /// Name of the column.
        column: &'static str,
        /// The field as found.
        found: String,
    },
    /// A token count below zero.
    Negative {
        /// Name of the column.
        column: &'static str,
        /// The field as found.
        found: String,
    },
    /// A token count of zero: no such request was ever served.
    ZeroTokens {
        /// Name of the column.
        column: &'static str,
    },
    /// Earlier than the row before it; arrivals are replayed in order.
    TimeGoesBack,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRows => write!(f, "no rows"),
            Self::Header { found } => write!(f, "bad header: expected {HEADER:?}, found {found:?}"),
            Self::ColumnCount { found } => write!(f, "bad column count: expected 3, found {found}"),
            Self::Timestamp { found } => {
                write!(f, "bad timestamp: expected YYYY-MM-DD HH:MM:SS.fffffff, found {found:?}")
            }
            Self::Number { column, found } => {
                write!(f, "bad number: {column} is {found:?}, no token count")
            }
            Self::Negative { column, found } => {
                write!(f, "negative number: {column} is {found}")
            }
            Self::ZeroTokens { column } => write!(f, "zero tokens: {column} is 0"),
            Self::TimeGoesBack => write!(f, "time goes backwards: TIMESTAMP is earlier than in the row before"),
        }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for TraceError {}

/// Parses a whole file. Times become relative to the first row.
///
/// # Errors
/// The first line that cannot be read, see [`Reason`].
pub(crate) fn parse(text: &str) -> Result<Vec<Row>, TraceError> {
    let at_line = |line: usize| move |reason| TraceError { line, reason };
    let mut lines = text.lines();
    match lines.next() {
        None => return Err(at_line(1)(Reason::NoRows)),
        Some(HEADER) => {}
        Some(other) => {
            return Err(at_line(1)(Reason::Header { found: other.chars().take(80).collect() }));
        }
    }

    let mut rows = Vec::new();
    let mut first_tick = 0;
    let mut last_tick = 0;
    for (index, line) in lines.enumerate() {
        let refuse = at_line(index + 2); // the header is line 1
        let (tick, prompt_tokens, output_tokens) = fields(line).map_err(refuse)?;
        if rows.is_empty() {
            first_tick = tick;
        } else if tick < last_tick {
            return Err(refuse(Reason::TimeGoesBack));
        }
        last_tick = tick;
        rows.push(Row { at: since(first_tick, tick), prompt_tokens, output_tokens });
    }
    if rows.is_empty() {
        return Err(at_line(2)(Reason::NoRows));
    }
    Ok(rows)
}

/// The recording's resolution: 100 ns.
const TICKS_PER_SECOND: u64 = 10_000_000;

/// The time between two ticks; in two parts, because nanoseconds in a `u64` end after 584 years.
fn since(earlier: u64, later: u64) -> Duration {
    let ticks = later - earlier;
    Duration::from_secs(ticks / TICKS_PER_SECOND) + Duration::from_nanos(ticks % TICKS_PER_SECOND * 100)
}

/// Splits one line into ticks since the year 1970 and the two token counts.
fn fields(line: &str) -> Result<(u64, u32, u32), Reason> {
    let mut columns = line.split(',');
    let (Some(time), Some(prompt), Some(output), None) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err(Reason::ColumnCount { found: line.split(',').count() });
    };
    let tick = ticks(time).ok_or_else(|| Reason::Timestamp { found: time.into() })?;
    Ok((tick, tokens(COLUMNS[1], prompt)?, tokens(COLUMNS[2], output)?))
}

/// A token count: a whole number from 1 to `u32::MAX`.
fn tokens(column: &'static str, field: &str) -> Result<u32, Reason> {
    if field.starts_with('-') && field.parse::<f64>().is_ok() {
        let found = field.into();
        return Err(Reason::Negative { column, found });
    }
    match digits(field).and_then(|count| u32::try_from(count).ok()) {
        Some(0) => Err(Reason::ZeroTokens { column }),
        Some(count) => Ok(count),
        None => Err(Reason::Number { column, found: field.into() }),
    }
}

/// `2023-11-16 18:15:46.6805900` as ticks since 1970, or nothing when it is no such time.
fn ticks(field: &str) -> Option<u64> {
    let (date, time) = field.split_once(' ')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = triple(date, '-')?;
    let [hour, minute, second] = triple(clock, ':')?;
    if fraction.len() > 7 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Seven digits are full resolution; fewer are padded, ".5" being half a second.
    let missing = u32::try_from(7 - fraction.len()).ok()?;
    let fraction = digits(fraction)? * 10_u64.pow(missing);
    let days = days_since_1970(year, month, day)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * TICKS_PER_SECOND + fraction)
}

/// Three unsigned numbers between two separators.
fn triple(field: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = field.split(separator);
    let numbers = [digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?];
    parts.next().is_none().then_some(numbers)
}

/// `str::parse` would also take a leading `+`; a recording never has one.
fn digits(field: &str) -> Option<u64> {
    let all_digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| field.parse().ok())?
}

/// Days of the proleptic Gregorian calendar, for the years that keep the tick count inside a `u64`.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    let length = *lengths.get(before)?;
    if !(1970..=9999).contains(&year) || day == 0 || day > length {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let this_year: u64 = lengths[..before].iter().sum();
    Some((year - 1970) * 365 + leap_days + this_year + day - 1)
}
