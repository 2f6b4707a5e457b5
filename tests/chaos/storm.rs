//! I19: a gateway with many connections is killed. All of them come back elsewhere, at once, and hurt nobody there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chatnode::model::Time;
use chatnode::protocol::{HistoryItem, List, ServerFrame};
use tokio::sync::watch;
use tokio::time::Instant;

use super::check;
use super::history::{History, Millis, Question, Story, What};
use super::load::RATE;
use super::reader::{Field, Part, Place, Reader};
use super::stage::{Plan, Stage};
use super::table;
use crate::harness::rest;
use crate::harness::servers::{Programs, World, nats_url, redis_url};

/// Connections on the gateway that dies; `CHATNODE_STORM` says another number.
const CONNECTIONS: usize = 200;
const CONVERSATIONS: usize = 10;
/// More than the storm lasts.
const TOKENS: usize = 5_000;
/// How long it may take on a busy machine until everybody reads.
const READING_MAX: Duration = Duration::from_secs(60);
/// A client waits at most so long before a try, and then so long until it reads on.
const WINDOW: Duration = Duration::from_secs(5);
const BACK_MAX: Duration = Duration::from_secs(2);

const DYING: usize = 0;
const STAYING: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_on_a_killed_gateway_is_back_soon_and_disturbs_nobody() {
    let Some(programs) = Programs::find() else { return };
    let told = |name: &str| std::env::vars().find(|(key, _)| key == name).map(|(_, value)| value);
    let connections: usize = told("CHATNODE_STORM").map_or(CONNECTIONS, |value| value.parse().expect("a number"));
    let plan = Plan {
        program: told("CHATNODE_CHAOS_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_chatnode")), PathBuf::from),
        gateways: 2,
        workers: 1,
        lease: Duration::from_secs(6),
        renewal: Duration::from_secs(2),
        drain: Duration::ZERO,
    };
    let mut stage = Stage::set(&programs, plan).await;
    let own = World::join(&redis_url(&stage.redis), &nats_url(&stage.nats), Duration::from_secs(6), "chatnode").await;
    own.ready().await;
    let field = Arc::new(Field {
        began: Instant::now(),
        gateways: stage.gateways.iter().map(|gateway| gateway.front.address).collect(),
        stall: Duration::from_secs(10),
        open: AtomicUsize::new(0),
        http: rest::client(),
        caught_up: AtomicUsize::new(0),
    });
    let epoch = Time::now().0;
    let readers = connections / CONVERSATIONS * CONVERSATIONS;
    let places: Vec<Arc<Place>> = (0..CONVERSATIONS).map(|_| Arc::new(watch::Sender::new(None))).collect();
    let tell = |place| tokio::spawn(story(Arc::clone(&field), Arc::clone(place), readers / CONVERSATIONS));
    let telling: Vec<_> = places.iter().map(tell).collect();
    reading(&field, readers).await;
    let killed = field.now();
    stage.gateways[DYING].kill();
    reading(&field, 2 * readers).await;
    for place in &places {
        end(&field, place).await;
    }
    let (mut backs, mut gaps) = (Vec::new(), Vec::new());
    for story in telling {
        let mut story = story.await.expect("they read");
        for message in story.answers().values().flat_map(|accepted| [&accepted.question.id, &accepted.answer]) {
            story.stored.insert(message.clone(), own.backends.store.message(message).await.expect("it is stored"));
        }
        assert_eq!(check::check(&story), []);
        backs.extend(story.histories.iter().filter_map(|history| back(history, killed)));
        let stays = story.histories.iter().position(|history| history.reader == "author").expect("an author");
        gaps.extend(table::measure(&story, epoch)[stays].longest(killed));
    }
    backs.sort_unstable();
    gaps.sort_unstable();
    let of = |sorted: &[Millis], percent| table::rank(sorted, percent);
    println!(
        "storm: {} connections are back after {} ms in the middle, {} at p99, {} at most; others waited for {} ms at most",
        backs.len(),
        of(&backs, 50),
        of(&backs, 99),
        of(&backs, 100),
        of(&gaps, 100)
    );
    assert_eq!(backs.len(), readers, "all of them were there, and came back");
    assert!(u128::from(of(&backs, 100)) <= (WINDOW + BACK_MAX).as_millis());
    own.end().await;
}

/// Waits until so many have caught up.
async fn reading(field: &Field, times: usize) {
    let deadline = Instant::now() + READING_MAX;
    while field.caught_up.load(Ordering::SeqCst) < times {
        assert!(Instant::now() < deadline, "{} of {times} read", field.caught_up.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Cancels the answer that would go on for ever.
async fn end(field: &Field, place: &Place) {
    let (cookie, conversation) = place.borrow().clone().expect("it was asked");
    let base = format!("http://{}/api", field.gateways[STAYING]);
    let history = field.http.get(format!("{base}/conversations/{conversation}/messages")).header("cookie", &cookie);
    let history: List<HistoryItem> = history.send().await.expect("an answer").json().await.expect("messages");
    let generation = history.items.into_iter().find_map(|item| item.message.generation).expect("an answer in the making");
    let cancel = field.http.post(format!("{base}/generations/{generation}/cancel")).header("cookie", &cookie);
    assert!(cancel.send().await.expect("an answer").status().is_success());
}

/// One answer, asked on the gateway that stays, and read by so many on the one that dies.
async fn story(field: Arc<Field>, place: Arc<Place>, readers: usize) -> Story {
    let request = uuid::Uuid::new_v4().to_string();
    let plan = vec![Question { prompt: format!("/demo tokens={TOKENS} rate={RATE}\n{}", &request[..8]), request }];
    let asks = Part { questions: plan.clone().into(), answers: 1, ..Part::default() };
    let reads = Part { answers: 1, ..Part::default() };
    let author = Reader::new("author", Arc::clone(&field), Arc::clone(&place), asks).avoiding(DYING);
    let mut all = vec![tokio::spawn(author.follow())];
    for _ in 0..readers {
        let reader = Reader::new("reader", Arc::clone(&field), Arc::clone(&place), reads.clone()).avoiding(STAYING);
        all.push(tokio::spawn(reader.follow()));
    }
    let mut story = Story { plan, ..Story::default() };
    for reader in all {
        story.histories.push(reader.await.expect("it reads"));
    }
    story
}

/// From the kill until it had caught up elsewhere; nothing for who was not there.
fn back(history: &History, killed: Millis) -> Option<Millis> {
    let mut before = history.seen.iter().filter(|seen| seen.at < killed);
    before.rfind(|seen| matches!(seen.what, What::Opened(DYING)))?;
    let caught_up = |what: &What| matches!(what, What::Heard(frame) if matches!(**frame, ServerFrame::CaughtUp { .. }));
    let found = history.seen.iter().find(|seen| seen.at > killed && caught_up(&seen.what))?;
    Some(found.at - killed)
}
