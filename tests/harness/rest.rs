//! A client of the REST routes that keeps its cookie. It must not know what is tested.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::client::{PATIENCE, Tab};

#[derive(Clone, Debug)]
pub(crate) struct Rest {
    client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) cookie: String,
}

impl Rest {
    /// A browser that nobody knows yet.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let client = client();
        let response = client.get(format!("http://{address}/api/models")).send().await.expect("an answer");
        let cookie = cookie_of(&response).expect("a cookie where none came");
        Self { client, address, cookie }
    }

    /// A browser in which somebody has logged in.
    pub(crate) async fn log_in(address: SocketAddr, name: &str, password: &str) -> Self {
        let client = client();
        let body = serde_json::json!({"name": name, "password": password});
        let response = client.post(format!("http://{address}/api/login")).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = cookie_of(&response).expect("a session");
        Self { client, address, cookie }
    }

    /// The same browser at another gateway.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// The same browser as this tab.
    pub(crate) fn of(tab: &Tab, address: SocketAddr) -> Self {
        Self { client: client(), address, cookie: tab.cookie.clone().expect("a cookie") }
    }

    pub(crate) fn tab(&self) -> Tab {
        Tab { cookie: Some(self.cookie.clone()), page: true, ..Tab::default() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address)).header("cookie", &self.cookie)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.request(Method::POST, path).json(body)).await
    }

    /// What has to go well.
    pub(crate) async fn got(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// What isn't JSON.
    pub(crate) async fn text(&self, path: &str) -> String {
        self.request(Method::GET, path).send().await.expect("an answer").text().await.expect("a text")
    }

    /// Waits until this is the model that is chosen for who chooses none.
    pub(crate) async fn offered(&self, model: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.got("/api/models").await["items"][0]["id"] != model {
            assert!(Instant::now() < deadline, "{model} is not offered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A new conversation's id.
    pub(crate) async fn conversation(&self) -> String {
        let (status, body) = self.post("/api/conversations", &serde_json::json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }
}

/// Sends, and answers the status with the body, `null` where it isn't JSON.
pub(crate) async fn read(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let body = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

pub(crate) fn cookie_of(response: &Response) -> Option<String> {
    let value = response.headers().get("set-cookie")?.to_str().ok()?;
    value.split(';').next().map(str::to_owned)
}

pub(crate) fn client() -> Client {
    builder().build().expect("a client")
}

/// Goes nowhere by itself.
pub(crate) fn unled_client() -> Client {
    builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

fn builder() -> ClientBuilder {
    // No TLS is spoken here, but the library won't start without somebody who could.
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that the provider knows")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Client::builder().no_proxy().tls_backend_preconfigured(tls)
}
