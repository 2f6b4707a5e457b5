//! Logging in at an OpenID Connect provider: the authorization code flow with PKCE (OpenID Connect Core 1.0; RFC 6749, 7636,
//! 9207). Nothing is remembered here between leaving and coming back: it is in a signed cookie, so any gateway can go on. It
//! must not know of routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use url::Url;

use super::bearer::{Keys, verified};
use super::cookies;
use super::issuer::{Asked, Endpoints, Issuer, Place};
use super::jwt::{Bearer, Rules};
use super::secret::SharedKey;
use crate::backend::limits::{Bucket, Rate};
use crate::backend::{Backends, Error};
use crate::config::OidcConfig;
use crate::drain::Drain;
use crate::model::Time;

const COOKIE: &str = "chatnode_oidc";
/// How long somebody may take at the provider.
const LASTS: Duration = Duration::from_secs(600);
/// Of each try one answer is taken, by all gateways together, for longer than the try lasts.
const ONCE: Rate = Rate { burst: 1, every: Duration::from_secs(660) };
const SECRET_NAME: &str = "oidc";
const CODE_BYTES_MAX: usize = 4 * 1024;
/// Place in the page, to come back to.
const BACK_BYTES_MAX: usize = 200;
/// Codes that are exchanged at once.
const EXCHANGES_MAX: usize = 32;

/// Why somebody comes back without being let in. The page says it in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Fault {
    /// The provider was told no.
    Denied,
    /// We don't know of this try any more, or never did, or it was answered.
    Expired,
    /// The provider, or our store, does not answer.
    Unavailable,
    /// What the provider says lets nobody in.
    Refused,
    /// Too many tries from there.
    Throttled,
}

impl Fault {
    /// For the page, and for metrics.
    pub(in crate::gateway) fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "a login at the provider could not be finished");
        Self::Unavailable
    }
}

/// What the provider sends somebody back with.
#[derive(Clone, Default, Deserialize)]
pub(in crate::gateway) struct Answer {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Oidc {
    config: Arc<OidcConfig>,
    issuer: Issuer,
    backends: Backends,
    key: SharedKey,
    exchanges: Arc<Semaphore>,
}

impl Oidc {
    pub(super) fn new(config: &OidcConfig, backends: Backends, drain: &Drain) -> Self {
        let issuer = Issuer::new(Place::Described(config.issuer.clone()), config.ask_every, drain);
        let config = Arc::new(config.clone());
        let key = SharedKey::new(SECRET_NAME, &backends, drain);
        Self { config, issuer, backends, key, exchanges: Arc::new(Semaphore::new(EXCHANGES_MAX)) }
    }

    pub(super) fn config(&self) -> &OidcConfig {
        &self.config
    }

    /// Where to send somebody who wants to log in, and the cookie to send along. `back` is where in the page he is.
    pub(in crate::gateway) async fn begin(&self, redirect: &str, back: &str, secure: bool) -> Result<(Url, HeaderValue), Fault> {
        let endpoints = self.issuer.endpoints().await.ok_or(Fault::Unavailable)?;
        let key = self.key.get().await?;
        let attempt = Attempt::new(back);
        let mut url = endpoints.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &self.config.scopes)
            .append_pair("state", &attempt.derived(&key, "state"))
            .append_pair("nonce", &attempt.derived(&key, "nonce"))
            .append_pair("code_challenge", &challenge(&attempt.derived(&key, "verifier")))
            .append_pair("code_challenge_method", "S256");
        Ok((url, cookies::set(COOKIE, &attempt.signed(&key), LASTS.as_secs(), secure)?))
    }

    /// Where in the page somebody was who comes back.
    pub(in crate::gateway) async fn back(&self, headers: &HeaderMap) -> String {
        self.attempt(headers).await.map(|attempt| attempt.back).unwrap_or_default()
    }

    /// Takes away the cookie of a try that is over.
    pub(in crate::gateway) fn forget(secure: bool) -> Result<HeaderValue, Error> {
        cookies::set(COOKIE, "", 0, secure)
    }

    /// Whom the provider says this is.
    pub(super) async fn finish(&self, headers: &HeaderMap, answer: Answer, redirect: &str) -> Result<Bearer, Fault> {
        let (key, attempt) = (self.key.get().await?, self.attempt(headers).await?);
        if answer.state.as_deref() != Some(attempt.derived(&key, "state").as_str()) {
            return Err(Fault::Expired);
        }
        let once = Bucket { name: format!("oidc-{}", attempt.derived(&key, "once")), rate: ONCE };
        if self.backends.limits.take(&[once]).await?.is_some() {
            return Err(Fault::Expired);
        }
        // Another provider's answer, which is not ours to hand to this one (RFC 9207).
        if answer.iss.is_some_and(|issuer| issuer != self.config.issuer) {
            return Err(Fault::Refused);
        }
        if let Some(error) = answer.error {
            return Err(told(&error));
        }
        let code = answer.code.filter(|code| (1..=CODE_BYTES_MAX).contains(&code.len())).ok_or(Fault::Refused)?;
        let _turn = self.exchanges.try_acquire().map_err(|_| Fault::Throttled)?;
        let endpoints = self.issuer.endpoints().await.ok_or(Fault::Unavailable)?;
        let tokens = self.exchange(&endpoints, &code, redirect, &attempt.derived(&key, "verifier")).await?;
        let nonce = attempt.derived(&key, "nonce");
        let rules = Rules {
            issuer: &self.config.issuer,
            audience: &self.config.client_id,
            nonce: Some(&nonce),
            admin_role: self.config.admin_role.as_deref(),
            roles_claim: &self.config.roles_claim,
        };
        let Some(mut bearer) = verified(&tokens.id_token, &Keys::Published(self.issuer.clone()), rules).await? else {
            tracing::warn!("the provider's token says nothing that lets anybody in");
            return Err(Fault::Refused);
        };
        // Who keeps to the standard puts names and roles only here where an access token was given (section 5.4).
        if let (true, Some(url), Some(token)) = (bearer.leaves_open(rules), &endpoints.userinfo, &tokens.access_token) {
            match self.issuer.ask(url, token).await {
                Ok(Asked::Answered(told)) => bearer.learn(&told, rules),
                Ok(Asked::Refused(status)) => tracing::warn!(status, "the provider tells no more than its token"),
                // Without it an admin would be none for as long as this session lasts.
                Err(why) => {
                    tracing::warn!(why, "the provider could not be asked for more than its token");
                    return Err(Fault::Unavailable);
                }
            }
        }
        Ok(bearer)
    }

    /// The tokens that a code stands for.
    async fn exchange(&self, endpoints: &Endpoints, code: &str, redirect: &str, verifier: &str) -> Result<Tokens, Fault> {
        let mut form = BTreeMap::from([
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ]);
        let id = self.config.client_id.as_str();
        let secret = self.config.client_secret.as_ref().map(|secret| secret.reveal());
        let basic = secret.filter(|_| endpoints.takes_basic).map(|secret| (id, secret));
        if basic.is_none() {
            form.insert("client_id", id);
            form.extend(secret.map(|secret| ("client_secret", secret)));
        }
        match self.issuer.post(&endpoints.token, &form, basic).await {
            Ok(Asked::Answered(body)) => serde_json::from_slice(&body).map_err(|_| Fault::Refused),
            Ok(Asked::Refused(status)) => {
                tracing::warn!(status, "the provider gives no token for this code");
                Err(Fault::Refused)
            }
            Err(why) => {
                tracing::warn!(why, "the provider could not be asked for a token");
                Err(Fault::Unavailable)
            }
        }
    }

    async fn attempt(&self, headers: &HeaderMap) -> Result<Attempt, Fault> {
        let key = self.key.get().await?;
        let mut tries = cookies::values(headers, COOKIE).filter_map(|value| Attempt::read(&key, value, Time::now()));
        tries.next().ok_or(Fault::Expired)
    }
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    /// For what the provider tells beside it.
    access_token: Option<String>,
}

/// What an error of the provider means for whoever comes back with it. Its text was written by whoever made the address.
fn told(error: &str) -> Fault {
    match error {
        "access_denied" => Fault::Denied,
        "temporarily_unavailable" | "server_error" => Fault::Unavailable,
        _ => Fault::Refused,
    }
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// One try to log in: a chance, from which all that has to be secret is derived by a key that browsers don't have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    chance: String,
    until: u64,
    back: String,
}

impl Attempt {
    fn new(back: &str) -> Self {
        let chance: [u8; 32] = rand::random();
        let until = Time::now().0.saturating_add(u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX));
        Self { chance: URL_SAFE_NO_PAD.encode(chance), until, back: place(back) }
    }

    fn derived(&self, key: &[u8], what: &str) -> String {
        URL_SAFE_NO_PAD.encode(mac(key, what, &self.chance).finalize().into_bytes())
    }

    fn signed(&self, key: &[u8]) -> String {
        let text = format!("{}.{}.{}", self.chance, self.until, self.back);
        let tag = mac(key, "cookie", &text).finalize().into_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// `None` for what we didn't sign, or too long ago.
    fn read(key: &[u8], value: &str, now: Time) -> Option<Self> {
        let (text, tag) = value.rsplit_once('.')?;
        mac(key, "cookie", text).verify_slice(&URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
        let mut parts = text.splitn(3, '.');
        let (chance, until, back) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        (now.0 < until).then(|| Self { chance: chance.to_owned(), until, back: back.to_owned() })
    }
}

fn mac(key: &[u8], what: &str, text: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(what).chain_update(b"\0").chain_update(text)
}

/// A place in the page as the page names it behind its `#`; nothing for what can't be one. It is never an address of its own.
pub(in crate::gateway) fn place(back: &str) -> String {
    let fits = back.len() <= BACK_BYTES_MAX && back.starts_with('/');
    let plain = back.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b));
    if fits && plain { back.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_reads_back_until_it_is_over_and_a_forged_one_does_not() {
        let attempt = Attempt::new("/c/cnv_1");
        let value = attempt.signed(b"key");
        assert_eq!(Attempt::read(b"key", &value, Time(attempt.until - 1)), Some(attempt.clone()));
        assert_eq!(Attempt::read(b"key", &value, Time(attempt.until)), None);
        assert_eq!(Attempt::read(b"other", &value, Time(0)), None);
        for broken in ["", ".", "a.1./.b", &value[1..], &value.replace("cnv_1", "cnv_2"), &format!("{value}x")] {
            assert_eq!(Attempt::read(b"key", broken, Time(0)), None, "{broken}");
        }
        let texts: Vec<String> = ["state", "nonce", "verifier"].iter().map(|what| attempt.derived(b"key", what)).collect();
        assert!(texts.iter().all(|text| text.len() == 43 && !value.contains(text.as_str())), "the cookie holds none of them");
        assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2]);
        assert_ne!(Attempt::new("").derived(b"key", "state"), texts[0]);
    }

    #[test]
    fn only_places_in_the_page_are_come_back_to() {
        for good in ["/", "/c/cnv_01h-x", "/cluster"] {
            assert_eq!(place(good), good);
        }
        for evil in ["", "c", "https://evil.example", "/\\evil", "/c?x=1", "/c#x", "/c\r\nset-cookie: a=b", "/é", "/a.b"] {
            assert_eq!(place(evil), "", "{evil}");
        }
        assert_eq!(place(&format!("/{}", "x".repeat(200))), "");
    }

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_that_of_the_standard() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn what_the_provider_says_is_one_of_few_things() {
        assert_eq!(told("access_denied"), Fault::Denied);
        assert_eq!(told("server_error"), Fault::Unavailable);
        assert_eq!(told("<script>"), Fault::Refused);
    }
}
