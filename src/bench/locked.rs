//! The way that chatnode does not go, for comparison: for each chunk a worker takes a lock in Redis, appends, publishes, and
//! gives the lock back; a gateway subscribes and writes to sockets. On the same Redis, in this one process, which spares it the
//! hops between nodes. Speaks to Redis for itself: the client in `backend` belongs to the nodes.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use super::Failure;
use super::bare::{Bare, Script};
use super::outcome::Outcome;
use super::streaming::{collect, read};
use crate::config::Secret;

/// Tokens a second offered to all answers together, until one is not kept.
const STEPS: [usize; 8] = [2_000, 5_000, 10_000, 15_000, 20_000, 30_000, 50_000, 100_000];
const LOCK_MS: &str = "5000";
/// Who takes a lock that is held tries again after this.
const AGAIN: Duration = Duration::from_millis(1);
/// How long a log stays in Redis.
const KEPT_SECONDS: &str = "60";
const BULK_BYTES_MAX: usize = 1 << 20;

const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Steps as they went, and tokens a second of the last one that was kept.
pub(super) async fn steps(url: &Secret, answers: usize, seconds: usize) -> Result<(Vec<Outcome>, f64), Failure> {
    let (mut outcomes, mut best) = (Vec::new(), 0.0);
    for offered in STEPS {
        let rate = offered.div_ceil(answers);
        let found = step(url, answers, rate * seconds, rate).await?;
        let kept = found.kept(offered);
        let what = format!("{answers} answers at {rate} tokens/s each, a lock for each");
        let outcome = found.outcome(format!("locked {offered}/s"), what);
        if kept {
            best = outcome.figure("tokens").unwrap_or(best);
        }
        outcomes.push(outcome.with("kept", f64::from(u8::from(kept)), ""));
        if !kept {
            break;
        }
    }
    Ok((outcomes, best))
}

async fn step(url: &Secret, answers: usize, tokens: usize, rate: usize) -> Result<super::streaming::Read, Failure> {
    let bare = Bare::start().await?;
    let names: Vec<String> = (0..answers).map(|_| format!("bench:{}", Uuid::new_v4().simple())).collect();
    let readers: JoinSet<_> = bare.readers(answers).await?.into_iter().map(|socket| read(socket, tokens)).collect();
    let mut gateway = Redis::open(url).await?;
    let mut routes = HashMap::new();
    for (at, name) in names.iter().enumerate() {
        gateway.ask(&["SUBSCRIBE", name]).await?;
        let queue = bare.queue(at).ok_or_else(|| Failure::new("a reader is gone"))?;
        routes.insert(name.clone(), queue);
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let Reply::List(parts) = gateway.reply().await? else { continue };
            if let [_, Reply::Text(name), Reply::Text(frame)] = parts.as_slice()
                && let Some(queue) = routes.get(name)
            {
                // A reader that has what it wants is gone.
                let _ = queue.try_send(frame.clone().into());
            }
        }
    });
    for name in names {
        let mut redis = Redis::open(url).await?;
        tasks.spawn(async move {
            let mut script = Script::new(rate);
            while script.index < tokens {
                let frame = script.next().await;
                chunk(&mut redis, &name, &frame).await?;
            }
            chunk(&mut redis, &name, &script.end()).await?;
            redis.ask(&["EXPIRE", &format!("{name}:log"), KEPT_SECONDS]).await.map(drop)
        });
    }
    // A failing writer ends the step: its reader would wait in vain. The gateway's task never ends in good order.
    let mut read = std::pin::pin!(collect(readers));
    loop {
        tokio::select! {
            all = &mut read => return all.map(|(_, found)| found),
            Some(ended) = tasks.join_next() => ended.map_err(|_| Failure::new("a part of the bench panicked"))??,
        }
    }
}

/// The four steps of the old design.
async fn chunk(redis: &mut Redis, name: &str, frame: &str) -> Result<(), Failure> {
    let (lock, owner) = (format!("{name}:lock"), Uuid::new_v4().to_string());
    while matches!(redis.ask(&["SET", &lock, &owner, "NX", "PX", LOCK_MS]).await?, Reply::Nothing) {
        tokio::time::sleep(AGAIN).await;
    }
    redis.ask(&["RPUSH", &format!("{name}:log"), frame]).await?;
    redis.ask(&["PUBLISH", name, frame]).await?;
    redis.ask(&["EVAL", RELEASE, "1", &lock, &owner]).await?;
    Ok(())
}

#[derive(Debug)]
pub(super) enum Reply {
    Nothing,
    Text(String),
    List(Vec<Reply>),
}

/// One connection, one command at a time.
pub(super) struct Redis {
    stream: BufStream<TcpStream>,
}

impl Redis {
    pub(super) async fn open(secret: &Secret) -> Result<Self, Failure> {
        let away = |_| Failure::new("the redis of --redis-url does not answer");
        let url = Url::parse(secret.reveal()).ok().filter(|url| url.scheme() == "redis");
        let url = url.ok_or_else(|| Failure::new("the bench knows only single servers: --redis-url redis://host:port"))?;
        let host = url.host_str().unwrap_or("127.0.0.1").to_owned();
        let tcp = TcpStream::connect((host, url.port().unwrap_or(6379))).await.map_err(away)?;
        tcp.set_nodelay(true).map_err(away)?;
        let mut redis = Self { stream: BufStream::new(tcp) };
        if let Some(password) = url.password() {
            let user = if url.username().is_empty() { "default" } else { url.username() };
            redis.ask(&["AUTH", user, password]).await?;
        }
        Ok(redis)
    }

    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<Reply, Failure> {
        let away = |_| Failure::new("redis closed a connection");
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.write_all(command.as_bytes()).await.map_err(away)?;
        self.stream.flush().await.map_err(away)?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        let away = |_| Failure::new("redis closed a connection");
        let mut line = String::new();
        self.stream.read_line(&mut line).await.map_err(away)?;
        let Some((kind, rest)) = line.trim_end().split_at_checked(1) else {
            return Err(Failure::new("redis closed a connection"));
        };
        let size = || rest.parse::<i64>().ok().and_then(|size| usize::try_from(size).ok());
        match kind {
            "-" => Err(Failure::new(format!("redis refused: {}", rest.split(' ').next().unwrap_or_default()))),
            "$" => match size() {
                None => Ok(Reply::Nothing),
                Some(size) if size > BULK_BYTES_MAX => Err(Failure::new("redis answered too much")),
                Some(size) => {
                    let mut bytes = vec![0; size + 2];
                    self.stream.read_exact(&mut bytes).await.map_err(away)?;
                    bytes.truncate(size);
                    Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
                }
            },
            "*" => {
                let mut parts = Vec::new();
                for _ in 0..size().unwrap_or(0) {
                    parts.push(Box::pin(self.reply()).await?);
                }
                Ok(Reply::List(parts))
            }
            _ => Ok(Reply::Text(rest.to_owned())),
        }
    }
}
