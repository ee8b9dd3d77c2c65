//! Where requests end, region by region, over time.

use super::{Axis, BOTTOM, Chapter, LEFT, OURS, RIGHT, Row, TOP, by_goodput, escape, rect, sorted, svg, text};

/// Ours beside the best other by goodput; nothing in a world of one region.
pub(super) fn charts(chapter: &Chapter) -> String {
    if chapter.regions.len() < 2 {
        return String::new();
    }
    let (ours, others): (Vec<_>, Vec<_>) = sorted(chapter, by_goodput).into_iter().partition(|row| row.policy == OURS);
    let shown = ours.into_iter().chain(others.into_iter().take(1));
    shown.map(|row| chart(chapter, row)).collect()
}

fn chart(chapter: &Chapter, row: &Row) -> String {
    let known = |(at, share): &&(f64, f64)| at.is_finite() && share.is_finite();
    let end = row.regions.iter().flatten().filter(known).map(|(at, _)| at * 1.02).fold(1.0, f64::max);
    let x = Axis { lo: 0.0, hi: end, from: LEFT, to: RIGHT, log: false };
    let y = Axis { lo: 0.0, hi: 100.0, from: BOTTOM, to: TOP, log: false };
    let grid = x.vertical_grid(BOTTOM, "time of arrival, s (shaded: disturbed)");
    let grid = grid + &y.horizontal_grid("requests, %");
    let shade = |&(start, end): &(f64, f64)| rect("fault", x.at(start), TOP, x.at(end) - x.at(start), BOTTOM - TOP);
    let shades: String = chapter.windows.iter().map(shade).collect();
    let curve = |(number, points): (usize, &Vec<(f64, f64)>)| {
        let points =
            points.iter().filter(known).map(|(at, share)| format!("{:.1} {:.1}", x.at(*at), y.at(share * 100.0)));
        let points = points.collect::<Vec<_>>().join(" ");
        format!("<polyline class=\"line region-{number}\" points=\"{points}\"/>\n")
    };
    let curves: String = row.regions.iter().enumerate().map(curve).collect();
    svg(&format!("Where requests end: {}", row.policy), &(shades + &grid + &curves + &legend(chapter)))
}

fn legend(chapter: &Chapter) -> String {
    let entry = |(number, name): (usize, &String)| {
        let (left, top) = (LEFT + 160.0 * (number % 2) as f64, BOTTOM + 50.0 + 16.0 * (number / 2) as f64);
        let stroke = format!(
            "<path class=\"line region-{number}\" d=\"M{left} {}h28\"><title>{}</title></path>",
            top - 4.0,
            escape(name)
        );
        stroke + &text("", left + 34.0, top, name)
    };
    chapter.regions.iter().enumerate().map(entry).collect()
}
