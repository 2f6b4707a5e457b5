//! The watched conversation itself, as the store has it: who may come in, and what of it its readers were not told.

use std::sync::Arc;

use futures_util::future::OptionFuture;
use tokio::time::Instant;

use super::{CHANGED_AFTER, CLOCKS_APART_MS, Found, Task};
use crate::backend::{ConversationState, Error, PathEnd, PathPage, PathQuery};
use crate::gateway::hub::Newcomer;
use crate::gateway::watches::{CHECKS, POLL_EVERY};
use crate::model::{Message, Time, UserId};

impl Task {
    pub(super) fn look_up(&self, newcomer: Newcomer, again: bool) {
        let store = Arc::clone(&self.shared.backends.store);
        let conversation = self.topic.conversation.clone();
        let newest = self.user.is_none().then(|| self.newest());
        self.beside(async move {
            let newest = OptionFuture::from(newest.as_ref().map(|newest| store.path(newest)));
            let (state, newest) = tokio::join!(store.conversation(&newcomer.user, &conversation), newest);
            Found::Reader { newcomer, state, newest: newest.and_then(Result::ok), again }
        });
    }

    pub(super) async fn attach(
        &mut self,
        newcomer: &Newcomer,
        state: ConversationState,
        newest: Option<PathPage>,
    ) -> Result<ConversationState, Error> {
        if self.topic.state().deleted {
            return Err(Error::NotFound);
        }
        if self.user.is_none() {
            // What is there already is no news.
            self.announced.extend(newest.into_iter().flat_map(|page| page.items).map(|item| item.message.id));
        }
        if self.user.replace(newcomer.user.clone()).is_none() {
            (self.since, self.version) = (Time::now(), state.conversation.version);
            self.compare_within(CHECKS[1]);
        } else if state.conversation.version > self.version {
            self.compare_within(CHANGED_AFTER);
        }
        self.compare_within(self.pace());
        for open in &state.open {
            self.appear(&open.generation);
        }
        let open = state.open.iter().map(|open| &open.generation);
        for generation in open.chain(&newcomer.known) {
            // A reader with a place in a log that could not be read would be shown less than it has.
            self.try_load(generation).await.or_else(|error| if error == Error::Gone { Ok(()) } else { Err(error) })?;
        }
        self.topic.let_in(&newcomer.reader);
        self.idle = None;
        Ok(state)
    }

    /// Compares the conversation with the store: a hint of something new may have been lost.
    pub(super) async fn refresh(&mut self) {
        let Some(user) = self.plan_comparison() else { return };
        let state = self.shared.backends.store.conversation(&user, &self.topic.conversation).await;
        self.conversation_was_read(state).await;
    }

    /// As [`Self::refresh`], beside the hints.
    pub(super) fn compare(&mut self) {
        if self.comparing {
            // That one may have been asked before there was anything new.
            self.conversation_check = Instant::now() + POLL_EVERY;
            return;
        }
        let Some(user) = self.plan_comparison() else { return };
        self.comparing = true;
        let (store, conversation) = (Arc::clone(&self.shared.backends.store), self.topic.conversation.clone());
        self.beside(async move { Found::Conversation(store.conversation(&user, &conversation).await) });
    }

    /// Plans the comparison after this one; answers for whom, if anybody was let in yet.
    pub(super) fn plan_comparison(&mut self) -> Option<UserId> {
        let pause = if self.user.is_some() { self.pace() } else { POLL_EVERY };
        self.conversation_check = Instant::now() + pause;
        self.user.clone()
    }

    pub(super) async fn conversation_was_read(&mut self, state: Result<ConversationState, Error>) {
        let told = match state {
            Ok(state) => self.tell_news(state).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => {}
            // The hint of its end was lost.
            Err(Error::NotFound) => self.deleted(),
            Err(error) => {
                tracing::debug!(conversation = %self.topic.conversation, %error, "conversation could not be compared");
                self.compare_within(CHANGED_AFTER);
            }
        }
    }

    pub(super) async fn tell_news(&mut self, state: ConversationState) -> Result<(), Error> {
        if state.conversation.version <= self.version {
            return Ok(());
        }
        let store = Arc::clone(&self.shared.backends.store);
        let mut news: Vec<Message> = match store.path(&self.newest()).await {
            Ok(page) => page.items.into_iter().map(|item| item.message).collect(),
            Err(Error::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        for open in &state.open {
            if !news.iter().any(|message| message.id == open.message) {
                news.push(store.message(&open.message).await?);
            }
        }
        for message in news {
            let is_news = message.created_at.0.saturating_add(CLOCKS_APART_MS) >= self.since.0;
            if is_news && !self.announced.contains(&message.id) {
                self.message(&message).await;
            }
        }
        for open in state.open {
            self.appear(&open.generation);
            self.load(&open.generation).await;
        }
        // Not before: what failed is tried again.
        self.version = state.conversation.version;
        Ok(())
    }

    /// The last question and its answer.
    pub(super) fn newest(&self) -> PathQuery {
        PathQuery { conversation: self.topic.conversation.clone(), end: PathEnd::NewestLeaf, limit: 2 }
    }
}
