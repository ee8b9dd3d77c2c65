//! A line chart over time with shaded, labelled spans, as one self-contained SVG.
//!
//! Written by hand because it is all the examples need of a drawing library: two axes, a few lines, a legend. Everything
//! that comes from outside is escaped; numbers are written with one decimal, a tenth of a pixel.

use std::fmt::{self, Write as _};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 560.0;
/// The plot area; above it are title, subtitle and legend, below it the axis.
const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 28.0;
const TOP: f64 = 158.0;
const BOTTOM: f64 = HEIGHT - 62.0;
/// Lines of text in a span's label are this far apart.
const LABEL_STEP: f64 = 16.0;

/// A chart whose y axis runs from 0 to 1 and is written in per cent.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// Headline.
    pub(crate) title: &'a str,
    /// The line below it: what the reader must know to trust the picture.
    pub(crate) subtitle: &'a str,
    /// Name of the x axis, with its unit.
    pub(crate) x_label: &'a str,
    /// Name of the y axis.
    pub(crate) y_label: &'a str,
    /// End of the x axis, which starts at 0.
    pub(crate) x_end: f64,
    /// Shaded behind the lines.
    pub(crate) spans: &'a [Span],
    /// Drawn in order, the last on top.
    pub(crate) series: &'a [Series<'a>],
}

/// A shaded piece of the x axis.
#[derive(Debug)]
pub(crate) struct Span {
    /// Where it begins.
    pub(crate) start: f64,
    /// Where it ends.
    pub(crate) end: f64,
    /// Written above it, one line each.
    pub(crate) label: Vec<String>,
}

/// One line of the chart.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    /// Name in the legend.
    pub(crate) name: &'a str,
    /// A CSS colour.
    pub(crate) colour: &'a str,
    /// Broken strokes tell lines apart without colour.
    pub(crate) dashed: bool,
    /// `(x, y)` in ascending x; no y interrupts the line.
    pub(crate) points: &'a [(f64, Option<f64>)],
}

impl Chart<'_> {
    /// The whole SVG document.
    pub(crate) fn render(&self) -> String {
        let mut svg = String::with_capacity(16 * 1024);
        self.write(&mut svg).expect("a String takes every write: its fmt::Write never fails");
        svg
    }

    fn write(&self, svg: &mut String) -> fmt::Result {
        writeln!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="14" fill="#1f2937">"##
        )?;
        writeln!(svg, "<title>{}</title>", Escaped(self.title))?;
        writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
        self.write_heading(svg)?;
        self.write_spans(svg)?;
        self.write_axes(svg)?;
        for series in self.series {
            self.write_series(svg, series)?;
        }
        writeln!(svg, "</svg>")
    }

    fn write_heading(&self, svg: &mut String) -> fmt::Result {
        text(svg, LEFT, 34.0, r#"font-size="20" font-weight="600""#, self.title)?;
        text(svg, LEFT, 58.0, r##"fill="#4b5563""##, self.subtitle)?;
        let mut x = LEFT;
        for series in self.series {
            writeln!(svg, r#"<line x1="{x:.1}" y1="81" x2="{:.1}" y2="81" {}/>"#, x + 34.0, stroke(series))?;
            text(svg, x + 42.0, 86.0, "", series.name)?;
            // No font metrics here: 8.5 px a character is wide enough for every common sans serif at 14 px.
            x += 70.0 + 8.5 * series.name.chars().count() as f64;
        }
        if !self.spans.is_empty() {
            writeln!(svg, r##"<rect x="{x:.1}" y="73" width="34" height="16" fill="#f3e8d2" stroke="#d6bf8f"/>"##)?;
            text(svg, x + 42.0, 86.0, "", "fault injected")?;
        }
        Ok(())
    }

    fn write_spans(&self, svg: &mut String) -> fmt::Result {
        for span in self.spans {
            let (start, end) = (self.x(span.start), self.x(span.end));
            writeln!(
                svg,
                r##"<rect x="{start:.1}" y="{TOP:.1}" width="{:.1}" height="{:.1}" fill="#f3e8d2" stroke="#d6bf8f"/>"##,
                end - start,
                BOTTOM - TOP
            )?;
            let first = TOP - 8.0 - LABEL_STEP * (span.label.len().saturating_sub(1)) as f64;
            for (index, line) in span.label.iter().enumerate() {
                let style = if index == 0 {
                    r##"font-size="13" text-anchor="middle" font-weight="600""##
                } else {
                    r##"font-size="12" text-anchor="middle" fill="#4b5563""##
                };
                let y = first + LABEL_STEP * index as f64;
                text(svg, f64::midpoint(start, end), y, style, line)?;
            }
        }
        Ok(())
    }

    fn write_axes(&self, svg: &mut String) -> fmt::Result {
        for percent in (0..=100).step_by(20) {
            let y = Self::y(f64::from(percent) / 100.0);
            writeln!(svg, r##"<line x1="{LEFT:.1}" y1="{y:.1}" x2="{RIGHT:.1}" y2="{y:.1}" stroke="#d1d5db"/>"##)?;
            let label = format!("{percent} %");
            text(svg, LEFT - 10.0, y + 5.0, r#"text-anchor="end""#, &label)?;
        }
        let step = tick_step(self.x_end);
        let ticks = (self.x_end / step).floor() as usize;
        for tick in 0..=ticks {
            let value = tick as f64 * step;
            let x = self.x(value);
            writeln!(
                svg,
                r##"<line x1="{x:.1}" y1="{BOTTOM:.1}" x2="{x:.1}" y2="{:.1}" stroke="#6b7280"/>"##,
                BOTTOM + 6.0
            )?;
            let label = format!("{value}");
            text(svg, x, BOTTOM + 23.0, r#"text-anchor="middle""#, &label)?;
        }
        writeln!(svg, r##"<path d="M{LEFT:.1} {TOP:.1}V{BOTTOM:.1}H{RIGHT:.1}" fill="none" stroke="#6b7280"/>"##)?;
        let middle = f64::midpoint(LEFT, RIGHT);
        text(svg, middle, HEIGHT - 16.0, r#"text-anchor="middle""#, self.x_label)?;
        let (x, y) = (22.0, f64::midpoint(TOP, BOTTOM));
        let turned = format!(r#"text-anchor="middle" transform="rotate(-90 {x} {y})""#);
        text(svg, x, y, &turned, self.y_label)
    }

    fn write_series(&self, svg: &mut String, series: &Series<'_>) -> fmt::Result {
        let mut path = String::new();
        let mut pen_down = false;
        for &(x, y) in series.points {
            if let Some(y) = y {
                let command = if pen_down { 'L' } else { 'M' };
                write!(path, "{command}{:.1} {:.1}", self.x(x), Self::y(y))?;
            }
            pen_down = y.is_some();
        }
        writeln!(svg, r#"<path d="{path}" fill="none" {}/>"#, stroke(series))?;
        for &(x, y) in series.points {
            let Some(y) = y else { continue };
            writeln!(
                svg,
                r#"<circle cx="{:.1}" cy="{:.1}" r="3.4" fill="{}"/>"#,
                self.x(x),
                Self::y(y),
                Escaped(series.colour)
            )?;
        }
        Ok(())
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (value / self.x_end).clamp(0.0, 1.0)
    }

    fn y(value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * value.clamp(0.0, 1.0)
    }
}

/// Ticks at 1, 2 or 5 times a power of ten, at most 15 of them, so that they can be read at a glance.
fn tick_step(end: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle().take(30) {
        if end / step <= 15.0 {
            break;
        }
        step *= factor;
    }
    step
}

fn stroke(series: &Series<'_>) -> String {
    let dash = if series.dashed { r#" stroke-dasharray="7 4""# } else { "" };
    let colour = Escaped(series.colour);
    format!(r#"stroke="{colour}" stroke-width="2.6" stroke-linejoin="round"{dash}"#)
}

fn text(svg: &mut String, x: f64, y: f64, attributes: &str, content: &str) -> fmt::Result {
    let content = Escaped(content);
    writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" {attributes}>{content}</text>"#)
}

/// Text with the characters replaced that mean something in XML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
