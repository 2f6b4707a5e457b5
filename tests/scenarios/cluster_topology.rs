//! The same promises on Redis Cluster and behind Sentinel.

use std::time::Duration;

use chatnode::model::UserId;

use super::cluster_writer::StubbornWriter;
use crate::conformance::{self, stage};
use crate::harness::servers::{Programs, World, nats_url, shared};

/// Cases that run side by side; each one has a prefix of its own.
const SIDE_BY_SIDE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_on_three_masters() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let masters = programs.redis_cluster(3);
    let nodes: Vec<String> = masters[1..].iter().map(|server| format!("node=127.0.0.1:{}", server.port)).collect();
    let url = format!("redis-cluster://127.0.0.1:{}?{}", masters[0].port, nodes.join("&"));
    let mut waiting = conformance::cases().into_iter();
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() < SIDE_BY_SIDE {
            let Some((name, case)) = waiting.next() else { break };
            let (url, nats) = (url.clone(), nats_url(&shared.nats));
            running.spawn(async move {
                let world = World::open(&url, &nats, conformance::LEASE).await;
                let ended = tokio::spawn(case(world.backends.clone())).await;
                assert!(ended.is_ok(), "{name} does not pass on a Redis Cluster");
                world.end().await;
            });
        }
        match running.join_next().await {
            Some(ended) => ended.expect("a case failed"),
            None => break,
        }
    }
    // All three had a part in it.
    for master in &masters {
        assert!(master.redis(&["INFO", "commandstats"]).contains("cmdstat_evalsha"), "one master did nothing");
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
