//! What the cases share: users, submissions, and a worker that writes a log as a real one would.

use std::time::Duration;

use chatnode::backend::{Backends, Claim, Error, Lease, Parent, Phase, Question, Result, Submission, Submitted};
use chatnode::log::{Channel, Delta, Entry, Outcome, Own, Rung, Transcript};
use chatnode::model::{
    Conversation, ConversationId, GenerationId, Message, MessageId, Options, Position, Role, Status, Time, UserId,
};
use tokio::time::Instant;

/// The lease of every world that the suite runs on.
pub(crate) const LEASE: Duration = Duration::from_millis(300);

/// How long a case waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) const MODEL: &str = "model-a";

/// Asks again and again until there is an answer; fails the case after [`PATIENCE`].
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A first question of a new conversation.
pub(crate) fn opening(user: &UserId, content: &str) -> Submission {
    let conversation = ConversationId::generate();
    Submission { create: Some("a title".into()), ..following(user, &conversation, content) }
}

/// A question in a conversation that is there.
pub(crate) fn following(user: &UserId, conversation: &ConversationId, content: &str) -> Submission {
    Submission {
        user: user.clone(),
        request: uuid::Uuid::new_v4().to_string(),
        conversation: conversation.clone(),
        create: None,
        parent: Parent::NewestLeaf,
        question: Some(Question { id: MessageId::generate(conversation), content: content.into() }),
        answer: MessageId::generate(conversation),
        generation: GenerationId::generate(conversation),
        model: MODEL.into(),
        options: Options::default(),
        at: Time::now(),
        only_repeat: false,
    }
}

/// A turn in a new conversation of this user.
pub(crate) async fn ask(backends: &Backends, user: &UserId, content: &str) -> Submitted {
    backends.generations.submit(&opening(user, content)).await.expect("submit")
}

pub(crate) fn generation_of(submitted: &Submitted) -> GenerationId {
    submitted.assistant_message.generation.clone().expect("an answer names its generation")
}

/// A conversation that nothing is generated in.
pub(crate) fn conversation(title: &str, at: u64) -> Conversation {
    Conversation {
        id: ConversationId::generate(),
        title: title.into(),
        pinned: false,
        version: 1,
        created_at: Time(at),
        updated_at: Time(at),
        generating: false,
    }
}

/// A message that is not generated; questions and answers take turns by the parent's role.
pub(crate) fn message(conversation: &ConversationId, parent: Option<&Message>, content: &str) -> Message {
    let role = match parent.map(|parent| parent.role) {
        Some(Role::User) => Role::Assistant,
        Some(Role::Assistant) | None => Role::User,
    };
    Message {
        id: MessageId::generate(conversation),
        conversation: conversation.clone(),
        parent: parent.map(|parent| parent.id.clone()),
        role,
        content: content.into(),
        reasoning: None,
        status: Status::Completed,
        generation: None,
        model: None,
        options: None,
        finish_reason: None,
        usage: None,
        timing: None,
        error: None,
        created_at: Time(1_700_000_000_000),
    }
}

/// A chain of that many messages, the first without a parent.
pub(crate) fn chain(conversation: &ConversationId, length: usize) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::with_capacity(length);
    for n in 0..length {
        let next = message(conversation, messages.last(), &format!("message {n}"));
        messages.push(next);
    }
    messages
}

/// Waits until something of these models can be claimed.
pub(crate) async fn claim_of(backends: &Backends, models: &[&str]) -> Claim {
    let models: Vec<String> = models.iter().map(|model| (*model).to_owned()).collect();
    eventually("a claim", || async { backends.generations.claim("worker", &models).await.expect("claim") }).await
}

pub(crate) async fn try_claim(backends: &Backends) -> Option<Claim> {
    backends.generations.claim("worker", &[MODEL.to_owned()]).await.expect("claim")
}

pub(crate) fn text(offset: u64, text: &str) -> Entry {
    Entry::Delta(Delta { channel: Channel::Text, offset, text: text.into() })
}

pub(crate) fn own(claim: &Claim) -> Entry {
    Entry::Own(Own {
        worker: "worker".into(),
        rung: if claim.tail == Position::START { Rung::Start } else { Rung::Prefill },
        base: claim.tail,
        offset: 0,
        reasoning_offset: 0,
        attempt: claim.attempt,
        first_token_ms: None,
    })
}

pub(crate) fn outcome(status: Status, text: &str) -> Outcome {
    Outcome {
        status,
        finish_reason: (status == Status::Completed).then(|| "stop".into()),
        usage: None,
        timing: None,
        error: None,
        length: text.len() as u64,
        crc32: crc32fast::hash(text.as_bytes()),
    }
}

/// A worker with a lease, that remembers what it wrote.
#[derive(Debug)]
pub(crate) struct Writer {
    backends: Backends,
    pub(crate) claim: Claim,
    pub(crate) tail: Position,
    pub(crate) said: String,
}

impl Writer {
    /// Claims what can be claimed and writes its `own`, keeping the text that was there.
    pub(crate) async fn begin(backends: &Backends) -> Self {
        let mut writer = Self::claim(backends).await;
        writer.own().await;
        writer
    }

    /// Claims what can be claimed, and has not written yet.
    pub(crate) async fn claim(backends: &Backends) -> Self {
        let claim = claim_of(backends, &[MODEL]).await;
        let (entries, _) = read_all(backends, claim.lease.generation()).await;
        let said = fold(&entries).text;
        let tail = claim.tail;
        Self { backends: backends.clone(), claim, tail, said }
    }

    /// Leaves what it claimed to whoever finds it.
    pub(crate) fn dies(self) -> Claim {
        self.claim
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.claim.lease
    }

    pub(crate) async fn own(&mut self) {
        let Entry::Own(own) = own(&self.claim) else { unreachable!("own() makes an Own") };
        let own = Own { offset: self.said.len() as u64, ..own };
        self.append(&[Entry::Own(own)]).await.expect("own");
    }

    pub(crate) async fn say(&mut self, words: &str) {
        self.append(&[text(self.said.len() as u64, words)]).await.expect("say");
        self.said.push_str(words);
    }

    /// Appends and moves on; on an error nothing is remembered. Answers whether a cancel was asked.
    pub(crate) async fn append(&mut self, entries: &[Entry]) -> Result<bool> {
        let renewed = self.backends.generations.append(&self.claim.lease, self.tail, entries).await?;
        for _ in entries {
            self.tail = self.tail.next(self.claim.lease.epoch());
        }
        Ok(renewed.cancel.is_some())
    }

    pub(crate) async fn finish(&self, status: Status) -> Result<()> {
        let outcome = outcome(status, &self.said);
        let message = self.final_message(&outcome);
        self.backends.generations.finish(&self.claim.lease, self.tail, &outcome, &message).await
    }

    pub(crate) fn final_message(&self, outcome: &Outcome) -> Message {
        Message {
            content: self.said.clone(),
            status: outcome.status,
            finish_reason: outcome.finish_reason.clone(),
            usage: outcome.usage,
            timing: outcome.timing,
            error: outcome.error.clone(),
            ..self.claim.message.clone()
        }
    }
}

/// The whole log, page by page.
pub(crate) async fn read_all(backends: &Backends, generation: &GenerationId) -> (Vec<(Position, Entry)>, Phase) {
    let mut entries: Vec<(Position, Entry)> = Vec::new();
    loop {
        let after = entries.last().map_or(Position::START, |(position, _)| *position);
        let page = backends.generations.read(generation, after, 64 * 1024).await.expect("read");
        let empty = page.entries.is_empty();
        entries.extend(page.entries);
        let last = entries.last().map_or(Position::START, |(position, _)| *position);
        if last == page.tail {
            return (entries, page.phase);
        }
        assert!(!empty, "the page is empty, but the log goes on to {}", page.tail);
    }
}

/// Folds a log and checks that it is one unbroken chain with at most one end, in the last place.
pub(crate) fn fold(entries: &[(Position, Entry)]) -> Transcript {
    let mut transcript = Transcript::default();
    for (position, entry) in entries {
        let chained = *position == transcript.position.next(position.epoch) && position.epoch >= transcript.position.epoch;
        assert!(chained, "{position} does not follow {}", transcript.position);
        transcript.apply(*position, entry).expect("the log folds");
    }
    transcript
}

/// The lease time passes without a sign of life: another worker gets the generation.
pub(crate) async fn lose(writer: Writer) -> (Writer, Writer) {
    let backends = writer.backends.clone();
    let next = Writer::claim(&backends).await;
    assert_eq!(next.claim.lease.generation(), writer.claim.lease.generation(), "one generation in this case");
    (writer, next)
}

#[track_caller]
pub(crate) fn assert_fenced<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Fenced)), "expected Fenced: {result:?}");
}

#[track_caller]
pub(crate) fn assert_not_found<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::NotFound)), "expected NotFound: {result:?}");
}

#[track_caller]
pub(crate) fn assert_gone<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Gone)), "expected Gone: {result:?}");
}
