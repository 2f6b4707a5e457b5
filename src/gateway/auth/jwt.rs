//! Tokens of an issuer that the operator trusts (JWT, RFC 7519): signature and claims, and nothing taken from the token that
//! it has not proved. Pure: where keys come from is `issuer`'s business.
//!
//! By hand, on `ring` and `hmac`: what is wanted of the standard is three algorithms and five claims, and the widely used
//! crate for it brings either a second C build or an RSA with an open advisory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use sha2::Sha256;

use crate::config::Secret;

/// Bytes of a token; real ones have one or two thousand.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Keys of an issuer; real ones have two or three.
const KEYS_MAX: usize = 100;
const SUBJECT_BYTES_MAX: usize = 255;
/// Seconds that clocks may differ.
const LEEWAY_SECONDS: i64 = 30;

/// What a token has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    /// What a token has to repeat that was asked for by us, for us alone.
    pub(super) nonce: Option<&'a str>,
    pub(super) admin_role: Option<&'a str>,
    /// Where it says roles; dots lead into what is inside.
    pub(super) roles_claim: &'a str,
}

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) subject: String,
    /// What people call the subject, if the issuer says.
    pub(super) name: Option<String>,
    pub(super) admin: bool,
    /// Seconds since 1970, leeway included: from then on it lets nobody in.
    pub(super) until: i64,
}

impl Bearer {
    /// Whether the token left something open that the issuer may tell when it is asked.
    pub(super) fn leaves_open(&self, rules: Rules<'_>) -> bool {
        self.name.is_none() || rules.admin_role.is_some() && !self.admin
    }

    /// Adds what it told; of somebody else it counts for nothing.
    pub(super) fn learn(&mut self, told: &[u8], rules: Rules<'_>) {
        let told: Option<UserInfo> = serde_json::from_slice(told).ok();
        if let Some(UserInfo { person, .. }) = told.filter(|told| told.sub == self.subject) {
            self.admin |= person.is_admin(rules);
            self.name = self.name.take().or(person.name());
        }
    }
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Signed by a key that we don't have; the issuer may have a new one.
    UnknownKey,
    No,
}

/// The keys of an issuer. A key is good for its own algorithm and for nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<(Option<String>, Key)>,
}

#[derive(Clone)]
enum Key {
    /// HS256.
    Shared(Secret),
    /// RS256: modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    /// ES256: an uncompressed point.
    Ec(Vec<u8>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.algorithm())
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What has to be understood: nothing is.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    azp: Option<String>,
    #[serde(flatten)]
    person: Person,
}

/// What an issuer says of a person.
#[derive(Deserialize)]
struct Person {
    preferred_username: Option<String>,
    email: Option<String>,
    /// Roles are among these, wherever the issuer has them.
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

/// What it says where it is asked for more than its token tells (OpenID Connect Core, section 5.3).
#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(flatten)]
    person: Person,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Checks a token at this second since 1970.
pub(super) fn verify(token: &str, keys: &KeySet, rules: Rules<'_>, now: i64) -> Result<Bearer, Denied> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Denied::No);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Denied::No)?;
    let (header, claims) = signed.split_once('.').ok_or(Denied::No)?;
    let signature = decode(signature).ok_or(Denied::No)?;
    let header: Header = json(header).ok_or(Denied::No)?;
    if header.crit.is_some() {
        return Err(Denied::No);
    }
    let key = keys.find(&header)?;
    if !key.signed(signed.as_bytes(), &signature) {
        return Err(Denied::No);
    }
    judge(json(claims).ok_or(Denied::No)?, rules, now).ok_or(Denied::No)
}

fn judge(claims: Claims, rules: Rules<'_>, now: i64) -> Option<Bearer> {
    let meant = match &claims.aud {
        Audience::One(one) => one == rules.audience,
        Audience::Many(many) => many.iter().any(|one| one == rules.audience),
    };
    let until = seconds(claims.exp)?.checked_add(LEEWAY_SECONDS)?;
    let from = claims.nbf.map_or(Some(i64::MIN), |nbf| seconds(nbf)?.checked_sub(LEEWAY_SECONDS))?;
    let named = (1..=SUBJECT_BYTES_MAX).contains(&claims.sub.len());
    let admin = claims.person.is_admin(rules);
    let good = meant && named && claims.iss == rules.issuer && now < until && now >= from && answers(&claims, rules);
    good.then_some(Bearer { subject: claims.sub, name: claims.person.name(), admin, until })
}

/// Whether a token that was asked for is the one that was asked for (OpenID Connect Core, section 3.1.3.7).
fn answers(claims: &Claims, rules: Rules<'_>) -> bool {
    let Some(nonce) = rules.nonce else { return true };
    let several = matches!(&claims.aud, Audience::Many(many) if many.len() > 1);
    let for_us = claims.azp.as_deref().map_or(!several, |party| party == rules.audience);
    claims.nonce.as_deref() == Some(nonce) && for_us
}

impl Person {
    fn name(self) -> Option<String> {
        self.preferred_username.or(self.email)
    }

    fn is_admin(&self, rules: Rules<'_>) -> bool {
        rules.admin_role.is_some_and(|role| self.holds(rules.roles_claim, role))
    }

    /// Whether the claim at this path is this role, or a list with it.
    fn holds(&self, path: &str, role: &str) -> bool {
        let mut steps = path.split('.');
        let first = steps.next().and_then(|step| self.others.get(step));
        match steps.try_fold(first, |found, step| found.map(|found| found.get(step))).flatten() {
            Some(serde_json::Value::String(one)) => one == role,
            Some(serde_json::Value::Array(many)) => many.iter().any(|one| one == role),
            _ => false,
        }
    }
}

/// A NumericDate, which may have a fraction; one that no clock will ever show is none.
fn seconds(date: f64) -> Option<i64> {
    const FAR: f64 = 1e12;
    (date.is_finite() && (0.0..FAR).contains(&date)).then_some(date.floor() as i64)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

impl KeySet {
    pub(super) fn shared(secret: &Secret) -> Self {
        Self { keys: vec![(None, Key::Shared(secret.clone()))] }
    }

    /// The keys of a JWK set that we can use: one of another kind is none of ours. `None` when it isn't a set of keys.
    pub(super) fn from_jwks(body: &[u8]) -> Option<Self> {
        let jwks: Jwks = serde_json::from_slice(body).ok()?;
        let read = |value: serde_json::Value| serde_json::from_value::<Jwk>(value).ok().and_then(Jwk::key);
        Some(Self { keys: jwks.keys.into_iter().take(KEYS_MAX).filter_map(read).collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key that this token may be signed with. Its algorithm is the key's to say, not the token's.
    fn find(&self, header: &Header) -> Result<&Key, Denied> {
        let named = |kid: &Option<String>| header.kid.is_none() || kid.is_none() || *kid == header.kid;
        let mut fitting = self.keys.iter().filter(|(kid, _)| named(kid));
        let Some((_, first)) = fitting.next() else { return Err(Denied::UnknownKey) };
        // Without a name it has to be clear which one is meant.
        let only = fitting.next().is_none();
        if first.algorithm() == header.alg && only { Ok(first) } else { Err(Denied::No) }
    }
}

impl Jwk {
    fn key(self) -> Option<(Option<String>, Key)> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let key = match self.kty.as_str() {
            "RSA" => Key::Rsa(decode(self.n.as_deref()?)?, decode(self.e.as_deref()?)?),
            "EC" if self.crv.as_deref() == Some("P-256") => {
                let point = [&[4_u8][..], &decode(self.x.as_deref()?)?, &decode(self.y.as_deref()?)?].concat();
                Key::Ec(point)
            }
            _ => return None,
        };
        let pinned = self.alg.is_none_or(|alg| alg == key.algorithm());
        pinned.then_some((self.kid, key))
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Shared(_) => "HS256",
            Self::Rsa(..) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Shared(secret) => {
                let mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes());
                mac.is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
            }
            // Below 2,048 bits it is refused.
            Self::Rsa(n, e) => {
                RsaPublicKeyComponents { n, e }.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Self::Ec(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_700_000_000;
    const RULES: Rules<'_> =
        Rules { issuer: "https://issuer", audience: "chat", nonce: None, admin_role: Some("boss"), roles_claim: "roles" };

    fn keys() -> KeySet {
        KeySet::shared(&Secret::new("a secret of at least thirty-two bytes"))
    }

    fn token(header: &Value, claims: &Value, secret: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signed).finalize();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
    }

    fn good() -> Value {
        json!({"iss": "https://issuer", "sub": "mai", "aud": "chat", "exp": NOW + 60})
    }

    fn with(change: &[(&str, Value)]) -> Value {
        let mut claims = good();
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        claims
    }

    fn judged(header: Value, claims: Value) -> Result<Bearer, Denied> {
        verify(&token(&header, &claims, "a secret of at least thirty-two bytes"), &keys(), RULES, NOW)
    }

    #[test]
    fn a_good_token_says_who() {
        let hs256 = || json!({"alg": "HS256", "typ": "JWT"});
        let bearer = judged(hs256(), good()).unwrap();
        assert_eq!(bearer, Bearer { subject: "mai".into(), name: None, admin: false, until: NOW + 90 });
        for change in [
            vec![("aud", json!(["other", "chat"]))],
            vec![("exp", json!(NOW - 29))],
            vec![("exp", json!(NOW as f64 + 0.5))],
            vec![("nbf", json!(NOW + 30))],
            vec![("iat", json!("ignored")), ("unknown", json!({}))],
        ] {
            assert!(judged(hs256(), with(&change)).is_ok(), "{change:?}");
        }
        assert!(judged(hs256(), with(&[("roles", json!(["boss"]))])).unwrap().admin);
    }

    #[test]
    fn a_token_that_was_asked_for_repeats_what_was_asked() {
        let asked = |claims: Value| {
            let rules = Rules { nonce: Some("once"), ..RULES };
            let token = token(&json!({"alg": "HS256"}), &claims, "a secret of at least thirty-two bytes");
            verify(&token, &keys(), rules, NOW).is_ok()
        };
        let nonce = ("nonce", json!("once"));
        assert!(asked(with(std::slice::from_ref(&nonce))));
        assert!(asked(with(&[nonce.clone(), ("aud", json!(["chat"]))])));
        assert!(asked(with(&[nonce.clone(), ("aud", json!(["other", "chat"])), ("azp", json!("chat"))])));
        assert!(!asked(good()) && !asked(with(&[("nonce", json!("twice"))])) && !asked(with(&[("nonce", json!(7))])));
        assert!(!asked(with(&[nonce.clone(), ("aud", json!(["other", "chat"]))])), "for whom was it asked?");
        assert!(!asked(with(&[nonce, ("azp", json!("other"))])));
    }

    #[test]
    fn roles_are_found_where_the_issuer_has_them() {
        let admin = |path: &str, claims: Value| {
            let rules = Rules { roles_claim: path, ..RULES };
            let token = token(&json!({"alg": "HS256"}), &claims, "a secret of at least thirty-two bytes");
            verify(&token, &keys(), rules, NOW).unwrap().admin
        };
        let nested = || with(&[("realm_access", json!({"roles": ["boss", 7]}))]);
        assert!(admin("realm_access.roles", nested()) && admin("groups", with(&[("groups", json!("boss"))])));
        for (path, claims) in [
            ("roles", nested()),
            ("realm_access", nested()),
            ("realm_access.roles.0", nested()),
            ("roles", with(&[("roles", json!(["bosses"]))])),
            ("roles", with(&[("roles", json!({"boss": true}))])),
            ("sub", with(&[("sub", json!("boss"))])),
        ] {
            assert!(!admin(path, claims.clone()), "{path} in {claims}");
        }
    }

    #[test]
    fn what_is_wrong_in_any_way_lets_nobody_in() {
        let hs256 = || json!({"alg": "HS256"});
        for change in [
            ("iss", json!("https://issuer/")),
            ("iss", json!(["https://issuer"])),
            ("aud", json!("chats")),
            ("aud", json!([])),
            ("aud", json!(null)),
            ("exp", json!(NOW - 31)),
            ("exp", json!(null)),
            ("exp", json!("9999999999")),
            ("exp", json!(1e300)),
            ("exp", json!(-1)),
            ("nbf", json!(NOW + 31)),
            ("sub", json!("")),
            ("sub", json!("x".repeat(256))),
            ("sub", json!(7)),
        ] {
            assert_eq!(judged(hs256(), with(std::slice::from_ref(&change))), Err(Denied::No), "{change:?}");
        }
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": "HS384"}),
            json!({"alg": "RS256"}),
            json!({"alg": "ES256"}),
            json!({"alg": "hs256"}),
            json!({"alg": "HS256", "crit": ["exp"]}),
            json!({}),
        ] {
            assert_eq!(judged(header.clone(), good()), Err(Denied::No), "{header}");
        }
        let other = token(&hs256(), &good(), "another secret of thirty-two bytes!!");
        assert_eq!(verify(&other, &keys(), RULES, NOW), Err(Denied::No));
        let real = token(&hs256(), &good(), "a secret of at least thirty-two bytes");
        let (signed, _) = real.rsplit_once('.').unwrap();
        for broken in [signed.to_owned(), format!("{signed}."), format!("{real}="), format!("{real}.x"), "x".repeat(9_000)] {
            assert_eq!(verify(&broken, &keys(), RULES, NOW), Err(Denied::No), "{broken}");
        }
    }

    /// The classic: an RSA key, which is public, taken for the secret of an HMAC.
    #[test]
    fn a_public_key_is_no_shared_secret() {
        let n = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        let jwks = json!({"keys": [{"kty": "RSA", "kid": "a", "n": n, "e": "AQAB"}]}).to_string();
        let set = KeySet::from_jwks(jwks.as_bytes()).unwrap();
        let forged = token(&json!({"alg": "HS256", "kid": "a"}), &good(), &n);
        assert_eq!(verify(&forged, &set, RULES, NOW), Err(Denied::No));
        let unknown = token(&json!({"alg": "RS256", "kid": "b"}), &good(), &n);
        assert_eq!(verify(&unknown, &set, RULES, NOW), Err(Denied::UnknownKey));
    }

    /// RFC 7515, appendix A.2.
    #[test]
    fn a_signature_by_rsa_is_checked() {
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let signed =
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let jwks = json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]}).to_string();
        let set = KeySet::from_jwks(jwks.as_bytes()).unwrap();
        let (_, key) = &set.keys[0];
        let mut bytes = decode(signature).unwrap();
        assert!(key.signed(signed.as_bytes(), &bytes));
        assert!(!key.signed(&signed.as_bytes()[1..], &bytes));
        bytes[9] ^= 1;
        assert!(!key.signed(signed.as_bytes(), &bytes));
    }

    #[test]
    fn only_keys_for_signing_with_our_algorithms_are_taken() {
        let set = |keys: Value| KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes()).map(|set| set.keys.len());
        let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
        let other = |name: &str, value: &str| {
            let mut key = rsa.clone();
            key[name] = json!(value);
            key
        };
        assert_eq!(set(json!([rsa, other("alg", "RS256"), other("use", "sig")])), Some(3));
        assert_eq!(set(json!([other("alg", "PS256"), other("use", "enc"), {"kty": "oct", "k": "AQAB"}, 7, {}])), Some(0));
        assert_eq!(set(json!([{"kty": "EC", "crv": "P-384", "x": "AQ", "y": "AQ"}])), Some(0));
        assert_eq!(set(json!("x")), None);
        assert!(KeySet::from_jwks(b"<html>").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(verify(&text, &keys(), RULES, NOW).is_err());
            let _ = KeySet::from_jwks(&bytes);
            let dotted = format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&text), text);
            prop_assert!(verify(&dotted, &keys(), RULES, NOW).is_err());
        }
    }
}
