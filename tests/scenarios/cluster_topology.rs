//! The same promises on Redis Cluster, behind Sentinel, and on a cluster of NATS servers.

use std::time::Duration;

use chatnode::backend::{Hint, Hints, Subject};
use chatnode::model::UserId;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::cluster_writer::StubbornWriter;
use crate::conformance::{self, stage};
use crate::harness::postgres;
use crate::harness::servers::{Programs, Server, World, nats_url, redis_url, shared};

/// Cases that run side by side; each one has a prefix of its own.
const SIDE_BY_SIDE: usize = 4;
const LEASE: Duration = Duration::from_secs(10);

/// The whole suite of contracts on these servers, with a history behind them if there is an address of one.
async fn every_case_on(redis: &str, nats: &str, history: Option<&str>) {
    let mut waiting = conformance::cases().into_iter();
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() < SIDE_BY_SIDE {
            let Some((name, case)) = waiting.next() else { break };
            let (redis, nats, history) = (redis.to_owned(), nats.to_owned(), history.map(str::to_owned));
            running.spawn(async move {
                let world = match history {
                    None => World::open(&redis, &nats, conformance::LEASE).await,
                    Some(history) => postgres::world_at(&redis, &nats, &history, conformance::LEASE, postgres::AT_ONCE).await,
                };
                let ended = tokio::spawn(case(world.backends.clone())).await;
                assert!(ended.is_ok(), "{name} does not pass here");
                world.end().await;
            });
        }
        match running.join_next().await {
            Some(ended) => ended.expect("a case failed"),
            None => break,
        }
    }
}

fn cluster_url(masters: &[Server]) -> String {
    let nodes: Vec<String> = masters[1..].iter().map(|server| format!("node=127.0.0.1:{}", server.port)).collect();
    format!("redis-cluster://127.0.0.1:{}?{}", masters[0].port, nodes.join("&"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_on_three_masters() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let masters = programs.redis_cluster(3);
    every_case_on(&cluster_url(&masters), &nats_url(&shared.nats), None).await;
    // All three had a part in it.
    for master in &masters {
        assert!(master.redis(&["INFO", "commandstats"]).contains("cmdstat_evalsha"), "one master did nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_on_three_masters_with_a_history() {
    let (Some(programs), Some((shared, history))) = (Programs::find(), postgres::shared_with_history()) else { return };
    let masters = programs.redis_cluster(3);
    every_case_on(&cluster_url(&masters), &nats_url(&shared.nats), Some(&history.url())).await;
}

/// Replication is asynchronous: what the replica has not heard of yet dies with its master. Until it knows the answer's beginning.
async fn replicated(master: &Server, replica: &Server) {
    let offset = |server: &Server, field: &str| {
        let info = server.redis(&["INFO", "replication"]);
        let value = info.lines().find_map(|line| line.strip_prefix(field));
        value.and_then(|value| value.trim().parse::<u64>().ok()).expect("an offset")
    };
    let written = offset(master, "master_repl_offset:");
    let heard = async || (offset(replica, "slave_repl_offset:") >= written).then_some(());
    stage::eventually("the replica knows the answer", heard).await;
}

/// Three masters, one of them with a replica, which takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_three_fails_over_in_the_middle_of_an_answer() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let mut masters = programs.redis_cluster(3);
    let replica = programs.redis_replica(&masters[0]);
    let followed = async || masters[0].redis(&["INFO", "replication"]).contains("state=online").then_some(());
    stage::eventually("the replica follows", followed).await;
    let known = async || masters[1].redis(&["CLUSTER", "NODES"]).contains(" slave ").then_some(());
    stage::eventually("the others know the replica", known).await;

    let world = World::open(&cluster_url(&masters), &nats_url(&shared.nats), Duration::from_secs(60)).await;
    // An answer that lives on the master that is going to die.
    loop {
        let asked = stage::ask(&world.backends, &UserId::generate(), "long").await;
        let slot = masters[1].redis(&["CLUSTER", "KEYSLOT", &asked.conversation.id.as_str()[4..]]);
        if slot.parse::<u32>().expect("a slot") < 16_384 / 3 {
            break;
        }
        StubbornWriter::claim(&world.backends).await.finish().await.expect("finish");
    }
    let mut writer = StubbornWriter::claim(&world.backends).await;
    replicated(&masters[0], &replica).await;
    let writing = tokio::spawn(async move {
        for n in 0..2_000 {
            writer.say(&format!("{n} ")).await.expect("the lease holds");
        }
        writer.finish().await.expect("finish");
        writer
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    masters[0].kill();
    let writer = writing.await.expect("join");
    writer.check().await;
    println!("redis cluster failover: longest wait {:?}, suffixes sent again {}", writer.longest_wait, writer.resent);
    assert!(replica.redis(&["INFO", "replication"]).contains("role:master"));
    world.end().await;
}

/// Hints cross from server to server, go on when one of the three dies, and every contract holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nats_servers_are_one() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let mut servers = programs.nats_cluster(3);
    let redis = redis_url(&shared.redis);
    let all: Vec<String> = servers.iter().map(nats_url).collect();
    every_case_on(&redis, &all.join(","), None).await;

    let one = World::open(&redis, &all[0], LEASE).await;
    let other =
        World::join(&redis, &all[2..].iter().chain(&all[1..2]).cloned().collect::<Vec<_>>().join(","), LEASE, &one.prefix).await;
    other.ready().await;
    let subject = Subject::User(UserId::generate());
    let mut hints = other.backends.backplane.subscribe(&subject).await;
    heard(&one, &subject, &mut hints).await;
    servers[2].kill();
    heard(&one, &subject, &mut hints).await;
    one.end().await;
    other.end().await;
}

async fn heard(from: &World, subject: &Subject, hints: &mut Hints) {
    let deadline = Instant::now() + stage::PATIENCE;
    loop {
        from.backends.backplane.publish(subject, Hint::Work { generation: None }).await;
        if tokio::time::timeout(Duration::from_millis(50), hints.next()).await.is_ok_and(|hint| hint.is_some()) {
            return;
        }
        assert!(Instant::now() < deadline, "nothing is heard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_fails_over_in_the_middle_of_an_answer() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let mut master = programs.redis(&[]);
    let replica = programs.redis(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let synced = async || replica.redis(&["INFO", "replication"]).contains("master_link_status:up").then_some(());
    stage::eventually("the replica follows", synced).await;
    let sentinel = programs.sentinel(master.port, 1);
    let known = async || sentinel.redis(&["SENTINEL", "REPLICAS", "chat"]).contains(&replica.port.to_string()).then_some(());
    stage::eventually("the sentinel knows the replica", known).await;

    let url = format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=chat", sentinel.port);
    let world = World::open(&url, &nats_url(&shared.nats), Duration::from_secs(60)).await;
    stage::ask(&world.backends, &UserId::generate(), "long").await;
    let mut writer = StubbornWriter::claim(&world.backends).await;
    replicated(&master, &replica).await;
    let writing = tokio::spawn(async move {
        for n in 0..3_000 {
            writer.say(&format!("{n} ")).await.expect("the lease holds");
        }
        writer.finish().await.expect("finish");
        writer
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    master.kill();
    let writer = writing.await.expect("join");
    writer.check().await;
    println!("sentinel failover: longest wait {:?}, suffixes sent again {}", writer.longest_wait, writer.resent);
    assert!(replica.redis(&["INFO", "replication"]).contains("role:master"));
    world.end().await;
}
