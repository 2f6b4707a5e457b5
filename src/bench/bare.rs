//! The least that a fan-out can be: frames from one place in memory to WebSockets, with no store, no bus and no other node
//! between. What this machine can do at most, for comparison. Must not know anything of chatnode's gateway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::{Message as Packet, Utf8Bytes};
use url::Url;

use super::Failure;
use super::client::{Gateways, Socket};
use crate::model::UserId;
use crate::protocol::ServerFrame;
use crate::stamp;

/// Frames that may wait for one reader.
const WAITING_MAX: usize = 100_000;

type Queues = Arc<Mutex<Vec<mpsc::Sender<Utf8Bytes>>>>;

/// Runs until it is dropped.
pub(super) struct Bare {
    queues: Queues,
    gateways: Gateways,
    _server: JoinSet<()>,
}

impl Bare {
    pub(super) async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| Failure::new(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| Failure::new(error.to_string()))?;
        let queues = Queues::default();
        let mut server = JoinSet::new();
        let told = Arc::clone(&queues);
        server.spawn(async move {
            let mut readers = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (queue, frames) = mpsc::channel(WAITING_MAX);
                told.lock().unwrap_or_else(PoisonError::into_inner).push(queue);
                readers.spawn(serve(tcp, frames));
            }
        });
        let url = Url::parse(&format!("http://{address}")).map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self { queues, gateways: Gateways::new(&[url])?, _server: server })
    }

    /// One after the other, so that the order of the queues is theirs.
    pub(super) async fn readers(&self, count: usize) -> Result<Vec<Socket>, Failure> {
        let mut readers = Vec::with_capacity(count);
        for _ in 0..count {
            readers.push(self.gateways.connect(0, None).await?);
        }
        Ok(readers)
    }

    /// The way to one reader, by the order in which they came.
    pub(super) fn queue(&self, reader: usize) -> Option<mpsc::Sender<Utf8Bytes>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).get(reader).cloned()
    }

    /// Tells everybody an answer of stamped tokens, one frame a token, at this rate.
    pub(super) async fn tell(&self, tokens: usize, rate: usize) -> Result<(), Failure> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut script = Script::new(rate);
        while script.index < tokens {
            let frame = script.next().await;
            for queue in &queues {
                queue.try_send(frame.clone()).map_err(|_| Failure::new("a reader of the bare fan-out is gone"))?;
            }
        }
        let end = script.end();
        for queue in &queues {
            queue.try_send(end.clone()).map_err(|_| Failure::new("a reader of the bare fan-out is gone"))?;
        }
        Ok(())
    }
}

async fn serve(tcp: TcpStream, mut frames: mpsc::Receiver<Utf8Bytes>) {
    let _ = tcp.set_nodelay(true);
    let Ok(mut socket) = accept_async(tcp).await else { return };
    let welcome = ServerFrame::Welcome {
        connection: "bare".to_owned(),
        node: "bare".to_owned(),
        user: UserId::generate(),
        protocol: 1,
        heartbeat_ms: 1_000,
        locale: None,
    };
    let Ok(welcome) = serde_json::to_string(&welcome) else { return };
    if socket.send(Packet::text(welcome)).await.is_err() {
        return;
    }
    loop {
        let mut next = tokio::select! {
            frame = frames.recv() => frame,
            // Nothing is expected of a reader but its leaving.
            packet = socket.next() => match packet { Some(Ok(_)) => continue, _ => None },
        };
        if next.is_none() {
            return;
        }
        while let Some(frame) = next {
            if socket.feed(Packet::Text(frame)).await.is_err() {
                return;
            }
            next = frames.try_recv().ok();
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

/// The frames of one stamped answer, as a gateway would write them.
pub(super) struct Script {
    began: Instant,
    rate: usize,
    pub(super) index: usize,
    length: usize,
    crc: crc32fast::Hasher,
}

impl Script {
    pub(super) fn new(rate: usize) -> Self {
        Self { began: Instant::now(), rate, index: 0, length: 0, crc: crc32fast::Hasher::new() }
    }

    /// The next token's frame, when it is due. Its stamp is the time when it was due, or now if that was not long ago: a timer
    /// ticks in milliseconds, and what a model makes late is not the fan-out's doing.
    pub(super) async fn next(&mut self) -> Utf8Bytes {
        #[expect(clippy::cast_precision_loss, reason = "tokens of one answer are far below 2^52")]
        let due = self.began + Duration::from_secs_f64(self.index as f64 / self.rate as f64);
        tokio::time::sleep_until(due).await;
        let late = due.elapsed();
        let late = if late < Duration::from_millis(2) { Duration::ZERO } else { late };
        let mut text = String::with_capacity(stamp::BYTES);
        stamp::write(&mut text, self.index, crate::model::Time::now_us().saturating_sub(super::load::micros(late)));
        let frame = format!(
            r#"{{"type":"delta","generation":"gen_00000000000000000000000000000000000000000000","position":"1763900000000-{}","offset":{},"text":"{text}"}}"#,
            self.index, self.length
        );
        self.index += 1;
        self.length += text.len();
        self.crc.update(text.as_bytes());
        frame.into()
    }

    pub(super) fn end(self) -> Utf8Bytes {
        let (length, crc) = (self.length, self.crc.finalize());
        format!(
            r#"{{"type":"finished","generation":"gen_00000000000000000000000000000000000000000000","message":{{}},"status":"completed","length":{length},"crc32":{crc}}}"#
        )
        .into()
    }
}
