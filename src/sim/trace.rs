//! [`Trace`]: requests that were recorded.

use super::job::Request;
use super::workload::Lengths;
use crate::rng::Rng;
use std::sync::Arc;
use std::time::Duration;

/// Recorded requests: when they came, how long they were, and how their prompts began where that is recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    at: Duration,
    prompt: u32,
    output: u32,
    /// The whole blocks of the prompt.
    blocks: Option<Arc<[u64]>>,
}

/// A row of a trace that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl Trace {
    /// Reads a trace in the form of the Azure LLM traces: a header, then lines of time, prompt tokens and output
    /// tokens, separated by commas, the time being `YYYY-MM-DD HH:MM:SS.fraction` or seconds; or in the form of the
    /// Mooncake traces: a JSON object for each line with `timestamp` (milliseconds), `input_length` and
    /// `output_length`. The first request is at 0.
    ///
    /// Mooncake's `hash_ids` say how prompts begin: equal numbers are equal blocks of [`Request::BLOCK`] tokens. In the
    /// other form they are a fourth column, as numbers and ranges: `0 14-27`.
    ///
    /// # Errors
    ///
    /// The first line that makes no sense: no number, negative, not in order, the wrong columns, or no request at all.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut rows: Vec<Row> = Vec::new();
        let (mut first, mut columns) = (None, None);
        for (line, row) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
            let error = |reason: String| TraceError { line, reason };
            if row.trim().is_empty() {
                continue;
            }
            if line == 1 && is_header(row) {
                columns = Some(check_header(row).map_err(error)?);
                continue;
            }
            let object = row.trim_start().starts_with('{');
            let cells: Vec<_> = if object {
                ["timestamp", "input_length", "output_length"].iter().filter_map(|name| field(row, name)).collect()
            } else {
                row.split(',').map(str::trim).collect()
            };
            let expected = *columns.get_or_insert(if cells.len() == 4 { 4 } else { 3 });
            let (time, prompt, output, blocks) = match cells[..] {
                [time, prompt, output] if expected == 3 => {
                    (time, prompt, output, if object { list(row, "hash_ids") } else { None })
                }
                [time, prompt, output, blocks] if expected == 4 => (time, prompt, output, Some(blocks)),
                _ => return Err(error(format!("{} values where there should be {expected}", cells.len()))),
            };
            let seconds = seconds(time).ok_or_else(|| error(format!("{time:?} is no time")))?;
            let seconds = if object { seconds / 1e3 } else { seconds };
            let start = *first.get_or_insert(seconds);
            if seconds < start {
                return Err(error(format!("the time {time} is before the first")));
            }
            let at = Duration::try_from_secs_f64(seconds - start)
                .map_err(|_| error(format!("the time {time} is too far from the first")))?;
            let tokens =
                |text: &str| text.parse::<u32>().map_err(|_| error(format!("{text:?} is no number of tokens")));
            let (prompt, output) = (tokens(prompt)?, tokens(output)?);
            if rows.last().is_some_and(|before| at < before.at) {
                return Err(error(format!("the time {time} is before that of the line above")));
            }
            let whole = (prompt / Request::BLOCK) as usize;
            let blocks = blocks.map(|blocks| {
                numbers(blocks, whole).ok_or_else(|| error(format!("{blocks:?} are no numbers of blocks")))
            });
            rows.push(Row { at, prompt: prompt.max(1), output: output.max(1), blocks: blocks.transpose()? });
        }
        if rows.is_empty() {
            return Err(TraceError { line: 1, reason: "there is no request".into() });
        }
        Ok(Self { rows })
    }

    /// How many requests.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Their lengths, whenever they come.
    pub fn lengths(&self) -> Lengths {
        let pairs = self.rows.iter().map(|row| (row.prompt, row.output));
        Lengths::of(pairs).unwrap_or_default()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        let last = self.rows.last().map_or(0.0, |row| row.at.as_secs_f64());
        if last > 0.0 { self.rows.len() as f64 / last } else { self.rows.len() as f64 }
    }

    /// Requests that were recorded at one moment, spread evenly at random over the time until the next: what a recorder
    /// that counts in seconds has put together.
    #[must_use]
    pub fn spread(mut self, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mean = Duration::from_secs_f64(1.0 / self.rate());
        let mut rest = &mut self.rows[..];
        while let Some(first) = rest.first().map(|row| row.at) {
            let count = rest.iter().take_while(|row| row.at == first).count();
            let until = rest.get(count).map_or(first + mean.saturating_mul(count as u32), |row| row.at);
            let (batch, others) = rest.split_at_mut(count);
            let mut moments: Vec<_> = batch.iter().map(|_| (until - first).mul_f64(rng.unit())).collect();
            moments.sort();
            batch.iter_mut().zip(moments).for_each(|(row, after)| row.at = first + after);
            rest = others;
        }
        self
    }

    /// How the prompt of a row begins, where that was recorded.
    pub(super) fn blocks(&self, number: usize) -> Option<Arc<[u64]>> {
        self.rows[number % self.rows.len()].blocks.clone()
    }

    pub(super) fn row(&self, number: usize) -> (Duration, u32, u32) {
        let (round, at) = (number / self.rows.len(), number % self.rows.len());
        let Row { at: time, prompt, output, .. } = self.rows[at];
        // Played again and again, a mean gap apart.
        let length = self.rows.last().map_or(0.0, |last| last.at.as_secs_f64()) + 1.0 / self.rate();
        let before = Duration::try_from_secs_f64(length * round as f64).unwrap_or(Duration::MAX);
        (time.saturating_add(before), prompt, output)
    }
}

/// The columns of the Azure traces, and one more.
const COLUMNS: [&str; 4] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens", "Blocks"];

/// Names begin with a letter; so does NaN, which is a number that makes no sense.
fn is_header(row: &str) -> bool {
    let first = row.split(',').next().unwrap_or_default().trim();
    first.starts_with(char::is_alphabetic) && first.parse::<f64>().is_err()
}

/// How many columns there are: three or four of any name, but none of the known ones where another should be.
fn check_header(row: &str) -> Result<usize, String> {
    let cells: Vec<_> = row.split(',').map(str::trim).collect();
    if !(3..=COLUMNS.len()).contains(&cells.len()) {
        return Err(format!("{} columns where there should be 3", cells.len()));
    }
    match cells.iter().zip(COLUMNS).find(|(cell, column)| *cell != column && COLUMNS.contains(cell)) {
        Some((cell, column)) => Err(format!("the column {cell} stands where {column} should be")),
        None => Ok(cells.len()),
    }
}

/// The number behind a name in a line of JSON, as text. The traces hold no strings that could look like one.
fn field<'r>(row: &'r str, name: &str) -> Option<&'r str> {
    let (_, rest) = row.split_once(&format!("\"{name}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find([',', '}', ' ']).unwrap_or(value.len());
    Some(&value[..end])
}

/// The list behind a name in a line of JSON, as text.
fn list<'r>(row: &'r str, name: &str) -> Option<&'r str> {
    let (_, rest) = row.split_once(&format!("\"{name}\""))?;
    let (_, rest) = rest.split_once('[')?;
    rest.split_once(']').map(|(list, _)| list)
}

/// Numbers and ranges of them, the first `most`.
fn numbers(text: &str, most: usize) -> Option<Arc<[u64]>> {
    let mut numbers = Vec::new();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        numbers.extend((first..=last).take(most - numbers.len()));
    }
    Some(numbers.into())
}

/// Seconds since some midnight, of a date and time or a number.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then_some(seconds).filter(|seconds| *seconds >= 0.0);
    }
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut clock = time.trim_end_matches('Z').split(':');
    let (hour, minute) = (clock.next()?.parse::<u32>().ok()?, clock.next()?.parse::<u32>().ok()?);
    let second = clock.next()?.parse::<f64>().ok()?;
    if clock.next().is_some() || hour > 23 || minute > 59 || !(0.0..61.0).contains(&second) {
        return None;
    }
    // Days since an epoch that does not matter (Howard Hinnant's civil calendar).
    let shifted = if month <= 2 { year - 1 } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400) + in_year;
    Some(days as f64 * 86_400.0 + f64::from(hour * 3_600 + minute * 60) + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read_with_dates_and_with_seconds() {
        let text =
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5,374,44\n2023-11-17 00:00:01.0,396,109\n";
        let trace = Trace::parse(text).unwrap();
        assert_eq!(trace.row(1), (Duration::from_millis(1_500), 396, 109));
        assert_eq!(Trace::parse("3,5,6\n4,5,6").unwrap().row(1).0, Duration::from_secs(1));
        let text = "{\"timestamp\": 3000, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}\n\
                    {\"timestamp\": 6000,\"input_length\":7,\"output_length\":8}";
        assert_eq!(Trace::parse(text).unwrap().row(1), (Duration::from_secs(3), 7, 8));
        // Played again.
        assert!(trace.row(2).0 > trace.row(1).0);
    }

    #[test]
    fn traces_say_how_prompts_begin() {
        let mooncake = "{\"timestamp\": 0, \"input_length\": 1500, \"output_length\": 5, \"hash_ids\": [0, 46, 47]}";
        let columns = "TIMESTAMP,ContextTokens,GeneratedTokens,Blocks\n0,1500,5,0 46-47";
        for text in [mooncake, columns] {
            // The last block is not whole.
            assert_eq!(Trace::parse(text).unwrap().blocks(0).as_deref(), Some(&[0, 46][..]), "{text}");
        }
        assert_eq!(Trace::parse("0,1500,5").unwrap().blocks(0), None);
        let hostile = Trace::parse("0,1100,5,0-18446744073709551615 7-3 9").unwrap();
        assert_eq!(hostile.blocks(0).as_deref(), Some(&[0, 1][..]));
    }

    #[test]
    fn what_was_recorded_at_one_moment_is_spread_to_the_next() {
        let trace = Trace::parse("0,1,1\n0,2,1\n0,3,1\n9,4,1\n9,5,1").unwrap();
        let spread = trace.clone().spread(7);
        let times: Vec<_> = (0..5).map(|row| spread.row(row).0.as_secs_f64()).collect();
        assert!(
            times.is_sorted() && times[2] < 9.0 && times[0] > 0.0 && times[3] >= 9.0 && times[4] < 13.0,
            "{times:?}"
        );
        assert_eq!(spread, trace.clone().spread(7));
        assert_ne!(spread, trace.spread(8));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, line, word) in [
            ("", 1, "no request"),
            ("T,C,G\n", 1, "no request"),
            ("1,5", 1, "2 values"),
            ("1,5,6,7,8", 1, "5 values"),
            ("1,5,6,x", 1, "blocks"),
            ("1,5,6,1--2", 1, "blocks"),
            ("1,5,6\nNaN,5,6", 2, "no time"),
            ("1,5,6\n-2,5,6", 2, "no time"),
            ("5,5,6\n4,5,6", 2, "before"),
            ("5,5,6\n7,5,6\n6,5,6", 3, "before"),
            ("1,-5,6", 1, "tokens"),
            ("1,x,6", 1, "tokens"),
            ("2023-13-01 00:00:00,1,1", 1, "no time"),
            ("{\"timestamp\": 0, \"input_length\": 5}", 1, "2 values"),
            ("{\"timestamp\": 0, \"input_length\": -5, \"output_length\": 1}", 1, "tokens"),
        ] {
            let error = Trace::parse(text).unwrap_err();
            assert!(error.line == line && error.reason.contains(word), "{text:?}: {error}");
        }
    }
}
