//! Conversations: list, search, create, rename, pin, delete.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;

use super::{Body, Path, Query, conversation_id, limit};
use crate::backend::{Hint, ListQuery, Patch, Subject};
use crate::event::Happened;
use crate::gateway::Gateway;
use crate::gateway::error::Refusal;
use crate::model::{Conversation, ConversationId, Time, UserId};
use crate::protocol::{CreateConversation, ErrorBody, ErrorCode, List, PatchConversation};

/// Bytes of a title.
const TITLE_BYTES_MAX: usize = 1_000;
const SEARCH_BYTES_MAX: usize = 1_000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// 1 to 100; 50 where none is given.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Words to find in titles and messages, insensitive to case and to Vietnamese diacritics.
    q: Option<String>,
}

/// The user's conversations, newest first, pinned ones before all.
#[utoipa::path(get, path = "/api/conversations", params(Listed), responses(
    (status = 200, body = List<Conversation>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Query(query): Query<Listed>,
) -> Result<Json<List<Conversation>>, Refusal> {
    if query.q.as_ref().is_some_and(|q| q.len() > SEARCH_BYTES_MAX) {
        return Err(Refusal::new(ErrorCode::TooLarge, format!("`q` has at most {SEARCH_BYTES_MAX} bytes")));
    }
    let search = query.q.filter(|q| !q.trim().is_empty());
    let query = ListQuery { limit: limit(query.limit, 50, 100), cursor: query.cursor, search };
    let listing = gateway.backends.store.conversations(&user, &query).await?;
    Ok(Json(List { items: listing.items, next: listing.next }))
}

/// Creates an empty conversation.
#[utoipa::path(post, path = "/api/conversations", request_body = CreateConversation, responses(
    (status = 201, body = Conversation), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Body(body): Body<CreateConversation>,
) -> Result<(StatusCode, Json<Conversation>), Refusal> {
    let title = checked_title(body.title.unwrap_or_default())?;
    let now = Time::now();
    let id = ConversationId::generate();
    let conversation = Conversation { id, title, pinned: false, version: 1, created_at: now, updated_at: now, generating: false };
    gateway.backends.store.create(&user, &conversation, &[]).await?;
    gateway.desk.tell(&user, &conversation.id, Happened::ConversationCreated);
    gateway.desk.announce_conversation(&user, conversation.clone()).await;
    Ok((StatusCode::CREATED, Json(conversation)))
}

/// One conversation.
#[utoipa::path(get, path = "/api/conversations/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = Conversation), (status = "default", body = ErrorBody)))]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, Refusal> {
    let state = gateway.backends.store.conversation(&user, &conversation_id(&id)?).await?;
    Ok(Json(state.conversation))
}

/// Renames or pins.
#[utoipa::path(patch, path = "/api/conversations/{id}", params(("id" = String, Path)), request_body = PatchConversation, responses(
    (status = 200, body = Conversation), (status = "default", body = ErrorBody)))]
pub(super) async fn change(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Path(id): Path<String>,
    Body(body): Body<PatchConversation>,
) -> Result<Json<Conversation>, Refusal> {
    let title = body.title.map(checked_title).transpose()?;
    let patch = Patch { title, pinned: body.pinned };
    let conversation = gateway.backends.store.patch(&user, &conversation_id(&id)?, &patch).await?;
    gateway.desk.announce_conversation(&user, conversation.clone()).await;
    Ok(Json(conversation))
}

/// Removes a conversation with its messages and logs; running answers stop.
#[utoipa::path(delete, path = "/api/conversations/{id}", params(("id" = String, Path)), responses(
    (status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn remove(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let id = conversation_id(&id)?;
    let state = gateway.backends.store.conversation(&user, &id).await?;
    gateway.backends.store.delete(&user, &id).await?;
    gateway.desk.tell(&user, &id, Happened::ConversationDeleted);
    for open in &state.open {
        gateway.backends.backplane.publish(&Subject::Cancel(open.generation.clone()), Hint::Cancel { at: Time::now() }).await;
    }
    let hint = Hint::ConversationDeleted { conversation: state.conversation };
    gateway.backends.backplane.publish(&Subject::Conversation(id), hint.clone()).await;
    gateway.backends.backplane.publish(&Subject::User(user), hint).await;
    Ok(StatusCode::NO_CONTENT)
}

fn checked_title(title: String) -> Result<String, Refusal> {
    if title.len() > TITLE_BYTES_MAX {
        return Err(Refusal::new(ErrorCode::TooLarge, format!("`title` has at most {TITLE_BYTES_MAX} bytes")));
    }
    // A title is one line wherever it shows.
    Ok(title.split_whitespace().collect::<Vec<_>>().join(" "))
}
