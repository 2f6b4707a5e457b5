//! How a message and a conversation look in Redis: text with a one-line head that the scripts can read and change.
//! It must not know where they are stored.
//!
//! A message is three lines: `<index> <branch> <parent or -> <status letter>`, then what never changes, then what the end of the
//! answer replaces. Names are one letter and what the key says is left out, since there are many messages.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::backend::{Error, Result};
use crate::model::{Conversation, ConversationId, Failure, Message, MessageId, Options, Role, Status, Time, Timing, Usage};

#[derive(Serialize, Deserialize)]
struct Fixed {
    /// True for a user's.
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    user: bool,
    #[serde(rename = "a")]
    created_at: u64,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    generation: Option<String>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "c", default, skip_serializing_if = "String::is_empty")]
    content: String,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    finish_reason: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// What the scripts call a status.
pub(super) fn status_letter(status: Status) -> &'static str {
    match status {
        Status::Queued => "q",
        Status::Running => "r",
        Status::Completed => "c",
        Status::Cancelled => "x",
        Status::Interrupted => "i",
        Status::Failed => "f",
    }
}

pub(super) fn status_of(letter: &str) -> Result<Status> {
    Ok(match letter {
        "q" => Status::Queued,
        "r" => Status::Running,
        "c" => Status::Completed,
        "x" => Status::Cancelled,
        "i" => Status::Interrupted,
        "f" => Status::Failed,
        _ => return Err(Error::Corrupt("a message has an unknown status".to_owned())),
    })
}

/// The second line of a message's record.
pub(super) fn fixed(message: &Message) -> String {
    let fixed = Fixed {
        user: message.role == Role::User,
        created_at: message.created_at.0,
        generation: message.generation.as_ref().map(|id| keys::short_generation(id).to_owned()),
        model: message.model.clone(),
        options: message.options.clone(),
    };
    json(&fixed)
}

/// The third line of a message's record.
pub(super) fn written(message: &Message) -> String {
    let written = Written {
        content: message.content.clone(),
        reasoning: message.reasoning.clone(),
        finish_reason: message.finish_reason.clone(),
        usage: message.usage,
        timing: message.timing,
        error: message.error.clone(),
    };
    json(&written)
}

/// The third line of an answer whose log was removed, or expired because no AI node ever came.
pub(super) fn lost() -> String {
    let message = "no AI node went on with this answer".to_owned();
    let error = Some(Failure { code: "unavailable".to_owned(), message });
    let content = String::new();
    json(&Written { content, reasoning: None, finish_reason: None, usage: None, timing: None, error })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain fields become JSON")
}

/// Reads a record back.
pub(super) fn message(conversation: &ConversationId, short: &str, record: &str) -> Result<Message> {
    let broken = || Error::Corrupt(format!("the record of message {short} in {conversation}"));
    let mut lines = record.splitn(3, '\n');
    let (head, fixed, written) = (lines.next(), lines.next(), lines.next());
    let (Some(head), Some(fixed), Some(written)) = (head, fixed, written) else { return Err(broken()) };
    let mut head = head.split(' ').skip(2);
    let (Some(parent), Some(status)) = (head.next(), head.next()) else { return Err(broken()) };
    let fixed: Fixed = serde_json::from_str(fixed).map_err(|_| broken())?;
    let written: Written = serde_json::from_str(written).map_err(|_| broken())?;
    Ok(Message {
        id: keys::long_message(conversation, short).ok_or_else(broken)?,
        conversation: conversation.clone(),
        parent: parent_of(conversation, parent)?,
        role: if fixed.user { Role::User } else { Role::Assistant },
        content: written.content,
        reasoning: written.reasoning,
        status: status_of(status)?,
        generation: match fixed.generation {
            Some(short) => Some(keys::long_generation(conversation, &short).ok_or_else(broken)?),
            None => None,
        },
        model: fixed.model,
        options: fixed.options,
        finish_reason: written.finish_reason,
        usage: written.usage,
        timing: written.timing,
        error: written.error,
        created_at: Time(fixed.created_at),
    })
}

fn parent_of(conversation: &ConversationId, short: &str) -> Result<Option<MessageId>> {
    match short {
        "-" => Ok(None),
        _ => keys::long_message(conversation, short)
            .map(Some)
            .ok_or_else(|| Error::Corrupt(format!("a message's parent in {conversation}"))),
    }
}

/// Ids that stand one behind the other.
pub(super) fn split_ids(conversation: &ConversationId, joined: &str) -> Result<Vec<MessageId>> {
    let broken = || Error::Corrupt(format!("a list of children in {conversation}"));
    if !joined.is_ascii() {
        return Err(broken());
    }
    let ids = joined.as_bytes().chunks(16).map(|chunk| String::from_utf8_lossy(chunk));
    ids.map(|short| keys::long_message(conversation, &short).ok_or_else(broken)).collect()
}

/// The fields that [`conversation`] reads, in its order; behind them the number of open generations.
pub(super) const CONVERSATION_FIELDS: [&str; 6] = ["u", "t", "p", "v", "a", "b"];

/// A conversation with the (short) user that it belongs to; `None` when it isn't there.
pub(super) fn conversation(id: &ConversationId, fields: &[Option<String>], open: u64) -> Result<Option<(String, Conversation)>> {
    let field = |at: usize| fields.get(at).and_then(Option::as_deref);
    let Some(user) = field(0) else { return Ok(None) };
    let number = |at: usize| {
        let number = field(at).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Error::Corrupt(format!("the fields of {id}")))
    };
    let conversation = Conversation {
        id: id.clone(),
        title: field(1).unwrap_or_default().to_owned(),
        pinned: field(2) == Some("1"),
        version: number(3)?,
        created_at: Time(number(4)?),
        updated_at: Time(number(5)?),
        generating: open > 0,
    };
    Ok(Some((user.to_owned(), conversation)))
}

/// Above every millisecond until the year 37,000, and far below what a double holds exactly.
const PINNED: u64 = 1 << 50;

/// What [`list_score`] was made of.
pub(super) fn of_list_score(score: f64) -> (bool, Time) {
    let score = score as u64;
    (score & PINNED != 0, Time(score & (PINNED - 1)))
}

/// The place in the user's list: pinned ones first, then the newest.
pub(super) fn list_score(pinned: bool, updated_at: Time) -> f64 {
    let score = (updated_at.0 & (PINNED - 1)) | if pinned { PINNED } else { 0 };
    score as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GenerationId;

    fn sample(c: &ConversationId) -> Message {
        Message {
            id: MessageId::generate(c),
            conversation: c.clone(),
            parent: Some(MessageId::generate(c)),
            role: Role::Assistant,
            content: "dòng một\ndòng hai \"x\"".to_owned(),
            reasoning: Some("a\n\nb".to_owned()),
            status: Status::Failed,
            generation: Some(GenerationId::generate(c)),
            model: Some("demo".to_owned()),
            options: Some(Options { system: Some("s\n".to_owned()), temperature: Some(0.7), max_tokens: Some(9) }),
            finish_reason: Some("stop".to_owned()),
            usage: Some(Usage { input_tokens: 1, output_tokens: 2, estimated: true }),
            timing: Some(Timing { first_token_ms: 3, total_ms: 4 }),
            error: Some(Failure { code: "c".to_owned(), message: "m".to_owned() }),
            created_at: Time(1_763_889_600_123),
        }
    }

    #[test]
    fn a_message_reads_back() {
        let c = ConversationId::generate();
        let sample = sample(&c);
        let parent = keys::short_message(sample.parent.as_ref().unwrap());
        let head = format!("12 3 {parent} {}", status_letter(sample.status));
        let record = format!("{head}\n{}\n{}", fixed(&sample), written(&sample));
        assert_eq!(message(&c, keys::short_message(&sample.id), &record).unwrap(), sample);
        for cut in 0..record.len() {
            if let Some(part) = record.get(..cut) {
                assert!(message(&c, keys::short_message(&sample.id), part).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn every_status_reads_back() {
        use Status::{Cancelled, Completed, Failed, Interrupted, Queued, Running};
        for status in [Queued, Running, Completed, Cancelled, Interrupted, Failed] {
            assert_eq!(status_of(status_letter(status)), Ok(status));
        }
    }

    #[test]
    fn pinned_ones_stand_before_newer_ones() {
        assert!(list_score(true, Time(1)) > list_score(false, Time(4_000_000_000_000)));
        assert!(list_score(true, Time(2)) > list_score(true, Time(1)));
        assert_eq!(of_list_score(list_score(true, Time(7))), (true, Time(7)));
    }

    #[test]
    fn children_split_into_whole_ids() {
        let c = ConversationId::generate();
        let ids = [MessageId::generate(&c), MessageId::generate(&c)];
        let joined: String = ids.iter().map(keys::short_message).collect();
        assert_eq!(split_ids(&c, &joined).unwrap(), ids);
        assert!(split_ids(&c, &joined[..20]).is_err());
        assert!(split_ids(&c, "é").is_err());
    }
}
