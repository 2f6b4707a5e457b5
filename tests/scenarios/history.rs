//! A long-term history in a real PostgreSQL: what outages, losses and rollbacks do to it, and how people meet it. That it keeps every
//! contract of the traits is shown by `conformance/history.rs`.

use std::time::Duration;

use chatnode::backend::{Backends, Error, Link, ListQuery, Patch, Submission};
use chatnode::model::{ConversationId, Status, UserId};
use reqwest::StatusCode;
use serde_json::json;

use crate::chaos::proxy::{Mode, Proxy};
use crate::conformance::stage::{Writer, eventually, following, opening};
use crate::harness::client::Socket;
use crate::harness::figure;
use crate::harness::node::{self, Node};
use crate::harness::postgres::{AT_ONCE, Postgres, join, join_at, shared_with_history, world};
use crate::harness::rest::Rest;
use crate::harness::servers::{Server, Shared, World, nats_url, prefix, redis_url, shared};
use crate::scenarios::cluster_tls::certify;

const LEASE: Duration = Duration::from_secs(20);
/// Nothing leaves Redis by itself.
const LONG: Duration = Duration::from_secs(3_600);

/// A question and its answer, whole.
async fn turn(backends: &Backends, submission: &Submission, answer: &str) -> ConversationId {
    backends.generations.submit(submission).await.expect("submit");
    let mut writer = Writer::begin(backends).await;
    writer.say(answer).await;
    writer.finish(Status::Completed).await.expect("finish");
    submission.conversation.clone()
}

/// All texts of a conversation in the order of their creation.
async fn texts(backends: &Backends, id: &ConversationId) -> Vec<String> {
    let messages = backends.store.messages(id, None, 100).await.expect("messages");
    messages.into_iter().map(|message| message.content).collect()
}

async fn titles(backends: &Backends, user: &UserId, search: Option<&str>) -> Vec<String> {
    let query = ListQuery { limit: 50, cursor: None, search: search.map(str::to_owned) };
    backends.store.conversations(user, &query).await.expect("list").items.into_iter().map(|found| found.title).collect()
}

fn key(world: &World, kind: char, id: &ConversationId) -> String {
    format!("{}:{kind}:{{{}}}", world.prefix, &id.as_str()[4..])
}

fn is_in_redis(redis: &Server, world: &World, id: &ConversationId) -> bool {
    redis.redis(&["EXISTS", &key(world, 'c', id)]) == "1"
}

/// Everything of this world that Redis holds, gone.
fn lose_redis(redis: &Server, world: &World) {
    for key in redis.redis(&["KEYS", &format!("{}:*", world.prefix)]).lines() {
        redis.redis(&["DEL", key]);
    }
}

fn count(postgres: &Postgres, world: &World, table: &str) -> usize {
    let said = postgres.sql(&format!("SELECT count(*) FROM \"{}\".{table}", world.prefix)).expect("psql");
    said.parse().expect("a number")
}

async fn archived(postgres: &Postgres, world: &World, messages: usize) {
    let done = || async { (count(postgres, world, "messages") >= messages).then_some(()) };
    eventually("everything is archived", done).await;
    eventually("nothing waits", || async { (figure(&world.metrics.encode(), "chatnode_history_waiting") < 0.5).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_delays_archiving_and_loses_nothing() {
    let Some(servers) = shared() else { return };
    let Some(mut postgres) = Postgres::start() else { return };
    let world = world(servers, &postgres.url(), LEASE, LONG).await;
    let (backends, user) = (&world.backends, UserId::generate());
    let deleted = turn(backends, &opening(&user, "to be deleted"), "a").await;
    let old = turn(backends, &opening(&user, "an old one"), "b").await;
    archived(&postgres, &world, 4).await;
    assert!(figure(&world.metrics.encode(), "chatnode_history_archived_messages_total") >= 4.0);
    for kind in ['c', 'm', 'k', 'o', 'b', 'd', 'i'] {
        servers.redis.redis(&["DEL", &key(&world, kind, &old)]);
    }

    postgres.stop();
    world.history_is(false).await;
    // What is old can't be known, and nothing pretends that it isn't there.
    for unknown in [
        backends.store.conversation(&user, &old).await.map(|_| ()),
        backends.store.messages(&old, None, 10).await.map(|_| ()),
        backends.store.delete(&user, &old).await,
        backends.store.conversations(&user, &ListQuery { limit: 10, ..ListQuery::default() }).await.map(|_| ()),
        backends.generations.submit(&following(&user, &old, "hello?")).await.map(|_| ()),
    ] {
        let Err(Error::Unavailable(why)) = &unknown else { panic!("{unknown:?}") };
        assert!(!why.contains("s3cret") && !why.contains("127.0.0.1"), "{why}");
    }
    // What is in Redis goes on as ever.
    let new = turn(backends, &opening(&user, "during the outage"), "c").await;
    turn(backends, &following(&user, &new, "and once more"), "d").await;
    backends.store.delete(&user, &deleted).await.expect("delete");
    assert_eq!(backends.store.conversation(&user, &deleted).await, Err(Error::NotFound));
    let waiting = || async { (figure(&world.metrics.encode(), "chatnode_history_waiting") >= 2.0).then_some(()) };
    eventually("both changes wait", waiting).await;
    assert!(figure(&world.metrics.encode(), "chatnode_history_connected") < 0.5);

    postgres.resume();
    world.history_is(true).await;
    eventually("the deletion arrives", || async { (count(&postgres, &world, "conversations") == 2).then_some(()) }).await;
    archived(&postgres, &world, 6).await;
    lose_redis(&servers.redis, &world);
    assert_eq!(texts(backends, &old).await, ["an old one", "b"]);
    assert_eq!(texts(backends, &new).await, ["during the outage", "c", "and once more", "d"]);
    assert_eq!(backends.store.conversation(&user, &deleted).await, Err(Error::NotFound));
    assert_eq!(titles(backends, &user, None).await.len(), 2);
    world.end().await;
}

/// Somebody makes the stay in Redis shorter: that counts for what rests there already, from the next look at everything on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_stay_counts_for_what_is_there() {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let long = world(servers, &postgres.url(), LEASE, LONG).await;
    let user = UserId::generate();
    let id = turn(&long.backends, &opening(&user, "rests"), "a").await;
    archived(postgres, &long, 2).await;
    let prefix = long.prefix.clone();
    long.end().await;
    // Such a look counts for hours; it is forgotten so that the next node takes one.
    servers.redis.redis(&["DEL", &format!("{prefix}:audit")]);
    let short = join(servers, &postgres.url(), LEASE, AT_ONCE, &prefix).await;
    short.ready().await;
    rests(servers, &short, &id).await;
    assert_eq!(texts(&short.backends, &id).await, ["rests", "a"]);
    short.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_does_not_hold_up_who_sends() {
    let Some(servers) = shared() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let world = world(servers, &postgres.url(), LEASE, LONG).await;
    let user = UserId::generate();
    turn(&world.backends, &opening(&user, "before"), "a").await;
    archived(&postgres, &world, 2).await;
    postgres.freeze();
    let began = tokio::time::Instant::now();
    turn(&world.backends, &opening(&user, "while it hangs"), "b").await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    world.history_is(false).await;
    postgres.thaw();
    world.history_is(true).await;
    archived(&postgres, &world, 4).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_loses_is_still_there() {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let world = world(servers, &postgres.url(), LEASE, LONG).await;
    let (backends, user) = (&world.backends, UserId::generate());
    let first = opening(&user, "Đường về nhà \0 của tôi?");
    let id = turn(backends, &first, "Rẽ trái ở ngã tư.").await;
    backends.store.patch(&user, &id, &Patch { title: Some("Lối về".into()), pinned: Some(true) }).await.expect("patch");
    let other = turn(backends, &opening(&user, "something else"), "yes").await;
    archived(postgres, &world, 4).await;
    let before = backends.store.messages(&id, None, 10).await.expect("messages");
    let listed = backends.store.conversation(&user, &id).await.expect("conversation").conversation;

    lose_redis(&servers.redis, &world);
    for search in ["duong", "ĐƯỜNG nha", "re trai", "loi ve"] {
        assert_eq!(titles(backends, &user, Some(search)).await, ["Lối về"], "search {search:?}");
    }
    assert!(!is_in_redis(&servers.redis, &world, &id), "search brings nothing back");
    assert_eq!(titles(backends, &user, None).await, ["Lối về", "a title"]);
    assert!(titles(backends, &UserId::generate(), None).await.is_empty());
    let stranger = UserId::generate();
    assert_eq!(backends.store.conversation(&stranger, &id).await, Err(Error::NotFound));
    assert_eq!(backends.store.delete(&stranger, &id).await, Err(Error::NotFound));
    assert_eq!(backends.store.messages(&id, None, 10).await.expect("messages"), before);
    assert_eq!(backends.store.conversation(&user, &id).await.expect("conversation").conversation, listed);
    // The same request is still the same turn, and the conversation goes on.
    let repeated = backends.generations.submit(&first).await.expect("repeat");
    assert!(repeated.repeated && repeated.assistant_message == before[1], "{repeated:?}");
    turn(backends, &following(&user, &id, "Còn xa không?"), "Gần thôi.").await;
    assert_eq!(texts(backends, &id).await.len(), 4);
    archived(postgres, &world, 6).await;
    // What was deleted while it was away is away everywhere.
    backends.store.delete(&user, &other).await.expect("delete");
    eventually("the history forgets it", || async { (count(postgres, &world, "conversations") == 1).then_some(()) }).await;
    lose_redis(&servers.redis, &world);
    assert_eq!(titles(backends, &user, None).await, ["Lối về"]);
    assert_eq!(texts(backends, &id).await.len(), 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_went_back_in_time_costs_no_message() {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let world = world(servers, &postgres.url(), LEASE, LONG).await;
    let (backends, user) = (&world.backends, UserId::generate());
    let id = turn(backends, &opening(&user, "one"), "1").await;
    archived(postgres, &world, 2).await;
    let kinds = ['c', 'm', 'k', 'o', 'b', 'd', 'i'];
    let copy = |from: &str, to: &str| servers.redis.redis(&["COPY", from, to, "REPLACE"]);
    for kind in kinds {
        copy(&key(&world, kind, &id), &format!("{}:before", key(&world, kind, &id)));
    }
    turn(backends, &following(&user, &id, "two"), "2").await;
    archived(postgres, &world, 4).await;
    // A power cut took the last turn from Redis alone, and people went on.
    for kind in kinds {
        copy(&format!("{}:before", key(&world, kind, &id)), &key(&world, kind, &id));
    }
    assert_eq!(texts(backends, &id).await, ["one", "1"]);
    turn(backends, &following(&user, &id, "three"), "3").await;
    archived(postgres, &world, 6).await;
    let all = || async { (texts(backends, &id).await == ["one", "1", "two", "2", "three", "3"]).then_some(()) };
    eventually("all turns are there", all).await;
    turn(backends, &following(&user, &id, "four"), "4").await;
    archived(postgres, &world, 8).await;
    lose_redis(&servers.redis, &world);
    assert_eq!(texts(backends, &id).await.len(), 8);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_the_history_is_archived() {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let prefix = prefix();
    let before = World::join(&redis_url(&servers.redis), &nats_url(&servers.nats), LEASE, &prefix).await;
    before.ready().await;
    let (user, mut ids) = (UserId::generate(), Vec::new());
    for n in 0..20 {
        ids.push(turn(&before.backends, &opening(&user, &format!("question {n}")), &format!("answer {n}")).await);
    }
    before.end().await;

    let world = join(servers, &postgres.url(), LEASE, AT_ONCE, &prefix).await;
    world.ready().await;
    world.history_is(true).await;
    archived(postgres, &world, 40).await;
    let gone = || async { ids.iter().all(|id| !is_in_redis(&servers.redis, &world, id)).then_some(()) };
    eventually("all leave Redis", gone).await;
    assert_eq!(titles(&world.backends, &user, None).await.len(), 20);
    assert_eq!(titles(&world.backends, &user, Some("answer 13")).await.len(), 1);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(texts(&world.backends, id).await, [format!("question {n}"), format!("answer {n}")]);
    }
    assert!(figure(&world.metrics.encode(), "chatnode_history_evicted_total") >= 20.0);
    assert!(figure(&world.metrics.encode(), "chatnode_history_hydrated_total") >= 20.0);
    world.end().await;
}

/// As `pg_restore` leaves it where `pg_trgm` was not there yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_history_gets_its_index_back() {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let before = world(servers, &postgres.url(), LEASE, LONG).await;
    turn(&before.backends, &opening(&UserId::generate(), "kept"), "1").await;
    archived(postgres, &before, 2).await;
    let schema = before.prefix.clone();
    before.end().await;
    postgres.sql(&format!("DROP INDEX \"{schema}\".messages_by_text")).expect("psql");

    let world = join(servers, &postgres.url(), LEASE, LONG, &schema).await;
    world.history_is(true).await;
    let there = format!("SELECT count(*) FROM pg_indexes WHERE schemaname = '{schema}' AND indexname = 'messages_by_text'");
    assert_eq!(postgres.sql(&there).as_deref(), Some("1"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_server_that_can_be_trusted_gets_the_history() {
    let Some(servers) = shared() else { return };
    let Some(mut postgres) = Postgres::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    if !certify(dir.path()) {
        let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
        assert!(!required, "no openssl to make certificates with");
        return eprintln!("left out: no openssl to make certificates with");
    }
    let why = async |url: &str| {
        let world = join(servers, url, LEASE, LONG, &prefix()).await;
        let mut health = world.backends.health.clone();
        let told = |link: &Link| matches!(link, Link::Down(why) if !why.contains("not reached yet"));
        let down =
            health.wait_for(|health| health.history.as_ref().is_some_and(told)).await.expect("the health task runs").clone();
        world.end().await;
        let Some(Link::Down(why)) = down.history else { panic!("{down:?}") };
        assert!(!why.contains("s3cret") && !why.contains("127.0.0.1"), "{why}");
        why
    };
    let url = postgres.url();
    assert_eq!(why(&format!("{url}?sslmode=require")).await, "postgresql could not be trusted", "it speaks no TLS yet");
    postgres.secure(dir.path());
    assert_eq!(why(&format!("{url}?sslmode=require")).await, "postgresql could not be trusted", "nobody knows its authority");
    assert_eq!(why(&url.replace("s3cret", "wrong")).await, "postgresql refuses these credentials");
    let ca = dir.path().join("ca.pem");
    let trusted = format!("{url}?sslmode=require&ca={}", ca.display());
    let world = world(servers, &trusted, LEASE, LONG).await;
    turn(&world.backends, &opening(&UserId::generate(), "in secret"), "a").await;
    archived(&postgres, &world, 2).await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'chatnode'";
    assert_eq!(postgres.sql(encrypted).as_deref(), Some("t"));
    world.end().await;
}

/// A backup of PostgreSQL was restored that lacks what Redis holds as archived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_went_back_in_time_is_written_again() {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let user = UserId::generate();
    let before = world(servers, &postgres.url(), LEASE, LONG).await;
    let (lost, older) = (opening(&user, "lost"), opening(&user, "older"));
    turn(&before.backends, &lost, "1").await;
    turn(&before.backends, &older, "1").await;
    turn(&before.backends, &following(&user, &older.conversation, "two"), "2").await;
    archived(postgres, &before, 6).await;
    let schema = before.prefix.clone();
    before.end().await;
    postgres.sql(&format!("DELETE FROM \"{schema}\".conversations WHERE id = '{}'", lost.conversation)).expect("psql");
    postgres
        .sql(&format!(
            "DELETE FROM \"{schema}\".messages WHERE idx >= 2; UPDATE \"{schema}\".conversations SET messages = 2, version = 3"
        ))
        .expect("psql");
    assert_eq!(postgres.sql(&format!("SELECT count(*) FROM \"{schema}\".messages")).as_deref(), Some("2"));

    // The node that evicts is another one, which keeps nothing.
    let world = join(servers, &postgres.url(), LEASE, AT_ONCE, &schema).await;
    world.ready().await;
    world.history_is(true).await;
    for it in [&lost, &older] {
        servers.redis.redis(&["ZADD", &format!("{schema}:e:0"), "1", &it.conversation.as_str()[4..]]);
        rests(servers, &world, &it.conversation).await;
    }
    assert_eq!(texts(&world.backends, &lost.conversation).await, ["lost", "1"]);
    assert_eq!(texts(&world.backends, &older.conversation).await, ["older", "1", "two", "2"]);
    world.end().await;
}

/// A node reads a conversation in PostgreSQL and is held up; meanwhile it goes on elsewhere, is archived, and leaves Redis again. What the
/// first one has read is then too old to be brought.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_too_early_is_not_brought_back() {
    const PIECE: Duration = Duration::from_millis(100);
    let Some(servers) = shared() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let world = world(servers, &postgres.url(), LEASE, AT_ONCE).await;
    let user = UserId::generate();
    let id = turn(&world.backends, &opening(&user, "one"), "1").await;
    rests(servers, &world, &id).await;

    let (to_redis, redis_url) = Proxy::before(&redis_url(&servers.redis), servers.redis.port).await;
    let (to_history, history_url) = Proxy::before(&postgres.url(), postgres.port).await;
    let slow = join_at(&redis_url, &nats_url(&servers.nats), &history_url, LEASE, AT_ONCE, &world.prefix, LONG).await;
    slow.ready().await;
    slow.history_is(true).await;
    to_history.set(Mode::Slow(PIECE));
    let reads = {
        let (backends, id) = (slow.backends.clone(), id.clone());
        tokio::spawn(async move { texts(&backends, &id).await })
    };
    let begun = || async { (servers.redis.redis(&["EXISTS", &key(&world, 't', &id)]) == "1").then_some(()) };
    eventually("it begins to bring it", begun).await;
    to_redis.set(Mode::Hole);
    // Two statements there and back, each of a few pieces: then it holds what it read.
    tokio::time::sleep(PIECE * 8).await;
    turn(&world.backends, &following(&user, &id, "two"), "2").await;
    rests(servers, &world, &id).await;
    to_redis.set(Mode::Open);
    to_history.set(Mode::Open);
    assert_eq!(reads.await.expect("join"), ["one", "1", "two", "2"]);
    assert_eq!(texts(&world.backends, &id).await, ["one", "1", "two", "2"]);
    slow.end().await;
    world.end().await;
}

/// As people meet it: through a node, with a page that is loaded again long after the conversation rested.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_go_on_with_what_rested() {
    let Some(servers) = shared() else { return };
    let Some(mut postgres) = Postgres::start() else { return };
    let world = world(servers, &postgres.url(), node::LEASE, AT_ONCE).await;
    let node = Node::with(node::config("a"), &world.backends).await;
    let mut socket = Socket::open(node.address).await;
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=40 rate=400"})).await;
    let first = socket.finished(&answer.generation.expect("a generation")).await;
    let tab = socket.lose();
    rests(servers, &world, &question.conversation).await;

    let rest = Rest::of(&tab, node.address);
    let messages = rest.got(&format!("/api/conversations/{}/messages", question.conversation)).await;
    assert_eq!(messages["items"].as_array().map(Vec::len), Some(2), "{messages}");
    assert_eq!(messages["items"][1]["content"], json!(first.message.content), "{messages}");
    rests(servers, &world, &question.conversation).await;
    let listed = rest.got("/api/conversations").await;
    assert_eq!(listed["items"][0]["id"], json!(question.conversation), "{listed}");

    let mut socket = tab.connect(node.address).await;
    socket.subscribe(question.conversation.as_str()).await;
    let (_, again) = socket.ask(json!({"conversation": question.conversation, "content": "/demo tokens=20 rate=400"})).await;
    assert_eq!(again.conversation, question.conversation);
    let second = socket.finished(&again.generation.expect("a generation")).await;
    assert_eq!(second.status, Status::Completed);
    rests(servers, &world, &question.conversation).await;
    let messages = rest.got(&format!("/api/conversations/{}/messages", question.conversation)).await;
    assert_eq!(messages["items"].as_array().map(Vec::len), Some(4), "{messages}");

    // Without it the node is ready and alive, says what is missing, and refuses only what is old.
    rests(servers, &world, &question.conversation).await;
    postgres.stop();
    world.history_is(false).await;
    let health = rest.got("/health").await;
    assert_eq!((&health["status"], &health["checks"]["history"]), (&json!("degraded"), &json!("down")), "{health}");
    let ready = rest.text("/readyz").await;
    assert!(ready.starts_with("ok\ndegraded: history: postgresql"), "{ready}");
    let (status, body) = rest.get(&format!("/api/conversations/{}", question.conversation)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=5 rate=400"})).await;
    assert_eq!(socket.finished(&answer.generation.expect("a generation")).await.status, Status::Completed);
    drop(socket);
    node.leave(Duration::from_secs(1)).await;
    world.end().await;
}

/// Waits until PostgreSQL alone has it.
async fn rests(servers: &Shared, world: &World, id: &ConversationId) {
    eventually("it leaves Redis", || async { (!is_in_redis(&servers.redis, world, id)).then_some(()) }).await;
}
