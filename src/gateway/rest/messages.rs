//! The history of a conversation, and questions asked by REST.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Body, Path, Query, conversation_id, limit};
use crate::backend::{Error, PathEnd, PathItem, PathQuery};
use crate::gateway::allowance::Asker;
use crate::gateway::auth::Caller;
use crate::gateway::desk::Asked;
use crate::gateway::error::Refusal;
use crate::gateway::{Gateway, sse};
use crate::model::{MessageId, UserId};
use crate::protocol::{ErrorBody, HistoryItem, List, PostMessage, Posted, ServerFrame};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paged {
    /// 1 to 200; 50 where none is given.
    limit: Option<usize>,
    /// `next` of the page before: what stands before this message.
    before: Option<String>,
    /// The path ends at this message.
    leaf: Option<String>,
    /// The path goes through this message to the newest leaf below it.
    through: Option<String>,
}

impl Paged {
    fn end(&self) -> Result<PathEnd, Refusal> {
        let id = |text: &String| MessageId::parse(text).map_err(|_| Refusal::not_found());
        Ok(match (&self.before, &self.leaf, &self.through) {
            (Some(before), _, _) => PathEnd::Before(id(before)?),
            (None, Some(leaf), _) => PathEnd::At(id(leaf)?),
            (None, None, Some(through)) => PathEnd::Through(id(through)?),
            (None, None, None) => PathEnd::NewestLeaf,
        })
    }
}

/// The path from the root to a leaf (the newest one where none is named): the newest page first, each page in order.
#[utoipa::path(get, path = "/api/conversations/{id}/messages", params(("id" = String, Path), Paged), responses(
    (status = 200, body = List<HistoryItem>), (status = "default", body = ErrorBody)))]
pub(super) async fn history(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Path(id): Path<String>,
    Query(paged): Query<Paged>,
) -> Result<Json<List<HistoryItem>>, Refusal> {
    let conversation = conversation_id(&id)?;
    gateway.backends.store.conversation(&user, &conversation).await?;
    let query = PathQuery { conversation, end: paged.end()?, limit: limit(paged.limit, 50, 200) };
    let page = gateway.backends.store.path(&query).await?;
    let next = page.items.first().filter(|_| page.more).map(|item| item.message.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for item in page.items {
        items.push(with_text_so_far(&gateway, &user, item).await?);
    }
    Ok(Json(List { items, next }))
}

async fn with_text_so_far(gateway: &Gateway, user: &UserId, item: PathItem) -> Result<HistoryItem, Refusal> {
    let mut item = HistoryItem { message: item.message, siblings: item.siblings, position: None, offset: None };
    let Some(generation) = item.message.generation.clone().filter(|_| item.message.status.is_open()) else { return Ok(item) };
    let transcript = match gateway.hub.transcript(user, &generation).await {
        // One answer that nobody can read must not hide the others.
        Err(Error::Corrupt(_)) => None,
        transcript => transcript?,
    };
    if let Some(transcript) = transcript {
        item.position = Some(transcript.position);
        item.offset = Some(transcript.text.len() as u64);
        item.message.content = transcript.text;
        item.message.reasoning = Some(transcript.reasoning).filter(|text| !text.is_empty());
    }
    Ok(item)
}

/// Asks a question. With `Accept: text/event-stream` the answer's events follow.
#[utoipa::path(post, path = "/api/conversations/{id}/messages", request_body = PostMessage,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "The same key asks once.")),
    responses((status = 202, body = Posted), (status = 200, content_type = "text/event-stream", body = String), (status = "default", body = ErrorBody)))]
pub(super) async fn post(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body<PostMessage>,
) -> Result<Response, Refusal> {
    let request_id = match headers.get("idempotency-key").map(|key| key.to_str()) {
        None => uuid::Uuid::new_v4().to_string(),
        Some(Ok(key)) => key.to_owned(),
        Some(Err(_)) => return Err(Refusal::bad("`Idempotency-Key` is plain text")),
    };
    let asked = Asked {
        request_id: request_id.clone(),
        content: body.content,
        conversation: Some(conversation_id(&id)?.to_string()),
        model: body.model,
        parent: body.parent,
        options: body.options,
    };
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let streams = accepts.flat_map(|accept| accept.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"));
    // First: what is refused was not asked.
    let seat = if streams { Some(sse::seat(&gateway, &asker).await?) } else { None };
    let begun = Instant::now();
    let submitted = gateway.desk.send(&asker, asked).await?;
    if let (Some(seat), Some(generation)) = (seat, submitted.assistant_message.generation.clone()) {
        let accepted = ServerFrame::Accepted {
            request_id,
            conversation: submitted.conversation.id,
            user_message: submitted.user_message.clone(),
            assistant_message: submitted.assistant_message.clone(),
        };
        let asked = Some(begun).filter(|_| !submitted.repeated);
        match sse::answer(&gateway, &caller, seat, generation, None, Some(accepted), asked).await {
            Ok(events) => return Ok(events),
            // It was asked all the same, and its events can be had by its name.
            Err(refusal) => tracing::debug!(?refusal, "an answer could not be followed"),
        }
    }
    let posted = Posted { user_message: submitted.user_message, assistant_message: submitted.assistant_message };
    Ok((StatusCode::ACCEPTED, Json(posted)).into_response())
}
