//! Encryption in the program itself: https and wss alone, and a certificate that changes while people read.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use chatnode::protocol::ServerFrame;
use futures_util::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message as Packet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::client::PATIENCE;
use crate::harness::figure;
use crate::harness::node::{self, Node, world};
use crate::harness::people::{self, PASSWORD};
use crate::harness::rest;
use crate::harness::tls::Certificate;

fn encrypted(mut config: chatnode::config::Config, certificate: &Certificate, dir: &std::path::Path) -> chatnode::config::Config {
    config.http.tls = Some(certificate.write(dir));
    config.http.admin_listen = Some("127.0.0.1:0".parse().expect("an address"));
    config.gateway.tls = true;
    config.gateway.admin_apart = true;
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_sockets_are_encrypted_and_probes_are_plain_elsewhere() {
    let (world, dir, certificate) = (world(), tempfile::tempdir().expect("a directory"), Certificate::generate());
    let node = Node::with(encrypted(people::config("a"), &certificate, dir.path()), &world).await;
    people::add(&world, "mai", false).await;
    let client = certificate.client();
    let base = format!("https://{}", node.address);

    let page = client.get(&base).send().await.expect("the page");
    assert_eq!((page.status(), page.version()), (StatusCode::OK, reqwest::Version::HTTP_11));
    assert_eq!(page.headers()["strict-transport-security"], "max-age=31536000");
    let login = json!({"name": "mai", "password": PASSWORD});
    let answer = client.post(format!("{base}/api/login")).json(&login).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let cookie = answer.headers()["set-cookie"].to_str().expect("a cookie").to_owned();
    assert!(cookie.ends_with("; Secure"), "{cookie}");

    // What a browser offers.
    let stream = certificate.connect(node.address, &[b"h2", b"http/1.1"]).await.expect("an agreement");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut request = format!("wss://{}/ws/chat", node.address).into_client_request().expect("a request");
    let session = cookie.split(';').next().expect("a value").parse().expect("a header");
    request.headers_mut().insert("cookie", session);
    request.headers_mut().insert("origin", base.parse().expect("a header"));
    let (mut socket, _) = client_async(request, stream).await.expect("an upgrade");
    let question = json!({"type": "send", "request_id": "one", "content": "/demo tokens=200 rate=2000"});
    socket.send(Packet::text(question.to_string())).await.expect("sent");
    let finished = timeout(PATIENCE, async {
        while let Some(Ok(packet)) = socket.next().await {
            let Packet::Text(text) = packet else { continue };
            if let ServerFrame::Finished(finished) = serde_json::from_str(&text).expect("a frame") {
                return finished;
            }
        }
        panic!("the socket ended");
    });
    assert!(finished.await.expect("an answer in time").length > 500);

    // Nothing is said to whoever speaks plainly, but on the operators' listener.
    let mut plain = TcpStream::connect(node.address).await.expect("a connection");
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"), "{said:?}");
    let operators = format!("http://{}", node.admin.expect("an address"));
    for path in ["/livez", "/readyz", "/health"] {
        let get =
            async |base: &str, client: &reqwest::Client| client.get(format!("{base}{path}")).send().await.expect("an answer");
        assert_eq!(get(&operators, &rest::client()).await.status(), StatusCode::OK, "{path}");
        assert_eq!(get(&base, &client).await.status(), StatusCode::OK, "{path}");
    }
    let metrics = rest::client().get(format!("{operators}/metrics")).send().await.expect("metrics").text().await.expect("a text");
    assert!(figure(&metrics, "chatnode_connections_cut_total{reason=\"tls\"}") >= 1.0, "{metrics}");
}

/// Whether the node shows this certificate now.
async fn shown(node: &Node, certificate: &Certificate) -> bool {
    certificate.connect(node.address, &[]).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_changes_without_a_restart_and_a_broken_one_changes_nothing() {
    let (world, dir) = (world(), tempfile::tempdir().expect("a directory"));
    let (old, new) = (Certificate::generate(), Certificate::generate());
    let node = Node::with(encrypted(node::config("a"), &old, dir.path()), &world).await;
    assert!(shown(&node, &old).await && !shown(&node, &new).await);
    let mut before = old.connect(node.address, &[]).await.expect("a connection");

    // Half of it: the key is still the old one.
    std::fs::write(dir.path().join("certificate.pem"), new.certificate_pem()).expect("a file");
    node.look_at_certificate();
    for _ in 0..20 {
        assert!(shown(&node, &old).await, "what can't be used changes nothing");
        sleep(Duration::from_millis(10)).await;
    }
    new.write(dir.path());
    // Nobody says so: it is found.
    let begun = Instant::now();
    while !shown(&node, &new).await {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is never shown");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!shown(&node, &old).await);
    std::fs::remove_file(dir.path().join("key.pem")).expect("a file");
    node.look_at_certificate();
    for _ in 0..20 {
        assert!(shown(&node, &new).await, "what is gone changes nothing");
        sleep(Duration::from_millis(10)).await;
    }
    // Whoever was connected stays so.
    before.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut said = String::new();
    before.read_to_string(&mut said).await.expect("an answer");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

/// The program, told its certificate on the command line; it looks at the files again when it gets SIGHUP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_takes_a_new_certificate_on_sighup_and_says_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = Certificate::generate();
    let files = certificate.write(dir.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatnode"));
    command.env_clear().current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.args(["--listen", "127.0.0.1:0", "--data-dir", ":memory:", "--tls-key"]).arg(&files.key);
    let mut child = command.env("CHATNODE_TLS_CERTIFICATE", &files.certificate).spawn().expect("the program");
    let (told, lines) = std::sync::mpsc::channel();
    let errors = BufReader::new(child.stderr.take().expect("its log"));
    std::thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    let heard = |what: &str| loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it never says {what}"));
        if line.contains(what) {
            return line;
        }
    };
    let hang_up = |pid: u32| Command::new("kill").args(["-HUP", &pid.to_string()]).status().expect("kill");
    heard("ready");
    std::fs::write(&files.key, "not a key").expect("a file");
    hang_up(child.id());
    let line = heard("the new certificate can't be used, so the one before stays");
    assert!(line.contains("there is no private key in PEM form in it"), "{line}");
    Certificate::generate().write(dir.path());
    hang_up(child.id());
    heard("the certificate was changed");
    child.kill().expect("it runs");
    child.wait().expect("it ended");
}
