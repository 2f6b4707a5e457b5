//! Without a login every browser is a user of its own, by a signed cookie that it is known by again.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::cookies;
use super::secret::SharedKey;
use crate::backend::{Backends, Error};
use crate::drain::Drain;
use crate::model::UserId;

/// How the cookie was called once, and how its names begin.
const COOKIE: &str = "chatnode_user";
/// The longest that browsers keep a cookie: 400 days (RFC 6265bis).
const COOKIE_SECONDS: u64 = 400 * 24 * 3600;
const SECRET_NAME: &str = "cookie";

/// Knows users by their signed cookies. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    key: SharedKey,
}

impl Signed {
    pub(super) fn new(backends: &Backends, drain: &Drain) -> Self {
        Self { key: SharedKey::new(SECRET_NAME, backends, drain) }
    }

    /// The user of these headers; `None` when they name nobody we signed for.
    pub(super) async fn known(&self, headers: &HeaderMap) -> Result<Option<UserId>, Error> {
        let key = self.key.get().await?;
        let name = name(&key);
        let mut values = cookies::values(headers, &name).chain(cookies::values(headers, COOKIE));
        Ok(values.find_map(|value| verify(&key, value)))
    }

    pub(super) async fn cookie(&self, user: &UserId, secure: bool) -> Result<HeaderValue, Error> {
        let key = self.key.get().await?;
        cookies::set(&name(&key), &sign(&key, user), COOKIE_SECONDS, secure)
    }
}

/// Browsers send a cookie to every port of a host: that of another instance there must not stand in the place of ours.
fn name(key: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"name");
    let digits: String = mac.finalize().into_bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{COOKIE}_{digits}")
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
