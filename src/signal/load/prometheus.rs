//! As much of the Prometheus text format as a load report needs.

use super::{Gauge, LoadReport, Unreadable, number, text};

/// More parts than this (engines, ranks, models) one server does not have.
const MOST_PARTS: usize = 256;
const MALFORMED: Unreadable = Unreadable::Malformed("Prometheus text");

/// The labels of a series.
#[derive(Clone, Copy)]
pub(super) struct Labels<'t>(&'t str);

impl<'t> Labels<'t> {
    /// The value of the label `name`, as it is written; empty where there is none.
    pub(super) fn value(self, name: &str) -> &'t str {
        let mut rest = self.0;
        while let Some((key, quoted)) = rest.split_once('=') {
            let Some(quoted) = quoted.trim_start().strip_prefix('"') else { return "" };
            let Some(end) = closing_quote(quoted) else { return "" };
            if key.trim_matches([' ', '\t', ',']) == name {
                return &quoted[..end];
            }
            rest = &quoted[end + 1..];
        }
        ""
    }
}

/// Reads a page of metrics. `gauge` says what a series measures, and of which part of the server. Within a part the
/// highest value counts (ranks that work on the same requests report them each), over the parts numbers of requests
/// and tokens add up, and of shares the highest is told.
pub(super) fn read(
    page: &[u8],
    gauge: impl for<'t> Fn(&'t str, Labels<'t>) -> Option<(Gauge, &'t str)>,
) -> Result<LoadReport, Unreadable> {
    let mut parts: Vec<(&str, LoadReport)> = Vec::new();
    for line in text(page)?.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let series = match rest.strip_prefix('{') {
            None => Some((Labels(""), rest)),
            Some(rest) => closing_brace(rest).map(|end| (Labels(&rest[..end]), &rest[end + 1..])),
        };
        // A line that is broken matters only where it is one of those that were looked for.
        let (labels, value) = series.unwrap_or((Labels(""), ""));
        let Some((gauge, part)) = gauge(name, labels) else { continue };
        let value = value.split_ascii_whitespace().next().ok_or(MALFORMED)?;
        let value = number(value, gauge)?;
        let index = match parts.iter().position(|(known, _)| *known == part) {
            Some(index) => index,
            None if parts.len() == MOST_PARTS => return Err(Unreadable::TooMany),
            None => {
                parts.push((part, LoadReport::default()));
                parts.len() - 1
            }
        };
        let report = &mut parts[index].1;
        gauge.set(report, gauge.of(report).map_or(value, |known| known.max(value)));
    }
    let reports = parts.into_iter().map(|(_, report)| report);
    reports.fold(LoadReport::default(), joined).unless_empty()
}

/// What two parts of a server are together.
fn joined(one: LoadReport, other: LoadReport) -> LoadReport {
    let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        _ => a.or(b),
    };
    LoadReport {
        running: sum(one.running, other.running),
        waiting: sum(one.waiting, other.waiting),
        waiting_tokens: sum(one.waiting_tokens, other.waiting_tokens),
        kv_cache: one.kv_cache.max(other.kv_cache),
        utilization: one.utilization.max(other.utilization),
    }
}

/// Where the quoted text ends; a backslash takes the next character with it.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// Where the labels end; a brace in a quoted value does not.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        if byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = byte == b'\\' && !escaped;
        byte == b'}' && !quoted
    })
}
