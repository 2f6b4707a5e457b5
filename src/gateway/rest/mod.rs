//! The REST routes. Each one checks what came, asks the backend, and answers; what is shared with sockets is in `desk`.

mod conversations;
mod generations;
mod keys;
mod login;
mod messages;
mod meta;
mod oidc;
mod transfer;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Gateway;
use super::allowance::{Allowance, Asker};
use super::auth;
use super::error::Refusal;
use crate::config::AuthConfig;
use crate::model::ConversationId;
use crate::protocol::ErrorCode;

/// A name and a password, whose own limits are stricter.
const LOGIN_BYTES_MAX: usize = 16 * 1024;

#[derive(OpenApi)]
#[openapi(info(
    title = "chatnode",
    description = "Conversations with AI models whose answers survive the death of any node. Errors: `{\"error\":{\"code\",\"message\",\"retry_after_ms\"?}}`. \
                   Without a login, a signed cookie that any route sets says who is asking; with one, the session cookie of `POST /api/login`, or `Authorization: Bearer` \
                   with an API key or a token of the trusted issuer."
))]
struct ApiDoc;

/// Every route below `/api`, and the document that describes them, from the same declarations.
pub(super) fn router(gateway: &Gateway) -> Router<Gateway> {
    // Questions are counted by the desk, which knows repeated ones. What only stops an answer or takes a right back is not counted.
    let counted = from_fn_with_state(gateway.allowance.clone(), count);
    let identified = from_fn_with_state(gateway.auth.clone(), auth::identify);
    let mut strangers = OpenApiRouter::new().routes(routes!(login::methods, login::log_in));
    if gateway.config.auth == AuthConfig::Anonymous {
        // Where nobody logs in there are no strangers: whoever comes gets a name.
        strangers = strangers.route_layer(identified.clone());
    }
    let (router, mut document) = OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(conversations::show, conversations::change, conversations::remove))
        .routes(routes!(keys::list, keys::create))
        .layer(counted.clone())
        .routes(routes!(messages::history, messages::post))
        .routes(routes!(generations::events))
        .routes(routes!(generations::cancel))
        .routes(routes!(meta::models))
        .routes(routes!(meta::cluster))
        .routes(routes!(login::me))
        .routes(routes!(login::log_out))
        .routes(routes!(keys::revoke))
        .routes(routes!(transfer::export))
        .layer(DefaultBodyLimit::max(gateway.question_bytes_max()))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(transfer::import))
                .layer(from_fn_with_state(gateway.clone(), transfer::in_turn))
                .layer(counted)
                .layer(DefaultBodyLimit::max(gateway.config.import_bytes_max)),
        )
        .route("/api/{*rest}", axum::routing::any(async || Refusal::not_found()))
        .route_layer(identified)
        // What those need who are nobody yet.
        .merge(strangers.layer(DefaultBodyLimit::max(LOGIN_BYTES_MAX)))
        .merge(OpenApiRouter::new().routes(routes!(oidc::leave)).routes(routes!(oidc::come_back)))
        .split_for_parts();
    describe(&mut document);
    let document = std::sync::Arc::<str>::from(document.to_json().expect("the document has string keys"));
    router
        .route(
            "/api/openapi.json",
            axum::routing::get(async move || ([(header::CONTENT_TYPE, "application/json")], document.to_string())),
        )
        .method_not_allowed_fallback(async || {
            let refusal = Refusal::bad("this address does not know this method");
            (StatusCode::METHOD_NOT_ALLOWED, axum::Json(crate::protocol::ErrorBody { error: refusal.body() })).into_response()
        })
}

/// The specification wants words for each response; ours are told by their status and their schema.
fn describe(document: &mut utoipa::openapi::OpenApi) {
    let items = document.paths.paths.values_mut();
    let operations = items.flat_map(|item| [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]);
    for (status, response) in operations.flatten().flat_map(|operation| &mut operation.responses.responses) {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let known = StatusCode::from_bytes(status.as_bytes()).ok().and_then(|status| status.canonical_reason());
            response.description = known.unwrap_or("refused: `error.code` says why").to_owned();
        }
    }
}

/// What operators ask on a listener of their own.
pub(super) fn admin(gateway: &Gateway) -> Router<Gateway> {
    let (router, _) = OpenApiRouter::<Gateway>::new().routes(routes!(meta::cluster)).split_for_parts();
    router.route_layer(from_fn_with_state(gateway.auth.clone(), auth::identify))
}

/// Refuses those who change too much.
async fn count(State(allowance): State<Allowance>, Extension(asker): Extension<Asker>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && let Err(refusal) = allowance.request(&asker).await
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// A JSON body, or a refusal that says what is wrong with it.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // A form of another site can't send this type without asking the browser for leave first.
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err(Refusal::bad("the body is JSON, with `Content-Type: application/json`"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Refusal::new(ErrorCode::TooLarge, "the body is too large")
            } else {
                Refusal::bad("the body could not be read")
            }
        })?;
        let deserialized = serde_json::from_slice(&bytes);
        deserialized.map(Self).map_err(|error| Refusal::bad(format!("the body does not fit: {}", without_values(&error))))
    }
}

/// The error without quoting what was sent.
fn without_values(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let text = error.to_string();
    match error.classify() {
        Category::Data if text.starts_with("missing field") || text.starts_with("unknown field") => text,
        Category::Data => format!("a field has the wrong type (line {}, column {})", error.line(), error.column()),
        _ => format!("not JSON (line {}, column {})", error.line(), error.column()),
    }
}

/// Query parameters, or a refusal that says what is wrong with them.
pub(super) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| Refusal::bad(rejection.body_text()))
    }
}

/// A part of the address. One that isn't even text names nothing.
pub(super) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| Refusal::not_found())
    }
}

fn conversation_id(text: &str) -> Result<ConversationId, Refusal> {
    ConversationId::parse(text).map_err(|_| Refusal::not_found())
}

/// A page's size: `default` where none is given, never more than `max`.
fn limit(given: Option<usize>, default: usize, max: usize) -> usize {
    given.unwrap_or(default).clamp(1, max)
}
