//! The built-in demonstration model: a real stream of tokens without any model behind it.
//!
//! Deterministic: a token is a pure function of generation, prompt and index, so that whoever knows both can compute
//! the whole answer ([`text`]) and any owner can go on at the exact byte. Knows nothing of HTTP, logs or leases.

mod guide;
mod orders;
mod prose;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::Request;
use super::reply::{Fault, Piece, Pieces, Then, code};
use crate::model::{GenerationId, Time, Usage};
use crate::stamp;
use crate::tokens;

pub use orders::Orders;

/// How many tokens one piece holds at most, so that one answer at full speed leaves room for others.
const BATCH_TOKENS_MAX: usize = 64;
/// How far away a beginning may be that was ordered.
const AWAY_MAX: Duration = Duration::from_mins(1);
/// How late a timer of the runtime may be, which ticks in milliseconds.
const TIMER_ROUGHNESS: Duration = Duration::from_millis(2);

/// The whole text that the model gives to this prompt, unless it is told to fail or is cut by `max_tokens`. Of a stamped
/// one only the indexes can be known before.
#[must_use]
pub fn text(generation: &GenerationId, prompt: &str) -> String {
    let script = Script::new(generation, prompt);
    script.tokens(0, script.len(), |_| 0)
}

/// The same text in its tokens, where it is not a stamped one: at a rate of R a second, each is due 1/R after the one before it.
#[must_use]
pub fn tokens(generation: &GenerationId, prompt: &str) -> Vec<&'static str> {
    let script = Script::new(generation, prompt);
    (0..script.len()).map(|index| script.token(index)).collect()
}

/// The whole reasoning that precedes it; empty unless asked for.
#[must_use]
pub fn reasoning(generation: &GenerationId, prompt: &str) -> String {
    let script = Script::new(generation, prompt);
    (0..script.orders.reasoning_tokens).map(|index| script.thought(index)).collect()
}

/// Answers from byte `keep` of its text on. `None` when `so_far` isn't what it would have said.
pub(super) fn answer(request: &Request, max_tokens: Option<u32>) -> Option<Pieces> {
    let prompt = request.turns.last().map_or("", |turn| turn.content.as_str());
    let script = Script::new(&request.generation, prompt);
    let (first, cut) = script.find(&request.so_far)?;
    let started = !request.so_far.is_empty();
    let tokens_max = max_tokens.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    let input_tokens = request.turns.iter().map(|turn| tokens::estimate(&turn.content)).sum();
    let end = script.len().min(tokens_max).max(first);
    let thoughts = if started { 0 } else { script.orders.reasoning_tokens };
    let player =
        Player { script, first, index: first, cut, end, thoughts, thought: 0, input_tokens, clock: None, left: Left::Play };
    Some(stream::unfold(player, |mut player| async move { player.next().await.map(|item| (item, player)) }).boxed())
}

/// What is said, without the time that it takes.
struct Script {
    seed: u64,
    orders: Orders,
    /// The guide's tokens; empty where prose was ordered.
    guide: Vec<&'static str>,
}

impl Script {
    fn new(generation: &GenerationId, prompt: &str) -> Self {
        let seed = seed(generation, prompt);
        let orders = Orders::read(prompt);
        let guide = if orders.prose_tokens.is_some() { Vec::new() } else { guide::tokens(orders.vietnamese, seed) };
        Self { seed, orders, guide }
    }

    fn len(&self) -> usize {
        self.orders.prose_tokens.unwrap_or(self.guide.len())
    }

    /// The tokens from `first` up to `end`; stamped ones say when they were made.
    fn tokens(&self, first: usize, end: usize, made: impl Fn(usize) -> u64) -> String {
        if !self.orders.stamp {
            return (first..end).map(|index| self.token(index)).collect();
        }
        let mut text = String::with_capacity((end - first) * stamp::BYTES);
        (first..end).for_each(|index| stamp::write(&mut text, index, made(index)));
        text
    }

    fn token(&self, index: usize) -> &'static str {
        match self.orders.prose_tokens {
            Some(_) => prose::token(self.seed, index, self.orders.vietnamese),
            None => self.guide[index],
        }
    }

    fn thought(&self, index: usize) -> &'static str {
        prose::token(!self.seed, index, self.orders.vietnamese)
    }

    /// The first token that `so_far` doesn't wholly hold, and how many bytes of it are there already.
    fn find(&self, so_far: &str) -> Option<(usize, usize)> {
        if self.orders.stamp {
            return stamp::find(so_far).filter(|(first, cut)| *first < self.len() || (*first == self.len() && *cut == 0));
        }
        let mut rest = so_far;
        for index in 0..self.len() {
            let token = self.token(index);
            match rest.strip_prefix(token) {
                Some(behind) => rest = behind,
                None if token.starts_with(rest) => return Some((index, rest.len())),
                None => return None,
            }
        }
        rest.is_empty().then_some((self.len(), 0))
    }
}

/// FNV-1a over both, spread once more: stable over versions and machines, since other owners must agree.
fn seed(generation: &GenerationId, prompt: &str) -> u64 {
    let bytes = generation.as_str().bytes().chain([0]).chain(prompt.bytes());
    prose::spread(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// A script being played.
struct Player {
    script: Script,
    /// Where this owner began.
    first: usize,
    index: usize,
    /// Bytes of the first token that are there already.
    cut: usize,
    end: usize,
    thoughts: usize,
    thought: usize,
    input_tokens: u64,
    /// When the first token was due.
    clock: Option<Instant>,
    left: Left,
}

/// What is still to come after the tokens.
enum Left {
    Play,
    Finish,
    Nothing,
}

impl Player {
    async fn next(&mut self) -> Option<Result<Piece, Fault>> {
        match self.left {
            Left::Nothing => return None,
            Left::Finish => {
                self.left = Left::Nothing;
                let word = if self.end < self.script.len() { "length" } else { "stop" };
                return Some(Ok(Piece::Finish(word.to_owned())));
            }
            Left::Play => {}
        }
        let orders = self.script.orders;
        let clock = match self.clock {
            Some(clock) => clock,
            None => self.begin(&orders).await,
        };
        if self.thought < self.thoughts {
            let upto = self.due(clock, self.thought, self.thoughts).await;
            let piece = (self.thought..upto).map(|index| self.script.thought(index)).collect();
            self.thought = upto;
            return Some(Ok(Piece::Reasoning(piece)));
        }
        let stop = orders.fail_after.map_or(self.end, |after| self.end.min(after));
        if self.index >= stop {
            return Some(self.ended(orders.fail_after.is_some_and(|after| after <= self.index)));
        }
        let done = self.index - self.first + self.thoughts;
        let upto = self.due(clock, done, done + (stop - self.index)).await - done + self.index;
        let now = Time::now_us();
        let mut piece = self.script.tokens(self.index, upto, |index| now - self.late(clock, done + index - self.index));
        piece.drain(..std::mem::take(&mut self.cut));
        self.index = upto;
        Some(Ok(Piece::Text(piece)))
    }

    async fn begin(&mut self, orders: &Orders) -> Instant {
        match orders.silent {
            Some(None) => std::future::pending::<()>().await,
            Some(Some(silence)) => tokio::time::sleep(silence).await,
            None => tokio::time::sleep(orders.delay).await,
        }
        if let Some(at) = orders.at_ms {
            let left = Duration::from_millis(at.saturating_sub(Time::now_us() / 1_000));
            tokio::time::sleep(left.min(AWAY_MAX)).await;
        }
        let clock = Instant::now();
        self.clock = Some(clock);
        clock
    }

    /// Waits until token `done` is due, and answers the token before which all are due: one timer tick may be worth many.
    async fn due(&self, clock: Instant, done: usize, end: usize) -> usize {
        let most = end.min(done + BATCH_TOKENS_MAX);
        let rate = f64::from(self.script.orders.rate);
        if rate == 0.0 {
            tokio::task::coop::consume_budget().await;
            return most;
        }
        #[expect(clippy::cast_precision_loss, reason = "tokens of one answer are far below 2^52")]
        let at = Duration::try_from_secs_f64(done as f64 / rate).unwrap_or(Duration::MAX);
        match clock.checked_add(at) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is then cut to the batch")]
        let due = (clock.elapsed().as_secs_f64() * rate) as usize;
        due.saturating_add(1).clamp(done + 1, most)
    }

    /// Microseconds since this token was due, where that is more than a timer's roughness: a worker that is kept from its
    /// models must not look fast for it.
    fn late(&self, clock: Instant, done: usize) -> u64 {
        let rate = f64::from(self.script.orders.rate);
        #[expect(clippy::cast_precision_loss, reason = "tokens of one answer are far below 2^52")]
        let at = Duration::try_from_secs_f64(done as f64 / rate).unwrap_or(Duration::MAX);
        let late = if rate > 0.0 { clock.elapsed().saturating_sub(at) } else { Duration::ZERO };
        if late < TIMER_ROUGHNESS { 0 } else { u64::try_from(late.as_micros()).unwrap_or(0) }
    }

    fn ended(&mut self, failed: bool) -> Result<Piece, Fault> {
        if failed {
            self.left = Left::Nothing;
            return Err(Fault::new(code::UPSTREAM_ERROR, Then::Stop, "the demonstration model was told to fail"));
        }
        self.left = Left::Finish;
        let output_tokens = (self.index - self.first + self.thoughts) as u64;
        Ok(Piece::Usage(Usage { input_tokens: self.input_tokens, output_tokens, estimated: true }))
    }
}

#[cfg(test)]
mod tests;
