//! The same random history in both worlds gives the same answers.
//!
//! Clocks differ between the worlds, so times are left out, and a position's epoch is told as "which owner".

use std::collections::BTreeMap;
use std::time::Duration;

use chatnode::backend::{
    Backends, Claim, Error, ListQuery, Parent, Patch, PathEnd, PathQuery, Question, Renewed, Result, Submission, embedded,
};
use chatnode::config::DataDir;
use chatnode::drain::Drain;
use chatnode::log::Entry;
use chatnode::model::{Conversation, ConversationId, GenerationId, Message, MessageId, Options, Position, Status, Time, UserId};
use proptest::prelude::*;

use crate::conformance::stage::{self, own, text};
use crate::harness::servers::{World, nats_url, redis_url, shared};

/// Nobody loses a lease by time here: when is not the same in both worlds.
const LEASE: Duration = Duration::from_secs(600);
const CASES: u32 = 32;
const STEPS: usize = 60;

#[derive(Clone, Debug)]
enum Step {
    Create { user: usize, messages: usize },
    Ask { user: usize, conversation: usize, parent: usize, create: bool, model: usize, question: bool },
    AskAgain { turn: usize, elsewhere: bool },
    Patch { user: usize, conversation: usize, title: bool, pinned: Option<bool> },
    Delete { user: usize, conversation: usize },
    Claim { both: bool },
    Write { lease: usize, entries: usize, wrong: bool },
    WriteAgain { lease: usize },
    Renew { lease: usize },
    Finish { lease: usize, status: usize },
    Release { lease: usize },
    Cancel { turn: usize },
    Read { turn: usize, weight: usize },
    Look { user: usize, conversation: usize, message: usize, limit: usize },
    List { user: usize, search: usize },
}

/// Mostly the same one, so that conversations are found.
fn user() -> impl Strategy<Value = usize> {
    prop::bool::weighted(0.1).prop_map(usize::from)
}

fn step() -> impl Strategy<Value = Step> {
    let few = 0..4_usize;
    prop_oneof![
        1 => (user(), 0..5_usize).prop_map(|(user, messages)| Step::Create { user, messages }),
        8 => (user(), few.clone(), 0..6_usize, prop::bool::weighted(0.8), 0..2_usize, prop::bool::weighted(0.8)).prop_map(
            |(user, conversation, parent, create, model, question)| Step::Ask { user, conversation, parent, create, model, question }
        ),
        1 => (0..8_usize, any::<bool>()).prop_map(|(turn, elsewhere)| Step::AskAgain { turn, elsewhere }),
        1 => (user(), few.clone(), any::<bool>(), any::<Option<bool>>())
            .prop_map(|(user, conversation, title, pinned)| Step::Patch { user, conversation, title, pinned }),
        1 => (user(), few.clone()).prop_map(|(user, conversation)| Step::Delete { user, conversation }),
        5 => any::<bool>().prop_map(|both| Step::Claim { both }),
        6 => (few.clone(), 0..4_usize, prop::bool::weighted(0.1)).prop_map(|(lease, entries, wrong)| Step::Write { lease, entries, wrong }),
        2 => few.clone().prop_map(|lease| Step::WriteAgain { lease }),
        1 => few.clone().prop_map(|lease| Step::Renew { lease }),
        2 => (few.clone(), 0..4_usize).prop_map(|(lease, status)| Step::Finish { lease, status }),
        2 => few.clone().prop_map(|lease| Step::Release { lease }),
        2 => (0..8_usize).prop_map(|turn| Step::Cancel { turn }),
        3 => (0..8_usize, 0..200_usize).prop_map(|(turn, weight)| Step::Read { turn, weight }),
        3 => (user(), few, 0..12_usize, 1..6_usize)
            .prop_map(|(user, conversation, message, limit)| Step::Look { user, conversation, message, limit }),
        1 => (user(), 0..4_usize).prop_map(|(user, search)| Step::List { user, search }),
    ]
}

/// Ids that both worlds get alike.
struct Names {
    users: Vec<UserId>,
    conversations: Vec<ConversationId>,
    /// In the order of their making, of all conversations.
    messages: Vec<MessageId>,
    turns: Vec<Submission>,
    next: u32,
}

impl Names {
    fn new() -> Self {
        let users = vec![UserId::generate(), UserId::generate()];
        let conversations = (0..4).map(|_| ConversationId::generate()).collect();
        Self { users, conversations, messages: Vec::new(), turns: Vec::new(), next: 0 }
    }

    fn at(&mut self) -> Time {
        self.next += 1;
        Time(1_700_000_000_000 + u64::from(self.next) * 1_000)
    }

    fn message(&self, conversation: &ConversationId, n: usize) -> Option<MessageId> {
        let of: Vec<_> = self.messages.iter().filter(|id| id.conversation() == *conversation).collect();
        of.get(n % of.len().max(1)).map(|id| (*id).clone())
    }
}

/// One world, and the leases that its worker holds or once held.
struct Side {
    backends: Backends,
    held: Vec<Held>,
    /// Epochs of a log in the order in which they were seen.
    epochs: BTreeMap<GenerationId, Vec<u64>>,
}

struct Held {
    claim: Claim,
    tail: Position,
    said: u64,
    last: (Position, Vec<Entry>),
}

impl Side {
    fn new(backends: Backends) -> Self {
        Self { backends, held: Vec::new(), epochs: BTreeMap::new() }
    }

    /// A position with its owner's number instead of the epoch; epoch 0 stays.
    fn place(&mut self, generation: &GenerationId, position: Position) -> String {
        if position == Position::START {
            return "start".to_owned();
        }
        let epochs = self.epochs.entry(generation.clone()).or_default();
        let owner = epochs.iter().position(|epoch| *epoch == position.epoch).unwrap_or_else(|| {
            epochs.push(position.epoch);
            epochs.len() - 1
        });
        format!("{owner}.{}", position.seq)
    }

    fn error(&mut self, generation: Option<&GenerationId>, error: &Error) -> String {
        match (error, generation) {
            (Error::OutOfOrder { tail }, Some(generation)) => format!("tail {}", self.place(generation, *tail)),
            (error, _) => format!("{error:?}"),
        }
    }

    fn told<T>(&mut self, result: Result<T>, show: impl FnOnce(&mut Self, T) -> String) -> String {
        match result {
            Ok(value) => show(self, value),
            Err(error) => self.error(None, &error),
        }
    }
}

fn shown(conversation: &Conversation) -> String {
    let Conversation { id, title, pinned, version, generating, created_at, .. } = conversation;
    format!("{id} {title} {pinned} {version} {generating} {created_at}")
}

fn shown_message(message: &Message) -> String {
    format!("{message:?}")
}

/// What the step needs from the names is decided once, so that both worlds get the same.
async fn take(side: &mut Side, step: &Step, names: &Names, submission: Option<&Submission>, made: &[Message]) -> String {
    let backends = side.backends.clone();
    match step {
        Step::Create { user, .. } => {
            let Some(id) = made.first().map(|message| message.conversation.clone()) else { return String::new() };
            let conversation = Conversation { id, ..stage::conversation("imported", made[0].created_at.0) };
            let created = backends.store.create(&names.users[*user], &conversation, made).await;
            side.told(created, |_, ()| "created".to_owned())
        }
        Step::Ask { .. } | Step::AskAgain { .. } => {
            let Some(submission) = submission else { return String::new() };
            let submitted = backends.generations.submit(submission).await;
            side.told(submitted, |_, submitted| {
                let (user, assistant) = (&submitted.user_message, &submitted.assistant_message);
                let (user, assistant) = (shown_message(user), shown_message(assistant));
                format!("{} {user} {assistant} {}", shown(&submitted.conversation), submitted.repeated)
            })
        }
        Step::Patch { user, conversation, title, pinned } => {
            let patch = Patch { title: title.then(|| "Đổi tên".to_owned()), pinned: *pinned };
            let patched = backends.store.patch(&names.users[*user], &names.conversations[*conversation], &patch).await;
            side.told(patched, |_, conversation| shown(&conversation))
        }
        Step::Delete { user, conversation } => {
            let deleted = backends.store.delete(&names.users[*user], &names.conversations[*conversation]).await;
            side.told(deleted, |_, ()| "deleted".to_owned())
        }
        Step::Claim { both } => claim(side, *both).await,
        Step::Write { lease, entries, wrong } => write(side, *lease, *entries, *wrong).await,
        Step::WriteAgain { lease } => write_again(side, *lease).await,
        Step::Renew { lease } => {
            let Some(held) = pick(&mut side.held, *lease) else { return String::new() };
            let renewed = backends.generations.renew(&held.claim.lease).await;
            side.told(renewed, |_, renewed| asked(&renewed))
        }
        Step::Finish { lease, status } => finish(side, *lease, *status).await,
        Step::Release { lease } => {
            let Some(held) = pick(&mut side.held, *lease) else { return String::new() };
            // Whether a second release is refused or ignored is the same.
            format!("{:?}", backends.generations.release(&held.claim.lease).await.map_err(|_| "not mine").or(Ok::<_, &str>(())))
        }
        Step::Cancel { turn } => {
            let Some(turn) = names.turns.get(*turn) else { return String::new() };
            format!("{:?}", backends.generations.cancel(&turn.generation).await)
        }
        Step::Read { turn, weight } => match names.turns.get(*turn) {
            Some(turn) => read(side, &turn.generation, *weight).await,
            None => String::new(),
        },
        Step::Look { user, conversation, message, limit } => look(side, names, *user, *conversation, *message, *limit).await,
        Step::List { user, search } => {
            let search = [None, Some("hoi"), Some("đổi"), Some("word")][*search].map(str::to_owned);
            let query = ListQuery { limit: 100, cursor: None, search };
            let listed = backends.store.conversations(&names.users[*user], &query).await;
            side.told(listed, |_, listing| {
                let mut items: Vec<String> = listing.items.iter().map(shown).collect();
                items.sort();
                format!("{items:?} {:?}", listing.next)
            })
        }
    }
}

fn pick(held: &mut [Held], n: usize) -> Option<&mut Held> {
    // The newest ones are the interesting ones.
    let count = held.len();
    held.get_mut(count.checked_sub(1 + n)?)
}

async fn claim(side: &mut Side, both: bool) -> String {
    let models = [vec!["model-a".to_owned()], vec!["model-b".to_owned(), "model-a".to_owned()]];
    let claimed = side.backends.generations.claim("worker", &models[usize::from(both)]).await;
    let Ok(Some(claim)) = claimed else { return format!("{:?}", claimed.map(|_| ())) };
    let generation = claim.lease.generation().clone();
    let tail = side.place(&generation, claim.tail);
    let told = format!(
        "{generation} {} {} {tail} {} {} {}",
        claim.user,
        shown_message(&claim.message),
        claim.attempt,
        claim.attempts_without_progress,
        claim.cancel.is_some()
    );
    let page = side.backends.generations.read(&generation, Position::START, usize::MAX).await.expect("read");
    let said = stage::fold(&page.entries).text.len() as u64;
    let tail = claim.tail;
    side.held.push(Held { claim, tail, said, last: (tail, Vec::new()) });
    told
}

async fn write(side: &mut Side, lease: usize, entries: usize, wrong: bool) -> String {
    let generations = side.backends.generations.clone();
    let Some(held) = pick(&mut side.held, lease) else { return String::new() };
    let epoch = held.claim.lease.epoch();
    let (mut batch, mut said) = (Vec::new(), held.said);
    if held.tail.epoch != epoch {
        let Entry::Own(own) = own(&held.claim) else { unreachable!("own() makes an Own") };
        batch.push(Entry::Own(chatnode::log::Own { offset: said, ..own }));
    }
    for _ in 0..entries {
        batch.push(text(said, "word "));
        said += 5;
    }
    let previous = if wrong { Position { epoch, seq: held.tail.seq + 7 } } else { held.tail };
    let written = generations.append(&held.claim.lease, previous, &batch).await;
    let generation = held.claim.lease.generation().clone();
    if written.is_ok() {
        held.last = (previous, batch.clone());
        held.said = said;
        for _ in &batch {
            held.tail = held.tail.next(epoch);
        }
    }
    match written {
        Ok(renewed) => asked(&renewed),
        Err(error) => side.error(Some(&generation), &error),
    }
}

async fn write_again(side: &mut Side, lease: usize) -> String {
    let generations = side.backends.generations.clone();
    let Some(held) = pick(&mut side.held, lease) else { return String::new() };
    let generation = held.claim.lease.generation().clone();
    match generations.append(&held.claim.lease, held.last.0, &held.last.1).await {
        Ok(renewed) => asked(&renewed),
        Err(error) => side.error(Some(&generation), &error),
    }
}

async fn finish(side: &mut Side, lease: usize, status: usize) -> String {
    let generations = side.backends.generations.clone();
    let Some(held) = pick(&mut side.held, lease) else { return String::new() };
    let status = [Status::Completed, Status::Cancelled, Status::Interrupted, Status::Failed][status];
    let said = "word ".repeat(usize::try_from(held.said / 5).expect("small"));
    let outcome = stage::outcome(status, &said);
    let message = Message { content: said, status, finish_reason: outcome.finish_reason.clone(), ..held.claim.message.clone() };
    let generation = held.claim.lease.generation().clone();
    match generations.finish(&held.claim.lease, held.tail, &outcome, &message).await {
        Ok(()) => "finished".to_owned(),
        Err(error) => side.error(Some(&generation), &error),
    }
}

async fn read(side: &mut Side, generation: &GenerationId, weight: usize) -> String {
    let (mut told, mut after) = (String::new(), Position::START);
    loop {
        match side.backends.generations.read(generation, after, weight).await {
            Ok(page) => {
                // How much fits into a page is about, so only what all pages say together is compared.
                let Some((last, _)) = page.entries.last() else {
                    return format!("{told} {:?} {}", page.phase, side.place(generation, page.tail));
                };
                after = *last;
                for (position, entry) in &page.entries {
                    let entry = match entry {
                        Entry::Own(own) => format!("own {} {}", own.offset, own.attempt),
                        other => format!("{other:?}"),
                    };
                    told += &format!("{} {entry} ", side.place(generation, *position));
                }
            }
            Err(error) => return told + &side.error(Some(generation), &error),
        }
    }
}

async fn look(side: &mut Side, names: &Names, user: usize, conversation: usize, message: usize, limit: usize) -> String {
    let backends = side.backends.clone();
    let id = &names.conversations[conversation];
    let state = backends.store.conversation(&names.users[user], id).await;
    let mut told = side.told(state, |_, state| format!("{} {:?} ", shown(&state.conversation), state.open));
    let mut ends = vec![PathEnd::NewestLeaf];
    if let Some(message) = names.message(id, message) {
        let found = backends.store.message(&message).await;
        told += &side.told(found, |_, message| shown_message(&message));
        ends.extend([PathEnd::At(message.clone()), PathEnd::Through(message.clone()), PathEnd::Before(message)]);
    }
    for end in ends {
        let page = backends.store.path(&PathQuery { conversation: id.clone(), end, limit }).await;
        told += &side.told(page, |_, page| format!("{page:?}"));
    }
    let all = backends.store.messages(id, None, 100).await;
    told + &side.told(all, |_, all| format!("{all:?}"))
}

/// The submission or messages of a step, with ids that both worlds get.
fn prepare(step: &Step, names: &mut Names) -> (Option<Submission>, Vec<Message>) {
    match step {
        Step::Create { messages, .. } => {
            let at = names.at();
            // Always a conversation of its own: whose id is taken already is told by `Ask`.
            let id = ConversationId::generate();
            let mut made = stage::chain(&id, messages + 1);
            for message in &mut made {
                message.created_at = at;
            }
            names.conversations.rotate_left(1);
            names.conversations[3] = id;
            names.messages.extend(made.iter().map(|message| message.id.clone()));
            (None, made)
        }
        Step::Ask { user, conversation, parent, create, model, question } => {
            let id = names.conversations[*conversation].clone();
            let at = names.at();
            let parent = match (parent, names.message(&id, *parent)) {
                (0, _) | (_, None) => Parent::NewestLeaf,
                (1, _) => Parent::Root,
                (_, Some(parent)) => Parent::Of(parent),
            };
            let submission = Submission {
                create: create.then(|| "Câu hỏi".to_owned()),
                parent,
                question: question
                    .then(|| Question { id: MessageId::generate(&id), content: format!("question {}", names.next) }),
                model: ["model-a", "model-b"][*model].to_owned(),
                options: Options::default(),
                at,
                ..stage::following(&names.users[*user], &id, "")
            };
            names.messages.extend(submission.question.iter().map(|question| question.id.clone()));
            names.messages.push(submission.answer.clone());
            names.turns.insert(0, submission.clone());
            (Some(submission), Vec::new())
        }
        Step::AskAgain { turn, elsewhere } => {
            let Some(turn) = names.turns.get(*turn) else { return (None, Vec::new()) };
            let other = ConversationId::generate();
            let retry = stage::following(&turn.user, &other, "something else");
            let retry = Submission { request: turn.request.clone(), ..retry };
            // A request that failed the first time may mean something else now; that is told by `Ask`.
            (Some(if *elsewhere { Submission { create: None, ..retry } } else { turn.clone() }), Vec::new())
        }
        _ => (None, Vec::new()),
    }
}

/// Whether a cancel was asked: when, each world says by its own clock.
fn asked(renewed: &Renewed) -> String {
    format!("cancel asked: {}", renewed.cancel.is_some())
}

async fn history(steps: &[Step], redis: &str, nats: &str) -> std::result::Result<(), TestCaseError> {
    let world = World::open(redis, nats, LEASE).await;
    let drain = Drain::new();
    let inside = embedded::open(&embedded::Options::new(DataDir::Memory, LEASE), &drain).expect("embedded");
    let (mut one, mut two) = (Side::new(inside), Side::new(world.backends.clone()));
    let mut names = Names::new();
    let mut different = None;
    for (n, step) in steps.iter().enumerate() {
        let (submission, made) = prepare(step, &mut names);
        let expected = take(&mut one, step, &names, submission.as_ref(), &made).await;
        let found = take(&mut two, step, &names, submission.as_ref(), &made).await;
        if expected != found {
            different = Some(format!("step {n}, {step:?}\nembedded: {expected}\ncluster:  {found}"));
            break;
        }
    }
    drain.stop(Duration::from_secs(5)).await;
    world.end().await;
    match different {
        Some(different) => Err(TestCaseError::fail(different)),
        None => Ok(()),
    }
}

#[test]
fn both_worlds_answer_alike() {
    let Some(shared) = shared() else { return };
    let (redis, nats) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), STEPS / 2..STEPS))| {
        runtime.block_on(history(&steps, &redis, &nats))?;
    });
}
