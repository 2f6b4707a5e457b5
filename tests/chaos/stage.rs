//! A whole cluster of processes: gateways and AI nodes of the real program, Redis with its file, NATS, and a proxy in the
//! middle of every link. It must not know what is broken when, nor who reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proxy::Proxy;
use crate::harness::servers::{Programs, Server, free_port};

/// How long a node may take to be ready, and to leave.
const START_MAX: Duration = Duration::from_secs(120);
/// Between two looks at a node that starts. The proxies live in this process and need its time.
const LOOK: Duration = Duration::from_millis(100);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) program: PathBuf,
    pub(crate) gateways: usize,
    pub(crate) workers: usize,
    pub(crate) lease: Duration,
    pub(crate) renewal: Duration,
    /// How long what runs may go on in a node that leaves.
    pub(crate) drain: Duration,
}

/// One node and its links.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) redis: Proxy,
    pub(crate) nats: Proxy,
    /// Between people and a gateway.
    pub(crate) front: Proxy,
}

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) redis: Server,
    pub(crate) nats: Server,
    pub(crate) gateways: Vec<Member>,
    pub(crate) workers: Vec<Member>,
}

impl Stage {
    pub(crate) async fn set(programs: &Programs, plan: Plan) -> Self {
        let more = ["--appendonly", "yes", "--appendfsync", "everysec", "--enable-debug-command", "yes"];
        let (redis, nats) = (programs.redis_on(free_port(), &more), programs.nats_on(free_port(), &[]));
        let mut stage = Self { redis, nats, gateways: Vec::new(), workers: Vec::new(), plan };
        for n in 0..stage.plan.gateways {
            stage.gateways.push(stage.member("gateway", n).await);
        }
        for n in 0..stage.plan.workers {
            stage.workers.push(stage.member("ai", n).await);
        }
        for member in stage.members() {
            member.serves().await;
        }
        stage
    }

    async fn member(&self, role: &str, n: usize) -> Member {
        let port = free_port();
        let (redis, nats, front) =
            (Proxy::start(self.redis.port).await, Proxy::start(self.nats.port).await, Proxy::start(port).await);
        let name = format!("{role}-{n}");
        let links = [format!("redis://{}", redis.address), format!("nats://{}", nats.address)];
        let server = Programs::node(&self.plan.program, port, |dir| self.plan.args(dir, role, &name, port, &links));
        Member { name, server, redis, nats, front }
    }

    pub(crate) fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.gateways.iter_mut().chain(&mut self.workers)
    }
}

impl Plan {
    fn args(&self, dir: &Path, role: &str, name: &str, port: u16, links: &[String; 2]) -> Vec<String> {
        let config = dir.join("chatnode.toml");
        let text = format!(
            "[node]\ndrain_ms = {}\n[limits.user]\nconnections_max = 100_000\n[limits.address]\nconnections_max = 100_000\n\
             [ai]\ncapacity = 200\nlease_ms = {}\nrenewal_ms = {}\n\
             [[models]]\nid = \"demo\"\nprovider = \"demo\"\n",
            self.drain.as_millis(),
            self.lease.as_millis(),
            self.renewal.as_millis()
        );
        std::fs::write(&config, text).expect("the node's file");
        let listen = format!("127.0.0.1:{port}");
        let [redis, nats] = links;
        let config = config.to_string_lossy();
        let words = [
            ["--role", role],
            ["--listen", &listen],
            ["--config", &config],
            ["--redis-url", redis],
            ["--nats-url", nats],
            ["--node-id", name],
            ["--log", "info,chatnode=debug"],
        ];
        words.into_iter().flatten().map(str::to_owned).collect()
    }
}

impl Member {
    pub(crate) async fn serves(&mut self) {
        let deadline = tokio::time::Instant::now() + START_MAX;
        while !tokio::task::block_in_place(|| self.is_up()) {
            assert!(tokio::time::Instant::now() < deadline, "{} is not ready: {}", self.name, self.server.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_up(&mut self) -> bool {
        // Somebody else's connection may have its port for a moment.
        if self.server.has_ended() {
            self.server.kill();
            self.server.launch();
        }
        self.server.is_up()
    }

    pub(crate) fn kill(&mut self) {
        tokio::task::block_in_place(|| self.server.kill());
    }

    pub(crate) async fn leave(&mut self) {
        self.server.leave(START_MAX).await;
    }
}
