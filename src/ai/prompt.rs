//! What a model is given as context: the path from the root to the question.

use super::provider::Turn;
use crate::backend::{Backends, Error, PathEnd, PathQuery};
use crate::log::Transcript;
use crate::model::{GenerationId, Message, MessageId, Position, Role};

/// Bytes of history that are read at all; models' windows are far smaller, and the newest turns come first.
const HISTORY_BYTES_MAX: usize = 8 * 1024 * 1024;
const PAGE: usize = 100;
const LOG_PAGE_BYTES: usize = 1024 * 1024;

/// The turns before this answer, oldest first; the last one is the question.
pub(super) async fn turns(backends: &Backends, answer: &Message) -> Result<Vec<Turn>, Error> {
    let Some(question) = &answer.parent else { return Ok(Vec::new()) };
    let mut newest_first: Vec<Turn> = Vec::new();
    let mut bytes = 0;
    let mut end = PathEnd::At(question.clone());
    loop {
        let query = PathQuery { conversation: answer.conversation.clone(), end, limit: PAGE };
        let page = backends.store.path(&query).await?;
        let oldest: Option<MessageId> = page.items.first().map(|item| item.message.id.clone());
        for item in page.items.into_iter().rev() {
            let content = content(backends, item.message.clone()).await?;
            bytes += content.len();
            if !content.is_empty() {
                newest_first.push(Turn { role: item.message.role, content });
            }
        }
        match oldest.filter(|_| page.more && bytes < HISTORY_BYTES_MAX) {
            Some(oldest) => end = PathEnd::Before(oldest),
            None => break,
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// A message's text; of an answer that is still being written, the text so far.
async fn content(backends: &Backends, message: Message) -> Result<String, Error> {
    match message.generation {
        Some(generation) if message.role == Role::Assistant && message.status.is_open() => so_far(backends, &generation).await,
        _ => Ok(message.content),
    }
}

async fn so_far(backends: &Backends, generation: &GenerationId) -> Result<String, Error> {
    let mut transcript = Transcript::default();
    loop {
        let page = match backends.generations.read(generation, transcript.position, LOG_PAGE_BYTES).await {
            Err(Error::Gone) => return Ok(transcript.text),
            page => page?,
        };
        let before: Position = transcript.position;
        for (position, entry) in &page.entries {
            transcript.apply(*position, entry).map_err(|broken| Error::Corrupt(broken.to_string()))?;
        }
        if transcript.position == before || transcript.position >= page.tail {
            return Ok(transcript.text);
        }
    }
}
