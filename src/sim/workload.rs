//! When requests come, and how long they are.

use super::server::Server;
use crate::rng::Rng;
use std::time::Duration;

/// When requests come.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Independently: gaps are exponential.
    Poisson,
    /// In bursts: gaps are gamma distributed with this coefficient of variation (1 is Poisson).
    Gamma {
        /// Standard deviation of the gaps, divided by their mean.
        cv: f64,
    },
    /// At the times of a trace.
    Trace(Trace),
}

/// Prompt and output tokens of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    pairs: Vec<(u32, u32)>,
}

/// Recorded requests: when they came and how long they were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    rows: Vec<(Duration, u32, u32)>,
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

/// About a thousand requests of the Azure LLM conversation trace of 2023: every nineteenth. Data: Microsoft, *Azure
/// Public Dataset*, CC-BY 4.0.
const AZURE: &str = include_str!("data/azure-conv-lengths.csv");

impl Lengths {
    /// All alike.
    pub fn fixed(prompt: u32, output: u32) -> Self {
        Self { pairs: vec![(prompt.max(1), output.max(1))] }
    }

    /// Drawn from these pairs of prompt and output tokens; `None` when there are none.
    pub fn of(pairs: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let pairs: Vec<_> = pairs.into_iter().map(|(prompt, output)| (prompt.max(1), output.max(1))).collect();
        (!pairs.is_empty()).then_some(Self { pairs })
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> (u32, u32) {
        self.pairs[rng.below(self.pairs.len())]
    }

    /// The mean prompt and output.
    pub fn mean(&self) -> (f64, f64) {
        let n = self.pairs.len() as f64;
        let sum =
            self.pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + f64::from(pair.0), sum.1 + f64::from(pair.1)));
        (sum.0 / n, sum.1 / n)
    }

    /// Requests a second that one server can serve of these: a server that is never idle and never out of room. Bursts
    /// never fill prefill and decode alike, so this is [`USABLE`](Self::USABLE) of what its tighter stage allows.
    pub fn capacity(&self, server: &Server) -> f64 {
        let (prompt, output) = self.mean();
        server.capacity(prompt, output) * Self::USABLE
    }

    /// The share of a server's tighter stage that mixed traffic can use: load 1.0 means this. About 6.2 requests a
    /// second for the default server and lengths.
    pub const USABLE: f64 = 0.93;
}

impl Default for Lengths {
    /// Those of the Azure conversation trace.
    fn default() -> Self {
        let row = |line: &str| {
            let (prompt, output) = line.split_once(',')?;
            Some((prompt.parse().ok()?, output.parse().ok()?))
        };
        Self::of(AZURE.lines().filter_map(row)).unwrap_or_else(|| Self::fixed(1_155, 211))
    }
}

impl Trace {
    /// Reads a trace in the form of the Azure LLM traces: a header, then lines of time, prompt tokens and output
    /// tokens, separated by commas, the time being `YYYY-MM-DD HH:MM:SS.fraction` or seconds; or in the form of the
    /// Mooncake traces: a JSON object for each line with `timestamp` (milliseconds), `input_length` and
    /// `output_length`. The first request is at 0.
    ///
    /// # Errors
    ///
    /// The first line that makes no sense: no number, negative, not in order, the wrong columns, or no request at all.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut rows: Vec<(Duration, u32, u32)> = Vec::new();
        let mut first = None;
        for (line, row) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
            let error = |reason: String| TraceError { line, reason };
            if row.trim().is_empty() {
                continue;
            }
            if line == 1 && is_header(row) {
                check_header(row).map_err(error)?;
                continue;
            }
            let object = row.trim_start().starts_with('{');
            let cells: Vec<_> = if object {
                ["timestamp", "input_length", "output_length"].iter().filter_map(|name| field(row, name)).collect()
            } else {
                row.split(',').map(str::trim).collect()
            };
            let [time, prompt, output] = cells[..] else {
                return Err(error(format!("{} values where there should be 3", cells.len())));
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
            if rows.last().is_some_and(|(before, ..)| at < *before) {
                return Err(error(format!("the time {time} is before that of the line above")));
            }
            rows.push((at, prompt.max(1), output.max(1)));
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
        let pairs = self.rows.iter().map(|(_, prompt, output)| (*prompt, *output));
        Lengths::of(pairs).unwrap_or_default()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        let last = self.rows.last().map_or(0.0, |(at, ..)| at.as_secs_f64());
        if last > 0.0 { self.rows.len() as f64 / last } else { self.rows.len() as f64 }
    }

    pub(super) fn row(&self, number: usize) -> (Duration, u32, u32) {
        let (round, at) = (number / self.rows.len(), number % self.rows.len());
        let (time, prompt, output) = self.rows[at];
        // Played again and again, a mean gap apart.
        let length = self.rows.last().map_or(0.0, |(last, ..)| last.as_secs_f64()) + 1.0 / self.rate();
        let before = Duration::try_from_secs_f64(length * round as f64).unwrap_or(Duration::MAX);
        (time.saturating_add(before), prompt, output)
    }
}

/// The columns of the Azure traces.
const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/// Names begin with a letter; so does NaN, which is a number that makes no sense.
fn is_header(row: &str) -> bool {
    let first = row.split(',').next().unwrap_or_default().trim();
    first.starts_with(char::is_alphabetic) && first.parse::<f64>().is_err()
}

/// Three columns of any name, but none of the known ones where another should be.
fn check_header(row: &str) -> Result<(), String> {
    let cells: Vec<_> = row.split(',').map(str::trim).collect();
    if cells.len() != COLUMNS.len() {
        return Err(format!("{} columns where there should be 3", cells.len()));
    }
    match cells.iter().zip(COLUMNS).find(|(cell, column)| *cell != column && COLUMNS.contains(cell)) {
        Some((cell, column)) => Err(format!("the column {cell} stands where {column} should be")),
        None => Ok(()),
    }
}

/// The number behind a name in a line of JSON, as text. The traces hold no strings that could look like one.
fn field<'r>(row: &'r str, name: &str) -> Option<&'r str> {
    let (_, rest) = row.split_once(&format!("\"{name}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find([',', '}', ' ']).unwrap_or(value.len());
    Some(&value[..end])
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

/// Gaps between requests, one mean long on average.
#[derive(Clone, Debug)]
pub(super) struct Gaps {
    rng: Rng,
    shape: f64,
}

impl Gaps {
    pub(super) fn new(cv: f64, seed: u64) -> Self {
        Self { rng: Rng::new(seed), shape: 1.0 / (cv * cv) }
    }

    /// A gamma draw of mean 1 (Marsaglia, Tsang: *A Simple Method for Generating Gamma Variables*, ACM TOMS 2000).
    pub(super) fn draw(&mut self) -> f64 {
        if (self.shape - 1.0).abs() < 1e-12 {
            return -(1.0 - self.rng.unit()).ln();
        }
        // Below 1, the draw for shape + 1, scaled.
        let (shape, boost) = if self.shape < 1.0 {
            (self.shape + 1.0, (1.0 - self.rng.unit()).powf(1.0 / self.shape))
        } else {
            (self.shape, 1.0)
        };
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v <= 0.0 {
                continue;
            }
            let u = 1.0 - self.rng.unit();
            if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v * boost / self.shape;
            }
        }
    }

    fn normal(&mut self) -> f64 {
        // Box and Muller.
        let (u, v) = (1.0 - self.rng.unit(), self.rng.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_their_mean_and_variation() {
        for cv in [0.5, 1.0, 1.5, 4.0] {
            let mut gaps = Gaps::new(cv, 7);
            let draws: Vec<_> = (0..200_000).map(|_| gaps.draw()).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            assert!((mean - 1.0).abs() < 0.03, "cv {cv}: mean {mean}");
            assert!((variance.sqrt() / mean - cv).abs() < 0.05 * cv, "cv {cv}: {}", variance.sqrt() / mean);
        }
    }

    #[test]
    fn the_default_server_serves_about_six_requests_a_second() {
        let capacity = Lengths::default().capacity(&Server::new("a"));
        assert!((6.0..6.4).contains(&capacity), "{capacity}");
    }

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
    fn what_makes_no_sense_is_named() {
        for (text, line, word) in [
            ("", 1, "no request"),
            ("T,C,G\n", 1, "no request"),
            ("1,5", 1, "2 values"),
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
