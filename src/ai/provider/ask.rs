//! What is put to an upstream, in no upstream's words: the fitted history, and on what rung a text is gone on from. Pure.

use super::seam::{Seam, safe_boundary, word_boundary};
use super::{Request, Turn};
use crate::ai::context;
use crate::log::Rung;
use crate::model::Role;
use crate::tokens;

/// The turn that asks for the rest where a text can't be handed over as the upstream's own.
const CONTINUE: &str = "Your answer above was cut off. Continue it exactly where it stops: begin with the very next word, repeat \
nothing, and don't comment on the interruption. Stay in the language of the answer.";

/// Tokens that a continued answer may have at least, however long it is already.
const REST_TOKENS_MIN: u64 = 16;

/// Bytes below which nothing is worth going on from: so short an echo couldn't be told from a repetition.
const KEEP_BYTES_MIN: usize = 24;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    pub system: Option<String>,
    /// Alternating, a user's first; an assistant's last if `prefill`.
    pub messages: Vec<Said>,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
    pub context_tokens: Option<u64>,
    /// The last message is the beginning of the answer.
    pub prefill: bool,
    /// Bytes of the text so far that stand.
    pub keep: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub role: &'static str,
    pub content: String,
}

/// How much of `so_far` can stand on this rung; `None` when the rung is of no use for it.
#[must_use]
pub(super) fn keep(rung: Rung, so_far: &str) -> Option<usize> {
    let keep = match rung {
        Rung::Start | Rung::Restart => return Some(0),
        Rung::Prefill => safe_boundary(so_far),
        Rung::Continue => word_boundary(so_far),
    };
    (keep >= KEEP_BYTES_MIN).then_some(keep)
}

impl Ask {
    /// What to ask on this rung, with `keep` bytes of the text so far; limits are those of the model.
    #[must_use]
    pub(super) fn new(request: &Request, rung: Rung, keep: usize, context_tokens: Option<u64>, max_tokens: Option<u32>) -> Self {
        let kept = &request.so_far[..keep];
        let system = request.options.system.clone().filter(|system| !system.trim().is_empty());
        let max_tokens = request.options.max_tokens.or(max_tokens);
        let budget = context_tokens.map(|window| context::budget(window, max_tokens));
        let turns = context::fit(system.as_deref(), &request.turns, kept, budget);
        let mut messages: Vec<Said> = turns.into_iter().map(Said::from).collect();
        if keep > 0 {
            messages.push(Said { role: "assistant", content: kept.to_owned() });
        }
        if rung == Rung::Continue {
            messages.push(Said { role: "user", content: CONTINUE.to_owned() });
        }
        Self {
            system,
            messages,
            temperature: request.options.temperature,
            max_tokens: max_tokens.map(|max| rest(max, kept)),
            context_tokens,
            prefill: rung == Rung::Prefill,
            keep,
        }
    }

    /// Our own count of what the upstream has to read.
    #[must_use]
    pub(super) fn input_tokens(&self) -> u64 {
        let texts = self.messages.iter().map(|said| said.content.as_str()).chain(self.system.as_deref());
        texts.map(tokens::estimate).sum()
    }

    /// What to do where the old text meets the new.
    #[must_use]
    pub(super) fn seam(request: &Request, rung: Rung, keep: usize) -> Seam {
        match rung {
            Rung::Start | Rung::Restart => Seam::none(),
            Rung::Prefill => Seam::echo(&request.so_far[..keep]),
            Rung::Continue => Seam::overlap(&request.so_far[..keep]),
        }
    }
}

impl From<Turn> for Said {
    fn from(turn: Turn) -> Self {
        let role = match turn.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        Self { role, content: turn.content }
    }
}

fn rest(max: u32, kept: &str) -> u32 {
    let left = u64::from(max).saturating_sub(tokens::estimate(kept));
    u32::try_from(left.max(REST_TOKENS_MIN)).unwrap_or(max).min(max)
}
