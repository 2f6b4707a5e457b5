//! Backup and restore as docs/operations.md tells them, while an answer is being written.

use std::path::Path;
use std::process::Command;

use chatnode::model::Status;
use serde_json::json;

use super::documents::blocks;
use super::process::{again, start};
use crate::harness::client::Socket;
use crate::harness::node::{LEASE, Node};
use crate::harness::servers::{Programs, World, nats_url, needed, redis_url};

const LONG: &str = "/demo tokens=300 rate=150";
const SOME_BYTES: usize = 200;

/// The commands of the chapter, in order.
fn commands() -> [String; 4] {
    let document = include_str!("../../docs/operations.md");
    let chapter = document.split("\n## ").find(|chapter| chapter.starts_with("Backup and restore")).expect("the chapter");
    blocks(chapter, "sh").try_into().expect("backup and restore of two worlds")
}

fn run(script: &str, variables: &[(&str, &str)]) {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).envs(variables.iter().copied());
    let output = shell.output().expect("a shell");
    assert!(output.status.success(), "{script}\n{output:?}");
}

fn path(of: &Path) -> &str {
    of.to_str().expect("a path")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_copied_from_sqlite_goes_on_after_the_restore() {
    if needed("sqlite3").is_none() {
        return;
    }
    let [backup, restore, ..] = commands();
    let (home, copy) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let data = home.path().join("data");
    let variables = [("data", path(&data)), ("backup", path(copy.path()))];
    let (process, address) = start(home.path(), "127.0.0.1:0");
    let mut socket = Socket::open(address).await;
    let (question, answer) = socket.ask(json!({"content": LONG})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, SOME_BYTES).await;
    run(&backup, &variables);
    // What comes after the copy is lost, and the question is not.
    socket.bytes(&generation, 2 * SOME_BYTES).await;
    drop(process);
    run(&restore, &variables);
    let (_process, address) = start(home.path(), "127.0.0.1:0");
    let mut socket = again(socket.lose(), address).await;
    socket.subscribe(question.conversation.as_str()).await;
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_copied_from_redis_goes_on_after_the_restore() {
    let Some(programs) = Programs::find() else { return };
    if needed("redis-cli").is_none() {
        return;
    }
    let [.., backup, restore] = commands();
    let nats = programs.nats(&[]);
    let mut redis = programs.redis(&["--appendonly", "yes"]);
    let world = World::open(&redis_url(&redis), &nats_url(&nats), LEASE).await;
    let (copy, dir, url) = (tempfile::tempdir().expect("a directory"), redis.dir.path().to_owned(), redis_url(&redis));
    let variables = [("redis", url.as_str()), ("backup", path(copy.path())), ("redis_data", path(&dir))];
    let node = Node::start("before", &world.backends).await;
    let mut socket = Socket::open(node.address).await;
    let (question, answer) = socket.ask(json!({"content": LONG})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, SOME_BYTES).await;
    run(&backup, &variables);
    socket.bytes(&generation, 2 * SOME_BYTES).await;
    let (tab, prefix) = (socket.lose(), world.prefix.clone());
    node.kill();
    world.end().await;
    redis.kill();
    run(&restore, &variables);
    redis.start();
    let world = World::join(&url, &nats_url(&nats), LEASE, &prefix).await;
    let node = Node::start("after", &world.backends).await;
    let mut socket = again(tab, node.address).await;
    socket.subscribe(question.conversation.as_str()).await;
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    world.end().await;
}
