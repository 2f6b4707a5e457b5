//! What an answer costs in Redis, while it runs and after its log expired.

use std::time::Duration;

use chatnode::backend::cluster::Retention;
use chatnode::model::{Status, UserId};

use crate::conformance::stage::{Writer, ask, eventually, following, opening, text};
use crate::harness::servers::{Programs, Server, World, nats_url, redis_url, shared};

const ANSWERS: usize = 120;
const TOKENS: usize = 1_000;
/// Turns of one conversation: what it costs by itself is shared by them.
const TURNS: usize = 4;
/// Bytes of one 1,000-token answer while it runs.
const RUNNING_MAX: usize = 20 * 1024;

/// What the server says that its data takes: the least of some looks, since buffers of connections come and go.
async fn used(redis: &Server) -> usize {
    let mut least = usize::MAX;
    for _ in 0..20 {
        let info = redis.redis(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).expect("a figure");
        least = least.min(line.trim().parse().expect("a number"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    least
}

/// Bytes of all keys with what they hold.
fn held(redis: &Server) -> usize {
    let usage = |key: &str| redis.redis(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).parse::<usize>().unwrap_or_default();
    redis.redis(&["KEYS", "*"]).lines().map(usage).sum()
}

async fn measure(batch: usize) -> (usize, f64) {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return (0, 0.0) };
    let redis = programs.redis(&[]);
    let retention = Retention { ended: Duration::from_millis(100), ..Retention::default() };
    let lease = Duration::from_secs(600);
    let world = World::open_with(&redis_url(&redis), &nats_url(&shared.nats), lease, retention).await;
    let (user, question) = (UserId::generate(), "Why is the sky blue, and the sunset red?");
    // The first turn brings what is there once: scripts, connection buffers, queues.
    ask(&world.backends, &user, question).await;
    Writer::begin(&world.backends).await.finish(Status::Completed).await.expect("finish");
    let (before, held_before) = (used(&redis).await, held(&redis));
    let mut writers = Vec::new();
    let mut turn = opening(&user, question);
    for n in 0..ANSWERS {
        turn = if n % TURNS == 0 { opening(&user, question) } else { following(&user, &turn.conversation, question) };
        world.backends.generations.submit(&turn).await.expect("submit");
        let mut writer = Writer::begin(&world.backends).await;
        let mut entries = Vec::new();
        for n in (0..TOKENS).step_by(batch) {
            let words: String = (n..n + batch).map(|n| ["the ", "light ", "of ", "wave", "length, "][n % 5]).collect();
            entries.push(text(writer.said.len() as u64, &words));
            writer.said.push_str(&words);
        }
        for part in entries.chunks(100) {
            writer.append(part).await.expect("append");
        }
        writers.push(writer);
    }
    let running = (used(&redis).await - before) / ANSWERS;
    let text_bytes = writers.iter().map(|writer| writer.said.len() + question.len()).sum::<usize>();
    for writer in &writers {
        writer.finish(Status::Completed).await.expect("finish");
    }
    // KEYS leaves out what has expired already, DBSIZE counts it until its memory is free.
    let expired = async || {
        let (keys, size) = (redis.redis(&["KEYS", "*"]), redis.redis(&["DBSIZE"]));
        (!keys.contains(":g:") && keys.lines().count().to_string() == size).then_some(())
    };
    eventually("the logs expire", expired).await;
    let server = (used(&redis).await - before) as f64 / text_bytes as f64;
    let ended = (held(&redis) - held_before) as f64 / text_bytes as f64;
    println!(
        "redis memory of a {TOKENS}-token answer ({} bytes) in entries of {batch}: {running} bytes while it runs, {ended:.2} × its text after ({server:.2} with all that the server keeps beside)",
        writers[0].said.len()
    );
    world.end().await;
    (running, ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_small() {
    for batch in [1, 2, 8] {
        let (running, ended) = measure(batch).await;
        assert!(running <= RUNNING_MAX, "{running} bytes while it runs");
        assert!(ended <= 1.5, "{ended:.2} times its text after it ended");
    }
}
