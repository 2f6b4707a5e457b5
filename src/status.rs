//! `chatnode status`: asks one gateway how the cluster stands, and shows it as a table. Must not know how nodes keep it.

use std::fmt::Write;
use std::time::Duration;

use url::Url;

use crate::config::Secret;
use crate::model::{NodeInfo, Time};
use crate::outgoing::{self, Unread};
use crate::protocol::ClusterView;

/// To connect, and for the whole answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer; a node takes a few hundred.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Characters of one cell.
const CELL_CHARS_MAX: usize = 60;

const HEAD: [&str; 9] = ["node", "roles", "version", "state", "up", "seen", "load", "connections", "running"];

/// Why there is nothing to show; one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nobody answers at {at}: {why}")]
    Nobody { at: String, why: String },
    #[error("{at} says that this is for admins: put an admin's API key into CHATNODE_API_KEY")]
    Admins { at: String },
    #[error("{at} answers with status {code}: it is no gateway of chatnode, or none that can say")]
    Refused { at: String, code: u16 },
    #[error("{at} answers, but not as a gateway of chatnode does")]
    Foreign { at: String },
}

/// The cluster as the gateway at `url` sees it, on a runtime of its own.
///
/// # Errors
/// When it does not say.
pub fn block_on(url: &Url, key: Option<&Secret>) -> Result<String, Error> {
    let nobody = |why: String| Error::Nobody { at: shown(url), why };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| nobody(error.to_string()))?;
    let view = runtime.block_on(async {
        let late = || nobody(format!("no answer within {} seconds", ANSWER_TIME.as_secs()));
        tokio::time::timeout(ANSWER_TIME, ask(url, key)).await.unwrap_or_else(|_| Err(late()))
    })?;
    Ok(table(&view))
}

async fn ask(url: &Url, key: Option<&Secret>) -> Result<ClusterView, Error> {
    let at = shown(url);
    let nobody = |error: reqwest::Error| Error::Nobody { at: shown(url), why: innermost(&error) };
    let page = format!("{}/api/cluster", url.as_str().trim_end_matches('/'));
    let mut request = outgoing::builder().no_proxy().build().map_err(nobody)?.get(page);
    if let Some(key) = key {
        request = request.bearer_auth(key.reveal());
    }
    let response = request.send().await.map_err(nobody)?;
    if matches!(response.status().as_u16(), 401 | 403) {
        return Err(Error::Admins { at });
    }
    if !response.status().is_success() {
        return Err(Error::Refused { at, code: response.status().as_u16() });
    }
    let body = match outgoing::body(response, ANSWER_BYTES_MAX).await {
        Ok(body) => body,
        Err(Unread::BrokeOff(error)) => return Err(nobody(error)),
        Err(Unread::TooLong) => return Err(Error::Foreign { at }),
    };
    serde_json::from_slice(&body).map_err(|_| Error::Foreign { at })
}

/// An address without what could be a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // They fail only for addresses that can't hold any.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn table(view: &ClusterView) -> String {
    let now = view.now;
    let mut nodes: Vec<&NodeInfo> = view.nodes.iter().collect();
    nodes.sort_by(|a, b| (&b.roles, &a.id).cmp(&(&a.roles, &b.id)));
    let rows = nodes.iter().map(|node| row(node, now)).collect::<Vec<_>>();
    let mut text = aligned(&rows);
    let sum = |of: fn(&NodeInfo) -> u32| nodes.iter().map(|node| u64::from(of(node))).sum::<u64>();
    let (running, room) = (sum(|node| node.running), sum(|node| node.capacity));
    let draining = nodes.iter().filter(|node| node.draining).count();
    let _ = writeln!(
        text,
        "\n{} nodes ({draining} draining), {} connections, {running} of {room} answers running; seen by {}",
        nodes.len(),
        sum(|node| node.connections),
        cell(&view.node),
    );
    match view.waiting.iter().filter(|waiting| waiting.count > 0).collect::<Vec<_>>().as_slice() {
        [] => text.push_str("nobody waits\n"),
        waiting => {
            for work in waiting {
                let _ = writeln!(text, "waiting for {}: {}", cell(&work.model), work.count);
            }
        }
    }
    text
}

fn row(node: &NodeInfo, now: Time) -> [String; HEAD.len()] {
    let worker = node.capacity > 0;
    let load = u64::from(node.running) * 100 / u64::from(node.capacity.max(1));
    let serves = node.roles.iter().any(|role| role == "gateway");
    let absent = || "-".to_owned();
    [
        cell(&node.id),
        cell(&node.roles.join(",")),
        cell(&node.version),
        if node.draining { "draining" } else { "serves" }.to_owned(),
        age(now.since_ms(node.started_at)),
        format!("{} ago", age(now.since_ms(node.seen_at))),
        if worker { format!("{load}%") } else { absent() },
        if serves { node.connections.to_string() } else { absent() },
        if worker { format!("{}/{}", node.running, node.capacity) } else { absent() },
    ]
}

/// The last columns are numbers, and stand on the right.
fn aligned(rows: &[[String; HEAD.len()]]) -> String {
    const TEXTS: usize = 4;
    let head = HEAD.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let widths: [usize; HEAD.len()] =
        std::array::from_fn(|column| all().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let line = |row: &[String; HEAD.len()]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column < TEXTS {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all().map(line).collect()
}

/// What other nodes wrote must not steer a terminal.
fn cell(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(CELL_CHARS_MAX).collect()
}

fn age(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};

    use super::*;
    use crate::protocol::Waiting;

    fn node(id: &str, role: &str) -> NodeInfo {
        let worker = role == "ai";
        NodeInfo {
            id: id.to_owned(),
            roles: vec![role.to_owned()],
            version: "1.2.3".to_owned(),
            draining: id == "ai-2",
            started_at: Time(0),
            seen_at: Time(599_000),
            connections: if worker { 0 } else { 12 },
            running: if worker { 16 } else { 0 },
            capacity: if worker { 64 } else { 0 },
            models: Vec::new(),
        }
    }

    #[test]
    fn the_table_shows_all_of_it() {
        let nodes = vec![node("ai-2", "ai"), node("ai-1", "ai"), node("gateway-1\u{1b}[2J", "gateway")];
        let waiting = vec![Waiting { model: "demo".to_owned(), count: 3 }, Waiting { model: "idle".to_owned(), count: 0 }];
        let text = table(&ClusterView { node: "gateway-1".to_owned(), now: Time(600_000), nodes, waiting });
        let expected = "\
node           roles    version  state      up    seen  load  connections  running
gateway-1?[2J  gateway  1.2.3    serves    10m  1s ago     -           12        -
ai-1           ai       1.2.3    serves    10m  1s ago   25%            -    16/64
ai-2           ai       1.2.3    draining  10m  1s ago   25%            -    16/64

3 nodes (1 draining), 12 connections, 32 of 128 answers running; seen by gateway-1
waiting for demo: 3
";
        assert_eq!(text, expected);
    }

    #[test]
    fn nobody_there_is_one_sentence_without_a_password() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error =
            block_on(&Url::parse(&format!("http://u:hidden@127.0.0.1:{port}/?k=hidden")).unwrap(), None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("nobody answers at http://127.0.0.1:{port}: ")), "{error}");
        assert!(!error.contains("hidden") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn somebody_else_is_told_apart() {
        for (answer, expected) in [
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answers with status 404"),
            ("HTTP/1.1 302 Found\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n", "answers with status 302"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "not as a gateway of chatnode does"),
        ] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = Url::parse(&format!("http://{}/below/", listener.local_addr().unwrap())).unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&asked[..length]).into_owned()
            });
            let error = block_on(&url, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(server.join().unwrap().starts_with("GET /below/api/cluster "));
        }
    }
}
