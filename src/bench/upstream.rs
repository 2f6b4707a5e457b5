//! A small upstream that answers at once, in OpenAI's form, and notices when it is left. It plays the model behind the gateways,
//! so that what chatnode adds to it can be told. Must not know who asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Failure;

/// The name under which gateways know it.
pub(super) const MODEL: &str = "bench";
/// What a question begins with whose answer goes on until somebody stops it.
pub(super) const ENDLESS: &str = "endless ";
/// What every answer begins with.
pub(super) const FIRST: &str = "Once";

const BODY_BYTES_MAX: usize = 4 << 20;
const HEADER_LINES_MAX: usize = 100;
const TOKEN_EVERY: Duration = Duration::from_millis(20);

/// Who wants to know when the answer to a question was left alone.
type Left = Arc<Mutex<HashMap<String, oneshot::Sender<Instant>>>>;

/// Runs until it is dropped.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    left: Left,
    _server: JoinSet<()>,
}

impl Upstream {
    pub(super) async fn start(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| Failure::new(format!("can't listen on {address} (--upstream): {error}")))?;
        let address = listener.local_addr().map_err(|error| Failure::new(error.to_string()))?;
        let left = Left::default();
        let mut server = JoinSet::new();
        let told = Arc::clone(&left);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                // What has ended needs no place.
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(tcp, Arc::clone(&told)));
            }
        });
        Ok(Self { address, left, _server: server })
    }

    /// Tells when the answer to this question, an endless one, is left alone.
    pub(super) fn left(&self, question: &str) -> oneshot::Receiver<Instant> {
        let (tell, told) = oneshot::channel();
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(question.to_owned(), tell);
        told
    }
}

async fn serve(tcp: TcpStream, left: Left) {
    let _ = tcp.set_nodelay(true);
    let mut stream = BufReader::new(tcp);
    // A connection is used again and again, until either side has enough.
    while let Ok(Some((is_question, body))) = request(&mut stream).await {
        let written = if is_question { answer(&mut stream, &body, &left).await } else { models(&mut stream).await };
        if written.is_err() {
            return;
        }
    }
}

/// Whether it is a question, and its body; `None` when the other side left.
async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<(bool, Vec<u8>)>> {
    let (mut length, mut first) = (0_usize, String::new());
    for number in 0..HEADER_LINES_MAX {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if number == 0 {
            first = line.to_owned();
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(usize::MAX);
        }
    }
    if length > BODY_BYTES_MAX {
        return Ok(None);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((first.starts_with("POST"), body)))
}

async fn models(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let body = format!(r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model"}}]}}"#);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
    stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await
}

#[derive(Deserialize)]
struct Question {
    messages: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    content: String,
}

async fn answer(stream: &mut BufReader<TcpStream>, body: &[u8], left: &Left) -> std::io::Result<()> {
    let question: Option<Question> = serde_json::from_slice(body).ok();
    let asked = question.and_then(|mut question| question.messages.pop()).map_or_else(String::new, |turn| turn.content);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let token = |text: &str| event(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#));
    stream.write_all(token(FIRST).as_bytes()).await?;
    if asked.starts_with(ENDLESS) {
        endless(stream, &token(" more")).await;
        let waiting = left.lock().unwrap_or_else(PoisonError::into_inner).remove(&asked);
        if let Some(waiting) = waiting {
            // Nobody may want to know any more.
            let _ = waiting.send(Instant::now());
        }
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    let end = event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#) + &event("[DONE]");
    let rest = token(" upon") + &token(" a") + &token(" time.") + &end + "0\r\n\r\n";
    stream.write_all(rest.as_bytes()).await
}

/// Tokens until the other side closes.
async fn endless(stream: &mut BufReader<TcpStream>, token: &str) {
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            // Whatever a client says meanwhile, it has nothing to say.
            _ = stream.read(&mut byte) => return,
            () = tokio::time::sleep(TOKEN_EVERY) => {}
        }
        if stream.write_all(token.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A server-sent event as one chunk.
fn event(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}
