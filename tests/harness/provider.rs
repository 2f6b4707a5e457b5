//! A small OpenID Connect provider that people log in at: discovery, the authorization code flow with PKCE, keys that rotate. It
//! is strict with its client, and on demand gives tokens that no provider should. It must not know what is tested.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Form, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::issuer::SigningKey;

pub(crate) const CLIENT: &str = "chatnode";
/// With characters that have to be written as a form writes them, in the header as well.
pub(crate) const CLIENT_SECRET: &str = "s3cret: of 100% + more";

type Fields = HashMap<String, String>;
type Forge = Box<dyn Fn(&SigningKey, Value) -> Value + Send>;

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Held>>,
}

struct Held {
    /// The first one signs.
    keys: Vec<SigningKey>,
    away: bool,
    /// What it says instead of a code.
    refuses: Option<&'static str>,
    /// What it says of whoever logs in.
    person: Value,
    /// Its id token says only whose it is; the rest is told to who asks for it, in these words.
    tells: Option<(StatusCode, Value)>,
    /// What it makes of an id token.
    forge: Option<Forge>,
    codes: HashMap<String, Granted>,
    /// How often a code was shown to it.
    exchanges: usize,
}

struct Granted {
    redirect: String,
    nonce: String,
    challenge: String,
    person: Value,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let held = Held {
            keys: vec![SigningKey::generate("one")],
            away: false,
            refuses: None,
            person: json!({"sub": "1001", "preferred_username": "Mai"}),
            tells: None,
            forge: None,
            codes: HashMap::new(),
            exchanges: 0,
        };
        let provider = Self { address, state: Arc::new(Mutex::new(held)) };
        let router = Router::new()
            .route("/realm/.well-known/openid-configuration", get(describe))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .layer(from_fn_with_state(provider.clone(), at_home))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    pub(crate) fn name(&self) -> String {
        format!("http://{}/realm", self.address)
    }

    /// From now on this key signs, and it alone is published.
    pub(crate) fn rotate(&self, key: SigningKey) {
        self.held().keys = vec![key];
    }

    /// Answers nothing but errors, or is well again.
    pub(crate) fn away(&self, away: bool) {
        self.held().away = away;
    }

    pub(crate) fn refuse(&self, error: Option<&'static str>) {
        self.held().refuses = error;
    }

    /// Who sits in front of it.
    pub(crate) fn person(&self, claims: Value) {
        self.held().person = claims;
    }

    /// What it answers who asks for more than its id token, which then says nothing but whose it is.
    pub(crate) fn tell(&self, status: StatusCode, claims: Value) {
        self.held().tells = Some((status, claims));
    }

    /// What it answers for a code, made from the key and the claims that it would have signed.
    pub(crate) fn forge(&self, forge: impl Fn(&SigningKey, Value) -> Value + Send + 'static) {
        self.held().forge = Some(Box::new(forge));
    }

    pub(crate) fn exchanges(&self) -> usize {
        self.held().exchanges
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().expect("a lock")
    }
}

async fn at_home(State(provider): State<Provider>, request: Request, next: Next) -> Response {
    if provider.held().away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

async fn describe(State(provider): State<Provider>) -> Json<Value> {
    let at = format!("http://{}", provider.address);
    let mut said = json!({"issuer": provider.name(), "authorization_endpoint": format!("{at}/authorize?tenant=a"),
        "token_endpoint": format!("{at}/token"), "jwks_uri": format!("{at}/keys")});
    if provider.held().tells.is_some() {
        said["userinfo_endpoint"] = json!(format!("{at}/userinfo"));
    }
    Json(said)
}

async fn userinfo(State(provider): State<Provider>, headers: HeaderMap) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer x");
    match provider.held().tells.clone().filter(|_| bearer) {
        Some((status, claims)) => (status, Json(claims)).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn keys(State(provider): State<Provider>) -> Json<Value> {
    let keys: Vec<Value> = provider.held().keys.iter().map(SigningKey::jwk).collect();
    Json(json!({"keys": keys}))
}

/// As if somebody had logged in at once.
async fn authorize(State(provider): State<Provider>, Query(asked): Query<Fields>) -> Response {
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let known = field("client_id") == CLIENT && field("response_type") == "code" && field("tenant") == "a";
    let protected = field("code_challenge_method") == "S256" && field("code_challenge").len() == 43;
    let complete = known && protected && field("scope").split(' ').any(|scope| scope == "openid");
    let Ok(mut back) = reqwest::Url::parse(&field("redirect_uri")) else { return StatusCode::BAD_REQUEST.into_response() };
    if !complete || back.path() != "/api/login/oidc/callback" {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut held = provider.held();
    back.query_pairs_mut().append_pair("state", &field("state")).append_pair("iss", &provider.name());
    if let Some(error) = held.refuses {
        back.query_pairs_mut().append_pair("error", error).append_pair("error_description", "<b>no</b>");
    } else {
        let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        back.query_pairs_mut().append_pair("code", &code);
        let (redirect, nonce, challenge) = (field("redirect_uri"), field("nonce"), field("code_challenge"));
        let granted = Granted { redirect, nonce, challenge, person: held.person.clone() };
        held.codes.insert(code, granted);
    }
    Redirect::to(back.as_str()).into_response()
}

async fn token(State(provider): State<Provider>, headers: HeaderMap, Form(asked): Form<Fields>) -> Response {
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let mut held = provider.held();
    held.exchanges += 1;
    // A code is good for one time, whoever shows it.
    let granted = held.codes.remove(&field("code"));
    let fitting = granted.filter(|granted| {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
        granted.challenge == challenge && granted.redirect == field("redirect_uri")
    });
    let known = is_client(&headers) && field("grant_type") == "authorization_code" && !asked.contains_key("client_secret");
    let Some(granted) = fitting.filter(|_| known) else {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    };
    let mut claims = granted.person;
    if held.tells.is_some() {
        claims = json!({"sub": claims["sub"]});
    }
    for (name, value) in [("iss", provider.name()), ("aud", CLIENT.to_owned()), ("nonce", granted.nonce)] {
        claims[name] = json!(value);
    }
    claims["exp"] = json!(chatnode::model::Time::now().0 / 1_000 + 60);
    let key = &held.keys[0];
    let answer = match &held.forge {
        Some(forge) => forge(key, claims),
        None => json!({"id_token": key.token(&claims), "access_token": "x", "token_type": "Bearer"}),
    };
    Json(answer).into_response()
}

/// Whether the client says its name and secret as RFC 6749 wants them.
fn is_client(headers: &HeaderMap) -> bool {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let expected = format!("{CLIENT}:{}", "s3cret%3A+of+100%25+%2B+more");
    text.strip_prefix("Basic ").is_some_and(|coded| STANDARD.decode(coded).is_ok_and(|text| text == expected.as_bytes()))
}
