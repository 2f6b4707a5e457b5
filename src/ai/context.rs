//! Cuts a history to what a model can hold. Pure: no model, no upstream.

use crate::ai::provider::Turn;
use crate::model::Role;

/// Where a model doesn't say how long its answers get, so much of its window is kept for one, in parts of the whole.
const RESERVE_SHARE: u64 = 4;

/// What every turn costs beside its text: role and separators, in tokens.
const TURN_TOKENS: u64 = 8;

/// Tokens that this text is, rather more than fewer: a token per 3.5 bytes of ASCII, one per 1.5 other characters.
#[must_use]
pub fn estimate_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    (ascii * 2).div_ceil(7) + (other * 2).div_ceil(3)
}

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
    if text.is_empty() { 0 } else { estimate_tokens(text) + TURN_TOKENS }
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
