//! Logging in and out, and who one is.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, RequestExt};
use sha2::{Digest, Sha256};

use super::Body;
use crate::backend::accounts::login_name;
use crate::backend::limits::{Bucket, Rate, Refused};
use crate::config::AuthConfig;
use crate::gateway::Gateway;
use crate::gateway::auth::Caller;
use crate::gateway::auth::origin::{self, Origin};
use crate::gateway::error::Refusal;
use crate::protocol::{ErrorBody, ErrorCode, Login, LoginMethod, LoginMethods, Me};

/// Tries for one account, from wherever they come: enough for somebody who mistypes, too few for guessing.
const TRIES_OF_ACCOUNT: Rate = Rate { burst: 10, every: Duration::from_secs(30) };
/// Tries from one address, for whichever account.
const TRIES_OF_ADDRESS: Rate = Rate { burst: 30, every: Duration::from_secs(5) };

/// How people log in here; no method where nobody has to.
#[utoipa::path(get, path = "/api/login", responses((status = 200, body = LoginMethods), (status = "default", body = ErrorBody)))]
pub(super) async fn methods(State(gateway): State<Gateway>) -> Json<LoginMethods> {
    let AuthConfig::Login(login) = &gateway.config.auth else {
        return Json(LoginMethods { methods: Vec::new(), provider: None });
    };
    let ways = [(login.local, LoginMethod::Local), (login.oidc.is_some(), LoginMethod::Oidc)];
    let methods = ways.into_iter().filter(|(there, _)| *there).map(|(_, method)| method).collect();
    Json(LoginMethods { methods, provider: login.oidc.as_ref().and_then(|oidc| oidc.name.clone()) })
}

/// Begins a session: the answer sets its cookie. Wrong name, wrong password and disabled are one answer.
#[utoipa::path(post, path = "/api/login", request_body = Login, responses(
    (status = 200, body = Me), (status = 401, body = ErrorBody), (status = 429, body = ErrorBody),
    (status = "default", body = ErrorBody)))]
pub(super) async fn log_in(State(gateway): State<Gateway>, request: Request) -> Result<Response, Refusal> {
    let AuthConfig::Login(login) = &gateway.config.auth else { return Err(Refusal::not_found()) };
    if !login.local {
        return Err(Refusal::not_found());
    }
    // A session that another site's page began would be somebody else's.
    if origin::of(request.headers(), &gateway.config) == Origin::Foreign {
        return Err(Refusal::forbidden("this origin is not allowed"));
    }
    let address = origin::address(request.headers(), request.extensions(), &gateway.config.trusted_proxies);
    let Body(Login { name, password }) = request.extract::<Body<Login>, _>().await?;
    let name = login_name(&name);
    throttle(&gateway, Some(name.as_deref()), address).await?;
    let Some(account) = gateway.auth.check_password(name.as_deref(), password).await? else {
        // Not the name: people type passwords there.
        tracing::warn!(target: "audit", %address, "login refused");
        gateway.metrics.authenticated("local", "refused");
        return Err(Refusal::new(ErrorCode::Unauthorized, "this name and password do not fit"));
    };
    let cookie = gateway.auth.log_in(&account).await?;
    tracing::info!(target: "audit", user = %account.id, %address, "logged in");
    gateway.metrics.authenticated("local", "accepted");
    let me = Me { user: account.id, name: Some(account.name), admin: account.admin };
    Ok(with_cookie(Json(me).into_response(), cookie))
}

/// Ends the session; its sockets close on every node.
#[utoipa::path(post, path = "/api/logout", responses((status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn log_out(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    if caller.is_anonymous() {
        return Err(Refusal::not_found());
    }
    let cookie = gateway.auth.log_out(&caller).await?;
    tracing::info!(target: "audit", user = %caller.user, "logged out");
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), cookie))
}

/// Who is asking.
#[utoipa::path(get, path = "/api/me", responses((status = 200, body = Me), (status = "default", body = ErrorBody)))]
pub(super) async fn me(Extension(caller): Extension<Caller>) -> Json<Me> {
    Json(Me { user: caller.user, name: caller.name, admin: caller.admin })
}

/// Counts before anything is looked up, so that it is the same for whoever isn't there. Without an account, who it is is not ours
/// to ask.
pub(super) async fn throttle(gateway: &Gateway, account: Option<Option<&str>>, address: IpAddr) -> Result<(), Refusal> {
    let near = origin::neighbourhood(address);
    let of_account = account.map(|name| {
        let digest: String = Sha256::digest(name.unwrap_or_default()).iter().take(16).map(|b| format!("{b:02x}")).collect();
        (format!("login-of-{digest}"), TRIES_OF_ACCOUNT)
    });
    let buckets = [Some((format!("login-from-{near}"), TRIES_OF_ADDRESS)), of_account];
    for (name, rate) in buckets.into_iter().flatten() {
        if let Some(Refused::Empty { wait, .. }) = gateway.backends.limits.take(&[Bucket { name, rate }]).await? {
            gateway.metrics.rate_limited("login");
            tracing::warn!(target: "audit", %address, "login throttled");
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            return Err(Refusal::new(ErrorCode::RateLimited, "too many tries; wait a while").retry_after(wait_ms));
        }
    }
    Ok(())
}

pub(super) fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}
