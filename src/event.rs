//! What happened to conversations and answers, for programs that are not chatnode: billing, statistics, archives.
//! Never what anybody wrote: no question, no answer, no title. The schema is `docs/events.schema.json`.

use serde::{Deserialize, Serialize};

use crate::model::{ConversationId, GenerationId, Message, MessageId, Status, Time, Timing, Usage, UserId};

/// The version that every event carries. Fields may be added to it; none is renamed or removed.
pub const EVENT_VERSION: u8 = 1;

/// One thing that happened. Whoever takes events more than once tells repeats by their `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    pub version: u8,
    /// `evt_…`, time-ordered, unique.
    pub id: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// The node that saw it.
    pub node: String,
    #[schema(value_type = String)]
    pub user: UserId,
    #[schema(value_type = String)]
    pub conversation: ConversationId,
    #[serde(flatten)]
    pub what: Happened,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event")]
pub enum Happened {
    #[serde(rename = "conversation.created")]
    ConversationCreated,
    #[serde(rename = "conversation.deleted")]
    ConversationDeleted,
    /// A question was taken in.
    #[serde(rename = "generation.queued")]
    Queued(Answer),
    /// The first owner began.
    #[serde(rename = "generation.started")]
    Started(Answer),
    /// Another owner goes on, because the one before died or left.
    #[serde(rename = "generation.taken_over")]
    TakenOver {
        #[serde(flatten)]
        answer: Answer,
        /// 2 for the second owner.
        attempt: u32,
    },
    #[serde(rename = "generation.ended")]
    Ended {
        #[serde(flatten)]
        answer: Answer,
        #[serde(flatten)]
        end: End,
    },
}

/// Which answer it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Answer {
    #[schema(value_type = String)]
    pub generation: GenerationId,
    #[schema(value_type = String)]
    pub message: MessageId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// How an answer ended, and what it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct End {
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// An error code of the protocol, where `status` is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// UTF-8 bytes of its text.
    pub length: u64,
}

impl Event {
    #[must_use]
    pub fn now(node: &str, user: UserId, conversation: ConversationId, what: Happened) -> Self {
        let id = format!("evt_{}", uuid::Uuid::now_v7().simple());
        Self { version: EVENT_VERSION, id, at: Time::now(), node: node.to_owned(), user, conversation, what }
    }
}

impl Happened {
    /// As on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConversationCreated => "conversation.created",
            Self::ConversationDeleted => "conversation.deleted",
            Self::Queued(_) => "generation.queued",
            Self::Started(_) => "generation.started",
            Self::TakenOver { .. } => "generation.taken_over",
            Self::Ended { .. } => "generation.ended",
        }
    }
}

impl Answer {
    /// The answer that this message is or becomes; `None` for a question or an import.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        let generation = message.generation.clone()?;
        Some(Self { generation, message: message.id.clone(), model: message.model.clone() })
    }
}

impl End {
    /// The end of this answer, which is not open any more.
    #[must_use]
    pub fn of_message(message: &Message) -> Self {
        Self {
            status: message.status,
            finish_reason: message.finish_reason.clone(),
            error: message.error.as_ref().map(|failure| failure.code.clone()),
            usage: message.usage,
            timing: message.timing,
            length: message.content.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use utoipa::{PartialSchema, ToSchema};

    use super::*;

    fn events() -> Vec<Event> {
        let conversation = ConversationId::generate();
        let message = MessageId::generate(&conversation);
        let answer = Answer { generation: GenerationId::of(&message), message, model: Some("m".to_owned()) };
        let end = End {
            status: Status::Completed,
            finish_reason: Some("stop".to_owned()),
            error: None,
            usage: Some(Usage { input_tokens: 1, output_tokens: 2, estimated: true }),
            timing: Some(Timing { first_token_ms: 1, total_ms: 2 }),
            length: 7,
        };
        let all = [
            Happened::ConversationCreated,
            Happened::ConversationDeleted,
            Happened::Queued(answer.clone()),
            Happened::Started(answer.clone()),
            Happened::TakenOver { answer: answer.clone(), attempt: 2 },
            Happened::Ended { answer, end },
        ];
        all.map(|what| Event::now("a:1", UserId::generate(), conversation.clone(), what)).into()
    }

    #[test]
    fn every_event_reads_back_under_its_name() {
        for event in events() {
            let json = serde_json::to_value(&event).expect("JSON");
            assert_eq!(json["event"], event.what.name());
            assert_eq!(json["version"], 1);
            assert_eq!(serde_json::from_value::<Event>(json).expect("an event"), event);
        }
    }

    /// `UPDATE=1 cargo test schema` writes it anew.
    #[test]
    fn the_schema_in_the_documents_is_this_one() {
        let mut schemas = vec![("Event".to_owned(), Event::schema())];
        Event::schemas(&mut schemas);
        let schemas: std::collections::BTreeMap<String, _> = schemas.into_iter().collect();
        let document = serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "An event of chatnode",
            "$ref": "#/components/schemas/Event",
            "components": { "schemas": schemas },
        });
        let text = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.schema.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(stored, text, "docs/events.schema.json is stale: UPDATE=1 cargo test schema");
    }
}
