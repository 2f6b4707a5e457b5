//! What an answer may cost, in tokens, before any model has been asked. It must not know who pays.

use crate::backend::{Error, Parent, PathEnd, PathQuery, Store, Submission};
use crate::model::{ConversationId, ModelInfo, Role, UserId};
use crate::tokens;

/// Messages before the question that are looked at: one of them has been counted, almost always.
const LOOK_BACK: usize = 20;

/// What the model reads and, at most, writes. `answer_tokens` is for models and questions that set no longest answer.
pub(super) async fn estimate(
    store: &dyn Store,
    submission: &Submission,
    model: Option<&ModelInfo>,
    answer_tokens: u64,
) -> Result<u64, Error> {
    let options = &submission.options;
    let asked = submission.question.iter().map(|question| question.content.as_str()).chain(options.system.as_deref());
    let asked: u64 = asked.map(|text| tokens::estimate(text) + tokens::TURN).sum();
    let end = match &submission.parent {
        Parent::NewestLeaf if submission.create.is_some() => None,
        Parent::NewestLeaf => Some(PathEnd::NewestLeaf),
        Parent::Root => None,
        Parent::Of(message) => Some(PathEnd::At(message.clone())),
    };
    let before = match end {
        Some(end) => history(store, &submission.user, &submission.conversation, end, answer_tokens).await?,
        None => 0,
    };
    let read = asked.saturating_add(before);
    // A longer history is cut.
    let read = model.and_then(|model| model.context_tokens).map_or(read, |window| read.min(window));
    let longest = model.and_then(|model| model.longest_answer(options.max_tokens)).or(options.max_tokens);
    Ok(read.saturating_add(longest.map_or(answer_tokens, u64::from)))
}

/// What a model has to read before the question: what the newest answer that was counted cost, and what came after it.
async fn history(
    store: &dyn Store,
    user: &UserId,
    conversation: &ConversationId,
    end: PathEnd,
    answer_tokens: u64,
) -> Result<u64, Error> {
    // Nobody may learn from a refusal how long somebody else's conversation is.
    match store.conversation(user, conversation).await {
        Err(Error::NotFound) => return Ok(0),
        state => state?,
    };
    let page = match store.path(&PathQuery { conversation: conversation.clone(), end, limit: LOOK_BACK }).await {
        Err(Error::NotFound) => return Ok(0),
        page => page?,
    };
    let (mut seen, mut counted) = (0_u64, None);
    for item in page.items.iter().rev() {
        let message = &item.message;
        if let (None, Some(usage)) = (counted, message.usage) {
            counted = Some(seen.saturating_add(usage.input_tokens).saturating_add(usage.output_tokens));
        }
        seen += match message.role {
            // What it will have said is part of the question's history.
            Role::Assistant if message.status.is_open() => answer_tokens,
            _ => tokens::estimate(&message.content) + tokens::TURN,
        };
    }
    // An imported conversation may say anything of itself.
    Ok(counted.unwrap_or_default().max(seen))
}
