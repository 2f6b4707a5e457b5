//! When an answer is given up that its owners do not bring to an end. Pure.

use crate::backend::Claim;
use crate::config::AiConfig;
use crate::model::Failure;

/// Claims without a token, after which the time without one counts as well: this many owners may have had bad luck.
const TRIED_BY: u32 = 2;
/// Owners in all, for each that may fail in a row: one that dies after a few tokens each time makes progress, and never an answer.
const OWNERS_PER_ATTEMPT: u32 = 10;

/// Why it is given up, if it is. A generation whose owners die one after the other may be what kills them. Time alone says nothing: the
/// store may have been away for longer, or every node.
pub(super) fn exhausted(config: &AiConfig, claim: &Claim) -> Option<Failure> {
    given_up(config, claim.attempt, claim.attempts_without_progress, claim.stalled_ms)
}

fn given_up(config: &AiConfig, attempt: u32, barren: u32, stalled_ms: u64) -> Option<Failure> {
    let stalled = barren > TRIED_BY && u128::from(stalled_ms) > config.progress_timeout.as_millis();
    let message = if barren > config.attempts_max || stalled {
        format!("given up after {barren} attempts without progress")
    } else if attempt > config.attempts_max.saturating_mul(OWNERS_PER_ATTEMPT) {
        format!("given up after {attempt} attempts")
    } else {
        return None;
    };
    Some(Failure { code: "attempts_exhausted".to_owned(), message })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{self, Command};

    #[test]
    fn it_ends_by_failures_in_a_row_by_time_and_by_number() {
        let Ok(Command::Run(config)) = config::load(["chatnode"], []) else { panic!("the default configuration") };
        let mut config = config.ai;
        (config.attempts_max, config.progress_timeout) = (3, Duration::from_millis(500));
        let given_up = |attempt, barren, stalled_ms| given_up(&config, attempt, barren, stalled_ms).is_some();
        assert!(!given_up(1, 1, 0) && !given_up(3, 3, 500), "within all limits");
        assert!(given_up(4, 4, 0), "in a row");
        assert!(!given_up(2, 2, 501) && given_up(3, 3, 501), "time counts from the third one on");
        assert!(!given_up(30, 1, 0) && given_up(31, 1, 0), "in all");
    }
}
