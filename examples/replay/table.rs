//! The figures side by side, for people.

use std::collections::BTreeSet;
use std::fmt;

use crate::report::{Report, Slice, Summary};

/// Renders a report as one aligned table.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    /// What to show.
    pub(crate) report: &'a Report,
    /// Headings of the two columns of figures.
    pub(crate) names: [&'static str; 2],
}

/// Widths of the name of a figure and of each figure.
const NAME: usize = 40;
const FIGURE: usize = 14;

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { client, windows, calm, setup, .. } = self.report;
        let deadline = setup.deadline_s;
        let [left, right] = self.names;
        writeln!(f, "{left}: {}", client.naive.settings)?;
        writeln!(f, "{right}: {}\n", client.fallway.settings)?;
        row(f, "", left, right)?;
        rule(f)?;
        let mut line = |name: &str, figure: &dyn Fn(&Summary) -> String| {
            row(f, name, &figure(&client.naive), &figure(&client.fallway))
        };
        line("requests", &|s| s.requests.to_string())?;
        line("goodput", &|s| percent(Some(s.goodput)))?;
        line("time to first token, p50", &|s| milliseconds(s.ttft_p50_ms))?;
        line("                     p90", &|s| milliseconds(s.ttft_p90_ms))?;
        line("                     p99", &|s| milliseconds(s.ttft_p99_ms))?;
        line("attempts per request", &|s| format!("{:.3}", s.attempts_per_request))?;
        line("429 answers met", &|s| s.rate_limited.to_string())?;
        line(&format!("longest request (deadline {deadline} s)"), &|s| format!("{:.2} s", s.longest_ms / 1_000.0))?;
        line("ended after the deadline", &|s| s.past_deadline.to_string())?;
        line("answers cut short, caller told", &|s| s.truncated_reported.to_string())?;
        line("answers cut short, caller not told", &|s| s.truncated_silently.to_string())?;
        line("degraded answers", &|s| s.degraded.to_string())?;
        line("leases leaked", &|s| s.leaked_leases.to_string())?;

        section(f, "goodput by time of arrival")?;
        for slice in windows.iter().chain([calm]) {
            let Slice { name, target, start_s, end_s, .. } = slice;
            let name = if target.is_empty() {
                format!("{name} (the rest)")
            } else {
                format!("{start_s:4.1}-{end_s:4.1} s {name}: {target}")
            };
            row(f, &name, &percent(slice.goodput_naive), &percent(slice.goodput_fallway))?;
        }

        section(f, "errors by reason")?;
        let all = [&client.naive.errors, &client.fallway.errors];
        let reasons: BTreeSet<&String> = all.into_iter().flat_map(|errors| errors.keys()).collect();
        if reasons.is_empty() {
            row(f, "none", "0", "0")?;
        }
        for reason in reasons {
            let count = |side: usize| all[side].get(reason).copied().unwrap_or(0).to_string();
            row(f, reason, &count(0), &count(1))?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, left: &str, right: &str) -> fmt::Result {
    writeln!(f, "{name:<NAME$} {left:>FIGURE$} {right:>FIGURE$}")
}

fn rule(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:-<1$}", "", NAME + 2 * FIGURE + 2)
}

fn section(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    rule(f)?;
    writeln!(f, "{title}")
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0))
}

fn milliseconds(value: f64) -> String {
    format!("{value:.0} ms")
}
