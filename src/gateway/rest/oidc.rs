//! To the provider and back. A browser is sent from one address to the next here, so whatever goes wrong ends at the page, which
//! says it in a sentence.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Query;
use super::login::{throttle, with_cookie};
use crate::gateway::Gateway;
use crate::gateway::auth::oidc::{Answer, Fault, Oidc, place};
use crate::gateway::auth::origin;
use crate::gateway::error::Refusal;
use crate::protocol::{ErrorBody, ErrorCode};

/// The provider knows this address, so it stays what it is.
const CALLBACK: &str = "/api/login/oidc/callback";

#[derive(Deserialize)]
pub(super) struct From {
    /// Where in the page somebody is, as behind its `#`.
    #[serde(default)]
    back: String,
}

/// Sends a browser to the provider.
#[utoipa::path(get, path = "/api/login/oidc", params(("back" = Option<String>, Query, description = "where in the page to come back to")),
    responses((status = 303, description = "to the provider, or back to the page with `login=FAULT`"), (status = "default", body = ErrorBody)))]
pub(super) async fn leave(
    State(gateway): State<Gateway>,
    Query(From { back }): Query<From>,
    request: Request,
) -> Result<Response, Refusal> {
    let oidc = gateway.auth.oidc().ok_or_else(Refusal::not_found)?;
    let headers = request.headers();
    let callback = format!("{}{CALLBACK}", own_origin(&gateway, headers)?);
    Ok(match oidc.begin(&callback, &back, gateway.auth.secure()).await {
        Ok((url, cookie)) => with_cookie(see(url.as_str()), cookie),
        Err(fault) => {
            let address = origin::address(headers, request.extensions(), &gateway.config.trusted_proxies);
            refused(&gateway, address, fault, &place(&back))
        }
    })
}

/// Begins a session for whom the provider names, and shows the page.
#[utoipa::path(get, path = "/api/login/oidc/callback", params(
    ("code" = Option<String>, Query), ("state" = Option<String>, Query), ("error" = Option<String>, Query), ("iss" = Option<String>, Query)),
    responses((status = 303, description = "to the page, with `login=done`, or `login=FAULT` when it came to nothing"), (status = "default", body = ErrorBody)))]
pub(super) async fn come_back(
    State(gateway): State<Gateway>,
    answer: Result<Query<Answer>, Refusal>,
    request: Request,
) -> Result<Response, Refusal> {
    let oidc = gateway.auth.oidc().ok_or_else(Refusal::not_found)?;
    let headers = request.headers();
    let callback = format!("{}{CALLBACK}", own_origin(&gateway, headers)?);
    let address = origin::address(headers, request.extensions(), &gateway.config.trusted_proxies);
    let back = oidc.back(headers).await;
    // What can't be read answers nothing.
    let answer = answer.map(|Query(answer)| answer).unwrap_or_default();
    let admitted = match throttle(&gateway, None, address).await {
        Ok(()) => match gateway.auth.admitted(oidc, headers, answer, &callback).await {
            Ok(account) => gateway.auth.log_in(&account).await.map(|cookie| (account, cookie)).map_err(Fault::from),
            Err(fault) => Err(fault),
        },
        Err(refusal) if refusal.code == ErrorCode::RateLimited => Err(Fault::Throttled),
        Err(_) => Err(Fault::Unavailable),
    };
    let response = match admitted {
        Ok((account, cookie)) => {
            tracing::info!(target: "audit", user = %account.id, %address, "logged in at the provider");
            gateway.metrics.authenticated("oidc", "accepted");
            with_cookie(home(&gateway, None, &back), cookie)
        }
        Err(fault) => refused(&gateway, address, fault, &back),
    };
    // It is good for one time.
    Ok(with_cookie(response, Oidc::forget(gateway.auth.secure())?))
}

fn refused(gateway: &Gateway, address: IpAddr, fault: Fault, back: &str) -> Response {
    tracing::warn!(target: "audit", %address, fault = fault.word(), "login at the provider refused");
    gateway.metrics.authenticated("oidc", fault.word());
    home(gateway, Some(fault), back)
}

/// The origin under which this browser knows us.
fn own_origin(gateway: &Gateway, headers: &HeaderMap) -> Result<String, Refusal> {
    if let Some(url) = &gateway.config.public_url {
        return Ok(url.clone());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if gateway.config.encrypted() { "https" } else { "http" };
    let url = url::Url::parse(&format!("{scheme}://{host}")).ok().filter(|url| url.host_str().is_some() && url.path() == "/");
    url.map(|url| url.origin().ascii_serialization()).ok_or_else(|| Refusal::bad("the host is missing"))
}

/// The page, at the place where somebody was. Always our own: nothing of what came is an address.
fn home(gateway: &Gateway, fault: Option<Fault>, back: &str) -> Response {
    let end = fault.map_or("done", Fault::word);
    let place = if back.is_empty() { String::new() } else { format!("#{back}") };
    let origin = gateway.config.public_url.as_deref().unwrap_or_default();
    see(&format!("{origin}/?login={end}{place}"))
}

fn see(url: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(url) else { return Refusal::bad("this is no address").into_response() };
    let no_store = HeaderValue::from_static("no-store");
    (StatusCode::SEE_OTHER, [(header::LOCATION, location), (header::CACHE_CONTROL, no_store)]).into_response()
}
