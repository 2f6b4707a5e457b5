//! A report as one HTML file that needs no other: tables, and latency by percentile as SVG. Must not know how it was measured.

use std::fmt::Write;

use super::outcome::{Latency, Outcome};
use super::table::number;
use super::{Report, goals};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c1e21;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}\
th:first-child,td:first-child{text-align:left}small{color:#666}.missed{color:#b00020}svg{width:100%;height:auto}\
figure{margin:2rem 0}path{fill:none;stroke:#1565c0;stroke-width:2}line{stroke:#ddd}text{font-size:11px;fill:#666}\
@media(prefers-color-scheme:dark){body{background:#15181c;color:#e6e6e6}th,td{border-color:#333}line{stroke:#333}small,text{color:#999;fill:#999}path{stroke:#64b5f6}}";

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 25.0;
/// The right end of the plot: 99.99 %.
const NINES_MAX: f64 = 4.0;

pub(super) fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>chatnode bench</title><style>{STYLE}</style>\n<h1>chatnode {} bench</h1>\n<p>{}, {} gateways, {} s each. Latencies in \
milliseconds, counted from when each arrival was due. Every answer was checked: offsets, length, CRC.</p>\n",
        escape(report.version),
        escape(&report.at.to_string()),
        report.gateways,
        report.seconds
    );
    for wrong in &report.wrong {
        let _ = writeln!(page, "<p class=\"missed\">Not right: {}</p>", escape(wrong));
    }
    page += "<table><tr><th>scenario<th>p50<th>p90<th>p99<th>p99.9<th>max<th>figures</tr>\n";
    report.outcomes.iter().for_each(|outcome| row(&mut page, outcome));
    page += "</table>\n";
    for outcome in &report.outcomes {
        if let Some(latency) = outcome.latency.as_ref().filter(|latency| latency.curve.len() > 1) {
            plot(&mut page, outcome, latency);
        }
    }
    page + "</html>\n"
}

fn row(page: &mut String, outcome: &Outcome) {
    let _ = write!(page, "<tr><td>{}<br><small>{}</small>", escape(&outcome.name), escape(&outcome.what));
    let latencies = outcome.latency.as_ref().map(|latency| {
        [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("p999", latency.p999), ("max", latency.max)]
    });
    match latencies {
        Some(latencies) => latencies.iter().for_each(|(name, value)| cell(page, outcome, name, &number(*value), *value)),
        None => *page += "<td><td><td><td><td>",
    }
    *page += "<td>";
    for figure in &outcome.figures {
        let shown = format!("{} {} {}", figure.name, number(figure.value), figure.unit);
        let missed = goals::of(outcome, figure.name, figure.value).is_some_and(|(_, reached)| !reached);
        let _ = write!(page, "<div{}>{}</div>", if missed { " class=\"missed\"" } else { "" }, escape(&shown));
    }
    *page += "</tr>\n";
}

fn cell(page: &mut String, outcome: &Outcome, name: &str, shown: &str, value: f64) {
    match goals::of(outcome, name, value) {
        Some((goal, reached)) => {
            let class = if reached { "" } else { " class=\"missed\"" };
            let _ = write!(page, "<td{class}>{shown}<br><small>{}</small>", escape(&goal));
        }
        None => {
            let _ = write!(page, "<td>{shown}");
        }
    }
}

/// Latency over the number of nines: the tail is what people feel.
fn plot(page: &mut String, outcome: &Outcome, latency: &Latency) {
    let top = latency.max.max(0.001) * 1.05;
    let x = |percentile: f64| {
        let nines = -(1.0 - percentile.min(100.0) / 100.0).max(1e-9).log10();
        LEFT + nines.min(NINES_MAX) / NINES_MAX * (WIDTH - LEFT)
    };
    let y = |ms: f64| (HEIGHT - BOTTOM) * (1.0 - ms / top);
    let _ = write!(page, "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\">", escape(&outcome.name));
    for percentile in [50.0, 90.0, 99.0, 99.9, 99.99] {
        let (at, low) = (x(percentile), HEIGHT - BOTTOM);
        let _ = write!(page, "<line x1=\"{at:.1}\" y1=\"0\" x2=\"{at:.1}\" y2=\"{low}\"/>");
        let _ = write!(page, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{percentile} %</text>", at - 2.0, HEIGHT - 8.0);
    }
    for share in [0.0, 0.5, 1.0] {
        let at = y(latency.max * share);
        let _ = write!(page, "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{WIDTH}\" y2=\"{at:.1}\"/>");
        let _ = write!(page, "<text x=\"0\" y=\"{:.1}\">{} ms</text>", (at + 4.0).max(10.0), number(latency.max * share));
    }
    let points: Vec<String> =
        latency.curve.iter().map(|(percentile, ms)| format!("{:.1} {:.1}", x(*percentile), y(*ms))).collect();
    let _ = writeln!(page, "<path d=\"M{}\"/></svg></figure>", points.join("L"));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::histogram;
    use crate::model::Time;

    #[test]
    fn a_page_stands_alone_and_shows_what_was_wrong() {
        let mut micros = histogram();
        (1..1_000).for_each(|at| micros.saturating_record(at * 10));
        let outcomes = vec![Outcome::new("connect", "a < b", &micros).with("tokens", 7.0, "/s")];
        let wrong = vec!["Send: a gap".to_owned()];
        let report = Report { version: "1", at: Time::now(), gateways: 1, seconds: 1, outcomes, wrong };
        let page = html(&report);
        for part in ["<svg", "<path d=\"M", "a &lt; b", "Not right: Send: a gap", "≤ 5", "tokens 7.00 /s"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("http") && !page.contains("NaN"), "it asks nobody");
    }
}
