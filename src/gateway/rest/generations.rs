//! One answer: its events, and its end on demand.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use serde::Deserialize;

use super::{Path, Query};
use crate::gateway::allowance::Asker;
use crate::gateway::auth::Caller;
use crate::gateway::error::Refusal;
use crate::gateway::{Gateway, sse};
use crate::model::{GenerationId, Position, Status, UserId};
use crate::protocol::{CancelAnswer, ErrorBody};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// A position; only what stands behind it is sent. `Last-Event-ID` means the same and wins.
    after: Option<String>,
}

/// The answer's frames as server-sent events, until `finished`. Each position is the id of its event.
#[utoipa::path(get, path = "/api/generations/{id}/events",
    params(("id" = String, Path), After, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = ErrorBody)))]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<After>,
) -> Result<Response, Refusal> {
    let generation = GenerationId::parse(&id).map_err(|_| Refusal::not_found())?;
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok()).filter(|last| !last.is_empty());
    let after = last.or(query.after.as_deref()).map(str::parse::<Position>).transpose();
    let after = after.map_err(|_| Refusal::bad("a position is written `<epoch>-<seq>`"))?;
    let seat = sse::seat(&gateway, &asker).await?;
    sse::answer(&gateway, &caller, seat, generation, after, None, None).await
}

/// Stops an answer.
#[utoipa::path(post, path = "/api/generations/{id}/cancel", params(("id" = String, Path)), responses(
    (status = 202, body = CancelAnswer), (status = 409, body = ErrorBody, description = "It had ended; `error.status` says how."),
    (status = "default", body = ErrorBody)))]
pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    Extension(user): Extension<UserId>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<CancelAnswer>), Refusal> {
    let generation = gateway.desk.cancel(&user, &id).await?;
    let message = gateway.backends.store.message(&generation.message()).await;
    let status = message.map_or(Status::Running, |message| message.status);
    Ok((StatusCode::ACCEPTED, Json(CancelAnswer { generation, status })))
}
