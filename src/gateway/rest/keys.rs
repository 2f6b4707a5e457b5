//! API keys of an account: shown once, listed without what opens anything, taken back.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::{Body, Path};
use crate::backend::accounts::{Pass, PassKind};
use crate::backend::{Hint, Subject};
use crate::gateway::Gateway;
use crate::gateway::auth::{Caller, bearer};
use crate::gateway::error::Refusal;
use crate::model::Time;
use crate::protocol::{ApiKey, CreateApiKey, ErrorBody, ErrorCode, List, NewApiKey};

/// Keys of one account; beyond the store's own limit the oldest would go without a word.
const KEYS_MAX: usize = 20;
const LABEL_CHARACTERS_MAX: usize = 100;

/// The account's API keys, oldest first.
#[utoipa::path(get, path = "/api/keys", responses((status = 200, body = List<ApiKey>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<List<ApiKey>>, Refusal> {
    let items = held(&gateway, &caller).await?.iter().map(shown).collect();
    Ok(Json(List { items, next: None }))
}

/// Makes a key. It is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/keys", request_body = CreateApiKey, responses(
    (status = 201, body = NewApiKey), (status = 409, body = ErrorBody), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<CreateApiKey>,
) -> Result<(StatusCode, Json<NewApiKey>), Refusal> {
    let label = body.label.split_whitespace().collect::<Vec<_>>().join(" ");
    if label.is_empty() || label.chars().count() > LABEL_CHARACTERS_MAX {
        return Err(Refusal::bad(format!("`label` has 1 to {LABEL_CHARACTERS_MAX} characters")));
    }
    if held(&gateway, &caller).await?.len() >= KEYS_MAX {
        return Err(Refusal::new(ErrorCode::Conflict, format!("an account has at most {KEYS_MAX} keys; take one back first")));
    }
    let (key, pass) = gateway.auth.new_key(&caller.user, label);
    gateway.backends.accounts.issue(&pass).await?;
    tracing::info!(target: "audit", user = %caller.user, key = bearer::key_id(&pass.digest), "api key made");
    Ok((StatusCode::CREATED, Json(NewApiKey { info: shown(&pass), key })))
}

/// Takes a key back; what uses it is cut off within a second.
#[utoipa::path(delete, path = "/api/keys/{id}", params(("id" = String, Path)), responses(
    (status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn revoke(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let held = held(&gateway, &caller).await?;
    let pass = held.iter().find(|pass| bearer::key_id(&pass.digest) == id).ok_or_else(Refusal::not_found)?;
    gateway.backends.accounts.revoke(&caller.user, &pass.digest).await?;
    gateway.backends.backplane.publish(&Subject::User(caller.user.clone()), Hint::Access).await;
    tracing::info!(target: "audit", user = %caller.user, key = id, "api key revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// Keys are for people who have logged in: one that got into wrong hands must not make others, nor see them.
async fn held(gateway: &Gateway, caller: &Caller) -> Result<Vec<Pass>, Refusal> {
    if caller.is_anonymous() {
        return Err(Refusal::not_found());
    }
    if !caller.came_by_cookie() {
        return Err(Refusal::forbidden("log in to look after API keys"));
    }
    let mut held = gateway.backends.accounts.passes(&caller.user, Time::now()).await?;
    held.retain(|pass| pass.kind == PassKind::Key);
    Ok(held)
}

fn shown(pass: &Pass) -> ApiKey {
    ApiKey { id: bearer::key_id(&pass.digest).to_owned(), label: pass.label.clone(), created_at: pass.created_at }
}
