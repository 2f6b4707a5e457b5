//! What one user does at a time, as open-loop work: connect, send, look at the history. Every answer is checked.

use std::collections::HashMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::{Answer, Heard};
use super::client::{Gateways, Person, Socket};
use super::load::{Load, Work, histogram};
use super::outcome::Outcome;
use super::progress::Progress;
use super::{Failure, Setting};
use crate::model::{Conversation, ConversationId, Message, MessageId, Role, Status, Time};
use crate::protocol::{ClientFrame, Export, HistoryItem, Imported, List, Send, ServerFrame};

const CONNECTS: u32 = 200;
const SENDS: u32 = 200;
const LOOKS: u32 = 200;
/// Messages of the conversations whose newest page is looked at.
const HISTORIES: [usize; 2] = [100, 10_000];
const PAGE: usize = 50;

pub(super) fn send(content: &str, model: Option<&str>) -> Send {
    Send {
        request_id: Uuid::new_v4().to_string(),
        content: content.to_owned(),
        conversation: None,
        model: model.map(str::to_owned),
        parent: None,
        options: None,
    }
}

pub(super) async fn connect(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let load = setting.load(CONNECTS);
    let workers = (0..setting.plan.users).map(|home| Connects { gateways: setting.gateways.clone(), home }).collect();
    let micros = setting.run("connect", load, workers).await?;
    let what = format!("TCP, upgrade, `welcome`; {} new users a second", load.rate);
    Ok(vec![Outcome::new("connect", what, &micros)])
}

struct Connects {
    gateways: Gateways,
    home: usize,
}

impl Work for Connects {
    async fn once(&mut self, _arrival: u64) -> Result<Instant, Failure> {
        let socket = self.gateways.connect(self.home, None).await?;
        let done = Instant::now();
        socket.close().await;
        Ok(done)
    }

    async fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}

pub(super) async fn sends(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let load = setting.load(SENDS);
    let mut workers = Vec::new();
    for person in setting.gateways.people(setting.plan.users).await? {
        workers.push(Sends { tab: Tab::open(&person, 0).await?, conversation: None });
    }
    let micros = setting.run("send", load, workers).await?;
    let what = format!("`send` to `accepted`, durable; {} a second from {} users", load.rate, setting.plan.users);
    Ok(vec![Outcome::new("send", what, &micros)])
}

struct Sends {
    tab: Tab,
    conversation: Option<String>,
}

impl Work for Sends {
    async fn once(&mut self, arrival: u64) -> Result<Instant, Failure> {
        let conversation = self.conversation.clone();
        let frame = Send { conversation, ..send(&format!("/demo tokens=5 rate=0 stamp {arrival}"), None) };
        let (accepted, done) = self.tab.ask(frame, true).await?;
        self.conversation = Some(accepted.conversation.to_string());
        Ok(done)
    }

    async fn end(mut self) -> Result<(), Failure> {
        self.tab.all_ended().await
    }
}

/// What an `accepted` says.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) conversation: ConversationId,
    pub(super) generation: String,
}

/// A socket and all answers that were asked for through it, each checked to its end.
#[derive(Debug)]
pub(super) struct Tab {
    pub(super) socket: Socket,
    pub(super) answers: HashMap<String, Answer>,
    pub(super) ages: Histogram<u64>,
}

impl Tab {
    pub(super) async fn open(person: &Person, further: usize) -> Result<Self, Failure> {
        Ok(Self { socket: person.socket(further).await?, answers: HashMap::new(), ages: histogram() })
    }

    /// Sends, and answers what was accepted and when that was heard.
    pub(super) async fn ask(&mut self, question: Send, stamped: bool) -> Result<(Accepted, Instant), Failure> {
        let request_id = question.request_id.clone();
        let content = question.content.clone();
        self.socket.say(&ClientFrame::Send(question)).await?;
        loop {
            let text = self.socket.read_in_time().await?;
            let done = Instant::now();
            let heard = Heard::parse(&text)?;
            if heard.kind != "accepted" {
                self.hear(&heard)?;
                continue;
            }
            let Ok(ServerFrame::Accepted { request_id: named, conversation, user_message, assistant_message }) =
                serde_json::from_str(&text)
            else {
                return Err(Failure::new("an `accepted` that can't be read"));
            };
            let generation = assistant_message.generation.filter(|_| named == request_id && user_message.content == content);
            let generation = generation.ok_or_else(|| Failure::new("an `accepted` of another question"))?.to_string();
            self.answers.insert(generation.clone(), Answer::new(stamped));
            return Ok((Accepted { conversation, generation }, done));
        }
    }

    /// Takes a frame; one about an answer that isn't followed says nothing.
    pub(super) fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        match self.answers.get_mut(&*heard.generation) {
            Some(answer) => answer.hear(heard, crate::model::Time::now_us(), &mut self.ages),
            None => Ok(()),
        }
    }

    /// The next frame, heard and checked; answers its kind.
    pub(super) async fn next(&mut self) -> Result<String, Failure> {
        let text = self.socket.read_in_time().await?;
        let heard = Heard::parse(&text)?;
        self.hear(&heard)?;
        Ok(heard.kind.to_owned())
    }

    /// Reads until each answer that was accepted has ended.
    pub(super) async fn all_ended(&mut self) -> Result<(), Failure> {
        while self.answers.values().any(|answer| !answer.ended) {
            self.next().await?;
        }
        Ok(())
    }
}

pub(super) async fn history(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let load = setting.load(LOOKS);
    let mut outcomes = Vec::new();
    for length in HISTORIES {
        let person = setting.gateways.person(0).await?;
        let imported: Imported = person.post("/api/import", &long(length)).await?;
        let id = imported.conversation.id.to_string();
        let looks = |_| Looks { person: person.clone(), id: id.clone(), length };
        let name = format!("history of {length}");
        let micros = setting.run(&name, load, (0..setting.plan.users).map(looks).collect()).await?;
        let what = format!("the newest {PAGE} of {length} messages; {} a second", load.rate);
        outcomes.push(Outcome::new(name, what, &micros));
    }
    if let [Some(short), Some(long)] = [0, 1].map(|at: usize| outcomes[at].latency.as_ref().map(|latency| latency.p50)) {
        let last = outcomes.pop();
        outcomes.extend(last.map(|outcome| outcome.with("p50, of the shorter one's", long / short, "×")));
    }
    Ok(outcomes)
}

struct Looks {
    person: Person,
    id: String,
    length: usize,
}

impl Work for Looks {
    async fn once(&mut self, _arrival: u64) -> Result<Instant, Failure> {
        let page = format!("/api/conversations/{}/messages?limit={PAGE}", self.id);
        let list: List<HistoryItem> = self.person.get(&page).await?;
        let done = Instant::now();
        let first = self.length - PAGE;
        let right = |(at, item): (usize, &HistoryItem)| item.message.content == line(first + at);
        if list.items.len() != PAGE || !list.items.iter().enumerate().all(right) {
            return Err(Failure::new("a history holds other messages than were imported"));
        }
        Ok(done)
    }

    async fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The content of a message of a long conversation.
fn line(at: usize) -> String {
    format!("Message {at}. {}", "Words that stand for what people write to each other. ".repeat(1 + at % 5))
}

/// A conversation of so many messages, one behind the other.
fn long(length: usize) -> impl Serialize {
    let id = ConversationId::generate();
    let ids: Vec<MessageId> = (0..length).map(|_| MessageId::generate(&id)).collect();
    let message = |at: usize| Message {
        id: ids[at].clone(),
        conversation: id.clone(),
        parent: at.checked_sub(1).map(|before| ids[before].clone()),
        role: if at.is_multiple_of(2) { Role::User } else { Role::Assistant },
        content: line(at),
        reasoning: None,
        status: Status::Completed,
        generation: None,
        model: None,
        options: None,
        usage: None,
        timing: None,
        finish_reason: None,
        error: None,
        created_at: Time::now(),
    };
    let conversation = Conversation {
        id: id.clone(),
        title: format!("{length} messages"),
        pinned: false,
        version: 1,
        created_at: Time::now(),
        updated_at: Time::now(),
        generating: false,
    };
    Export { format: "chatnode.v1".to_owned(), conversation, messages: (0..length).map(message).collect() }
}

/// Several kinds of load side by side, each at a tenth of its own.
pub(super) async fn mixed(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let calm = setting.calmer(10);
    let (connects, sends, looks, tokens) =
        tokio::join!(connect(&calm), sends(&calm), history(&calm), super::streaming::delivery(&calm));
    let all = [connects?, sends?, looks?, tokens?].into_iter().flatten();
    Ok(all.map(|outcome| Outcome { name: format!("mixed: {}", outcome.name), ..outcome }).collect())
}

impl Setting {
    /// Runs a load under a name that a terminal shows.
    pub(super) async fn run<W: Work>(&self, name: &str, load: Load, workers: Vec<W>) -> Result<Histogram<u64>, Failure> {
        let progress = if self.quiet { Progress::none() } else { Progress::new(name) };
        let micros = load.run(workers, &progress).await;
        progress.end();
        micros
    }
}
