//! Programs that say who they are with each request: an API key of an account, or a token of a trusted issuer.

use axum::http::{HeaderMap, header};

use super::issuer::{Issuer, Place};
use super::jwt::{self, Bearer, Denied, KeySet, Rules};
use super::token::Token;
use super::{Auth, Caller, Proof};
use crate::backend::Error;
use crate::backend::accounts::{Account, PassKind, login_name};
use crate::config::{JwtConfig, JwtKeys};
use crate::drain::Drain;
use crate::model::{Time, UserId};
use crate::protocol::BEARER_PREFIX;

/// Tells an API key from other tokens at a glance, also for those who look for leaked ones.
const KEY_PREFIX: &str = "cnk_";

/// How the tokens of the issuer are checked. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    rules: JwtConfig,
    keys: Keys,
}

#[derive(Clone, Debug)]
pub(super) enum Keys {
    Shared(std::sync::Arc<KeySet>),
    Published(Issuer),
}

/// What a request brings, if it brings one: as a header, or, from browsers' scripts, which can't set one for a socket, among the
/// subprotocols. Never in an address, which proxies log.
pub(super) fn of(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().ok()?;
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        return scheme.eq_ignore_ascii_case("bearer").then_some(token.trim());
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|all| all.split(',')).find_map(|one| one.trim().strip_prefix(BEARER_PREFIX))
}

/// What a token claims to be, for operators.
pub(super) fn method(token: &str) -> &'static str {
    if token.starts_with(KEY_PREFIX) { "key" } else { "jwt" }
}

/// An API key as its owner sees it, once.
pub(in crate::gateway) fn key_text(token: &Token) -> String {
    format!("{KEY_PREFIX}{}", token.reveal())
}

impl Trusted {
    pub(super) fn new(config: &JwtConfig, drain: &Drain) -> Self {
        let keys = match &config.keys {
            JwtKeys::Shared(secret) => Keys::Shared(std::sync::Arc::new(KeySet::shared(secret))),
            JwtKeys::Published(url) => Keys::Published(Issuer::new(Place::Keys(url.clone()), config.ask_every, drain)),
        };
        Self { rules: config.clone(), keys }
    }

    async fn verify(&self, token: &str) -> Result<Option<Bearer>, Error> {
        let rules = Rules {
            issuer: &self.rules.issuer,
            audience: &self.rules.audience,
            nonce: None,
            admin_role: self.rules.admin_role.as_deref(),
            roles_claim: "roles",
        };
        verified(token, &self.keys, rules).await
    }
}

/// Whom a token names by these rules. `None`: nobody whom it lets in.
pub(super) async fn verified(token: &str, keys: &Keys, rules: Rules<'_>) -> Result<Option<Bearer>, Error> {
    let now = i64::try_from(Time::now().0 / 1_000).unwrap_or(i64::MAX);
    let (keys, issuer) = match keys {
        Keys::Shared(keys) => (std::sync::Arc::clone(keys), None),
        Keys::Published(issuer) => (issuer.keys().await, Some(issuer)),
    };
    let mut judged = jwt::verify(token, &keys, rules, now);
    if let (Err(Denied::UnknownKey), Some(issuer)) = (&judged, issuer) {
        let newer = issuer.newer().await;
        if newer.is_empty() {
            return Err(Error::Unavailable("the issuer's keys are not there".to_owned()));
        }
        judged = jwt::verify(token, &newer, rules, now);
    }
    Ok(judged.ok())
}

impl Auth {
    /// Whom a bearer token names. `None`: nobody whom we let in.
    pub(super) async fn bearer(&self, text: &str) -> Result<Option<Caller>, Error> {
        if let Some(key) = text.strip_prefix(KEY_PREFIX) {
            return self.key_holder(key).await;
        }
        let Some(trusted) = &self.trusted else { return Ok(None) };
        let Some(bearer) = trusted.verify(text).await? else { return Ok(None) };
        let account = self.enrol(&trusted.rules.issuer, &bearer.subject, None).await?;
        if account.disabled {
            return Ok(None);
        }
        let until = u64::try_from(bearer.until).unwrap_or_default().saturating_mul(1_000);
        Ok(Some(Caller {
            user: account.id,
            name: Some(account.name),
            admin: account.admin || bearer.admin,
            expires_at: Some(Time(until)),
            proof: Proof::Issued,
        }))
    }

    async fn key_holder(&self, key: &str) -> Result<Option<Caller>, Error> {
        let Some(token) = Token::parse(key) else { return Ok(None) };
        let digest = token.digest();
        match self.backends.accounts.admit(&token.user, &digest, Time::now()).await {
            Ok((account, pass)) if pass.kind == PassKind::Key => Ok(Some(Caller::of(account, &pass, Proof::Key(digest)))),
            Ok(_) | Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The account of an issuer's user, made when it is first seen, so that it can be disabled like any other. Nobody logs in
    /// to it with a password. `name` is what people call the subject.
    pub(super) async fn enrol(&self, issuer: &str, subject: &str, name: Option<&str>) -> Result<Account, Error> {
        let id = UserId::for_subject(issuer, subject);
        match self.backends.accounts.account(&id).await {
            Err(Error::NotFound) => {}
            known => return known,
        }
        // With the issuer's name, so that it stands in nobody's way who gets an account here.
        let url = url::Url::parse(issuer).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or("issuer");
        let fallback = format!("{}@{host}", id.as_str().trim_start_matches("usr_"));
        // Of an address only what stands before the @: which one it is at was not ours to prove.
        let called = name.and_then(|name| name.split('@').next()).unwrap_or(subject);
        let wanted = login_name(&format!("{called}@{host}")).unwrap_or_else(|| fallback.clone());
        for name in [wanted, fallback] {
            let (id, created_at) = (id.clone(), Time::now());
            let account = Account { id, name, password: None, admin: false, disabled: false, era: 0, created_at };
            if self.backends.accounts.add(&account).await? {
                tracing::info!(target: "audit", user = %account.id, "account made for a token's subject");
                // Another node may have been first.
                return self.backends.accounts.account(&account.id).await;
            }
        }
        Err(Error::Unavailable("no name was free for this account".to_owned()))
    }
}

/// Names an API key without opening anything.
pub(in crate::gateway) fn key_id(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_comes_as_a_header_or_among_the_subprotocols() {
        assert_eq!(of(&headers(&[("authorization", "Bearer abc")])), Some("abc"));
        assert_eq!(of(&headers(&[("authorization", "bearer abc ")])), Some("abc"));
        assert_eq!(of(&headers(&[("authorization", "Basic abc")])), None);
        assert_eq!(of(&headers(&[("authorization", "Bearer")])), Some(""), "meant, and good for nothing");
        assert_eq!(of(&headers(&[("sec-websocket-protocol", "chatnode.v1, bearer.a.b.c")])), Some("a.b.c"));
        assert_eq!(of(&headers(&[("sec-websocket-protocol", "chatnode.v1")])), None);
        assert_eq!(of(&headers(&[])), None);
    }
}
