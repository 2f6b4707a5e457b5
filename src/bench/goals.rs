//! What the project wants to reach on a machine of two cores that everything shares, the bench included.

use super::outcome::Outcome;

/// A goal of one figure of one outcome. `p50` and `p99` are of its latency, in milliseconds.
struct Goal {
    outcome: &'static str,
    figure: &'static str,
    least: f64,
    most: f64,
}

const NONE: f64 = f64::INFINITY;

const fn most(outcome: &'static str, figure: &'static str, most: f64) -> Goal {
    Goal { outcome, figure, least: 0.0, most }
}

const fn least(outcome: &'static str, figure: &'static str, least: f64) -> Goal {
    Goal { outcome, figure, least, most: NONE }
}

const GOALS: [Goal; 20] = [
    most("connect", "p50", 1.0),
    most("connect", "p99", 5.0),
    most("send", "p50", 1.5),
    most("send", "p99", 5.0),
    most("delivery", "p50", 0.6),
    most("delivery", "p99", 4.0),
    most("history of 10000", "p50", 2.0),
    most("history of 10000", "p99", 10.0),
    most("history of 10000", "p50, of the shorter one's", 1.5),
    least("tokens", "tokens", 100_000.0),
    least("tokens", "of the lock's", 8.0),
    least("fanout", "of the bare", 60.0),
    most("idle", "a connection", 12.0),
    most("first-token, added", "p50", 1.5),
    most("first-token, added", "p99", 8.0),
    most("cancel", "p50", 10.0),
    most("cancel", "p99", 100.0),
    most("scale", "cost", 1.5),
    most("history of 100", "p50", 2.0),
    most("history of 100", "p99", 10.0),
];

/// The goal of a figure in words, and whether it is reached.
pub(super) fn of(outcome: &Outcome, figure: &str, value: f64) -> Option<(String, bool)> {
    let goal = GOALS.iter().find(|goal| goal.outcome == outcome.name && goal.figure == figure)?;
    match (goal.least > 0.0, goal.most.is_finite()) {
        (true, _) => Some((format!("≥ {}", goal.least), value >= goal.least)),
        (false, true) => Some((format!("≤ {}", goal.most), value <= goal.most)),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::histogram;

    #[test]
    fn goals_are_met_or_missed() {
        let outcome = Outcome::new("connect", "", &histogram());
        assert_eq!(of(&outcome, "p50", 1.0), Some(("≤ 1".to_owned(), true)));
        assert_eq!(of(&outcome, "p99", 5.1), Some(("≤ 5".to_owned(), false)));
        assert_eq!(of(&outcome, "p999", 1.0), None);
        let tokens = Outcome::new("tokens", "", &histogram());
        assert_eq!(of(&tokens, "tokens", 99_999.0), Some(("≥ 100000".to_owned(), false)));
    }
}
