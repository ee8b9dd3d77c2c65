//! The comparison as one HTML page: readable without a network, in the dark and on a phone.
//!
//! No scripts and nothing from outside: one style sheet, tables, and charts as inline SVG in the colours of the style
//! sheet. Text is escaped; what is not a number is a dash in a table and draws nothing.

mod regions;

const OURS: &str = "fallway";
/// In every chart, because readers know them.
const FAMILIAR: [&str; 3] = ["least_in_flight", "round_robin", "litellm"];

/// The size of a chart, and where its plot is. Above the plot are a title and a row of marks, below it the legend.
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 364.0;
const TOP: f64 = 38.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = WIDTH - 12.0;
const BOTTOM: f64 = 258.0;

/// All runs of one policy in one stage (scenario + variant + number of routers), over several seeds.
pub(crate) struct Row {
    pub(crate) policy: &'static str,
    pub(crate) goodput: f64,
    pub(crate) ttft_p50: f64,
    pub(crate) ttft_p90: f64,
    pub(crate) ttft_p99: f64,
    pub(crate) attempts: f64,
    pub(crate) wasted: f64,
    pub(crate) recover: Option<f64>,
    pub(crate) critical: Option<f64>,
    /// Of all tenants but the one in question, as a share of what it is without that.
    pub(crate) others: Option<f64>,
    pub(crate) jain: Option<f64>,
    pub(crate) fullest: Option<f64>,
    pub(crate) flaps: Option<f64>,
    /// Time to first token of the first seed: ascending (seconds, share) points, at most ~200.
    pub(crate) cdf: Vec<(f64, f64)>,
    /// Goodput over time of the first seed: (seconds, share).
    pub(crate) timeline: Vec<(f64, f64)>,
    /// Share of the requests over time, of the first seed, for each region.
    pub(crate) regions: Vec<Vec<(f64, f64)>>,
}

pub(crate) struct Chapter {
    pub(crate) scenario: &'static str,
    pub(crate) title: &'static str,
    pub(crate) variant: &'static str,
    pub(crate) routers: usize,
    pub(crate) load: f64,
    pub(crate) slo: f64,
    /// Fault windows in seconds.
    pub(crate) windows: Vec<(f64, f64)>,
    pub(crate) regions: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) oracle: Option<Row>,
}

/// A column of a table that some stages have.
pub(crate) type Column = (&'static str, fn(&Row) -> Option<f64>);

impl Chapter {
    /// The columns that somebody has a figure for, beside those of every stage.
    pub(crate) fn extra(&self) -> Vec<Column> {
        let all: [Column; 5] = [
            ("critical", |row| row.critical),
            ("others", |row| row.others),
            ("jain", |row| row.jain),
            ("fullest", |row| row.fullest),
            ("flaps", |row| row.flaps),
        ];
        all.into_iter().filter(|(_, value)| self.rows.iter().any(|row| value(row).is_some())).collect()
    }
}

/// The whole page; `seconds` is how long the comparison took to compute.
pub(crate) fn render(chapters: &[Chapter], seeds: &[u64], seconds: f64) -> String {
    let sections: String = chapters.iter().enumerate().map(|(at, chapter)| section(at, chapter)).collect();
    let (introduction, summary) = (introduction(seeds, seconds), summary(chapters));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>fallway: routing policies compared</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{introduction}{summary}{sections}</main>\n</body>\n</html>\n"
    )
}

fn introduction(seeds: &[u64], seconds: f64) -> String {
    let (seeds, took) = (seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", "), figure(seconds));
    format!(
        "<h1>Routing policies compared</h1>\n\
         <p>Everything here is <strong>simulated</strong>: virtual time, modelled servers and faults. In each stage \
         every policy gets the same workload. Figures are medians over seeds {seeds}; curves are of the first. \
         Failures count as misses: against goodput, and in the time to first token (TTFT) with at least the SLO. \
         Stages that fallway loses are shown like those that it wins. The <em>oracle</em> sees every server as it is; \
         short of overload, nobody beats it by much.</p>\n\
         <p>From <code>cargo run --release --features sim --example compare</code>, computed in {took} s.</p>\n\
         <p class=\"soft\">Goodput: requests with a first token within the SLO and a whole answer, of all (S16: of \
         what the fleet could do, at its worst step). Wasted: tokens worked for nothing. Recovery: from the end of \
         the fault until all is as before; – where that is not measured, or did not happen with every seed. Critical: \
         the same as goodput, of critical requests. Others: goodput of the other tenants, as a share of what it is without \
         the one that comes in bursts; Jain: of the tenants' goodput. Fullest: requests in the fullest region for each that its servers \
         have room for. Flaps: what came back and left again.</p>\n"
    )
}

fn summary(chapters: &[Chapter]) -> String {
    let alone = |score| chapters.iter().filter(|chapter| rank(chapter, score) == Some((1, 1))).count();
    let (good, fast, all) = (alone(by_goodput), alone(by_p99), chapters.len());
    let lines: String = chapters.iter().enumerate().map(|(at, chapter)| summary_line(at, chapter)).collect();
    let heads = "stage|rank by goodput|goodput, %|best other, %|rank by p99|p99, s|best other, s|p99 ÷ best other";
    format!(
        "<h2>Where fallway stands</h2>\n<p>Alone in front by goodput in {good} of {all} stages, by p99 of TTFT in \
         {fast}; equals to 0.01 % and 1 ms share places.</p>\n{}",
        table(heads, &lines)
    )
}

fn summary_line(at: usize, chapter: &Chapter) -> String {
    let ours = chapter.rows.iter().find(|row| row.policy == OURS);
    let best = |score| sorted(chapter, score).into_iter().find(|row| row.policy != OURS);
    let cells = |score, value: fn(&Row) -> String| {
        let place = |(first, last)| if first == last { format!("{first}") } else { format!("{first}–{last}") };
        let rank = rank(chapter, score).map_or("–".into(), |at| format!("{} of {}", place(at), chapter.rows.len()));
        let named = |row: &Row| format!("{} <span class=\"soft\">{}</span>", value(row), escape(row.policy));
        vec![rank, ours.map_or("–".into(), value), best(score).map_or("–".into(), named)]
    };
    let ratio = ours.zip(best(by_p99)).map_or("–".into(), |(ours, best)| figure(ours.ttft_p99 / best.ttft_p99));
    let (goodput, p99) = (cells(by_goodput, |row| percent(row.goodput)), cells(by_p99, |row| figure(row.ttft_p99)));
    let stage = escape(&format!("{}{}", chapter.scenario, conditions(chapter)));
    line("", &format!("<a href=\"#stage-{at}\">{stage}</a>"), &[goodput, p99, vec![ratio]].concat())
}

fn section(at: usize, chapter: &Chapter) -> String {
    let (name, title, conditions) = (escape(chapter.scenario), escape(chapter.title), escape(&conditions(chapter)));
    let (figures, bars, lines) = (figures(chapter), bar_chart(chapter), lines(chapter));
    let (cdf, timeline) = (cdf_chart(chapter, &lines), timeline_chart(chapter, &lines));
    let regions = regions::charts(chapter);
    format!(
        "<section id=\"stage-{at}\">\n<h2>{name} {title}<span class=\"soft\">{conditions}</span></h2>\n{figures}\
         <div class=\"charts\">\n{bars}{cdf}{timeline}{regions}</div>\n</section>\n"
    )
}

fn conditions(chapter: &Chapter) -> String {
    let variant = if chapter.variant.is_empty() { String::new() } else { format!(" · {}", chapter.variant) };
    let (routers, plural) = (chapter.routers, if chapter.routers == 1 { "" } else { "s" });
    format!("{variant} · {routers} router{plural} · load {}", short(chapter.load))
}

fn figures(chapter: &Chapter) -> String {
    let mut rows = sorted(chapter, by_p99);
    rows.sort_by(|a, b| by_goodput(b).total_cmp(&by_goodput(a)));
    let extra = chapter.extra();
    let lines: String = rows.into_iter().chain(&chapter.oracle).map(|row| figures_line(row, &extra)).collect();
    let heads = "policy|goodput, %|TTFT p50, s|TTFT p90, s|TTFT p99, s|attempts per request|wasted, %|recovery, s";
    let more: String = extra.iter().map(|(name, _)| format!("|{name}")).collect();
    table(&(heads.to_owned() + &more), &lines)
}

fn figures_line(row: &Row, extra: &[Column]) -> String {
    let [p50, p90, p99, attempts] = [row.ttft_p50, row.ttft_p90, row.ttft_p99, row.attempts].map(figure);
    let recover = row.recover.map_or("–".into(), short);
    let more = extra.iter().map(|(_, value)| value(row).map_or("–".into(), figure));
    let cells = [percent(row.goodput), p50, p90, p99, attempts, percent(row.wasted), recover];
    line(row.policy, &escape(row.policy), &cells.into_iter().chain(more).collect::<Vec<_>>())
}

fn table(heads: &str, lines: &str) -> String {
    let head = format!("<thead><tr><th>{}</th></tr></thead>", heads.replace('|', "</th><th>"));
    format!("<div class=\"scroll\"><table>\n{head}\n<tbody>\n{lines}</tbody>\n</table></div>\n")
}

/// The style sheet knows policies by their names.
fn line(class: &str, name: &str, cells: &[String]) -> String {
    let (class, cells) = (escape(class), cells.join("</td><td>"));
    format!("<tr class=\"{class}\"><th scope=\"row\">{name}</th><td>{cells}</td></tr>\n")
}

/// p99 of everybody, the shortest first. Bars begin at the end of the axis: a logarithm has no zero.
fn bar_chart(chapter: &Chapter) -> String {
    let rows = sorted(chapter, by_p99);
    let values = || rows.iter().copied().chain(&chapter.oracle).map(|row| row.ttft_p99);
    let values = || values().filter(|value| (1e-4..1e6).contains(value));
    let (least, most) = (values().reduce(f64::min).unwrap_or(1.0), values().reduce(f64::max).unwrap_or(1.0));
    let lo = steps(least * 0.08, least * 0.8).last().copied().unwrap_or(least * 0.5);
    let hi = steps(most, most * 10.0).first().copied().unwrap_or(most * 2.0);
    let (x, bottom) = (Axis { lo, hi, from: 112.0, to: WIDTH - 46.0, log: true }, HEIGHT - 40.0);
    let height = ((bottom - TOP) / rows.len().max(1) as f64).min(26.0);
    let mut body = x.vertical_grid(bottom, "p99 of time to first token, s (log)");
    for (at, row) in rows.iter().enumerate() {
        let (top, from, class) = (TOP + height * at as f64, x.from, escape(row.policy));
        let name = text("end", from - 6.0, top + height / 2.0 + 4.0, row.policy);
        let value = text("end", WIDTH - 4.0, top + height / 2.0 + 4.0, &figure(row.ttft_p99));
        let bar = rect("bar", from, top + height * 0.15, x.at(row.ttft_p99) - from, height * 0.7);
        body += &format!("<g class=\"{class}\">{name}{bar}{value}</g>\n");
    }
    let bound = |row: &Row| x.mark(row.ttft_p99, &format!("oracle {} s", figure(row.ttft_p99)), bottom);
    body += &chapter.oracle.as_ref().map(bound).unwrap_or_default();
    svg("Slowest 1 %: p99 of time to first token", &body)
}

fn cdf_chart(chapter: &Chapter, lines: &[&Row]) -> String {
    let x = Axis { lo: 0.05, hi: 100.0, from: LEFT, to: RIGHT, log: true };
    let y = Axis { lo: 0.0, hi: 100.0, from: BOTTOM, to: TOP, log: false };
    let grid = x.vertical_grid(BOTTOM, "time to first token, s (log)") + &y.horizontal_grid("requests, %");
    let slo = x.mark(chapter.slo, &format!("SLO {} s", short(chapter.slo)), BOTTOM);
    svg("Requests with a first token by then", &(grid + &slo + &curves(lines, |row| &row.cdf, &x, &y) + &legend(lines)))
}

fn timeline_chart(chapter: &Chapter, lines: &[&Row]) -> String {
    let points = || lines.iter().flat_map(|row| &row.timeline).filter(|(at, share)| (at + share).is_finite());
    let end = points().map(|(at, _)| at * 1.02).fold(1.0, f64::max);
    let lo = [90.0, 50.0].into_iter().find(|lo| points().all(|(_, share)| share * 100.0 >= *lo)).unwrap_or(0.0);
    let x = Axis { lo: 0.0, hi: end, from: LEFT, to: RIGHT, log: false };
    let y = Axis { lo, hi: 100.0, from: BOTTOM, to: TOP, log: false };
    let label = if chapter.windows.is_empty() { "" } else { " (shaded: disturbed)" };
    let grid = x.vertical_grid(BOTTOM, &format!("time of arrival, s{label}")) + &y.horizontal_grid("goodput, %");
    let shade = |&(start, end): &(f64, f64)| rect("fault", x.at(start), TOP, x.at(end) - x.at(start), BOTTOM - TOP);
    let shades: String = chapter.windows.iter().map(shade).collect();
    svg("Goodput over time", &(shades + &grid + &curves(lines, |row| &row.timeline, &x, &y) + &legend(lines)))
}

/// The oracle, ours, the best three others by p99, and the familiar ones: the order of the legend.
fn lines(chapter: &Chapter) -> Vec<&Row> {
    let (ours, mut others): (Vec<_>, Vec<_>) = sorted(chapter, by_p99).into_iter().partition(|row| row.policy == OURS);
    let rest = others.split_off(others.len().min(3));
    others.extend(rest.into_iter().filter(|row| FAMILIAR.contains(&row.policy)));
    chapter.oracle.iter().chain(ours).chain(others).collect()
}

/// The curves, the first on top, as far as the axis goes.
fn curves(lines: &[&Row], points: fn(&Row) -> &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let point = |(at, share): &(f64, f64)| format!("{:.1} {:.1}", x.at(*at), y.at(share * 100.0));
    let curve = |row: &&Row| {
        let known = points(row).iter().filter(|(at, share)| (x.lo..=x.hi).contains(at) && share.is_finite());
        let (points, name) = (known.map(point).collect::<Vec<_>>().join(" "), escape(row.policy));
        format!("<polyline class=\"line {name}\" points=\"{points}\"><title>{name}</title></polyline>\n")
    };
    lines.iter().rev().map(curve).collect()
}

fn legend(lines: &[&Row]) -> String {
    let entry = |(at, row): (usize, &&Row)| {
        let (x, y) = (LEFT + 160.0 * (at % 2) as f64, BOTTOM + 50.0 + 16.0 * (at / 2) as f64);
        let stroke = format!("<path class=\"line {}\" d=\"M{x} {}h28\"/>", escape(row.policy), y - 4.0);
        stroke + &text("", x + 34.0, y, row.policy)
    };
    lines.iter().enumerate().map(entry).collect()
}

struct Axis {
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Axis {
    /// Within the plot, whatever the value.
    fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.max(1e-6).ln() } else { value };
        let share = (scale(value) - scale(self.lo)) / (scale(self.hi) - scale(self.lo));
        self.from + (self.to - self.from) * if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    fn vertical_grid(&self, bottom: f64, label: &str) -> String {
        let tick = |value: f64| {
            let grid = format!("<path class=\"grid\" d=\"M{:.1} {TOP}V{bottom}\"/>", self.at(value));
            grid + &text("mid", self.at(value), bottom + 14.0, &short(value))
        };
        let label = text("mid soft", f64::midpoint(self.from, self.to), bottom + 30.0, label);
        self.ticks().into_iter().map(tick).collect::<String>() + &label
    }

    fn horizontal_grid(&self, label: &str) -> String {
        let tick = |value: f64| {
            let grid = format!("<path class=\"grid\" d=\"M{LEFT} {:.1}H{RIGHT}\"/>", self.at(value));
            grid + &text("end", LEFT - 6.0, self.at(value) + 4.0, &short(value))
        };
        let (y, label) = (f64::midpoint(self.from, self.to), text("mid soft", 0.0, 0.0, label));
        let ticks: String = self.ticks().into_iter().map(tick).collect();
        format!("{ticks}<g transform=\"translate(14 {y}) rotate(-90)\">{label}</g>\n")
    }

    /// 1, 2 and 5 times powers of ten; on a logarithm only the powers, where the others would touch.
    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = steps((self.hi - self.lo) / 6.0, self.hi - self.lo).first().copied().unwrap_or(self.hi);
            return (0..=6).map(|at| self.lo + step * f64::from(at)).filter(|tick| *tick <= self.hi).collect();
        }
        let roomy = (self.to - self.from) / (self.hi / self.lo).log10() > 85.0;
        steps(self.lo, self.hi).into_iter().filter(|tick| roomy || tick.log10().fract().abs() < 1e-9).collect()
    }

    /// A broken vertical line with a label above the plot, if it is within the axis.
    fn mark(&self, value: f64, label: &str, bottom: f64) -> String {
        if !(self.lo..=self.hi).contains(&value) {
            return String::new();
        }
        let (x, half) = (self.at(value), 3.4 * label.chars().count() as f64);
        let line = format!("<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        line + &text("mid soft", x.clamp(self.from + half, self.to - half), TOP - 6.0, label)
    }
}

/// 1, 2 and 5 times powers of ten between two numbers.
fn steps(lo: f64, hi: f64) -> Vec<f64> {
    let numbers = (-6..=9).flat_map(|power| ["1", "2", "5"].map(|digit| format!("{digit}e{power}").parse().ok()));
    numbers.flatten().filter(|number| (lo..=hi).contains(number)).collect()
}

fn sorted(chapter: &Chapter, score: fn(&Row) -> f64) -> Vec<&Row> {
    let mut rows: Vec<&Row> = chapter.rows.iter().collect();
    rows.sort_by(|a, b| score(b).total_cmp(&score(a)));
    rows
}

/// The first and the last of the places that we share with our equals.
fn rank(chapter: &Chapter, score: fn(&Row) -> f64) -> Option<(usize, usize)> {
    let ours = score(chapter.rows.iter().find(|row| row.policy == OURS)?);
    let count = |than: fn(&f64, &f64) -> bool| chapter.rows.iter().filter(|row| than(&score(row), &ours)).count();
    Some((1 + count(f64::gt), count(f64::ge)))
}

/// More is better, what is no number is worst; to 0.01 %, as the tables show it.
fn by_goodput(row: &Row) -> f64 {
    (row.goodput * 1e4).round().max(f64::NEG_INFINITY)
}

/// Likewise; to 1 ms.
fn by_p99(row: &Row) -> f64 {
    (row.ttft_p99 * -1e3).round().max(f64::NEG_INFINITY)
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.2}", share * 100.0) } else { "–".into() }
}

fn figure(value: f64) -> String {
    let digits = [0.9995, 9.995, 99.95].iter().filter(|limit| value.abs() < **limit).count();
    if value.is_finite() { format!("{value:.digits$}") } else { ["∞", "–"][usize::from(value.is_nan())].into() }
}

fn short(value: f64) -> String {
    if value.is_finite() { ((value * 1e3).round() / 1e3).to_string() } else { "–".into() }
}

/// Text with the characters replaced that mean something in HTML.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

fn text(class: &str, x: f64, y: f64, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(content))
}

fn rect(class: &str, x: f64, y: f64, width: f64, height: f64) -> String {
    let width = width.max(0.0);
    format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n")
}

fn svg(title: &str, body: &str) -> String {
    let (heading, label) = (text("title", 4.0, 14.0, title), escape(title));
    let frame = format!("viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\"");
    format!("<svg class=\"chart\" {frame}>\n{heading}{body}</svg>\n")
}

/// The tones stay apart in simulated colour blindness (Machado, OKLab); ours is the only blue.
const STYLE: &str = "\
:root{color-scheme:light dark;--page:#fff;--ink:#1c2530;--soft:#5b6673;--rule:#d9dee4;--us:#e4f0fa;--ours:#0072b2;
--bar:#b3bcc6;--fault:#faeed3;--t0:#a42a53;--t1:#d77700;--t2:#b27de6;--t3:#491d7e;--t4:#04a974;--t5:#004109}
@media (prefers-color-scheme:dark){:root{--page:#14181d;--ink:#eee;--soft:#aab;--rule:#345;--us:#14304a;--ours:#56b4e9;
--bar:#5a6673;--fault:#3d3118;--t0:#db76aa;--t1:#dab504;--t2:#726dc4;--t3:#b55c12;--t4:#3ee5a9;--t5:#228c6b}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,'DejaVu Sans',sans-serif}
main{max-width:1240px;margin:0 auto;padding:1rem}section{border-top:1px solid var(--rule);margin-top:2.5rem}
p{max-width:75ch}h2{font-size:1.2rem}a{color:var(--ours)}code{overflow-wrap:anywhere}.scroll{overflow-x:auto}
.soft{color:var(--soft);fill:var(--soft);font-weight:normal}thead th{color:var(--soft);white-space:normal}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;text-align:right}
th,td{padding:.2rem .6rem;border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:bottom}
th:first-child{text-align:left;position:sticky;left:0;background:var(--page)}tbody th{font-weight:normal}
tr.fallway>*{background:var(--us);font-weight:bold}tr.oracle{font-style:italic}
.chart{width:100%;max-width:480px;font-size:11px;fill:var(--ink)}g.fallway{font-weight:bold}.fault{fill:var(--fault)}
.title{font-size:12.5px;font-weight:bold}.mid{text-anchor:middle}.end{text-anchor:end}.grid{stroke:var(--rule)}
.mark{stroke:var(--ink);stroke-dasharray:5 3}.bar{fill:var(--bar)}.fallway .bar{fill:var(--ours)}
.charts{display:grid;gap:1.5rem;margin-top:1.2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
.line{fill:none;stroke:var(--c,var(--soft));stroke-dasharray:var(--dash,none);stroke-width:1.5}
.line.fallway{stroke-width:3.2;stroke-linejoin:round}.fallway{--c:var(--ours)}.oracle{--c:var(--ink);--dash:2 2.5}
.least_in_flight,.p2c{--c:var(--t0)}.round_robin,.weighted_random{--c:var(--t1)}.litellm,.lmetric{--c:var(--t2)}
.peak_ewma,.sglang{--c:var(--t3)}.prequal,.naive_retries{--c:var(--t4)}.llm_d,.random{--c:var(--t5)}
.envoy_priority,.global_fifo{--c:var(--t1)}.grpc_priority{--c:var(--t4)}
.p2c,.weighted_random,.lmetric,.sglang,.naive_retries,.random,.nearest_region{--dash:7 3}
.region-0{--c:var(--t0)}.region-1{--c:var(--t4)}.region-2{--c:var(--t2)}.region-3{--c:var(--t1)}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &'static str, p99: f64, points: &[(f64, f64)]) -> Row {
        let (goodput, recover, cdf, timeline) = (p99 / 10.0, Some(p99), points.to_vec(), points.to_vec());
        let [ttft_p50, ttft_p90, ttft_p99, attempts, wasted] = [p99; 5];
        let (critical, fullest, flaps) = (Some(p99), Some(p99), None);
        let regions = vec![points.to_vec(), points.to_vec()];
        Row {
            policy,
            goodput,
            ttft_p50,
            ttft_p90,
            ttft_p99,
            attempts,
            wasted,
            recover,
            critical,
            others: critical,
            jain: None,
            fullest,
            flaps,
            cdf,
            timeline,
            regions,
        }
    }

    fn chapter(rows: Vec<Row>, oracle: Option<Row>) -> Chapter {
        let windows = vec![(1.0, 2.0), (f64::NAN, 3.0)];
        let regions = vec!["eu".to_owned(), "<us>".to_owned()];
        Chapter {
            scenario: "S0",
            title: "a < b",
            variant: "",
            routers: 1,
            load: 0.6,
            slo: 10.0,
            windows,
            regions,
            rows,
            oracle,
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a href=\"x\">R&D's</a>"), "&lt;a href=&quot;x&quot;&gt;R&amp;D&#39;s&lt;/a&gt;");
    }

    #[test]
    fn what_is_no_number_draws_nothing() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let odd = [(nan, 0.5), (1.0, nan), (inf, 1.0), (-inf, -inf), (0.0, 0.0), (1e300, -1e300)];
        for points in [&odd[..], &odd[4..5], &[]] {
            for bound in [nan, inf, 0.0, 1e-9, 1e300, 1.0] {
                let rows = [nan, inf, -inf, 0.0, -1.0, 1e300, 3.0].map(|p99| row(OURS, p99, points));
                let full = chapter(rows.into(), Some(row("oracle", bound, points)));
                let page = render(&[full, chapter(Vec::new(), None)], &[], nan);
                assert!(!page.contains("NaN") && !page.contains("inf\"") && !page.contains("inf "));
            }
        }
    }

    #[test]
    fn equals_share_places() {
        let chapter = chapter(vec![row("p2c", 2.0, &[]), row(OURS, 3.0, &[]), row("random", 3.0, &[])], None);
        assert_eq!((rank(&chapter, by_p99), rank(&chapter, by_goodput)), (Some((2, 3)), Some((1, 2))));
        assert!(summary(&[chapter]).contains("<td>1.50</td>"));
    }
}
