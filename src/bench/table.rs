//! A report as text for a terminal. Must not know how it was measured.

use std::fmt::Write;

use super::outcome::Outcome;
use super::{Report, goals};

const HEAD: [&str; 6] = ["", "p50", "p90", "p99", "p99.9", "max"];

pub(super) fn text(report: &Report, show_goals: bool) -> String {
    let mut text = format!(
        "chatnode {} bench, {}, {} gateways, {} s each; latencies in milliseconds from when each arrival was due\n\n",
        report.version, report.at, report.gateways, report.seconds
    );
    let width = report.outcomes.iter().map(|outcome| outcome.name.chars().count()).max().unwrap_or(0);
    let head = HEAD.map(|name| format!("{name:>8}")).concat();
    let _ = writeln!(text, "{:width$}{}", "", head.get(8..).unwrap_or_default());
    for outcome in &report.outcomes {
        row(&mut text, outcome, width);
    }
    if show_goals {
        goals_of(&mut text, &report.outcomes);
    }
    text
}

fn row(text: &mut String, outcome: &Outcome, width: usize) {
    let _ = write!(text, "{:width$}", outcome.name);
    if let Some(latency) = &outcome.latency {
        for value in [latency.p50, latency.p90, latency.p99, latency.p999, latency.max] {
            let _ = write!(text, "{:>8}", number(value));
        }
        let _ = write!(text, "  {} times", latency.count);
    }
    for figure in &outcome.figures {
        let _ = write!(text, "  {} {} {}", figure.name, number(figure.value), figure.unit);
    }
    let _ = writeln!(text, "\n{:width$}  {}", "", outcome.what);
}

fn goals_of(text: &mut String, outcomes: &[Outcome]) {
    let _ = writeln!(text, "\n{:44}{:>12}  {:14}", "", "figure", "goal");
    for outcome in outcomes {
        let latency = outcome.latency.iter().flat_map(|latency| [("p50", latency.p50), ("p99", latency.p99)]);
        let figures = outcome.figures.iter().map(|figure| (figure.name, figure.value));
        for (name, value) in latency.chain(figures) {
            if let Some((goal, reached)) = goals::of(outcome, name, value) {
                let reached = if reached { "" } else { "missed" };
                let _ = writeln!(text, "{:44}{:>12}  {goal:14}{reached}", format!("{}: {name}", outcome.name), number(value));
            }
        }
    }
}

/// As many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
