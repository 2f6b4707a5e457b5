//! `Store::heartbeat`: who lives, and what waits.

use chatnode::backend::{Backends, Submission};
use chatnode::model::{ModelInfo, NodeInfo, Status, Time, UserId};

use super::stage::{MODEL, Writer, ask, eventually, generation_of, opening};

pub(crate) async fn heartbeat_lists_the_living(backends: Backends) {
    let (one, two) = (node("one"), node("two"));
    let alone = backends.store.heartbeat(&one, false).await.expect("heartbeat");
    assert_eq!(names(&alone.nodes), ["one"]);
    assert_eq!(alone.waiting, []);
    let both = backends.store.heartbeat(&two, false).await.expect("heartbeat");
    assert_eq!(names(&both.nodes), ["one", "two"]);
    let told = both.nodes.iter().find(|node| node.id == "two").expect("itself");
    assert_eq!((&told.models, told.capacity, told.running, &told.roles), (&two.models, 4, 1, &two.roles));

    // The newest word about a node counts.
    let busy = NodeInfo { running: 3, draining: true, ..one.clone() };
    let list = backends.store.heartbeat(&busy, false).await.expect("heartbeat").nodes;
    let told = list.iter().find(|node| node.id == "one").expect("itself");
    assert_eq!((told.running, told.draining), (3, true));
    let left = backends.store.heartbeat(&busy, true).await.expect("heartbeat");
    assert!(!names(&left.nodes).contains(&"one".to_owned()), "a node that left is not listed");
    assert_eq!(names(&backends.store.heartbeat(&two, false).await.expect("heartbeat").nodes), ["two"]);
    backends.store.heartbeat(&one, true).await.expect("to leave twice is harmless");

    eventually("a silent node is forgotten", || async {
        let list = backends.store.heartbeat(&one, false).await.expect("heartbeat").nodes;
        (names(&list) == ["one"]).then_some(())
    })
    .await;
}

pub(crate) async fn waiting_work_is_counted(backends: Backends) {
    let user = UserId::generate();
    ask(&backends, &user, "a").await;
    let cancelled = generation_of(&ask(&backends, &user, "b").await);
    let other = Submission { model: "model-b".into(), ..opening(&user, "c") };
    backends.generations.submit(&other).await.expect("submit");
    let waiting = || async {
        let mut waiting = backends.store.heartbeat(&node("one"), false).await.expect("heartbeat").waiting;
        waiting.sort_unstable();
        waiting
    };
    assert_eq!(waiting().await, [(MODEL.to_owned(), 2), ("model-b".to_owned(), 1)]);
    backends.generations.cancel(&cancelled).await.expect("cancel");
    assert_eq!(waiting().await, [(MODEL.to_owned(), 1), ("model-b".to_owned(), 1)]);
    let writer = Writer::begin(&backends).await;
    writer.finish(Status::Completed).await.expect("finish");
    assert_eq!(waiting().await, [("model-b".to_owned(), 1)]);
}

fn node(id: &str) -> NodeInfo {
    NodeInfo {
        id: id.into(),
        roles: vec!["gateway".into(), "ai".into()],
        version: "1.2.3".into(),
        draining: false,
        started_at: Time::now(),
        seen_at: Time::now(),
        connections: 2,
        running: 1,
        capacity: 4,
        models: vec![ModelInfo {
            id: MODEL.into(),
            name: "Model A".into(),
            provider: "demo".into(),
            demo: true,
            default: true,
            context_tokens: Some(4096),
            max_tokens: Some(64),
            max_tokens_cap: Some(128),
            admin_only: true,
        }],
    }
}

fn names(nodes: &[NodeInfo]) -> Vec<String> {
    let mut names: Vec<String> = nodes.iter().map(|node| node.id.clone()).collect();
    names.sort_unstable();
    names
}
