//! Goodput over time, both clients, the faults shaded behind them.

use crate::report::{Report, Slice};
use crate::support::svg::{Chart, Series, Span};

/// The SVG document.
pub(crate) fn draw(report: &Report, names: [&str; 2]) -> String {
    let setup = &report.setup;
    let title = "Goodput while servers fail";
    let subtitle = format!(
        "{} requests of {} in {:.0} s; first token within {} s and whole answer within {} s; goodput {:.1} % and {:.1} %",
        setup.rows,
        setup.trace,
        setup.seconds,
        setup.slo_s,
        setup.deadline_s,
        report.client.naive.goodput * 100.0,
        report.client.fallway.goodput * 100.0,
    );
    let spans: Vec<Span> = report.windows.iter().map(span).collect();
    let naive = points(report, |slice| slice.goodput_naive);
    let fallway = points(report, |slice| slice.goodput_fallway);
    Chart {
        title,
        subtitle: &subtitle,
        x_label: "time of arrival, seconds after the start of the replay",
        y_label: "good answers, per second of arrival",
        x_end: setup.seconds,
        spans: &spans,
        series: &[
            Series { name: names[0], colour: "#c2410c", dashed: true, points: &naive },
            Series { name: names[1], colour: "#1d4ed8", dashed: false, points: &fallway },
        ],
    }
    .render()
}

/// The label says what and whom, one server a line.
fn span(window: &Slice) -> Span {
    let targets = window.target.split(", ").map(str::to_owned);
    Span {
        start: window.start_s,
        end: window.end_s,
        label: std::iter::once(window.name.clone()).chain(targets).collect(),
    }
}

/// One point in the middle of each second.
fn points(report: &Report, goodput: fn(&Slice) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    let seconds = report.seconds.iter();
    seconds.map(|slice| (f64::midpoint(slice.start_s, slice.end_s), goodput(slice))).collect()
}
