//! What breaks: each kind of fault, done to a running cluster and undone. It must not know who reads.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use chatnode::model::GenerationId;
use futures_util::future::join_all;

use super::history::Millis;
use super::proxy::{Mode, Proxy};
use super::reader::Field;
use super::stage::{Member, Stage};

/// How long what is killed stays away.
const AWAY: Duration = Duration::from_millis(700);
/// Between two nodes of a rolling restart.
const BETWEEN: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nothing breaks: what the others are compared with.
    Nothing,
    GatewayKilled,
    GatewayFrozen,
    GatewayDrained,
    WorkerKilled,
    WorkerFrozen,
    WorkerDrained,
    EveryNodeKilled,
    RollingRestart,
    ClientsCut,
    ClientsSilent,
    GatewayRedisCut,
    GatewayRedisSilent,
    WorkerRedisCut,
    WorkerRedisSilent,
    GatewayNatsCut,
    GatewayNatsSilent,
    WorkerNatsCut,
    LinksSlow,
    RedisRestarted,
    RedisKilled,
    RedisAsleep,
    ScriptsFlushed,
    ConnectionsKilled,
    LogRemoved,
    NatsStopped,
    NatsFrozen,
}

pub(crate) const EVERY: [Fault; 27] = [
    Fault::Nothing,
    Fault::GatewayKilled,
    Fault::GatewayFrozen,
    Fault::GatewayDrained,
    Fault::WorkerKilled,
    Fault::WorkerFrozen,
    Fault::WorkerDrained,
    Fault::EveryNodeKilled,
    Fault::RollingRestart,
    Fault::ClientsCut,
    Fault::ClientsSilent,
    Fault::GatewayRedisCut,
    Fault::GatewayRedisSilent,
    Fault::WorkerRedisCut,
    Fault::WorkerRedisSilent,
    Fault::GatewayNatsCut,
    Fault::GatewayNatsSilent,
    Fault::WorkerNatsCut,
    Fault::LinksSlow,
    Fault::RedisRestarted,
    Fault::RedisKilled,
    Fault::RedisAsleep,
    Fault::ScriptsFlushed,
    Fault::ConnectionsKilled,
    Fault::LogRemoved,
    Fault::NatsStopped,
    Fault::NatsFrozen,
];

/// Whom a fault can touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    All,
    /// Readers connected through it.
    Gateway(usize),
    /// Readers of what it writes.
    Worker(String),
    Answer(GenerationId),
}

/// One fault that was.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) fault: Fault,
    pub(crate) from: Millis,
    /// When it was undone.
    pub(crate) healed: Millis,
    /// When the next one may begin.
    pub(crate) until: Millis,
    pub(crate) touched: Touched,
}

/// What strikes need beside the cluster.
pub(crate) struct Hand<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) field: &'a Field,
    pub(crate) prefix: &'a str,
    /// Logs that were taken away.
    pub(crate) removed: &'a Mutex<BTreeSet<GenerationId>>,
    /// Which of several is meant: below its argument.
    pub(crate) roll: &'a mut (dyn FnMut(usize) -> usize + Send),
}

impl Hand<'_> {
    /// Breaks something, holds it for a while, mends it, and lets everything settle.
    pub(crate) async fn strike(&mut self, fault: Fault) -> Span {
        let from = self.field.now();
        let gateway = (self.roll)(self.stage.gateways.len());
        let worker = (self.roll)(self.stage.workers.len());
        let touched = match fault {
            Fault::GatewayKilled | Fault::GatewayFrozen | Fault::GatewayDrained | Fault::ClientsCut | Fault::ClientsSilent => {
                self.at_gateway(fault, gateway).await
            }
            Fault::GatewayRedisCut | Fault::GatewayRedisSilent | Fault::GatewayNatsCut | Fault::GatewayNatsSilent => {
                self.link(fault, gateway).await;
                Touched::Gateway(gateway)
            }
            Fault::WorkerKilled | Fault::WorkerFrozen | Fault::WorkerDrained => self.at_worker(fault, worker).await,
            Fault::WorkerRedisCut | Fault::WorkerRedisSilent | Fault::WorkerNatsCut => {
                self.link(fault, worker).await;
                Touched::Worker(self.stage.workers[worker].name.clone())
            }
            Fault::LogRemoved => self.remove_a_log(),
            _ => {
                self.at_all(fault).await;
                Touched::All
            }
        };
        let healed = self.field.now();
        tokio::time::sleep(self.settling(fault)).await;
        Span { fault, from, healed, until: self.field.now(), touched }
    }

    /// Longer than anybody needs to be back, so that no fault is blamed for the one before it.
    fn settling(&self, fault: Fault) -> Duration {
        let lease = self.stage.plan.lease;
        match fault {
            Fault::WorkerKilled | Fault::WorkerFrozen | Fault::EveryNodeKilled | Fault::WorkerRedisSilent => {
                lease + Duration::from_millis(2_500)
            }
            Fault::ClientsSilent | Fault::GatewayFrozen => self.field.stall / 4 + Duration::from_secs(2),
            _ => Duration::from_secs(2),
        }
    }

    /// Longer than a lease.
    fn beyond_the_lease(&self) -> Duration {
        self.stage.plan.lease + self.stage.plan.lease / 3
    }

    async fn at_gateway(&mut self, fault: Fault, n: usize) -> Touched {
        let silence = self.field.stall + Duration::from_secs(1);
        let gateway = &mut self.stage.gateways[n];
        match fault {
            Fault::GatewayKilled => {
                gateway.kill();
                tokio::time::sleep(AWAY).await;
                back(gateway).await;
            }
            Fault::GatewayDrained => {
                gateway.leave().await;
                back(gateway).await;
            }
            Fault::GatewayFrozen => {
                gateway.server.freeze();
                tokio::time::sleep(silence).await;
                gateway.server.thaw();
            }
            Fault::ClientsCut => hold(&gateway.front, Mode::Cut, AWAY).await,
            _ => hold(&gateway.front, Mode::Hole, silence).await,
        }
        Touched::Gateway(n)
    }

    async fn at_worker(&mut self, fault: Fault, n: usize) -> Touched {
        let beyond = self.beyond_the_lease();
        let worker = &mut self.stage.workers[n];
        match fault {
            Fault::WorkerKilled => {
                worker.kill();
                tokio::time::sleep(AWAY).await;
                back(worker).await;
            }
            Fault::WorkerDrained => {
                worker.leave().await;
                back(worker).await;
            }
            _ => {
                worker.server.freeze();
                tokio::time::sleep(beyond).await;
                worker.server.thaw();
            }
        }
        Touched::Worker(worker.name.clone())
    }

    async fn link(&mut self, fault: Fault, n: usize) {
        let beyond = self.beyond_the_lease();
        let stage = &self.stage;
        let (proxy, mode, time) = match fault {
            Fault::GatewayRedisCut => (&stage.gateways[n].redis, Mode::Cut, Duration::from_secs(1)),
            Fault::GatewayRedisSilent => (&stage.gateways[n].redis, Mode::Hole, Duration::from_secs(3)),
            Fault::GatewayNatsCut => (&stage.gateways[n].nats, Mode::Cut, Duration::from_secs(2)),
            Fault::GatewayNatsSilent => (&stage.gateways[n].nats, Mode::Hole, Duration::from_secs(3)),
            Fault::WorkerRedisCut => (&stage.workers[n].redis, Mode::Cut, Duration::from_secs(1)),
            Fault::WorkerRedisSilent => (&stage.workers[n].redis, Mode::Hole, beyond),
            _ => (&stage.workers[n].nats, Mode::Cut, Duration::from_secs(2)),
        };
        hold(proxy, mode, time).await;
    }

    async fn at_all(&mut self, fault: Fault) {
        let stage = &mut *self.stage;
        match fault {
            Fault::EveryNodeKilled => {
                stage.members().for_each(Member::kill);
                tokio::time::sleep(AWAY).await;
                join_all(stage.members().map(back)).await;
            }
            Fault::RollingRestart => {
                for member in stage.members() {
                    member.leave().await;
                    back(member).await;
                    tokio::time::sleep(BETWEEN).await;
                }
            }
            Fault::LinksSlow => {
                let set = |stage: &mut Stage, mode| stage.members().for_each(|member| member.redis.set(mode));
                set(stage, Mode::Slow(SLOW));
                tokio::time::sleep(Duration::from_secs(3)).await;
                set(stage, Mode::Open);
            }
            Fault::RedisRestarted | Fault::RedisKilled => {
                if fault == Fault::RedisKilled {
                    tokio::task::block_in_place(|| stage.redis.kill());
                } else {
                    stage.redis.leave(Duration::from_secs(10)).await;
                }
                tokio::time::sleep(AWAY).await;
                tokio::task::block_in_place(|| stage.redis.start());
            }
            Fault::RedisAsleep => drop(tokio::task::block_in_place(|| stage.redis.redis(&["DEBUG", "SLEEP", "1.5"]))),
            Fault::ScriptsFlushed => drop(stage.redis.redis(&["SCRIPT", "FLUSH"])),
            Fault::ConnectionsKilled => drop(stage.redis.redis(&["CLIENT", "KILL", "TYPE", "normal"])),
            Fault::NatsStopped => {
                tokio::task::block_in_place(|| stage.nats.kill());
                tokio::time::sleep(Duration::from_secs(3)).await;
                tokio::task::block_in_place(|| stage.nats.start());
            }
            Fault::NatsFrozen => {
                stage.nats.freeze();
                tokio::time::sleep(Duration::from_secs(4)).await;
                stage.nats.thaw();
            }
            _ => tokio::time::sleep(Duration::from_secs(3)).await,
        }
    }

    /// Takes away the log of an answer that somebody writes.
    fn remove_a_log(&mut self) -> Touched {
        let redis = &self.stage.redis;
        let keys = redis.redis(&["KEYS", &format!("{}:s:*", self.prefix)]);
        let running: Vec<&str> = keys.lines().filter(|key| redis.redis(&["HGET", key, "s"]) == "r").collect();
        if running.is_empty() {
            return Touched::Gateway(usize::MAX);
        }
        let state = running[(self.roll)(running.len())];
        let (conversation, short) =
            state.split_once('{').and_then(|(_, rest)| rest.split_once("}:")).expect("the key of a state");
        let generation = GenerationId::parse(&format!("gen_{conversation}{short}")).expect("a generation");
        self.removed.lock().expect("nobody panics with it").insert(generation.clone());
        redis.redis(&["DEL", &format!("{}:g:{{{conversation}}}:{short}", self.prefix)]);
        Touched::Answer(generation)
    }
}

async fn back(member: &mut Member) {
    member.server.launch();
    member.serves().await;
}

async fn hold(proxy: &Proxy, mode: Mode, time: Duration) {
    proxy.set(mode);
    tokio::time::sleep(time).await;
    proxy.set(Mode::Open);
}
