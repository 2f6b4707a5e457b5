//! Without a login every browser is a user of its own, by a signed cookie that it is known by again.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::OnceCell;

use super::cookies;
use crate::backend::{Error, Store};
use crate::model::UserId;

const COOKIE: &str = "chatnode_user";
/// The longest that browsers keep a cookie: 400 days (RFC 6265bis).
const COOKIE_SECONDS: u64 = 400 * 24 * 3600;
const SECRET_NAME: &str = "cookie";
const SECRET_BYTES: usize = 32;

/// Knows users by their signed cookies. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    store: Arc<dyn Store>,
    key: Arc<OnceCell<Vec<u8>>>,
}

impl Signed {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, key: Arc::default() }
    }

    /// The user of these headers; `None` when they name nobody we signed for.
    pub(super) async fn known(&self, headers: &HeaderMap) -> Result<Option<UserId>, Error> {
        let key = self.key().await?;
        Ok(cookies::values(headers, COOKIE).find_map(|value| verify(key, value)))
    }

    pub(super) async fn cookie(&self, user: &UserId, secure: bool) -> Result<HeaderValue, Error> {
        cookies::set(COOKIE, &sign(self.key().await?, user), COOKIE_SECONDS, secure)
    }

    async fn key(&self) -> Result<&Vec<u8>, Error> {
        self.key
            .get_or_try_init(|| async {
                let proposal: [u8; SECRET_BYTES] = rand::random();
                self.store.secret(SECRET_NAME, &proposal).await
            })
            .await
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
}
