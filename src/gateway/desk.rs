//! Where questions are taken in: what sockets and REST share. Everything is checked here once, stored, and then told.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use unicode_segmentation::UnicodeSegmentation;

use super::allowance::{Allowance, Asker, COUNTED_WITHIN};
use super::cost;
use super::error::Refusal;
use crate::backend::{
    Backends, Cancel, Cluster, Error, Hint, Parent, Progress, Question, REQUEST_ID_BYTES_MAX, Subject, Submission, Submitted,
};
use crate::drain::Drain;
use crate::event::{Answer, End, Happened};
use crate::model::{Conversation, ConversationId, GenerationId, MessageId, ModelInfo, Options, Role, Time, UserId, models_of};
use crate::protocol::ErrorCode;
use crate::telemetry::{CancelPhase, Metrics};

/// A title is the beginning of the first question, at most so many characters.
const TITLE_CHARACTERS_MAX: usize = 60;

/// Takes questions in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    backends: Backends,
    allowance: Allowance,
    drain: Drain,
    cluster: watch::Receiver<Arc<Cluster>>,
    metrics: Metrics,
    prompt_bytes_max: usize,
}

/// A question as it came from outside, its ids not yet checked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub request_id: String,
    pub content: String,
    pub conversation: Option<String>,
    pub model: Option<String>,
    pub parent: Option<Option<String>>,
    pub options: Option<Options>,
}

impl Desk {
    #[must_use]
    pub fn new(
        backends: Backends,
        allowance: Allowance,
        drain: Drain,
        cluster: watch::Receiver<Arc<Cluster>>,
        metrics: Metrics,
        prompt_bytes_max: usize,
    ) -> Self {
        Self { backends, allowance, drain, cluster, metrics, prompt_bytes_max }
    }

    /// The models that workers offer now, without those that are not for this caller.
    #[must_use]
    pub fn models(&self, admin: bool) -> Vec<ModelInfo> {
        let mut models = models_of(&self.cluster.borrow().nodes);
        models.retain(|model| admin || !model.admin_only);
        models
    }

    /// Stores a question, queues its answer, and tells workers and other readers. What was asked before under the same name is
    /// answered as then, even where it could not be asked now.
    ///
    /// # Errors
    /// What is wrong with it, or why it can't be stored now; then nothing was.
    pub async fn send(&self, asker: &Asker, asked: Asked) -> Result<Submitted, Refusal> {
        let user = &asker.user;
        check_request(&asked.request_id)?;
        let checked = self.check(asker, &asked);
        let (conversation, create) = match &asked.conversation {
            Some(id) => (ConversationId::parse(id).map_err(|_| Refusal::not_found())?, None),
            None => (ConversationId::for_request(user, &asked.request_id), Some(title(&asked.content))),
        };
        let parent = match &asked.parent {
            None => Parent::NewestLeaf,
            Some(None) => Parent::Root,
            Some(Some(id)) => Parent::Of(message_id(id)?),
        };
        // Of what is not stored the store need not be told.
        let (model, content, options, refused) = match checked {
            Ok(model) => (model, asked.content, asked.options.unwrap_or_default(), None),
            Err(refusal) => (String::new(), String::new(), Options::default(), Some(refusal)),
        };
        let question = Question { id: MessageId::generate(&conversation), content };
        let submission = submission(user, asked.request_id, conversation, create, parent, Some(question), model, options);
        self.submit(asker, submission, refused).await
    }

    /// Queues one more answer to the question that this answer answered.
    ///
    /// # Errors
    /// As [`Desk::send`].
    pub async fn regenerate(
        &self,
        asker: &Asker,
        request_id: String,
        message: &str,
        model: Option<&str>,
    ) -> Result<Submitted, Refusal> {
        let user = &asker.user;
        check_request(&request_id)?;
        let id = message_id(message)?;
        let conversation = id.conversation();
        self.backends.store.conversation(user, &conversation).await?;
        let answer = self.backends.store.message(&id).await?;
        let question = answer.parent.filter(|_| answer.role == Role::Assistant);
        let Some(question) = question else { return Err(Refusal::bad("only an answer can be written again")) };
        let offered = self.models(asker.admin);
        let before = answer.model.filter(|old| model.is_none() && offered.iter().any(|info| info.id == *old));
        let (model, refused) = match before.map_or_else(|| self.model(asker, model), Ok) {
            Ok(model) => (model, None),
            Err(refusal) => (String::new(), Some(refusal)),
        };
        let options = answer.options.unwrap_or_default();
        let submission = submission(user, request_id, conversation, None, Parent::Of(question), None, model, options);
        self.submit(asker, submission, refused).await
    }

    /// In a task of its own: what is stored is also told, even if the asker leaves between the two.
    async fn submit(&self, asker: &Asker, submission: Submission, refused: Option<Refusal>) -> Result<Submitted, Refusal> {
        let (reply, answer) = oneshot::channel();
        let (desk, asker) = (self.clone(), asker.clone());
        self.drain.spawn("submit", async move {
            let outcome = Box::pin(desk.store(&asker, submission, refused)).await;
            // An asker that left finds its question in the conversation.
            let _ = reply.send(outcome);
        });
        let stopping = || Error::Unavailable("the node is stopping".to_owned());
        answer.await.map_err(|_| stopping())?
    }

    async fn store(&self, asker: &Asker, mut submission: Submission, refused: Option<Refusal>) -> Result<Submitted, Refusal> {
        let refused = match refused {
            None => {
                let tokens = self.tokens(asker, &submission).await;
                self.allowance.answer(asker, &submission.generation, tokens).await.err()
            }
            refused => refused,
        };
        // Who may not ask this now is still told what he asked before.
        submission.only_repeat = refused.is_some();
        let mut sending = self.metrics.traces().send(&submission.generation, &submission.model);
        let outcome = self.stored(&submission).await;
        match &outcome {
            Ok(submitted) => sending.set("chatnode.repeated", submitted.repeated),
            Err(error) => sending.failed(error.word()),
        }
        match &outcome {
            Ok(submitted) if !submitted.repeated => self.announce(&submission, submitted).await,
            // Perhaps it was stored: then its end is what counts, and else it lapses.
            Err(Error::Unavailable(_)) => {}
            _ if refused.is_some() => {}
            _ => self.allowance.never_began(&submission.generation).await,
        }
        match (outcome, refused) {
            (Err(_), Some(refusal)) => Err(refusal),
            (outcome, _) => Ok(outcome?.at_first()),
        }
    }

    async fn stored(&self, submission: &Submission) -> Result<Submitted, Error> {
        let _storing = self.metrics.traces().submit(&submission.generation);
        self.backends.generations.submit(submission).await
    }

    /// What its answer may cost, where that is counted. While nobody can say, its history is left out.
    async fn tokens(&self, asker: &Asker, submission: &Submission) -> u64 {
        let Some(limit) = self.allowance.tokens() else { return 0 };
        let models = self.models(asker.admin);
        let model = models.iter().find(|model| model.id == submission.model);
        let estimate = cost::estimate(&*self.backends.store, submission, model, limit.answer);
        let estimate = tokio::time::timeout(COUNTED_WITHIN, Box::pin(estimate)).await;
        estimate.unwrap_or(Ok(limit.answer)).unwrap_or(limit.answer)
    }

    /// Tells workers, the conversation's readers and the user's other tabs. What is lost here costs time only.
    async fn announce(&self, submission: &Submission, submitted: &Submitted) {
        let (user, answer) = (&submission.user, &submitted.assistant_message);
        if submission.create.is_some() {
            self.tell(user, &answer.conversation, Happened::ConversationCreated);
        }
        if let Some(queued) = Answer::of(answer) {
            self.tell(user, &answer.conversation, Happened::Queued(queued));
        }
        let backplane = &self.backends.backplane;
        let work = Hint::Work { generation: answer.generation.clone() };
        backplane.publish(&Subject::Work(answer.model.clone().unwrap_or_default()), work).await;
        let subject = Subject::Conversation(answer.conversation.clone());
        for message in [&submitted.user_message, answer] {
            backplane.publish(&subject, Hint::Message { message: Box::new(message.clone()) }).await;
        }
        if let Some(generation) = &answer.generation {
            let hint = Hint::Progress { generation: generation.clone(), progress: Progress::Queued };
            backplane.publish(&subject, hint).await;
        }
        self.announce_conversation(user, submitted.conversation.clone()).await;
    }

    /// For programs outside.
    pub fn tell(&self, user: &UserId, conversation: &ConversationId, what: Happened) {
        self.backends.events.tell(user, conversation, what);
    }

    pub async fn announce_conversation(&self, user: &UserId, conversation: Conversation) {
        let subject = Subject::Conversation(conversation.id.clone());
        self.backends.backplane.publish(&subject, Hint::Conversation { conversation: conversation.clone() }).await;
        self.backends.backplane.publish(&Subject::User(user.clone()), Hint::Conversation { conversation }).await;
    }

    /// Asks for the end of an answer. Durable when it returns.
    ///
    /// # Errors
    /// `conflict` with the status when it had ended; `not_found` when it isn't the user's.
    pub async fn cancel(&self, user: &UserId, generation: &str) -> Result<GenerationId, Refusal> {
        let generation = GenerationId::parse(generation).map_err(|_| Refusal::not_found())?;
        let conversation = generation.conversation();
        self.backends.store.conversation(user, &conversation).await?;
        let (at, begun) = (Time::now(), Instant::now());
        match self.backends.generations.cancel(&generation).await? {
            Cancel::Requested => {
                self.backends.backplane.publish(&Subject::Cancel(generation.clone()), Hint::Cancel { at }).await;
            }
            Cancel::Ended => {
                self.metrics.cancelled(CancelPhase::Queued, begun.elapsed());
                self.metrics.generation_ended_unbegun();
                // It has ended, whoever can be told of it.
                if let Err(error) = self.announce_end(user, &generation).await {
                    tracing::warn!(%generation, %error, "the end of a cancelled answer could not be told");
                }
            }
            Cancel::AlreadyEnded(status) => {
                let message = format!("this answer ended before, as {}", status.as_str());
                return Err(Refusal { status: Some(status), ..Refusal::new(ErrorCode::Conflict, message) });
            }
        }
        Ok(generation)
    }

    /// An answer that nobody had begun has no worker to tell of its end.
    async fn announce_end(&self, user: &UserId, generation: &GenerationId) -> Result<(), Error> {
        let message = self.backends.store.message(&generation.message()).await?;
        if let Some(answer) = Answer::of(&message) {
            self.tell(user, &message.conversation, Happened::Ended { answer, end: End::of_message(&message) });
        }
        let subject = Subject::Conversation(generation.conversation());
        self.backends.backplane.publish(&subject, Hint::Message { message: Box::new(message) }).await;
        let state = self.backends.store.conversation(user, &generation.conversation()).await?;
        self.announce_conversation(user, state.conversation).await;
        Ok(())
    }

    fn model(&self, asker: &Asker, wanted: Option<&str>) -> Result<String, Refusal> {
        let offered = self.models(asker.admin);
        let found = match wanted {
            Some(id) => offered.iter().find(|info| info.id == id),
            None => offered.iter().find(|info| info.default).or_else(|| offered.first()),
        };
        match (found, wanted) {
            (Some(info), _) => Ok(info.id.clone()),
            (None, Some(id)) if !offered.is_empty() => {
                let id: String = id.chars().take(100).collect();
                Err(Refusal::new(ErrorCode::ModelNotFound, format!("no model `{id}` is offered here")))
            }
            _ => Err(Refusal::new(ErrorCode::Unavailable, "no node that runs models is there at the moment").retry_after(1_000)),
        }
    }

    /// Whether this can be asked, and of which model.
    fn check(&self, asker: &Asker, asked: &Asked) -> Result<String, Refusal> {
        self.check_text("content", &asked.content)?;
        if asked.content.trim().is_empty() {
            return Err(Refusal::bad("`content` is empty"));
        }
        if let Some(options) = &asked.options {
            self.check_options(options)?;
        }
        self.model(asker, asked.model.as_deref())
    }

    fn check_text(&self, name: &str, text: &str) -> Result<(), Refusal> {
        if text.len() <= self.prompt_bytes_max {
            return Ok(());
        }
        let message = format!("`{name}` has {} bytes; {} are allowed", text.len(), self.prompt_bytes_max);
        Err(Refusal::new(ErrorCode::TooLarge, message))
    }

    fn check_options(&self, options: &Options) -> Result<(), Refusal> {
        self.check_text("options.system", options.system.as_deref().unwrap_or_default())?;
        if options.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
            return Err(Refusal::bad("`options.temperature` lies between 0 and 2"));
        }
        if options.max_tokens == Some(0) {
            return Err(Refusal::bad("`options.max_tokens` is at least 1"));
        }
        Ok(())
    }
}

fn check_request(request_id: &str) -> Result<(), Refusal> {
    if request_id.is_empty() || request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(Refusal::bad(format!("`request_id` has 1 to {REQUEST_ID_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn message_id(text: &str) -> Result<MessageId, Refusal> {
    MessageId::parse(text).map_err(|_| Refusal::not_found())
}

#[expect(clippy::too_many_arguments, reason = "each is a field of the submission, named there")]
fn submission(
    user: &UserId,
    request: String,
    conversation: ConversationId,
    create: Option<String>,
    parent: Parent,
    question: Option<Question>,
    model: String,
    options: Options,
) -> Submission {
    let answer = MessageId::generate(&conversation);
    let generation = GenerationId::of(&answer);
    let at = Time::now();
    let user = user.clone();
    let only_repeat = false;
    Submission { user, request, conversation, create, parent, question, answer, generation, model, options, at, only_repeat }
}

/// The beginning of the first line, cut between words where there are any.
fn title(content: &str) -> String {
    let line = content.trim().lines().next().unwrap_or_default().trim();
    let graphemes: Vec<&str> = line.graphemes(true).collect();
    if graphemes.len() <= TITLE_CHARACTERS_MAX {
        return line.to_owned();
    }
    let cut = graphemes[..TITLE_CHARACTERS_MAX].concat();
    let words = cut.rsplit_once(char::is_whitespace).map_or(cut.as_str(), |(words, _)| words);
    format!("{}…", words.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_cut_between_words_and_never_inside_a_letter() {
        assert_eq!(title("  Xin chào!\nDòng hai"), "Xin chào!");
        let long = "một câu hỏi rất dài ".repeat(10);
        let cut = title(&long);
        assert!(cut.ends_with("dài…") || cut.ends_with('…'), "{cut}");
        assert!(cut.graphemes(true).count() <= TITLE_CHARACTERS_MAX + 1);
        let family = "👨‍👩‍👧‍👦".repeat(80);
        assert!(title(&family).trim_end_matches('…').graphemes(true).all(|grapheme| grapheme == "👨‍👩‍👧‍👦"));
    }
}
