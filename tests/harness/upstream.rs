//! An upstream that follows a script, byte by byte, over real HTTP; and says what it was asked, and when its client left.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// One thing to do with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Vec<u8>),
    Wait(Duration),
    /// Nothing more, until the client leaves.
    Stall,
    /// Closes with a reset instead of an end.
    Reset,
}

/// What one request gets. After the last act the connection is closed.
pub(crate) type Script = Vec<Act>;

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path.
    pub line: String,
    /// In lower case, each `name: value`.
    pub headers: Vec<String>,
    pub body: Value,
    /// When the client closed, if it did before the script was over.
    pub left: Option<Instant>,
}

/// Listens until dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub port: u16,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    listening: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    scripts: VecDeque<Script>,
    last: Script,
    asked: Vec<Asked>,
}

impl Upstream {
    /// The scripts are followed in turn, the last one for every further request.
    pub(crate) async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::start_at(0, scripts).await
    }

    /// On this port.
    pub(crate) async fn start_at(port: u16, scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let scripts: VecDeque<Script> = scripts.into_iter().collect();
        let last = scripts.back().cloned().unwrap_or_default();
        let state = Arc::new(Mutex::new(State { scripts, last, asked: Vec::new() }));
        let changes = watch::channel(0).0;
        let (shared, changed) = (state.clone(), changes.clone());
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (state, changes) = (shared.clone(), changed.clone());
                tokio::spawn(async move { serve(socket, &state, &changes).await });
            }
        });
        Self { port, state, changes, listening }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        locked(&self.state).asked.clone()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn asked_times(&self, times: usize) -> Vec<Asked> {
        self.until(|asked| asked.len() >= times).await
    }

    /// Waits until the client has left in the middle of request `index`, and answers when.
    pub(crate) async fn left(&self, index: usize) -> Instant {
        let asked = self.until(|asked| asked.get(index).is_some_and(|asked| asked.left.is_some())).await;
        asked[index].left.expect("waited for")
    }

    async fn until(&self, done: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            while !done(&self.asked()) {
                changes.changed().await.expect("this holds the sender");
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the upstream sees it within ten seconds");
        self.asked()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A success of this type, whose body ends with the connection.
pub(crate) fn head(content_type: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n").into_bytes())
}

/// A success whose body comes in chunks, so that a cut can be told from an end.
pub(crate) fn head_chunked(content_type: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes())
}

/// One chunk of such a body; an empty one ends it.
pub(crate) fn chunk(body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    Act::Send([format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat())
}

pub(crate) fn send(body: impl AsRef<[u8]>) -> Act {
    Act::Send(body.as_ref().to_vec())
}

/// A whole answer with this status.
pub(crate) fn status(status: u16, headers: &str, body: &str) -> Script {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    vec![send(head)]
}

/// A whole stream of events.
pub(crate) fn sse(body: impl AsRef<[u8]>) -> Script {
    vec![head("text/event-stream"), send(body)]
}

async fn serve(mut socket: TcpStream, state: &Mutex<State>, changes: &watch::Sender<u64>) {
    let _ = socket.set_nodelay(true);
    let Some(asked) = read(&mut socket).await else { return };
    let (index, script) = {
        let mut state = locked(state);
        state.asked.push(asked);
        let script = state.scripts.pop_front().unwrap_or_else(|| state.last.clone());
        (state.asked.len() - 1, script)
    };
    changes.send_modify(|count| *count += 1);
    if follow(&mut socket, script).await == Followed::Left {
        locked(state).asked[index].left = Some(Instant::now());
        changes.send_modify(|count| *count += 1);
    }
}

#[derive(PartialEq)]
enum Followed {
    Whole,
    Left,
}

async fn follow(socket: &mut TcpStream, script: Script) -> Followed {
    for act in script {
        let went_on = match act {
            Act::Send(bytes) => socket.write_all(&bytes).await.is_ok(),
            Act::Wait(time) => tokio::time::timeout(time, gone(socket)).await.is_err(),
            Act::Stall => {
                gone(socket).await;
                false
            }
            Act::Reset => {
                let _ = socket.set_zero_linger();
                return Followed::Whole;
            }
        };
        if !went_on {
            return Followed::Left;
        }
    }
    let _ = socket.shutdown().await;
    Followed::Whole
}

/// Returns when the client has closed.
async fn gone(socket: &mut TcpStream) {
    let mut nothing = [0; 64];
    while matches!(socket.read(&mut nothing).await, Ok(read) if read > 0) {}
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines.map(str::to_ascii_lowercase).collect();
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    while bytes.len() < end + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default();
    Some(Asked { line, headers, body, left: None })
}

fn locked(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
