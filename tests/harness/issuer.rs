//! An issuer of tokens with real keys (ES256), which it publishes, rotates, and sometimes does not serve. It must not know
//! what is tested.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One key pair and its name.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    pub(crate) kid: String,
}

impl SigningKey {
    pub(crate) fn generate(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("its own key");
        Self { pair, kid: kid.to_owned() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": part(&point[1..33]), "y": part(&point[33..65])})
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_as(&json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}), claims)
    }

    /// With a header of one's own.
    pub(crate) fn token_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    served: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// Publishes the keys of this set until told otherwise, for as long as the runtime of its test lasts.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let issuer = Self { address, served: Arc::default(), asked: Arc::default() };
        issuer.publish(keys);
        let router = Router::new().route("/jwks", get(jwks)).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.served.lock().expect("a lock") = Some(json!({"keys": keys}));
    }

    /// Answers nothing but errors from now on.
    pub(crate) fn fail(&self) {
        *self.served.lock().expect("a lock") = None;
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn jwks_url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }
}

async fn jwks(State(issuer): State<Issuer>) -> Result<axum::Json<Value>, StatusCode> {
    issuer.asked.fetch_add(1, Ordering::Relaxed);
    issuer.served.lock().expect("a lock").clone().map(axum::Json).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}
