//! The ledger of a request as text: its attempts on an axis of time, with what each used and cost.

use super::render::{Count, Span};
use super::{AttemptRecord, Cost, Decision, Ending, Usd};
use crate::time::Instant;
use std::fmt;
use std::time::Duration;

/// Columns of the axis.
const WIDTH: u64 = 40;
/// Where all is over within this part of the request's time, the axis ends with the last attempt: a deadline far away
/// would leave nothing to see.
const EARLY: u64 = 8;

impl Decision {
    /// `-` until the first content, `=` from there on, and at the end `*` for an answer, `x` for a failure, `~` for what was
    /// given up and `>` for what goes on.
    pub(super) fn waterfall(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.attempts().iter().map(AttemptRecord::ended).max() else { return Ok(()) };
        let time = self.deadline().nanos_since(self.arrival());
        let used = last.nanos_since(self.arrival());
        let axis = Axis { from: self.arrival(), nanos: if used < time / EARLY { used } else { time }.max(1) };
        let (span, whole) = (Span(Duration::from_nanos(axis.nanos)), Span(Duration::from_nanos(time)));
        write!(f, "\n  attempts within {span}")?;
        if axis.nanos < time {
            write!(f, " of {whole}")?;
        }
        let names = self.attempts().iter().map(|attempt| attempt.name().chars().count()).max().unwrap_or(0);
        for attempt in self.attempts() {
            write!(f, "\n  {:>3}. {:names$} |{}|", attempt.number(), attempt.name(), axis.bar(attempt))?;
            let began = Span(attempt.started() - self.arrival()).to_string();
            let took = Span(attempt.elapsed()).to_string();
            write!(f, " {began:>8} + {took:>8}: {}", attempt.account())?;
        }
        if self.attempts().len() > 1 {
            write!(f, "\n  in all {}", self.bill())?;
            let wasted = self.wasted();
            if wasted.most() != Some(0) {
                write!(f, "; wasted {wasted}")?;
            }
        }
        match self.facts().cost_cap() {
            Some(cap) => write!(f, "\n  of {} that it may cost", Usd(cap)),
            None => Ok(()),
        }
    }
}

impl AttemptRecord {
    /// How it ended, what it used and what it cost.
    fn account(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            if self.hedge {
                f.write_str("a hedge, ")?;
            }
            if self.canary_timeout {
                f.write_str("a canary given up early, ")?;
            }
            match self.ending {
                Ending::Answering => f.write_str("answers")?,
                Ending::Answered => f.write_str("answered")?,
                Ending::Failed { kind } => write!(f, "failed with {kind}")?,
                Ending::Outrun => f.write_str("outrun")?,
                Ending::Abandoned => f.write_str("abandoned")?,
            }
            let tokens = self.tokens;
            if self.cost != Cost::Nothing {
                let about = if tokens.told { "" } else { "about " };
                write!(f, ", {about}{} in", Count(tokens.input))?;
                if tokens.cached > 0 {
                    write!(f, " ({} cached)", Count(tokens.cached))?;
                }
                write!(f, " {} out", Count(tokens.output))?;
            }
            write!(f, ", {}", self.cost)
        })
    }
}

/// The axis of time.
struct Axis {
    from: Instant,
    nanos: u64,
}

impl Axis {
    fn column(&self, at: Instant) -> u64 {
        let nanos = u128::from(at.nanos_since(self.from));
        ((nanos * u128::from(WIDTH) / u128::from(self.nanos)) as u64).min(WIDTH - 1)
    }

    fn bar(&self, attempt: &AttemptRecord) -> String {
        let (start, end) = (self.column(attempt.started), self.column(attempt.ended));
        let first = attempt.first.map_or(WIDTH, |first| self.column(first));
        let mark = match attempt.ending {
            Ending::Answering => '>',
            Ending::Answered => '*',
            Ending::Failed { .. } => 'x',
            Ending::Outrun | Ending::Abandoned => '~',
        };
        let at = |column: u64| match column {
            column if column == end => mark,
            column if column < start || column > end => ' ',
            column if column < first => '-',
            _ => '=',
        };
        (0..WIDTH).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tokens;
    use super::*;
    use crate::backend::{BackendId, FailureKind};
    use crate::facts::{Facts, Profile};
    use std::sync::Arc;

    /// From this to that millisecond after the arrival, with the first item at another.
    fn attempt(name: &str, from: u64, first: Option<u64>, to: u64, ending: Ending, cost: Cost) -> AttemptRecord {
        let at = |ms: u64| Instant::from_nanos(1_000_000_000 + ms * 1_000_000);
        let tokens = Tokens { input: 1_200, cached: 1_024, output: 45, told: matches!(cost, Cost::Known(_)) };
        AttemptRecord {
            backend: BackendId::new(0, 0),
            profile: Arc::new(Profile::new(name)),
            number: 0,
            hedge: ending == Ending::Outrun,
            canary_timeout: false,
            started: at(from),
            first: first.map(at),
            ended: at(to),
            ending,
            tokens,
            cost,
        }
    }

    fn shown(deadline_ms: u64, mut attempts: Vec<AttemptRecord>) -> String {
        (1..).zip(&mut attempts).for_each(|(number, attempt)| attempt.number = number);
        let mut decision = Decision::blank();
        let record = decision.record_mut();
        record.facts = Some(Arc::new(Facts::any()));
        record.arrival = Instant::from_nanos(1_000_000_000);
        record.deadline = record.arrival.plus_nanos(deadline_ms * 1_000_000);
        record.attempts = attempts;
        fmt::from_fn(|f| decision.waterfall(f)).to_string()
    }

    #[test]
    fn attempts_that_overlap_and_waits_are_where_they_were() {
        let failed = Ending::Failed { kind: FailureKind::Unreachable };
        let text = shown(
            8_000,
            vec![
                attempt("eu-a", 0, None, 500, failed, Cost::Nothing),
                attempt("eu-b", 2_000, None, 6_000, Ending::Abandoned, Cost::Possible(3_000_000_000)),
                attempt("us-small", 4_000, Some(6_000), 7_000, Ending::Answered, Cost::Known(450_000_000)),
            ],
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "",
                "  attempts within 8.00 s",
                "    1. eu-a     |--x                                     |   0.0 µs + 500.0 ms: failed with unreachable, nothing",
                "    2. eu-b     |          --------------------~         |   2.00 s +   4.00 s: abandoned, about 1,200 in (1,024 cached) 45 out, up to $0.003",
                "    3. us-small |                    ----------=====*    |   4.00 s +   3.00 s: answered, 1,200 in (1,024 cached) 45 out, $0.00045",
                "  in all $0.00045, and up to $0.003 more; wasted up to $0.003",
            ]
        );
    }

    #[test]
    fn clocks_that_jump_draw_nothing_outside() {
        let odd = attempt("a", 9_000, Some(1), 3, Ending::Answering, Cost::Unknown);
        let far = attempt("b", 0, None, 90_000, Ending::Abandoned, Cost::Unknown);
        for attempts in [vec![odd.clone()], vec![far.clone()], vec![odd, far]] {
            let text = shown(1_000, attempts);
            let bars = text.lines().filter_map(|line| line.split('|').nth(1));
            assert!(bars.map(|bar| bar.chars().count()).all(|width| width == 40), "{text}");
        }
        assert_eq!(shown(1_000, Vec::new()), "");
        // Without any time there is nothing to divide by.
        assert!(shown(0, vec![attempt("a", 0, None, 0, Ending::Abandoned, Cost::Nothing)]).contains("|~ "));
    }
}
