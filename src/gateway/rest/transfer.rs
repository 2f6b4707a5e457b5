//! Taking conversations elsewhere and back.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::{Body, Path, Query, conversation_id};
use crate::backend::{Error, PathEnd, PathPage, PathQuery};
use crate::event::Happened;
use crate::gateway::Gateway;
use crate::gateway::error::Refusal;
use crate::model::{Conversation, ConversationId, Message, MessageId, Role, Status, Time, UserId};
use crate::protocol::{ErrorBody, ErrorCode, Export, Imported};

const FORMAT: &str = "chatnode.v1";
/// Messages that one file may hold.
const MESSAGES_MAX: usize = 20_000;
/// Messages of an export that are held at once.
const PAGE: usize = 8;
/// How long an import waits for others, and when it may try again.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const TURN_RETRY_MS: u64 = 5_000;

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Markdown,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct As {
    /// `json` (the whole tree, the default) or `markdown` (the path to the newest leaf).
    #[serde(default)]
    #[param(inline, required = false)]
    format: Format,
}

/// The whole conversation as a file.
#[utoipa::path(get, path = "/api/conversations/{id}/export", params(("id" = String, Path), As), responses(
    (status = 200, content((Export = "application/json"), (String = "text/markdown"))), (status = "default", body = ErrorBody)))]
pub(super) async fn export(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Path(id): Path<String>,
    Query(query): Query<As>,
) -> Result<Response, Refusal> {
    let id = conversation_id(&id)?;
    let conversation = gateway.backends.store.conversation(&user, &id).await?.conversation;
    let pages = Pages { gateway: gateway.clone(), id: id.clone() };
    let (kind, name, mut parts) = match query.format {
        Format::Json => ("application/json", format!("{id}.json"), json(pages, &conversation)?.boxed()),
        Format::Markdown => {
            let ends = pages.path_ends().await?;
            ("text/markdown; charset=utf-8", format!("{id}.md"), markdown(pages, &conversation, ends).boxed())
        }
    };
    // What fails before anything was said is told; later it ends the connection, so that half a file isn't taken for a whole one.
    let begin: Vec<String> = parts.by_ref().take(2).try_collect().await?;
    let failed = move |error: &Error| tracing::warn!(conversation = %id, %error, "an export broke off");
    let body = axum::body::Body::from_stream(stream::iter(begin).map(Ok).chain(parts.inspect_err(failed)));
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)], body).into_response())
}

/// Reads a conversation a few messages at a time, in turn with other exports.
struct Pages {
    gateway: Gateway,
    id: ConversationId,
}

impl Pages {
    async fn tree(&self, after: Option<&MessageId>) -> Result<Vec<Message>, Error> {
        let _turn = self.turn().await?;
        self.gateway.backends.store.messages(&self.id, after, PAGE).await
    }

    async fn path(&self, end: PathEnd) -> Result<PathPage, Error> {
        let _turn = self.turn().await?;
        self.gateway.backends.store.path(&PathQuery { conversation: self.id.clone(), end, limit: PAGE }).await
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.gateway.exports.acquire().await.map_err(|_| Error::Unavailable("the node is stopping".to_owned()))
    }

    /// Where the pages of the path to the newest leaf of now end, the oldest first: it can only be read from its leaf on.
    async fn path_ends(&self) -> Result<Vec<PathEnd>, Error> {
        let mut ends = Vec::new();
        let mut page = self.path(PathEnd::NewestLeaf).await?;
        ends.extend(page.items.last().map(|leaf| PathEnd::At(leaf.message.id.clone())));
        while let Some(oldest) = page.items.first().filter(|_| page.more) {
            let end = PathEnd::Before(oldest.message.id.clone());
            page = self.path(end.clone()).await?;
            ends.push(end);
        }
        ends.reverse();
        Ok(ends)
    }
}

/// The whole tree as an [`Export`], a message at a time: as fast as it is read, and never held whole.
fn json(pages: Pages, conversation: &Conversation) -> Result<impl Stream<Item = Result<String, Error>> + use<>, Refusal> {
    let conversation = serde_json::to_string(conversation).map_err(|_| Refusal::bad("this conversation can't be exported"))?;
    let head = format!("{{\"format\":\"{FORMAT}\",\"conversation\":{conversation},\"messages\":[");
    let found = stream::try_unfold((pages, Some(None)), |(pages, after): (Pages, Option<Option<MessageId>>)| async move {
        let Some(after) = after else { return Ok::<_, Error>(None) };
        let page = pages.tree(after.as_ref()).await?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|last| Some(last.id.clone()));
        Ok(Some((stream::iter(page.into_iter().map(Ok)), (pages, next))))
    });
    let mut mark = "\n";
    let messages = found.try_flatten().map(move |message: Result<Message, Error>| {
        let text = serde_json::to_string(&message?).map_err(|error| Error::Corrupt(error.to_string()))?;
        Ok(std::mem::replace(&mut mark, ",\n").to_owned() + &text)
    });
    Ok(stream::iter([Ok(head)]).chain(messages).chain(stream::iter([Ok("\n]}\n".to_owned())])))
}

/// For people.
fn markdown(pages: Pages, conversation: &Conversation, ends: Vec<PathEnd>) -> impl Stream<Item = Result<String, Error>> + use<> {
    let head = stream::iter([Ok(format!("# {}\n", conversation.title))]);
    let found = stream::try_unfold((pages, ends.into_iter()), |(pages, mut ends)| async move {
        let Some(end) = ends.next() else { return Ok::<_, Error>(None) };
        let page = pages.path(end).await?;
        Ok(Some((stream::iter(page.items.into_iter().map(|item| Ok(section(&item.message)))), (pages, ends))))
    });
    head.chain(found.try_flatten())
}

fn section(message: &Message) -> String {
    let who = match message.role {
        Role::User => "User",
        Role::Assistant => message.model.as_deref().unwrap_or("Assistant"),
    };
    let how = if message.status == Status::Completed { String::new() } else { format!(" ({})", message.status.as_str()) };
    format!("\n## {who}{how} · {}\n\n{}\n", message.created_at, message.content.trim_end())
}

/// An import is held several times over while it is read and stored, so all that are under way may be as large as one. Before the body
/// is read.
pub(super) async fn in_turn(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let most = gateway.config.import_bytes_max;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let share = u32::try_from(length.unwrap_or(most).clamp(1, most).div_ceil(1024)).unwrap_or(u32::MAX);
    match timeout(TURN_WITHIN, gateway.imports.acquire_many(share)).await {
        Ok(Ok(_turn)) => next.run(request).await,
        _ => Refusal::new(ErrorCode::Overloaded, "others are importing; try again").retry_after(TURN_RETRY_MS).into_response(),
    }
}

/// Brings an exported conversation back as a new one of this user.
#[utoipa::path(post, path = "/api/import", request_body = Export, responses(
    (status = 201, body = Imported), (status = "default", body = ErrorBody)))]
pub(super) async fn import(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Body(export): Body<Export>,
) -> Result<(StatusCode, Json<Imported>), Refusal> {
    if export.format != FORMAT {
        return Err(Refusal::bad(format!("`format` is `{FORMAT}`")));
    }
    if export.messages.len() > MESSAGES_MAX {
        return Err(Refusal::new(ErrorCode::TooLarge, format!("a conversation has at most {MESSAGES_MAX} messages")));
    }
    let id = ConversationId::generate();
    let messages = renamed(&id, export.messages)?;
    let title = export.conversation.title.split_whitespace().collect::<Vec<_>>().join(" ");
    let conversation = Conversation {
        id,
        title: title.chars().take(200).collect(),
        pinned: export.conversation.pinned,
        version: 1,
        created_at: export.conversation.created_at,
        updated_at: Time::now(),
        generating: false,
    };
    gateway.backends.store.create(&user, &conversation, &messages).await?;
    gateway.desk.tell(&user, &conversation.id, Happened::ConversationCreated);
    gateway.desk.announce_conversation(&user, conversation.clone()).await;
    Ok((StatusCode::CREATED, Json(Imported { conversation, messages: messages.len() })))
}

/// The same tree under new ids: what was exported may still be here, or be somebody else's.
fn renamed(conversation: &ConversationId, messages: Vec<Message>) -> Result<Vec<Message>, Refusal> {
    let mut names: HashMap<MessageId, MessageId> = HashMap::with_capacity(messages.len());
    let mut renamed = Vec::with_capacity(messages.len());
    for message in messages {
        let id = MessageId::generate(conversation);
        let parent = match &message.parent {
            None => None,
            Some(parent) => match names.get(parent) {
                Some(parent) => Some(parent.clone()),
                None => return Err(Refusal::bad("a message stands before its parent, or its parent is missing")),
            },
        };
        if names.insert(message.id.clone(), id.clone()).is_some() {
            return Err(Refusal::bad("two messages have the same id"));
        }
        // What was being written when it was exported ended there.
        let status = if message.status.is_open() { Status::Interrupted } else { message.status };
        renamed.push(Message { id, parent, conversation: conversation.clone(), generation: None, status, ..message });
    }
    Ok(renamed)
}
