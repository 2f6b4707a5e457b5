//! Cuts a history to what a model can hold. Pure: no model, no upstream.

use crate::ai::provider::Turn;
use crate::model::Role;
use crate::tokens;

/// Where a model doesn't say how long its answers get, so much of its window is kept for one, in parts of the whole.
const RESERVE_SHARE: u64 = 4;

/// Tokens that question and history may have together.
#[must_use]
pub fn budget(context_tokens: u64, max_tokens: Option<u32>) -> u64 {
    let most = context_tokens / 2;
    let reserve = max_tokens.map_or(context_tokens / RESERVE_SHARE, u64::from).min(most);
    context_tokens - reserve
}

/// The turns to send: merged so that user and assistant alternate from a user's turn on, and cut from the oldest on
/// until they fit beside the system prompt and the text so far. The last question stays, whatever it weighs.
#[must_use]
pub fn fit(system: Option<&str>, turns: &[Turn], so_far: &str, budget: Option<u64>) -> Vec<Turn> {
    let merged = merge(turns);
    let Some(budget) = budget else { return from_user(merged, 0) };
    let mut left = budget.saturating_sub(cost(system.unwrap_or_default())).saturating_sub(cost(so_far));
    let mut first = merged.len();
    for (index, turn) in merged.iter().enumerate().rev() {
        let cost = cost(&turn.content);
        if cost > left && index + 1 < merged.len() {
            break;
        }
        left = left.saturating_sub(cost);
        first = index;
    }
    from_user(merged, first)
}

fn cost(text: &str) -> u64 {
    if text.is_empty() { 0 } else { tokens::estimate(text) + tokens::TURN }
}

/// Consecutive turns of one role become one, and empty ones (an answer that failed before its first token) go:
/// upstreams refuse both.
fn merge(turns: &[Turn]) -> Vec<Turn> {
    let mut merged: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns.iter().filter(|turn| !turn.content.trim().is_empty()) {
        match merged.last_mut() {
            Some(last) if last.role == turn.role => {
                last.content.push_str("\n\n");
                last.content.push_str(&turn.content);
            }
            _ => merged.push(turn.clone()),
        }
    }
    merged
}

/// What is left begins with a question: an answer without its question misleads, and some upstreams refuse it.
fn from_user(mut turns: Vec<Turn>, first: usize) -> Vec<Turn> {
    let user = turns.iter().skip(first).position(|turn| turn.role == Role::User).map_or(turns.len(), |offset| first + offset);
    turns.drain(..user);
    turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(role: Role, content: &str) -> Turn {
        Turn { role, content: content.to_owned() }
    }

    fn user(content: &str) -> Turn {
        turn(Role::User, content)
    }

    fn assistant(content: &str) -> Turn {
        turn(Role::Assistant, content)
    }

    #[test]
    fn without_a_budget_all_of_it_stays() {
        let turns = [user("one"), assistant("two"), user("three")];
        assert_eq!(fit(None, &turns, "", None), turns);
        assert_eq!(fit(None, &[], "", Some(10)), []);
    }

    #[test]
    fn the_newest_turns_stay_and_a_question_comes_first() {
        let long = "word ".repeat(70);
        let turns = [user(&long), assistant(&long), user(&long), assistant(&long), user("last")];
        assert_eq!(fit(None, &turns, "", Some(10_000)).len(), 5);
        assert_eq!(fit(None, &turns, "", Some(240)), turns[2..]);
        // Room for one more, but that would be an answer without its question.
        assert_eq!(fit(None, &turns, "", Some(130)), turns[4..]);
        assert_eq!(fit(Some(&long), &turns, "", Some(240)), turns[4..]);
        assert_eq!(fit(None, &turns, &long, Some(240)), turns[4..]);
    }

    #[test]
    fn the_last_question_stays_whatever_it_weighs() {
        let long = "chữ ".repeat(5_000);
        assert_eq!(fit(None, &[user("a"), assistant("b"), user(&long)], "", Some(5)), [user(&long)]);
    }

    #[test]
    fn roles_alternate_and_empty_answers_go() {
        let turns = [assistant("greeting"), user("a"), assistant(" "), user("b"), assistant("c"), assistant("d"), user("e")];
        assert_eq!(fit(None, &turns, "", None), [user("a\n\nb"), assistant("c\n\nd"), user("e")]);
    }

    #[test]
    fn an_answer_gets_its_share_of_the_window() {
        assert_eq!(budget(8_192, None), 6_144);
        assert_eq!(budget(8_192, Some(1_000)), 7_192);
        assert_eq!(budget(8_192, Some(1_000_000)), 4_096);
    }

    proptest! {
        #[test]
        fn what_is_left_is_a_fitting_end(sizes in prop::collection::vec((any::<bool>(), 0_usize..200), 0..20), budget in 0_u64..400) {
            let turns: Vec<Turn> = sizes
                .iter()
                .map(|(asked, size)| turn(if *asked { Role::User } else { Role::Assistant }, &"x".repeat(*size)))
                .collect();
            let all = fit(None, &turns, "", None);
            let left = fit(None, &turns, "", Some(budget));
            prop_assert!(all.ends_with(&left));
            prop_assert!(left.windows(2).all(|two| two[0].role != two[1].role));
            if let Some(first) = left.first() {
                prop_assert_eq!(first.role, Role::User);
            }
            if left.len() > 1 {
                prop_assert!(left.iter().map(|turn| cost(&turn.content)).sum::<u64>() <= budget);
            }
            if all.last().is_some_and(|turn| turn.role == Role::User) {
                prop_assert_eq!(left.last(), all.last());
            }
        }
    }
}
