//! Who is asking. Without a login every browser is a user of its own, by a signed cookie that it is known by again.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::OnceCell;

use super::error::Refusal;
use crate::backend::{Error, Store};
use crate::model::UserId;

const COOKIE: &str = "chatnode_user";
/// The longest that browsers keep a cookie: 400 days (RFC 6265bis).
const COOKIE_SECONDS: u32 = 400 * 24 * 3600;
const SECRET_NAME: &str = "cookie";
const SECRET_BYTES: usize = 32;

/// Knows users by their cookies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    store: Arc<dyn Store>,
    key: Arc<OnceCell<Vec<u8>>>,
}

impl Auth {
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, key: Arc::default() }
    }

    /// The user of these headers; `None` when they name nobody we signed for.
    async fn known(&self, headers: &HeaderMap) -> Result<Option<UserId>, Error> {
        let key = self.key().await?;
        let cookies =
            headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(';'));
        let mut values = cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        Ok(values.find_map(|value| verify(key, value)))
    }

    async fn key(&self) -> Result<&Vec<u8>, Error> {
        self.key
            .get_or_try_init(|| async {
                let proposal: [u8; SECRET_BYTES] = rand::random();
                self.store.secret(SECRET_NAME, &proposal).await
            })
            .await
    }

    async fn cookie(&self, user: &UserId) -> Result<HeaderValue, Error> {
        let value = sign(self.key().await?, user);
        let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax");
        HeaderValue::from_str(&cookie).map_err(|_| Error::Corrupt("a cookie with characters that headers can't hold".to_owned()))
    }
}

fn mac(key: &[u8], user: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"user\0");
    mac.update(user.as_bytes());
    mac
}

fn sign(key: &[u8], user: &UserId) -> String {
    let tag = mac(key, user.as_str()).finalize().into_bytes();
    format!("{user}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn verify(key: &[u8], value: &str) -> Option<UserId> {
    let (user, tag) = value.split_once('.')?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    mac(key, user).verify_slice(&tag).ok()?;
    UserId::parse(user).ok()
}

/// Puts the [`UserId`] into the request's extensions, and the cookie into the answer where none came.
pub async fn identify(State(auth): State<Auth>, mut request: Request, next: Next) -> Response {
    let user = match auth.known(request.headers()).await {
        Ok(Some(user)) => {
            request.extensions_mut().insert(user);
            return next.run(request).await;
        }
        Ok(None) => UserId::generate(),
        Err(error) => return Refusal::from(error).into_response(),
    };
    let cookie = match auth.cookie(&user).await {
        Ok(cookie) => cookie,
        Err(error) => return Refusal::from(error).into_response(),
    };
    request.extensions_mut().insert(user);
    let mut response = next.run(request).await;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// True when a page of this origin may use our cookies: the node's own (as the browser named it) or one that the operator
/// allows. Programs that aren't browsers send no origin.
#[must_use]
pub fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|other| other.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    matches!((own, authority), (Some(own), Some(authority)) if own.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_user_is_known_again_and_a_forged_one_is_not() {
        let user = UserId::generate();
        let value = sign(b"key", &user);
        assert_eq!(verify(b"key", &value), Some(user.clone()));
        assert_eq!(verify(b"other key", &value), None);
        let other = UserId::generate();
        assert_eq!(verify(b"key", &value.replace(user.as_str(), other.as_str())), None);
        for broken in ["", ".", "usr_.", user.as_str(), "a.b.c", &value[..value.len() - 1]] {
            assert_eq!(verify(b"key", broken), None, "{broken}");
        }
    }

    #[test]
    fn only_the_own_origin_and_the_allowed_ones_pass() {
        let headers = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("chat.example:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            headers
        };
        let allowed = vec!["https://friend.example".to_owned()];
        for good in ["http://chat.example:8080", "https://CHAT.example:8080", "https://friend.example"] {
            assert!(origin_allowed(&headers(good), &allowed), "{good}");
        }
        for evil in [
            "http://chat.example",
            "null",
            "http://evil.example",
            "http://chat.example:8080.evil.example",
            "ws://chat.example:8080",
        ] {
            assert!(!origin_allowed(&headers(evil), &allowed), "{evil}");
        }
        assert!(origin_allowed(&HeaderMap::new(), &[]));
    }
}
