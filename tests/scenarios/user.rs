//! `chatnode user …` beside a running node: accounts are made, people come in, and are out again within a second.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::process::Process;
use crate::harness::rest::{Rest, client, read};
use crate::harness::servers::{nats_url, redis_url, shared};

fn chatnode(args: &[&str], place: &[&str], password: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chatnode"))
        .env_clear()
        .args(args)
        .args(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("its input");
    // A program that needs no password may be gone already.
    let _ = writeln!(stdin, "{password}");
    drop(stdin);
    child.wait_with_output().expect("its end")
}

#[track_caller]
fn says(output: &Output, code: i32, text: &str) {
    let said = String::from_utf8_lossy(if code == 0 { &output.stdout } else { &output.stderr }).into_owned();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(said.contains(text), "{said}");
}

fn running(place: &[&str]) -> (Process, SocketAddr) {
    Process::start(&[&["--listen", "127.0.0.1:0", "--auth", "local"], place].concat())
}

async fn accounts_beside_a_running_node(place: &[&str]) {
    let first = "mật khẩu đầu tiên";
    let added = chatnode(&["user", "add", "Quan.Tri", "--admin"], place, first);
    says(&added, 0, "quan.tri may come in, as an admin");
    assert!(String::from_utf8_lossy(&added.stderr).contains("account added"), "{added:?}");
    let (_running, address) = running(place);
    says(&chatnode(&["user", "add", "mai"], place, "short"), 1, "at least 8 characters");
    says(&chatnode(&["user", "add", "mai"], place, first), 0, "mai may come in\n");
    says(&chatnode(&["user", "add", "MAI"], place, first), 1, "an account called mai already");
    says(&chatnode(&["user", "add", "m/ai"], place, first), 1, "a name is 1 to 100 of");
    let list = chatnode(&["user", "list"], place, "");
    says(&list, 0, "mai ");
    says(&list, 0, "admin  active");
    assert!(!String::from_utf8_lossy(&list.stdout).contains("argon2"), "{list:?}");

    Rest::log_in(address, "quan.tri", first).await.got("/api/cluster").await;
    let rest = Rest::log_in(address, "mai", first).await;
    let mut socket = rest.tab().connect(address).await;
    says(&chatnode(&["user", "passwd", "mai"], place, "mật khẩu thứ hai"), 0, "mai has a new password");
    let begun = Instant::now();
    assert_eq!(socket.closed().await, Some(4401));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let refused = client().post(format!("http://{address}/api/login")).json(&json!({"name": "mai", "password": first}));
    assert_eq!(read(refused).await.0, StatusCode::UNAUTHORIZED);

    let rest = Rest::log_in(address, "mai", "mật khẩu thứ hai").await;
    let mut socket = rest.tab().connect(address).await;
    says(&chatnode(&["user", "disable", "mai"], place, ""), 0, "mai may not come in any more");
    let begun = Instant::now();
    assert_eq!(socket.closed().await, Some(4401));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(rest.get("/api/me").await.0, StatusCode::UNAUTHORIZED);
    says(&chatnode(&["user", "list"], place, ""), 0, "user   disabled");
    says(&chatnode(&["user", "enable", "mai"], place, ""), 0, "mai may come in");
    Rest::log_in(address, "mai", "mật khẩu thứ hai").await;
    says(&chatnode(&["user", "disable", "nobody"], place, ""), 1, "no account called nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let directory = tempfile::tempdir().expect("a directory");
    let data: &Path = directory.path();
    accounts_beside_a_running_node(&["--data-dir", data.to_str().expect("a name")]).await;
    says(&chatnode(&["user", "list"], &["--data-dir", ":memory:"], ""), 1, "keeps no accounts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster() {
    let Some(shared) = shared() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("my.toml");
    let prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    std::fs::write(&file, format!("[cluster]\nprefix = \"{prefix}\"\n")).expect("a file");
    let (redis, nats) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let place = ["--redis-url", &redis, "--nats-url", &nats, "--config", file.to_str().expect("a name")];
    accounts_beside_a_running_node(&place).await;
}
