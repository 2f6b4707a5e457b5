//! Redis forgets scripts, cuts connections, freezes, dies, comes back with less, is full, or is not there at all.

use std::time::Duration;

use chatnode::backend::{Backends, Cancel, Error, Phase};
use chatnode::model::{Position, Status, UserId};
use tokio::time::Instant;

use super::cluster_writer::StubbornWriter;
use crate::conformance::stage::{
    Writer, ask, assert_fenced, assert_gone, eventually, fold, following, generation_of, opening, read_all, text, try_claim,
};
use crate::harness::servers::{Programs, Server, World, nats_url, redis_url, shared};

/// Longer than any outage here, so that nobody takes over.
const LEASE: Duration = Duration::from_secs(60);
/// "Quickly": a command's two seconds and a machine that is busy.
const QUICKLY: Duration = Duration::from_secs(5);

/// Once it is known that nobody is there.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A world on a Redis of its own.
async fn own_redis(more: &[&str]) -> Option<(Server, World)> {
    let redis = Programs::find()?.redis(more);
    let world = World::open(&redis_url(&redis), &nats_url(&shared()?.nats), LEASE).await;
    Some((redis, world))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_forgotten_and_connections_cut() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    ask(&world.backends, &UserId::generate(), "go on").await;
    let mut writer = StubbornWriter::claim(&world.backends).await;
    for n in 0..60 {
        match n % 20 {
            5 => drop(redis.redis(&["SCRIPT", "FLUSH"])),
            15 => drop(redis.redis(&["CLIENT", "KILL", "TYPE", "normal"])),
            _ => {}
        }
        writer.say(&format!("{n} ")).await.expect("the lease holds");
    }
    redis.redis(&["SCRIPT", "FLUSH"]);
    writer.finish().await.expect("finish");
    writer.check().await;
    assert_eq!(writer.resent, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_with_its_file_loses_nothing() {
    let Some((mut redis, world)) = own_redis(&["--appendonly", "yes", "--appendfsync", "always"]).await else { return };
    ask(&world.backends, &UserId::generate(), "go on").await;
    let mut writer = StubbornWriter::claim(&world.backends).await;
    let writing = tokio::spawn(async move {
        for n in 0..1_500 {
            writer.say(&format!("{n} ")).await.expect("the lease holds");
        }
        writer.finish().await.expect("finish");
        writer
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        redis.kill();
        redis.start();
    }
    let writer = writing.await.expect("join");
    eventually("the world is back", async || world.backends.health.borrow().store.is_up().then_some(())).await;
    writer.check().await;
    assert_eq!(writer.resent, 0, "what is on the disk is not lost");
    world.end().await;
}

/// As a replica that is promoted before it had everything: the writer sends the rest again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_suffix_is_written_again() {
    let Some((mut redis, world)) = own_redis(&["--appendonly", "no"]).await else { return };
    ask(&world.backends, &UserId::generate(), "go on").await;
    let mut writer = StubbornWriter::claim(&world.backends).await;
    for n in 0..30 {
        writer.say(&format!("{n} ")).await.expect("the lease holds");
        if n == 9 {
            assert_eq!(redis.redis(&["SAVE"]), "OK");
        }
    }
    redis.kill();
    redis.start();
    writer.say("and on").await.expect("the lease is part of what was kept");
    writer.finish().await.expect("finish");
    writer.check().await;
    assert_eq!(writer.resent, 1);
    world.end().await;
}

/// The claim itself is lost: its owner must stop, and another takes over what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_claim_fences_its_owner() {
    let Some((mut redis, world)) = own_redis(&["--appendonly", "no"]).await else { return };
    let asked = ask(&world.backends, &UserId::generate(), "go on").await;
    assert_eq!(redis.redis(&["SAVE"]), "OK");
    let mut writer = StubbornWriter::claim(&world.backends).await;
    writer.say("lost").await.expect("say");
    redis.kill();
    redis.start();
    assert_eq!(writer.say("more").await, Err(Error::Fenced));
    let mut second = StubbornWriter::claim(&world.backends).await;
    assert_eq!(second.claim.lease.generation(), &generation_of(&asked));
    second.say("found").await.expect("say");
    assert_eq!(writer.flush().await, Err(Error::Fenced));
    second.finish().await.expect("finish");
    second.check().await;
    world.end().await;
}

/// A replica that is promoted before it had a claim may give the next owner the same epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_owner_of_the_same_epoch_fences_the_first() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    let asked = ask(&world.backends, &UserId::generate(), "go on").await;
    let mut writer = Writer::begin(&world.backends).await;
    let short = &generation_of(&asked).as_str()[30..].to_owned();
    let state = redis.redis(&["KEYS", &format!("{}:s:*{short}", world.prefix)]);
    assert_eq!(redis.redis(&["HSET", &state, "n", "of another"]), "0");
    assert_fenced(writer.append(&[text(0, "mine")]).await);
    assert_fenced(world.backends.generations.renew(writer.lease()).await);
    assert_fenced(writer.finish(Status::Completed).await);
    assert_eq!(read_all(&world.backends, &generation_of(&asked)).await.0.len(), 1, "only what it wrote before");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_log_stays_removed() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    let backends = &world.backends;
    for everything in [false, true] {
        let asked = ask(backends, &UserId::generate(), "soon gone").await;
        let generation = generation_of(&asked);
        let mut writer = Writer::begin(backends).await;
        writer.say("half").await;
        let short = &generation.as_str()[30..];
        for key in redis.redis(&["KEYS", &format!("{}:[gs]:*{short}", world.prefix)]).lines() {
            if everything || key.contains(":g:") {
                assert_eq!(redis.redis(&["DEL", key]), "1");
            }
        }
        for _ in 0..2 {
            assert_gone(writer.append(&[]).await);
            let (said, outcome) = (writer.said.clone(), crate::conformance::stage::outcome(Status::Completed, "half"));
            let message = writer.final_message(&outcome);
            assert_eq!(said, "half");
            assert_gone(
                backends.generations.append(writer.lease(), writer.tail, &[crate::conformance::stage::text(4, "!")]).await,
            );
            assert_gone(backends.generations.renew(writer.lease()).await);
            // What its owner holds of it is the only copy, and is kept; a repeat changes nothing.
            let finished = backends.generations.finish(writer.lease(), writer.tail, &outcome, &message).await;
            if everything { assert_gone(finished) } else { finished.expect("the message is written") }
        }
        assert_gone(backends.generations.read(&generation, Position::START, 1_000).await);
        assert_eq!(redis.redis(&["KEYS", &format!("{}:g:*{short}", world.prefix)]), "", "it came back");
        // Whoever looks at the message does not wait for ever.
        let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
        if everything {
            assert_eq!(message.status, Status::Interrupted);
            assert!(message.error.is_some());
        } else {
            assert_eq!((message.status, message.content.as_str()), (Status::Completed, "half"));
        }
        assert!(try_claim(backends).await.is_none());
    }
    world.end().await;
}

/// A log is away, but its owner is not: readers and cancels leave the end to the owner, who has the text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_looks_at_a_removed_log_leaves_its_end_to_the_owner() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    let (backends, user) = (&world.backends, UserId::generate());
    let asked = ask(backends, &user, "soon gone").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(backends).await;
    writer.say("half").await;
    let log = format!("{}:g:*{}", world.prefix, &generation.as_str()[30..]);
    assert_eq!(redis.redis(&["DEL", &redis.redis(&["KEYS", &log])]), "1");
    assert_gone(backends.generations.read(&generation, Position::START, 1_000).await);
    let state = backends.store.conversation(&user, &asked.conversation.id).await.expect("the conversation");
    assert_eq!(state.open.len(), 1, "somebody writes it");
    assert!(try_claim(backends).await.is_none());
    assert_eq!(backends.generations.cancel(&generation).await, Ok(Cancel::Requested));
    writer.finish(Status::Interrupted).await.expect("finish");
    let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert_eq!((message.status, message.content.as_str()), (Status::Interrupted, "half"));
    world.end().await;
}

/// What is damaged is dropped, and holds nobody up: neither who claims, nor who looks at the conversation around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_message_is_lost_or_damaged_is_let_go() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    let (backends, user) = (&world.backends, UserId::generate());
    for damaged in [false, true] {
        let asked = ask(backends, &user, "not there any more").await;
        let messages = redis.redis(&["KEYS", &format!("{}:m:*{}*", world.prefix, &asked.conversation.id.as_str()[4..])]);
        let message = &asked.assistant_message.id.as_str()[30..];
        match damaged {
            true => assert_eq!(redis.redis(&["HSET", &messages, message, "nonsense"]), "0"),
            false => assert_eq!(redis.redis(&["HDEL", &messages, message]), "1"),
        }
        assert!(try_claim(backends).await.is_none());
        let state = backends.store.conversation(&user, &asked.conversation.id).await.expect("the conversation");
        assert!(state.open.is_empty(), "{state:?}");
        let other = ask(backends, &user, "still here").await;
        let mut writer = Writer::begin(backends).await;
        assert_eq!(writer.claim.lease.generation(), &generation_of(&other));
        writer.say("yes").await;
        writer.finish(Status::Completed).await.expect("finish");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_told_quickly_and_survived() {
    let Some((mut redis, world)) = own_redis(&["--appendonly", "yes", "--appendfsync", "always"]).await else { return };
    let user = UserId::generate();
    let asked = ask(&world.backends, &user, "before").await;
    redis.kill();
    expect_unavailable(&world.backends, &user, QUICKLY).await;
    eventually("health says so", async || (!world.backends.health.borrow().store.is_up()).then_some(())).await;
    expect_unavailable(&world.backends, &user, AT_ONCE).await;
    redis.start();
    let back = Instant::now();
    world.ready().await;
    assert!(back.elapsed() < QUICKLY, "{:?} to come back", back.elapsed());
    assert_eq!(read_all(&world.backends, &generation_of(&asked)).await.1, Phase::Queued { ahead: 0 });

    // It holds its connections and answers nothing: a machine that swaps, or a cut cable.
    redis.freeze();
    expect_unavailable(&world.backends, &user, QUICKLY).await;
    redis.thaw();
    world.ready().await;
    let turn = following(&user, &asked.conversation.id, "after");
    eventually("sends go on", async || world.backends.generations.submit(&turn).await.ok()).await;
    world.end().await;
}

async fn expect_unavailable(backends: &Backends, user: &UserId, most: Duration) {
    for round in 0..3 {
        let began = Instant::now();
        let sent = backends.generations.submit(&opening(user, "during")).await;
        assert!(matches!(sent, Err(Error::Unavailable(_))), "round {round}: {sent:?}");
        assert!(began.elapsed() < most, "round {round}: {:?}", began.elapsed());
    }
}

/// A node that leaves still needs its links when everything else in it has been told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_gives_back_what_he_holds() {
    let Some(shared) = shared() else { return };
    let (redis, nats) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let leaving = World::open(&redis, &nats, LEASE).await;
    let staying = World::join(&redis, &nats, LEASE, &leaving.prefix).await;
    staying.ready().await;
    ask(&leaving.backends, &UserId::generate(), "go on").await;
    let claim = try_claim(&leaving.backends).await.expect("work");
    let (backends, stopped) = (leaving.backends.clone(), leaving.drain.stopped().clone());
    leaving.drain.spawn("generation", async move {
        stopped.cancelled().await;
        // The last tokens take a moment to be stored.
        tokio::time::sleep(Duration::from_millis(200)).await;
        backends.generations.release(&claim.lease).await.expect("the lease is given back");
    });
    leaving.end().await;
    assert!(try_claim(&staying.backends).await.is_some(), "the lease is free");
    staying.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_may_come_later_than_nodes() {
    let Some(programs) = Programs::find() else { return };
    let (mut redis, mut nats) = (programs.redis(&[]), programs.nats(&[]));
    redis.kill();
    nats.kill();
    let world = World::join(&redis_url(&redis), &nats_url(&nats), LEASE, "later").await;
    let asked = world.backends.generations.submit(&opening(&UserId::generate(), "too early")).await;
    assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
    let health = world.backends.health.borrow().clone();
    assert!(!health.store.is_up() && !health.backplane.is_up());
    redis.start();
    nats.start();
    world.ready().await;
    ask(&world.backends, &UserId::generate(), "now").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so_and_goes_on() {
    let Some((redis, world)) = own_redis(&["--maxmemory-policy", "noeviction"]).await else { return };
    let user = UserId::generate();
    ask(&world.backends, &user, "before").await;
    let mut writer = StubbornWriter::claim(&world.backends).await;
    redis.redis(&["CONFIG", "SET", "maxmemory", "1"]);
    let sent = world.backends.generations.submit(&opening(&user, "no room")).await;
    assert!(matches!(sent, Err(Error::Full(_))), "{sent:?}");
    let written = tokio::spawn(async move {
        writer.say("waits for room").await.expect("the lease holds");
        writer
    });
    redis.redis(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut writer = written.await.expect("join");
    writer.finish().await.expect("finish");
    writer.check().await;
    world.end().await;
}

/// Also where an entry becomes a block, which begins by deleting: that alone would be let through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_takes_no_entry() {
    let Some((redis, world)) = own_redis(&["--maxmemory-policy", "noeviction"]).await else { return };
    let asked = ask(&world.backends, &UserId::generate(), "one by one").await;
    let mut writer = Writer::begin(&world.backends).await;
    for n in 1..70 {
        redis.redis(&["CONFIG", "SET", "maxmemory", "1"]);
        let refused = writer.append(&[text(writer.said.len() as u64, "word ")]).await;
        assert!(matches!(refused, Err(Error::Full(_))), "entry {n}: {refused:?}");
        redis.redis(&["CONFIG", "SET", "maxmemory", "0"]);
        writer.say("word ").await;
    }
    let (entries, _) = read_all(&world.backends, &generation_of(&asked)).await;
    assert_eq!((entries.len(), fold(&entries).text), (70, "word ".repeat(69)));
    world.end().await;
}

/// The call that stores a turn is stopped between the slots: the sweeper puts it into queue and list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_slots_is_completed() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    let user = UserId::generate();
    ask(&world.backends, &user, "so that all scripts are known").await;
    Writer::begin(&world.backends).await.finish(Status::Completed).await.expect("finish");
    // A server that refuses the keys of queues and lists stands for a node that dies before it touches them.
    let allowed =
        ["~*:c:*", "~*:m:*", "~*:k:*", "~*:o:*", "~*:b:*", "~*:d:*", "~*:i:*", "~*:x:*", "~*:g:*", "~*:s:*", "~*:r:*", "~*:p:*"];
    let refuse: Vec<&str> = ["ACL", "SETUSER", "default", "resetkeys"].into_iter().chain(allowed).collect();
    assert_eq!(redis.redis(&refuse), "OK");
    let cut = opening(&user, "cut in two");
    let sent = world.backends.generations.submit(&cut).await;
    assert!(matches!(sent, Err(Error::Unavailable(_))), "{sent:?}");
    assert_eq!(redis.redis(&["ACL", "SETUSER", "default", "~*"]), "OK");
    let claim = eventually("the sweeper queues it", async || try_claim(&world.backends).await).await;
    assert_eq!(claim.lease.generation(), &cut.generation);
    let listed = eventually("it is in the list", async || {
        let query = chatnode::backend::ListQuery { limit: 10, cursor: None, search: None };
        let list = world.backends.store.conversations(&user, &query).await.expect("list").items;
        list.into_iter().find(|conversation| conversation.id == cut.conversation)
    })
    .await;
    assert!(listed.generating);
    // And the client that repeats its request gets the turn it made.
    let again = world.backends.generations.submit(&cut).await.expect("repeat");
    assert!(again.repeated);
    world.end().await;
}

/// The queue is lost as a whole: whoever reads the log puts it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_queue_is_mended_by_readers() {
    let Some((redis, world)) = own_redis(&[]).await else { return };
    let asked = ask(&world.backends, &UserId::generate(), "waiting").await;
    for key in redis.redis(&["KEYS", &format!("{}:w:*", world.prefix)]).lines() {
        redis.redis(&["DEL", key]);
    }
    assert!(try_claim(&world.backends).await.is_none(), "the queue is gone");
    assert_eq!(read_all(&world.backends, &generation_of(&asked)).await.1, Phase::Queued { ahead: 0 });
    assert!(try_claim(&world.backends).await.is_some());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_told_without_them() {
    let Some(programs) = Programs::find() else { return };
    let redis = programs.redis(&["--requirepass", "right-secret"]);
    let nats = programs.nats(&["--user", "me", "--pass", "right-secret"]);
    let url = |password: &str| {
        (format!("redis://:{password}@127.0.0.1:{}", redis.port), format!("nats://me:{password}@127.0.0.1:{}", nats.port))
    };
    let (redis_url, nats_url) = url("wrong-secret");
    let world = World::join(&redis_url, &nats_url, LEASE, "credentials").await;
    eventually("both say why", async || {
        let health = format!("{:?}", world.backends.health.borrow());
        (health.matches("credentials").count() == 2).then_some(())
    })
    .await;
    assert!(!format!("{:?} {:?}", world.backends, world.backends.health.borrow()).contains("wrong-secret"));
    world.end().await;
    let (redis_url, nats_url) = url("right-secret");
    let world = World::join(&redis_url, &nats_url, LEASE, "credentials").await;
    world.ready().await;
    ask(&world.backends, &UserId::generate(), "let in").await;
    world.end().await;
}
