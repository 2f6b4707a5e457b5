//! A client as a browser is one: a cookie, requests, WebSockets. Must not know what is measured.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use reqwest::header::{COOKIE, SET_COOKIE};
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message as Packet, Utf8Bytes};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::Url;

use super::Failure;
use crate::protocol::{ClientFrame, ServerFrame};

/// How long anything may take that has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Ten thousand sockets must fit into this process too.
const BUFFER_BYTES: usize = 4 * 1024;

/// The gateways, used in turn. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gateways {
    urls: Arc<[Url]>,
    http: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
}

/// A user that the gateways know by a cookie. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Person {
    gateways: Gateways,
    cookie: Arc<str>,
    /// The gateway that this person asks first.
    home: usize,
}

#[derive(Debug)]
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Gateways {
    pub(super) fn new(urls: &[Url]) -> Result<Self, Failure> {
        // Whoever came first has decided; here nobody has.
        let _ = ring::default_provider().install_default();
        let tls = rustls::ClientConfig::builder()
            .with_platform_verifier()
            .map_err(|error| Failure::new(format!("no certificates to trust: {error}")))?
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(PATIENCE)
            .build()
            .map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self { urls: urls.into(), http, tls: Arc::new(tls) })
    }

    pub(super) fn count(&self) -> usize {
        self.urls.len()
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Somebody new.
    pub(super) async fn person(&self, home: usize) -> Result<Person, Failure> {
        let response = self.http.get(self.page(home, "/api/models")).send().await.map_err(Failure::of_http)?;
        let cookie = response.headers().get(SET_COOKIE).and_then(|value| value.to_str().ok()?.split(';').next());
        let cookie = cookie.ok_or_else(|| Failure::new("a gateway gave no cookie: is it one that asks for a login?"))?;
        Ok(Person { gateways: self.clone(), cookie: cookie.into(), home })
    }

    pub(super) async fn people(&self, count: usize) -> Result<Vec<Person>, Failure> {
        let mut people = Vec::with_capacity(count);
        for home in 0..count {
            people.push(self.person(home).await?);
        }
        Ok(people)
    }

    /// Opens a socket and waits for the server to welcome it.
    pub(super) async fn connect(&self, at: usize, cookie: Option<&str>) -> Result<Socket, Failure> {
        timeout(PATIENCE, self.welcomed(at, cookie)).await.map_err(|_| Failure::new("no welcome in time"))?
    }

    async fn welcomed(&self, at: usize, cookie: Option<&str>) -> Result<Socket, Failure> {
        let mut url = Url::parse(&self.page(at, "/ws/chat")).map_err(|error| Failure::new(error.to_string()))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let _ = url.set_scheme(scheme);
        let mut request = url.as_str().into_client_request().map_err(Failure::of_socket)?;
        if let Some(cookie) = cookie {
            let cookie = cookie.parse().map_err(|_| Failure::new("a cookie that is no header"))?;
            request.headers_mut().insert("cookie", cookie);
        }
        let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|error| Failure::new(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| Failure::new(error.to_string()))?;
        let limits = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        let connector = (scheme == "wss").then(|| Connector::Rustls(Arc::clone(&self.tls)));
        let connected = client_async_tls_with_config(request, tcp, Some(limits), connector).await;
        let mut socket = Socket { stream: connected.map_err(Failure::of_socket)?.0 };
        let text = socket.read().await?;
        match serde_json::from_str(&text) {
            Ok(ServerFrame::Welcome { protocol: 1, .. }) => Ok(socket),
            _ => Err(Failure::new("a gateway does not begin with a welcome of protocol 1")),
        }
    }

    fn page(&self, at: usize, path: &str) -> String {
        format!("{}{path}", self.urls[at % self.urls.len()].as_str().trim_end_matches('/'))
    }
}

impl Person {
    /// A socket of this person, so many gateways further than home.
    pub(super) async fn socket(&self, further: usize) -> Result<Socket, Failure> {
        self.gateways.connect(self.home + further, Some(&self.cookie)).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask::<(), T>(Method::GET, path, None).await
    }

    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask<B: Serialize, T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&B>) -> Result<T, Failure> {
        let page = self.gateways.page(self.home, path);
        let mut request = self.gateways.http.request(method, page).header(COOKIE, &*self.cookie);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(Failure::of_http)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(Failure::of_http)?;
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            return Err(Failure::new(format!("{path} was answered with status {}: {said}", status.as_u16())));
        }
        serde_json::from_slice(&bytes).map_err(|error| Failure::new(format!("{path} was answered with something else: {error}")))
    }
}

impl Socket {
    pub(super) async fn say(&mut self, frame: &ClientFrame) -> Result<(), Failure> {
        let text = serde_json::to_string(frame).map_err(|error| Failure::new(error.to_string()))?;
        self.stream.send(Packet::text(text)).await.map_err(Failure::of_socket)
    }

    /// The next frame, as text.
    pub(super) async fn read(&mut self) -> Result<Utf8Bytes, Failure> {
        loop {
            match self.stream.next().await {
                Some(Ok(Packet::Text(text))) => return Ok(text),
                Some(Ok(Packet::Close(frame))) => {
                    let code = frame.map_or(0, |frame| frame.code.into());
                    return Err(Failure::new(format!("a gateway closed a socket with code {code}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Failure::of_socket(error)),
                None => return Err(Failure::new("a gateway closed a socket")),
            }
        }
    }

    pub(super) async fn read_in_time(&mut self) -> Result<Utf8Bytes, Failure> {
        timeout(PATIENCE, self.read()).await.map_err(|_| Failure::new("a gateway said nothing for too long"))?
    }

    /// Says goodbye; what the other side makes of it doesn't count.
    pub(super) async fn close(mut self) {
        let _ = timeout(PATIENCE, self.stream.close(None)).await;
    }
}
