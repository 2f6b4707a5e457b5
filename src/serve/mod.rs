//! Connections: taken, encrypted where configured, answered over HTTP/1.1, and cut when they hold up more than their own
//! business. It must not know what is asked or answered.

mod body;
mod certificate;
mod socket;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub use self::certificate::Certificate;
use self::socket::{Goodbye, Socket};
use crate::config::HttpConfig;
use crate::drain::Drain;
use crate::telemetry::Metrics;
use crate::unwanted::Unwanted;

/// Bytes of a request's head; real ones have a few hundred, and a few thousand with a token.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Before the next try when the system gives no more connections.
const AGAIN: Duration = Duration::from_millis(500);

/// What a node listens on.
#[derive(Debug)]
pub struct Listeners {
    pub public: TcpListener,
    /// Where operators ask, if not where people do.
    pub admin: Option<TcpListener>,
    /// What people's connections are encrypted with.
    pub certificate: Option<Certificate>,
}

/// Why a node can't listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't listen on {address}: {reason}")]
    Listen { address: SocketAddr, reason: io::Error },
    #[error("the certificate can't be used: {0}")]
    Certificate(String),
}

impl Listeners {
    /// # Errors
    /// The first address that is not to be had, or what is wrong with the certificate.
    pub async fn bind(listen: SocketAddr, http: &HttpConfig, drain: &Drain) -> Result<Self, Error> {
        let bind = async |address| TcpListener::bind(address).await.map_err(|reason| Error::Listen { address, reason });
        let public = bind(listen).await?;
        let admin = match http.admin_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let certificate = http.tls.as_ref().map(|tls| Certificate::open(tls, drain)).transpose().map_err(Error::Certificate)?;
        Ok(Self { public, admin, certificate })
    }
}

/// Answers what comes to a listener until the node stops. Each request brings the [`Unwanted`] of its listener along.
pub fn serve(
    listener: TcpListener,
    certificate: Option<&Certificate>,
    router: Router,
    http: HttpConfig,
    drain: &Drain,
    metrics: Metrics,
) {
    let acceptor = certificate.map(Certificate::acceptor);
    let room = Arc::new(Semaphore::new(http.connections_max));
    let unwanted = Unwanted::default();
    let door = Door { acceptor, router, http: Arc::new(http), drain: drain.clone(), metrics, unwanted };
    drain.spawn("http", door.open(listener, room));
}

/// What each connection of a listener gets. Cheap to clone.
#[derive(Clone)]
struct Door {
    acceptor: Option<TlsAcceptor>,
    router: Router,
    http: Arc<HttpConfig>,
    drain: Drain,
    metrics: Metrics,
    unwanted: Unwanted,
}

impl Door {
    async fn open(self, listener: TcpListener, room: Arc<Semaphore>) {
        let stopped = self.drain.stopped().clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match Arc::clone(&room).try_acquire_owned() {
                    Ok(place) => self.drain.spawn("connection", self.clone().connection(stream, peer, place)),
                    Err(_) => self.metrics.connection_cut("full"),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // A token that waits for the next one is a token late.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let socket = tokio::select! {
            socket = self.encrypt(stream) => socket,
            () = self.drain.stopped().cancelled() => return,
        };
        if let Some(wire) = socket {
            let goodbye = Goodbye { drain: self.drain.clone(), unwanted: self.unwanted.clone(), _place: place };
            let socket = Socket::new(wire, self.http.write_timeout, self.metrics.clone(), goodbye);
            // What is needed for one connection alone is put together before it is awaited, or it would be held twice.
            Box::pin(self.answer(socket, peer)).await;
        }
    }

    async fn encrypt(&self, stream: TcpStream) -> Option<socket::Wire> {
        let Some(acceptor) = &self.acceptor else { return Some(socket::Wire::Plain(stream)) };
        match timeout(self.http.head_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(socket::Wire::Encrypted(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no encryption was agreed on");
                self.metrics.connection_cut("tls");
                None
            }
            Err(_) => {
                self.metrics.connection_cut("slow");
                None
            }
        }
    }

    /// Until the connection ends, or becomes a WebSocket, which is somebody else's business.
    async fn answer(&self, socket: Socket, peer: SocketAddr) {
        let asked = AtomicBool::new(false);
        let service = service_fn(|request: hyper::Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            self.ask(request, peer)
        });
        let mut server = http1::Builder::new();
        // The library counts from the answer before, or from the connection. The first head is given less time here.
        server.timer(TokioTimer::new()).header_read_timeout(self.http.idle_timeout).max_buf_size(HEAD_BYTES_MAX);
        let mut connection = pin!(server.serve_connection(TokioIo::new(socket), service).with_upgrades());
        let mut first = pin!(sleep(self.http.head_timeout));
        let (mut waited, mut leaving) = (false, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if ended.is_err_and(|error| error.is_timeout()) {
                        self.metrics.connection_cut("idle");
                    }
                    return;
                }
                () = first.as_mut(), if !waited => {
                    waited = true;
                    if !asked.load(Ordering::Relaxed) {
                        self.metrics.connection_cut("slow");
                        return;
                    }
                }
                () = self.drain.stopped().cancelled(), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn ask(&self, request: hyper::Request<Incoming>, peer: SocketAddr) -> Result<axum::response::Response, Infallible> {
        let mut request = request.map(|body| match hyper::body::Body::is_end_stream(&body) {
            true => Body::empty(),
            false => Body::new(body::InTime::new(body, self.http.body_timeout)),
        });
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(self.unwanted.clone());
        TowerToHyperService::new(self.router.clone()).call(request).await
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
