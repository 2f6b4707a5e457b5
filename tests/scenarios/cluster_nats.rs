//! NATS stops, starts, carries garbage, or asks for a token: hints get lost, and nothing else.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use chatnode::backend::{Hint, Hints, Subject};
use chatnode::model::{ConversationId, UserId};
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::conformance::stage::{PATIENCE, ask, eventually};
use crate::harness::figure;
use crate::harness::servers::{Programs, World, nats_url, redis_url, shared};

const LEASE: Duration = Duration::from_secs(10);

async fn hear(world: &World, subject: &Subject, hints: &mut Hints) -> Arc<Hint> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        world.backends.backplane.publish(subject, Hint::Work { generation: None }).await;
        if let Ok(Some(hint)) = tokio::time::timeout(Duration::from_millis(50), hints.next()).await {
            return hint;
        }
        assert!(Instant::now() < deadline, "nothing is heard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_survive_a_restart() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let mut nats = programs.nats(&[]);
    let url = redis_url(&shared.redis);
    let one = World::open(&url, &nats_url(&nats), LEASE).await;
    let two = World::join(&url, &nats_url(&nats), LEASE, &one.prefix).await;
    two.ready().await;
    let subject = Subject::User(UserId::generate());
    let mut before = two.backends.backplane.subscribe(&subject).await;
    assert_eq!(*hear(&one, &subject, &mut before).await, Hint::Work { generation: None });
    nats.kill();
    eventually("health says so", async || (!one.backends.health.borrow().backplane.is_up()).then_some(())).await;
    let began = Instant::now();
    for _ in 0..20_000 {
        one.backends.backplane.publish(&subject, Hint::Work { generation: None }).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "publishing waited for nobody");
    assert!(one.dropped.unsent() >= 20_000);
    assert!(figure(&one.metrics.encode(), "chatnode_backplane_dropped_total") >= 20_000.0);
    // The store does not care, and a subscription made meanwhile begins when it can.
    ask(&one.backends, &UserId::generate(), "without nats").await;
    let mut during = two.backends.backplane.subscribe(&subject).await;
    nats.start();
    assert_eq!(*hear(&one, &subject, &mut before).await, Hint::Work { generation: None });
    assert_eq!(*hear(&one, &subject, &mut during).await, Hint::Work { generation: None });
    eventually("health says so", async || one.backends.health.borrow().backplane.is_up().then_some(())).await;
    one.end().await;
    two.end().await;
    assert!(tokio::time::timeout(PATIENCE, before.collect::<Vec<_>>()).await.is_ok(), "ends when the node ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_counted_and_dropped() {
    let Some(shared) = shared() else { return };
    let world = World::open(&redis_url(&shared.redis), &nats_url(&shared.nats), LEASE).await;
    let conversation = ConversationId::generate();
    let subject = Subject::Conversation(conversation.clone());
    let mut hints = world.backends.backplane.subscribe(&subject).await;
    hear(&world, &subject, &mut hints).await;
    let name = format!("{}.c.{}", world.prefix, &conversation.as_str()[4..]);
    let large = "x".repeat(700_000);
    let garbage: Vec<&[u8]> = vec![
        b"",
        b"\xff\xfe\x00",
        b"{}",
        b"null",
        br#"{"hint":"entry"}"#,
        br#"{"hint":"tail","generation":"gen_x","position":"1-1"}"#,
        br#"{"hint":"tail","generation":7,"position":{}}"#,
        br#"{"hint":"something_new","x":1}"#,
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        large.as_bytes(),
    ];
    let mut stream = TcpStream::connect(("127.0.0.1", shared.nats.port)).expect("nats");
    stream.write_all(b"CONNECT {\"verbose\":false}\r\n").expect("connect");
    for payload in &garbage {
        stream.write_all(format!("PUB {name} {}\r\n", payload.len()).as_bytes()).expect("publish");
        stream.write_all(payload).and_then(|()| stream.write_all(b"\r\n")).expect("publish");
    }
    stream.flush().expect("flush");
    // The stream goes on behind it, and hands out nothing that isn't a hint.
    let deadline = Instant::now() + PATIENCE;
    while world.dropped.garbage() < garbage.len() as u64 {
        assert_eq!(*hear(&world, &subject, &mut hints).await, Hint::Work { generation: None });
        assert!(Instant::now() < deadline, "{} of {} are counted", world.dropped.garbage(), garbage.len());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_and_a_list_of_servers() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let mut first = programs.nats(&["--auth", "s3cret"]);
    let second = programs.nats(&["--auth", "s3cret"]);
    let urls = format!("nats://s3cret@127.0.0.1:{},nats://127.0.0.1:{}", first.port, second.port);
    let world = World::open(&redis_url(&shared.redis), &urls, LEASE).await;
    let subject = Subject::User(UserId::generate());
    let mut hints = world.backends.backplane.subscribe(&subject).await;
    hear(&world, &subject, &mut hints).await;
    // One of two is enough, whichever was chosen.
    first.kill();
    hear(&world, &subject, &mut hints).await;
    world.end().await;
}
