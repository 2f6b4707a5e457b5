//! What an answer costs in Redis, while it runs and after its log expired.

use std::time::Duration;

use chatnode::backend::cluster::Retention;
use chatnode::model::{Status, UserId};

use crate::conformance::stage::{Writer, ask, eventually, text};
use crate::harness::servers::{Programs, Server, World, nats_url, redis_url, shared};

const ANSWERS: usize = 40;
const TOKENS: usize = 1_000;
/// Bytes of one 1,000-token answer while it runs.
const RUNNING_MAX: usize = 20 * 1024;

fn used(redis: &Server) -> usize {
    let info = redis.redis(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).expect("a figure");
    line.trim().parse().expect("a number")
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
    let before = used(&redis);
    let mut writers = Vec::new();
    for _ in 0..ANSWERS {
        ask(&world.backends, &user, question).await;
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
    let running = (used(&redis) - before) / ANSWERS;
    let text_bytes = writers.iter().map(|writer| writer.said.len() + question.len()).sum::<usize>();
    for writer in &writers {
        writer.finish(Status::Completed).await.expect("finish");
    }
    let logs = format!("{}:g:*", world.prefix);
    eventually("the logs expire", async || redis.redis(&["KEYS", &logs]).is_empty().then_some(())).await;
    let ended = (used(&redis) - before) as f64 / text_bytes as f64;
    println!(
        "redis memory of a {TOKENS}-token answer ({} bytes) in entries of {batch}: {running} bytes while it runs, {ended:.2} × its text after",
        writers[0].said.len()
    );
    world.end().await;
    (running, ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_small() {
    for batch in [1, 8] {
        let (running, ended) = measure(batch).await;
        // A worker that does nothing else may write every token alone; one with more to do batches.
        assert!(batch == 1 || running <= RUNNING_MAX, "{running} bytes while it runs");
        assert!(ended <= 1.5, "{ended:.2} times its text after it ended");
    }
}
