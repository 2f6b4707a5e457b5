//! `Generations::submit`: one request, one turn, over three slots, with something left behind at each step that completes it.
//! It must not know how work is claimed.
//!
//! The request's record names the first submission in full before anything else happens, so whoever repeats the request (with
//! whatever other fields, on whatever node) carries out that one. An intent tells the sweeper what to complete.

use fred::types::Value;

use super::keys::{self, Key};
use super::record;
use super::steps::Answer;
use super::store::described;
use super::sweep::Intent;
use super::{REQUEST_KEPT, Redis};
use crate::backend::{Error, Parent, Result, Submission, Submitted};
use crate::model::{ConversationId, GenerationId, Message, MessageId, Options, Role, Status, UserId};

/// How often a request may turn out to stand for something that is not possible any more.
const TRIES_MAX: u32 = 4;
/// Begins the record of a request that is done; the conversation follows. A submission begins with a brace.
const DONE: char = '=';

/// What the script stored, or had stored before.
struct Turn {
    submitted: Submitted,
    generation: GenerationId,
    /// The place in the queue and the model, while the generation is open.
    waits: Option<(String, String)>,
}

impl Redis {
    pub(super) async fn submit_once(&self, submission: &Submission) -> Result<Submitted> {
        let user = &submission.user;
        let said = serde_json::to_string(submission).expect("plain fields become JSON");
        for _ in 0..TRIES_MAX {
            // Side by side, as almost always the request is a new one. The intent of one that is not stands for nothing.
            let mine = Intent::work(user, &submission.generation);
            let (held, intent) = tokio::join!(self.remember(submission, &said), self.intend(&mine));
            let (held, mut intent) = (held?, intent?);
            if held != said {
                self.forget(&submission.conversation, &intent).await;
            }
            if held.is_empty() {
                // Its record may be older than records are kept; its conversation knows it for ever.
                return Box::pin(self.known(submission, submission.conversation.clone())).await;
            }
            if let Some(done) = held.strip_prefix(DONE) {
                let conversation = keys::long_conversation(done).ok_or_else(|| unreadable(submission))?;
                return Box::pin(self.known(submission, conversation)).await;
            }
            let other: Option<Submission> = match held == said {
                true => None,
                false => Some(serde_json::from_str(&held).map_err(|_| unreadable(submission))?),
            };
            let first = other.as_ref().unwrap_or(submission);
            if other.is_some() {
                intent = self.intend(&Intent::work(user, &first.generation)).await?;
            }
            match self.store_turn(first, if first.create.is_some() { "1" } else { "0" }).await {
                Ok(turn) => {
                    Box::pin(self.offer(&submission.user, &turn)).await?;
                    self.clear_away(submission, &first.conversation, held, intent);
                    return Ok(turn.submitted);
                }
                Err(Error::NotFound) => {
                    // It was never accepted, so the request may still mean something else.
                    let (freed, ()) =
                        tokio::join!(self.replace_request(submission, &held, ""), self.forget(&first.conversation, &intent));
                    freed?;
                    if other.is_none() {
                        return Err(Error::NotFound);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unavailable("the same request keeps changing".to_owned()))
    }

    /// After a turn that is complete. Nobody waits for it: until it is done, a repeated request carries out the same steps again,
    /// and the sweeper finds nothing to do.
    fn clear_away(&self, submission: &Submission, conversation: &ConversationId, held: String, intent: String) {
        let (redis, conversation) = (self.clone(), conversation.clone());
        let key = self.link.keys.key(&Key::Request(&submission.user, &submission.request));
        self.drain.spawn("request record", async move {
            let done = format!("{DONE}{}", keys::short_conversation(&conversation));
            let (_, ()) = tokio::join!(redis.replace(key, &held, &done), redis.forget(&conversation, &intent));
        });
    }

    /// What a request that was done before did.
    async fn known(&self, submission: &Submission, conversation: ConversationId) -> Result<Submitted> {
        let asked = Submission { conversation, ..submission.clone() };
        let turn = self.store_turn(&asked, "?").await?;
        Box::pin(self.offer(&submission.user, &turn)).await?;
        Ok(turn.submitted)
    }

    /// Makes sure that the turn's generation can be claimed and its conversation found; harmless when both are so.
    async fn offer(&self, user: &UserId, turn: &Turn) -> Result<()> {
        if let Some((place, model)) = &turn.waits {
            let listed = self.place(user, &turn.submitted.conversation);
            tokio::try_join!(self.enqueue(model, &turn.generation, place, false), listed)?;
        }
        Ok(())
    }

    /// Answers the record that holds; an empty one where nothing does, and nothing new may be.
    async fn remember(&self, submission: &Submission, said: &str) -> Result<String> {
        let key = self.link.keys.key(&Key::Request(&submission.user, &submission.request));
        let old = if submission.only_repeat { "1" } else { "0" };
        let args: Vec<Value> = vec![said.into(), REQUEST_KEPT.as_millis().to_string().into(), old.into()];
        let mut answer = self.link.run(&self.link.steps.remember, vec![key], args).await?;
        let _first = answer.word();
        answer.text().ok_or_else(|| unreadable(submission))
    }

    async fn replace_request(&self, submission: &Submission, held: &str, by: &str) -> Result<()> {
        self.replace(self.link.keys.key(&Key::Request(&submission.user, &submission.request)), held, by).await
    }

    async fn replace(&self, key: String, held: &str, by: &str) -> Result<()> {
        self.link.run(&self.link.steps.replace, vec![key], vec![held.into(), by.into()]).await.map(|_| ())
    }

    async fn store_turn(&self, submission: &Submission, create: &str) -> Result<Turn> {
        let id = &submission.conversation;
        let answer = unwritten(submission, &submission.answer, Role::Assistant);
        let question = submission
            .question
            .as_ref()
            .map(|question| Message { content: question.content.clone(), ..unwritten(submission, &question.id, Role::User) });
        let parent = match &submission.parent {
            Parent::NewestLeaf => "N",
            Parent::Root => "-",
            Parent::Of(parent) if parent.conversation() == *id => keys::short_message(parent),
            // The name of no message, since no other conversation's can be meant.
            Parent::Of(_) => "?",
        };
        let args: Vec<Value> = vec![
            keys::short_user(&submission.user).into(),
            submission.request.as_str().into(),
            create.into(),
            submission.create.as_deref().unwrap_or_default().into(),
            submission.at.0.to_string().into(),
            parent.into(),
            question.as_ref().map_or("", |question| keys::short_message(&question.id)).into(),
            question.as_ref().map(record::fixed).unwrap_or_default().into(),
            question.as_ref().map(record::written).unwrap_or_default().into(),
            keys::short_message(&answer.id).into(),
            record::fixed(&answer).into(),
            record::written(&answer).into(),
            keys::short_generation(&submission.generation).into(),
            submission.model.as_str().into(),
            self.retention.running.as_millis().to_string().into(),
        ];
        let mut keys = self.conversation_keys(id);
        // In the slot of the conversation that the request is about, which is not the one that its generation names when a
        // retry came with another.
        keys.push(self.link.keys.log_stem(id) + keys::short_generation(&submission.generation));
        keys.push(self.link.keys.state_stem(id) + keys::short_generation(&submission.generation));
        let mut answer = self.link.run(&self.link.steps.submit, keys, args).await?;
        match answer.word().as_str() {
            "OK" => turn(submission, answer, false),
            "AGAIN" => turn(submission, answer, true),
            _ => Err(Error::NotFound),
        }
    }
}

fn turn(submission: &Submission, mut answer: Answer, repeated: bool) -> Result<Turn> {
    let id = &submission.conversation;
    let broken = || Error::Corrupt(format!("the turn of a request in {id}"));
    let (_, conversation) = described(id, answer.list())?.ok_or_else(broken)?;
    let user_message = record::message(id, &answer.word(), &answer.word())?;
    let assistant_message = record::message(id, &answer.word(), &answer.word())?;
    let generation = keys::long_generation(id, &answer.word()).ok_or_else(broken)?;
    let mut waits = answer.list();
    let waits = waits.text().zip(waits.text());
    let submitted = Submitted { conversation, user_message, assistant_message, repeated };
    Ok(Turn { submitted, generation, waits })
}

/// A message of the turn as it is before anybody wrote it.
fn unwritten(submission: &Submission, id: &MessageId, role: Role) -> Message {
    let answer = role == Role::Assistant;
    Message {
        id: id.clone(),
        conversation: submission.conversation.clone(),
        parent: None,
        role,
        content: String::new(),
        reasoning: None,
        status: if answer { Status::Queued } else { Status::Completed },
        generation: answer.then(|| submission.generation.clone()),
        model: answer.then(|| submission.model.clone()),
        options: (answer && submission.options != Options::default()).then(|| submission.options.clone()),
        finish_reason: None,
        usage: None,
        timing: None,
        error: None,
        created_at: submission.at,
    }
}

/// The conversation that the record of a request names, done or not.
pub(super) fn conversation_of_record(held: &str) -> Option<ConversationId> {
    match held.strip_prefix(DONE) {
        Some(done) => keys::long_conversation(done),
        None => serde_json::from_str::<Submission>(held).ok().map(|submission| submission.conversation),
    }
}

fn unreadable(submission: &Submission) -> Error {
    Error::Corrupt(format!("the record of a request of {}", submission.user))
}
