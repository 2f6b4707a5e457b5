//! People who ask and read, as many at once as are wanted, each conversation becoming one recorded story.
//! It must not know what breaks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatnode::backend::{Backends, Error};
use chatnode::log::Entry;
use chatnode::model::{ConversationId, GenerationId, Position};
use futures_util::SinkExt;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message as Packet;

use super::history::{Question, Story};
use super::reader::{Field, Part, Place, Reader};
use crate::harness::client::upgrade;

/// Tokens a second, about as fast as a large model.
pub(crate) const RATE: usize = 25;
/// How long the store may take to answer what was written there.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// What every story needs.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) field: Arc<Field>,
    /// A look at the store past all the links that break.
    pub(crate) backends: Backends,
    pub(crate) removed: Arc<Mutex<BTreeSet<GenerationId>>>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Tokens of an answer, at least and at most.
    pub(crate) tokens: (usize, usize),
}

/// Tells one story after the other until it is time to stop.
pub(crate) async fn people(world: World, told: impl Fn(Story)) {
    while !world.stop.load(Ordering::SeqCst) {
        told(story(&world).await);
    }
}

/// Questions, their readers, and what the store says when all have read.
async fn story(world: &World) -> Story {
    let questions = if rand::random_bool(0.25) { 2 } else { 1 };
    let plan: Vec<Question> = (0..questions).map(|_| question(world.tokens)).collect();
    let place: Arc<Place> = Arc::new(watch::Sender::new(None));
    let bytes = |share: usize| world.tokens.0 * 5 / share;
    let hops = |share: f64| rand::random_bool(share).then(|| bytes(2));
    let cancels = rand::random_bool(0.1).then(|| bytes(4));
    let elsewhere = rand::random_bool(0.5);
    let reads = Part { answers: questions, hops: hops(0.2), ..Part::default() };
    let parts = [
        ("author", Part { questions: plan.clone().into(), repeats: rand::random_bool(0.1), hops: hops(0.1), ..reads.clone() }),
        ("reader", reads),
    ];
    let mut readers = Vec::new();
    for (index, (name, part)) in parts.into_iter().enumerate() {
        let part = Part { cancels: cancels.filter(|_| (index == 1) == elsewhere), ..part };
        readers.push(tokio::spawn(Reader::new(name, Arc::clone(&world.field), Arc::clone(&place), part).follow()));
    }
    let sleeper = rand::random_bool(0.1).then(|| tokio::spawn(sleeper(Arc::clone(&world.field), place.subscribe())));
    let mut story = Story { plan, ..Story::default() };
    for reader in readers {
        story.histories.push(reader.await.expect("a reader does not panic"));
    }
    if let Some(sleeper) = sleeper {
        sleeper.abort();
    }
    look(world, &mut story).await;
    story
}

fn question((least, most): (usize, usize)) -> Question {
    let tokens = rand::random_range(least..=most);
    let request = uuid::Uuid::new_v4().to_string();
    let thoughts = if rand::random_bool(0.2) { " reason=20" } else { "" };
    Question { prompt: format!("/demo tokens={tokens} rate={RATE}{thoughts}\n{}", &request[..8]), request }
}

/// Someone who subscribes and never reads a word.
async fn sleeper(field: Arc<Field>, mut place: watch::Receiver<Option<(String, ConversationId)>>) {
    let Ok(Some((cookie, conversation))) = place.wait_for(Option::is_some).await.map(|place| place.clone()) else { return };
    let address = field.gateways[rand::random_range(0..field.gateways.len())];
    let Ok(Some((mut stream, _))) = timeout(LOOK_MAX, upgrade(address, Some(&cookie), None)).await else { return };
    let frame = json!({"type": "subscribe", "conversation": conversation});
    let _ = stream.send(Packet::text(frame.to_string())).await;
    std::future::pending::<()>().await;
}

/// What the store holds of it.
async fn look(world: &World, story: &mut Story) {
    let answers = story.answers();
    let taken = world.removed.lock().expect("nobody panics with it").clone();
    story.removed = answers.keys().filter(|generation| taken.contains(*generation)).cloned().collect();
    for accepted in answers.values() {
        for id in [&accepted.question.id, &accepted.answer] {
            if let Some(message) = asked(|| world.backends.store.message(id)).await {
                story.stored.insert(id.clone(), message);
            }
        }
        if story.removed.contains(&accepted.generation) {
            continue;
        }
        let log = asked(|| whole(&world.backends, &accepted.generation)).await;
        story.logs.insert(accepted.generation.clone(), log.unwrap_or_default());
    }
}

async fn whole(backends: &Backends, generation: &GenerationId) -> Result<Vec<(Position, Entry)>, Error> {
    let mut log = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |(position, _)| *position);
        let page = backends.generations.read(generation, after, 1024 * 1024).await?;
        if page.entries.is_empty() {
            return Ok(log);
        }
        log.extend(page.entries);
    }
}

/// Asks until the store is there. Nothing when it says that nothing is there.
async fn asked<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Option<T> {
    let deadline = Instant::now() + LOOK_MAX;
    while Instant::now() < deadline {
        match timeout(Duration::from_secs(5), ask()).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(Error::Gone | Error::NotFound | Error::Corrupt(_))) => return None,
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    None
}
