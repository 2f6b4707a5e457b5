//! What a connection costs that does nothing: memory of the gateways before and while many are open.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::Socket;
use super::load::histogram;
use super::outcome::Outcome;
use super::{Failure, Setting};

/// Connections that are opened side by side.
const SIDE_BY_SIDE: usize = 32;
/// What was in use only while they were opened is given back by then.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) async fn idle(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let count = setting.plan.connections;
    let progress = setting.progress("idle");
    // What the first connections bring into memory for all is not theirs: code, thread stacks, caches.
    drop(open(setting, count.min(100)).await?);
    tokio::time::sleep(SETTLE).await;
    let before = setting.memory_bytes().await?;
    let began = Instant::now();
    let open = open(setting, count).await?;
    let took = began.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = setting.memory_bytes().await?;
    let alive = open.len();
    drop(open);
    progress.end();
    if alive != count {
        return Err(Failure::new(format!("only {alive} of {count} idle connections stayed")));
    }
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let outcome = Outcome::new("idle", format!("memory of the gateways for {count} connections that do nothing"), &histogram())
        .with("a connection", (after - before) / count as f64 / 1e3, "KB")
        .with("all", (after - before) / 1e6, "MB")
        .with("opened", count as f64 / took.as_secs_f64(), "/s");
    Ok(vec![outcome])
}

/// Sockets that are read, so that pings are answered; each task ends when its socket does.
async fn open(setting: &Setting, count: usize) -> Result<JoinSet<()>, Failure> {
    let sockets: Vec<Socket> =
        stream::iter(0..count).map(|at| setting.gateways.connect(at, None)).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
    let mut tasks = JoinSet::new();
    for mut socket in sockets {
        tasks.spawn(async move { while socket.read().await.is_ok() {} });
    }
    tokio::task::yield_now().await;
    while tasks.try_join_next().is_some() {}
    Ok(tasks)
}
